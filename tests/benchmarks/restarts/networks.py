"""Networks that a list of layers cannot say; a run imports a copy of this file as `networks`."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np


def branches(bias: float = 0.0, joined: bool = False, activation: str = "relu") -> Any:
    """Two outputs, each with hidden layers of its own; one has biases that may be far below zero.

    Args:
        bias: the biases of the second branch.
        joined: whether the outputs are the columns of one.
        activation: of the hidden layers.
    """
    inputs = keras.Input((2,))
    outputs = []
    for name, value in (("first", 0.0), ("second", bias)):
        hidden = inputs
        for _ in range(2):
            start = keras.initializers.Constant(value)
            layer = keras.layers.Dense(
                32, activation, kernel_initializer="he_normal", bias_initializer=start
            )
            hidden = layer(hidden)
        outputs.append(keras.layers.Dense(1, name=name)(hidden))
    return keras.Model(inputs, keras.layers.Concatenate()(outputs) if joined else outputs)


def trunk(activation: str = "relu") -> Any:
    """Two outputs on a trunk that they share."""
    hidden = inputs = keras.Input((2,))
    for _ in range(3):
        hidden = keras.layers.Dense(32, activation, kernel_initializer="he_normal")(hidden)
    return keras.Model(inputs, [keras.layers.Dense(1, name=name)(hidden) for name in ("a", "b")])


def residual(blocks: int = 4, normed: bool = False, activation: str = "relu") -> Any:
    """Blocks of two layers around which a sum leads."""
    inputs = keras.Input((2,))
    hidden = keras.layers.Dense(32, activation)(inputs)
    for _ in range(blocks):
        inner = keras.layers.BatchNormalization(momentum=0.9)(hidden) if normed else hidden
        inner = keras.layers.Dense(32, activation, kernel_initializer="he_normal")(inner)
        inner = keras.layers.Dense(32)(inner)
        hidden = keras.layers.Activation(activation)(keras.layers.Add()([hidden, inner]))
    return keras.Model(inputs, keras.layers.Dense(1)(hidden))


def transfer(activation: str = "relu") -> Any:
    """A head of two layers on a frozen base, whose weights are as if they came from elsewhere."""
    draw = np.random.default_rng(1)
    base = keras.Sequential(
        [keras.Input((20,)), *(keras.layers.Dense(48, "relu") for _ in range(2))], name="base"
    )
    base.set_weights(
        [
            draw.normal(0, (2 / each.shape[0]) ** 0.5, each.shape) if each.ndim > 1 else 0 * each
            for each in base.get_weights()
        ]
    )
    base.trainable = False
    hidden = inputs = keras.Input((20,))
    hidden = base(hidden)
    for _ in range(2):
        hidden = keras.layers.Dense(32, activation, kernel_initializer="he_normal")(hidden)
    return keras.Model(inputs, keras.layers.Dense(10, "softmax")(hidden))


def rounded() -> Any:
    """A network whose output is rounded, so that no gradient gets through."""
    inputs = keras.Input((1,))
    hidden = keras.layers.Dense(32, "relu")(inputs)
    return keras.Model(inputs, keras.ops.round(keras.layers.Dense(1)(hidden)))
