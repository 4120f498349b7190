"""Rows as people have them in a program: arrays, a `tf.data.Dataset`, or a generator of batches."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from orchestrator.data.arrays import tree_of
from orchestrator.data.rows import (
    Array,
    Batch,
    Precision,
    Rows,
    Tree,
    is_text,
    leaves,
    name_of,
    num_rows,
    ready,
    transform,
)
from orchestrator.data.streams.look import Look
from orchestrator.data.streams.sources import Source, find, gives_batches, unpacked
from orchestrator.errors import InvalidError, Problem


class Batches:
    """Rows for `diagnose`, read a batch at a time; what is not finite in them is noted.

    Args:
        x: arrays of shape (rows, …), a dict or tuple of them; or batches: a `tf.data.Dataset`, a
            `PyDataset`, an iterator, or a function that returns any of these. A batch is x, (x, y)
            or (x, y, sample_weight).
        y: targets, where x is arrays.
        weight: weight of each row, where x is arrays.
        steps: batches to read; None for all.

    Raises:
        InvalidError: the arrays have different numbers of rows, or there are none; or the batches
            say that they have no end.
    """

    def __init__(
        self, x: Any, y: Any = None, weight: Any = None, *, steps: int | None = None
    ) -> None:
        self.non_finite: list[str] = []
        self.fit: Callable[[Tree, Any, int], None] | None = None
        """Gets targets and weights of each batch and the number of its first row; raises where they
        do not fit the model's outputs."""
        self.precision: Precision = "float32"
        """Type of the floating-point inputs that the model gets."""
        self._arrays: Rows | None = None
        self._source: Source | None = None
        self._started: Iterator[Any] | None = None
        self._steps = steps
        if gives_batches(x) and (y is not None or weight is not None):
            raise _problem("y", "the batches bring their own targets and weights", "leave it out")
        self._source = find(x, "x")
        if self._source is None and callable(x):
            x, y, weight = self._called(x)
        if self._source is None:
            if steps is not None:
                raise _problem("steps_per_epoch", "expected batches, received arrays", None)
            self._arrays = _rows(x, y, weight)
        elif self._source.kind == "iterator":
            self._started = self._source.value
        if self._source is not None and self._source.endless is not None and steps is None:
            raise self._endless(self._source, self._source.endless)

    def _called(self, function: Callable[[], Any]) -> tuple[Any, Any, Any]:
        """What a function returns: arrays here, batches as the source."""
        found = function()
        self._source = find(found, "x", again=function)
        if self._source is None and isinstance(found, tuple) and 1 <= len(found) <= 3:
            x, y, weight = (*found, None, None)[:3]
            return x, y, weight
        return found, None, None

    def _endless(self, source: Source, reason: str) -> InvalidError:
        message = f"{source.name} has no end: {reason}"
        return _problem("x", message, "pass steps_per_epoch=N, the number of batches to read")

    @property
    def arrays(self) -> Rows | None:
        """The rows, where they are arrays."""
        return self._arrays

    @property
    def once(self) -> bool:
        """Whether they can be read only once."""
        return self._started is not None

    def __len__(self) -> int:
        """Number of rows; of arrays only."""
        if self._arrays is None:
            raise TypeError("Expected arrays. Received: batches, whose number is not known")
        return len(self._arrays)

    def first(self, count: int) -> Batch:
        """The first rows, ready for the model."""
        if self._arrays is not None:
            return ready(self._arrays.pick(slice(0, count)), {}, self.precision)
        iterator = self._iterator()
        first = next(iterator, None)
        if first is None:
            raise _problem("x", "expected at least one batch, received none", None)
        if self.once:
            self._started = itertools.chain([first], iterator)
        x, y, weight = _batch(first)
        part = slice(0, count)
        return ready(
            (
                transform(lambda array: array[part], x),
                transform(lambda array: array[part], y),
                None if weight is None else weight[part],
            ),
            {},
            self.precision,
        )

    def look(self) -> list[str]:
        """Look through arrays for what is not finite; a clause for each place."""
        if self._arrays is None:
            raise TypeError("Expected arrays. Received: batches")
        self.non_finite.clear()
        position = 0
        for batch in self._arrays.raw():
            self._look(batch, position)
            if self.fit is not None:
                self.fit(transform(_finite, batch[1]), batch[2], position)
            position += num_rows(batch[0])
        return self.non_finite

    def batches(self, size: int) -> Iterator[Batch]:
        """All rows, ready for the model; `size` rows at a time where they are arrays."""
        self.non_finite.clear()
        position = 0
        found = self._read() if self._arrays is None else self._arrays.raw(size)
        for batch in found:
            self._look(batch, position)
            x, y, weight = batch
            if self.non_finite:  # what the predictions are worth is not told then
                y = transform(_finite, y)
            if self.fit is not None:
                self.fit(y, weight, position)
            position += num_rows(x)
            yield ready((x, y, weight), {}, self.precision)

    def _read(self) -> Iterator[Batch]:
        """The batches, until their end or as many as were asked for."""
        source, look = self._source, Look()
        for value in itertools.islice(self._iterator(), self._steps):
            batch = _batch(value)
            if source is not None and source.length is None and self._steps is None:
                reason = look.endless(batch)
                if reason is not None:
                    raise self._endless(source, reason)
            yield batch

    def _iterator(self) -> Iterator[Any]:
        if self._started is not None:
            return self._started
        if self._source is None:
            raise TypeError("Expected batches. Received: arrays")
        return iter(self._source.begin())

    def _look(self, batch: Batch, position: int) -> None:
        """Note the first row of a batch that is not finite."""
        for role, tree in zip(("x", "y", "sample_weight"), batch, strict=True):
            for path, array in leaves(tree):
                if array.dtype.kind != "f":
                    continue
                # A sum is finite where all are, but for an overflow, and much faster to look at.
                with np.errstate(all="ignore"):
                    total = np.sum(array, dtype=np.float32)
                if np.isfinite(total):
                    continue
                bad = np.argwhere(~np.isfinite(array))
                if len(bad):
                    row, *column = bad[0]
                    where = f", column {'/'.join(map(str, column))}" if column else ""
                    value = array[tuple(bad[0])]
                    self.non_finite.append(
                        f"{name_of(role, path)} is {value} in row {position + int(row)}"
                        f"{where} (from 0)"
                    )


def _rows(x: Any, y: Any, weight: Any) -> Rows:
    inputs = tree_of(x, "x", "diagnose")
    targets = None if y is None else tree_of(y, "y", "diagnose")
    weights = _weights(weight)
    _check((inputs, targets, weights))
    if not num_rows(inputs):
        raise _problem("x", "expected at least one row, received none", None)
    return Rows(x=inputs, y=targets, weight=weights)


def _check(batch: Batch) -> None:
    """Refuse what is not numbers, and parts of different lengths."""
    count: int | None = None
    for role, tree in zip(("x", "y", "sample_weight"), batch, strict=True):
        for path, array in leaves(tree):
            if array.ndim == 0:
                raise _problem(name_of(role, path), "expected rows, received a scalar", None)
            count = len(array) if count is None else count
            if len(array) != count:
                message = f"expected {count} rows as in x, received {len(array)}"
                raise _problem(name_of(role, path), message, None)
            if role == "x" and is_text(array):
                continue
            if array.dtype.kind not in "biuf":
                message = f"expected numbers, received {array.dtype}"
                raise _problem(name_of(role, path), message, "encode texts first")


def _batch(batch: Any) -> Batch:
    """A batch of the user's as (x, y, weight)."""
    parts = unpacked(batch)
    if parts is None:
        received = "None" if batch is None else f"{len(batch)} parts"
        message = f"expected x, (x, y) or (x, y, sample_weight), received {received}"
        raise _problem("x", message, None)
    x, y, weight = parts
    found = (
        tree_of(x, "x", "diagnose"),
        None if y is None else tree_of(y, "y", "diagnose"),
        _weights(weight),
    )
    _check(found)
    if not num_rows(found[0]):
        message = "expected at least one row in every batch, received none"
        raise _problem("x", message, "leave empty batches out")
    return found


def _weights(weight: Any) -> Array | None:
    found = None if weight is None else tree_of(weight, "sample_weight", "diagnose")
    if isinstance(found, dict | tuple):
        message = "expected one weight a row for all outputs, received several"
        raise _problem("sample_weight", message, "diagnose the outputs one by one")
    return found


def _finite(array: Array) -> Array:
    return array if array.dtype.kind != "f" else np.where(np.isfinite(array), array, 0)


def _problem(key: str, message: str, hint: str | None) -> InvalidError:
    return InvalidError([Problem(file="diagnose", key=key, message=message, hint=hint)])
