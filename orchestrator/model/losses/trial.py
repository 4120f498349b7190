"""A loss of the user's own tried on a few rows: whether these matter to each other.

It is tried on predictions that differ from row to row: where a network predicts the same for all
rows, many a loss is the same for rows together and alone.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from orchestrator.model.losses.output_loss import Array, OutputLoss
from orchestrator.model.losses.returned import Returned

_ROWS = 64
"""Rows that are looked at together."""
_ALONE = 8
"""Rows that are looked at one by one."""
_MADE_BY = {"Softmax": tf.nn.softmax, "Sigmoid": tf.sigmoid, "Tanh": tf.tanh}
"""Activations whose results are between bounds, by TensorFlow's name."""
_SAME = 1e-4
"""Relative difference up to which two figures in float32 count as the same."""


def is_by_row(loss: OutputLoss, returned: Returned, y: Array, weight: Array | None) -> bool:
    """Whether the loss of a batch is the mean of those of its halves, and of its rows.

    Args:
        loss: what is tried.
        returned: what the model returned for a batch.
        y: its targets.
        weight: its weights, or None.
    """
    returned = _varied(returned, _ROWS)
    for count, parts in ((min(len(y), _ROWS) // 2 * 2, 2), (min(len(y), _ALONE),) * 2):
        spans = [slice(0, count)]
        spans += [
            slice(start, start + count // parts) for start in range(0, count, count // parts or 1)
        ]
        if len(spans) > 2:
            whole, *found = (_value(loss, returned, y, weight, rows, rows) for rows in spans)
            if not np.allclose(whole, np.mean(found, axis=0), rtol=_SAME, atol=1e-9):
                return False
    return True


def has_single_rows(loss: OutputLoss, returned: Returned, y: Array, weight: Array | None) -> bool:
    """Whether a row alone has a loss that depends on its prediction, as none of pairs has.

    Args:
        loss: what is tried.
        returned: what the model returned for a batch.
        y: its targets.
        weight: its weights, or None.
    """
    returned = _varied(returned, _ALONE)
    for index in range(min(len(y), _ALONE) - 1):
        row, other = slice(index, index + 1), slice(index + 1, index + 2)
        own = _value(loss, returned, y, weight, row, row)
        foreign = _value(loss, returned, y, weight, other, row)
        if np.isfinite(own).all() and not np.allclose(own, foreign, rtol=_SAME, atol=1e-9):
            return True
    return False


def _varied(returned: Returned, rows: int) -> Returned:
    """The first rows of what was returned, moved apart within the range of their activation."""
    first = returned.part(slice(0, rows))
    draw = np.random.default_rng(0).normal(size=first.value.shape)
    noise = tf.cast(tf.constant(draw), first.value.dtype)
    logits = None if first.logits is None else first.logits + noise
    if first.origin.end in _MADE_BY:
        value = _MADE_BY[first.origin.end](noise if logits is None else logits)
    else:
        value = first.value + noise * tf.maximum(tf.math.reduce_std(first.value), 1.0)
        if tf.reduce_min(first.value) >= 0:  # distances, rates, variances
            value = tf.abs(value)
    return Returned(value, logits, first.mask, first.origin)


def _value(
    loss: OutputLoss,
    returned: Returned,
    y: Array,
    weight: Array | None,
    predicted: slice,
    rows: slice,
) -> Array:
    weights = None if weight is None else weight[rows]
    return loss.evaluate(returned.part(predicted), y[rows], weights)
