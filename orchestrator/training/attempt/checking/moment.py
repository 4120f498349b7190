"""An attempt at one moment: what it trains, and what it has been through until then."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from orchestrator.config.schema import PhasePlan
from orchestrator.diagnosis.causes.after.subject import Weights
from orchestrator.model.outputs import own_way
from orchestrator.record.records import INIT, Phase
from orchestrator.training.attempt.building.build import Built, Loaded
from orchestrator.training.attempt.callbacks import Epochs
from orchestrator.training.attempt.task import Task
from orchestrator.training.executors.executor import Emit


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """An attempt at the beginning of a phase, or at the end of one of its epochs."""

    task: Task
    rows: Loaded
    built: Built
    emit: Emit
    """Is told what happens."""
    start: Weights = dataclasses.field(default_factory=dict)
    """What the weights were before the training."""
    plan: PhasePlan | None = None
    """The phase; None for phase 0, which has no epochs."""
    trained: Sequence[Epochs] = ()
    """What the epochs of every phase logged, those of this one until now included."""
    phases: Sequence[Phase] = ()
    """The records of the phases before."""

    def after(self, epochs: Epochs) -> Moment:
        """The same phase after epochs of it, from its beginning."""
        return dataclasses.replace(self, trained=[*self.trained, epochs])

    @property
    def name(self) -> str:
        """Name of the phase."""
        return INIT if self.plan is None else self.plan.name

    @property
    def now(self) -> Epochs:
        """What the epochs of this phase logged."""
        return self.trained[-1]

    @property
    def losses(self) -> dict[int, float]:
        """The loss of every epoch until now, by its number."""
        return {number: loss for each in self.trained for number, loss in each.losses.items()}

    @property
    def fitted(self) -> list[float]:
        """The loss of every epoch until now without what regularizers of weights add to it.

        Such a penalty falls as it shrinks the weights, whatever becomes of the predictions. Keras
        logs the mean over the epoch's steps, and so the mean is taken of what falls by the same
        share at every step, which is no more than that of weights that shrink evenly: what is left
        is not below what the predictions lose. Not known of a model that adds up its loss itself.
        """
        penalties: dict[int, float] = {}
        for each in self.trained if self.is_penalised else ():
            penalties |= each.penalties
        return [
            loss - _mean_on_the_way(penalties.get(number - 1, after), after)
            for number, loss in self.losses.items()
            for after in [penalties.get(number, 0.0)]
        ]

    @property
    def is_penalised(self) -> bool:
        """Whether `fitted` leaves something out."""
        return own_way(self.built.model) is None and any(each.penalties for each in self.trained)

    @property
    def steps(self) -> int:
        """Steps of all epochs until now."""
        return self.built.pipeline.steps * sum(each.count for each in self.trained)

    @property
    def epochs(self) -> int:
        """Epochs that the phase is to have."""
        if self.plan is None:
            return 0
        return self.task.config.epochs_of(self.plan, self.built.settings)

    @property
    def is_last(self) -> bool:
        """Whether it is in the last phase."""
        return self.plan is self.task.config.phases[-1]


def _mean_on_the_way(first: float, last: float) -> float:
    """The logarithmic mean: of what goes from one number to another by the same share at a time."""
    if min(first, last) <= 0 or math.isclose(first, last, rel_tol=1e-6):
        return min(first, last)
    return (first - last) / math.log(first / last)
