"""Outputs that are held constant by a kernel that is frozen at zero."""

from __future__ import annotations

from collections.abc import Iterator

import keras
import numpy as np

from orchestrator.data.rows import leaves
from orchestrator.diagnosis.causes.before.subject import Subject
from orchestrator.diagnosis.causes.before.trial import draw_weights, predict_with
from orchestrator.model import layers
from orchestrator.model.keras_internals import all_layers, own_variables
from orchestrator.record.records import Finding

_DRAWS = 3
"""Random weights with which the prediction is made; a network lets something through with most."""


def find_held_at_zero(subject: Subject) -> Iterator[Finding]:
    """Outputs that are constant whatever the weights that train, for others are frozen at zero.

    A kernel that starts at zero and trains is healthy, as in residual networks; and so is a frozen
    one that another path leads around.
    """
    held = _held(subject.model) if layers.is_callable(subject.model) else []
    x, _, _ = subject.few
    if not held or not any(np.any(array != array[:1]) for _, array in leaves(x)):
        return
    made = [
        predict_with(subject.model, x, draw_weights(subject.model, seed)) for seed in range(_DRAWS)
    ]
    for index, output in enumerate(subject.outputs):
        if not output.trained or any(np.any(each[index] != each[index][:1]) for each in made):
            continue
        layer = held[-1]
        yield subject.found(
            "held_at_zero",
            f"the kernel of layer {layer.name} is zero and frozen (trainable=False), so that "
            f"{output.named} is the same on every row whatever the other weights are",
            "let the layer train, or give it weights before it is frozen",
            # Of a model that is not to be trained it says only why it is as it is.
            certain=subject.varies(index) and not subject.trained_elsewhere,
            key=subject.place(layer, "trainable"),
        )


def _held(model: keras.Model) -> list[keras.Layer]:
    """Layers with a kernel that is zero everywhere and does not train, in the model's order."""
    return [
        layer
        for layer in all_layers(model)
        if any(
            len(variable.shape) > 1
            and not variable.trainable
            and "kernel" in variable.name
            and not np.any(keras.ops.convert_to_numpy(variable))
            for variable in own_variables(layer)
        )
    ]
