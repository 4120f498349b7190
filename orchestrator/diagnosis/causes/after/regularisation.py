"""Penalties that hold a network back, for they shrink its weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import keras
import numpy as np

from orchestrator.diagnosis.causes.after.subject import Subject
from orchestrator.diagnosis.causes.before.signal.penalty import describe_decay
from orchestrator.diagnosis.causes.scales import size
from orchestrator.model.build import plain_optimizers
from orchestrator.model.keras_internals import all_layers, own_variables
from orchestrator.model.remedies import penalty
from orchestrator.record.checks import NO_SKILL
from orchestrator.record.records import Finding

_SHRUNK = 0.1
"""Share of a weight's size that a penalty leaves of it where it is shrunk to nothing: of what goes
through two such layers a hundredth is left."""
_HELD = 0.5
"""That which it leaves at most where it holds it small: a wide kernel as it was drawn may cost more
than a constant loses at a usual strength, and training makes it no smaller."""


def find_over_regularised(subject: Subject) -> Iterator[Finding]:
    """Weights that a penalty has shrunk to nothing, or a decay that lets none grow."""
    if subject.untrained or not (subject.is_poor or subject.is_constant):
        return
    held = min(_penalised(subject), key=lambda each: each.left, default=None)
    if held is not None:
        yield _held_small(subject, held)
        return
    decay = describe_decay(subject.model)
    if decay is not None:
        yield subject.found("over_regularised", *decay)


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
    decays = [
        f"weight_decay of {decay:g}"
        for decay in map(penalty.decay, plain_optimizers(subject.model))
        if decay
    ]
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
            dear = price is not None and loss is not None and price >= loss and left < _HELD
            if by is not None and (left < _SHRUNK or dear):
                largest = float(np.abs(keras.ops.convert_to_numpy(variable)).max())
                yield _Penalised(layer, by, largest, left, price)


def _held_small(subject: Subject, found: _Penalised) -> Finding:
    """That a penalty holds a kernel small; certain where it costs more than there is to gain.

    And only where none but the user can weaken it.
    """
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
        # What is left of a kernel that swings about zero is not always constant enough to fail by.
        learnt = any(each.skill is None or each.skill >= NO_SKILL for each in subject.columns)
        useless = subject.is_constant or (subject.is_poor and not learnt)
        useless &= penalty.obstacle(subject.model, plain_optimizers(subject.model)) is not None
        certain = useless and found.left < _SHRUNK and found.price >= loss
    return subject.found("over_regularised", reason, "weaken it or take it away", certain=certain)


def _penalty(layer: keras.Layer, variable: keras.Variable) -> str | None:
    if variable.regularizer is not None:
        return f"regularizer {type(variable.regularizer).__name__}"
    if getattr(layer, "activity_regularizer", None) is not None:
        return f"activity regularizer {type(layer.activity_regularizer).__name__}"
    return None
