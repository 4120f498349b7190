"""Objects by name and arguments, as a config gives them; what Keras refuses has its key.

The name may be Keras's, or that of a function or class of the user's; `retrain` may have been given
the very object.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import keras

from orchestrator.config import user_code
from orchestrator.config.schema import Config
from orchestrator.config.sections.base import REFERENCE
from orchestrator.config.sections.model import Named, is_given
from orchestrator.config.yaml12 import Key
from orchestrator.errors import InvalidError, Problem, describe_error, suggestion

_NESTED = (
    ("initializer", keras.initializers),
    ("regularizer", keras.regularizers),
    ("constraint", keras.constraints),
    ("activation", keras.layers),
    ("learning_rate", keras.optimizers.schedules),
    ("optimizer", keras.optimizers),
    ("layer", keras.layers),
    ("cell", keras.layers),
)
"""Where an argument's `{Name: {argument: value}}` is looked up, by how the argument's name ends."""
_BY_NAME = (
    ("activation", keras.activations),
    ("initializer", keras.initializers),
    ("regularizer", keras.regularizers),
    ("constraint", keras.constraints),
)
"""Where an argument's text is looked up, by how the argument's name ends."""
_FUNCTIONS = "schedule|on_.*"
"""Arguments of callbacks that Keras calls, as those of LearningRateScheduler and LambdaCallback."""
_KINDS = {
    keras.layers: "layer",
    keras.losses: "loss",
    keras.metrics: "metric",
    keras.optimizers: "optimizer",
    keras.optimizers.schedules: "learning rate schedule",
    keras.initializers: "initializer",
    keras.regularizers: "regularizer",
    keras.constraints: "constraint",
    keras.callbacks: "callback",
}
"""What the objects of a module are called."""
_BASES = {
    keras.optimizers: keras.optimizers.Optimizer,
    keras.optimizers.schedules: keras.optimizers.schedules.LearningRateSchedule,
    keras.callbacks: keras.callbacks.Callback,
}
"""What an object of the user's must be to be used for one of a module."""
_OBJECTS = (keras.losses.Loss, keras.metrics.Metric, keras.Layer, *_BASES.values())
"""What is used as it is, although it can be called."""


def make(module: ModuleType, named: Named, key: Key, config: Config) -> Any:
    """An object by name and arguments; a string alone where Keras takes one.

    Args:
        module: the module of Keras's that its name is looked up in.
        named: the name, of Keras's or as `package.module:name`, or what `retrain` was given.
        key: where it stands in the config.
        config: the config.

    Returns:
        A fresh object, or a function of the user's where Keras takes one.

    Raises:
        InvalidError: there is none of the name, or it does not take the arguments.
        UserCodeError: the user's own function or class raised.
    """
    arguments = _arguments(module, named, key, config)
    if named.given is not None:
        return _used(module, _given(key, config), {}, key, config, named.given)
    if ":" in named.name:
        own = user_code.find(named.name, config, key=key)
        return _used(module, own, arguments, key, config, named.name)
    found = getattr(module, "InputLayer" if named.name == "Input" else named.name, None)
    if hasattr(module, "get") and not inspect.isclass(found):
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
        problem = config.problem(key, f"Keras has no {kind} {named.name!r}", hint)
        raise InvalidError([problem, *_misnamed(arguments, key, config).values()])
    try:
        return found(**arguments)
    except Exception as error:
        raise InvalidError(_refused(found, arguments, key, config, error)) from error


def _given(key: Key, config: Config) -> Any:
    """What `retrain` was given at a key."""
    try:
        return config.given.object(key)
    except (KeyError, ValueError) as error:
        message = "what retrain() was given in Python is not in this record"
        raise InvalidError([config.problem(key, message, "call retrain() again")]) from error


def _used(
    module: ModuleType, own: Any, arguments: dict[str, Any], key: Key, config: Config, what: str
) -> Any:
    """What the user's own class, function or object gives: a class is made an object of.

    A function that needs no argument, or is given some, returns what is to be used; any other is
    used itself, as a loss is, or a rate that Keras asks for at every step.
    """
    found = own
    base = _BASES.get(module)
    wanted = isinstance(own, type) or bool(arguments) or _needs_nothing(own)
    if not isinstance(own, _OBJECTS) and (wanted or module is keras.callbacks):
        user_code.check_arguments(own, arguments, config, key=key)
        with user_code.blamed(f"the {_KINDS[module]} {what}"):
            found = own(**arguments)
    if module is keras.optimizers.schedules and not isinstance(found, base or ()):
        found = own  # a function that returns the rate
    elif base is not None and not isinstance(found, base):
        received = type(found).__name__
        message = f"expected a Keras {_KINDS[module]} or what returns one, received {received}"
        raise InvalidError([config.problem(key, message)])
    return found


def _needs_nothing(function: Any) -> bool:
    """Whether it can be called without an argument, which no loss or metric can."""
    try:
        inspect.signature(function).bind()
    except (TypeError, ValueError):
        return False
    return True


def _arguments(module: ModuleType, named: Named, key: Key, config: Config) -> dict[str, Any]:
    """The arguments of an object, each as `_argument` makes it."""
    found: dict[str, Any] = {}
    problems: list[Problem] = []
    for name, value in named.arguments.items():
        try:
            found[name] = _argument(module, name, value, (*key, name), config)
        except InvalidError as error:
            problems.extend(error.problems)
    if problems:
        raise InvalidError(problems)
    return found


def _argument(within: ModuleType, name: str, value: Any, key: Key, config: Config) -> Any:
    """An argument's value, with `{Name: {…}}` made into the object where Keras expects one."""
    is_reference = isinstance(value, str) and re.match(REFERENCE, value) is not None
    if is_reference and within is keras.callbacks and re.fullmatch(_FUNCTIONS, name):
        return user_code.find(value, config, key=key)
    module = next((module for ending, module in _NESTED if name.endswith(ending)), None)
    if module is None:
        return value
    if is_given(value) or is_reference:
        return make(module, Named.model_validate(value), key, config)
    if not isinstance(value, Mapping) or len(value) != 1:
        return value
    ((inner, arguments),) = value.items()
    if not isinstance(inner, str) or not (arguments is None or isinstance(arguments, Mapping)):
        return value
    return make(module, Named.model_validate({inner: arguments}), (*key, inner), config)


def _class_of_alias(module: ModuleType, name: str) -> type | None:
    """The class behind a lower-case name such as `adam`, or a short one such as `mse`."""
    known = module.get(name)  # a function, of `mse` mean_squared_error, or an object
    own = getattr(known, "__name__", type(known).__name__)
    classes = (alias for alias, value in vars(module).items() if inspect.isclass(value))
    folded = {alias.casefold(): alias for alias in classes}
    matches = (folded.get(each.replace("_", "").casefold()) for each in (name, own))
    match = next(filter(None, matches), None)
    return getattr(module, match) if match else None


def _names(module: ModuleType) -> list[str]:
    """Names of a module's classes, or functions, and the short ones that some losses have."""
    if module is keras.activations:
        return [name for name, value in vars(module).items() if callable(value)]
    short = ["mse", "mae", "mape", "msle", "bce"] if module in (keras.losses, keras.metrics) else []
    return [*short, *(name for name, value in vars(module).items() if inspect.isclass(value))]


def _refused(
    made: type, arguments: Mapping[str, Any], key: Key, config: Config, error: Exception
) -> list[Problem]:
    """What Keras says of the arguments, and the names in them that it does not know.

    It stops at the first mistake, and tells of no other.
    """
    misnamed = _misnamed(arguments, key, config)
    message = describe_error(error)
    if any(str(arguments[name]) in message for name in misnamed):
        return [*misnamed.values()]
    return [_fault(made, arguments, key, config, message), *misnamed.values()]


def _misnamed(arguments: Mapping[str, Any], key: Key, config: Config) -> dict[str, Problem]:
    """Activations, initializers and the like by names that Keras does not have."""
    found = {}
    for name, value in arguments.items():
        module = next((each for ending, each in _BY_NAME if name.endswith(ending)), None)
        if module is None or not isinstance(value, str):
            continue
        try:
            module.get(value)
        except (ValueError, TypeError) as error:
            hint = suggestion(value, _names(module))
            found[name] = config.problem((*key, name), describe_error(error), hint)
    return found


def _fault(
    made: type, arguments: Mapping[str, Any], key: Key, config: Config, message: str
) -> Problem:
    """What Keras says of the arguments, at the argument that is unknown where one is."""
    parameters = inspect.signature(made).parameters
    for name in arguments:
        if name not in parameters and name in message:
            valid = [parameter for parameter in parameters if parameter != "kwargs"]
            text = f"{made.__name__} has no argument {name!r}"
            return config.problem((*key, name), text, suggestion(name, valid))
        if f"`{name}`" in message:
            return config.problem((*key, name), f"{made.__name__}: {message}")
    return config.problem(key, f"{made.__name__}: {message}")
