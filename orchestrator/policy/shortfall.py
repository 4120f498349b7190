"""Whether an attempt that passed its checks has learnt what it is to, by its record. Pure."""

from __future__ import annotations

import math
from collections.abc import Container, Sequence

from orchestrator.config.sections.rates import MOMENTUM, NEAR, is_held, planned_rate, sound_rate
from orchestrator.config.sections.rung import obstacles
from orchestrator.policy.kinds import OFTEN, THROWN, is_deep_and_narrow, kinds
from orchestrator.record.checks import LearnedCheck
from orchestrator.record.records import Attempt, Cause, Failure

_IN_THE_WAY: frozenset[Cause] = frozenset(
    {"rate_too_low", "unscaled_inputs", "distant_targets", "initialization", "over_regularised"}
)
"""What a network that has learnt too little could have done without, in as many epochs."""
OUTPUT: frozenset[Cause] = frozenset({"loss_mismatch", "unreachable_targets"})
"""What is found of an output that does not fit its loss or its targets."""
_SLOW: frozenset[Cause] = frozenset({"rate_too_low", "undertrained", "unusual_rate"})
"""What is found of a network that got too little far; a rate far above the usual one aside."""


def find(attempt: Attempt) -> Failure | None:
    """Why an attempt that passed its checks has learnt less than it is to.

    That is asked of one that was restarted, and of one that is in question. That a part of the
    model is frozen excuses a little that was learnt, but not at a rate far above the usual one.
    What the scatter of the rows may explain is no shortfall.

    Args:
        attempt: an attempt with all of its phases.

    Returns:
        None where it has learnt enough, or where that is not known.
    """
    last = attempt.phases[-1]
    check = last.find(LearnedCheck)
    if last.failure() is not None or check is None:
        return None
    excused = check.measured.lenient is not None and attempt.usual_rate() is not None
    if not check.surely_falls_short() and not (excused and check.is_surely_behind()):
        return None
    reason = check.reason.removesuffix(f"; {check.measured.lenient}")
    return Failure(check=check.check, phase=last.phase, reason=reason)


def is_in_question(attempt: Attempt, answered: Container[str]) -> bool:
    """Whether a first attempt that passed is held to what one that was repaired is held to.

    So it is at a rate that is no usual one, and where most networks as deep and narrow are dead:
    of those that live most have lost rows on the way, and more epochs do not bring them back; and
    where the training has shown what stood in its way, other than that it was short, or that it was
    slow at a rate far below one at which most networks train; or an output is known that fits its
    loss and targets better, and the policy may write it; or it has learnt so little that it passed
    for its falling loss alone, which is that with dropout, and shown to be of no use without.

    Args:
        attempt: an attempt with all of its phases.
        answered: the causes that the policy answers.
    """
    shown = {each.cause for each in attempt.findings if each.found == "after"}
    learned = attempt.phases[-1].find(LearnedCheck)
    return (
        any(
            each.fix and each.cause in OUTPUT and each.cause in answered
            for each in attempt.findings
        )
        or attempt.usual_rate() is not None
        or not shown.isdisjoint(_IN_THE_WAY)
        or (
            "heavy_dropout" in shown
            and learned is not None
            and learned.is_behind()
            and learned.was_falling()
        )
        or is_slow([attempt])
        or len(attempt.screened) >= OFTEN
        or is_deep_and_narrow(attempt.phases)
    )


def is_slow(attempts: Sequence[Attempt]) -> bool:
    """Whether the last attempt was slow, at a rate far below one at which most networks train.

    That is what findings show; of one that has not trained its planned rate alone is known. SGD
    without momentum goes in a step a tenth as far as with one of 0.9.

    Args:
        attempts: all so far.
    """
    last, hindered = attempts[-1], obstacles(attempts)
    sound, rate = sound_rate(attempts), planned_rate(attempts)
    if last.failure is None or last.failure.check != "findings":
        slow = any(each.cause in _SLOW for each in last.findings)
        if not slow or last.usual_rate() is not None or is_held(attempts):
            return False
        if last.failure is not None and not kinds(last).isdisjoint(THROWN):
            return False
        rate = last.learning_rates.get(last.blamed_phase() or "", rate)
    if sound is None or rate is None or "fresh_weights" in hindered:
        return False
    gathers = "momentum" in hindered or last.settings.momentum is not None
    return (rate if gathers else rate * (1 - MOMENTUM)) * NEAR < sound


def best_short(attempts: Sequence[Attempt]) -> Attempt | None:
    """Of the attempts that failed by nothing else the one that learnt the most.

    Args:
        attempts: all so far.

    Returns:
        None where there is none, and where it passed its checks for its falling loss alone, and the
        skill of another one is higher.
    """
    ended = [each for each in attempts if each.status == "failed" and each.phases]
    short = [each for each in ended if find(each) is not None]
    best = max(short, key=_share, default=None)
    if best is None or not any(_skill(each) > _skill(best) for each in attempts):
        return best
    learned = best.phases[-1].find(LearnedCheck)
    return None if learned is not None and learned.is_behind() else best


def _skill(attempt: Attempt) -> float:
    """By which the best attempt of a run that ends without a model is named."""
    skill = attempt.skill()
    return -math.inf if skill is None else skill


def _share(attempt: Attempt) -> float:
    """What it learnt of what the reference learns; none where that is not known."""
    return (attempt.phases[-1].share() if attempt.phases else None) or 0.0
