"""A softmax over one unit, which is 1 whatever goes into it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from orchestrator.diagnosis.causes.before.outputs import fixes
from orchestrator.diagnosis.causes.before.subject import Subject
from orchestrator.record.records import Finding


def find_one_unit_softmax(subject: Subject) -> Iterator[Finding]:
    """Outputs that are a softmax over a single unit.

    Keras's cross-entropies go back to what is in front of the softmax, so that the loss may even
    fall while the prediction stays 1.
    """
    for index, output in enumerate(subject.outputs):
        if not output.trained or not is_one_unit_softmax(subject, index):
            continue
        yield subject.found(
            "one_unit_softmax",
            f"{output.named} is a softmax over one unit, which is 1 on every row whatever the "
            "weights are, so that no training can change the prediction",
            _advice(subject, index),
            certain=subject.varies(index),
            key=subject.last_layer(index, "activation"),
            fix=fixes.one_unit(subject, index),
        )


def is_one_unit_softmax(subject: Subject, index: int) -> bool:
    """Whether an output is a softmax over one unit, by its number.

    A softmax along another axis, such as over time, varies.
    """
    if subject.origin(index).end != "Softmax" or subject.outputs[index].shape[-1:] not in (
        (),
        (1,),
    ):
        return False
    predicted = subject.predictions[index]
    return bool(predicted.size and np.all(predicted == 1))


def _advice(subject: Subject, index: int) -> str:
    """What to write instead, by what the targets are."""
    values = np.unique(subject.targets(index))
    if values.size and not np.array_equal(values, values.astype(np.int64)):
        if values.min() < 0 or values.max() > 1:
            return "leave the activation out, for targets that are numbers"
    elif values.size > 2:
        return (
            f"give the last layer one unit for each class, {values.max() + 1:g} as the targets are "
            "now, with loss sparse_categorical_crossentropy"
        )
    return (
        "write activation sigmoid with loss binary_crossentropy, or 2 units of softmax with loss "
        "sparse_categorical_crossentropy"
    )
