"""What the units of each activation site do on a part of the rows, and how far their inputs go.

It is meant to be looked at while a network trains; the checks count by `probe`, on all rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from orchestrator.data.rows import Readable, Tree, leaves, num_rows, transform
from orchestrator.diagnosis.tracing.calls.call import count_active
from orchestrator.diagnosis.tracing.probe import BATCH_SIZE
from orchestrator.diagnosis.tracing.sites import Site, trace

_Found = Mapping[str, Mapping[str, tf.Tensor]]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Activity:
    """What was seen of an activation site."""

    dead_fraction: float
    """Share of the units that were active on none of the rows; 0 where they can only saturate."""
    lowest: float | None
    """The lowest pre-activation of a unit; None where a loop hides it."""
    highest: float | None
    """The highest."""


class Look:
    """Looks at a network; the graph is traced once.

    Args:
        model: a built model through which rows can be run.
    """

    def __init__(self, model: keras.Model) -> None:
        self._model = model
        self._saturating: set[str] = set()
        self._steps: dict[tuple[tuple[int, ...], ...], Callable[[Tree], _Found]] = {}

    def measure(self, rows: Readable, at_least: int) -> dict[str, Activity]:
        """Run the first rows through the network.

        Args:
            rows: what to run through it.
            at_least: stop after the batch with which so many rows were seen.

        Returns:
            What was seen of each activation site, in forward order.
        """
        active: dict[str, Any] = {}
        ranges: dict[str, Any] = {}
        seen = 0
        for x, _, _ in rows.batches(min(at_least, BATCH_SIZE)):
            for name, found in self._step(x)(transform(tf.constant, x)).items():
                active[name] = active.get(name, 0) + found["active"].numpy()[:-1]
                if "range" in found:
                    low, high = found["range"].numpy()
                    before = ranges.get(name, (low, high))
                    # NumPy's keep what is not a number.
                    ranges[name] = (np.minimum(low, before[0]), np.maximum(high, before[1]))
            seen += num_rows(x)
            if seen >= at_least:
                break
        return {name: self._activity(name, count, ranges) for name, count in active.items()}

    def _activity(self, name: str, active: Any, ranges: Mapping[str, Any]) -> Activity:
        low, high = ranges.get(name, (None, None))
        return Activity(
            dead_fraction=0.0 if name in self._saturating else float(np.mean(active == 0)),
            lowest=None if low is None else float(low),
            highest=None if high is None else float(high),
        )

    def _step(self, x: Tree) -> Callable[[Tree], _Found]:
        """The traced graph that takes a batch like this one."""
        shapes = tuple(array.shape[1:] for _, array in leaves(x))
        if shapes not in self._steps:
            signature = transform(
                lambda array: tf.TensorSpec((None, *array.shape[1:]), tf.as_dtype(array.dtype)), x
            )
            # Traced once and for all, also where the user has all functions run eagerly.
            function = tf.function(self._traced, input_signature=[signature], autograph=False)
            self._steps[shapes] = function.get_concrete_function()
        return self._steps[shapes]

    def _traced(self, inputs: Tree) -> dict[str, dict[str, tf.Tensor]]:
        found = trace(self._model, inputs, batch_size=BATCH_SIZE)
        self._saturating |= {site.name for site in found.sites if site.activation.saturating}
        return {site.name: _seen(site) for site in found.sites}


def _seen(site: Site) -> dict[str, tf.Tensor]:
    """On how many rows units are active, and the lowest and highest of what goes into them."""
    found = {"active": tf.add_n([count_active(call, BATCH_SIZE) for call in site.calls])}
    if all(call.tally is None for call in site.calls):
        before = [tf.cast(call.before, tf.float32) for call in site.calls]
        lowest = tf.reduce_min(tf.stack([tf.reduce_min(each) for each in before]))
        highest = tf.reduce_max(tf.stack([tf.reduce_max(each) for each in before]))
        found["range"] = tf.stack([lowest, highest])
    return found
