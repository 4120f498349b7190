"""The user's own functions: found by `package.module:function`, and blamed when they raise."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import inspect
import itertools
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from orchestrator.config.schema import Config
from orchestrator.config.sections.model import FactoryModel, GivenModel
from orchestrator.config.yaml12 import Key
from orchestrator.errors import (
    InvalidError,
    OrchestratorError,
    Reporter,
    UserCodeError,
    describe_error,
    suggestion,
)

_PACKAGE = Path(__file__).parents[1]
_LIBRARIES = tuple(Path(path) for path in sys.path if "-packages" in path)
_STANDARD_LIBRARY = Path(contextlib.__file__).parent
_KERAS = ("keras", "tensorflow")
"""Libraries that take the user's model, and say what is wrong with it."""


def find(reference: str, config: Config, *, key: Key) -> Callable[..., Any]:
    """Import a function of the user's.

    Args:
        reference: `package.module:function`.
        config: the config; its base folder comes first on the import path.
        key: where the reference stands in the config, for messages.

    Returns:
        The function.

    Raises:
        InvalidError: no such module or function.
        UserCodeError: the module raised while it was imported.
    """
    module_name, _, attribute = reference.partition(":")
    if module_name == "__main__":
        message = "the script that runs is no module that an attempt could import from"
        hint = "put the function into a file of its own"
        raise InvalidError([config.problem(key, message, hint)])
    function: Any = load_module(module_name, config, key=key)
    for part in attribute.split("."):
        if not hasattr(function, part):
            hint = suggestion(part, _callables(function))
            raise InvalidError([config.problem(key, f"{module_name} has no {part!r}", hint)])
        function = getattr(function, part)
    if not callable(function) and not _is_hypermodel(function):
        received = f"expected a function, received {type(function).__name__}"
        hint = "write a function that returns it"
        raise InvalidError([config.problem(key, received, hint)])
    return function  # type: ignore[no-any-return]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Builder:
    """A function of the user's that builds the model."""

    name: str
    """How to call it in messages."""
    function: Callable[..., Any]
    """The function."""
    kwargs: dict[str, Any]
    """Its keyword arguments."""
    key: Key
    """Where the config names it."""
    hyperparameters: dict[str, Any] | None = None
    """Values of the hyperparameters that it takes as `hp`; None where it takes none."""


def factory(config: Config) -> Builder | None:
    """The user's function that builds the model; None where no function does.

    Args:
        config: the config.

    Raises:
        InvalidError: there is no such function, or it does not take the arguments.
        UserCodeError: its module raised while it was imported.
        NotSentError: it could not be made in this process.
    """
    if isinstance(config.model, GivenModel):
        found = config.given.build
        return Builder(
            name=config.model.given,
            function=_building(found),
            kwargs={},
            key=("model", "given"),
            hyperparameters=config.model.hyperparameters if takes_hyperparameters(found) else None,
        )
    if not isinstance(config.model, FactoryModel):
        return None
    plan = config.model.factory
    key = ("model", "factory")
    found = find(plan.callable, config, key=(*key, "callable"))
    takes_hp = takes_hyperparameters(found)
    asked = {"hp": None} if takes_hp and not _is_hypermodel(found) else {}
    check_arguments(found, {**plan.kwargs, **asked}, config, key=(*key, "kwargs"))
    return Builder(
        name=f"the factory {plan.callable}",
        function=_building(found),
        kwargs=dict(plan.kwargs),
        key=(*key, "callable"),
        hyperparameters=dict(plan.hyperparameters) if takes_hp else None,
    )


def takes_hyperparameters(found: Any) -> bool:
    """Whether it is a `keras_tuner.HyperModel`, or a function with an argument `hp`."""
    if _is_hypermodel(found):
        return True
    try:
        return "hp" in inspect.signature(found).parameters
    except (TypeError, ValueError):
        return False


def _is_hypermodel(found: Any) -> bool:
    """Whether it is one, or a class of them, without KerasTuner, which takes seconds to import."""
    return hasattr(found, "declare_hyperparameters") and hasattr(found, "build")


def _building(found: Any) -> Callable[..., Any]:
    """What builds the model."""
    if not _is_hypermodel(found):
        return found  # type: ignore[no-any-return]
    if inspect.isclass(found):
        made: Any = found
        return lambda hp, **kwargs: made(**kwargs).build(hp)
    return found.build  # type: ignore[no-any-return]


def load_module(name: str, config: Config, *, key: Key) -> ModuleType:
    """Import a module of the user's.

    Args:
        name: its dotted name.
        config: the config; its base folder comes first on the import path.
        key: where the name stands in the config, for messages.

    Returns:
        The module.

    Raises:
        InvalidError: there is none.
        UserCodeError: it raised while it was imported.
    """
    if config.base not in sys.path:
        sys.path.insert(0, config.base)
    try:
        with blamed(f"the module {name}"):
            return importlib.import_module(name)
    except UserCodeError as error:
        missing = error.__cause__
        if isinstance(missing, ModuleNotFoundError) and _is_part(missing.name, name):
            hint = f"modules are looked up from {config.base}"
            problem = config.problem(key, f"there is no module {missing.name!r}", hint)
            raise InvalidError([problem]) from error
        raise


def _callables(holder: Any) -> list[str]:
    """Public names of what can be called in a module or class."""
    names = [name for name in dir(holder) if not name.startswith("_")]
    return [name for name in names if callable(getattr(holder, name, None))]


def check_arguments(function: Any, kwargs: Mapping[str, Any], config: Config, *, key: Key) -> None:
    """Refuse keyword arguments that a function does not take, or lacks, before it is called.

    Args:
        function: the user's function.
        kwargs: what it will be called with.
        config: the config.
        key: where the arguments stand in the config, for messages.

    Raises:
        InvalidError: the arguments do not fit the function's signature.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # functions written in C need not have one
        return
    try:
        signature.bind(**kwargs)
    except TypeError as error:
        unknown = [name for name in kwargs if name not in signature.parameters]
        hint = suggestion(unknown[0], list(signature.parameters)) if unknown else None
        raise InvalidError([config.problem(key, f"the function has {error}", hint)]) from error


@contextlib.contextmanager
def blamed(what: str) -> Iterator[None]:
    """Turn what is raised inside into a `UserCodeError` that says where.

    Args:
        what: what was called, for the message.
    """
    try:
        yield
    except OrchestratorError:
        raise
    except BaseException as error:  # whatever the user's code raises is the user's
        if not is_fault(error):
            raise
        raise UserCodeError(f"{what} raised {describe(error)}") from error


@contextlib.contextmanager
def refused(reporter: Reporter, key: Key, what: str) -> Iterator[None]:
    """Turn what Keras or TensorFlow object to inside into a problem of the user's model.

    What the user's own code raises becomes a `UserCodeError`; what is our own fault stays.

    Args:
        reporter: knows the place of a problem.
        key: that place.
        what: what is refused, for the message, as in `the model does not take inputs`.

    Raises:
        InvalidError: with the whole of what they say.
    """
    try:
        yield
    except OrchestratorError:
        raise
    except BaseException as error:
        origin = _origin(error) if is_fault(error) else None
        if origin == "keras":
            message = f"{what}: {describe_error(error)}{_place(error)}"
            raise InvalidError([reporter.problem(key, message)]) from error
        if origin == "user":
            raise UserCodeError(f"your code raised {describe(error)}") from error
        raise


def is_fault(error: BaseException) -> bool:
    """Whether somebody's code has raised it, not Ctrl-C, nor a generator that is put aside."""
    if isinstance(error, KeyboardInterrupt):
        # In a worker, and while a run is made, Ctrl-C raises none.
        return signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    return not isinstance(error, GeneratorExit)


def raised_in_user_code(error: BaseException) -> bool:
    """Whether a frame of the traceback is in neither a library nor the standard library."""
    return _user_frame(error) is not None


def describe(error: BaseException) -> str:
    """The exception with its message, and the place in the user's code where it came up."""
    name, said = type(error).__name__, describe_error(error)
    return (said if said.startswith(name) else f"{name}: {said}") + _place(error)


def _place(error: BaseException) -> str:
    """The place in the user's code where an exception came up; empty where it did not."""
    frame = _user_frame(error)
    return f" ({frame.filename}:{frame.lineno}, in {frame.name})" if frame else ""


def _user_frame(error: BaseException) -> traceback.FrameSummary | None:
    """The innermost frame that is the user's own."""
    frames = traceback.extract_tb(error.__traceback__)
    return next((frame for frame in reversed(frames) if _owner(frame) == "user"), None)


def _origin(error: BaseException) -> str | None:
    """Whose code raised, of `user`, `keras` and `ours`; a helper's faults are its caller's."""
    owners = [_owner(frame) for frame in traceback.extract_tb(error.__traceback__)]
    called = [*itertools.dropwhile(lambda owner: owner in ("ours", None), owners)]
    if "ours" in called:  # a callback of ours, whatever it called
        return "ours"
    return next((owner for owner in reversed(called) if owner is not None), "ours")


def _owner(frame: traceback.FrameSummary) -> str | None:
    """Whose a frame is; None for those of other libraries, which are called by all."""
    path = Path(frame.filename)
    if path.is_relative_to(_PACKAGE):
        return "ours"
    for folder in (*_LIBRARIES, _STANDARD_LIBRARY):
        if path.is_relative_to(folder):
            return "keras" if path.relative_to(folder).parts[0] in _KERAS else None
    generated = path.name.startswith("__autograph_generated_file")  # TensorFlow's own copies
    # The cells of a notebook are files that only its kernel knows.
    return "user" if not generated and (path.is_file() or "ipykernel" in path.as_posix()) else None


def _is_part(name: str | None, module_name: str) -> bool:
    return name is not None and (module_name == name or module_name.startswith(f"{name}."))
