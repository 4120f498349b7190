"""What `retrain` is given in Python as a config can hold it.

Numbers of NumPy's become Python's, Keras's own objects `{Class: arguments}`, from which every
attempt makes them anew. What no config can say, such as a function or a class of the user's own, is
kept beside it under its key; the config says what it was, for the record.
"""

from __future__ import annotations

import functools
import inspect
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.config.sections.base import REFERENCE
from orchestrator.config.yaml12 import Key
from orchestrator.errors import InvalidError, NotSentError, Problem, short
from orchestrator.training.retraining import pickling

NAME = "retrain(…)"
"""How the call is named where a config's file would be."""
_PLACES = {"optimizer", "loss", "metrics", "weighted_metrics", "callbacks"}
"""Keys of `compile` and `fit` under which objects may stand."""
_MAX_VALUES = 1000
"""Numbers of an array that a config holds; more are data."""
_MAX_SHOWN = 60
"""Characters of an argument that stands in a description."""


class Plain:
    """Makes what `retrain` is given plain, and keeps what cannot be."""

    def __init__(self) -> None:
        self.kept: dict[Key, Any] = {}
        """What no config can say, by its key: functions and classes as they are, objects as bytes,
        of which every attempt gets a copy of its own."""

    def of(self, value: Any, key: Key) -> Any:
        """What a config can hold.

        Args:
            value: the value of a key, or a part of one.
            key: where it stands.

        Raises:
            InvalidError: neither can a config hold it nor an attempt get it.
        """
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, str):
            return self._text(value, key)
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, os.PathLike):
            return os.fspath(value)
        if isinstance(value, Mapping):
            if value.keys() >= {"class_name", "config"} and set(key[:2]) & _PLACES:
                value = {value["class_name"]: value["config"]}  # as Keras serializes an object
            return {_name(name): self.of(each, (*key, _name(name))) for name, each in value.items()}
        if isinstance(value, list | tuple | set | frozenset | range):
            return [self.of(each, (*key, index)) for index, each in enumerate(value)]
        numbers = _numbers(value)
        if numbers is not None:
            return numbers
        if isinstance(value, np.ndarray) or not set(key[:2]) & _PLACES:
            message = f"expected what a config can hold, received {short(value)}"
            raise InvalidError([problem(key, message)])
        return self._object(value, key)

    def _text(self, value: str, key: Key) -> Any:
        """A text; what the script that runs defines is taken from it: no attempt imports that."""
        module, _, name = value.partition(":")
        if not set(key[:2]) & _PLACES or not re.match(REFERENCE, value) or not _runs(module):
            return value
        try:
            found = functools.reduce(getattr, name.split("."), sys.modules["__main__"])
        except AttributeError as error:
            message = f"the script that runs has no {name!r}"
            raise InvalidError([problem(key, message, "give the function itself")]) from error
        return self._object(found, key)

    def _object(self, value: Any, key: Key) -> Any:
        """An object, class or function, by Keras's name for it or kept."""
        home = _home(key)
        named = _named(value, home)
        if named is not None:
            return named
        if not isinstance(value, type) and type(value).__module__.startswith("keras."):
            made = self._described(value, home, key)
            if made is not None:
                return made
        if not _is_code(value):
            value, text = _copied(value, key), describe(value)
        else:
            text = describe(value)
        self.kept[key] = value
        return {"given": text}

    def _described(self, value: Any, home: Any, key: Key) -> Any:
        """An object of Keras's as `{Class: arguments}`; None where that does not say all of it."""
        from orchestrator.training.retraining import arguments  # noqa: PLC0415 - imports Keras

        name = type(value).__name__
        if getattr(home, name, None) is not type(value) or not hasattr(value, "get_config"):
            return None
        try:
            given = arguments.of(value)
        except NotSentError:
            return None
        inner = {argument for argument, each in given.items() if not _is_plain(each)}
        if inner - {"learning_rate"}:
            return None
        plain = {each: self.of(found, (*key, name, each)) for each, found in given.items()}
        return {name: plain} if plain else name


def problem(key: Key, message: str, hint: str | None = None) -> Problem:
    """A problem with an argument of `retrain`."""
    return Problem(file=NAME, key=".".join(map(str, key)), message=message, hint=hint)


def describe(value: Any) -> str:
    """What a function, class or object is, for the record: its name, module and arguments."""
    if isinstance(value, functools.partial):
        named = (f"{name}={_shown(each)}" for name, each in value.keywords.items())
        given = [*map(_shown, value.args), *named]
        return f"{describe(value.func)} with {', '.join(map(_cut, given))}"
    kind = value if isinstance(value, type) or hasattr(value, "__qualname__") else type(value)
    module = ".".join(part for part in kind.__module__.split(".")[:3] if part != "src")
    name = f"{module if module.startswith('keras.') else kind.__module__}.{kind.__qualname__}"
    if isinstance(value, type):
        return f"class {name}"
    if kind is value:
        return f"function {name}"
    parameters = inspect.signature(kind.__init__).parameters
    held = {name: getattr(value, name, None) for name in parameters}
    shown = (f"{name}={_shown(each)}" for name, each in held.items() if _is_short(each))
    return f"{name}({', '.join(map(_cut, shown))})"


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 1]}…"


def _shown(value: Any) -> str:
    if callable(value):
        return describe(value)
    return repr(value.item() if isinstance(value, np.generic) else value)


def _is_short(value: Any) -> bool:
    return isinstance(value, str | bool | int | float | np.generic)


def _name(name: Any) -> Any:
    """A key of a mapping: a text, or the number of a class."""
    name = name.item() if isinstance(name, np.generic) else name
    return name if isinstance(name, int) else str(name)


def _numbers(value: Any) -> Any:
    """The numbers of a small array or tensor; None for anything else."""
    if not isinstance(value, np.ndarray) and hasattr(value, "numpy") and hasattr(value, "shape"):
        value = np.asarray(value.numpy())
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufU" and value.size <= _MAX_VALUES:
        return value.tolist()
    return None


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(_is_plain, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | bool | int | float | np.generic | np.ndarray)


def _is_code(value: Any) -> bool:
    """Whether it is a function or class, which has nothing to copy for each attempt."""
    return (
        isinstance(value, type) or inspect.isroutine(value) or isinstance(value, functools.partial)
    )


def _copied(value: Any, key: Key) -> bytes:
    """An object as it is now, for a copy in each attempt."""
    try:
        return pickling.dumps(value)
    except NotSentError as error:
        message = f"{type(value).__name__} cannot be copied for each attempt: {error}"
        hint = "give a function that returns one"
        raise InvalidError([problem(key, message, hint)]) from error


def _runs(module: str) -> bool:
    """Whether a module is the script that runs."""
    if module == "__main__":
        return True
    file = getattr(sys.modules["__main__"], "__file__", None)
    return file is not None and module not in sys.modules and Path(file).stem == module


def _home(key: Key) -> Any:
    """The module of Keras's that the objects at a key are named in."""
    import keras  # noqa: PLC0415 - the caller has imported it, or imports it now

    if key[-1] == "learning_rate":
        return keras.optimizers.schedules
    homes = {"optimizer": keras.optimizers, "loss": keras.losses, "callbacks": keras.callbacks}
    return homes.get(str(key[1]), keras.metrics)


def _named(value: Any, home: Any) -> str | None:
    """Keras's own name of a class or function; None where it has none."""
    name = getattr(value, "__name__", None)
    if name is None or not getattr(value, "__module__", "").startswith("keras."):
        return None
    return name if getattr(home, name, None) is value else None
