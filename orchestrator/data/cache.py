"""The rows of a run in files: read once, and mapped by every attempt.

What is written is what the model takes, standardised and in a type that Keras computes in. An array
that the user has mapped from a file stays there, and a text column stays categories.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import mmap
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import optree

from orchestrator.data.files.encoding import Encoding
from orchestrator.data.load import Dataset
from orchestrator.data.rows import (
    Array,
    Columns,
    Lookup,
    Rows,
    Scaling,
    Scalings,
    Tree,
    is_text,
    leaves,
    piece,
    standardized,
    transform,
)
from orchestrator.data.streams.recording import Live

_PREFIX = ".data-"
"""How folders with the rows of a run begin; hidden, so that they are no runs."""

_OWNED = ".orchestrator"
"""File in a folder of ours whose owner has its lock; a folder without it is never removed."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """Where the rows of a run are; may be pickled."""

    train: StoredRows
    """Training rows."""
    validation: StoredRows | None
    """Validation rows."""
    scalings: Mapping[str, Scaling]
    """The standardisation of each input by its path."""
    encoding: Encoding
    """How texts became numbers."""
    fingerprint: str
    """Hash of the rows before standardisation."""
    live: Live | None = None
    """What training takes from a source of batches."""
    warnings: tuple[str, ...] = ()
    """What the user should know of the rows."""

    @property
    def num_rows(self) -> int:
        """Training rows of an epoch."""
        return len(self.train.open()) if self.live is None else self.live.rows


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StoredRows:
    """`Rows` with every array replaced by its file."""

    x: Tree
    """Of what says where an array is."""
    y: Tree
    weight: _File | None
    columns: tuple[str, ...]
    order: _File | None
    scalings: Scalings
    """What is still to be applied to x, where it is the user's own file."""

    def open(self) -> Rows:
        """The rows."""
        return Rows(
            x=transform(lambda leaf: leaf.open(), self.x),
            y=transform(lambda file: file.open(), self.y),
            weight=None if self.weight is None else self.weight.open(),
            columns=self.columns,
            order=None if self.order is None else self.order.open(),
            scalings=self.scalings,
        )


@dataclasses.dataclass(frozen=True, slots=True)
class _File:
    """An array in a file of ours; it counts as one in memory, for it was there before."""

    path: Path

    def open(self) -> Array:
        array: Array = np.load(self.path, mmap_mode="r", allow_pickle=False)
        return array.view(np.ndarray)


@dataclasses.dataclass(frozen=True, slots=True)
class _TextFile:
    """Texts in a file of ours, one after the other, and where each ends."""

    path: Path
    ends: _File
    shape: tuple[int, ...]
    encoded: bool
    """Whether they are bytes of the user's, and no texts of Python's."""

    def open(self) -> Array:
        content, begin = self.path.read_bytes(), 0
        found = np.empty(int(np.prod(self.shape)), object)
        for index, end in enumerate(self.ends.open().tolist()):
            found[index] = content[begin:end] if self.encoded else content[begin:end].decode()
            begin = end
        return found.reshape(self.shape)


@dataclasses.dataclass(frozen=True, slots=True)
class _MappedFile:
    """An array in a file of the user's, which may be larger than memory."""

    path: Path
    begin: int
    """The first byte of the file that belongs to it."""
    end: int
    """The byte after the last one."""
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    """Of its first value, from `begin`; above 0 where it is mapped backwards."""

    @classmethod
    def of(cls, array: np.memmap[Any, Any]) -> _MappedFile:
        """The place of a mapped array, or of a part of one."""
        whole = array
        while isinstance(whole.base, np.memmap):
            whole = whole.base
        steps = [
            (length - 1) * stride for length, stride in zip(array.shape, array.strides, strict=True)
        ]
        before = -sum(step for step in steps if step < 0)
        after = sum(step for step in steps if step > 0) + array.itemsize
        start = int(whole.offset) + _address(array) - _address(whole)
        return cls(
            path=Path(str(whole.filename)),
            begin=start - before,
            end=start + after,
            dtype=array.dtype.str,
            shape=array.shape,
            strides=array.strides,
            offset=before,
        )

    def open(self) -> Array:
        """The array, mapped again."""
        content: Array = np.memmap(self.path, np.uint8, "r", self.begin, (self.end - self.begin,))
        array: Array = np.ndarray(self.shape, self.dtype, content, self.offset, self.strides)
        return array.view(np.memmap)


def _address(array: Array) -> int:
    return int(array.__array_interface__["data"][0])


@dataclasses.dataclass(frozen=True, slots=True)
class _StoredLookup:
    """`Lookup` in files."""

    codes: _File
    table: _File

    def open(self) -> Lookup:
        return Lookup(codes=self.codes.open(), table=self.table.open())


@dataclasses.dataclass(frozen=True, slots=True)
class _StoredColumns:
    """`Columns` in files."""

    parts: tuple[_File | _StoredLookup, ...]

    def open(self) -> Columns:
        return Columns(parts=tuple(part.open() for part in self.parts))


_Stored = _File | _TextFile | _MappedFile | _StoredColumns


def save(dataset: Dataset, folder: Path) -> Stored:
    """Put the rows into files.

    Args:
        dataset: what was read, standardised or not yet.
        folder: gets the files; it must live as long as the run.

    Returns:
        What `load` takes.
    """
    train, held = dataset.train, dataset.validation
    return Stored(
        train=_save_rows(train, folder / "train"),
        validation=None if held is None else _save_rows(held, folder / "validation"),
        scalings=dataset.scalings,
        encoding=dataset.encoding,
        fingerprint=dataset.fingerprint,
        live=dataset.live,
        warnings=dataset.warnings,
    )


def load(stored: Stored) -> Dataset:
    """Map the rows from their files."""
    return Dataset(
        train=stored.train.open(),
        validation=None if stored.validation is None else stored.validation.open(),
        scalings=stored.scalings,
        encoding=stored.encoding,
        fingerprint=stored.fingerprint,
        live=stored.live,
        warnings=stored.warnings,
    )


def _save_rows(part: Rows, folder: Path) -> StoredRows:
    shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed while it wrote
    folder.mkdir()
    files = (folder / f"{index}.npy" for index in itertools.count())

    def save_input(path: str, array: Array | Columns) -> _Stored:
        if isinstance(array, np.memmap):
            return _MappedFile.of(array)
        if not isinstance(array, Columns) and is_text(array):
            return _write_texts(
                next(files), array if part.mapped or part.order is None else array[part.order]
            )
        if part.mapped:  # the order and the scaling are those of all inputs
            return _write(next(files), array)
        scaling = part.scalings.get(path)
        if isinstance(array, Columns):
            return _write_columns(files, array, part.order, scaling)
        return _write(next(files), array, part.order, lambda values: standardized(values, scaling))

    x = [save_input(path, array) for path, array in leaves(part.x)]
    return StoredRows(
        x=optree.tree_unflatten(optree.tree_structure(part.x), x),
        y=transform(
            lambda array: (
                _MappedFile.of(array) if _is_in_file(array) else _write(next(files), array)
            ),
            part.y,
        ),
        weight=None if part.weight is None else _write(next(files), part.weight),
        columns=part.columns,
        order=_write(next(files), part.order) if part.mapped and part.order is not None else None,
        scalings=part.scalings if part.mapped else {},
    )


def _is_in_file(array: Array) -> bool:
    """Whether an array is mapped; NumPy also calls what was calculated from one a `memmap`."""
    found: Any = array
    while isinstance(found, np.memmap):
        found = found.base
    return isinstance(found, mmap.mmap)


def _write(
    path: Path,
    array: Array | Columns,
    order: Array | None = None,
    ready: Callable[[Array], Array] = np.asarray,
) -> _File:
    """Write an array piece by piece.

    Args:
        path: the file.
        array: the array.
        order: positions of the rows to write; None for all of them.
        ready: what is done to each piece before.
    """
    count = len(array) if order is None else len(order)
    size = piece(array)
    with path.open("wb") as file:
        for start in range(0, count, size):
            places = slice(start, start + size) if order is None else order[start : start + size]
            values = np.ascontiguousarray(ready(array[places]))
            if start == 0:
                header = np.lib.format.header_data_from_array_1_0(values)
                header["shape"] = (count, *values.shape[1:])
                np.lib.format.write_array_header_2_0(file, header)
            file.write(values.data)
    return _File(path)


def _write_texts(path: Path, array: Array) -> _TextFile:
    """Write texts; as an array of NumPy's each would take the room of the longest."""
    encoded = bool(array.size) and isinstance(array.flat[0], bytes)
    ends, end = [], 0
    with path.open("wb") as file:
        for each in array.flat:
            end += file.write(each if encoded else str(each).encode())
            ends.append(end)
    places = _write(path.with_suffix(".ends.npy"), np.asarray(ends, np.int64))
    return _TextFile(path, places, array.shape, encoded)


def _write_columns(
    files: Iterator[Path], columns: Columns, order: Array | None, scaling: Scaling | None
) -> _Stored:
    """Write the columns of a table: texts as categories, and numbers side by side as one array."""
    written: list[_File | _StoredLookup] = []
    begin = 0
    for part in _joined(columns):
        width = part.shape[1]
        own = None if scaling is None else scaling.part(slice(begin, begin + width))
        begin += width
        ready = functools.partial(standardized, scaling=own)
        if isinstance(part, Columns):
            written.append(_write(next(files), part, order, ready))
        else:
            table = _write(next(files), ready(part.table))
            codes = _write(next(files), part.codes, order)
            written.append(_StoredLookup(codes=codes, table=table))
    first, *others = written
    return first if isinstance(first, _File) and not others else _StoredColumns(tuple(written))


def _joined(columns: Columns) -> Iterator[Columns | Lookup]:
    """The parts of a table, with numbers that stand side by side as one."""
    for is_number, parts in itertools.groupby(
        columns.parts, lambda part: not isinstance(part, Lookup)
    ):
        if is_number:
            yield Columns(parts=tuple(parts))
        else:
            yield from (part for part in parts if isinstance(part, Lookup))


@contextlib.contextmanager
def folder(parent: Path) -> Iterator[Path]:
    """A hidden folder for the rows of a run, which is gone with it.

    One whose owner was killed is removed by the next owner of one beside it.

    Args:
        parent: folder in which it is made; made, and removed again, where it is missing.

    Raises:
        OSError: it cannot be made.
    """
    missing = [each for each in (parent, *parent.parents) if not each.exists()]
    parent.mkdir(parents=True, exist_ok=True)
    _sweep(parent)
    own = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    lock = filelock.FileLock(own / ".lock")
    try:
        lock.acquire(timeout=0)
        (own / _OWNED).touch()
        yield own
    finally:
        shutil.rmtree(own, ignore_errors=True)
        lock.release()
        with contextlib.suppress(OSError):  # not where it holds something now
            for each in missing:
                each.rmdir()


def _sweep(parent: Path) -> None:
    """Remove the folders of owners that were killed."""
    for mark in parent.glob(f"{_PREFIX}*/{_OWNED}"):
        lock = filelock.FileLock(mark.parent / ".lock")
        with contextlib.suppress(OSError, filelock.Timeout):
            lock.acquire(timeout=0)
            lock.release()
            shutil.rmtree(mark.parent)
