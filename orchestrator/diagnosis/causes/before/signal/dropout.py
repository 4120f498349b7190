"""Dropout where it does harm."""

from __future__ import annotations

from collections.abc import Iterator

import keras

from orchestrator.diagnosis.causes.before.subject import Subject
from orchestrator.model import keras_internals, layers
from orchestrator.record.records import Finding

_MOST_DROPPED = 0.8
"""Share above which dropout leaves next to nothing."""


def find_heavy_dropout(subject: Subject) -> Iterator[Finding]:
    """Dropout that acts on an output, or leaves less than a fifth of anything.

    In front of the last layer with weights it is as it should be.
    """
    at_end = {id(each) for each in _dropped_outputs(subject)}
    for layer in keras_internals.all_layers(subject.model):
        rate = getattr(layer, "rate", None)
        if not layers.is_dropout(layer) or not isinstance(rate, int | float) or rate <= 0:
            continue
        key = subject.place(layer, "rate")
        if id(layer) in at_end:
            reason = f"layer {layer.name} drops {rate:.0%} of the output itself in training"
            yield subject.found("heavy_dropout", reason, "leave it out", key=key)
        elif rate > _MOST_DROPPED:
            reason = f"layer {layer.name} drops {rate:.0%} of what it is given in training"
            yield subject.found("heavy_dropout", reason, "write a rate of 0.5 or less", key=key)


def _dropped_outputs(subject: Subject) -> Iterator[keras.Operation]:
    """Dropout behind the last layers with weights, where the output is put beside targets."""
    model = subject.model
    if not layers.is_plain(model):
        return
    judged = [each.target is not None and each.unjudged is None for each in subject.outputs]
    ends = keras.tree.flatten(model.outputs)
    if len(judged) != len(ends):
        return
    pending = [end for end, each in zip(ends, judged, strict=True) if each]
    while pending:
        origin = keras_internals.origin(pending.pop())
        if origin is None:
            continue
        layer, inputs = origin
        if layers.is_plain(layer):
            pending.extend(keras.tree.flatten(layer.outputs))
        elif layers.is_dropout(layer):
            yield layer
        elif not getattr(layer, "weights", ()) and len(inputs) == 1 and _keeps_shape(layer):
            pending.extend(inputs)


def _keeps_shape(layer: keras.Operation) -> bool:
    """Whether each number that comes out was one that goes in: no pooling over dropped ones."""
    kinds = (keras.layers.Activation, keras.layers.Flatten, keras.layers.Reshape,
             keras.layers.Rescaling, keras.layers.Softmax)  # fmt: skip
    return isinstance(layer, kinds) or layers.is_activation(layer)
