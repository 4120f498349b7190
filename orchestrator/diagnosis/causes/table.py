"""Columns of a table: those that say nothing, and values in them that stand for none.

What a sample of the rows suggests is looked for in all rows before it is told. NumPy only.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from orchestrator.data.rows import Columns, Lookup, Rows, Scalings, is_text, leaves

_PIXELS = 32
"""Of more columns than this, those that are at an end of all values, or 0, may be the border of an
image, or words that nobody uses, and are healthy; and so may equal ones be."""
_BY_CHANCE = math.log(1e-9)
"""Logarithm of the chance, of all pairs, below which two equal columns are one."""
_CODES = (-99.0, -999.0, -9999.0, -99999.0, 999.0, 9999.0, 99999.0)
"""Numbers that are written for a value that is missing."""
_LEAST_CODED = 3
"""So often a number stands there if it is a code."""
_EXACT = 1e-4
"""Relative error of a value that was standardised in float32 and is taken back."""

_Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """An array of inputs, one column a feature, as it was before it was standardised."""

    path: str
    """Of the array among the inputs."""
    sample: _Array
    """Some rows, shape (rows, columns)."""
    names: Sequence[str]
    """Names of the columns; numbers where they have none."""
    numbers: npt.NDArray[np.bool_]
    """Which columns are numbers; the others are texts, one column a category."""
    named: bool
    """Whether it comes from a file that names its columns."""
    rows: Rows
    """All rows, as the model takes them."""
    scalings: Scalings
    """What has standardised them."""

    def columns(self, chosen: Sequence[int]) -> Iterator[_Array]:
        """Some columns of all rows, piece by piece, shape (rows, chosen)."""
        size = max(1, 2**22 // self.sample.shape[1])
        for x, _, _ in self.rows.batches(size):
            yield _raw(dict(leaves(x))[self.path], self.path, self.scalings)[:, list(chosen)]


def tables(rows: Any, sample: Any, scalings: Scalings) -> Iterator[Table]:
    """The arrays of inputs that may be tables; none of a stream, which cannot be read twice.

    Args:
        rows: all rows.
        sample: inputs of some of them, as the model takes them.
        scalings: what has standardised them, by the path of an input.
    """
    if not isinstance(rows, Rows):
        return
    for path, array in leaves(sample):
        if array.ndim != 2 or is_text(array) or array.dtype.kind not in "fiu" or len(array) < 2:
            continue
        whole = dict(leaves(rows.x))[path]
        parts = whole.parts if isinstance(whole, Columns) else ()
        numbers = np.ones(array.shape[1], bool)
        names: Sequence[str] = [str(index) for index in range(array.shape[1])]
        named = len(parts) == len(rows.columns) > 0
        if named:
            widths = [(*part.shape, 1)[1] for part in parts]
            names = np.repeat(rows.columns, widths).tolist()
            numbers = np.repeat([not isinstance(part, Lookup) for part in parts], widths)
        yield Table(
            path=path,
            sample=_raw(array, path, scalings),
            names=names,
            numbers=numbers,
            named=named,
            rows=rows,
            scalings=scalings,
        )


def _raw(array: _Array, path: str, scalings: Scalings) -> _Array:
    """Values as they were before they were standardised."""
    scaling = scalings.get(path)
    return array if scaling is None else array * scaling.deviation + scaling.mean


def constants(table: Table) -> dict[str, float]:
    """The columns that have one value on all rows, with that value."""
    values = table.sample
    wide = values.shape[1] > _PIXELS
    usual = {0.0, float(values.min()), float(values.max())} if wide else set()
    suspected = [
        index
        for index in np.flatnonzero(np.ptp(values, axis=0) == 0).tolist()
        if table.numbers[index] and float(values[0, index]) not in usual
    ]
    if not suspected or len(suspected) == values.shape[1]:
        return {}
    first = values[0, suspected]
    same = np.ones(len(suspected), bool)
    for part in table.columns(suspected):
        same &= (part == first).all(axis=0)
    return {
        table.names[index]: float(value)
        for index, value, each in zip(suspected, first, same, strict=True)
        if each
    }


def copies(table: Table) -> list[tuple[str, str]]:
    """Pairs of columns that are equal on all rows, and not by chance."""
    values = table.sample
    if values.shape[1] > _PIXELS and not table.named:
        return []
    seen: dict[bytes, int] = {}
    suspected = []
    for index in np.flatnonzero(table.numbers):
        column = np.ascontiguousarray(values[:, index])
        before = seen.setdefault(column.tobytes(), int(index))
        if before != index and _is_no_accident(column, values.shape[1]):
            suspected.append((before, int(index)))
    if not suspected:
        return []
    chosen = sorted({index for pair in suspected for index in pair})
    places = {index: place for place, index in enumerate(chosen)}
    equal = dict.fromkeys(suspected, True)
    for part in table.columns(chosen):
        for one, other in suspected:
            equal[one, other] &= bool((part[:, places[one]] == part[:, places[other]]).all())
    return [(table.names[one], table.names[other]) for (one, other), each in equal.items() if each]


def _is_no_accident(column: _Array, num_columns: int) -> bool:
    """Whether independent columns with such values hardly ever are equal on all rows."""
    shares = np.unique(column, return_counts=True)[1] / len(column)
    alike = len(column) * math.log(float(np.sum(shares**2)))
    return alike + 2 * math.log(num_columns) < _BY_CHANCE


def codes(table: Table) -> dict[str, tuple[float, float]]:
    """The columns with a number that stands for a missing value, and on which share of the rows.

    It is one of those that are written for that, occurs again and again, and is further from all
    other values than those are from each other.
    """
    lowest, highest = table.sample.min(axis=0), table.sample.max(axis=0)
    suspected = {
        int(index): code
        for code in _CODES
        for index in np.flatnonzero(_is(lowest if code < 0 else highest, code) & table.numbers)
        if _stands_apart(table.sample[:, index], code)
    }
    if not suspected:
        return {}
    chosen = list(suspected)
    parts: list[list[_Array]] = [[] for _ in chosen]
    for part in table.columns(chosen):
        for place, pieces in enumerate(parts):
            pieces.append(part[:, place])
    found = {}
    for (index, code), pieces in zip(suspected.items(), parts, strict=True):
        column = np.concatenate(pieces)
        coded = _is(column, code)
        if coded.sum() >= _LEAST_CODED and _stands_apart(column, code):
            found[table.names[index]] = code, float(coded.mean())
    return found


def _is(values: _Array, code: float) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = np.abs(values - code) <= _EXACT * abs(code)
    return found


def _stands_apart(column: _Array, code: float) -> bool:
    """Whether a value is further from all others than those are from each other."""
    others = column[~_is(column, code)].astype(np.float64)
    if len(np.unique(others[:1000])) < 3:
        return False
    lowest, highest = float(others.min()), float(others.max())
    gap = lowest - code if code < lowest else code - highest
    return gap > highest - lowest
