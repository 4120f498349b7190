"""How the training went: without effect, not long enough, in steps too small or too large."""

from __future__ import annotations

import math
from collections.abc import Iterator

import keras
import numpy as np
from msgspec.structs import replace

from orchestrator.config.sections.rates import MOMENTUM
from orchestrator.diagnosis.causes.after.capacity import find_too_small
from orchestrator.diagnosis.causes.after.dropout import drops_too_much
from orchestrator.diagnosis.causes.after.subject import Subject
from orchestrator.diagnosis.causes.plan import (
    ADAPTIVE,
    DIVIDING,
    UNUSUAL,
    faster,
    times_usual,
    usual_rate,
)
from orchestrator.diagnosis.causes.scales import size
from orchestrator.model.build import plain_optimizers
from orchestrator.record.records import NEAR_USUAL, Finding, Fix

_USUAL_MOVE = 0.3
"""A training that has learnt moves some weights by about so much of their size, or more."""
_LEAST_MOVED = 0.02
"""Share of its size that a weight changes by in any training that gets somewhere. What is drawn is
not the solution: of 56 healthy networks of the tests, the weight that moved the most changed by 0.1
of its size or more."""
_NO_LOSS = 1e-6
"""A loss that is 0 but for Keras's clipping of probabilities at 1e-7."""
_FASTER = 10.0
"""How many times as high a rate may be at which weights get less far than they are large."""
_MUCH = 0.8
"""Skill on the rows that were trained on, from which on steps are not what is wanting."""
_LEAST_EPOCHS = 6
"""Epochs of which it can be told that the loss goes up and down."""
_SWING = 0.1
"""Change from one epoch to the next, as a share of the loss: more than the noise of batches."""


def find_no_effect(subject: Subject) -> Iterator[Finding]:
    """A training that has left every weight as it was.

    Certain where nothing is trainable, where the rate was 0, and where the loss was: no seed
    changes that.
    """
    if subject.untrained or not subject.steps or not _stands_still(subject):
        return
    still, certain = f"no weight has changed in {_steps(subject)}", True
    if not subject.model.trainable_variables:
        reason = f"{still}, for nothing in the model is trainable"
        advice = "leave out trainable: false where there is something to learn"
    elif not max(subject.rates, default=1.0):
        reason, certain = f"{still}, for the learning rate was 0 in every epoch", not subject.slowed
        advice = "write a learning rate above 0, such as 0.001 for Adam"
    elif max(map(abs, subject.course), default=1.0) < _NO_LOSS:
        reason = f"{still}, for the loss was 0 from the first step on, whatever the prediction"
        advice = "write a loss that compares predictions with targets, such as mse"
    elif subject.is_alive:
        rate = max(subject.rates, default=0.0)
        reason, certain = f"{still} at rates up to {rate:g}, for no step has reached one", False
        advice = (
            "raise the rate where it is tiny, or else let the loss have a gradient, which round, "
            "argmax and stop_gradient have not"
        )
    else:
        return
    yield subject.found("no_effect", reason, advice, certain=certain)


def _stands_still(subject: Subject) -> bool:
    """Whether no weight is another one than before the training."""
    digests = {phase.weights for phase in subject.phases}
    if None not in digests and len(digests) == 1:
        return True
    now = subject.weights
    return bool(subject.start) and all(
        path in now and np.array_equal(values, now[path]) for path, values in subject.start.items()
    )


def find_undertrained(subject: Subject) -> Iterator[Finding]:
    """A loss that was still falling when the training ended, with too little learnt by then.

    Not at a rate that nobody chooses: what falls then has first shot up.
    """
    if subject.untrained or not subject.is_poor or not subject.is_falling:
        return
    rate, optimizers = max(subject.rates, default=0.0), plain_optimizers(subject.model)
    if any((times_usual(each, rate) or 0.0) > UNUSUAL for each in optimizers):
        return
    before, last, span = subject.course[-1 - subject.span], subject.course[-1], subject.span
    count = len(subject.losses)
    late = "the last" if span == 1 else f"the last {span}"
    when = f"{late} of {count} epochs" if span < count else f"all {count} epochs"
    if count == 1:
        when = "the only epoch"
    ended, advice = "ended", "train for more epochs, or at a higher rate"
    if subject.shortened > 1:
        ended, advice = "ended early", "train at a higher rate"
    reason = (
        f"the loss{' without its penalties' * subject.penalised} was still falling when the "
        f"training {ended}, from {before:.4g} to {last:.4g} in {when}, "
        f"{(last - before) / span:.3g} an epoch, after {_steps(subject)}"
    )
    found = subject.found("undertrained", reason, advice)
    times = _times(subject)
    for optimizer in optimizers[:1]:
        if subject.without_skill and isinstance(optimizer, keras.optimizers.SGD):
            times *= 10  # gradients get smaller as the loss falls, and so do the steps
        fix = (
            faster(subject.model, subject.outputs, rate, times)
            if rate > 0
            else Fix(learning_rate_factor=times)
        )
        if fix.learning_rate_factor is not None or fix.factor_with_momentum is not None:
            found = replace(found, fix=fix)
    yield found


def _times(subject: Subject) -> float:
    """How many times as high the rate has to be for some weight to move as usual, a power of 10."""
    largest = _USUAL_MOVE if subject.most_moved is None else subject.most_moved
    return math.pow(10, max(1, math.ceil(math.log10(_USUAL_MOVE / max(largest, 1e-9)))))


def find_rate_too_low(subject: Subject) -> Iterator[Finding]:
    """Weights that have hardly moved from where they were drawn, or that cannot get far from it."""
    found = [*_find_unmoved(subject)] or [*_find_out_of_reach(subject)]
    yield from found or _find_slow(subject)


def _find_out_of_reach(subject: Subject) -> Iterator[Finding]:
    """Steps that are too small together for a weight to change by its own size.

    What is drawn badly, as most narrow networks are, stays so.
    """
    if subject.untrained or subject.slowed or not (subject.failed or subject.is_poor):
        return
    if subject.is_poor and subject.is_falling:  # that has been told, with the same advice
        return
    optimizers = plain_optimizers(subject.model)
    if len(optimizers) != 1 or not isinstance(optimizers[0], ADAPTIVE) or not subject.rates:
        return
    epochs = sum(each.epochs for each in subject.config.phases)
    way = float(np.mean(subject.rates)) * subject.steps * max(epochs / len(subject.rates), 1.0)
    paths = {each.path for each in subject.model.trainable_variables if len(each.shape) > 1}
    sizes = [size(values) for path, values in subject.start.items()
             if path in paths and values.any()]  # fmt: skip
    if not sizes or not 0 < way < np.median(sizes):
        return
    name = type(optimizers[0]).__name__
    reason = (
        f"at rates up to {max(subject.rates):g}, {name} moves a weight by {way:.2g} at most in "
        f"{epochs} epochs, where fresh weights are about {np.median(sizes):.2g} in size: what is "
        f"drawn badly stays so"
    )
    advice = f"write a learning rate {_FASTER:g} times as high, or train for more epochs"
    found = subject.found("rate_too_low", reason, advice)
    yield replace(found, fix=Fix(learning_rate_factor=_FASTER))


def _find_slow(subject: Subject) -> Iterator[Finding]:
    """Steps along the gradient that have not brought the loss down, though it was never lower.

    Where the gradient is small, as it is on the plateau that most trainings begin with, so are
    steps that are in proportion to it, or that a sum of all gradients before divides. Not where
    much was learnt of the rows that were trained on, or of what there is to learn, not where a
    linear network can do no more, and not where a remedy has lowered the rate.
    """
    if subject.untrained or subject.slowed or not subject.is_poor or subject.is_falling:
        return
    optimizers, rate = plain_optimizers(subject.model), max(subject.rates, default=0.0)
    if len(optimizers) != 1 or not subject.span or not rate or drops_too_much(subject):
        return
    optimizer, course, span = optimizers[0], subject.course, subject.span
    if not _follows_gradient(optimizer, rate) or not _has_learnt_little(subject):
        return
    if not np.isfinite(course).all() or min(course[-span:]) > min(course):
        return
    if any(find_too_small(subject)):
        return
    name, times = type(optimizer).__name__, NEAR_USUAL
    if isinstance(optimizer, keras.optimizers.SGD):
        name, instead = "SGD without momentum", f"momentum: {MOMENTUM:g}"
    else:
        times = DIVIDING[type(optimizer)] / rate
        instead = f"learning_rate: {DIVIDING[type(optimizer)]:g}"
    reason = (
        f"{name} has not got far in {_steps(subject)} at rates up to {rate:g}: the loss was lowest "
        f"in the last {span} epoch{'s' * (span != 1)}, {min(course):.4g} after {course[0]:.4g} at "
        "first"
    )
    advice = f"write {instead}, take Adam, or train for more epochs"
    found = subject.found("rate_too_low", reason, advice)
    yield replace(found, fix=faster(subject.model, subject.outputs, rate, times))


def _has_learnt_little(subject: Subject) -> bool:
    """Whether little was learnt of the rows, and, where known, of what the reference learns."""
    skills = [each.skill for each in subject.columns]
    shares = [each.share for each in subject.shares if each.share is not None]
    little = any(each is not None and each < _MUCH for each in skills)
    return little and (not shares or min(shares) < _MUCH)


def _follows_gradient(optimizer: keras.optimizers.Optimizer, rate: float) -> bool:
    """Whether an optimizer's steps get small with the gradient, at a rate that is not high."""
    if isinstance(optimizer, keras.optimizers.SGD):
        return not optimizer.momentum and (times_usual(optimizer, rate) or 0.0) <= NEAR_USUAL
    return float(f"{rate:.6g}") < DIVIDING.get(type(optimizer), 0.0)


def _find_unmoved(subject: Subject) -> Iterator[Finding]:
    """Weights that have hardly moved from where they were drawn, with too little learnt by then."""
    largest = subject.most_moved
    if subject.untrained or not subject.is_poor or not subject.steps or largest is None:
        return
    if not largest < _LEAST_MOVED or _stands_still(subject):
        return
    most = max(subject.moved.values())
    reason = (
        f"the weights have hardly moved, none by more than {most:.2g} of its size in "
        f"{_steps(subject)} at rates up to {max(subject.rates, default=0.0):g}"
    )
    if subject.slowed:
        reason += ", to which a remedy has lowered them"
    times = _times(subject)
    advice = f"write a learning rate {times:,.0f} times as high, or train for as many more steps"
    found = subject.found("rate_too_low", reason, advice)
    optimizers, rate = plain_optimizers(subject.model), max(subject.rates, default=0.0)
    known = len(optimizers) == 1 and rate > 0
    fix = (
        faster(subject.model, subject.outputs, rate, times)
        if known
        else Fix(learning_rate_factor=times)
    )
    yield replace(found, fix=fix)


def find_oscillating(subject: Subject) -> Iterator[Finding]:
    """A loss that goes up and down from epoch to epoch instead of down, with too little learnt."""
    last = subject.phases[-1].epochs
    losses = np.array(
        subject.losses[len(subject.losses) - last :][-max(last // 2, _LEAST_EPOCHS) :]
    )
    if subject.untrained or not subject.is_poor or len(losses) < _LEAST_EPOCHS:
        return
    changes = np.diff(losses)
    turns = int(np.count_nonzero(changes[1:] * changes[:-1] < 0))
    swing, level = np.abs(changes).mean(), np.median(np.abs(losses))
    # Of losses that differ by chance alone two thirds are turns; of falling ones few.
    if not np.isfinite(losses).all() or 3 * turns < len(losses) or swing <= _SWING * level:
        return
    if drops_too_much(subject):
        return
    reason = (
        f"the loss goes up and down instead of down, between {losses.min():.4g} and "
        f"{losses.max():.4g} in the last {len(losses)} epochs, {swing / level:.0%} an epoch, at "
        f"rates up to {max(subject.rates[-last:], default=0.0):g}, which are too high"
    )
    yield subject.found("oscillating", reason, "lower the learning rate, or take larger batches")


def find_unusual_rate(subject: Subject) -> Iterator[Finding]:
    """A rate orders of magnitude above the usual one, where a training has failed at it.

    Where a layer has lost most of its units in an epoch, that is the rate of this epoch: what a
    schedule does before or after has not killed them.
    """
    if subject.untrained or not (subject.failed or subject.is_short) or not subject.rates:
        return
    if subject.lag is not None:
        return
    lost = subject.phases[-1].lost
    if lost is None or not lost.is_most:
        rate, when = max(subject.rates), "went up to {}"
    else:
        rate = lost.learning_rate
        when = f"was {{}} in epoch {lost.epoch}, in which {lost.layer} lost {lost.lost} units"
    for optimizer in plain_optimizers(subject.model)[:1]:
        usual, times = usual_rate(optimizer), times_usual(optimizer, rate)
        if times is None or not UNUSUAL < times < math.inf:
            continue
        momentum = float(getattr(optimizer, "momentum", 0.0))
        gathers = isinstance(optimizer, keras.optimizers.SGD) and momentum > MOMENTUM
        beside = f", which with a momentum of {momentum:g} is" if gathers else ","
        reason = (
            f"the learning rate {when.format(f'{rate:.3g}')}{beside} {times:,.0f} times what "
            f"{type(optimizer).__name__} usually takes"
        )
        advice = f"write a rate near {usual:.3g}"
        if gathers:
            advice += f", or one near {usual_rate(keras.optimizers.SGD()):.3g} and momentum: 0.9"
        found = subject.found("unusual_rate", reason, advice)
        yield replace(found, fix=Fix(learning_rate_factor=usual / rate, usual_rate=usual))


def _steps(subject: Subject) -> str:
    return f"{subject.steps:,} step{'s' * (subject.steps != 1)}"
