"""Dropout that leaves less out, also after the model was saved and loaded in plain Keras."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras

from orchestrator.model import keras_internals, layers


def obstacle(model: keras.Model) -> str | None:
    """Why the dropout of a model cannot be lowered, with the way out; None where it can be.

    Args:
        model: a built model.
    """
    reached = {id(layer) for layer in _reached(model)}
    dropping = [each for each in keras_internals.all_layers(model) if layers.drops(each)]
    missed = [each.name for each in dropping if id(each) not in reached]
    if missed:
        return (
            f"the dropout of {', '.join(missed[:3])} is inside another layer or code of your own, "
            "which saves a rate of its own: write a lower one there"
        )
    return None if dropping else "the model has no Dropout layer"


def lower(model: keras.Model, most: float) -> None:
    """Let no layer leave out more than a share.

    Args:
        model: a built model that is not compiled yet, or has not trained.
        most: the share, from 0 to less than 1.
    """
    for layer in _reached(model):
        layer.rate = min(layer.rate, most)


def _reached(layer: keras.Layer) -> Iterator[Any]:
    """The layers that leave units out by a rate that stands in the model's own config."""
    if layers.is_plain(layer):
        for inner in layer.layers:
            yield from _reached(inner)
    elif type(layer) is keras.layers.TimeDistributed:
        yield from _reached(layer.layer)
    elif layers.drops(layer):
        yield layer
