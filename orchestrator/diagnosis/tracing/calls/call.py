"""One application of an activation, and what is counted of it.

Where the application is in the graph of the model, it is counted from its tensors. Where it is in
the body of a loop, the loop itself counts (`loops`), and hands out a tally.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import tensorflow as tf

from orchestrator.diagnosis.tracing.calls.activations import Activation

_EXACT_FLOAT32 = 2**24
"""Up to here float32 counts are exact."""

Stack = tuple[Any, ...]
"""The layers and operations of Keras that are being called, outermost first."""


@dataclasses.dataclass(frozen=True, slots=True)
class Tally:
    """What was counted at an application, over all steps where it is in a loop."""

    active: tf.Tensor
    """Active rows × positions of each unit, then the number of rows × positions; int64, shape
    (units + 1,)."""
    extremes: tuple[tf.Tensor, tf.Tensor]
    """Lowest and highest value of each unit, shape (units,) each."""
    token: tuple[tf.Tensor, tf.Tensor] | None = None
    """Zeros before and behind the loop; the gradient of the former is the number of rows ×
    positions on which the gradient of an output gets through each unit; float64, shape (units,).
    None where gradients were not asked for."""


@dataclasses.dataclass(slots=True)
class Call:
    """One application of an activation."""

    activation: Activation
    before: tf.Tensor
    after: tf.Tensor
    stack: Stack
    repeated: tuple[int, ...] | None = None
    """The same for calls that recur at every time step of a loop; None outside of loops."""
    channels_first: bool = False
    """Whether the units are on axis 1 instead of the last."""
    tally: Tally | None = None
    """What the loop around it has counted; None where there is none."""

    @property
    def counted(self) -> tf.Tensor:
        """What the counts are made from: what comes out, or what a loop around it has counted."""
        return self.after if self.tally is None else self.tally.active


def units_last(tensor: tf.Tensor, call: Call) -> tf.Tensor:
    """A tensor of a call with the units on the last axis, of rank 2 at least."""
    if tensor.shape.rank == 1:  # one number a row
        return tensor[:, tf.newaxis]
    if call.channels_first and tensor.shape.rank > 2:
        return tf.experimental.numpy.moveaxis(tensor, 1, -1)
    return tensor


def active_mask(call: Call) -> tf.Tensor | None:
    """Where the derivative is not zero, shape (rows × positions, units); None where it never is."""
    if call.activation.active is None:
        return None
    after = units_last(call.after, call)
    mask = call.activation.active(units_last(call.before, call), after)
    return tf.reshape(mask, [-1, tf.shape(after)[-1]])


def count_active(call: Call, batch_size: int) -> tf.Tensor:
    """Active rows × positions of each unit, then the number of rows × positions.

    Args:
        call: an application in the present graph.
        batch_size: rows that there are at most.

    Returns:
        Integers, shape (units + 1,).
    """
    if call.tally is not None:
        return call.tally.active
    after = units_last(call.after, call)
    units = tf.shape(after, tf.int64)[-1]
    rows = tf.size(after, out_type=tf.int64) // units
    mask = active_mask(call)
    if mask is None:
        return tf.concat([tf.fill([units], rows), [rows]], axis=0)
    positions = after.shape[1:-1].num_elements()
    if positions is not None and positions * batch_size <= _EXACT_FLOAT32:
        # A product with ones is several times faster than an integer sum, and exact up to 2^24.
        ones = tf.ones([1, tf.shape(mask)[0]], tf.float32)
        active = tf.cast(tf.matmul(ones, tf.cast(mask, tf.float32))[0], tf.int64)
    else:
        active = tf.reduce_sum(tf.cast(mask, tf.int64), axis=0)
    return tf.concat([active, [rows]], axis=0)


def find_extremes(call: Call) -> tuple[tf.Tensor, tf.Tensor]:
    """Lowest and highest value of each unit, shape (units,) each."""
    if call.tally is not None:
        return call.tally.extremes
    after = units_last(call.after, call)
    flat = tf.reshape(after, [-1, after.shape[-1] or tf.shape(after)[-1]])
    return tf.reduce_min(flat, axis=0), tf.reduce_max(flat, axis=0)


def count_reached(call: Call, gradient: tf.Tensor, mask: tf.Tensor | None) -> tf.Tensor:
    """On how many rows × positions a gradient gets through each unit.

    Args:
        call: the application.
        gradient: of an output, with respect to what comes out of the unit.
        mask: where the unit is active, as of `active_mask`.

    Returns:
        Integers, shape (units,).
    """
    gradient = units_last(gradient, call)
    through = tf.reshape(gradient != 0, [-1, tf.shape(gradient)[-1]])
    if mask is not None:  # past the unit, to what goes into it
        through &= mask
    return tf.reduce_sum(tf.cast(through, tf.int64), axis=0)
