"""What is looked at while an attempt trains: after every epoch, after every phase, at a failure."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from msgspec.structs import replace

from orchestrator.config.sections.rates import is_capped
from orchestrator.data.rows import AnyRows, Tree
from orchestrator.diagnosis import examine
from orchestrator.diagnosis.causes.after.find import find_after
from orchestrator.diagnosis.causes.after.subject import Subject
from orchestrator.diagnosis.causes.before.find import find_before
from orchestrator.diagnosis.causes.before.subject import Subject as Planned
from orchestrator.diagnosis.examine import Examination, non_finite_variables, whole_batches
from orchestrator.diagnosis.skill.columns import numbered
from orchestrator.diagnosis.skill.scores import Scores
from orchestrator.diagnosis.tracing.probe import BATCH_SIZE, Measurement
from orchestrator.diagnosis.verdicts.checks import (
    Evidence,
    with_break,
    with_findings,
)
from orchestrator.diagnosis.verdicts.learned import Course, Earlier
from orchestrator.diagnosis.verdicts.prediction_variance import with_validation
from orchestrator.diagnosis.watch.deaths import Heard, Past, largest_loss, with_silence
from orchestrator.model.build import plain_optimizers
from orchestrator.model.layers import undrawn
from orchestrator.model.losses.returned import Returned
from orchestrator.record.checks import (
    AnyCheck,
    DeadNeuronsCheck,
    FindingsCheck,
    FiniteCheck,
    LearnedCheck,
    PredictionVarianceCheck,
)
from orchestrator.record.events import CausesFound, LayerShare, Preview
from orchestrator.record.records import Failure, Phase
from orchestrator.training.attempt.building.build import Built
from orchestrator.training.attempt.checking.moment import Moment
from orchestrator.training.attempt.task import Standing, Task


def examine_phase(moment: Moment) -> Examination:
    """Look at the network after a phase, and take its checks."""
    task, rows, built, plan = moment.task, moment.rows, moment.built, moment.plan
    limits, last = task.config.checks, moment.is_last
    due = [
        gate
        for gate in limits.metric
        if plan is not None and (plan.name in gate.phases if gate.phases else last)
    ]
    known = Evidence(
        non_finite=_non_finite(built.model, moment.losses),
        untrained=plan is None,
        last=last,
        exact=len(rows.checked) == rows.dataset.num_rows,
        gates=due,
        logged=moment.now.metrics,
        course=_course(moment, moment.phases),
    )
    examined = examine.examine(
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


def stand(moment: Moment, failure: Failure | None = None) -> Standing:
    """How far an attempt has come that races.

    Args:
        moment: the end of its last epoch.
        failure: the check that has failed, where one has; else what would fail at any time is
            looked at here, and what was learnt.
    """
    task, rows, built = moment.task, moment.rows, moment.built
    losses, share = moment.losses, None
    if failure is None:
        known = Evidence(
            non_finite=_non_finite(built.model, losses),
            exact=len(rows.checked) == rows.dataset.num_rows,
            course=_course(moment, ()),
        )
        examined = examine.examine(
            built.probe,
            rows.checked,
            built.outputs,
            task.config.checks,
            known,
            training_batch_size=task.config.batch_size,
            class_weight=built.class_weight,
        )
        failure = _lost(examined.checks)
        learned = next((each for each in examined.checks if isinstance(each, LearnedCheck)), None)
        share = None if learned is None else learned.share()
    return Standing(
        seed=built.settings.seed,
        screened=built.screened,
        epochs=len(losses),
        share=share,
        loss=next(reversed(losses.values()), None),
        failure=failure,
    )


def _lost(checks: Sequence[AnyCheck]) -> Failure | None:
    """The first check that fails whenever it is taken; skill is what is still being learnt."""
    for each in checks:
        constant = isinstance(each, PredictionVarianceCheck) and each.is_constant()
        if constant or (each.check in ("finite", "dead_neurons") and each.verdict == "fail"):
            return Failure(check=each.check, phase=None, reason=each.reason)
    return None


def look_before(moment: Moment, examined: Examination) -> Examination:
    """Look for what stands against the training before it begins, and report it.

    Returns:
        The examination with the verdict on that.
    """
    task, rows, built = moment.task, moment.rows, moment.built
    limits = task.config.checks.findings
    if limits is None:
        return examined
    planned = Planned(
        model=built.model,
        outputs=built.outputs,
        rows=rows.dataset.train,
        scalings=rows.dataset.scalings,
        layers=examined.layers,
        flow=examined.flow,
        config=task.config,
        learning_rate_cap=built.settings.learning_rate_cap,
        learning_rate_factor=built.settings.learning_rate_factor,
        schedule_stretch=built.settings.schedule_stretch,
        steps_per_epoch=built.pipeline.steps,
    )
    with built.rates.plain():  # as the user has set them
        found = find_before(planned, limits.ignore)
    if found:
        moment.emit(CausesFound(attempt=task.attempt, findings=found, failed=False))
    return dataclasses.replace(examined, checks=with_findings(examined.checks, found))


def _course(moment: Moment, before: Sequence[Phase]) -> Course:
    """How the training went until now."""
    losses = moment.fitted
    known = [each.first_loss for each in moment.trained if each.first_loss is not None]
    first = known[: not moment.is_penalised]
    earlier = (
        Earlier(
            phase=phase.phase, skills=tuple(each.output_skill() for each in check.measured.outputs)
        )
        for phase in before[1:]
        if (check := phase.find(PredictionVarianceCheck)) is not None and check.measured.exact
    )
    return Course(
        losses=(*first, *losses),
        epochs=len(losses),
        earlier=tuple(earlier),
    )


def _with_validation(examined: Examination, task: Task, built: Built, held: AnyRows) -> Examination:
    """The examination with what the predictions are worth on the validation rows, too."""
    if not any(isinstance(check, PredictionVarianceCheck) for check in examined.checks):
        return examined
    size = task.config.batch_size
    scores = Scores(built.outputs, size)
    # Keras leaves class weights out of the validation loss; the skill is that under the loss that
    # trains all the same.
    weighed = Scores(built.outputs, size, built.class_weight)

    def see(_: Tree, returned: list[Returned], y: Tree, weight: Any) -> None:
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


def look_back(moment: Moment, phase: Phase) -> Phase:
    """Note when the units fell silent that are dead at a phase's end, or where weights broke.

    Args:
        moment: the end of the phase.
        phase: its record.

    Returns:
        The record with the epoch of each unit, and with the largest loss of them; with the steps
        and rows at which weights have turned NaN or infinite.
    """
    built, finite = moment.built, phase.find(FiniteCheck)
    if finite is not None and moment.now.broken is not None:
        told = with_break(finite, moment.now.broken)
        phase = replace(
            phase, checks=tuple(told if each is finite else each for each in phase.checks)
        )
    watched = built.signals.epochs
    # A step of the user's own may apply its gradients without an optimizer.
    unseen = not watched and any(each.count for each in moment.trained)
    signals = built.signals
    last = {**signals.last_heard_at(built.probe.reads), **signals.last_heard}
    heard = Heard(epochs=watched, last={} if unseen else last)
    found = phase.find(DeadNeuronsCheck)
    if found is None:
        return phase
    check = with_silence(found, heard)
    past = Past(
        rates=[each.rates for each in moment.trained],
        losses=moment.losses,
        healthy=(phase.lowest_epoch or 0) if phase.failure() is not None else 0,
    )
    return replace(
        phase,
        lost=largest_loss(check, heard, past),
        checks=tuple(check if each is found else each for each in phase.checks),
    )


def why_lost(moment: Moment, losses: Mapping[int, float]) -> str | None:
    """Why training on is in vain, in one clause; None where it is not. Tells what is seen first.

    Args:
        moment: of an attempt that trains.
        losses: the losses that are new, by the number of the epoch.
    """
    task, rows, built = moment.task, moment.rows, moment.built
    with undrawn(built.model):
        return examine.why_lost(
            built.probe,
            rows.checked,
            task.config.checks,
            non_finite=_non_finite(built.model, losses),
            training_batch_size=task.config.batch_size,
            see=lambda found: moment.emit(_preview(found)),
        )


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


def explain(moment: Moment, phase: Phase, examined: Examination) -> None:
    """Look for the causes of a failure after a phase, or for what to know after the last one.

    Args:
        moment: the end of the phase.
        phase: its record.
        examined: what its checks looked at.
    """
    limits, failure = moment.task.config.checks.findings, phase.failure()
    told = failure is not None and failure.check == "findings"
    if limits is None or told or (failure is None and not moment.is_last):
        return
    before = (moment.phases[0] if moment.phases else phase).find(FindingsCheck)
    known = () if before is None else before.measured.causes
    screened = moment.built.findings if failure is not None else ()
    found = find_after(subject(moment, phase, examined), known)
    found = tuple(each for each in (*screened, *found) if each.cause not in limits.ignore)
    if found:
        attempt, failed = moment.task.attempt, failure is not None
        moment.emit(CausesFound(attempt=attempt, findings=found, failed=failed))


def subject(moment: Moment, phase: Phase, examined: Examination) -> Subject:
    """What the finders of causes look at after epochs.

    Args:
        moment: the end of the last of them.
        phase: the record of the phase until then.
        examined: what its checks looked at.
    """
    task, rows, built = moment.task, moment.rows, moment.built
    return Subject(
        config=task.config,
        model=built.model,
        outputs=built.outputs,
        probe=built.probe,
        rows=rows.dataset.train,
        validation=rows.dataset.validation,
        class_weight=built.class_weight,
        examined=examined,
        phases=[*moment.phases, phase],
        losses=moment.fitted,
        penalised=moment.is_penalised,
        rates=[rate for each in moment.trained for rate in each.rates],
        steps=moment.steps,
        slowed=is_capped(built.settings, built.planned_rate),
        start=moment.start,
    )
