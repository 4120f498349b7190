"""KerasTuner's hyperparameters, for a function of the user's that takes them."""

from __future__ import annotations

import functools
import tempfile
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import keras_tuner
from keras_tuner.engine.base_tuner import BaseTuner

from orchestrator.config import user_code
from orchestrator.config.schema import Config

_BUILDS = 5
"""So many models in a row that ask for nothing new end the looking."""
_MOST_BUILDS = 30


def having(values: Mapping[str, Any]) -> keras_tuner.HyperParameters:
    """Hyperparameters of these values, and their defaults for all others."""
    found = keras_tuner.HyperParameters()
    found.values = dict(values)
    return found


def explore(config: Config) -> tuple[dict[str, Any], ...]:
    """Every hyperparameter that the user's function asks for, those of conditional scopes too.

    Args:
        config: the config; the values that it gives are the defaults.

    Returns:
        As KerasTuner writes them, `{class_name, config}`; empty where no function takes any.

    Raises:
        InvalidError: there is no such function, or it does not take the arguments.
        UserCodeError: it raised.
    """
    builder = user_code.factory(config)
    if builder is None or builder.hyperparameters is None:
        return ()
    build = functools.partial(builder.function, **builder.kwargs)
    oracle = keras_tuner.oracles.RandomSearchOracle(
        objective=keras_tuner.Objective("cost", "min"), seed=1
    )
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        with user_code.blamed(builder.name):
            # Its constructor builds models until every conditional scope was met.
            BaseTuner(oracle, lambda hp: build(hp=hp), directory=folder)
            _discover(oracle, build)
    hyperparameters = oracle.get_space()
    found: list[dict[str, Any]] = hyperparameters.get_config()["space"]
    for each, parameter in zip(found, hyperparameters.space, strict=True):
        if each["class_name"] != "Fixed":
            default = builder.hyperparameters.get(parameter.name, parameter.default)
            each["config"]["default"] = default
    return tuple(found)


def _discover(oracle: keras_tuner.Oracle, build: Callable[..., Any]) -> None:
    """Find what the function asks for under other values, as `for i in range(hp.Int("layers", …))`.

    KerasTuner itself finds that in the trials; here they are made in other processes.
    """
    tried = 0
    for count in range(_MOST_BUILDS):
        hp = oracle.get_space()
        before = len(hp.space)
        for each in hp.space:
            hp.values[each.name] = _greatest(each) if count == 0 else each.random_sample(count)
        hp.ensure_active_values()
        build(hp=hp)
        oracle.update_space(hp)
        tried = 0 if len(oracle.get_space().space) > before else tried + 1
        if tried == _BUILDS:
            return


def _greatest(parameter: Any) -> Any:
    values = list(parameter.values)
    return values[-1] if isinstance(values[0], str) else max(values)
