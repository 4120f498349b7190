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
from orchestrator.data.rows import AnyRows, Tree
from orchestrator.diagnosis.causes.after import dropped
from orchestrator.diagnosis.causes.after.dropped import Dropped
from orchestrator.diagnosis.causes.scales import size
from orchestrator.diagnosis.examine import Examination
from orchestrator.diagnosis.skill.columns import OutputSkill
from orchestrator.diagnosis.skill.scores import Scores
from orchestrator.diagnosis.tracing.probe import Probe
from orchestrator.model.losses.returned import Returned
from orchestrator.model.outputs import Output
from orchestrator.record.checks import NO_SKILL, LearnedCheck, OutputShare, PredictionVarianceCheck
from orchestrator.record.records import Cause, Finding, Fix, Phase

FALLEN = 0.1
"""Share of the loss, or of its whole fall, that is lost in the last quarter of the epochs where it
is still falling. At an even pace a quarter of the fall is; the loss need not come near zero."""
_SEEN = 0.01
"""Share of the loss that it falls by, at least, where it is falling: less is noise."""
_FEW_EPOCHS = 4
"""Epochs of which the last quarter is one that can be held against the others."""
_SAMPLED = 4096
"""Numbers of a weight that are kept, at most: enough for its size and its change."""
LOST = 0.2
"""Skill that is lost by BatchNorm's moving statistics where they are to blame."""
_OF_WORTH = frozenset({"prediction_variance", "learned", "metric"})
"""Checks that fail where the predictions are worth too little."""

Weights = Mapping[str, npt.NDArray[Any]]
"""Some numbers of each trainable weight, by its path."""


def sample_weights(model: keras.Model) -> Weights:
    """Some numbers of each weight that training may change, the same ones at every call."""
    found = {}
    for variable in model.trainable_variables:
        step = max(1, math.ceil(math.prod(variable.shape) / _SAMPLED))
        few = keras.ops.reshape(variable, (-1,))[::step]  # of millions no others are copied
        found[variable.path] = np.array(keras.ops.convert_to_numpy(few))
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
    """Keras's loss of every epoch until now, without what regularizers of weights add to it."""
    penalised: bool = False
    """Whether regularizers of weights add to the loss."""
    rates: Sequence[float] = ()
    """Highest learning rate of every epoch until now."""
    steps: int = 0
    """Training steps until now."""
    slowed: bool = False
    """Whether a remedy holds the longest phase below the rate that it would have."""
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
    def is_in_doubt(self) -> bool:
        """Whether a check failed or warns."""
        return any(each.verdict in ("fail", "warn") for each in self.examined.checks)

    @property
    def is_short(self) -> bool:
        """Whether it is warned that too little was learnt."""
        return any(each.check == "learned" and each.verdict == "warn"
                   for each in self.examined.checks)  # fmt: skip

    @property
    def is_alive(self) -> bool:
        """Whether all is finite, and no dead layer is to blame."""
        return not self.failed & {"finite", "dead_neurons"}

    @functools.cached_property
    def is_poor(self) -> bool:
        """Whether it is alive and responds, and is worth too little, not by lagging statistics."""
        poor = self.failed & _OF_WORTH or self.is_short or self.without_skill
        moves = self.is_alive and self.examined.responding != 0
        return moves and bool(poor) and self.lag is None

    @property
    def is_constant(self) -> bool:
        """Whether a prediction is constant after training, although units are alive."""
        check = self.phases[-1].find(PredictionVarianceCheck)
        failed = "prediction_variance" in self.failed and self.is_alive and not self.untrained
        return failed and check is not None and (check.is_constant() or check.is_blind())

    @property
    def constant_loss(self) -> float | None:
        """What the best constant loses, of the output where it is the most; None where unknown."""
        known = [each.constant_loss for each in self.columns if each.constant_loss is not None]
        return max(known, default=None)

    @functools.cached_property
    def columns(self) -> tuple[OutputSkill, ...]:
        """What the columns of all outputs are worth in inference."""
        return tuple(column for columns in self.examined.columns for column in columns)

    @functools.cached_property
    def batch_skills(self) -> tuple[float | None, ...]:
        """The columns' skills with the batches' own statistics; nothing without BatchNorm."""
        if not self.probe.can_measure or not self.probe.has_batch_normalization:
            return ()
        check = self.phases[-1].find(PredictionVarianceCheck)
        known = () if check is None else check.measured.outputs
        skills = tuple(each.skill_with_batch_statistics for each in known)
        if any(skill is not None for skill in skills):
            return skills
        size = self.config.batch_size
        scores = Scores(self.outputs, size, self.class_weight)

        def see(_: Tree, returned: list[Returned], y: Tree, weight: Any) -> None:
            scores.see(returned, y, weight)

        self.probe.measure(self.rows, batch_size=size, batch_statistics=True, see=see)
        return tuple(column.skill for columns in scores.columns() for column in columns)

    @functools.cached_property
    def lag(self) -> tuple[float, float] | None:
        """Skill with BatchNorm's moving statistics, and with the batches' where that is far more.

        None where it is not, or where no check is in doubt.
        """
        if self.untrained or not self.is_in_doubt or not self.is_alive:
            return None
        pairs = [
            (moving.skill, batch)
            for moving, batch in zip(self.columns, self.batch_skills, strict=False)
            if moving.skill is not None and batch is not None
        ]
        moving, batch = max(pairs, key=lambda pair: pair[1] - pair[0], default=(0.0, 0.0))
        return (moving, batch) if batch > NO_SKILL and batch - moving > LOST else None

    @functools.cached_property
    def dropped(self) -> tuple[Dropped, ...]:
        """What dropout makes of the outputs; nothing without it, or with BatchNorm."""
        if not self.probe.can_measure or self.probe.has_batch_normalization:
            return ()
        return dropped.measure(
            self.model,
            self.rows,
            self.outputs,
            batch_size=self.config.batch_size,
            class_weight=self.class_weight,
        )

    @property
    def shares(self) -> tuple[OutputShare, ...]:
        """What each output has learnt beside the reference; nothing where that was not asked."""
        check = self.phases[-1].find(LearnedCheck)
        return () if check is None else check.measured.outputs

    @functools.cached_property
    def without_skill(self) -> tuple[Output, ...]:
        """The outputs of which a column is no better than the best constant.

        Where columns are of one kind, as pixels are, those that are not better all together.
        """
        return tuple(
            output
            for output, columns in zip(self.outputs, self.examined.columns, strict=False)
            if any(each.of_output is not None and not each.of_output > NO_SKILL for each in columns)
        )

    @functools.cached_property
    def course(self) -> tuple[float, ...]:
        """The loss of the first step, before its weights were changed, and then of every epoch.

        Without that of the first step where it is not known, or not without penalties.
        """
        known = [each.first_loss for each in self.phases if each.first_loss is not None]
        return (*known[: not self.penalised], *self.losses)

    @property
    def span(self) -> int:
        """Number of epochs of the last quarter; 0 where there were none before it."""
        quarter = math.ceil(len(self.losses) / 4)
        return quarter if quarter < len(self.course) else 0

    @functools.cached_property
    def is_falling(self) -> bool:
        """Whether the loss fell in the last quarter of the epochs, to its lowest.

        That is by a tenth of itself, or by a tenth of all that it has fallen since the beginning.
        """
        if not self.span or not all(map(math.isfinite, self.course)):
            return False
        before, last = self.course[-1 - self.span], self.course[-1]
        least = FALLEN * abs(before)
        if len(self.losses) >= _FEW_EPOCHS:
            least = min(least, max(_SEEN * abs(before), FALLEN * (self.course[0] - last)))
        return last < before - least and last <= min(self.course)

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

    @property
    def most_moved(self) -> float | None:
        """The largest of these, as it would be where the last phase has ended early.

        By the root of the epochs: the way of a weight gets slower as the loss falls.
        """
        return max(self.moved.values()) * math.sqrt(self.shortened) if self.moved else None

    @property
    def shortened(self) -> float:
        """So many times as many epochs the last phase was to have, where it ended early; else 1."""
        last = self.phases[-1]
        planned = next((each.epochs for each in self.config.phases if each.name == last.phase), 0)
        return max(planned / last.epochs, 1.0) if last.epochs else 1.0

    def found(
        self,
        cause: Cause,
        reason: str,
        advice: str,
        *,
        certain: bool = False,
        fix: Fix | None = None,
    ) -> Finding:
        """A finding of this folder's.

        Args:
            cause: its name.
            reason: one clause: what was seen, and why it matters.
            advice: one clause: what to write instead.
            certain: no training could succeed.
            fix: what a remedy is to write instead.
        """
        return Finding(
            cause=cause, reason=reason, advice=advice, certain=certain, found="after", fix=fix
        )
