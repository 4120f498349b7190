"""What a failed attempt's record says about the cause, and which remedies answer that. Pure.

The order of the remedies is measured, by `tests/benchmarks/restarts.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from orchestrator.config.schema import (
    AnyRemedy,
    ClipGradients,
    LeakyRelu,
    LowerLearningRate,
    NewSeed,
    Reinitialize,
)
from orchestrator.record.checks import DeadNeuronsCheck, PredictionVarianceCheck
from orchestrator.record.records import INIT, Attempt, Cause

Kind = Literal[
    "non_finite", "born_dead", "shot_up", "died", "collapsed", "astray", "metric", "crashed"
]
"""How an attempt failed:

- `non_finite`: weights, losses or predictions are not finite;
- `born_dead`: dead units cut the output off before any training, or it is not finite then;
- `shot_up`: dead or constant after the loss had shot up, so that a step was too large;
- `died`: dead without that, or no row's output responds to the inputs any more;
- `collapsed`: constant, although units are alive and the output responds;
- `astray`: the prediction varies, and is worse than the best constant;
- `metric`: a gate was missed;
- `crashed`: the worker was killed.
"""

_LIVING: tuple[Kind, ...] = ("collapsed", "astray")
"""Failures of networks whose units are alive."""
SHOT_UP = 3.0
"""An epoch's loss this many times that of the untrained network means that steps were too large: a
network that dies for want of luck goes to the loss of a constant, which is less."""
_DATA_AT_FAULT: dict[Cause, int] = {
    "unrelated_targets": 2,
    "distant_targets": 3,
    "unscaled_inputs": 4,
}
"""After how many failures of living networks that point to it the data is found at fault."""
_OFTEN = 5
"""A network for which so many seeds had to be looked at until one was alive is too deep and narrow:
of nine layers of two units that are alive at first, half die, and of those with leaky relu 5%."""
_DECLINE = 0.2
"""Skill that is lost between two phases without notice."""
_LEAST_FACTOR = 1e-3
_FACTOR = 0.1


def kind(attempt: Attempt) -> Kind:
    """How a failed attempt failed.

    Args:
        attempt: an attempt with a failure.

    Raises:
        ValueError: it has none.
    """
    failure = attempt.failure
    if failure is None:
        raise ValueError(f"expected a failed attempt, received status={attempt.status!r}")
    if failure.check == "crashed":
        return "crashed"
    if failure.phase == INIT:
        return "born_dead"
    if failure.check == "finite":
        return "non_finite"
    if failure.check == "metric":
        return "metric"
    if _shot_up(attempt):
        return "shot_up"
    last = attempt.phases[-1] if attempt.phases else None
    units = None if last is None else last.find(DeadNeuronsCheck)
    if failure.check == "dead_neurons" or (units and units.measured.responding_rows == 0):
        return "died"
    variance = None if last is None else last.find(PredictionVarianceCheck)
    return "collapsed" if variance is not None and variance.is_constant() else "astray"


def rungs(attempt: Attempt) -> tuple[AnyRemedy, ...]:
    """The remedies for a failed attempt, the most promising first.

    Args:
        attempt: an attempt with a failure.
    """
    lower = LowerLearningRate(factor=_factor(attempt), times=3)
    lower_once = lower.model_copy(update={"times": 1})
    leaky, again = LeakyRelu(), NewSeed(times=3)
    causes = {finding.cause for finding in attempt.findings}
    how = kind(attempt)
    if how in _LIVING and causes & {"unscaled_inputs", "distant_targets"}:
        # Steps too large for the rows; where inputs are not scaled, some seeds are spared.
        return (lower if "distant_targets" in causes else lower_once, again, leaky)
    match how:
        case "non_finite":
            return (lower, ClipGradients(), again)
        case "shot_up":
            return (lower, leaky, again)
        case "born_dead":
            # Where seeds were screened, another seed is no different from those.
            same = len(attempt.screened) > 1 or "fixed_seed" in causes
            seeds = () if same else (again,)
            faulty = "initialization" in causes
            fix = (Reinitialize(), leaky) if faulty else (leaky, Reinitialize())
            return (*fix, *seeds) if faulty else (*seeds, *fix)
        case "died" | "collapsed" if len(attempt.screened) >= _OFTEN:
            return (leaky, again, lower)
        case "died":
            return (NewSeed(), leaky, lower, again)
        case "collapsed":
            return (NewSeed(), lower, leaky, again)
        case "astray":
            return (again, leaky, lower)
        case "metric" | "crashed":
            return (again, lower)


def hopeless(attempts: Sequence[Attempt]) -> str | None:
    """Why no remedy can help; None where one may.

    Args:
        attempts: all so far; the last has failed.
    """
    for finding in attempts[-1].findings:
        if finding.final:
            return finding.reason
    # A network that cannot learn noise is not at fault; one that is dead may be.
    living = [each for each in attempts if each.failure and kind(each) in _LIVING]
    for cause, enough in _DATA_AT_FAULT.items():
        seen = [found for each in living for found in each.findings if found.cause == cause]
        if len(seen) >= enough:
            return seen[-1].reason
    return None


def conclusion(attempts: Sequence[Attempt], reason: str) -> str:
    """How a run without success ended: why, what failed, and what the evidence points to.

    Args:
        attempts: all of the run.
        reason: why there is no further attempt.
    """
    failures = [
        f"attempt {each.attempt} failed {each.failure.check}"
        + (f" at {each.failure.phase}" if each.failure.phase else "")
        for each in attempts
        if each.failure is not None
    ]
    # Of one cause, what its last attempt has shown: figures differ from attempt to attempt.
    last = {found.cause: each for each in attempts for found in each.findings}
    findings = dict.fromkeys(
        found.reason for each in attempts for found in each.findings if last[found.cause] is each
    )
    parts = [reason, ", ".join(failures)]
    told = [finding for finding in findings if finding not in reason]
    if told:
        parts.append("what the evidence points to: " + "; ".join(told))
    return ". ".join(part[:1].upper() + part[1:] if index else part
                     for index, part in enumerate(parts))  # fmt: skip


def decline(attempt: Attempt) -> str | None:
    """Where a passed attempt was much better after an earlier phase than at its end.

    Args:
        attempt: an attempt that passed all checks.

    Returns:
        A clause on what was lost, and how to have such an attempt fail; None where nothing was.
    """
    skills = [(phase.phase, skill) for phase in attempt.phases[1:]
              if (skill := phase.skill()) is not None]  # fmt: skip
    if len(skills) < 2:
        return None
    (last, end), (best, skill) = skills[-1], max(skills[:-1], key=lambda pair: pair[1])
    if not end < skill - _DECLINE:
        return None
    return (
        f"attempt {attempt.attempt} has passed with skill {end:.3g} after phase {last}, which was "
        f"{skill:.3g} after phase {best}: what came between has damaged the network; a gate on a "
        "metric, such as {name: loss, max: …}, makes such an attempt fail"
    )


def _factor(attempt: Attempt) -> float:
    """From the rate that failed towards the highest rate that the same attempt survived.

    Two thirds of the way on a logarithmic scale: of a shock at rate 5.0 amid 0.001, a cap halfway
    did not always spare the network. A tenth where no phase before had a lower rate.
    """
    failed = attempt.learning_rates.get(attempt.phases[-1].phase) if attempt.phases else None
    survived = [attempt.learning_rates.get(phase.phase, math.inf) for phase in attempt.phases[1:-1]]
    if failed is None or not 0 < failed < math.inf:
        return _FACTOR
    healthy = max((rate for rate in survived if 0 < rate < failed), default=0.0)
    if not healthy:
        return _FACTOR
    towards = math.pow(healthy / failed, 2 / 3)
    return min(max(towards, _LEAST_FACTOR), _FACTOR)


def _shot_up(attempt: Attempt) -> bool:
    """Whether the phase that failed had an epoch with a loss far above the untrained network's."""
    trained = [phase for phase in attempt.phases if phase.highest_loss is not None]
    if not trained:
        return False
    first, highest = trained[0].first_loss, trained[-1].highest_loss
    if first is None or highest is None:
        return False
    if first <= 0:  # a loss that goes below zero has no measure
        return not math.isfinite(highest)
    return not highest <= SHOT_UP * first
