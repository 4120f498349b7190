"""Keras objects by name and arguments, as a config gives them; what Keras refuses has its key."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import keras

from orchestrator.config.document import Key
from orchestrator.config.schema import Config
from orchestrator.config.sections.model import Named
from orchestrator.errors import InvalidError, Problem, describe_error, suggestion

_NESTED = (
    ("initializer", keras.initializers),
    ("regularizer", keras.regularizers),
    ("constraint", keras.constraints),
    ("activation", keras.layers),
    ("learning_rate", keras.optimizers.schedules),
    ("layer", keras.layers),
    ("cell", keras.layers),
)
"""Where an argument's `{Name: {argument: value}}` is looked up, by how the argument's name ends."""


_KINDS = {
    keras.layers: "layer",
    keras.losses: "loss",
    keras.metrics: "metric",
    keras.optimizers: "optimizer",
    keras.optimizers.schedules: "learning rate schedule",
    keras.initializers: "initializer",
    keras.regularizers: "regularizer",
    keras.constraints: "constraint",
}
"""What the objects of a module are called."""


def make(module: ModuleType, named: Named, key: Key, config: Config) -> Any:
    """An object of Keras's by name and arguments; a string alone where Keras takes one."""
    arguments = {
        name: _argument(name, value, (*key, name), config)
        for name, value in named.arguments.items()
    }
    found = getattr(module, "InputLayer" if named.name == "Input" else named.name, None)
    if module is not keras.layers and not inspect.isclass(found):
        try:
            module.get(named.name)
        except (ValueError, TypeError):
            found = None
        else:
            if not arguments:
                return named.name
            found = _class_of_alias(module, named.name)
        if named.name in ("accuracy", "acc", "crossentropy", "ce") and module is keras.metrics:
            return named.name
    if not inspect.isclass(found):
        kind = _KINDS[module]
        hint = suggestion(named.name, _names(module))
        raise InvalidError([config.problem(key, f"Keras has no {kind} {named.name!r}", hint)])
    try:
        return found(**arguments)
    except Exception as error:
        raise InvalidError([_refused(found, arguments, key, config, error)]) from error


def _argument(name: str, value: Any, key: Key, config: Config) -> Any:
    """An argument's value, with `{Name: {…}}` made into the object where Keras expects one."""
    if not isinstance(value, Mapping) or len(value) != 1:
        return value
    ((inner, arguments),) = value.items()
    if not isinstance(inner, str) or not (arguments is None or isinstance(arguments, Mapping)):
        return value
    for ending, module in _NESTED:
        if name.endswith(ending):
            named = Named.model_validate({inner: arguments})
            return make(module, named, (*key, inner), config)
    return value


def _class_of_alias(module: ModuleType, name: str) -> type | None:
    """The class behind a lower-case name such as `adam`."""
    classes = (alias for alias, value in vars(module).items() if inspect.isclass(value))
    folded = {alias.casefold(): alias for alias in classes}
    match = folded.get(name.replace("_", "").casefold())
    return getattr(module, match) if match else None


def _names(module: ModuleType) -> list[str]:
    """Names of a module's classes, and the short names that Keras knows some losses by."""
    short = ["mse", "mae", "mape", "msle", "bce"] if module in (keras.losses, keras.metrics) else []
    return [*short, *(name for name, value in vars(module).items() if inspect.isclass(value))]


def _refused(
    made: type, arguments: Mapping[str, Any], key: Key, config: Config, error: Exception
) -> Problem:
    """What Keras says of the arguments, at the argument that is unknown where one is."""
    parameters = inspect.signature(made).parameters
    message = describe_error(error)
    for name, value in arguments.items():
        if name not in parameters and name in message:
            valid = [parameter for parameter in parameters if parameter != "kwargs"]
            text = f"{made.__name__} has no argument {name!r}"
            return config.problem((*key, name), text, suggestion(name, valid))
        if f"`{name}`" in message:
            return config.problem((*key, name), f"{made.__name__}: {message}")
        if name.endswith("activation") and isinstance(value, str) and repr(value)[1:-1] in message:
            valid = [name for name, known in vars(keras.activations).items() if callable(known)]
            return config.problem((*key, name), message, suggestion(value, valid))
    return config.problem(key, f"{made.__name__}: {message}")
