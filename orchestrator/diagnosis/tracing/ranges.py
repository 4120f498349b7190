"""How far the pre-activations of each activation site go, in one forward pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from orchestrator.data.rows import Readable, Tree, leaves, num_rows, transform
from orchestrator.diagnosis.tracing.probe import BATCH_SIZE
from orchestrator.diagnosis.tracing.sites import Site, trace

_Step = Callable[[Tree], Mapping[str, tf.Tensor]]


class Ranges:
    """Finds the lowest and the highest pre-activation; the graph is traced once.

    Args:
        model: a built model through which rows can be run.
    """

    def __init__(self, model: keras.Model) -> None:
        self._model = model
        self._steps: dict[tuple[tuple[int, ...], ...], _Step] = {}

    def measure(self, rows: Readable, at_least: int) -> dict[str, tuple[float, float]]:
        """Look at the first rows.

        Args:
            rows: what to run through the model.
            at_least: stop after the batch with which so many rows were seen.

        Returns:
            Both for each activation site, in forward order; a site inside of a loop is left out.
        """
        found: dict[str, tuple[float, float]] = {}
        seen = 0
        for x, _, _ in rows.batches(min(at_least, BATCH_SIZE)):
            for name, value in self._step(x)(transform(tf.constant, x)).items():
                low, high = value.numpy()
                before = found.get(name, (low, high))
                # NumPy's keep what is not a number.
                found[name] = float(np.minimum(low, before[0])), float(np.maximum(high, before[1]))
            seen += num_rows(x)
            if seen >= at_least:
                break
        return found

    def _step(self, x: Tree) -> _Step:
        """The traced graph that takes a batch like this one."""
        shapes = tuple(array.shape[1:] for _, array in leaves(x))
        if shapes not in self._steps:
            signature = transform(
                lambda array: tf.TensorSpec((None, *array.shape[1:]), tf.as_dtype(array.dtype)), x
            )
            # Traced once and for all, also where the user has all functions run eagerly.
            function = tf.function(self._look, input_signature=[signature], autograph=False)
            self._steps[shapes] = function.get_concrete_function()
        return self._steps[shapes]

    def _look(self, inputs: Tree) -> dict[str, tf.Tensor]:
        found = trace(self._model, inputs, batch_size=BATCH_SIZE)
        return {
            site.name: _range(site)
            for site in found.sites
            if all(call.tally is None for call in site.calls)
        }


def _range(site: Site) -> Any:
    """The lowest and the highest of what goes into the activation, shape (2,)."""
    before = [tf.cast(call.before, tf.float32) for call in site.calls]
    lowest = tf.reduce_min(tf.stack([tf.reduce_min(each) for each in before]))
    highest = tf.reduce_max(tf.stack([tf.reduce_max(each) for each in before]))
    return tf.stack([lowest, highest])
