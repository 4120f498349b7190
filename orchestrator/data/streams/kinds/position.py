"""Where a training is in what its source gives, and what another process needs to get there.

What the user's code gives in an epoch may hang on all that it gave before, so that another process
reads all of it again. Whether it comes to the same is seen by a hash of the batches.
"""

from __future__ import annotations

import array
import dataclasses
import random
import time
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import optree

from orchestrator.data.rows import Array, Batch, Tree, hashable
from orchestrator.data.streams.recording import Report
from orchestrator.record.events import ReadingProgress

_REPORT_SECONDS = 0.5
_WORDS = 509
"""Words of 8 bytes that are left of a large array: a prime, so that rows that change places fall on
other words."""
_FOLDED = 16
"""So many times as large is an array that is folded."""


def seed_global_generators(seed: int, epoch: int) -> None:
    """Set Python's and NumPy's global generators from seed and epoch alone.

    What the user's code draws from them in an epoch then hangs neither on the epochs before nor on
    what was drawn between.

    Args:
        seed: seed of the attempt.
        epoch: number of the epoch, from 0.
    """
    state = np.random.SeedSequence((seed, epoch)).generate_state(4)
    random.seed(state.tobytes())
    np.random.seed(state)


@dataclasses.dataclass(frozen=True, slots=True)
class Begun:
    """An epoch that was read up to a step, from where the training goes on."""

    rest: Iterator[Any]
    """What is left of it."""
    python: Any = dataclasses.field(default_factory=random.getstate)
    """State of Python's global generator."""
    numpy: Any = dataclasses.field(default_factory=np.random.get_state)
    """State of NumPy's."""

    def go_on(self) -> Iterator[Any]:
        """What is left, with the generators as they were."""
        random.setstate(self.python)
        np.random.set_state(self.numpy)
        return self.rest


class Reads:
    """Hashes of the batches that were read; a batch may be read ahead of its step."""

    def __init__(self) -> None:
        self._before = 0
        self._epoch = -1
        self._hashes = array.array("L")

    def begin(self, epoch: int) -> None:
        """Note that what follows is of another epoch."""
        self._before = self._until(len(self._hashes))
        self._epoch = epoch
        self._hashes = array.array("L")

    def add(self, batch: Batch) -> None:
        """Note a batch."""
        code = 0
        tree: Tree = batch
        for values in optree.tree_leaves(tree):
            code = _hash(values, code)
        self._hashes.append(code)

    def until(self, epoch: int, step: int) -> int | None:
        """Hash of all batches before a step of the newest epoch, or before the next one.

        Returns:
            None where not so many were read.
        """
        if epoch == self._epoch + 1 and step == 0:
            return self._until(len(self._hashes))
        if epoch == self._epoch and step <= len(self._hashes):
            return self._until(step)
        return None

    def _until(self, step: int) -> int:
        return zlib.crc32(self._hashes[:step].tobytes(), self._before)


def _hash(values: Array, code: int) -> int:
    """Hash of an array, of which the bits of large ones are folded first: that takes a fifth."""
    data: npt.NDArray[np.uint8] = np.ascontiguousarray(hashable(values)).reshape(-1).view(np.uint8)
    count = len(data) // (8 * _WORDS)
    if count >= _FOLDED:
        words = data[: count * 8 * _WORDS].view(np.uint64).reshape(count, _WORDS)
        code = zlib.crc32(np.bitwise_xor.reduce(words, axis=0).data, code)
        data = data[count * 8 * _WORDS :]
    return zlib.crc32(data.data, code)


class Progress:
    """Tells how far the reading of what was trained on before has come.

    Args:
        what: what is read.
        report: told now and then; None to tell nobody.
    """

    def __init__(self, what: str, report: Report | None) -> None:
        self._what = what
        self._report = report
        self._start = self._told = time.monotonic()
        self._batches = 0

    def count(self) -> None:
        """Note that one more batch was read."""
        self._batches += 1
        if time.monotonic() - self._told > _REPORT_SECONDS:
            self._tell(done=False)

    def end(self) -> None:
        """Note that this was all."""
        if self._told > self._start:
            self._tell(done=True)

    def _tell(self, *, done: bool) -> None:
        self._told = time.monotonic()
        if self._report is not None:
            seconds = round(self._told - self._start, 1)
            self._report(
                ReadingProgress(what=self._what, batches=self._batches, seconds=seconds, done=done)
            )
