"""What a failed attempt's record says about how it failed, and what it points to. Pure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Container, Sequence

from orchestrator.config.sections.rates import MOMENTUM, NEAR, is_held, planned_rate, sound_rate
from orchestrator.config.sections.rung import obstacles
from orchestrator.config.sections.when import All, When
from orchestrator.record.checks import DeadNeuronsCheck, LearnedCheck, PredictionVarianceCheck
from orchestrator.record.records import (
    CONFIRMED,
    DECLINE,
    INIT,
    Attempt,
    Cause,
    Failure,
    FailureKind,
    Finding,
    Phase,
)

_OFTEN = 5
"""A network for which so many seeds have to be looked at until one is alive is too deep and narrow:
of nine layers of two units that are alive at first, half die, and of those with leaky relu 5%."""
_FEW_LIVE = 0.45
"""Where a row gets through with a probability below this, most networks are dead or have lost rows:
of 1,152 with seven layers of three units, five of two or three of two, 0.07 to 0.38 learn, and with
leaky relu at ten times the rate 0.75 to 0.95. One unit of relu, as an output may be, has 0.5."""
_FAR_ABOVE = 10.0
"""So many times the rate of a healthy phase is more than one chooses on purpose: usual rates of an
optimizer, and what warm-up and decay make of them, lie within a factor of ten of one another."""
_NO_SKILL = 0.01
"""Skill below which nothing was learnt (design, section 4)."""
_EACH = 2
"""Of so many findings of one cause each is told."""
_IN_THE_WAY: frozenset[Cause] = frozenset(
    {"rate_too_low", "unscaled_inputs", "distant_targets", "initialization"}
)
"""What a network that has learnt too little could have done without, in as many epochs."""
OUTPUT: frozenset[Cause] = frozenset({"loss_mismatch", "unreachable_targets"})
"""What is found of an output that does not fit its loss or its targets."""
_SLOW: frozenset[Cause] = frozenset({"rate_too_low", "undertrained", "unusual_rate"})
"""What is found of a network that got too little far; a rate far above the usual one aside."""
_THROWN: frozenset[FailureKind] = frozenset({"diverged", "non_finite"})
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
    often = screened >= _OFTEN or is_deep_and_narrow(attempt.phases)
    if kind in _LITTLE_LEARNT and often:
        return frozenset({kind, "often_dead_at_init"})
    return frozenset({kind})


def reasons(when: When | None, attempt: Attempt) -> tuple[str, ...]:
    """Why a failed attempt is one that a line of the policy answers.

    Args:
        when: what the line answers; None means any failure.
        attempt: an attempt with a failure.

    Returns:
        The reasons of the findings that were asked for, or else that of the failure; none where it
        is another one.
    """
    failure = attempt.failure
    if failure is None:
        raise ValueError(f"expected a failed attempt, received status={attempt.status!r}")
    if when is None and failure.check == "findings":
        return ()  # no training could succeed, unless a rung is made for that cause
    evidence = [each for each in attempt.findings if _is_evidence(each)]
    found, causes = kinds(attempt), {finding.cause for finding in evidence}
    if not isinstance(when, All):
        matches = when is None or not {failure.check, *found, *causes}.isdisjoint(when)
        return (failure.reason,) if matches else ()
    if when.check is not None and failure.check not in when.check:
        return ()
    if when.kind is not None and found.isdisjoint(when.kind):
        return ()
    if when.cause is None and not when.certain:
        return (failure.reason,)
    return tuple(
        finding.told
        for finding in evidence
        if (when.cause is None or finding.cause in when.cause)
        and (finding.certain or not when.certain)
    )


def _is_evidence(finding: Finding) -> bool:
    """Whether a policy goes by a finding: not by a mere suspicion, which a failure confirms."""
    return finding.found == "after" or finding.certain or finding.cause not in CONFIRMED


def applies(when: When | None, attempts: Sequence[Attempt]) -> bool:
    """Whether a line of the policy answers the last failure, and enough of them have been so.

    Args:
        when: what the line answers; None means any failure.
        attempts: all so far, each with a failure.
    """
    if not reasons(when, attempts[-1]):
        return False
    count = when.count if isinstance(when, All) else 1
    return count == 1 or sum(len(reasons(when, each)) for each in attempts) >= count


def found_causes(attempts: Sequence[Attempt]) -> list[tuple[int, str]]:
    """What the evidence on failed attempts points to, each cause once.

    Args:
        attempts: of one run.

    Returns:
        The number of the last attempt that shows a cause, for figures differ from attempt to
        attempt, and what it was: where it was suspected before the training and found after it, as
        it was found then. Where many layers or outputs have one cause, the first is told and the
        others are counted. Advice from before the training comes last: not all of it has to do with
        the failure.
    """
    last = {
        found.cause: (each.attempt, found.found) for each in attempts for found in each.findings
    }
    told = [
        (each.attempt, found)
        for each in attempts
        for found in each.findings
        if last[found.cause] == (each.attempt, found.found)
    ]
    told.sort(key=lambda pair: pair[1].found == "before" and not pair[1].certain)
    shown: dict[str, list[tuple[int, str]]] = {}
    for number, found in told:
        shown.setdefault(found.cause, []).append((number, found.told))
    return [line for lines in shown.values() for line in _counted(lines)]


def _counted(lines: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """What was found of one cause, where it is much no more than the first and the number."""
    if len(lines) <= _EACH:
        return lines
    (number, first), *more = lines
    return [(number, f"{first} (and {len(more)} more like it)")]


def main_cause(attempt: Attempt, answered: Container[str] = ()) -> str | None:
    """What a failed attempt points to, in one clause; None where that is not known.

    What is certain explains more than what is not, and what stood against the training before it
    began more than what the training has shown: that is the order in which it was found.

    Args:
        attempt: the attempt.
        answered: the causes that the next remedy answers, which come before any other.
    """

    def place(finding: Finding) -> tuple[bool, bool]:
        return not (finding.cause in answered and _is_evidence(finding)), not finding.certain

    found = sorted(attempt.findings, key=place)
    return found[0].reason if found else None


def conclusion(attempts: Sequence[Attempt], reason: str) -> str:
    """How a run without success ended: the cause, then why nothing else was tried.

    Args:
        attempts: all of the run.
        reason: why there is no further attempt.
    """
    causes = dict.fromkeys(told for _, told in found_causes(attempts))
    told = [cause for cause in causes if cause not in reason]
    if told:
        cause = "; ".join(told)
    elif causes:  # the reason is the cause
        return reason
    else:
        cause = _last_failure([each.failure for each in attempts if each.failure is not None])
    return f"{cause}. {reason[:1].upper()}{reason[1:]}"


def _last_failure(failures: Sequence[Failure]) -> str:
    """Why attempts failed, in the words of the last."""
    last = failures[-1]
    how = "crashed" if last.check == "crashed" else f"failed {last.check}"
    if len(failures) == 1:
        who = "the attempt"
    elif len({each.check for each in failures}) > 1:
        who = f"the last of {len(failures)} attempts"
    else:
        who, how = f"all {len(failures)} attempts", f"{how}, the last one because"
        return f"{who} {how} {last.reason}"
    return f"{who} {how}: {last.reason}"


def short_fall(attempt: Attempt) -> Failure | None:
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
    short = check.surely_falls_short()
    if not short and (attempt.usual_rate() is None or not check.is_behind()):
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
        or len(attempt.screened) >= _OFTEN
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
        if last.failure is not None and not kinds(last).isdisjoint(_THROWN):
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
        None where there is none, and where it passed its checks for its falling loss alone, and an
        attempt that failed them has learnt more.
    """
    ended = [each for each in attempts if each.status == "failed" and each.phases]
    short = [each for each in ended if short_fall(each) is not None]
    best = max(short, key=_share, default=None)
    if best is None or all(_share(each) <= _share(best) for each in attempts):
        return best
    learned = best.phases[-1].find(LearnedCheck)
    return None if learned is not None and learned.is_behind() else best


def _share(attempt: Attempt) -> float:
    """What it learnt of what the reference learns; none where that is not known."""
    return (attempt.phases[-1].share() if attempt.phases else None) or 0.0


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
    constant = variance is not None and variance.is_constant()
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

    All units of a layer of n are negative for a row with probability 2**-n (Lu, Shin, Su and
    Karniadakis, Dying ReLU and initialization, 2020); of nine layers of two 0.92 are dead by this,
    and 0.91 are. A layer that looks at several positions of a row seldom loses all of them.

    Args:
        phases: the finished ones of an attempt.
    """
    check = phases[0].find(DeadNeuronsCheck) if phases else None
    layers = () if check is None else check.measured.layers
    places = min((each.rows or 0 for each in layers), default=0)
    widths = [
        each.units for each in layers if each.activation == "relu" and each.rows in (None, places)
    ]
    return math.prod(1 - 0.5**units for units in widths) < _FEW_LIVE


def _is_undertrained(phase: Phase) -> bool:
    """Whether nothing was learnt until then, and the loss was still falling."""
    learnt, variance = phase.find(LearnedCheck), phase.find(PredictionVarianceCheck)
    if learnt is None or not learnt.was_falling() or (variance is not None and variance.lags()):
        return False
    skills = [each.skill for each in learnt.measured.outputs] + [phase.skill()]
    return any(skill is not None and skill < _NO_SKILL for skill in skills)


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
        if (skill := phase.skill()) is None or skill > _NO_SKILL
    ]
    rate = attempt.learning_rates.get(blamed or "", 0.0)
    return any(0 < each * _FAR_ABOVE <= rate for each in healthy)
