"""The state of callbacks and generators as plain JSON and arrays, of which reading runs no code."""

from __future__ import annotations

import collections
import datetime
import dis
import enum
import logging
import pathlib
import random
import re
import types
from collections.abc import Iterator, Mapping, MutableMapping, Sequence, Set
from typing import Any

import keras
import numpy as np

from orchestrator.diagnosis.watch.gradients import GradientWatch
from orchestrator.model.keras_internals import is_of_keras

Arrays = MutableMapping[str, np.ndarray[Any, Any]]
"""Arrays by the names that the JSON has in their place."""

_KERAS_OWN = ("_model", "params", "validation_data")
"""Attributes that Keras gives a callback anew with every `fit`."""
_CONSTANTS = (
    type,
    types.ModuleType,
    np.ufunc,
    type(np.mean),
    pathlib.PurePath,
    datetime.date,
    datetime.timedelta,
    re.Pattern,
    enum.Enum,
    logging.Logger,
    GradientWatch,
)
"""What a callback holds and a snapshot need not: it never changes, or is kept with the model."""
_WITH_VARIABLES = (keras.Model, keras.Layer, keras.optimizers.Optimizer)
"""What is kept with the model where it is the model, or shares all its variables with it."""


_EMPTY = types.CellType()
_SCALARS = {type(None), bool, int, float, str}


class OpaqueError(Exception):
    """A value that is neither plain data nor known to be constant."""


def pack(value: Any, arrays: Arrays) -> Any:
    """The value as JSON, with its arrays put aside.

    Args:
        value: plain data: scalars, text, arrays and containers of such.
        arrays: gets the arrays as they are, uncopied.

    Raises:
        OpaqueError: it is something else.
    """
    if type(value) in _SCALARS:
        return value
    if isinstance(value, np.ndarray | np.generic) and value.dtype.hasobject is False:
        name = f"s{len(arrays)}"
        arrays[name] = np.asarray(value)
        return {"array" if isinstance(value, np.ndarray) else "scalar": name}
    kind = type(value)
    if kind is list:
        if {*map(type, value)} <= _SCALARS:  # it may have one for every step
            return [*value]
        return [pack(each, arrays) for each in value]
    if kind in (tuple, set, frozenset):
        return {kind.__name__: [pack(each, arrays) for each in value]}
    if kind is collections.deque:
        return {"deque": [pack(each, arrays) for each in value], "maxlen": value.maxlen}
    if kind in (dict, collections.OrderedDict):
        return {"dict": [[pack(k, arrays), pack(v, arrays)] for k, v in value.items()]}
    raise OpaqueError(f"{kind.__module__}.{kind.__qualname__}")


def unpack(value: Any, arrays: Mapping[str, np.ndarray[Any, Any]]) -> Any:
    """What was packed."""
    if isinstance(value, list):
        return [unpack(each, arrays) for each in value]
    if not isinstance(value, dict):
        return value
    match value:
        case {"array": name}:
            return arrays[name].copy()
        case {"scalar": name}:
            return arrays[name][()]
        case {"tuple": items}:
            return tuple(unpack(items, arrays))
        case {"set": items}:
            return set(unpack(items, arrays))
        case {"frozenset": items}:
            return frozenset(unpack(items, arrays))
        case {"deque": items, "maxlen": length}:
            return collections.deque(unpack(items, arrays), length)
        case {"dict": pairs}:
            return {unpack(key, arrays): unpack(item, arrays) for key, item in pairs}
    raise ValueError(f"expected packed data, received the keys {', '.join(value)}")


def pack_callbacks(
    callbacks: Sequence[keras.callbacks.Callback], arrays: Arrays, variables: Sequence[Any]
) -> Any:
    """The attributes of callbacks, those left out that never change.

    Args:
        callbacks: the callbacks.
        arrays: gets the arrays.
        variables: those that are kept with the model.

    Raises:
        OpaqueError: one of the user's holds something else; the message says which.
    """
    kept = {id(each) for each in variables}
    found = []
    for callback in callbacks:
        attributes = {}
        for name, value in vars(callback).items():
            if name in _KERAS_OWN or _is_constant(value, {*kept, id(callback)}):
                continue
            try:
                attributes[name] = pack(value, arrays)
            except OpaqueError as error:
                if is_of_keras(callback) and not callable(value):
                    continue  # writers and the like: Keras makes them anew
                told = f"is an object of {error}"
                if isinstance(value, types.FunctionType):
                    told = "is a function that may change what it refers to of an outer one"
                raise OpaqueError(f"{type(callback).__name__}.{name} {told}") from error
        found.append(attributes)
    return found


def _is_constant(value: Any, kept: Set[int]) -> bool:
    """Whether a value never changes, or is kept with the model.

    Args:
        value: what a callback holds.
        kept: ids of what is kept with the model, and of what is looked at already.
    """
    if id(value) in kept or isinstance(value, _CONSTANTS):
        return True
    if isinstance(value, _WITH_VARIABLES):
        return all(id(each) in kept for each in value.variables)
    if isinstance(value, types.MethodType | types.BuiltinFunctionType):
        return value.__self__ is None or _is_constant(value.__self__, kept)
    if isinstance(value, types.FunctionType):
        names, cells = value.__code__.co_freevars, value.__closure__ or ()
        held = [each.cell_contents for each in cells if each != _EMPTY]
        changed = {*names} & {*_assigned(value.__code__)}
        return not changed and all(_is_fixed(each, {*kept, id(value)}) for each in held)
    return False


def _is_fixed(value: Any, kept: Set[int]) -> bool:
    """Whether what a function refers to, and does not assign, stays the same."""
    if type(value) in (tuple, frozenset):
        return all(_is_fixed(each, kept) for each in value)
    return type(value) in (*_SCALARS, bytes, complex) or _is_constant(value, kept)


def _assigned(code: types.CodeType) -> Iterator[str]:
    """Names of outer functions that code assigns."""
    for each in dis.get_instructions(code):
        if each.opname == "STORE_DEREF":
            yield str(each.argval)
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield from _assigned(inner)


def unpack_callbacks(
    packed: Any,
    callbacks: Sequence[keras.callbacks.Callback],
    arrays: Mapping[str, np.ndarray[Any, Any]],
) -> None:
    """Give callbacks the attributes that they had."""
    for callback, attributes in zip(callbacks, packed, strict=True):
        # What an attempt goes on from may be another one, which has a folder of its own.
        if isinstance(callback, keras.callbacks.TensorBoard):
            continue
        vars(callback).update({name: unpack(value, arrays) for name, value in attributes.items()})


def pack_generators(arrays: Arrays) -> Any:
    """The state of Python's and NumPy's global generators, from which the user's code may draw."""
    return {
        "python": pack(random.getstate(), arrays),
        "numpy": pack(np.random.get_state(), arrays),
    }


def unpack_generators(packed: Any, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Set both generators."""
    random.setstate(unpack(packed["python"], arrays))
    np.random.set_state(unpack(packed["numpy"], arrays))
