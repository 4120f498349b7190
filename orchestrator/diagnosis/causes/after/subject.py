"""What causes are looked for in after a training: the network as it ended, and how it got there."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from orchestrator.config.schema import Config
from orchestrator.data.rows import AnyRows
from orchestrator.diagnosis.examine import Examination
from orchestrator.diagnosis.skill.columns import NO_SKILL
from orchestrator.diagnosis.tracing.probe import Probe
from orchestrator.model.outputs import Output
from orchestrator.record.checks import PredictionVarianceCheck
from orchestrator.record.records import Cause, Finding, Phase

FALLEN = 0.1
"""Share of the loss that is lost in the last quarter of the epochs where it is still falling."""
_SAMPLED = 4096
"""Numbers of a weight that are kept, at most: enough for its size and its change."""
_OF_WORTH = frozenset({"prediction_variance", "learned", "metric"})
"""Checks that fail where the predictions are worth too little."""

Weights = Mapping[str, npt.NDArray[Any]]
"""Some numbers of each trainable weight, by its path."""


def sample_weights(model: keras.Model) -> Weights:
    """Some numbers of each weight that training may change, the same ones at every call."""
    found = {}
    for variable in model.trainable_variables:
        flat = keras.ops.convert_to_numpy(variable).reshape(-1)
        found[variable.path] = flat[:: max(1, math.ceil(flat.size / _SAMPLED))].copy()
    return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subject:
    """An attempt after a phase: its network, its rows, and what its training has shown.

    Every finder of this folder is a function of it; what takes a forward pass is done once, and
    only where a finder asks for it.
    """

    config: Config
    """The config."""
    model: keras.Model
    """As the phase has left it."""
    outputs: Sequence[Output]
    """Its outputs, with what trains each."""
    probe: Probe
    """Measures it, with the graphs that were traced already."""
    rows: AnyRows
    """The training rows."""
    validation: AnyRows | None = None
    """The validation rows, where there are any."""
    class_weight: Mapping[int, float] | None = None
    """Weight of every class in training; None without."""
    examined: Examination
    """What the checks of the phase looked at."""
    phases: Sequence[Phase]
    """The phases until now, this one included."""
    losses: Sequence[float] = ()
    """Keras's loss of every epoch until now."""
    rates: Sequence[float] = ()
    """Highest learning rate of every epoch until now."""
    steps: int = 0
    """Training steps until now."""
    slowed: bool = False
    """Whether a remedy has lowered the learning rate."""
    start: Weights = dataclasses.field(default_factory=dict)
    """What the weights were before the training."""

    @property
    def untrained(self) -> bool:
        """Whether this is phase 0."""
        return len(self.phases) == 1

    @functools.cached_property
    def failed(self) -> frozenset[str]:
        """Names of the checks that failed."""
        return frozenset(each.check for each in self.examined.checks if each.verdict == "fail")

    @property
    def is_alive(self) -> bool:
        """Whether all is finite, and no dead layer is to blame."""
        return not self.failed & {"finite", "dead_neurons"}

    @functools.cached_property
    def is_poor(self) -> bool:
        """Whether the network is alive, and its predictions are worth too little."""
        short = any(
            each.check == "learned" and each.verdict == "warn" for each in self.examined.checks
        )
        return self.is_alive and bool(self.failed & _OF_WORTH or short or self.without_skill)

    @property
    def is_constant(self) -> bool:
        """Whether a prediction is constant after training, although units are alive."""
        check = self.phases[-1].find(PredictionVarianceCheck)
        failed = "prediction_variance" in self.failed and self.is_alive and not self.untrained
        return failed and check is not None and check.is_constant()

    @property
    def constant_loss(self) -> float | None:
        """What the best constant loses, of the output where it is the most; None where unknown."""
        columns = [column for columns in self.examined.columns for column in columns]
        known = [each.constant_loss for each in columns if each.constant_loss is not None]
        return max(known, default=None)

    @functools.cached_property
    def without_skill(self) -> tuple[Output, ...]:
        """The outputs of which a column is no better than the best constant."""
        return tuple(
            output
            for output, columns in zip(self.outputs, self.examined.columns, strict=False)
            if any(each.skill is not None and not each.skill > NO_SKILL for each in columns)
        )

    @functools.cached_property
    def course(self) -> tuple[float, ...]:
        """The loss of the first step, before its weights were changed, and then of every epoch."""
        first = next((each.first_loss for each in self.phases if each.first_loss is not None), None)
        return (*self.losses,) if first is None else (first, *self.losses)

    @property
    def span(self) -> int:
        """Number of epochs of the last quarter; 0 where there were none before it."""
        quarter = math.ceil(len(self.losses) / 4)
        return quarter if quarter < len(self.course) else 0

    @functools.cached_property
    def is_falling(self) -> bool:
        """Whether the loss fell by a tenth in the last quarter of the epochs, to its lowest."""
        if not self.span or not all(map(math.isfinite, self.course)):
            return False
        before, last = self.course[-1 - self.span], self.course[-1]
        return last < before - FALLEN * abs(before) and last <= min(self.course)

    @functools.cached_property
    def weights(self) -> Weights:
        """What the weights are now, the numbers of `start`."""
        return sample_weights(self.model)

    @functools.cached_property
    def moved(self) -> Mapping[str, float]:
        """Size of the change of each weight that was not zero at first, as a share of its size."""
        return {
            path: size(self.weights[path] - before) / size(before)
            for path, before in self.start.items()
            if path in self.weights and size(before) > 0
        }

    def found(self, cause: Cause, reason: str, advice: str, *, certain: bool = False) -> Finding:
        """A finding of this folder's.

        Args:
            cause: its name.
            reason: one clause: what was seen, and why it matters.
            advice: one clause: what to write instead.
            certain: no training could succeed.
        """
        return Finding(cause=cause, reason=reason, advice=advice, certain=certain, found="after")


def size(values: Any) -> float:
    """Root of the mean square."""
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))
