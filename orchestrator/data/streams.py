"""Batches that are read anew in every pass, checked in a first one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from orchestrator.config import user_code
from orchestrator.data import rows
from orchestrator.data.arrays import (
    arranged,
    converted,
    from_values,
    has_texts,
    invalid,
    wrong_weights,
)
from orchestrator.data.rows import Array, Batch, Stream, Tree
from orchestrator.errors import InvalidError


def is_dataset(value: Any) -> bool:
    """Whether a value is a `tf.data.Dataset`."""
    return hasattr(value, "as_numpy_iterator") and hasattr(value, "element_spec")


def kind_of(value: Any) -> str:
    """What a value is called in messages."""
    return f"a tuple of {len(value)}" if isinstance(value, tuple) else type(value).__name__


def read_dataset(dataset: Any, name: str) -> Stream:
    """A `tf.data.Dataset` of batches, after a first pass."""
    size = int(dataset.cardinality())
    if size == -1:
        hint = "end it with .take(number of batches)"
        raise invalid(name, "expected a dataset that ends, received one that repeats", hint)
    if not isinstance(dataset.element_spec, tuple):
        received = type(dataset.element_spec).__name__
        message = f"expected batches (x, y) or (x, y, sample_weight), received {received}"
        raise invalid(name, message)

    def source() -> Iterator[Any]:
        with user_code.blamed(f"the dataset of {name}"):
            yield from dataset.as_numpy_iterator()

    return dataclasses.replace(read_stream(source, name), dataset=dataset)


def blamed_batches(generator: Any, name: str) -> Iterator[Any]:
    """The batches of a generator of the user's, who is told what it raises."""
    with user_code.blamed(f"the generator {name}"):
        yield from generator


def read_stream(source: Callable[[], Iterator[Any]], name: str) -> Stream:
    """A stream after a first pass, in which every value was checked and the targets were kept."""
    count, length, digest = 0, 0, 0
    targets: list[tuple[Tree, Array | None]] = []
    shapes: list[tuple[str, Any]] | None = None
    for value in source():
        batch = _checked_batch(value, name, count)
        found = [(path, (array.shape[1:], array.dtype)) for path, array in rows.leaves(batch)]
        shapes = shapes or found
        if found != shapes:
            message = f"expected batches alike, received {_alike(shapes)} and then {_alike(found)}"
            raise invalid(name, message, "pad or convert them to one shape and type")
        targets.append(batch[1:])
        digest = (digest + rows.digest_rows(batch)) % 2**64
        count += rows.num_rows(batch[0])
        length += 1
    if not targets:
        raise invalid(name, "expected at least one batch, received none")
    ys, weights = zip(*targets, strict=True)
    weight = None if weights[0] is None else np.concatenate(weights)
    if weight is not None:
        wrong = list(wrong_weights(weight, name, "sample_weight", whole=True))
        if wrong:
            raise InvalidError(wrong)

    def batches() -> Iterator[Batch]:
        for value in source():
            yield arranged(converted(*value, name=name))

    return Stream(
        source=batches,
        y=rows.transform(lambda *parts: np.concatenate(parts), *ys),
        weight=weight,
        rows=count,
        length=length,
        digest=f"{count} {digest} {_alike(shapes or [])}".encode(),
    )


def _alike(shapes: list[tuple[str, Any]]) -> str:
    """The arrays of a batch, each with its name, type and shape of a row."""
    told = []
    for place, (shape, dtype) in shapes:
        role, _, path = place.partition("/")
        name = rows.name_of(("x", "y", "sample_weight")[int(role)], path)
        told.append(f"{name} {dtype} {shape}")
    return ", ".join(told)


def _checked_batch(value: Any, name: str, start: int) -> Batch:
    """One batch with every value checked; rows are counted from the stream's start."""
    if not isinstance(value, tuple | list) or len(value) not in (2, 3):
        message = f"expected batches (x, y) or (x, y, sample_weight), received {kind_of(value)}"
        raise invalid(name, message)
    try:
        found = from_values(*value, name=name, whole=False)
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
