"""How a failed attempt failed, by its record. Pure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from orchestrator.record.checks import (
    NO_SKILL,
    DeadNeuronsCheck,
    LearnedCheck,
    PredictionVarianceCheck,
)
from orchestrator.record.records import DECLINE, INIT, Attempt, FailureKind, Phase

OFTEN = 5
"""A network for which so many seeds have to be looked at until one is alive is too deep and narrow:
of nine layers of two units that are alive at first, half die, and of those with leaky relu 5%."""
_FAR_ABOVE = 10.0
"""So many times the rate of a healthy phase is more than one chooses on purpose: usual rates of an
optimizer, and what warm-up and decay make of them, lie within a factor of ten of one another."""
THROWN: frozenset[FailureKind] = frozenset({"diverged", "non_finite"})
"""Failures of steps that were too large."""
_LITTLE_LEARNT = ("died", "constant", "worse_than_baseline", "undertrained", "crippled")
"""What becomes of networks that are too deep and narrow."""


def kinds(attempt: Attempt) -> frozenset[FailureKind]:
    """How a failed attempt failed, which may be of two kinds at once.

    Args:
        attempt: an attempt with a failure.

    Raises:
        ValueError: it has none.
    """
    if attempt.failure is not None and attempt.failure.check == "findings":
        return frozenset()  # what the findings say is all that is known
    kind = _kind(attempt)
    screened = len(attempt.screened)
    fixed = any(finding.cause == "fixed_seed" for finding in attempt.findings)
    if kind == "dead_at_init" and (screened > 1 or fixed):
        return frozenset({kind, "always_dead_at_init"})
    often = screened >= OFTEN or is_deep_and_narrow(attempt.phases)
    if kind in _LITTLE_LEARNT and often:
        return frozenset({kind, "often_dead_at_init"})
    return frozenset({kind})


def _kind(attempt: Attempt) -> FailureKind:
    failure = attempt.failure
    if failure is None:
        raise ValueError(f"expected a failed attempt, received status={attempt.status!r}")
    if failure.check == "crashed":
        return "crashed"
    if failure.phase == INIT:
        return "dead_at_init"
    if failure.check == "finite":
        return "non_finite"
    if failure.check == "metric":
        return "metric"
    if attempt.diverged() or (failure.check == "learned" and _declined(attempt)):
        return "diverged"
    last = attempt.phases[-1] if attempt.phases else None
    units = None if last is None else last.find(DeadNeuronsCheck)
    died = failure.check == "dead_neurons" or (units and units.measured.responding_rows == 0)
    variance = None if last is None else last.find(PredictionVarianceCheck)
    constant = variance is not None and (variance.is_constant() or variance.is_blind())
    if (died or constant) and _stepped_too_far(attempt):
        return "diverged"
    if died:
        return "died"
    if constant:
        return "constant"
    if last is not None and _is_undertrained(last):
        return "undertrained"
    return "crippled" if failure.check == "learned" else "worse_than_baseline"


def is_deep_and_narrow(phases: Sequence[Phase]) -> bool:
    """Whether most networks with layers of relu as wide are dead as they are drawn.

    Args:
        phases: the finished ones of an attempt.
    """
    check = phases[0].find(DeadNeuronsCheck) if phases else None
    return check is not None and check.is_deep_and_narrow()


def _is_undertrained(phase: Phase) -> bool:
    """Whether nothing was learnt until then, and the loss was still falling."""
    learnt, variance = phase.find(LearnedCheck), phase.find(PredictionVarianceCheck)
    if learnt is None or not learnt.was_falling() or (variance is not None and variance.lags()):
        return False
    skills = [each.skill for each in learnt.measured.outputs] + [phase.skill()]
    return any(skill is not None and skill < NO_SKILL for skill in skills)


def _declined(attempt: Attempt) -> bool:
    """Whether the attempt was much better after an earlier phase than at its end."""
    *before, last = [phase.skill() for phase in attempt.phases[1:]] or [None]
    return last is not None and any(
        skill is not None and skill - last > DECLINE for skill in before
    )


def _stepped_too_far(attempt: Attempt) -> bool:
    """Whether the phase to blame ran far above the rate at which one before it had learnt.

    A loss that never rose does not speak against it: units die in a few steps, and what is left
    goes to the loss of a constant within the epoch. Where most of a layer fell silent in an epoch
    at whose beginning a schedule has raised the rate so far, the phases need not be asked.
    """
    lost = None if attempt.failure is None else attempt.failure.lost
    if (
        lost is not None
        and lost.is_most
        and _FAR_ABOVE * (lost.rate_before or math.inf) <= (lost.learning_rate)
    ):
        return True
    blamed = attempt.blamed_phase()
    trained = itertools.takewhile(lambda phase: phase.phase != blamed, attempt.phases[1:])
    healthy = [
        attempt.learning_rates.get(phase.phase, math.inf)
        for phase in trained
        if (skill := phase.skill()) is None or skill > NO_SKILL
    ]
    rate = attempt.learning_rates.get(blamed or "", 0.0)
    return any(0 < each * _FAR_ABOVE <= rate for each in healthy)
