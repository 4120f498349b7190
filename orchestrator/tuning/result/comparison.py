"""The winner of a search against the default policy, on seeds that the search did not use. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean

from msgspec.structs import replace

from orchestrator.display.search import words
from orchestrator.record.search import (
    Arm,
    ArmRuns,
    Comparison,
    Difference,
    Objective,
    TrialRun,
)
from orchestrator.tuning.result.intervals import CONFIDENCE, paired_interval, share_interval


def compare(
    seeds: Sequence[int],
    arms: Sequence[ArmRuns],
    objective: Objective,
    *,
    winner: str = words.ARMS["tuned"],
) -> Comparison:
    """Compare the runs of the tuned config with the others', seed by seed.

    Args:
        seeds: the fresh seeds.
        arms: the runs of each arm, in the order of the seeds; `tuned` and `default` among them.
        objective: what was optimised.
        winner: what the tuned config is called, as where it is the config as it is.

    Returns:
        The comparison, with its result in words.
    """
    counted = {arm.arm: _counted(arm) for arm in arms}
    tuned = counted["tuned"]
    default = _difference(tuned, counted["default"], objective)
    given = _difference(tuned, counted["given"], objective) if "given" in counted else None
    sentences = list(_sentences("default", default, counted, objective, winner))
    if given is not None:
        sentences += _sentences("given", given, counted, objective, winner)
    return Comparison(
        seeds=tuple(seeds),
        arms=tuple(counted.values()),
        default=default,
        given=given,
        confidence=CONFIDENCE,
        better=default.better,
        reason=" ".join(sentences),
    )


def _counted(arm: ArmRuns) -> ArmRuns:
    """An arm with its mean score and the share of its runs that passed."""
    scores = [score for run in arm.runs if (score := _score(run)) is not None]
    passed = sum(run.status == "passed" for run in arm.runs)
    low, high = share_interval(passed, len(arm.runs))
    return replace(
        arm,
        score=fmean(scores) if scores else None,
        passed=passed,
        passed_low=low,
        passed_high=high,
    )


def _difference(tuned: ArmRuns, other: ArmRuns, objective: Objective) -> Difference:
    pairs = _pairs(tuned, other)
    differences = [mine - others for mine, others in pairs]
    low, high = paired_interval(differences)
    better = high < 0 if objective.direction == "min" else low > 0
    return Difference(
        pairs=len(pairs),
        mean=fmean(differences) if pairs else None,
        low=low,
        high=high,
        better=better and _missing(tuned) <= _missing(other),
    )


def _pairs(tuned: ArmRuns, other: ArmRuns) -> list[tuple[float, float]]:
    """The scores of both on each seed on which both have one."""
    return [
        (mine, others)
        for mine, others in zip(map(_score, tuned.runs), map(_score, other.runs), strict=True)
        if mine is not None and others is not None
    ]


def _score(run: TrialRun) -> float | None:
    """A score that can be compared; a run without one has no part in the means."""
    return run.score if run.score is not None and math.isfinite(run.score) else None


def _missing(arm: ArmRuns) -> int:
    return sum(_score(run) is None for run in arm.runs)


def _sentences(
    other: Arm, found: Difference, arms: Mapping[Arm, ArmRuns], objective: Objective, winner: str
) -> Iterator[str]:
    """What came out of the comparison with one arm."""
    tuned, against, name = arms["tuned"], arms[other], words.ARMS[other]
    pairs = _pairs(tuned, against)
    if not pairs:
        yield f"No fresh seed has a result with both {winner} and {name}."
        return
    means = map(fmean, zip(*pairs, strict=True))
    own, others = (words.amount(objective, each) for each in means)
    seeds = f"{found.pairs} fresh seed{'s' * (found.pairs != 1)}"
    yield f"On {seeds} the mean is {own} with {winner} and {others} with {name}."
    yield _verdict(found, name, objective)
    if left_out := len(tuned.runs) - found.pairs:
        yield f"Of {len(tuned.runs)} seeds {left_out} had no result with both, and do not count."
    if _missing(tuned) > _missing(against):
        yield f"It is not taken for better, since {name} has fewer runs without a result."


def _verdict(found: Difference, name: str, objective: Objective) -> str:
    """Whether the difference is more than chance."""
    sure = f"{100 * CONFIDENCE:g} % confidence"
    if found.mean is None or math.isinf(found.low):
        return f"So few seeds say nothing with {sure}; six are the fewest (tune.fresh_seeds)."
    if found.low == found.high == 0:
        return f"Seed by seed they are equal: nothing is gained over {name}."
    mean = words.change(objective, found.mean)
    ends = sorted((found.low, found.high), key=abs)
    near, far = (words.change(objective, end) for end in ends)
    told = f"{mean} a run, with {sure} between {near} and {far}"
    if found.low == found.high:
        told = f"{mean}, on every seed"
    sign = 1 if objective.direction == "min" else -1
    if max(sign * found.low, sign * found.high) < 0:
        return f"It is better than {name}: {told}."
    if min(sign * found.low, sign * found.high) > 0:
        return f"It is worse than {name}: {told}."
    return f"It is not shown to be better than {name}: {told}."
