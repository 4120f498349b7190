"""BatchNorm's statistics: the moving ones, which inference uses, and those of the batches."""

from __future__ import annotations

from collections.abc import Iterator

import keras

from orchestrator.diagnosis.causes.after.subject import Subject
from orchestrator.diagnosis.causes.values import few_values
from orchestrator.model.keras_internals import all_layers
from orchestrator.record.checks import FindingsCheck
from orchestrator.record.records import Finding

_LEFT = 0.01
"""Share of a moving statistic's first value that is left where it has arrived."""
_TOO_FEW = 3
"""Values below which their mean and deviation tell nothing of them; with more, networks learn."""


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


def find_small_batches(subject: Subject) -> Iterator[Finding]:
    """What was suspected before, where nothing else was, of a network that has learnt too little.

    It is asked where nothing else was found after the training, either.
    """
    before = subject.phases[0].find(FindingsCheck)
    if before is None or {*before.measured.causes} != {"small_batches"}:
        return
    if subject.untrained or not subject.is_poor:
        return
    size = subject.config.batch_size
    found = few_values(subject.model, subject.rows.first(1)[0], size, _TOO_FEW)
    if found is None:
        return
    layer, count = found
    left = "are 1 away from their mean" if count > 1 else "is its mean"
    reason = (
        f"too little was learnt, and layer {layer.name} normalises by the mean and deviation of "
        f"{count} value{'s' * (count != 1)} of each feature, which {left}, whatever the row"
    )
    advice = "write a larger batch_size, or LayerNormalization for BatchNormalization"
    yield subject.found("small_batches", reason, advice)
