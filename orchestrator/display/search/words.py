"""What is recorded of a search, in words: scores with their unit, values, what is compared."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from orchestrator.display.search.axes import label
from orchestrator.display.words import duration
from orchestrator.record.search import Arm, Objective, Parameter

ARMS: Mapping[Arm, str] = {
    "tuned": "the tuned config",
    "default": "the default policy",
    "given": "the config as it is",
}
"""What is compared, as sentences have it."""


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
    """The values of a trial, in the order of the space."""
    parameters = tuple(parameters)
    names = short_paths(parameters)
    told = [
        f"{names[each.path]} {label(tried[each.path])}" for each in parameters if each.path in tried
    ]
    return " · ".join(told) or "the config as it is"
