"""What people write into the cells of a table: numbers, texts, and marks for what is missing."""

from __future__ import annotations

import re

_MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "-", "?"})
"""What people write for a missing value, compared without case."""

_NUMBER_MARKS = re.compile(r"[\s,_'%$€£]")
"""What people write in numbers that Python does not read."""


def is_missing(cell: str) -> bool:
    """Whether a cell says that there is no value."""
    return cell.casefold() in _MISSING


def number(cell: str) -> float | None:
    """The number that a cell holds; None where it holds none."""
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


def is_meant_as_number(cell: str) -> bool:
    """Whether a cell is a number, if only in another notation, such as 1,5 or 12%."""
    return number(_NUMBER_MARKS.sub("", cell)) is not None


def describe_bad(cell: str, column: str, kind: str) -> tuple[str, str]:
    """What is wrong with a cell, and what to do.

    Args:
        cell: what it holds.
        column: name of its column.
        kind: what the column holds: `number` or `text`.
    """
    shown = cell if len(cell) <= 60 else f"{cell[:59]}…"
    received = f"received {shown!r}" if cell else "the value is missing"
    if is_missing(cell):
        hint = "fill it in or drop the row"
    elif is_meant_as_number(cell):
        hint = "write decimals with a point, and no other separators or units"
    else:
        hint = f"correct it, or read the column as categories with text: [{column}]"
    return f"expected a {kind}, {received}", hint
