"""KerasTuner: its oracles choose the values, and its tuner goes from trial to trial.

The only module that imports KerasTuner, and TensorFlow with it; it is imported when the first runs
are on their way. KerasTuner's files are written for its own tools. Nothing is read from them: a
search that goes on gives its oracle the recorded trials again, in the same order, and the oracle,
which draws from the same seed, arrives where it was.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import shutil
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras_tuner
from keras_tuner.engine.base_tuner import BaseTuner
from keras_tuner.engine.trial import Trial
from keras_tuner.errors import FailedTrialError, FatalError
from keras_tuner.src import config as keras_tuner_config

from orchestrator.record.search import Objective, Parameter

_BUDGET = "tuner/epochs"
"""Where KerasTuner's Hyperband writes what a trial may spend: here, base seeds."""
_COLLISIONS = 2000
"""Draws of values that were tried before, after which the space counts as exhausted; KerasTuner's
20 end a random search early."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What an oracle needs to know of a search."""

    tuner: str
    """Which oracle: random, bayesian, hyperband or grid."""
    objective: Objective
    """What is optimised."""
    space: Sequence[Parameter]
    """What is searched."""
    asked: Sequence[Mapping[str, Any]] = ()
    """Hyperparameters of the user's model, as KerasTuner writes them."""
    base: Mapping[str, Any] | None
    """Values of the base config, which are tried first; None where the space does not have them."""
    max_trials: int
    """How many trials it may choose."""
    seeds: int
    """Base seeds of a whole trial."""
    seed: int
    """Seed of its draws, at least 1."""
    folder: Path
    """Gets KerasTuner's files; emptied first."""


class TrialFailedError(Exception):
    """A trial that has no score; the search goes on."""


Measure = Callable[[Mapping[str, Any], int], tuple[Mapping[str, Any], float]]
"""Tries values on so many seeds; returns the values that were tried and their score."""


def search(plan: Plan, measure: Measure) -> None:
    """Try what the oracle chooses, until it has no more or all trials are made.

    Args:
        plan: the search.
        measure: makes a trial. It raises `TrialFailedError` where one has no score; whatever else
            it raises ends the search, and comes out here.
    """
    shutil.rmtree(plan.folder, ignore_errors=True)
    with warnings.catch_warnings():
        keras_tuner_config.DEBUG = False  # which prints the traceback of a trial that failed
        # It calls threading.currentThread with every trial.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        oracle = _oracle(plan)
        oracle.verbose = 0
        _begin_with(oracle, plan.base)
        tuner = _Tuner(oracle, plan, measure)
        try:
            tuner.search()
        except FatalError as error:
            raise error.__cause__ or error from None


class _Tuner(BaseTuner):  # type: ignore[misc]
    """A KerasTuner tuner whose trial is a set of whole runs."""

    def __init__(self, oracle: keras_tuner.Oracle, plan: Plan, measure: Measure) -> None:
        self._plan = plan
        self._measure = measure
        super().__init__(oracle, directory=str(plan.folder.parent), project_name=plan.folder.name)

    def run_trial(self, trial: Trial, *args: Any, **kwargs: Any) -> float:
        """Make the runs of a trial."""
        chosen = trial.hyperparameters.values
        budget = int(chosen.get(_BUDGET, self._plan.seeds))
        values = _ours(self._plan, chosen)
        try:
            tried, score = self._measure(values, budget)
        except TrialFailedError as error:
            raise FailedTrialError(str(error)) from error
        except BaseException as error:
            # Its base class takes every other exception for a trial that may be tried again.
            raise FatalError(str(error)) from error
        if tried != values:
            # Another version of KerasTuner or NumPy has drawn otherwise than the record says.
            chosen.update(_theirs(self._plan, tried))
        return score


def _oracle(plan: Plan) -> keras_tuner.Oracle:
    """The oracle of that name, to which a trial without a score is no reason to end the search."""
    common: dict[str, Any] = {
        "objective": keras_tuner.Objective(_objective_name(plan), plan.objective.direction),
        "hyperparameters": _hyperparameters(plan),
        "seed": plan.seed,
        "max_retries_per_trial": 0,
        "max_consecutive_failed_trials": sys.maxsize,
    }
    match plan.tuner:
        case "bayesian":
            oracle = keras_tuner.oracles.BayesianOptimizationOracle(**common)
        case "hyperband":
            oracle = keras_tuner.oracles.HyperbandOracle(
                max_epochs=plan.seeds, hyperband_iterations=None, **common
            )
        case "grid":
            oracle = keras_tuner.oracles.GridSearchOracle(**common)
        case _:
            oracle = keras_tuner.oracles.RandomSearchOracle(**common)
    oracle.max_trials = plan.max_trials
    oracle._max_collisions = _COLLISIONS
    return oracle


def _objective_name(plan: Plan) -> str:
    return plan.objective.terms[0].measure if len(plan.objective.terms) == 1 else "score"


def _begin_with(oracle: keras_tuner.Oracle, base: Mapping[str, Any] | None) -> None:
    """Have the oracle choose the base config's values for its first trial."""
    if base is None:
        return
    choose = oracle.populate_space

    def populate(trial_id: str) -> dict[str, Any]:
        found: dict[str, Any] = choose(trial_id)
        if not oracle.start_order and found.get("values") is not None:
            hyperparameters = oracle.get_space()
            names = {parameter.name for parameter in hyperparameters.space}
            hyperparameters.values = dict(found["values"])
            for parameter in hyperparameters.space:
                hyperparameters.values[parameter.name] = parameter.default
            hyperparameters.ensure_active_values()
            # Of the draw its budget stays; what is not active in the config has no value in it.
            others = {name: value for name, value in found["values"].items() if name not in names}
            found["values"] = {**others, **hyperparameters.values}
        return found

    oracle.populate_space = populate


def _hyperparameters(plan: Plan) -> keras_tuner.HyperParameters:
    """The space in KerasTuner's terms; the config's own value is the default where it is in it."""
    asked = copy.deepcopy([*plan.asked])  # which KerasTuner changes in reading it
    found = keras_tuner.HyperParameters.from_config({"space": asked, "values": {}})
    base = plan.base or {}
    for parameter in plan.space:
        if parameter.hyperparameter:
            continue
        name = parameter.path
        default = base.get(name)
        sampling = "log" if parameter.log else "linear"
        match parameter.kind:
            case "float":
                found.Float(
                    name, parameter.low, parameter.high, step=parameter.step,
                    sampling=sampling, default=default,
                )  # fmt: skip
            case "int":
                found.Int(
                    name, int(parameter.low or 0), int(parameter.high or 0),
                    step=_whole(parameter.step), sampling=sampling, default=default,
                )  # fmt: skip
            case "boolean":
                found.Boolean(name, default=bool(default))
            case _:
                labels = [_label(value) for value in parameter.choices]
                chosen = labels[0] if name not in base else _label(default)
                found.Choice(name, labels, default=chosen)
    return found


def _whole(step: float | None) -> int | None:
    return None if step is None else int(step)


def _label(value: Any) -> str:
    """A choice as text, which is all that KerasTuner takes beside numbers: a policy is a list."""
    return json.dumps(value, ensure_ascii=False)


def _ours(plan: Plan, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """KerasTuner's values as the config holds them; those that are not active are left out."""
    values: dict[str, Any] = {}
    for parameter in plan.space:
        if parameter.path not in chosen:
            continue
        value = chosen[parameter.path]
        if parameter.kind == "choice" and not parameter.hyperparameter:
            value = next(each for each in parameter.choices if _label(each) == value)
        elif parameter.kind == "float" and not parameter.hyperparameter:
            value = _short(value, parameter)
        values[parameter.path] = value
    return values


def _theirs(plan: Plan, values: Mapping[str, Any]) -> dict[str, Any]:
    labelled = {
        parameter.path
        for parameter in plan.space
        if parameter.kind == "choice" and not parameter.hyperparameter
    }
    return {path: _label(value) if path in labelled else value for path, value in values.items()}


def _short(value: float, parameter: Parameter) -> float:
    """A number with as many digits as can matter, for people to read and to write.

    The config's own stays what it is, and none leaves the range.
    """
    short = float(f"{value:.4g}")
    own = value == parameter.default
    within = (parameter.low or 0.0) <= short <= (parameter.high or 0.0)
    return short if within and not own else value
