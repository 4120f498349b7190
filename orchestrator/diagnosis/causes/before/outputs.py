"""Outputs that cannot vary, or cannot reach their targets."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from orchestrator.diagnosis.causes.before.subject import Subject
from orchestrator.model import layers, leaky_relu
from orchestrator.record.records import Finding

_RANGES = {
    "relu": (0.0, math.inf),
    "relu6": (0.0, 6.0),
    "exponential": (0.0, math.inf),
    "hard_sigmoid": (0.0, 1.0),
    "sigmoid": (0.0, 1.0),
    "softplus": (0.0, math.inf),
    "softsign": (-1.0, 1.0),
    "tanh": (-1.0, 1.0),
}
"""Lowest and highest value of an activation, by Keras's name."""


def find_unreachable_targets(subject: Subject) -> Iterator[Finding]:
    """Targets that the activation of an output cannot reach.

    Certain where the best prediction within reach is a constant, or so much worse than the best
    constant that it fails, and no remedy changes that activation.
    """
    y, weight = getattr(subject.rows, "y", None), getattr(subject.rows, "weight", None)
    counted = slice(None) if weight is None else np.asarray(weight) > 0
    for index, (output, end) in enumerate(zip(subject.outputs, subject.flow.ends, strict=False)):
        site = None if end is None else subject.layers[end]
        targets = None if y is None else output.targets(y)
        if site is None or targets is None or output.form != "regression":
            continue
        low, high = _RANGES.get(site.activation, (-math.inf, math.inf))
        values = np.asarray(targets)[counted]
        beyond = float(np.mean((values < low) | (values > high)))
        if not beyond:
            continue
        within = f"between {low:g} and {high:g}" if math.isfinite(high) else f"of {low:g} and above"
        named = f"output {output.name}" if output.name else "the output"
        share = "every target is" if beyond == 1 else f"{beyond:.3g} of the targets are"
        share = f"{share} outside of that, from {values.min():.4g} to {values.max():.4g}"
        last = layers.output_layers(subject.model)
        yield subject.found(
            "unreachable_targets",
            f"{named} is made by {site.activation}, which gives values {within}; {share}",
            "leave the activation of the last layer out, or scale the targets",
            certain=not _changeable(subject) and _is_beyond(values, low, high, _min_skill(subject)),
            key=subject.place(last[index], "activation") if index < len(last) else (),
        )


def _changeable(subject: Subject) -> bool:
    """Whether a remedy may change the activation of the output, too."""
    return subject.config is not None and leaky_relu.takes_activation(subject.config)


def _min_skill(subject: Subject) -> float | None:
    """Skill below which the prediction fails; None where that is not checked."""
    if subject.config is None:
        return None
    limits = subject.config.checks.prediction_variance
    return None if limits is None else limits.min_skill


def _is_beyond(targets: npt.NDArray[Any], low: float, high: float, min_skill: float | None) -> bool:
    """Whether no prediction between two bounds passes for some column of targets that vary."""
    columns = targets.reshape(len(targets), -1).astype(np.float64)
    columns = columns[:, np.ptp(columns, axis=0) > 0]
    constant = (columns.max(axis=0) <= low) | (columns.min(axis=0) >= high)
    error = ((columns - columns.clip(low, high)) ** 2).mean(axis=0)
    fails = False if min_skill is None else 1 - error / columns.var(axis=0) < min_skill
    return bool(np.any(constant | fails))
