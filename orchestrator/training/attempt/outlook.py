"""The check that follows a training, brought forward to an epoch at which its verdict is certain.

What is asked is a function of the record and of the weights, so that an attempt that is resumed or
replayed ends at the same epoch.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from orchestrator.config.schema import PhasePlan
from orchestrator.diagnosis.verdicts.outlook import Outlook
from orchestrator.model.build import plain_optimizers
from orchestrator.model.outputs import own_way
from orchestrator.record.checks import PredictionVarianceCheck
from orchestrator.record.events import Warned
from orchestrator.record.records import Phase
from orchestrator.training.attempt import check
from orchestrator.training.attempt.build import Built, Loaded
from orchestrator.training.attempt.callbacks import Epochs
from orchestrator.training.attempt.task import Task
from orchestrator.training.executors.executor import Emit


def is_certain_to_fail(
    task: Task,
    rows: Loaded,
    built: Built,
    plan: PhasePlan,
    trained: Sequence[Epochs],
    before: Sequence[Phase],
    emit: Emit,
    now: Epochs,
) -> bool:
    """Whether a prediction that is worse than the best constant will be so at the end, too.

    Asked after an epoch of the last phase, of one output under a loss of Keras's, at a rate that
    stays the same. Of a loss that is below that of the best constant nothing is certain.

    Args:
        task: the attempt.
        rows: its rows.
        built: its model.
        plan: the phase.
        trained: what the epochs of the phases before logged.
        before: these phases.
        emit: is told why.
        now: what the epochs of this phase logged until now.
    """
    losses = [*now.losses.values()]
    limit = _limit(task, before[0].find(PredictionVarianceCheck))
    if limit is None or not losses or not limit < losses[-1] < math.inf or min(losses) <= 0:
        return False
    left = task.config.epochs_of(plan, built.settings) - now.count
    seen = Outlook(losses=losses, level=losses[-1], limit=limit, left=left)
    if not seen.is_out_of_reach() or not _stays_the_same(task, built, plan, now):
        return False
    examined = check.examine_phase(task, rows, built, plan, [*trained, now], before)
    found = next((c for c in examined.checks if isinstance(c, PredictionVarianceCheck)), None)
    if found is None or found.verdict != "fail":
        return False
    level, limit = _mean(found, "loss"), _limit(task, found)
    if level is None or limit is None:
        return False
    # Where there is dropout or a penalty, inference is better than training.
    seen = dataclasses.replace(seen, level=min(level, losses[-1]), limit=limit)
    if not seen.is_out_of_reach():
        return False
    message = (
        f"attempt {task.attempt} ended {left} epochs early: the loss is {seen.level:.4g}, and at "
        f"three times its pace it would be {seen.lowest:.4g} at the end, still clearly worse than "
        f"a constant prediction's"
    )
    emit(Warned(message=message))
    return True


def _limit(task: Task, found: PredictionVarianceCheck | None) -> float | None:
    """The loss above which the prediction is clearly worse than the best constant.

    Not that of a skill which a training has to reach: on its way there its loss may rest.
    """
    limits = task.config.checks.prediction_variance
    constant = None if found is None else _mean(found, "constant_loss")
    if limits is None or found is None or constant is None:
        return None
    lowest = sum(each.lowest_loss or 0.0 for each in found.measured.outputs)
    lowest /= len(found.measured.outputs)
    return constant - min(limits.min_skill, 0.0) * (constant - lowest)


def _mean(found: PredictionVarianceCheck, name: str) -> float | None:
    """The mean over the columns of the output, as Keras takes it; None where one is not known."""
    values = [getattr(each, name) for each in found.measured.outputs]
    return None if not values or None in values else sum(values) / len(values)


def _stays_the_same(task: Task, built: Built, plan: PhasePlan, now: Epochs) -> bool:
    """Whether nothing changes the steps until the end, and the loss is that of one output."""
    optimizers = plain_optimizers(built.model)
    return (
        plan is task.config.phases[-1]
        and len(built.outputs) == len(optimizers) == 1
        and built.outputs[0].unjudged is None
        and not optimizers[0].use_ema
        and own_way(built.model) is None
        and not task.config.fit.callbacks
        and built.class_weight is None
        and built.rates.is_constant
        and len({*now.rates}) == 1
    )
