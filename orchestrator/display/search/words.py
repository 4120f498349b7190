"""What is recorded of a search, in words: scores with their unit, values, what is compared."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from orchestrator.display.search.axes import label
from orchestrator.display.words import duration
from orchestrator.record.search import BASE, Arm, Objective, Parameter, Search, Trial

ARMS: Mapping[Arm, str] = {
    "tuned": "the tuned config",
    "default": "the default policy",
    "given": "the config as it is",
}
"""What is compared, as sentences have it."""

_POLICY = "restart.policy"
_CHOICES = 6
"""How many choices of a parameter are named."""
CHANCE = 0.05
"""From this chance on an effect is not told from chance."""
SHARES = (
    "share: of the spread of the trials' ranks, by this parameter alone; "
    "by chance: how often one would look as important if none mattered"
)
"""What the numbers of an effect are."""


def unit(objective: Objective) -> str:
    """What a score is, and whether less or more is better."""
    better = "lower" if objective.direction == "min" else "higher"
    return f"{_measure(objective)} ({better} is better)"


def _measure(objective: Objective) -> str:
    return {"cost": "cost in trainings"}.get(_single(objective), objective.name)


def _single(objective: Objective) -> str:
    """The measure, where there is one alone."""
    return objective.terms[0].measure if len(objective.terms) == 1 else ""


def score(value: float | None) -> str:
    """A score in a table."""
    return "–" if value is None else f"{value:.4g}"


def amount(objective: Objective, value: float) -> str:
    """A score with its unit, as a sentence has it."""
    match _single(objective):
        case "cost":
            return f"{value:.3g} training{'s' * (f'{value:.3g}' != '1')}"
        case "seconds":
            return duration(value)
        case _:
            return f"{objective.name} {value:.4g}"


def change(objective: Objective, value: float) -> str:
    """A difference of scores: how much less or more."""
    if value == 0:
        return "no difference"
    size = abs(value)
    told = f"{size:.3g}" if math.isfinite(size) else "any amount"
    return f"{told} {'less' if value < 0 else 'more'}"


def short_paths(parameters: Iterable[Parameter]) -> dict[str, str]:
    """Each parameter's path without what all the others tell as well: as few parts as differ."""
    paths = [parameter.path for parameter in parameters]
    found = {}
    for path in paths:
        parts = path.split(".")
        ends = (".".join(parts[-length:]) for length in range(1, len(parts) + 1))
        others = [other for other in paths if other != path]
        found[path] = next(
            (end for end in ends if not end.isdigit() and not any(
                other == end or other.endswith(f".{end}") for other in others
            )),
            path,
        )  # fmt: skip
    return found


def values(parameters: Iterable[Parameter], tried: Mapping[str, Any]) -> str:
    """The values of a trial in the order of the space, without those that leave things as they are.

    Args:
        parameters: the space.
        tried: the values; none for the config as it is.
    """
    parameters = tuple(parameters)
    names = short_paths(parameters)
    told = [
        f"{names[each.path]} {chosen(each, tried[each.path])}"
        for each in parameters
        if each.path in tried and (tried[each.path] is not None or each.path == _POLICY)
    ]
    return " · ".join(told) or "the config as it is"


def chosen(parameter: Parameter, value: Any) -> str:
    """A value of a parameter; none is the default policy, or leaves a rung as it is."""
    if value is None:
        return "by default" if parameter.path == _POLICY else "as it is"
    return label(value)


def domain(parameter: Parameter) -> str:
    """The values that a parameter may take."""
    if parameter.kind == "boolean":
        return "true or false"
    if parameter.kind == "choice":
        shown = [chosen(parameter, each) for each in parameter.choices[:_CHOICES]]
        more = len(parameter.choices) - len(shown)
        return " · ".join(shown) + (f" · and {more} more" if more else "")
    # The record has all numbers as floats, which are told to three digits.
    low, high, step = (
        label(int(each) if each is not None and parameter.kind == "int" else each)
        for each in (parameter.low, parameter.high, parameter.step)
    )
    told = f"{low} to {high}"
    told += ", logarithmic" if parameter.log else ""
    if parameter.step is None or (parameter.step == 1 and parameter.kind == "int"):
        return told
    return f"{told}, {'factors' if parameter.log else 'steps'} of {step}"


def trial_cells(trial: Trial, search: Search) -> tuple[str, str, str, str, str]:
    """A trial as a row: number, score, runs that passed, time, values."""
    done = [run for run in trial.runs if run.status != "running"]
    passed = sum(run.status == "passed" for run in done)
    count = len(done) if trial.status != "running" else len(search.seeds)
    return (
        str(trial.trial),
        score(trial.score),
        f"{passed} of {count}",
        duration(trial.seconds),
        values(search.space, {} if trial.trial == BASE else trial.values),
    )


def effects_sentence(search: Search) -> str:
    """What the table of effects says, and what it does not."""
    known = [effect for effect in search.effects if effect.chance is not None]
    trials = max((effect.trials for effect in search.effects), default=0)
    if not known:
        told = f"{trials} trial{'s' * (trials != 1)} with a score"
        return f"From {told} it cannot be told which parameter mattered."
    clear = [
        effect.path for effect in known if effect.chance is not None and effect.chance < CHANCE
    ]
    names = short_paths(search.space)
    if not clear:
        return f"With {trials} trials none of them can be told from chance."
    listed = ", ".join(names.get(path, path) for path in clear)
    return f"The score depends on {listed}; of the others {trials} trials do not tell."


def arm_name(search: Search, arm: Arm) -> str:
    """What is compared, as a sentence has it; where no trial was better, tuned is the config."""
    return ARMS["given" if arm == "tuned" and search.best_trial == BASE else arm]


def verdict(search: Search, path: str) -> Iterator[str]:
    """What to go on with, or why there is no answer yet.

    Args:
        search: the search.
        path: where the tuned config is.
    """
    if search.conclusion:
        yield f"{search.conclusion[:1].upper()}{search.conclusion[1:].rstrip('.')}."
    found, own = search.comparison, "the config as it is"
    if search.recommended == "tuned" and search.best_trial != BASE:
        yield f"Recommended: {ARMS['tuned']}: orchestrate {path}"
    elif search.recommended == "tuned" or (search.recommended and found is None):
        yield f"Recommended: {own}."
    elif search.recommended and found is not None:
        # Only where the config has a policy of its own is it another than the default.
        has_own = found.given is not None or search.best_trial == BASE
        why = "that of a config without restart.policy" if has_own else f"{own} has it"
        yield f"Recommended: {ARMS['default']}; {why}."
