"""What is looked at while an attempt trains: after every epoch, after every phase, at a failure."""

from __future__ import annotations

import dataclasses
import math
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from orchestrator.config.schema import PhasePlan
from orchestrator.data.rows import AnyRows, Tree
from orchestrator.diagnosis.causes.after.network import find_causes
from orchestrator.diagnosis.causes.before.find import find_before
from orchestrator.diagnosis.causes.before.subject import Subject
from orchestrator.diagnosis.checks import Evidence, with_findings, with_validation
from orchestrator.diagnosis.examine import (
    Examination,
    examine,
    non_finite_variables,
    whole_batches,
    why_lost,
)
from orchestrator.diagnosis.skill.columns import numbered
from orchestrator.diagnosis.skill.scores import Scores
from orchestrator.diagnosis.tracing.probe import BATCH_SIZE, Measurement
from orchestrator.model.build import plain_optimizers
from orchestrator.model.losses.returned import Returned
from orchestrator.record.checks import PredictionVarianceCheck
from orchestrator.record.events import CausesFound, LayerShare, Preview
from orchestrator.training.attempt.build import Built, Loaded
from orchestrator.training.attempt.task import Task
from orchestrator.training.executors.executor import Emit


def examine_phase(
    task: Task,
    rows: Loaded,
    built: Built,
    plan: PhasePlan | None,
    losses: Mapping[int, float],
    metrics: Mapping[str, float],
) -> Examination:
    """Look at the network after a phase, and take its checks; `plan` is None after phase 0."""
    limits = task.config.checks
    last = plan is task.config.phases[-1]
    due = [
        gate
        for gate in limits.metric
        if plan is not None and (plan.name in gate.phases if gate.phases else last)
    ]
    known = Evidence(
        non_finite=_non_finite(built.model, losses),
        untrained=plan is None,
        last=last,
        exact=len(rows.checked) == rows.dataset.num_rows,
        gates=due,
        logged=metrics,
    )
    examined = examine(
        built.probe,
        rows.checked,
        built.outputs,
        limits,
        known,
        exhaustive=last,
        gradients="when_suspicious",
        training_batch_size=task.config.batch_size,
        class_weight=built.class_weight,
    )
    held = rows.dataset.validation
    if last and examined.columns and held is not None:
        return _with_validation(examined, task, built, held)
    return examined


def look_before(
    task: Task, rows: Loaded, built: Built, examined: Examination, emit: Emit
) -> Examination:
    """Look for what stands against the training before it begins, and report it.

    Returns:
        The examination with the verdict on that.
    """
    limits = task.config.checks.findings
    if limits is None:
        return examined
    subject = Subject(
        model=built.model,
        outputs=built.outputs,
        rows=rows.dataset.train,
        layers=examined.layers,
        flow=examined.flow,
        config=task.config,
        learning_rate_cap=built.settings.learning_rate_cap,
        steps_per_epoch=built.pipeline.steps,
    )
    with built.rates.plain():  # as the user has set them
        found = find_before(subject, limits.ignore)
    if found:
        emit(CausesFound(attempt=task.attempt, findings=found))
    return dataclasses.replace(examined, checks=with_findings(examined.checks, found))


def _with_validation(examined: Examination, task: Task, built: Built, held: AnyRows) -> Examination:
    """The examination with what the predictions are worth on the validation rows, too."""
    if not any(isinstance(check, PredictionVarianceCheck) for check in examined.checks):
        return examined
    size = task.config.batch_size
    scores = Scores(built.outputs, size)
    # Keras leaves class weights out of the validation loss; the skill is that under the loss that
    # trains all the same.
    weighed = Scores(built.outputs, size, built.class_weight)

    def see(returned: list[Returned], y: Tree, weight: Any) -> None:
        scores.see(returned, y, weight)
        if built.class_weight is not None:
            weighed.see(returned, y, weight)

    built.probe.measure(held, batch_size=whole_batches(BATCH_SIZE, size), see=see)
    worth = numbered(scores.columns())
    if built.class_weight is not None:
        worth = [
            dataclasses.replace(plain, skill=each.skill, constant_loss=None, lowest_loss=None)
            for plain, each in zip(worth, numbered(weighed.columns()), strict=True)
        ]
    checks = (
        with_validation(check, worth) if isinstance(check, PredictionVarianceCheck) else check
        for check in examined.checks
    )
    return dataclasses.replace(examined, checks=tuple(checks))


def is_lost(
    task: Task, rows: Loaded, built: Built, losses: Mapping[int, float], emit: Emit
) -> bool:
    """Whether training on is in vain."""
    reason = why_lost(
        built.probe,
        rows.checked,
        task.config.checks,
        non_finite=_non_finite(built.model, losses),
        training_batch_size=task.config.batch_size,
        see=lambda found: emit(_preview(found)),
    )
    return reason is not None


def _preview(found: Measurement) -> Preview:
    layers = (
        LayerShare(layer=each.name, units=each.units, dead=each.dead) for each in found.layers
    )
    return Preview(rows=found.rows, layers=tuple(layers))


def _non_finite(model: keras.Model, losses: Mapping[int, float]) -> list[str]:
    """A clause for each weight, optimizer variable and loss that is not finite."""
    found = non_finite_variables(
        [
            ("weight", model.weights),
            *(("optimizer state", each.variables) for each in plain_optimizers(model)),
        ]
    )
    for epoch, loss in losses.items():
        if not math.isfinite(loss):
            return [*found, f"the loss of epoch {epoch} is {loss}"]
    return found


def explain(
    task: Task,
    rows: Loaded,
    built: Built,
    plan: PhasePlan | None,
    examined: Examination,
    losses: Mapping[int, float],
    emit: Emit,
) -> None:
    """Look for the causes of a failure after a phase, and report them."""
    limits = task.config.checks.findings
    failed = next(each for each in examined.checks if each.verdict == "fail")
    if limits is None or failed.check == "findings":  # that one is told already
        return
    found = list(built.findings)
    try:
        found += find_causes(
            built.model,
            built.outputs,
            rows.dataset.train,
            examined,
            untrained=plan is None,
            falling=_is_falling([*losses.values()]),
            slowed=built.settings.learning_rate_cap is not None,
        )
    except Exception:  # noqa: BLE001 - an explanation that is missing is no reason to fail
        traceback.print_exc()
    found = [finding for finding in found if finding.cause not in limits.ignore]
    if found:
        emit(CausesFound(attempt=task.attempt, findings=tuple(found)))


def _is_falling(losses: Sequence[float]) -> bool:
    """Whether the epochs' losses still fell by a tenth in the last quarter of them."""
    if len(losses) < 2:
        return False
    before = losses[-1 - math.ceil(len(losses) / 4)]
    return losses[-1] < before - 0.1 * abs(before)
