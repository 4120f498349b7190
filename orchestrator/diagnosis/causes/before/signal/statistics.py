"""BatchNorm whose moving statistics cannot arrive within the training."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import keras
import numpy as np
import numpy.typing as npt

from orchestrator.diagnosis.causes.before.subject import Subject
from orchestrator.model import keras_internals, layers
from orchestrator.record.records import Finding

_LEFT = 0.01
"""Share of the first values that may be left in moving statistics."""
_OFF = 1.0
"""So many standard deviations from its place an activation is another."""
_SHRUNK = 0.1
"""So little is left of the size of an activation."""


def find_slow_statistics(subject: Subject) -> Iterator[Finding]:
    """BatchNorm whose moving statistics stay near where they begin, 0 and 1, and are not there.

    Of their beginning a share of momentum^steps is left in the end. Judged where the rows as they
    are go in, at the first such layer: further on their scale is that of an untrained network.
    """
    config, steps = subject.config, subject.steps_per_epoch
    if config is None or not steps or subject.begins_trained:
        return
    total = steps * sum(each.epochs for each in config.phases)
    slow = [
        layer
        for layer in keras_internals.all_layers(subject.model)
        if isinstance(layer, keras.layers.BatchNormalization)
        and layer.trainable
        and layer.momentum**total > _LEFT
    ]
    first = _first_input(subject, slow) if slow else None
    if first is None:
        return
    layer, values = first
    left = float(layer.momentum) ** total
    if not _is_off(values, left):
        return
    enough = math.floor(100 * _LEFT ** (1 / total)) / 100
    reason = (
        f"layer {layer.name} predicts with moving statistics that have not arrived: with momentum "
        f"{layer.momentum:g}, {left:.0%} of their first values is left after the training's "
        f"{total:,} steps, and what goes in is far from those"
    )
    need = math.ceil(math.log(_LEFT) / math.log(layer.momentum))
    advice = f"write momentum={enough:g}, or train for {need:,} steps or more"
    yield subject.found("slow_statistics", reason, advice, key=subject.place(layer, "momentum"))


def _first_input(
    subject: Subject, wanted: Sequence[keras.Layer]
) -> tuple[keras.Layer, npt.NDArray[np.float64]] | None:
    """The first of some layers that is called, and what goes in, shape (values, features)."""
    by_id = {id(each) for each in wanted}
    call = layers.first_call(subject.model, subject.few[0], lambda each: id(each.layer) in by_id)
    if call is None:
        return None
    values = np.moveaxis(np.asarray(call.inputs[0], np.float64), call.layer.axis, -1)
    return call.layer, values.reshape(-1, values.shape[-1])


def _is_off(values: npt.NDArray[np.float64], left: float) -> bool:
    """Whether statistics with such a share of 0 and 1 left in them normalise values wrongly."""
    mean, variance = values.mean(axis=0), values.var(axis=0)
    by = np.sqrt(left + (1 - left) * variance)
    shift = float(np.sqrt(np.mean((left * mean / by) ** 2)))
    scale = float(np.sqrt(np.mean(variance / by**2)))
    return shift >= _OFF or scale < _SHRUNK
