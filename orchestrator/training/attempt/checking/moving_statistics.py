"""BatchNorm's moving statistics brought to where they belong, by forward passes alone."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence

import keras
import numpy as np

from orchestrator.data.rows import Rows
from orchestrator.diagnosis.causes.after.subject import LOST
from orchestrator.diagnosis.examine import Examination
from orchestrator.model.keras_internals import all_layers
from orchestrator.record.checks import NO_SKILL, AnyCheck, LearnedCheck, PredictionVarianceCheck
from orchestrator.record.events import Doing, Warned
from orchestrator.training.attempt.checking import check
from orchestrator.training.attempt.checking.moment import Moment

_REPORT_SECONDS = 1.0
"""Time between two reports."""
_SOME = 0.01
"""Share of the first values that is left where there were too few steps; else weights have moved
faster than the statistics of what they make."""


def settle(moment: Moment, examined: Examination) -> tuple[Examination, bool]:
    """Settle the moving statistics where they alone make the last phase fail, or fall short.

    Args:
        moment: the end of a phase; where it does not help, the model is as it was.
        examined: what the checks of the phase looked at.

    Returns:
        The checks taken again, and whether the statistics were settled.
    """
    built, batch_size = moment.built, moment.task.config.batch_size
    skills = lag(examined) if moment.is_last else None
    norms = [
        layer
        for layer in all_layers(built.model)
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    ]
    if skills is None or not norms:
        return examined, False
    first = built.model.get_weights()
    pass_rows(
        built.model,
        norms,
        moment.rows.dataset.train,
        batch_size,
        built.settings.seed,
        lambda detail: moment.emit(Doing(what="settling moving statistics", detail=detail)),
    )
    again = check.examine_phase(moment)
    if any(each.verdict == "fail" for each in again.checks):
        built.model.set_weights(first)
        return examined, False
    moving, batch = skills
    left = max(layer.momentum for layer in norms) ** moment.steps
    told = f"of their first values {left:.0%} was left after {moment.steps:,} steps: "
    advice = told if left >= _SOME else ""
    moment.emit(
        Warned(
            message=(
                "BatchNorm's moving statistics had not caught up, and were settled by a forward "
                f"pass over the training rows, which changes no weight that trains: with them the "
                f"skill was {moving:.3g}, with each batch's {batch:.3g}; {advice}write a lower "
                "momentum, or train for more steps"
            )
        )
    )
    return again, True


def lag(examined: Examination) -> tuple[float, float] | None:
    """Skill with moving statistics, and with the batches' where what is learnt hangs on that.

    It does where much is lost by them, or as much as the network falls short by.
    """
    if not any(_is_in_question(each) for each in examined.checks):
        return None
    found = [
        (each.skill, each.skill_with_batch_statistics)
        for check in examined.checks
        if isinstance(check, PredictionVarianceCheck)
        for each in check.measured.outputs
    ]
    pairs = [
        (moving, batch)
        for moving, batch in found
        if moving is not None and batch is not None and math.isfinite(batch)
    ]
    moving, batch = max(pairs, key=lambda pair: pair[1] - pair[0], default=(0.0, 0.0))
    lost = not batch - moving <= LOST or any(_is_short_by(each, batch) for each in examined.checks)
    return (moving, batch) if batch > NO_SKILL and lost else None


def _is_in_question(check: AnyCheck) -> bool:
    return check.verdict == "fail" or (isinstance(check, LearnedCheck) and check.falls_short())


def _is_short_by(check: AnyCheck, skill: float) -> bool:
    """Whether less was learnt than passes without a warning, and that skill would be as much."""
    if not isinstance(check, LearnedCheck) or not check.falls_short():
        return False
    limit = check.limits.warn_below or 0.0
    return all(skill >= limit * (each.reference or 0.0) for each in check.measured.outputs)


def pass_rows(
    model: keras.Model,
    norms: Sequence[keras.layers.BatchNormalization],
    rows: Rows,
    batch_size: int,
    seed: int,
    report: Callable[[str], None] = lambda _: None,
) -> None:
    """Make each moving statistic the mean of those of all whole batches of one pass.

    The momentum of the k-th batch, counted from 0, is k / (k + 1), as in stochastic weight
    averaging (Izmailov et al., 2018): one pass is enough, for in training mode a layer's inputs do
    not hang on the moving statistics of those before it. All other state, such as that of random
    generators, is as it was afterwards.

    Args:
        model: a built model; of its state only the moving statistics change.
        norms: its layers that keep them.
        rows: the training rows.
        batch_size: rows of a training step.
        seed: draws the order of the rows.
        report: told how many batches were passed, at most once a second.
    """
    told = time.monotonic()
    moving = {id(each) for layer in norms for each in (layer.moving_mean, layer.moving_variance)}
    others = [each for each in model.variables if id(each) not in moving]
    kept = [keras.ops.convert_to_numpy(each) for each in others]
    momenta = [layer.momentum for layer in norms]
    try:
        for step, chosen in enumerate(_batches(len(rows), batch_size, seed)):
            for layer in norms:
                layer.momentum = step / (step + 1)
            model(rows.batch(chosen)[0], training=True)
            if time.monotonic() - told >= _REPORT_SECONDS:
                told = time.monotonic()
                report(f"{step + 1:,} batches")
    finally:
        for layer, momentum in zip(norms, momenta, strict=True):
            layer.momentum = momentum
        for variable, value in zip(others, kept, strict=True):
            variable.assign(value)


def _batches(count: int, size: int, seed: int) -> Iterator[np.ndarray]:
    """Positions of the rows of each whole batch, in an order drawn from the seed."""
    size = min(size, count)
    order = np.random.default_rng(seed).permutation(count)
    for start in range(0, count - size + 1, size):
        yield order[start : start + size]
