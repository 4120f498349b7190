"""One epoch of a source of batches, checked and kept: the rows that the checks look at.

Training goes on with what the source gives, which may be other rows in every epoch. What is looked
at and judged are those of the one epoch here, so that a check costs no pass of the user's code and
says the same whenever it is made.
"""

from __future__ import annotations

import dataclasses
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import optree

from orchestrator.data import rows
from orchestrator.data.arrays import from_values, has_texts, invalid, wrong_weights
from orchestrator.data.rows import Array, Batch, Rows, Tree
from orchestrator.data.streams.look import Look
from orchestrator.data.streams.sources import Source, kind_of, unpacked
from orchestrator.errors import InvalidError, Problem
from orchestrator.record.events import ReadingProgress

MAX_BYTES = 2**32
"""Size of the rows that are kept at most: 4 GiB, on disk."""
MAX_TEXT_BYTES = 2**28
"""The same where there are texts among them, which are kept in memory: 256 MiB."""
_FREE_SHARE = 0.5
"""Share of the free disk that they may take at most."""
_MEMORY_BYTES = 2**26
"""Rows of at most this size are kept in memory: 64 MiB."""
_REPORT_SECONDS = 0.5

Report = Callable[[ReadingProgress], None]
"""Takes how far the reading has come."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Live:
    """What is known of the batches that training takes from their source."""

    what: str
    """What gives them, such as `the generator rows:batches`."""
    batches: int
    """Batches of an epoch."""
    rows: int
    """Rows of the epoch that was read."""
    continues: bool
    """Whether an epoch goes on where the one before has stopped, for `steps_per_epoch` says when
    it ends."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Recorded:
    """One epoch of a source."""

    kept: Rows
    """Its rows, or the first of them where they are too large to be kept."""
    live: Live | None
    """What training takes from the source; None where it takes the rows that were kept, for the
    source cannot be read again."""
    digest: int
    """Hash of the rows that were kept, whatever their order."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """How a source is to be read."""

    name: str
    """How the source is called in problems."""
    what: str = "the source"
    """How it is called while it is read."""
    steps_per_epoch: int | None = None
    """Batches of an epoch; None where a pass is one."""
    hint: str = "write steps_per_epoch, the number of batches of an epoch"
    """What to do about a source without an end."""
    folder: Path | None = None
    """Gets what is kept; None for a file without a name, which lives as long as the rows."""
    report: Report = lambda progress: None
    """Told how far it has come."""


def record(source: Source, reading: Reading) -> Recorded:
    """Read one epoch of a source, and keep its rows.

    Args:
        source: what gives the batches.
        reading: how it is to be read.

    Returns:
        The rows.

    Raises:
        InvalidError: a batch is at fault, or the source has no end and nobody says how much of it
            is an epoch.
        UserCodeError: the user's own code raised.
    """
    steps = reading.steps_per_epoch
    if source.endless is not None and steps is None:
        message = f"{source.name} has no end: {source.endless}"
        raise invalid(reading.name, message, reading.hint)
    keeper = _Keeper(reading)
    look = Look()
    for value in _passes(source, reading):
        batch = _checked_batch(value, reading.name, keeper.rows)
        keeper.add(batch)
        reason = look.endless(batch) if source.length is None and steps is None else None
        if reason is not None:
            raise invalid(reading.name, f"{source.name} has no end: {reason}", reading.hint)
    kept = keeper.finish()
    once = source.kind == "iterator"
    if once and steps is None and len(kept) < keeper.rows:
        message = "its rows are too many to be kept, and an iterator cannot be read again"
        raise invalid(reading.name, message, "give a function that returns a new one")
    return Recorded(
        kept=kept,
        live=None if once and steps is None else Live(
            what=source.name,
            batches=keeper.batches,
            rows=keeper.rows,
            continues=steps is not None,
        ),
        digest=keeper.digest,
    )  # fmt: skip


def _passes(source: Source, reading: Reading) -> Iterator[Any]:
    """The batches of an epoch; a source that ends before it begins anew."""
    steps = reading.steps_per_epoch
    if steps is None:
        yield from source.read()
        return
    count = 0
    while count < steps:
        before = count
        for value in source.read():
            yield value
            count += 1
            if count == steps:
                return
        if count == before or source.kind == "iterator":
            message = f"{source.name} ended after {count} batches, an epoch has {steps}"
            hint = "lower steps_per_epoch, or give a function that returns a new one"
            raise invalid(reading.name, message, hint if source.kind == "iterator" else None)


class _Keeper:
    """Keeps batches, as long as there is room, and counts all of them."""

    def __init__(self, reading: Reading) -> None:
        self.rows = 0
        self.batches = 0
        self.digest = 0
        self._reading = reading
        self._shapes: list[tuple[str, Any]] | None = None
        self._structure: Any = None
        self._columns: list[_Column] = []
        self._weights = False
        self._bytes = 0
        self._kept = 0
        self._full = False
        self._start = time.monotonic()
        self._reported = -math.inf
        self._room = MAX_BYTES

    def add(self, batch: Batch) -> None:
        """Take in a batch that was checked."""
        arrays = rows.leaves(batch)
        shapes = [(path, (array.shape[1:], _kind(array))) for path, array in arrays]
        if self._shapes is None:
            self._shapes = shapes
            tree: Tree = batch
            self._structure = optree.tree_structure(tree)
            self._columns = [_Column(self._reading.folder) for _ in arrays]
            folder = self._reading.folder or Path(tempfile.gettempdir())
            texts = any(rows.is_text(array) for _, array in arrays)
            free = int(_FREE_SHARE * shutil.disk_usage(folder).free)
            self._room = min(MAX_TEXT_BYTES if texts else MAX_BYTES, free)
        elif shapes != self._shapes:
            expected, received = _alike(self._shapes), _alike(shapes)
            message = f"expected batches alike, received {expected} and then {received}"
            hint = "pad or convert them to one shape and type"
            raise invalid(self._reading.name, message, hint)
        count = rows.num_rows(batch[0])
        size = sum(_size(array) for _, array in arrays)
        self._full = self._full or self._bytes + size > self._room
        if not self._full:
            for column, (_, array) in zip(self._columns, arrays, strict=True):
                column.add(array)
                if self._bytes + size > _MEMORY_BYTES:
                    column.spill()
            self.digest = (self.digest + rows.digest_rows(batch)) % 2**64
            self._kept += count
        self._bytes += size
        self.rows += count
        self.batches += 1
        now = time.monotonic()
        if now - self._reported > _REPORT_SECONDS:
            self._reported = now
            self._reading.report(self.progress)

    @property
    def progress(self) -> ReadingProgress:
        """How far it has come."""
        return ReadingProgress(
            what=self._reading.what,
            rows=self.rows,
            batches=self.batches,
            megabytes=round(self._bytes / 1e6, 1),
            seconds=round(time.monotonic() - self._start, 1),
        )

    def finish(self) -> Rows:
        """The rows that were kept."""
        name = self._reading.name
        if self._structure is None:
            raise invalid(name, "expected at least one batch, received none")
        if not self._kept:
            message = f"a single batch is larger than the {self._room:,} bytes that may be kept"
            raise invalid(name, message, "make batches smaller, or free some disk")
        whole: Any = optree.tree_unflatten(
            self._structure, [column.finish() for column in self._columns]
        )
        x, y, weight = whole
        if weight is not None:
            wrong: list[Problem] = list(wrong_weights(weight, name, "sample_weight", whole=True))
            if wrong:
                raise InvalidError(wrong)
        return Rows(x=x, y=y, weight=weight)


class _Column:
    """One array of all batches: in memory, or in a file that grows; texts in memory."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._parts: list[Array] = []
        self._file: IO[bytes] | None = None
        self._rows = 0

    def add(self, array: Array) -> None:
        """Take in the rows of a batch."""
        self._rows += len(array)
        kind = array.dtype.newbyteorder("=")
        self._parts.append(array.astype(kind))  # a copy: the user's code may go on writing into it

    def spill(self) -> None:
        """Put what is in memory into the file."""
        if rows.is_text(self._parts[-1]):
            return
        if self._file is None:
            # Kept open as long as the rows that are mapped from it.
            self._file = tempfile.NamedTemporaryFile(
                dir=self._folder, prefix="recorded-", delete=self._folder is None
            )
        for part in self._parts:
            self._file.write(np.ascontiguousarray(part).data)
        self._parts = [self._parts[0][:0]]  # which tells type and shape

    def finish(self) -> Array:
        """All rows, mapped where they are in a file."""
        if self._file is None:
            return np.concatenate(self._parts)
        self._file.flush()
        (first,) = self._parts
        # A file without a name is mapped by itself, one with a name by that.
        where: Any = self._file if self._folder is None else self._file.name
        return np.memmap(where, first.dtype, "r", shape=(self._rows, *first.shape[1:]))


def _kind(array: Array) -> Any:
    """Type of an array; texts are one type, however long."""
    return "text" if rows.is_text(array) else array.dtype


def _size(array: Array) -> int:
    """Bytes of an array; of texts those of what they say."""
    if array.dtype == object:
        return sum(len(each) for each in array.flat)
    return int(array.nbytes)


def _alike(shapes: list[tuple[str, Any]]) -> str:
    """The arrays of a batch, each with its name, type and shape of a row."""
    told = []
    for place, (shape, dtype) in shapes:
        role, _, path = place.partition("/")
        name = rows.name_of(("x", "y", "sample_weight")[int(role)], path)
        told.append(f"{name} {dtype} {shape}")
    return ", ".join(told)


def _checked_batch(value: Any, name: str, start: int) -> Batch:
    """One batch with every value checked; rows are counted from the source's start."""
    parts = unpacked(value)
    if parts is None:
        expected = "x, (x, y) or (x, y, sample_weight)"
        raise invalid(name, f"expected batches {expected}, received {kind_of(value)}")
    try:
        found = from_values(*parts, name=name, whole=False)
    except InvalidError as error:
        place = f"in the batch that begins at row {start}"
        problems = [
            dataclasses.replace(problem, message=f"{problem.message} ({place})")
            for problem in error.problems
        ]
        raise InvalidError(problems) from error
    if has_texts(found.y):
        message = "expected class indices as targets, received texts"
        raise invalid(name, message, "encode the classes as numbers from 0")
    return found.x, found.y, found.weight
