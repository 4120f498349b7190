"""What holds a network back: penalties that shrink its weights, dropout that leaves too little.

And dropout without which, as in inference, the network is worse than with it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from orchestrator.data.rows import transform
from orchestrator.diagnosis.causes.after.subject import LOST, Subject
from orchestrator.diagnosis.causes.scales import size
from orchestrator.diagnosis.skill.columns import OutputSkill
from orchestrator.diagnosis.skill.scores import Scores
from orchestrator.model.build import plain_optimizers
from orchestrator.model.keras_internals import all_layers, own_variables
from orchestrator.model.layers import is_dropout
from orchestrator.model.losses.returned import Returned
from orchestrator.record.records import Finding

_SHRUNK = 0.1
"""Share of a weight's size that a penalty leaves of it where it is shrunk to nothing: of what goes
through two such layers a hundredth is left."""
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


def find_over_regularised(subject: Subject) -> Iterator[Finding]:
    """Weights that a penalty has shrunk to nothing, or units that dropout leaves too few of."""
    if subject.untrained or not (subject.is_poor or subject.is_constant):
        return
    held = min(_penalised(subject), key=lambda each: each.left, default=None)
    if held is not None:
        yield _held_small(subject, held)
        return
    yield from _decayed(subject)
    yield from _dropped(subject)


def _decayed(subject: Subject) -> Iterator[Finding]:
    """An optimizer's decay that lets no weight grow to 1.

    Adam's steps are of size 1 at most, so that weights end below 1 / decay (Loshchilov and Hutter,
    Decoupled weight decay regularization, 2019).
    """
    decay = max((each.weight_decay or 0.0 for each in _decaying(subject)), default=0.0)
    if decay >= 1:
        reason = f"a weight_decay of {decay:g} draws every weight back to below {1 / decay:.2g}"
        yield subject.found("over_regularised", reason, "write a weight_decay of 0.1 or less")


def _decaying(subject: Subject) -> list[keras.optimizers.Optimizer]:
    optimizers = plain_optimizers(subject.model)
    return [each for each in optimizers if getattr(each, "weight_decay", None)]


def _dropped(subject: Subject) -> Iterator[Finding]:
    """Dropout that leaves too few units at a step to learn from."""
    rates = _dropout_rates(subject)
    through = math.prod(1 - rate for rate in rates.values())
    if drops_too_much(subject) and not subject.is_falling:
        told = ", ".join(f"{name} {rate:g}" for name, rate in rates.items())
        reason = (
            f"dropout leaves {through:.2g} of what goes through the network at a step ({told}), "
            "too little to learn from"
        )
        yield subject.found("over_regularised", reason, "write rates of 0.5 or less, or fewer")


def drops_too_much(subject: Subject) -> bool:
    """Whether dropout leaves too few units at a step; the loss goes up and down by that alone."""
    return math.prod(1 - rate for rate in _dropout_rates(subject).values()) < _LET_THROUGH


def find_shifting_dropout(subject: Subject) -> Iterator[Finding]:
    """Predictions that are good with the units left out that training leaves out, and not without.

    What goes through the network has the same mean without dropout and a smaller variance, of
    which relu and its like make other values (Li, Chen, Hu and Yang, Understanding the disharmony
    between dropout and batch normalization by variance shift, 2019; Özgür and Nar, Effect of
    dropout layer on classical regression problems, 2020). Not with BatchNorm, of which statistics
    shift as well.
    """
    rates = _dropout_rates(subject)
    if subject.untrained or not rates or not subject.is_poor:
        return
    if not subject.probe.can_measure or subject.probe.has_batch_normalization:
        return
    skills = _dropout_skills(subject)
    pairs = [] if skills is None else [
        (without.skill, by.skill)
        for without, by in zip(*skills, strict=True)
        if without.skill is not None and by.skill is not None
    ]  # fmt: skip
    without, by = max(pairs, key=lambda pair: pair[1] - pair[0], default=(0.0, 0.0))
    if by >= _WELL and by - without > LOST:
        which = f"{len(rates)} layers, at most {max(rates.values()):g}"
        if len(rates) == 1:
            which = "".join(f"{name}, {rate:g}" for name, rate in rates.items())
        reason = (
            f"with dropout ({which}), as in training, the mean of {_PASSES} predictions has a "
            f"skill of {by:.3g}, and without it, as in inference, the prediction has "
            f"{without:.3g}: what goes through the layers varies less then, and they make other "
            "values of it"
        )
        advice = "leave it out where values are predicted, or write much lower rates"
        yield subject.found("heavy_dropout", reason, advice)


def _dropout_skills(subject: Subject) -> tuple[list[OutputSkill], list[OutputSkill]] | None:
    """What each column is worth without dropout, and the mean of its predictions with it.

    On rows from all over the data. None where units are left out in inference as well. The model
    is as it was afterwards, its random generators and all that its layers count included.
    """
    model, rows = subject.model, subject.rows
    places = np.arange(len(rows))
    if len(rows) > _ROWS:
        places = np.sort(np.random.default_rng(0).choice(places, _ROWS, replace=False))
    x, y, weight = rows.batch(places)
    trained = {id(each) for each in model.trainable_variables}
    others = [each for each in model.variables if id(each) not in trained]
    kept = [keras.ops.convert_to_numpy(each) for each in others]

    def predict(passes: int, *, training: bool) -> list[Returned]:
        # In a graph, whose steps cost a recurrent layer far less than a loop in Python.
        predicted = tf.function(
            lambda inputs: keras.tree.flatten(model(inputs, training=training)), autograph=False
        )
        tensors = transform(tf.convert_to_tensor, x)
        seen = [predicted(tensors) for _ in range(passes)]
        return [
            Returned(tf.reduce_mean(tf.stack(each), axis=0)) for each in zip(*seen, strict=True)
        ]

    def score(returned: list[Returned]) -> list[OutputSkill]:
        scores = Scores(subject.outputs, subject.config.batch_size, subject.class_weight)
        scores.see(returned, y, weight)
        return [column for columns in scores.columns() for column in columns]

    try:
        without = predict(1, training=False)
        now = [keras.ops.convert_to_numpy(each) for each in others]
        if not all(map(np.array_equal, kept, now)):
            return None
        return score(without), score(predict(_PASSES, training=True))
    finally:
        for variable, value in zip(others, kept, strict=True):
            variable.assign(value)


def _dropout_rates(subject: Subject) -> dict[str, float]:
    return {
        layer.name: float(layer.rate)
        for layer in all_layers(subject.model)
        if is_dropout(layer) and layer.rate > 0
    }


@dataclasses.dataclass(frozen=True, slots=True)
class _Penalised:
    """A kernel that a penalty holds small."""

    layer: keras.Layer
    by: str
    """The penalty."""
    largest: float
    """Its largest weight."""
    left: float
    """Share of its size that is left."""
    price: float | None
    """Penalty of a kernel as it is usually drawn; None where that hangs on more than its weights.
    """


def _penalised(subject: Subject) -> Iterator[_Penalised]:
    """Kernels with a penalty that are next to nothing, or that cost more than a constant loses."""
    decays = [f"weight_decay of {each.weight_decay:g}" for each in _decaying(subject)]
    loss = subject.constant_loss
    for layer in all_layers(subject.model):
        for variable in own_variables(layer):
            if len(variable.shape) < 2 or variable.path not in subject.start:
                continue
            by = _penalty(layer, variable) or next(iter(decays), None)
            draw = keras.initializers.GlorotUniform(seed=0)(variable.shape)
            usual = size(keras.ops.convert_to_numpy(draw))
            left = size(subject.weights[variable.path]) / max(
                size(subject.start[variable.path]), usual / 2
            )
            price = None if variable.regularizer is None else float(variable.regularizer(draw))
            dear = price is not None and loss is not None and price >= loss
            if by is not None and (left < _SHRUNK or dear):
                largest = float(np.abs(keras.ops.convert_to_numpy(variable)).max())
                yield _Penalised(layer, by, largest, left, price)


def _held_small(subject: Subject, found: _Penalised) -> Finding:
    """That a penalty holds a kernel small, certain where it costs more than there is to gain."""
    small = "shrunk to nothing" if found.left < _SHRUNK else "held small"
    reason = (
        f"the kernel of layer {found.layer.name} is {small} by its {found.by}, largest weight "
        f"{found.largest:.2g}"
    )
    certain, loss = False, subject.constant_loss
    if found.price is not None and loss is not None:
        reason += (
            f", for the penalty of a usual kernel would be {found.price:.3g}, and the loss of a "
            f"constant is {loss:.3g}"
        )
        certain = subject.is_constant and found.left < _SHRUNK and found.price >= loss
    return subject.found("over_regularised", reason, "weaken it or take it away", certain=certain)


def _penalty(layer: keras.Layer, variable: keras.Variable) -> str | None:
    if variable.regularizer is not None:
        return f"regularizer {type(variable.regularizer).__name__}"
    if getattr(layer, "activity_regularizer", None) is not None:
        return f"activity regularizer {type(layer.activity_regularizer).__name__}"
    return None
