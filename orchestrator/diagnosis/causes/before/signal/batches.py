"""BatchNorm over batches of so few values that their own statistics say nothing."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.diagnosis.causes.before.subject import Subject
from orchestrator.diagnosis.causes.values import few_values
from orchestrator.record.records import Finding

_FEW = 6
"""Values of a feature below which their mean and deviation are noise; of two, each is 1 away from
the mean, whatever it was.

Of two hidden layers of 32 units on a table, with BatchNorm in batches of 2, 3, 4, 6, 8 and 16 the
skill after eight epochs is -0.03, 0.47, 0.62, 0.77, 0.80 and 0.79, without it 0.95, 0.94, 0.94,
0.92, 0.91 and 0.80. Behind a convolution, where each position is a value, 2 rows do as well as 16.
"""
_ENOUGH = 32
"""Rows of a batch that do."""


def find_small_batches(subject: Subject) -> Iterator[Finding]:
    """A layer that normalises by the mean and deviation of a few values in training.

    A network may well cope with more than two; what a policy goes by is found after.
    """
    config = subject.config
    if config is None or not subject.steps_per_epoch or config.batch_size >= _FEW:
        return
    found = few_values(subject.model, subject.few[0], config.batch_size, _FEW)
    if found is None:
        return
    layer, count = found
    reason = (
        f"layer {layer.name} normalises by the mean and deviation of a batch, which has "
        f"{count} value{'s' * (count != 1)} of each feature: they are noise, and what it returns "
        "says little of the row"
    )
    advice = f"write batch_size: {_ENOUGH}, or LayerNormalization for BatchNormalization"
    yield subject.found("small_batches", reason, advice, key=("batch_size",))
