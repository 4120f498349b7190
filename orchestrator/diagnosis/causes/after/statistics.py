"""BatchNorm's moving statistics, which inference uses in place of those of the batches."""

from __future__ import annotations

from collections.abc import Iterator

import keras

from orchestrator.diagnosis.causes.after.subject import Subject
from orchestrator.model.keras_internals import all_layers
from orchestrator.record.records import Finding

_LEFT = 0.01
"""Share of a moving statistic's first value that is left where it has arrived."""


def find_lagging_statistics(subject: Subject) -> Iterator[Finding]:
    """Predictions that are good with the batches' statistics, and not with the moving ones."""
    if subject.lag is None:
        return
    moving, batch = subject.lag
    momentum = max(
        each.momentum
        for each in all_layers(subject.model)
        if isinstance(each, keras.layers.BatchNormalization)
    )
    left = momentum**subject.steps
    reason = (
        f"with the statistics of each batch, as in training, the skill is {batch:.3g}, with "
        f"BatchNorm's moving ones, as in inference, {moving:.3g}"
    )
    advice = "take larger batches of shuffled rows, so that each is like all of them"
    if left > _LEFT:
        reason += (
            f", which have not arrived, for {left:.0%} of their first value is left after "
            f"{subject.steps:,} steps at momentum {momentum:g}"
        )
        arrives = _LEFT ** (1 / subject.steps)
        advice = f"write a momentum of {arrives:.2g} or less, or train for more steps"
    yield subject.found("lagging_statistics", reason, advice)
