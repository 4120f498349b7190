"""Of how many values BatchNorm takes a mean and a deviation in a training step."""

from __future__ import annotations

import math

import keras

from orchestrator.data.rows import Tree
from orchestrator.model import layers


def few_values(
    model: keras.Model, x: Tree, batch_size: int, below: int
) -> tuple[keras.layers.Layer, int] | None:
    """The first BatchNorm that trains and is given few values of each feature.

    Args:
        model: the network.
        x: some rows of its inputs.
        batch_size: rows of a training step.
        below: so many values are enough.

    Returns:
        The layer and its number of values, the rows of a batch times the positions of a row; None
        where there is none.
    """
    call = layers.first_call(
        model, x, lambda each: _normalises(each) and batch_size * _values(each) < below
    )
    return None if call is None else (call.layer, batch_size * _values(call))


def _normalises(call: layers.Call) -> bool:
    return isinstance(call.layer, keras.layers.BatchNormalization) and bool(call.layer.trainable)


def _values(call: layers.Call) -> int:
    """How many values of a row a feature has in front of BatchNorm."""
    shape: tuple[int, ...] = tuple(call.inputs[0].shape)
    return math.prod(shape[1:]) // max(shape[int(call.layer.axis)], 1)
