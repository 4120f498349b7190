"""How far rows can be told apart behind each layer of a network."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from orchestrator.data.rows import Tree
from orchestrator.model import layers


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """One call of a layer, and what came out for some rows."""

    layer: keras.Operation
    name: str
    """Readable path of the layer in the model."""
    size: float
    """Root mean square of its output."""
    spread: float
    """Standard deviation of its output over the rows, in root mean square over the features."""
    still: int
    """Steps at the end of a sequence that goes in at which all rows are the same."""

    @property
    def relative(self) -> float:
        """Spread over size, 0 to 1; 0 where the output is 0."""
        return self.spread / self.size if self.size else 0.0

    @property
    def frozen(self) -> bool:
        """Whether it has weights, and none of them trains."""
        return bool(getattr(self.layer, "weights", ())) and not self.trains

    @property
    def trains(self) -> bool:
        """Whether it has weights of its own that train."""
        return bool(getattr(self.layer, "trainable_weights", ()))


_STILL = 1e-3
"""Relative spread below which the rows count as the same at a step of a sequence."""


def spread_of(values: Any) -> tuple[float, float]:
    """Root mean square of values of shape (rows, …), and their spread over the rows."""
    size, spread = (float(each) for each in _spread(tf.convert_to_tensor(values)))
    return size, spread


def _spread(values: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """`spread_of` as tensors, which may be those of a graph."""
    rows = tf.cast(values, tf.float32)
    # A deviation is not lost in the rounding of a mean that is far from zero.
    deviations = rows - rows[:1]
    variance = tf.reduce_mean(tf.math.reduce_variance(deviations, axis=0))
    return tf.sqrt(tf.reduce_mean(tf.square(rows))), tf.sqrt(variance)


def relative_spread(values: Any) -> float:
    """Spread of values over the rows, as a share of their size; 0 where they are 0."""
    size, spread = spread_of(values)
    return spread / size if size else 0.0


def follow(model: keras.Model, x: Tree) -> list[Seen]:
    """Run rows through a model in inference, and look at what each layer returns.

    Args:
        model: a model of any class.
        x: rows.

    Returns:
        The calls in the order in which they end, without those of a recurrent layer's cell, which
        sees a step alone, and of layers whose outputs do not lie in rows.
    """
    named: list[tuple[keras.Operation, str]] = []
    figures: list[Any] = []
    count = len(keras.tree.flatten(x)[0])

    def see(call: layers.Call) -> None:
        recurrent = any(isinstance(each, keras.layers.RNN) for each in call.around)
        if recurrent or isinstance(call.layer, keras.Model):
            return
        rows = [each for each in call.outputs if _lies_in_rows(each, count)]
        if not rows:
            return
        still = _still_steps(call.inputs) if isinstance(call.layer, keras.layers.RNN) else 0
        named.append((call.layer, "/".join(each.name for each in (*call.around[1:], call.layer))))
        figures.append((*_spread(rows[0]), still))

    with layers.seeing_calls(see):
        found = layers.infer(model, x, lambda _: figures)
    return [
        Seen(layer=layer, name=name, size=float(size), spread=float(spread), still=int(still))
        for (layer, name), (size, spread, still) in zip(named, found, strict=True)
    ]


def _lies_in_rows(tensor: Any, count: int) -> bool:
    shape = tuple(getattr(tensor, "shape", ()))
    kind = keras.backend.standardize_dtype(tensor.dtype) if shape else ""
    return len(shape) > 1 and shape[0] == count and "float" in kind and None not in shape


def _still_steps(inputs: Sequence[Any]) -> Any:
    """How many steps at the end of a sequence, shape (rows, steps, features), are all the same."""
    sequence = tf.cast(inputs[0], tf.float32)
    deviations = tf.math.reduce_std(sequence - sequence[:1], axis=0)
    sizes = tf.sqrt(tf.reduce_mean(tf.square(sequence), axis=(0, 2)))
    same = tf.sqrt(tf.reduce_mean(tf.square(deviations), axis=-1)) <= _STILL * sizes
    return tf.reduce_sum(tf.math.cumprod(tf.cast(same, tf.int32), reverse=True))
