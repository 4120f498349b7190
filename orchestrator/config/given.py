"""What `retrain` is given in Python, and how it reaches the process that trains.

A function goes by cloudpickle, which sends those of a script or notebook by value; arrays go
through files, so that a worker reads them without a copy through a pipe.
"""

from __future__ import annotations

import dataclasses
import mmap
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import optree

from orchestrator.config import given_code
from orchestrator.config.yaml12 import Key
from orchestrator.errors import NotSentError

CODE = "the given "
"""How the name of something begins whose digest is in `Sent.code`."""
Values = tuple[Any, Any, Any]
"""x, y and sample weights, as the caller has them."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Given:
    """A model's function and the rows, in the caller's own process."""

    build: Callable[..., Any]
    """Returns a model."""
    train: Values
    """Training rows."""
    validation: Values | None
    """Validation rows, where they are given."""
    objects: Mapping[Key, Any] = dataclasses.field(default_factory=dict)
    """What no config can say, by its key: functions and classes as they are, objects as bytes."""

    def object(self, key: Key) -> Any:
        """The function or class at a key, or a fresh copy of the object there.

        Raises:
            KeyError: there is none.
            NotSentError: this process cannot make it.
        """
        return _made(self.objects[key])

    def rows(self, part: str) -> Values:
        """The values of `train` or `validation`."""
        values: Values = getattr(self, part)
        return values


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Sent:
    """The same on its way to another process."""

    function: bytes
    """The model's function, by cloudpickle."""
    parts: dict[str, Any]
    """The rows with every array replaced by its file."""
    objects: Mapping[Key, bytes]
    """What no config can say, by its key."""
    code: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Digest of the function and of each function and class among the objects; see `code_of`.

    Empty where nothing goes on with what was given, as after `retrain`.
    """

    @property
    def build(self) -> Callable[..., Any]:
        """The model's function.

        Raises:
            NotSentError: this process cannot make it.
        """
        found: Callable[..., Any] = _made(self.function)
        return found

    def object(self, key: Key) -> Any:
        """See `Given.object`."""
        return _made(self.objects[key])

    def rows(self, part: str) -> Values:
        """The values of `train` or `validation`."""
        x, y, weight = optree.tree_map(lambda kept: kept.load(), self.parts[part])
        return x, y, weight


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _File:
    """Where an array lies."""

    path: str
    mapped: bool
    """Whether it may be larger than memory."""
    raw: tuple[str, tuple[int, ...], int] | None = None
    """Type, shape and offset in a file that is not .npy."""

    def load(self) -> Any:
        """The array, left in its file where it may be larger than memory."""
        if self.raw is not None:
            dtype, shape, offset = self.raw
            return np.memmap(self.path, dtype=dtype, mode="r", offset=offset, shape=shape)
        return np.load(self.path, mmap_mode="r" if self.mapped else None, allow_pickle=False)


@dataclasses.dataclass(frozen=True, slots=True)
class _Pickle:
    """Where what gives batches lies."""

    path: str

    def load(self) -> Any:
        """A copy of it as it was when it was sent.

        Raises:
            NotSentError: this process cannot make it.
        """
        try:
            return cloudpickle.loads(Path(self.path).read_bytes())
        except Exception as error:
            raise NotSentError(f"{type(error).__name__}: {error}") from error


def _made(value: Any) -> Any:
    """What was sent as bytes; anything else as it is."""
    if not isinstance(value, bytes):
        return value
    try:
        return cloudpickle.loads(value)
    except Exception as error:
        raise NotSentError(f"{type(error).__name__}: {error}") from error


def send(given: Given, folder: Path, dumps: Callable[[Any], bytes]) -> Sent:
    """Make what `retrain` was given ready for other processes.

    Args:
        given: the function and the rows.
        folder: gets the arrays; it must live as long as the run.
        dumps: makes bytes of functions and classes; raises `NotSentError` where it cannot.

    Returns:
        What may be pickled.

    Raises:
        NotSentError: the function or the rows cannot be sent, with the reason.
    """
    function = dumps(given.build)
    objects = {
        key: value if isinstance(value, bytes) else dumps(value)
        for key, value in given.objects.items()
    }
    parts = {}
    for part in ("train", "validation"):
        if getattr(given, part) is not None:
            parts[part] = _stored(given.rows(part), folder, part)
    return Sent(function=function, parts=parts, objects=objects)


def code_of(given: Given) -> dict[str, str]:
    """The digest of each function and class that was given, by its name for people.

    The name has Python's version, without which instructions are not comparable.
    """
    # What is there as bytes is an object, whose class alone is code: of those the config tells.
    found = {
        ".".join(map(str, key)): value
        for key, value in given.objects.items()
        if not isinstance(value, bytes)
    }
    return {
        f"{CODE}{name} ({sys.implementation.cache_tag})": given_code.digest(value)
        for name, value in {"build": given.build, **found}.items()
    }


def _stored(values: Values, folder: Path, part: str) -> Any:
    """The values with every array put into a file."""
    count = 0

    def store(value: Any) -> _File | _Pickle:
        nonlocal count
        if not isinstance(value, np.ndarray) or value.dtype == object:  # the latter holds texts
            count += 1
            return _pickled(value, folder / f"{part}-{count}")
        # A slice of a mapped array has the offset of the whole, and is copied.
        if isinstance(value, np.memmap):
            whole = isinstance(value.base, mmap.mmap)
            if whole and value.flags.c_contiguous:
                raw = (value.dtype.str, value.shape, int(value.offset))
                return _File(path=str(value.filename), mapped=True, raw=raw)
        path = folder / f"{part}-{count}.npy"
        count += 1
        np.save(path, np.asanyarray(value), allow_pickle=False)
        return _File(path=str(path), mapped=isinstance(value, np.memmap))

    tree: Any = values
    return optree.tree_map(store, tree)


def _pickled(value: Any, path: Path) -> _Pickle:
    """What gives batches, in a file.

    Raises:
        NotSentError: Python cannot send it.
    """
    try:
        path.write_bytes(cloudpickle.dumps(value))
    except Exception as error:
        raise NotSentError(f"{type(error).__name__}: {error}") from error
    return _Pickle(str(path))
