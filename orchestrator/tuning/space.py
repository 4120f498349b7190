"""The space of a search: which keys of a config are searched, and a config with other values there.

Values are laid over a config as `--set` lays them, and checked as a config is. In
`restart.policy.leaky_relu.negative_slope` a remedy's name stands for every rung of that remedy,
wherever the policy has it; null there leaves each rung as it is.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.config import document
from orchestrator.config import load as configs
from orchestrator.config.document import Document, dig
from orchestrator.config.schema import Config
from orchestrator.config.sections.default_policy import DEFAULT_POLICY
from orchestrator.config.sections.remedies import REMEDIES, TAGGED
from orchestrator.config.sections.tune import (
    BooleanDimension,
    ChoiceDimension,
    Dimension,
    FloatDimension,
    IntDimension,
    Tune,
)
from orchestrator.config.yaml12 import Key
from orchestrator.errors import InvalidError, Problem, closest, suggestion
from orchestrator.record.search import Parameter

POLICY = "restart.policy"

_JUDGED = {
    "checks": "every trial is judged by the config's own checks",
    "phases": "every trial trains the config's own epochs; phases.N.learning_rate may be searched",
    "data": "every trial has the same rows",
    "seed": "every trial has the same base seeds, of which tune.seeds says how many",
    "compile.loss": "skill and val_loss are measured by it",
    "compile.loss_weights": "skill and val_loss are measured by it",
    "compile.metrics": "they only measure",
    "compile.weighted_metrics": "they only measure",
    "fit": "it decides what the loss means and when a training ends",
    "restart.max_seconds": "how a trial ends would depend on how busy the machine is",
    "tune": "it is not about a run",
    "version": "it is not about a run",
    "name": "it is not about a run",
    "base": "it is not about a run",
    "deterministic": "it is not about a policy or a model",
    "tensorboard": "it is not about a policy or a model",
    "keep": "it is not about a policy or a model",
    "checkpoint_seconds": "it is not about a policy or a model",
    "stall_timeout": "it is not about a policy or a model",
}
"""What may not be searched, and why: a trial may not loosen what it is judged by."""

_ORDERED = ("new_seed", "leaky_relu", "lower_learning_rate")
"""The remedies whose order and number the default space searches."""
_MAX_CHOICES = 200


def default_space() -> dict[str, Dimension]:
    """What is searched where the config names nothing: all that the policy is made of."""
    orders = [
        list(order)
        for length in range(1, len(_ORDERED) + 1)
        for order in itertools.permutations(_ORDERED, length)
    ]
    named: dict[str, Any] = {
        POLICY: {"choice": [None, *orders]},
        "restart.screen_seeds": {"choice": [1, 8, 64]},
        f"{POLICY}.new_seed.times": {"choice": [None, 1, 2, 4]},
        f"{POLICY}.lower_learning_rate.factor": {"choice": [None, "auto", 0.5, 0.3, 0.1, 0.03]},
        f"{POLICY}.lower_learning_rate.times": {"choice": [None, 1, 2, 3]},
        f"{POLICY}.leaky_relu.negative_slope": {"choice": [None, 0.05, 0.1, 0.2, 0.3, 0.5]},
    }
    return Tune.model_validate({"space": named}).space


def parameters(config: Config) -> tuple[Parameter, ...]:
    """What a config asks to search, with every value of it tried on the config.

    Args:
        config: the config.

    Returns:
        The parameters in the order in which the config names them.

    Raises:
        InvalidError: with every path that is unknown or may not be searched, and every value that
            leads to an invalid config.
    """
    space = config.tune.space or default_space()
    found: list[Parameter] = []
    problems: list[Problem] = []
    for path, dimension in space.items():
        reasons = list(_refusals(path, dimension, config))
        if not reasons:
            found.append(_parameter(path, dimension, config))
        problems += [config.problem(_key(path), message, hint) for message, hint in reasons]
    problems += [*_check_values(config, found)] or _check_pairs(config, found)
    if problems:
        raise InvalidError(problems)
    return tuple(found)


def asked(found: Iterable[Mapping[str, Any]]) -> tuple[Parameter, ...]:
    """Hyperparameters of the user's model as parameters.

    Args:
        found: as KerasTuner writes them; of one name with several conditions the first counts.
    """
    parameters: dict[str, Parameter] = {}
    for each in found:
        told = each["config"]
        kind = each["class_name"].lower()
        if kind not in ("float", "int", "choice", "boolean"):
            continue  # what is fixed is not searched
        parameters.setdefault(
            told["name"],
            Parameter(
                path=told["name"],
                kind=kind,
                low=told.get("min_value"),
                high=told.get("max_value"),
                step=told.get("step"),
                log=told.get("sampling") == "log",
                choices=tuple(told.get("values") or ()) if kind == "choice" else (),
                default=told.get("default"),
                hyperparameter=True,
            ),
        )
    return tuple(parameters.values())


def lay(config: Config, values: Mapping[str, Any], space: Iterable[Parameter] = ()) -> Config:
    """The config with other values at some keys.

    Args:
        config: the config.
        values: by path; None leaves a rung that is meant by its remedy's name as it is.
        space: tells which paths are hyperparameters of the user's model.

    Returns:
        The config, checked.

    Raises:
        InvalidError: it would not be valid.
    """
    if not values:
        return config
    value = config.model_dump()
    own = {parameter.path for parameter in space if parameter.hyperparameter}
    # A policy as a whole comes before what its rungs take.
    for path in sorted(values, key=lambda path: path.count(".")):
        wanted = copy.deepcopy(values[path])
        if path in own:
            _model(value)["hyperparameters"][path] = wanted
        else:
            _assign(value, path, wanted)
    return _checked(config, value)


def is_base(config: Config, space: Iterable[Parameter], values: Mapping[str, Any]) -> bool:
    """Whether the values are those that the config has already."""
    return all(
        parameter.path not in values or same(values[parameter.path], parameter.default)
        for parameter in space
    )


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same in a config, where 1 is not true."""
    return type(one) is type(other) and bool(one == other)


def base_values(space: Iterable[Parameter]) -> dict[str, Any] | None:
    """The config's own values; None where one of them is not in the space."""
    space = tuple(space)
    if not all(_has(parameter, parameter.default) for parameter in space):
        return None
    return {parameter.path: parameter.default for parameter in space}


def ends(parameter: Parameter) -> tuple[Any, ...]:
    """The values that stand for all: both ends of a range, every one of several."""
    match parameter.kind:
        case "float":
            return parameter.low, parameter.high
        case "int":
            return int(parameter.low or 0), int(parameter.high or 0)
        case "boolean":
            return False, True
        case _:
            return parameter.choices


def _key(path: str) -> Key:
    return ("tune", "space", path)


def _refusals(path: str, dimension: Dimension, config: Config) -> Iterator[tuple[str, str | None]]:
    """Why a path cannot be searched, or its values make no range."""
    for judged, reason in _JUDGED.items():
        if path == judged or path.startswith(f"{judged}."):
            if judged == "phases" and path.endswith(".learning_rate"):
                continue
            yield f"{judged} may not be searched: {reason}", None
            return
        if judged.startswith(f"{path}."):
            hint = f"name the keys below {path} that are meant"
            yield f"{path} may not be searched as a whole, for {judged} is in it: {reason}", hint
            return
    if not all(path.split(".")):
        yield "expected a dotted path of keys", "as in compile.optimizer.Adam.learning_rate"
        return
    yield from _refused_policy(path, config)
    if isinstance(dimension, FloatDimension | IntDimension):
        yield from _refused_range(dimension)


def _refused_range(dimension: FloatDimension | IntDimension) -> Iterator[tuple[str, str | None]]:
    floats = isinstance(dimension, FloatDimension)
    low, high = dimension.float if isinstance(dimension, FloatDimension) else dimension.int
    if not low < high:
        yield f"expected a smaller and a greater value, received [{low:g}, {high:g}]", None
    elif dimension.log and low <= 0:
        yield f"expected values above 0 for log, received {low:g}", None
    elif dimension.log and dimension.step is not None and dimension.step <= 1:
        expected = "with log, step is the factor between values: expected more than 1"
        yield f"{expected}, received {dimension.step:g}", None
    elif dimension.step is not None and not dimension.log and dimension.step > high - low:
        yield f"the step {dimension.step:g} is wider than the range", None
    elif floats and not all(map(math.isfinite, (low, high))):
        yield "expected finite numbers", None


def _refused_policy(path: str, config: Config) -> Iterator[tuple[str, str | None]]:
    """Why a part of the policy cannot be searched."""
    _, policy, rest = path.partition(f"{POLICY}.")
    if not policy or _:
        return
    head, _, field = rest.partition(".")
    searched = config.tune.space.get(POLICY)
    if head.isdigit():
        by_name = f"{POLICY}.lower_learning_rate.factor"
        if searched is not None:
            message = f"{POLICY} is searched as a whole, so that it has no rung {head} to count on"
            yield message, f"name the remedy, as in {by_name}"
        elif _has_default_policy(config):
            message = "the config has no policy of its own, and the default one is a list of cases"
            yield message, f"write a policy, or name the remedy, as in {by_name}"
        return
    if head not in REMEDIES:
        hint = suggestion(head, REMEDIES)
        yield f"expected the number of a rung or a remedy, received {head!r}", hint
        return
    known = _fields(head)
    if field not in known:
        hint = suggestion(field, known)
        yield f"the remedy {head} has no key {field!r}" if field else "a key is missing", hint
        return
    policies: list[Any] = [config.model_dump()["restart"]["policy"]]
    if isinstance(searched, ChoiceDimension):
        policies += [_written_out(each) for each in searched.choice]
    if not config.tune.space:
        return  # the default space's policies have all of them
    if not any(True for policy in policies for _ in _rungs(policy, head)):
        yield f"no rung of the policy is {head}", "add one, or leave this out"


def _fields(remedy: str) -> list[str]:
    """What of a remedy may be searched."""
    fields = TAGGED[f"<{remedy}>"].model_fields
    return [name for name in fields if name not in ("remedy", "when")]


def _has_default_policy(config: Config) -> bool:
    written = {} if config._written is None else config._written.value
    return dig(written, "restart", "policy") is None


def _parameter(path: str, dimension: Dimension, config: Config) -> Parameter:
    default = _default(path, config)
    match dimension:
        case FloatDimension():
            low, high = map(float, dimension.float)
            default = float(default) if isinstance(default, int) else default
            return Parameter(
                path=path, kind="float", low=low, high=high, step=dimension.step,
                log=dimension.log, default=default,
            )  # fmt: skip
        case IntDimension():
            lowest, highest = dimension.int
            return Parameter(
                path=path, kind="int", low=lowest, high=highest, step=dimension.step,
                log=dimension.log, default=default,
            )  # fmt: skip
        case BooleanDimension():
            return Parameter(path=path, kind="boolean", default=default)
        case ChoiceDimension():
            choices = [*dimension.choice]
            if not config.tune.space and not any(same(each, default) for each in choices):
                choices.insert(0, default)  # the config's own is always tried
            return Parameter(path=path, kind="choice", choices=tuple(choices), default=default)


def _default(path: str, config: Config) -> Any:
    """The config's own value; None where it has none, or several."""
    value = config.model_dump()
    if path == POLICY and _has_default_policy(config):
        return None
    remedy, field = _by_remedy(path)
    if remedy is None:
        return dig(value, *_key_of(value, path))
    if not config.tune.space:
        return None  # of the default space's, which leaves each rung as it is
    found = [rung.get(field) for rung in _rungs(value["restart"]["policy"], remedy)]
    return found[0] if found and all(same(each, found[0]) for each in found) else None


def _has(parameter: Parameter, value: Any) -> bool:
    """Whether a value is one that may be drawn."""
    match parameter.kind:
        case "choice":
            return any(same(value, each) for each in parameter.choices)
        case "boolean":
            return isinstance(value, bool)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    low, high = parameter.low or 0.0, parameter.high or 0.0
    if not low <= value <= high:
        return False
    if parameter.step is None:
        return True
    steps = (
        math.log(value / low) / math.log(parameter.step)
        if parameter.log
        else (value - low) / parameter.step
    )
    return math.isclose(steps, round(steps), abs_tol=1e-9)


def _check_values(config: Config, found: Iterable[Parameter]) -> Iterator[Problem]:
    """Every value by itself, laid over the config."""
    for parameter in found:
        told: dict[str, str | None] = {}
        for value in ends(parameter)[:_MAX_CHOICES]:
            try:
                lay(config, {parameter.path: value})
            except InvalidError as error:
                told |= {_reason(each, parameter.path): each.hint for each in error.problems}
            except LookupError as error:
                told[str(error.args[0])] = None
        for reason, hint in told.items():
            hint = nearest(parameter.path, config) or hint
            yield config.problem(_key(parameter.path), reason, hint)


def _check_pairs(config: Config, found: Sequence[Parameter]) -> Iterator[Problem]:
    """Every key below another one that is searched, beside each value of that."""
    for above, below in itertools.permutations(found, 2):
        # A policy's rungs are meant by their remedies, wherever it has them.
        if above.path == POLICY or not below.path.startswith(f"{above.path}."):
            continue
        for value in ends(above)[:_MAX_CHOICES]:
            try:
                lay(config, {above.path: value, below.path: ends(below)[0]})
            except (InvalidError, LookupError):
                message = f"{above.path} is searched too, and {value!r} there has no such key"
                hint = (
                    f"search {above.path} alone, by choices with all that is in them, as "
                    "{choice: [{Adam: {learning_rate: 0.01}}, {SGD: {learning_rate: 0.1}}]}"
                )
                yield config.problem(_key(below.path), message, hint)
                break


def _reason(problem: Problem, path: str) -> str:
    """What is wrong with the config that a value leads to, said at the parameter."""
    return problem.message if problem.key == path else f"{problem.key}: {problem.message}"


def nearest(path: str, config: Config) -> str | None:
    """A hint with the config's path that an unknown one is most like; None where it is known."""
    known = list(_paths(config.model_dump(exclude={"tune"})))
    if _has_default_policy(config):  # its cases have no rungs that may be counted on
        known = [each for each in known if not each.startswith(f"{POLICY}.")]
        known += [f"{POLICY}.{name}.{field}" for name in REMEDIES for field in _fields(name)]
    match = None if path in known else closest(path, known, cutoff=0.8)
    return None if match is None else f"did you mean {match!r}?"


def _paths(value: Any, key: tuple[str, ...] = ()) -> Iterator[str]:
    """Every dotted path of a config's values."""
    if key:
        yield ".".join(key)
    pairs: Iterable[tuple[Any, Any]] = value.items() if isinstance(value, dict) else ()
    if isinstance(value, list):
        pairs = enumerate(value)
    for name, inner in pairs:
        yield from _paths(inner, (*key, str(name)))


def _checked(config: Config, value: dict[str, Any]) -> Config:
    """A config of other values, whose problems still have the lines of the file."""
    written = config._written or Document(
        file=config.name, value={}, lines={}, overrides={}, source=b""
    )
    changed = dataclasses.replace(written, value=value, problems=())
    found = configs.check(changed, Path(config.base, f"{config.name}.yaml"))
    return found if config._given is None else found.with_given(config.given)


def _model(value: dict[str, Any]) -> dict[str, Any]:
    """The part of a config that names the function that builds the model."""
    model: dict[str, Any] = value["model"]
    found: dict[str, Any] = model.get("factory", model)
    return found


def _assign(value: dict[str, Any], path: str, wanted: Any) -> None:
    """Put a value where a path points."""
    remedy, field = _by_remedy(path)
    if path == POLICY:
        value["restart"]["policy"] = _written_out(DEFAULT_POLICY if wanted is None else wanted)
    elif remedy is None:
        document.assign(value, path.split("."), wanted)
    elif wanted is not None:
        for rung in _rungs(value["restart"]["policy"], remedy):
            rung[field] = wanted


def _written_out(policy: Any) -> Any:
    """A policy with `new_seed` as `{remedy: new_seed}`, in cases too."""
    if isinstance(policy, list):
        return [_written_out(each) for each in policy]
    if isinstance(policy, dict) and "rungs" in policy:
        return {**policy, "rungs": _written_out(policy["rungs"])}
    return {"remedy": policy} if isinstance(policy, str) else copy.copy(policy)


def _by_remedy(path: str) -> tuple[str | None, str]:
    """The remedy and the key that a path means in all its rungs; None where it means none."""
    parts = path.split(".")
    if len(parts) == 4 and path.startswith(f"{POLICY}.") and parts[2] in REMEDIES:
        return parts[2], parts[3]
    return None, ""


def _rungs(policy: Any, remedy: str) -> Iterator[dict[str, Any]]:
    """Every rung of a remedy in a policy that is written out."""
    for entry in policy if isinstance(policy, list) else ():
        if isinstance(entry, dict) and "rungs" in entry:
            yield from _rungs(entry["rungs"], remedy)
        elif isinstance(entry, dict) and entry.get("remedy") == remedy:
            yield entry


def _key_of(value: Any, path: str) -> Key:
    """The key that a path means: numbers count in lists."""
    key: list[Any] = []
    for part in path.split("."):
        index = part.isdigit() and isinstance(dig(value, *key), list)
        key.append(int(part) if index else part)
    return tuple(key)
