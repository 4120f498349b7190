"""Dropout that is in a network's way: it shifts the predictions, drowns them, leaves too little."""

from __future__ import annotations

import math
from collections.abc import Iterator

from orchestrator.diagnosis.causes.after import dropped
from orchestrator.diagnosis.causes.after.dropped import PASSES, Dropped
from orchestrator.diagnosis.causes.after.subject import LOST, Subject
from orchestrator.diagnosis.causes.plan import UNUSUAL, times_usual
from orchestrator.model.build import plain_optimizers
from orchestrator.record.checks import FindingsCheck
from orchestrator.record.records import Finding

_LET_THROUGH = 0.15
"""Share of the units that all Dropout layers together let through at a step, where that is little:
three of 0.5, as in networks that learn, let more through."""
_WELL = 0.5
"""Skill of what is predicted well enough with dropout."""
_DROWNS = 1.0
"""So many times the variance of a prediction over the rows, its variance over what is left out
drowns it: the best that is left for a training is to make both half as large.

Of 21 networks with dropout that learnt too little at a usual rate, and had no other fault, it is
1.0 to 115, and most learn nearly all without dropout."""
_DROWNS_FALLING = 5.0
"""The same where the loss was still falling: of eleven such networks that had learnt too little it
is 8 to 115 for four, which learnt little more at ten times the rate, and 0.3 to 2.8 for the others,
most of which were on their way. After a quarter of the epochs, of 27 whose `learned` failed at one
time or another, it is above 5 for seven, which all fail at the end, and at most 4.8 for the seven
that pass there."""
_SLOW = 0.1
"""At less than so many times its usual rate an optimizer may have given a network no signal yet."""
_ADVICE = "write much lower rates, or leave it out"


def find_shifting_dropout(subject: Subject, below: float | None = None) -> Iterator[Finding]:
    """Predictions that are good with the units left out that training leaves out, and not without.

    What goes through the network has the same mean without dropout and a smaller variance, of
    which relu and its like make other values (Li, Chen, Hu and Yang, Understanding the disharmony
    between dropout and batch normalization by variance shift, 2019; Özgür and Nar, Effect of
    dropout layer on classical regression problems, 2020). Not with BatchNorm, of which statistics
    shift as well.

    Args:
        subject: a network that has been trained.
        below: asked of outputs that have learnt a smaller share; None for one that is warned of.
    """
    limits = subject.config.checks.learned
    if below is None:
        below = math.inf if limits is None else limits.warn_below or math.inf
    columns = _columns(subject, below)
    if not columns:
        return
    worst = max(columns, key=lambda each: each.by - each.without)
    if not (worst.by >= _WELL and worst.by - worst.without > LOST):
        return
    reason = (
        f"with dropout ({_told(subject)}), as in training, the mean of {PASSES} predictions"
        f"{_of(worst)} has a skill of {worst.by:.3g}, and without it, as in inference, the "
        f"prediction has {worst.without:.3g}: what goes through the layers varies less then, and "
        "they make other values of it"
    )
    yield subject.found("heavy_dropout", reason, _ADVICE)


def find_drowning_dropout(subject: Subject, *, early: bool = False) -> Iterator[Finding]:
    """Predictions that vary more by what is left out than by what they are predictions of.

    To be asked where nothing else is found than that the training was slow: whatever leaves a
    network without a signal makes the noise great beside it. So does a rate far too low to give it
    one, and so do rows that have none.

    Args:
        subject: a network that has been trained.
        early: whether its training goes on, so that its loss counts as falling.
    """
    before = subject.phases[0].find(FindingsCheck)
    if before is not None and {*before.measured.causes} - {"heavy_dropout"}:
        return
    if subject.untrained or not subject.is_poor or not _has_usual_rate(subject):
        return
    limits = subject.config.checks.learned
    short = [] if limits is None else _columns(subject, limits.warn_below or 1.0, known=True)
    if not short:
        if drops_too_much(subject) and not subject.is_falling and not subject.dropped:
            reason = (
                f"dropout ({_told(subject)}) leaves {_let_through(subject):.2g} of what goes "
                "through the network at a step, too little to learn from"
            )
            yield subject.found("over_regularised", reason, "write rates of 0.5 or less, or fewer")
        return
    worst = min(short, key=lambda each: each.without)
    if not worst.noise >= (_DROWNS_FALLING if early or subject.is_falling else _DROWNS):
        return
    times = f"{worst.noise:.2g}" if worst.noise < 10 else f"{worst.noise:,.0f}"
    varies = f"{times} times as much by the units that are left out as over the rows"
    if math.isinf(worst.noise):
        varies = "by the units that are left out, and not over the rows"
    reason = (
        f"with dropout ({_told(subject)}), as in training, the prediction{_of(worst)} varies "
        f"{varies}, so that little can be learnt"
    )
    yield subject.found("heavy_dropout", reason, _ADVICE)


def drops_too_much(subject: Subject) -> bool:
    """Whether dropout leaves too few units at a step; the loss goes up and down by that alone."""
    return _let_through(subject) < _LET_THROUGH


def _columns(subject: Subject, below: float, *, known: bool = False) -> list[Dropped]:
    """What dropout makes of the outputs that have learnt a smaller share.

    Args:
        subject: the network.
        below: that share.
        known: whether outputs of which no share is known are left out.
    """
    if subject.untrained or not subject.is_poor:
        return []
    shares = {each.output: each.share for each in subject.shares}
    least = {number: share for number, share in shares.items() if share is not None}
    return [
        each
        for each in subject.dropped
        if (least[each.output] < below if each.output in least else not known)
    ]


def _has_usual_rate(subject: Subject) -> bool:
    optimizers, rates = plain_optimizers(subject.model), subject.rates
    times = times_usual(optimizers[0], max(rates)) if rates and len(optimizers) == 1 else None
    return times is None or _SLOW <= times <= UNUSUAL


def _rates(subject: Subject) -> list[tuple[str, float]]:
    return [(each.name, float(each.rate)) for each in dropped.dropping(subject.model)]


def _let_through(subject: Subject) -> float:
    return math.prod(1 - rate for _, rate in _rates(subject))


def _told(subject: Subject) -> str:
    rates = _rates(subject)
    if len(rates) == 1:
        return "".join(f"{name}, {rate:g}" for name, rate in rates)
    return f"{len(rates)} layers, at most {max(rate for _, rate in rates):g}"


def _of(column: Dropped) -> str:
    return f" of output {column.name}" if column.name else ""
