"""A model traced into a graph together with the counts of its activation sites."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from orchestrator.data.rows import Tree, leaves, transform
from orchestrator.diagnosis.tracing.dependence import next_on_the_way
from orchestrator.diagnosis.tracing.listener import Call
from orchestrator.diagnosis.tracing.sites import Site, Trace, trace
from orchestrator.diagnosis.units import Flow

_LEAST_FACTOR = 2**11
"""Factors between this and twice this, divided by it, have 12 bits."""
_EXACT_FLOAT32 = 2**24
"""Up to here float32 counts are exact."""

Shapes = tuple[tuple[int | None, ...], ...]
"""Shape of one row of every input."""


class CountingGraph:
    """A model traced together with the counts of its activations."""

    def __init__(
        self,
        model: keras.Model,
        x: Tree,
        shapes: Shapes,
        batch_size: int,
        batch_statistics: bool,
        gradients: bool,
    ) -> None:
        self.batch_size = batch_size
        self.sites: list[Site] = []
        self.flow = Flow(layers=(), outputs=())
        self.notes: list[str] = []

        def step(inputs: Tree, look: tf.Tensor) -> tuple[Any, ...]:
            found = trace(model, inputs, batch_statistics=batch_statistics)
            self.sites, self.flow, self.notes = found.sites, found.flow, found.notes
            active = [_count(site, batch_size) for site in found.sites]
            extremes = tf.cond(
                look,
                lambda: [_extremes(site) for site in found.sites],
                lambda: [tf.zeros([2, 0], _dtype(site)) for site in found.sites],
            ) if found.sites else []  # fmt: skip
            reached: list[tf.Tensor] = []
            responding: Any = tf.constant(0, tf.int64)
            if gradients:
                sources = [tensor for _, tensor in leaves(inputs)]
                reached, responding = _reach(found, sources)
            return found.outputs, active, extremes, reached, responding

        sizes = iter(shapes)
        signature = transform(
            lambda array: tf.TensorSpec((None, *next(sizes)), tf.as_dtype(array.dtype)), x
        )
        # As Keras's own training step, without autograph. A function that is traced once and for
        # all runs as a graph even where the user has all functions run eagerly.
        function = tf.function(
            step, input_signature=[signature, tf.TensorSpec((), tf.bool)], autograph=False
        )
        self.step = function.get_concrete_function()


def _count(site: Site, batch_size: int) -> tf.Tensor:
    """Active rows × positions of each unit, then the number of rows × positions; int64."""
    return tf.add_n([_count_call(call, site, batch_size) for call in site.calls])


def _count_call(call: Call, site: Site, batch_size: int) -> tf.Tensor:
    after = _units_last(call.after, site)
    units = tf.shape(after, tf.int64)[-1]
    rows = tf.size(after, out_type=tf.int64) // units
    if call.activation.active is None:
        return tf.concat([tf.fill([units], rows), [rows]], axis=0)
    mask = call.activation.active(_units_last(call.before, site), after)
    mask = tf.reshape(mask, [-1, tf.shape(after)[-1]])
    positions = after.shape[1:-1].num_elements()
    if positions is not None and positions * batch_size <= _EXACT_FLOAT32:
        # A product with ones is several times faster than an integer sum, and exact up to 2^24.
        ones = tf.ones([1, tf.shape(mask)[0]], tf.float32)
        active = tf.cast(tf.matmul(ones, tf.cast(mask, tf.float32))[0], tf.int64)
    else:
        active = tf.reduce_sum(tf.cast(mask, tf.int64), axis=0)
    return tf.concat([active, [rows]], axis=0)


def _units_last(tensor: tf.Tensor, site: Site) -> tf.Tensor:
    """The tensor with the units on the last axis, of rank 2 at least."""
    if tensor.shape.rank == 1:  # one number a row
        return tensor[:, tf.newaxis]
    if site.channels_first and tensor.shape.rank > 2:
        return tf.experimental.numpy.moveaxis(tensor, 1, -1)
    return tensor


def _dtype(site: Site) -> tf.DType:
    return site.calls[0].after.dtype


def _extremes(site: Site) -> tf.Tensor:
    """Lowest and highest value of each unit, shape (2, units)."""
    flat = []
    for call in site.calls:
        after = _units_last(call.after, site)
        flat.append(tf.reshape(after, [-1, after.shape[-1] or tf.shape(after)[-1]]))
    every = flat[0] if len(flat) == 1 else tf.concat(flat, axis=0)
    return tf.stack([tf.reduce_min(every, axis=0), tf.reduce_max(every, axis=0)])


def _reach(found: Trace, sources: list[tf.Tensor]) -> tuple[list[tf.Tensor], tf.Tensor]:
    """On how many rows a gradient gets from an output through each unit, and to an input.

    All output columns are taken at once, each times a number of its own, so that gradients that are
    not zero hardly ever add up to zero. The numbers have few bits: where paths cancel exactly, they
    do so still.
    """
    generator = np.random.default_rng(0)
    total: Any = 0.0
    for output in found.outputs:
        if not output.dtype.is_floating:
            continue
        shape = [size or 1 for size in output.shape[1:]]
        factors = generator.integers(_LEAST_FACTOR, 2 * _LEAST_FACTOR, shape) / _LEAST_FACTOR
        factors *= generator.choice([-1.0, 1.0], shape)
        total += tf.reduce_sum(tf.cast(output, tf.float32) * tf.constant(factors, tf.float32))
    tensors = [call.after for site in found.sites for call in site.calls]
    gradients = iter(tf.gradients(total, tensors, unconnected_gradients="zero"))
    reached = []
    for site in found.sites:
        counts = []
        for call in site.calls:
            gradient = _units_last(tf.convert_to_tensor(next(gradients)), site)
            through = gradient != 0
            if call.activation.active is not None:  # past the unit, to what goes into it
                after = _units_last(call.after, site)
                through &= call.activation.active(_units_last(call.before, site), after)
            flat = tf.reshape(through, [-1, tf.shape(gradient)[-1]])
            counts.append(tf.reduce_sum(tf.cast(flat, tf.int64), axis=0))
        reached.append(tf.add_n(counts))
    responds = [
        tf.reduce_any(tf.reshape(gradient, [tf.shape(gradient)[0], -1]) != 0, axis=1)
        for gradient in _input_gradients(total, sources, found)
    ]
    if not responds:
        return reached, tf.constant(0, tf.int64)
    return reached, tf.reduce_sum(tf.cast(tf.reduce_any(tf.stack(responds), axis=0), tf.int64))


def _input_gradients(total: tf.Tensor, sources: list[tf.Tensor], traced: Trace) -> list[tf.Tensor]:
    """Gradients of the inputs; where one has none, such as an index, of what it turns into."""
    found: list[tf.Tensor] = []
    while sources:
        floating = [tensor for tensor in sources if tensor.dtype.is_floating]
        gradients = tf.gradients(total, floating) if floating else []
        without = [tensor for tensor in sources if not tensor.dtype.is_floating]
        for tensor, gradient in zip(floating, gradients, strict=True):
            if gradient is None:
                without.append(tensor)
            else:
                found.append(tf.convert_to_tensor(gradient))
        sources = next_on_the_way(without, traced.outputs, traced.masks)
    return found
