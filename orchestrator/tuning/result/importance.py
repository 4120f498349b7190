"""Which parameters of a search mattered, as far as so few trials can tell. Pure.

For each parameter alone: the share of the variance of the trials' ranks that it explains, ordered
values by a parabola through their ranks, so that a best value in the middle counts too, choices by
their means (the correlation ratio, as in the test of Kruskal and Wallis). The share is adjusted for
what a parameter without effect would explain (the adjusted R²). Whether that is more than chance is
found by giving the scores to the trials in thousands of other orders. Of several parameters one
looks important by chance more often, which the chances account for: P. H. Westfall and S. S. Young,
"Resampling-Based Multiple Testing" (1993), by the smallest chance of all.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from orchestrator.record.search import BASE, Effect, Parameter, Search
from orchestrator.tuning.trials import objective

_ORDERED = ("float", "int")
"""Kinds of parameters whose values have an order."""
FEWEST = 8
"""Below so many trials nothing is said: even a parameter that decides everything would often go
unnoticed, which a table of shares would hide."""
_ORDERS = 4000
"""Orders of the scores that are tried; a chance of 0.05 is then known to 0.003."""


def parameter_effects(search: Search) -> tuple[Effect, ...]:
    """The effect of each parameter of a search on the score, the most important first.

    Args:
        search: the search; trials that were cut count with what they would have on all seeds.
    """
    sign = 1.0 if search.objective.direction == "min" else -1.0
    values = {parameter.path: parameter.default for parameter in search.space}
    known = [
        (values | trial.values if trial.trial == BASE else trial.values, sign * score)
        for trial in search.trials
        if (score := objective.estimate(trial, search.trials, search.objective)) is not None
        and not math.isnan(score)
    ]
    parameters = [each for each in search.space if any(each.path in tried for tried, _ in known)]
    rows = [
        (tried, score)
        for tried, score in known
        if all(_fits(each, tried.get(each.path)) for each in parameters)
    ]
    found = effects(
        {each.path: [_scalar(each, tried[each.path]) for tried, _ in rows] for each in parameters},
        [score for _, score in rows],
        ordered={each.path: each.kind in _ORDERED for each in parameters},
    )
    made = [_named(each, found.get(each.path), rows) for each in search.space]
    return tuple(sorted(made, key=lambda each: -1.0 if each.share is None else -each.share))


def _fits(parameter: Parameter, value: Any) -> bool:
    """Whether a parameter's value is of its kind; the config may hold another, as a schedule."""
    return parameter.kind not in _ORDERED or type(value) in (int, float)


def _scalar(parameter: Parameter, value: Any) -> Any:
    """A value that can be told from others: a choice may be a list or a mapping."""
    return value if parameter.kind in _ORDERED else repr(value)


def _named(
    parameter: Parameter, found: _Effect | None, rows: Sequence[tuple[Mapping[str, Any], float]]
) -> Effect:
    if found is None:
        return Effect(path=parameter.path, trials=len(rows))
    tried = [values[parameter.path] for values, _ in rows]
    return Effect(
        path=parameter.path,
        trials=len(rows),
        share=found.share,
        chance=found.chance,
        best=tried[found.best],
        edge=found.edge,
    )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Effect:
    share: float
    chance: float
    best: int
    """Index of the trial at whose value the fitted score is best."""
    edge: Literal["lowest", "highest"] | None


def effects(
    tried: Mapping[str, Sequence[Any]], scores: Sequence[float], *, ordered: Mapping[str, bool]
) -> dict[str, _Effect]:
    """The effect of each parameter that took at least two values.

    Args:
        tried: of each parameter, the value in each trial.
        scores: the score of each trial, the lower the better; infinite for the worst.
        ordered: of each parameter, whether its values have an order.

    Returns:
        By parameter; empty where there are too few trials, or no score differs from another.
    """
    ranks = _ranks(scores)
    if len(scores) < FEWEST or np.ptp(ranks) == 0:
        return {}
    bases = {
        name: basis
        for name, values in tried.items()
        if (basis := _basis(values, ordered=ordered[name])) is not None
    }
    if not bases:
        return {}
    centred = (ranks - ranks.mean()) / math.sqrt(((ranks - ranks.mean()) ** 2).sum())
    generator = np.random.default_rng(0)
    orders = np.stack([centred, *(generator.permutation(centred) for _ in range(_ORDERS))])
    explained = np.stack([((orders @ basis) ** 2).sum(axis=1) for basis in bases.values()])
    chances = _chances(explained)
    found = {}
    for index, (name, basis) in enumerate(bases.items()):
        free = len(scores) - 1
        left = (1 - explained[index, 0]) * free / (free - basis.shape[1])
        fitted = basis @ (basis.T @ centred)
        best = int(fitted.argmin())
        found[name] = _Effect(
            share=min(max(1 - float(left), 0.0), 1.0),
            chance=chances[index],
            best=best,
            edge=_edge(tried[name], best) if ordered[name] else None,
        )
    return found


def _ranks(values: Sequence[float]) -> np.ndarray:
    """Ranks from 1, equal values sharing the mean of theirs."""
    _, places, counts = np.unique(
        np.asarray(values, dtype=float), return_inverse=True, return_counts=True
    )
    ends = np.cumsum(counts)
    means: np.ndarray = (ends - (counts - 1) / 2)[places]
    return means


def _basis(values: Sequence[Any], *, ordered: bool) -> np.ndarray | None:
    """Orthonormal columns, each of mean zero, that span what a parameter can explain.

    None where it cannot explain anything, or everything whatever the scores are.
    """
    kinds = list(dict.fromkeys(values))
    if ordered:
        ranks = _ranks([float(value) for value in values])
        scaled = (ranks - ranks.mean()) / len(ranks)
        columns = np.stack([scaled, scaled**2][: len(kinds) - 1], axis=1) if kinds[1:] else None
    else:
        columns = np.array([[float(value == kind) for kind in kinds[1:]] for value in values])
    if columns is None or not columns.size or columns.shape[1] >= len(values) - 1:
        return None
    basis: np.ndarray = np.linalg.qr(columns - columns.mean(axis=0))[0]
    return basis


def _chances(explained: np.ndarray) -> list[float]:
    """Of each parameter the chance of its share, with regard to the others.

    Args:
        explained: shares, shape (parameters, orders); the first order is the trials' own.
    """
    rounded = explained.round(9)
    count = rounded.shape[1]
    ascending = np.sort(rounded, axis=1)
    single = np.stack([
        (count - np.searchsorted(row, own, side="left")) / count
        for row, own in zip(ascending, rounded, strict=True)
    ])  # fmt: skip
    smallest = single.min(axis=0)
    return [float((smallest <= own[0] + 1e-12).mean()) for own in single]


def _edge(values: Sequence[Any], index: int) -> Literal["lowest", "highest"] | None:
    """Whether the value at an index is one of the ends of what was tried."""
    if values[index] == min(values):
        return "lowest"
    return "highest" if values[index] == max(values) else None
