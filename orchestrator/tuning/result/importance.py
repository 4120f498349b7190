"""Which parameters of a search mattered, as far as so few trials can tell. Pure.

For each parameter alone: the share of the variance of the trials' ranks that it explains, ordered
values by a parabola through their ranks, so that a best value in the middle counts too, choices by
their means (the correlation ratio, as in the test of Kruskal and Wallis). The share is adjusted for
what a parameter without effect would explain (the adjusted R²). Whether that is more than chance is
found by giving the scores to the trials in thousands of other orders. Of several parameters one
looks important by chance more often, which the chances account for: P. H. Westfall and S. S. Young,
"Resampling-Based Multiple Testing" (1993), by the smallest chance of all.

A parameter that only some trials have, as one under a condition, is judged among these alone.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import numpy as np

from orchestrator.record.search import BASE, Effect, Parameter, Search
from orchestrator.tuning.trials import objective

_ORDERED = ("float", "int")
"""Kinds of parameters whose values have an order."""
FEWEST = 8
"""Below so many trials nothing is said: even a parameter that decides everything would often go
unnoticed, which a table of shares would hide."""
ABSENT: Final = object()
"""In the place of a value: the trial does not have the parameter, or not as one of its kind."""
_ORDERS = 4000
"""Orders of the scores that are tried; a chance of 0.05 is then known to 0.003."""


def parameter_effects(search: Search) -> tuple[Effect, ...]:
    """The effect of each parameter of a search on the score, the most important first.

    Args:
        search: the search; trials that were cut count with what they would have on all seeds.
    """
    sign = 1.0 if search.objective.direction == "min" else -1.0
    # The config has a value at each of its keys, a model not every hyperparameter.
    values = {each.path: each.default for each in search.space if not each.hyperparameter}
    known = [
        (values | trial.values if trial.trial == BASE else trial.values, sign * score)
        for trial in search.trials
        if (score := objective.estimate(trial, search.trials, search.objective)) is not None
        and not math.isnan(score)
    ]
    tried = {each.path: [_value(each, values) for values, _ in known] for each in search.space}
    found = effects(
        {
            each.path: [_comparable(each, value) for value in tried[each.path]]
            for each in search.space
        },
        [score for _, score in known],
        ordered={each.path: each.kind in _ORDERED for each in search.space},
    )
    made = [_named(each, found.get(each.path), tried[each.path]) for each in search.space]
    return tuple(sorted(made, key=lambda each: -1.0 if each.share is None else -each.share))


def _value(parameter: Parameter, values: Mapping[str, Any]) -> Any:
    """A parameter's value in a trial; the config may hold one of another kind, as a schedule."""
    value = values.get(parameter.path, ABSENT)
    fits = parameter.kind not in _ORDERED or type(value) in (int, float)
    return value if fits else ABSENT


def _comparable(parameter: Parameter, value: Any) -> Any:
    """A value that can be told from others: a choice may be a list or a mapping."""
    return value if parameter.kind in _ORDERED or value is ABSENT else repr(value)


def _named(parameter: Parameter, found: _Effect | None, tried: Sequence[Any]) -> Effect:
    count = sum(value is not ABSENT for value in tried)
    if found is None:
        return Effect(path=parameter.path, trials=count)
    return Effect(
        path=parameter.path,
        trials=count,
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
    """Index of the trial, among all, at whose value the fitted score is best."""
    edge: Literal["lowest", "highest"] | None


def effects(
    tried: Mapping[str, Sequence[Any]], scores: Sequence[float], *, ordered: Mapping[str, bool]
) -> dict[str, _Effect]:
    """The effect of each parameter that took at least two values, in at least `FEWEST` trials.

    Args:
        tried: of each parameter, the value in each trial, or `ABSENT`.
        scores: the score of each trial, the lower the better; infinite for the worst.
        ordered: of each parameter, whether its values have an order.

    Returns:
        By parameter; empty where there are too few trials, or no score differs from another.
    """
    bases: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for name, values in tried.items():
        places = np.array([index for index, each in enumerate(values) if each is not ABSENT], int)
        if len(places) < FEWEST:
            continue
        basis = _basis([values[index] for index in places], ordered=ordered[name])
        if basis is not None:
            bases[name] = places, basis
    ranks = _ranks(scores)
    if not bases or np.ptp(ranks) == 0:
        return {}
    generator = np.random.default_rng(0)
    orders = np.stack([ranks, *(generator.permutation(ranks) for _ in range(_ORDERS))])
    among = {name: _among(orders, places) for name, (places, _) in bases.items()}
    explained = np.stack([
        ((among[name] @ basis) ** 2).sum(axis=1) for name, (_, basis) in bases.items()
    ])  # fmt: skip
    chances = _chances(explained)
    found = {}
    for index, (name, (places, basis)) in enumerate(bases.items()):
        free = len(places) - 1
        left = (1 - explained[index, 0]) * free / (free - basis.shape[1])
        fitted = basis @ (basis.T @ among[name][0])
        best = int(places[fitted.argmin()])
        present = [tried[name][place] for place in places]
        found[name] = _Effect(
            share=min(max(1 - float(left), 0.0), 1.0),
            chance=chances[index],
            best=best,
            edge=_edge(present, tried[name][best]) if ordered[name] else None,
        )
    return found


def _among(orders: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The ranks of some trials among each other, in every order.

    Args:
        orders: ranks among all trials, shape (orders, all trials).
        places: which trials, shape (trials,).

    Returns:
        Shape (orders, trials), in each order of mean 0 and length 1; 0 where all are the same.
    """
    ranks = orders
    if len(places) < orders.shape[1]:
        ranks = np.apply_along_axis(_ranks, 1, orders[:, places])
    centred = ranks - ranks.mean(axis=1, keepdims=True)
    length = np.sqrt((centred**2).sum(axis=1, keepdims=True))
    found: np.ndarray = centred / np.where(length > 0, length, 1.0)
    return found


def _ranks(values: Sequence[float] | np.ndarray) -> np.ndarray:
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


def _edge(values: Sequence[Any], value: Any) -> Literal["lowest", "highest"] | None:
    """Whether a value is one of the ends of what was tried."""
    if value == min(values):
        return "lowest"
    return "highest" if value == max(values) else None
