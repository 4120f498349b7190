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
from typing import Any

import numpy as np

FEWEST = 8
"""Below so many trials nothing is said: even a parameter that decides everything would often go
unnoticed, which a table of shares would hide."""
_ORDERS = 4000
"""Orders of the scores that are tried; a chance of 0.05 is then known to 0.003."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Effect:
    """What one parameter does to the score."""

    share: float
    """Share of the variance of the scores' ranks that it explains, adjusted, from 0 to 1."""
    chance: float
    """How often it, or another parameter, would look as important by chance, from 0 to 1."""
    best: Any
    """The value at which the fitted score is best, among those that were tried."""
    edge: str | None
    """`lowest` or `highest` where that is the end of what was tried; None for a choice."""


def effects(
    tried: Mapping[str, Sequence[Any]], scores: Sequence[float], *, ordered: Mapping[str, bool]
) -> dict[str, Effect]:
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
        best, edge = _best(tried[name], fitted, ordered=ordered[name])
        found[name] = Effect(
            share=min(max(1 - float(left), 0.0), 1.0), chance=chances[index], best=best, edge=edge
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


def _best(values: Sequence[Any], fitted: np.ndarray, *, ordered: bool) -> tuple[Any, str | None]:
    best = values[int(fitted.argmin())]
    if not ordered:
        return best, None
    return best, {min(values): "lowest", max(values): "highest"}.get(best)
