"""Elementwise activations: where the derivative of each is zero.

Each is computed from the activation's input or from its output: from the one that leaves
TensorFlow's fused kernels, such as a matrix product with its relu, in one piece.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow as tf

SATURATED = 1e-6
"""Largest |derivative| at which a unit counts as saturated on a row (design, section 4)."""

Mask = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""From what goes into an activation and what comes out, both of shape (rows, …), to where the
derivative is not zero."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Activation:
    """An elementwise activation and its derivative's zeros."""

    name: str
    """Keras's name."""
    active: Mask | None
    """Where the derivative is not zero; None where it never is."""
    saturating: bool = False
    """Whether the derivative only comes near zero."""


def relu(
    negative_slope: float = 0.0, max_value: float | None = None, threshold: float = 0.0
) -> Activation:
    """ReLU in all its forms.

    Args:
        negative_slope: slope below the threshold.
        max_value: where it is cut off above; None for nowhere.
        threshold: where it begins.
    """
    negative_slope, threshold = float(negative_slope), float(threshold)
    name = "leaky_relu" if negative_slope else "relu6" if max_value == 6 else "relu"
    if negative_slope and max_value is None:
        return Activation(name=name, active=None)
    if not negative_slope and not threshold:
        # What comes out is positive where what goes in is: reading it leaves a fused relu alone.
        if max_value is None:
            return Activation(name=name, active=lambda _, after: after > 0)
        top = float(max_value)
        return Activation(name=name, active=lambda _, after: (after > 0) & (after < top))

    def active(before: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
        mask = tf.ones_like(before, tf.bool) if negative_slope else before > threshold
        return mask if max_value is None else mask & (before < float(max_value))

    return Activation(name=name, active=active)


def prelu() -> Activation:
    """Leaky ReLU with learnt slopes, which has a derivative everywhere."""
    return Activation(name="prelu", active=None)


def leaky_relu(negative_slope: float = 0.2) -> Activation:
    """Leaky ReLU, which with slope 0 is ReLU."""
    found = relu(negative_slope)
    return dataclasses.replace(found, name="leaky_relu")


def hard_sigmoid_gate() -> Activation:
    """Hard sigmoid as people write it out, relu6(x + 3) / 6, recognised by its relu6."""
    active = relu(max_value=6).active
    return Activation(name="hard_sigmoid", active=active, saturating=True)


def saturating(name: str, function: Callable[[Any], Any]) -> Activation:
    """An activation whose derivative comes near zero.

    Args:
        name: Keras's name of it.
        function: the activation, made of TensorFlow's operations.
    """

    def active(before: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(before)
            value = function(before)
        return tf.abs(tape.gradient(value, before)) > SATURATED

    return Activation(name=name, active=active, saturating=True)


_BARE: dict[str, Callable[[tf.Operation], Activation]] = {
    "Relu": lambda _: relu(),
    "Relu6": lambda _: relu(max_value=6),
    "LeakyRelu": lambda operation: leaky_relu(operation.get_attr("alpha")),
    "Elu": lambda _: saturating("elu", tf.nn.elu),
    "Selu": lambda _: saturating("selu", tf.nn.selu),
    "Sigmoid": lambda _: saturating("sigmoid", tf.nn.sigmoid),
    "Softplus": lambda _: saturating("softplus", tf.nn.softplus),
    "Softsign": lambda _: saturating("softsign", tf.nn.softsign),
    "Tanh": lambda _: saturating("tanh", tf.nn.tanh),
}
BARE = frozenset(_BARE)
"""Types of TensorFlow's operations that are an activation by themselves."""


def bare(operation: tf.Operation) -> Activation:
    """The activation that an operation of a type in `BARE` is."""
    return _BARE[operation.type](operation)
