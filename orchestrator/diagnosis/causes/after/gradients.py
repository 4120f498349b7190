"""Gradients that get lost on their way back, and steps that are as long as what is left."""

from __future__ import annotations

from collections.abc import Iterator

import keras

from orchestrator.diagnosis.causes.after.subject import Subject
from orchestrator.diagnosis.causes.plan import UNUSUAL, times_usual
from orchestrator.model.build import plain_optimizers
from orchestrator.record.records import Finding

_FLAT = frozenset({"sigmoid", "hard_sigmoid"})
"""Activations whose derivative is a quarter at most."""
_QUARTER = 0.25
_LEAST = 2
"""So many of them, one behind the other, let SGD get nowhere.

Of one, two and three layers of 64 units, the gradient of the first kernel, as a share of its size,
is 0.01, 0.006 and 0.002 times that of the last one at the start; behind relu and tanh 0.2 to 0.5
times it. On a product of two columns SGD with a momentum of 0.9 learns nothing in 20 epochs by
sigmoid, 0.92 by relu, and Adam by two and three layers of sigmoid 0.81 and 0.90.
"""


def find_vanishing_gradient(subject: Subject) -> Iterator[Finding]:
    """Hidden layers of sigmoid that hand on next to nothing, where SGD has learnt little.

    Steps of Adam and its kind do not hang on the size of the gradient. A gate beside a path that
    leads around it holds nothing back.
    """
    if subject.untrained or not subject.is_poor:
        return
    optimizers, rate = plain_optimizers(subject.model), max(subject.rates, default=0.0)
    if len(optimizers) != 1 or not isinstance(optimizers[0], keras.optimizers.SGD):
        return
    if (times_usual(optimizers[0], rate) or 0.0) > UNUSUAL:
        return
    flow = subject.examined.flow
    flat = [
        layer
        for index, layer in enumerate(subject.examined.layers)
        if layer.activation in _FLAT and index not in flow.ends and flow.cut_outputs([index])
    ]
    if len(flat) < _LEAST:
        return
    reason = (
        f"{len(flat)} hidden layers of {flat[0].activation}, {flat[0].name} first, hand on a "
        f"quarter of the gradient each at most, {_QUARTER ** len(flat):.2g} of it together, and "
        "the steps of SGD are as short as what is left"
    )
    yield subject.found(
        "vanishing_gradient", reason, f"write relu for {flat[0].activation} there, or take Adam"
    )
