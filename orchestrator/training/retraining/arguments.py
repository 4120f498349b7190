"""The arguments that would make an object of Keras's again: all that there is to say of it.

Keras's own configs leave some of them out, and turn functions and schedules into text that only
Keras's registry makes objects of.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from orchestrator.errors import NotSentError
from orchestrator.model import keras_internals


def of(value: Any) -> dict[str, Any]:
    """The arguments of an optimizer, a schedule, a loss or a metric, without those at defaults.

    Args:
        value: the object.

    Returns:
        What its class is to be called with; schedules and functions as they are.

    Raises:
        NotSentError: its config does not say all, or cannot be had.
    """
    kind = type(value)
    parameters = inspect.signature(kind.__init__).parameters
    found = {**_config(value), **keras_internals.function_arguments(value)}
    any_name = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    given = {name: each for name, each in found.items() if any_name or name in parameters}
    for name, parameter in parameters.items():
        required = parameter.default is parameter.empty and parameter.kind not in _SEVERAL
        if required and name != "self" and name not in given and hasattr(value, name):
            given[name] = getattr(value, name)
    try:
        copy = kind(**given)
    except Exception as error:
        reason = f"{kind.__name__} cannot be made from its own get_config"
        raise NotSentError(reason) from error
    for name, parameter in parameters.items():
        if name == "self" or name in given or parameter.kind in _SEVERAL:
            continue
        if not hasattr(value, name):
            raise NotSentError(f"the config of {kind.__name__} lacks {name}")
        if not _equal(getattr(copy, name, None), getattr(value, name)):
            given[name] = getattr(value, name)
    if isinstance(value, keras.optimizers.Optimizer):
        given.pop("name", None)  # Keras counts them, and nothing goes by it
    return {name: each for name, each in given.items() if not _is_default(each, parameters, name)}


_SEVERAL = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)


def _config(value: Any) -> dict[str, Any]:
    if not isinstance(value, keras.optimizers.Optimizer):
        try:
            found = dict(value.get_config())
        except Exception as error:
            raise NotSentError(f"{type(value).__name__} has no get_config") from error
        if any(_is_serialized(each) for each in found.values()):
            raise NotSentError(f"the config of {type(value).__name__} holds objects")
        return found
    inner = getattr(value, "inner_optimizer", None)
    if inner is not None:
        return {**value.get_config(), "inner_optimizer": inner}
    return keras_internals.optimizer_config(value)


def _is_serialized(value: Any) -> bool:
    """Whether Keras has turned an object into text."""
    return isinstance(value, Mapping) and {"class_name", "config"} <= value.keys()


def _equal(one: Any, other: Any) -> bool:
    try:
        return bool(np.all(one == other))
    except Exception:  # noqa: BLE001 - what cannot be compared is not known to be equal
        return False


def _is_default(value: Any, parameters: Mapping[str, inspect.Parameter], name: str) -> bool:
    parameter = parameters.get(name)
    if parameter is None:
        return value is None
    if name == "dtype" and parameter.default is None:
        return bool(value == "float32")  # Keras's own
    return type(value) is type(parameter.default) and bool(value == parameter.default)
