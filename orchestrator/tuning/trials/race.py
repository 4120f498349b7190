"""When a trial can no longer win, by statistics or for certain. Pure.

The race is that of F-Race with Student's paired test, which is what irace does where differences
count and not only ranks: M. Birattari et al., "A racing algorithm for configuring metaheuristics",
GECCO 2002; M. López-Ibáñez et al., "The irace package", Operations Research Perspectives 3 (2016),
43-58. All trials have the same seeds, so that the differences are paired. As there, the level is
not corrected for how often is looked: what is cut wrongly is lost to the search, and never taken
for proven, for which fresh seeds are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev

FEWEST = 3
"""Seeds that a trial is tried on before the test may cut it."""
LEVEL = 0.05
"""How often the test cuts a trial that is as good as the best, at each look."""


def cut(
    scores: Sequence[float],
    best: Sequence[float],
    *,
    minimised: bool,
    least: float | None,
) -> str | None:
    """Why a trial can no longer win.

    Args:
        scores: of its runs so far, in the order of the seeds.
        best: of the best trial so far, on all seeds in the same order.
        minimised: whether a lower score is better.
        least: the best score that a run can have; None where there is no bound.

    Returns:
        The reason in words; None where it may go on, or is through.
    """
    done, planned = len(scores), len(best)
    if not 0 < done < planned:
        return None
    if least is not None:
        possible = (sum(scores) + (planned - done) * least) / planned
        goal = fmean(best)
        if possible > goal if minimised else possible < goal:
            return (
                f"after {done} of {planned} seeds even the best that its other runs can be, "
                f"{least:g}, gives {possible:.4g}; the best trial has {goal:.4g}"
            )
    if done < FEWEST:
        return None
    sign = 1 if minimised else -1
    worse = [sign * (own - other) for own, other in zip(scores, best, strict=False)]
    chance = chance_of_no_difference(worse)
    if chance >= LEVEL:
        return None
    return (
        f"worse than the best trial on the first {done} seeds: {fmean(scores):.4g} against "
        f"{fmean(best[:done]):.4g}, paired t-test p = {chance:.2g}"
    )


def chance_of_no_difference(differences: Sequence[float]) -> float:
    """The one-sided p-value of Student's paired test, that the mean difference is above 0.

    Args:
        differences: at least two.
    """
    mean, spread = fmean(differences), stdev(differences)
    if spread == 0:
        return 0.0 if mean > 0 else 1.0
    return 1 - t_distribution(mean / (spread / math.sqrt(len(differences))), len(differences) - 1)


def t_distribution(t: float, degrees: int) -> float:
    """Student's distribution function for whole degrees of freedom.

    Source: M. Abramowitz and I. A. Stegun, "Handbook of Mathematical Functions", 26.7.3 and 26.7.4.
    """
    angle = math.atan(t / math.sqrt(degrees))
    cosine, sine = math.cos(angle), math.sin(angle)
    if degrees == 1:
        return 0.5 + angle / math.pi
    term = cosine if degrees % 2 else 1.0
    total = term
    for step in range(2 if degrees % 2 else 1, degrees - 1, 2):
        term *= cosine * cosine * step / (step + 1)
        total += term
    within = 2 / math.pi * (angle + sine * total) if degrees % 2 else sine * total
    return 0.5 + within / 2
