"""Dropout that is in a network's way: it shifts the predictions, drowns them, leaves too little."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from orchestrator.data.rows import transform
from orchestrator.diagnosis.causes.after.subject import LOST, Subject
from orchestrator.diagnosis.causes.plan import UNUSUAL, times_usual
from orchestrator.diagnosis.skill.columns import OutputSkill
from orchestrator.diagnosis.skill.scores import Scores
from orchestrator.model.build import plain_optimizers
from orchestrator.model.keras_internals import all_layers
from orchestrator.model.layers import is_dropout
from orchestrator.model.losses.returned import Returned
from orchestrator.record.checks import FindingsCheck
from orchestrator.record.records import Finding

_LET_THROUGH = 0.15
"""Share of the units that all Dropout layers together let through at a step, where that is little:
three of 0.5, as in networks that learn, let more through."""
_ROWS = 512
"""Rows that tell what dropout makes of the predictions."""
_WELL = 0.5
"""Skill of what is predicted well enough with dropout."""
_PASSES = 16
"""Predictions with dropout of which the mean is taken: of a network of which 0.8 of the units are
left in it is as good as that of many."""
_DROWNS = 1.0
"""So many times the variance of a prediction over the rows, its variance over what is left out
drowns it: the best that is left for a training is to make both half as large.

Of 21 networks with dropout that learnt too little at a usual rate, and had no other fault, it is
1.0 to 115, and most learn nearly all without dropout."""


def find_heavy_dropout(subject: Subject) -> Iterator[Finding]:
    """Predictions that dropout makes so bad that too little is learnt, or that hang on it.

    That they drown in it, or that it leaves too little, is told of a training that had a usual
    rate, came to its end, and has nothing else against it.
    """
    rates = _rates(subject)
    if subject.untrained or not rates or not subject.is_poor:
        return
    seen = _look(subject)
    reason = None if seen is None else _shift(seen, rates)
    if reason is None and not subject.is_falling and _has_no_other_fault(subject):
        reason = None if seen is None else _noise(seen, rates)
        if reason is None and drops_too_much(subject):
            reason = (
                f"dropout ({_told(rates)}) leaves {_let_through(rates):.2g} of what goes through "
                "the network at a step, too little to learn from"
            )
    if reason is not None:
        advice = "leave it out where values are predicted, or write much lower rates"
        yield subject.found("heavy_dropout", reason, advice)


def find_shift(subject: Subject) -> str | None:
    """Why predictions are good with the units left out that training leaves out, and not without.

    What goes through the network has the same mean without dropout and a smaller variance, of
    which relu and its like make other values (Li, Chen, Hu and Yang, Understanding the disharmony
    between dropout and batch normalization by variance shift, 2019; Özgür and Nar, Effect of
    dropout layer on classical regression problems, 2020). Not with BatchNorm, of which statistics
    shift as well.

    Returns:
        A clause; None where it is not so.
    """
    rates = _rates(subject)
    seen = _look(subject) if rates else None
    return None if seen is None else _shift(seen, rates)


def drops_too_much(subject: Subject) -> bool:
    """Whether dropout leaves too few units at a step; the loss goes up and down by that alone."""
    return _let_through(_rates(subject)) < _LET_THROUGH


def _let_through(rates: dict[str, float]) -> float:
    return math.prod(1 - rate for rate in rates.values())


def _rates(subject: Subject) -> dict[str, float]:
    return {
        layer.name: float(layer.rate)
        for layer in all_layers(subject.model)
        if is_dropout(layer) and layer.rate > 0
    }


def _told(rates: dict[str, float]) -> str:
    if len(rates) == 1:
        return "".join(f"{name}, {rate:g}" for name, rate in rates.items())
    return f"{len(rates)} layers, at most {max(rates.values()):g}"


def _has_no_other_fault(subject: Subject) -> bool:
    """Whether the rate was a usual one, and nothing else was found before the training."""
    before = subject.phases[0].find(FindingsCheck)
    if before is not None and {*before.measured.causes} - {"heavy_dropout"}:
        return False
    optimizers, rates = plain_optimizers(subject.model), subject.rates
    times = times_usual(optimizers[0], max(rates)) if rates and len(optimizers) == 1 else None
    return times is None or 1 / UNUSUAL <= times <= UNUSUAL


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Dropped:
    """What one output's predictions are worth, and what dropout makes of them."""

    of_output: str
    """Which it is, to be told; empty where there is one."""
    without: float
    """Skill without dropout, as in inference, of the column that dropout changes most."""
    by: float
    """Skill of that column's mean prediction with dropout, as in training."""
    noise: float
    """Variance of the prediction over what is left out, as a multiple of that over the rows."""


def _shift(seen: list[_Dropped], rates: dict[str, float]) -> str | None:
    """Why what is predicted well with dropout is predicted far worse without."""
    worst = max(seen, key=lambda each: each.by - each.without)
    if not (worst.by >= _WELL and worst.by - worst.without > LOST):
        return None
    return (
        f"with dropout ({_told(rates)}), as in training, the mean of {_PASSES} predictions"
        f"{worst.of_output} has a skill of {worst.by:.3g}, and without it, as in inference, the "
        f"prediction has {worst.without:.3g}: what goes through the layers varies less then, and "
        "they make other values of it"
    )


def _noise(seen: list[_Dropped], rates: dict[str, float]) -> str | None:
    """Why what a network predicts drowns in what dropout makes of it in training."""
    worst = min(seen, key=lambda each: each.without)
    if not worst.noise >= _DROWNS:
        return None
    varies = f"{worst.noise:.2g} times as much by the units that are left out as over the rows"
    if math.isinf(worst.noise):
        varies = "by the units that are left out, and not over the rows"
    return (
        f"with dropout ({_told(rates)}), as in training, the prediction{worst.of_output} varies "
        f"{varies}, so that little can be learnt"
    )


def _look(subject: Subject) -> list[_Dropped] | None:
    """What dropout makes of each output, on rows from all over the data.

    None where that cannot be told, or units are left out in inference as well. The model is as it
    was afterwards, its random generators and all that its layers count included.
    """
    if not subject.probe.can_measure or subject.probe.has_batch_normalization:
        return None
    model, rows = subject.model, subject.rows
    places = np.arange(len(rows))
    if len(rows) > _ROWS:
        places = np.sort(np.random.default_rng(0).choice(places, _ROWS, replace=False))
    x, y, weight = rows.batch(places)
    trained = {id(each) for each in model.trainable_variables}
    others = [each for each in model.variables if id(each) not in trained]
    kept = [keras.ops.convert_to_numpy(each) for each in others]
    tensors = transform(tf.convert_to_tensor, x)

    def predict(passes: int, *, training: bool) -> list[tf.Tensor]:
        """Predictions of each output, of shape (passes, rows, ...)."""
        # In a graph, whose steps cost a recurrent layer far less than a loop in Python.
        predicted = tf.function(
            lambda inputs: keras.tree.flatten(model(inputs, training=training)), autograph=False
        )
        seen = [predicted(tensors) for _ in range(passes)]
        return [tf.stack(each) for each in zip(*seen, strict=True)]

    def score(predictions: list[tf.Tensor]) -> list[list[OutputSkill]]:
        scores = Scores(subject.outputs, subject.config.batch_size, subject.class_weight)
        returned = [Returned(tf.reduce_mean(each, axis=0)) for each in predictions]
        scores.see(returned, y, weight)
        return scores.columns()

    try:
        without = predict(1, training=False)
        if not all(
            np.array_equal(before, keras.ops.convert_to_numpy(each))
            for before, each in zip(kept, others, strict=True)
        ):
            return None
        by = predict(_PASSES, training=True)
    finally:
        for variable, value in zip(others, kept, strict=True):
            variable.assign(value)
    found = []
    looked = zip(subject.outputs, by, score(without), score(by), strict=True)
    for output, predicted, old, new in looked:
        of_output = f" of output {output.name}" if output.name else ""
        pairs = [
            (one.skill, other.skill)
            for one, other in zip(old, new, strict=True)
            if one.skill is not None and other.skill is not None
        ]
        if pairs:
            worst = max(pairs, key=lambda pair: pair[1] - pair[0])
            noise = _noise_of(predicted)
            found.append(_Dropped(of_output=of_output, without=worst[0], by=worst[1], noise=noise))
    return found or None


def _noise_of(predicted: tf.Tensor) -> float:
    """Variance over passes as a multiple of that over rows; infinite where rows are all alike.

    Args:
        predicted: of shape (passes, rows, ...).
    """
    values = np.asarray(predicted, dtype=np.float64)
    noise = values.var(axis=0, ddof=1).mean()
    # The mean of so many passes still has a part of the noise.
    signal = values.mean(axis=0).var(axis=0).mean() - noise / len(values)
    if not noise > 0:
        return 0.0
    return float(noise / signal) if signal > 0 else math.inf
