"""A model traced into a graph together with the counts of its activation sites."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from orchestrator.data.rows import Tree, leaves, transform
from orchestrator.diagnosis.tracing.calls.call import (
    Call,
    active_mask,
    count_active,
    count_reached,
    find_extremes,
)
from orchestrator.diagnosis.tracing.sites import Site, Trace, trace
from orchestrator.diagnosis.units import Flow
from orchestrator.model.losses.returned import Origin, Returned

_LEAST_FACTOR = 2**11
"""Factors between this and twice this, divided by it, have 12 bits."""
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
        self.origins: list[Origin] = []
        self.reads: dict[str, tuple[Any, ...]] = {}

        def step(inputs: Tree, look: tf.Tensor) -> tuple[Any, ...]:
            found = trace(
                model,
                inputs,
                batch_size=batch_size,
                batch_statistics=batch_statistics,
                gradients=gradients,
            )
            self.sites, self.notes, self.reads = found.sites, found.notes, found.reads
            active = [
                tf.add_n([count_active(call, batch_size) for call in site.calls])
                for site in found.sites
            ]
            extremes = tf.cond(
                look,
                lambda: [_extremes(site) for site in found.sites],
                lambda: [tf.zeros([2, 0], site.calls[0].after.dtype) for site in found.sites],
            ) if found.sites else []  # fmt: skip
            reached: list[tf.Tensor] = []
            responding: Any = tf.constant(0, tf.int64)
            if gradients:
                sources = [tensor for _, tensor in leaves(inputs)]
                reached, responding = _reach(found, sources)
            returned = [Returned.of(output) for output in found.outputs]
            self.origins = [each.origin for each in returned]
            self.flow = dataclasses.replace(
                found.flow,
                made_by=tuple(origin.end for origin in self.origins),
                logits=tuple(origin.found for origin in self.origins),
            )
            predictions = [each.tensors for each in returned]
            return predictions, active, extremes, reached, responding

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


def _extremes(site: Site) -> tf.Tensor:
    """Lowest and highest value of each unit, shape (2, units)."""
    lowest, highest = zip(*map(find_extremes, site.calls), strict=True)
    return tf.stack([tf.reduce_min(lowest, axis=0), tf.reduce_max(highest, axis=0)])


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
    calls = [call for site in found.sites for call in site.calls]
    tensors = [
        call.tally.token[0] if call.tally and call.tally.token else call.after for call in calls
    ]
    gradients = iter(tf.gradients(total, tensors, unconnected_gradients="zero"))
    reached = [
        tf.add_n([_reached(call, tf.convert_to_tensor(next(gradients))) for call in site.calls])
        for site in found.sites
    ]
    responds = [
        tf.reduce_any(tf.reshape(gradient, [tf.shape(gradient)[0], -1]) != 0, axis=1)
        for gradient in _input_gradients(total, sources, found)
    ]
    if not responds:
        return reached, tf.constant(0, tf.int64)
    return reached, tf.reduce_sum(tf.cast(tf.reduce_any(tf.stack(responds), axis=0), tf.int64))


def _reached(call: Call, gradient: tf.Tensor) -> tf.Tensor:
    """On how many rows × positions the gradient gets through each unit, shape (units,)."""
    if call.tally is not None:
        return tf.cast(gradient, tf.int64)
    return count_reached(call, gradient, active_mask(call))


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
        sources = traced.dependence.next_on_the_way(without, traced.outputs, traced.masks)
    return found
