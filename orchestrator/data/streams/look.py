"""How long a source of batches is read before it counts as one without an end."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from orchestrator.data.rows import Batch, hashable, leaves, num_rows

SECONDS = 60.0
"""A pass that takes longer counts as endless."""
ROWS = 10_000_000
"""A pass with more rows counts as endless."""
BYTES = 2**36
"""A pass with more bytes counts as endless: 64 GiB."""

_TIMES = 4
"""So often must all rows have come, on average, for a source that repeats them to be endless."""
_REPEATING_SECONDS = 2.0
"""For so long a source is read at least before it counts as one that repeats its rows."""
_KNOWN = 500_000
"""Rows that are remembered to see them come again; with more, that is no longer looked for."""
_SAMPLED = 256
"""Bytes of a row by which it is known again."""


class Look:
    """Looks at the batches of a pass that may have no end.

    Most generators without an end go through the same rows again and again, in another order
    perhaps: that shows within seconds. One that makes new rows all the time is given up after a
    minute, or so many rows or bytes.

    Args:
        clock: tells the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._start = clock()
        self._rows = 0
        self._batches = 0
        self._bytes = 0
        self._known: set[int] | None = set()

    def endless(self, batch: Batch) -> str | None:
        """A clause on why the source counts as endless after one more batch, or None."""
        self._rows += num_rows(batch[0])
        self._batches += 1
        self._bytes += sum(int(array.nbytes) for _, array in leaves(batch))
        if self._known is not None:
            self._known.update(_marks(batch).tolist())
            if len(self._known) > _KNOWN:
                self._known = None
        seconds = self._clock() - self._start
        read = f"{self._rows:,} rows in {self._batches:,} batches"
        if (
            self._known is not None
            and seconds > _REPEATING_SECONDS
            and self._rows >= _TIMES * len(self._known)
        ):
            return f"{read} were read in {seconds:.0f} s, the same {len(self._known):,} over again"
        if seconds > SECONDS or self._rows > ROWS or self._bytes > BYTES:
            size = f"{self._bytes / 1e6:,.0f} MB"
            return f"{read}, {size}, were read in {seconds:.0f} s, and more would have come"
        return None


def _marks(batch: Batch) -> npt.NDArray[np.uint64]:
    """A number for each row by which it is known again, from some bytes of each of its arrays."""
    count = num_rows(batch[0])
    total = np.zeros(count, np.uint64)
    for index, (_, array) in enumerate(leaves(batch)):
        flat = np.ascontiguousarray(hashable(array)).reshape(count, -1).view(np.uint8)
        if flat.shape[1] > _SAMPLED:
            flat = flat[:, np.linspace(0, flat.shape[1] - 1, _SAMPLED).astype(np.int64)]
        factors = np.random.default_rng(index).integers(2**64, size=flat.shape[1], dtype=np.uint64)
        total = total * np.uint64(3) + flat.astype(np.uint64) @ (factors | np.uint64(1))
    return total
