"""Rows from all over the data, as the reference takes them: numbers in columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from orchestrator.data.rows import Rows, Tree, is_text, leaves
from orchestrator.diagnosis.skill.reference import MOST_ROWS

_Array = npt.NDArray[Any]

_MOST_COLUMNS = 3_000
"""Numbers of a row that are looked at; of wider rows, such as photographs, so many are drawn."""
_MOST_NUMBERS = 8_000_000
"""Numbers that are kept in all: of wide rows fewer, so that memory stays bounded."""


def as_columns(x: Tree) -> npt.NDArray[np.float32] | None:
    """Inputs side by side as numbers, at most `_MOST_COLUMNS` of them; None where some are texts.

    Args:
        x: an array of shape (rows, …), or a dict or tuple of such arrays.
    """
    arrays = [np.asarray(array) for _, array in leaves(x)]
    if any(is_text(array) for array in arrays):
        return None
    flat = [array.reshape(len(array), -1) for array in arrays]
    bounds = np.cumsum([0, *(array.shape[1] for array in flat)])
    if bounds[-1] > _MOST_COLUMNS:
        generator = np.random.default_rng(0)
        chosen = np.sort(generator.choice(bounds[-1], _MOST_COLUMNS, replace=False))
        flat = [
            array[:, chosen[(chosen >= start) & (chosen < end)] - start]
            for array, start, end in zip(flat, bounds, bounds[1:], strict=False)
        ]
    return np.concatenate(flat, axis=1, dtype=np.float32, casting="unsafe")


def draw(rows: Rows) -> tuple[Tree, Tree]:
    """Inputs and targets of as many rows as the reference looks at, from all over them."""
    most = _most_rows(as_columns(rows.first(1)[0]))
    places = np.arange(len(rows))
    if len(rows) > most:
        places = np.sort(np.random.default_rng(0).choice(places, most, replace=False))
    x, y, _ = rows.batch(places)
    return x, y


def _most_rows(*arrays: _Array | None) -> int:
    """How many rows are kept of arrays of shape (rows, …)."""
    widths = [array[0].size for array in arrays if array is not None]
    return min(MOST_ROWS, _MOST_NUMBERS // max(widths, default=1))


class Sample:
    """Rows from all over a pass whose length need not be known, each with the same chance.

    The same pass gives the same sample (algorithm R of Vitter, Random sampling with a reservoir,
    1985).
    """

    def __init__(self) -> None:
        self._generator = np.random.default_rng(0)
        self._kept: list[_Array] = []
        self._seen = 0

    def add(self, *arrays: _Array) -> None:
        """Take in a batch of rows: arrays of shape (rows, …), the same ones at every call."""
        if not self._kept:
            most = _most_rows(*arrays)
            self._kept = [np.empty((most, *each.shape[1:]), each.dtype) for each in arrays]
        most = len(self._kept[0])
        numbers = np.arange(self._seen, self._seen + len(arrays[0]))
        places = np.where(numbers < most, numbers, self._generator.integers(0, numbers + 1))
        taken = places < most
        for kept, array in zip(self._kept, arrays, strict=True):
            kept[places[taken]] = array[taken]
        self._seen += len(numbers)

    @property
    def arrays(self) -> list[_Array]:
        """The rows that were kept, of each array."""
        return [kept[: self._seen] for kept in self._kept]
