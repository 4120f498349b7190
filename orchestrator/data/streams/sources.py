"""What gives batches: a `tf.data.Dataset`, a `PyDataset`, a generator, and how a pass begins.

Each is known by its shape, so that neither TensorFlow nor Keras is imported to tell.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Literal

from orchestrator.config import user_code

Kind = Literal["dataset", "py_dataset", "generator", "iterator"]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Something that gives batches."""

    kind: Kind
    """A `tf.data.Dataset`, a `keras.utils.PyDataset`, a function that returns an iterator, or an
    iterator, which cannot begin anew."""
    name: str
    """How it is called in messages, such as `the generator rows:batches`."""
    value: Any
    """The dataset, the `PyDataset`, the function or the iterator itself."""
    begin: Callable[[], Iterator[Any]]
    """Begins a pass; an iterator only goes on."""
    length: int | None
    """Batches in a pass by its own word; None where it does not tell."""
    endless: str | None
    """A clause on how it says of itself that a pass has no end; None where it does not."""
    made: bool = True
    """Whether the user's function has made it for this reading, which is the first one then."""

    def read(self) -> Iterator[Any]:
        """The batches of a pass; what the user's code raises in it is the user's."""
        with user_code.blamed(self.name):
            yield from self.begin()


class Started:
    """An iterator that remembers what it gave first, for it cannot be asked again.

    It has no `close`, by which a pass that ends before its end would end a generator for good.

    Args:
        iterator: gives the batches.
    """

    def __init__(self, iterator: Iterator[Any]) -> None:
        self.first: Any = None
        self.iterator = iterator

    def __iter__(self) -> Started:
        """Itself."""
        return self

    def __next__(self) -> Any:
        """The next batch."""
        batch = next(self.iterator)
        self.first = batch if self.first is None else self.first
        return batch


def is_dataset(value: Any) -> bool:
    """Whether a value is a `tf.data.Dataset`."""
    return hasattr(value, "as_numpy_iterator") and hasattr(value, "element_spec")


def is_py_dataset(value: Any) -> bool:
    """Whether a value is a `keras.utils.PyDataset`, as `Sequence`s and image flows are."""
    return any(
        kind.__name__ == "PyDataset" and kind.__module__.partition(".")[0] == "keras"
        for kind in type(value).__mro__
    )


def gives_batches(value: Any) -> bool:
    """Whether a value gives batches, or is a function that may."""
    return (
        is_dataset(value) or is_py_dataset(value) or isinstance(value, Iterator) or callable(value)
    )


def kind_of(value: Any) -> str:
    """What a value is called in messages."""
    return f"a tuple of {len(value)}" if isinstance(value, tuple) else type(value).__name__


def unpacked(value: Any) -> tuple[Any, Any, Any] | None:
    """A batch of the user's as (x, y, weight), as Keras unpacks it; None where it is none.

    What is neither a tuple nor a list is x alone, which a model takes that trains without targets.
    """
    parts = tuple(value) if isinstance(value, list | tuple) else (value,)
    if value is None or not 1 <= len(parts) <= 3:
        return None
    return (*parts, None, None)[:3]


def find(value: Any, name: str, again: Callable[[], Any] | None = None) -> Source | None:
    """The source that a value is.

    Args:
        value: what the user has, or what the user's function has returned.
        name: how to call it in messages.
        again: calls the function that has returned it again; None where no function has.

    Returns:
        None where it gives no batches.

    Raises:
        UserCodeError: a `PyDataset` raised when asked for its length.
    """
    if is_dataset(value):
        return _dataset(value, name, made=again is not None)
    if is_py_dataset(value):  # an ImageDataGenerator's flow is an iterator without an end, too
        return _py_dataset(value, name)
    if not isinstance(value, Iterator):
        return None
    if again is None:
        value = value if isinstance(value, Started) else Started(value)
        return Source(
            kind="iterator", name=name, value=value, begin=lambda: value, length=None, endless=None
        )
    return Source(
        kind="generator",
        name=f"the generator {name}",
        value=again,
        begin=_each_anew(value, again),
        length=None,
        endless=None,
    )


def _dataset(value: Any, name: str, *, made: bool) -> Source:
    length = int(value.cardinality())
    return Source(
        kind="dataset",
        name=f"the dataset of {name}",
        value=value,
        begin=value.as_numpy_iterator,
        length=length if length >= 0 else None,
        endless="its cardinality is infinite" if length == -1 else None,
        made=made,
    )


def _py_dataset(value: Any, name: str) -> Source:
    called = f"the PyDataset {type(value).__name__} of {name}"
    with user_code.blamed(called):
        length = value.num_batches

    def begin() -> Iterator[Any]:
        index = 0
        while length is None or index < length:
            yield value[index]
            index += 1

    return Source(
        kind="py_dataset",
        name=called,
        value=value,
        begin=begin,
        length=length,
        endless="its num_batches is None" if length is None else None,
    )


def _each_anew(first: Iterator[Any], again: Callable[[], Any]) -> Callable[[], Iterator[Any]]:
    """Gives the iterator that the function has returned already, and then others of it."""
    waiting = [first]

    def begin() -> Iterator[Any]:
        found: Iterator[Any] = waiting.pop() if waiting else again()
        return found

    return begin
