"""Trainings that are too short, at a rate that trains nothing, or at one that is a slip."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf
from msgspec.structs import replace

from orchestrator.config.yaml12 import Key
from orchestrator.data.rows import select, trained_on
from orchestrator.diagnosis.causes.before.subject import Subject
from orchestrator.diagnosis.causes.plan import (
    ADAPTIVE,
    LEAST_LEFT,
    Plan,
    faster,
    place_in_optimizer,
    read_plan,
    usual_rate,
)
from orchestrator.model import keras_internals
from orchestrator.model.build import clipping
from orchestrator.model.keras_internals import all_layers, compute_loss, own_variables
from orchestrator.record.records import Finding, Fix

_WAY = 0.1
"""Sum of the rates below which such an optimizer moves no weight by its own size: fresh weights are
some tenths (Glorot's are within 0.1 of zero from 600 inputs and units on)."""
_SHORT_WAY = 0.01
"""The same of an optimizer that follows the gradient: length of its way over that of the weights,
as long as the gradient stays as it is at the start, where it is large."""
_SLIP = 10.0
"""So many times the usual rate may be a slip."""
_LEAP = 6.0
"""So many times its own size in one step is no step: what a weight was is forgotten at once."""
_GRADIENT_RATE = 100.0
"""From here on, gradient descent overshoots in any network; of a language model 30 is known
(Merity, Keskar and Socher, Regularizing and optimizing LSTM language models, 2018)."""
_FAINT = 0.01
"""Share of the usual rate at which a training that is too short is so for want of rate."""
_FASTER = 10.0
"""How many times as high the rate may be where a training at a usual one is short."""
_FEW_STEPS = 24
_FEW_WHOLE = 100
"""Steps that are few where each takes all rows: then nobody has chosen how many there are."""
_ENDED, _FADED = 1e-6, 0.01
"""Shares of its highest value at which a rate has come to an end, and at which one that falls for
ever should be at the end."""
_LOOKS = 32
"""Steps at which a schedule is asked for its highest rate."""
_BOUND_WAY = 0.1
"""Share of its size beyond which clipping has to let some kernel get in a training that learns.

Of 56 healthy networks of the tests the weight that moved the most changed by so much or more. Of
networks with one and two hidden layers on a table, which have a skill of 0.93 without clipping,
bounds that allow 0.003, 0.03, 0.08, 0.3, 0.8 and 3 leave -0.02, 0.02, 0.10, 0.33, 0.62 and 0.93.
"""
_USUAL_BOUND = 1.0
"""A bound that people write."""
_TRIAL_ROWS = 32
"""Rows that the gradient is taken of."""


def find_planned_faults(subject: Subject) -> Iterator[Finding]:
    """What the number of steps and their rates let expect: no effect, a leap, or too little.

    Nothing where the user's code decides on steps or rates; too little is only said of a network
    that begins fresh, for fine-tuning takes few steps at low rates.
    """
    plan = read_plan(subject)
    if plan is None:
        return
    ended = [*_find_end(subject, plan)]
    if ended:
        yield from ended
        return
    leap = [*_find_leap(subject, plan)]
    yield from leap
    if not subject.begins_trained:
        yield from _find_clipped(subject, plan)
    if not leap and not subject.begins_trained:
        yield from _find_short(subject, plan)


def _find_end(subject: Subject, plan: Plan) -> Iterator[Finding]:
    """A rate that is 0, or comes to 0 before half of the training."""
    highest = plan.highest.rates.max()
    if highest == 0:
        reason = f"the learning rate is 0 in all {plan.steps:,} steps, so that no weight changes"
        advice = "give the optimizer a rate above 0"
        yield subject.found("no_effect", reason, advice, certain=True, key=plan.highest.key)
        return
    limit, last = _ENDED * highest, plan.stretches[-1]
    resting = sum(float(np.mean(each.rates <= limit)) * each.steps for each in plan.stretches)
    if resting > plan.steps / 2 and last.rates[-1] <= limit:
        reason = (
            f"the learning rate goes from {_rate(highest)} to {_rate(last.rates[-1])}, and so "
            f"nothing is trained in about {resting / plan.steps:.0%} of the {plan.steps:,} steps"
        )
        stretch = _stretch(plan)
        found = subject.found("no_effect", reason, _longer(subject, plan, stretch), key=last.key)
        yield replace(found, fix=stretch and Fix(schedule_stretch=stretch))


def _stretch(plan: Plan) -> float | None:
    """How many times as many steps the config's schedule may take; None where there is none."""
    schedule, last = keras_internals.learning_rate(plan.optimizer), plan.steps - 1
    if not isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
        return None

    looks = np.linspace(0, last, _LOOKS).astype(np.int64)
    highest = max(float(schedule(int(step))) for step in looks)

    def first_below(share: float) -> int:
        return bisect.bisect_left(
            range(last), True, key=lambda step: float(schedule(step)) <= share * highest
        )

    end = first_below(_ENDED)
    if float(schedule(min(math.ceil(1.1 * end), last))) != float(schedule(last)):
        end = first_below(_FADED)
    return float(f"{plan.steps / end:.4g}") if 0 < end < last else None


def _longer(subject: Subject, plan: Plan, stretch: float | None) -> str:
    """What to write for a schedule that is to take as many steps as the training, as a clause."""
    schedule = keras_internals.learning_rate(plan.optimizer)
    own = {name: getattr(schedule, name, None) for name in ("warmup_steps", "decay_steps")}
    if stretch is None or not own["decay_steps"] or subject.config is None:
        return f"let the schedule reach its end at step {plan.steps:,}, the last one"
    write = " and ".join(f"{name}: {stretch * steps:.0f}" for name, steps in own.items() if steps)
    if own["decay_steps"] != sum(each.epochs for each in subject.config.phases):
        return f"write {write}, to end with the training"
    each_epoch = f"{subject.steps_per_epoch:,} to an epoch"
    return f"write {write}, for decay_steps counts steps, {each_epoch}, not epochs"


def _find_leap(subject: Subject, plan: Plan) -> Iterator[Finding]:
    """A rate at which one step throws every weight far beyond its own size."""
    highest, name = plan.highest, type(plan.optimizer).__name__
    rate, usual = float(highest.rates.max()), usual_rate(plan.optimizer)
    if isinstance(plan.optimizer, ADAPTIVE):
        size = _size_of_weights(subject.model) if rate > _SLIP * usual else None
        if size is None or rate < _LEAP * size:
            return
        what = f"moves a weight by {rate / size:.0f} times its own size, which is about {size:.2g}"
    elif isinstance(plan.optimizer, keras.optimizers.SGD) and rate >= _GRADIENT_RATE:
        what = "overshoots in any network"
    else:
        return
    reason = (
        f"the learning rate of phase {highest.phase} is {_rate(rate)}, at which one step of {name} "
        f"{what}"
    )
    found = subject.found(
        "unusual_rate", reason, f"write a rate near {_rate(usual)}", key=highest.key
    )
    yield replace(found, fix=Fix(learning_rate_factor=usual / rate, usual_rate=usual))


def _find_clipped(subject: Subject, plan: Plan) -> Iterator[Finding]:
    """A bound on gradients with which SGD, whose steps are as long as they are, gets nowhere.

    Adam and its kind divide by the size of the gradients, which takes any bound away again.
    """
    clips = clipping(plan.optimizer)
    if clips is None or not isinstance(plan.optimizer, keras.optimizers.SGD):
        return
    name, bound = clips
    way = plan.way * bound / max(1 - float(plan.optimizer.momentum), LEAST_LEFT)
    reach = max((way / each for each in _sizes(subject.model, root_mean=name == "clipvalue")),
                default=1.0)  # fmt: skip
    # Where a usual bound holds the weights as well, it is the rate that is too low, or the steps.
    if not (bound < _USUAL_BOUND and reach < _BOUND_WAY <= reach * _USUAL_BOUND / bound):
        return
    rate = max(float(each.written.max()) for each in plan.stretches)
    reason = (
        f"gradients are clipped to {name} {bound:g}, with which no kernel moves by more than "
        f"{reach:.2g} of its size in {plan.steps:,} steps at a rate up to {_rate(rate)}, whatever "
        "the gradient"
    )
    key = () if subject.config is None else place_in_optimizer(subject.config, name)
    yield subject.found(
        "clipped", reason, f"write {name}: {_USUAL_BOUND:g}, or leave it out", key=key
    )


def _sizes(model: keras.Model, *, root_mean: bool) -> list[float]:
    """Size of each kernel that trains, at least that of one as it is usually drawn."""
    found = []
    for each in model.trainable_variables:
        if len(each.shape) < 2:
            continue
        values = np.asarray(each.numpy(), np.float64)
        usual = np.sqrt(2 / (values.size / values.shape[-1] + values.shape[-1]))
        size = max(float(np.sqrt(np.mean(values**2))), float(usual))
        found.append(size if root_mean else size * math.sqrt(values.size))
    return found


def _find_short(subject: Subject, plan: Plan) -> Iterator[Finding]:
    """Steps that are too few, or too small, to get anywhere as the config has them."""
    usual = usual_rate(plan.optimizer)
    rate = max(float(each.written.max()) for each in plan.stretches)
    name, count = type(plan.optimizer).__name__, f"{plan.steps:,} step{'s' * (plan.steps != 1)}"
    reach = _reach(subject, plan)
    if reach is not None and rate <= _FAINT * usual:
        reason = (
            f"the learning rate {_rate(rate)} is far below what {name} usually takes, "
            f"{_rate(usual)}: in {count} it {reach}"
        )
        advice = f"write a rate near {_rate(usual)}"
        found = subject.found("unusual_rate", reason, advice, key=plan.highest.key)
        yield (
            replace(found, fix=faster(subject.model, subject.outputs, rate, usual / rate))
            if rate
            else found
        )
    elif reach is not None:
        reason = f"the training is short: in {count} {name}, at a rate up to {_rate(rate)}, {reach}"
        advice = "train for more epochs, in smaller batches, or at a higher rate"
        found = subject.found("few_steps", reason, advice, key=_longest(subject))
        yield replace(found, fix=faster(subject.model, subject.outputs, rate, _FASTER))
    else:
        yield from _find_few(subject, plan)


def _find_few(subject: Subject, plan: Plan) -> Iterator[Finding]:
    """Steps that are few whatever their size, perhaps for a batch that takes all rows."""
    if subject.config is None:
        return
    batch, rows = subject.config.batch_size, len(subject.rows)
    whole = batch > rows and subject.steps_per_epoch == 1
    if plan.steps >= (_FEW_WHOLE if whole else _FEW_STEPS):
        return
    reason = f"the training is short: it has {plan.steps:,} step{'s' * (plan.steps != 1)} in all"
    if whole:
        reason += f", for a batch of {batch:,} takes all of the {rows:,} rows at once"
        advice = "write a smaller batch_size, or train for more epochs"
        yield subject.found("few_steps", reason, advice, key=("batch_size",))
    else:
        advice = "train for more epochs, or in smaller batches"
        yield subject.found("few_steps", reason, advice, key=_longest(subject))


def _reach(subject: Subject, plan: Plan) -> str | None:
    """How far the weights get at most, as a clause, where that is not far enough to learn."""
    if plan.way >= _WAY:
        return None
    if isinstance(plan.optimizer, ADAPTIVE):
        size = _size_of_weights(subject.model)
        beside = "" if size is None else f", where fresh weights are about {size:.2g} in size"
        return f"moves a weight by {plan.way:.2g} at most{beside}"
    if isinstance(plan.optimizer, keras.optimizers.SGD):
        way = _way_along_gradient(subject, plan)
        if way is not None and way < _SHORT_WAY:
            return f"moves the weights by {way:.2g} of their size at most"
    return None


def _way_along_gradient(subject: Subject, plan: Plan) -> float | None:
    """Length of the way of gradient descent over that of the weights, with the first gradient."""
    model = subject.model
    x, y, weight = trained_on(select(subject.few, slice(0, _TRIAL_ROWS)))
    with tf.GradientTape() as tape:
        loss = compute_loss(model, x, y, model(x, training=False), weight)
    variables = [each.value for each in model.trainable_variables]
    gradients = [each for each in tape.gradient(loss, variables) if each is not None]
    size = float(tf.linalg.global_norm(variables)) if variables else 0.0
    if not gradients or not size:
        return None
    momentum = float(getattr(plan.optimizer, "momentum", 0.0))
    return plan.way * float(tf.linalg.global_norm(gradients)) / size / max(1 - momentum, _WAY)


def _size_of_weights(model: keras.Model) -> float | None:
    """Root of the mean square of the kernels that train, that of the one in the middle."""
    trainable = {id(each) for each in model.trainable_variables}
    sizes = [
        float(np.sqrt(np.mean(np.square(each.numpy(), dtype=np.float64))))
        for layer in all_layers(model)
        if not isinstance(layer, keras.layers.Embedding)
        for each in own_variables(layer)
        if len(each.shape) > 1 and id(each) in trainable
    ]
    known = [size for size in sizes if size > 0]
    return float(np.median(known)) if known else None


def _longest(subject: Subject) -> Key:
    """Where the config says how long its longest phase is."""
    if subject.config is None:
        return ()
    phases = subject.config.phases
    return ("phases", max(range(len(phases)), key=lambda index: phases[index].epochs), "epochs")


def _rate(value: float) -> str:
    return f"{value:.3g}"
