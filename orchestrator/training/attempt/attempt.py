"""One attempt, in the process that runs it: load, build and screen, train, check, save.

What happens is emitted as events; nothing here decides what comes next.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence

import keras

from orchestrator.config.schema import PhasePlan
from orchestrator.data.streams.feed import LiveFeed
from orchestrator.data.streams.pipeline import Feed
from orchestrator.diagnosis.causes.after.subject import sample_weights
from orchestrator.model import saving
from orchestrator.record.checks import AnyCheck
from orchestrator.record.events import PhaseEnded, PhaseStarted, Warned
from orchestrator.record.records import INIT, Phase
from orchestrator.training.attempt import (
    build,
    callbacks,
    check,
    checkpoints,
    keras_warnings,
    preparation,
)
from orchestrator.training.attempt.build import Built, Loaded
from orchestrator.training.attempt.callbacks import Epochs
from orchestrator.training.attempt.task import Task
from orchestrator.training.executors.executor import Emit


def train(task: Task, emit: Emit) -> None:
    """Train one attempt to its end, or to its first failing check.

    Args:
        task: what to train.
        emit: gets the events as they happen.

    Raises:
        InvalidError: the data is not what the run began with.
        UserCodeError: the user's own code raised.
    """
    with preparation.blamed(), keras_warnings.heard(lambda text: emit(Warned(message=text))):
        rows = build.load(task)
        built = build.build(task, rows, emit)
        weights = sample_weights(built.model)
        trained: list[Epochs] = []
        phases: list[Phase] = []
        for plan in (None, *task.config.phases):  # phase 0, `init`, has no epochs
            start = time.perf_counter()
            if plan is None:
                epochs = Epochs()
            else:
                epochs = _train_phase(task, rows, built, plan, trained, emit)
            trained.append(epochs)
            examined = check.examine_phase(task, rows, built, plan, trained, phases)
            if plan is None:
                examined = check.look_before(task, rows, built, examined, emit)
            if plan is not None:
                _save_checkpoint(task, built)
            phase = _phase(plan, epochs, examined.checks, built.model, start)
            phases.append(phase)
            emit(PhaseEnded(attempt=task.attempt, phase=phase))
            check.explain(task, rows, built, weights, trained, phases, examined, emit)
            if phase.failure() is not None:
                return
            if task.until == phase.phase:
                return
        _save_result(task, rows, built, emit)


def _train_phase(
    task: Task, rows: Loaded, built: Built, plan: PhasePlan, before: Sequence[Epochs], emit: Emit
) -> Epochs:
    """Train the epochs of a phase, or fewer where the attempt is lost on the way."""
    rate = built.rates.start_phase(plan.learning_rate)
    emit(
        PhaseStarted(attempt=task.attempt, phase=plan.name, epochs=plan.epochs, learning_rate=rate)
    )
    first = sum(each.count for each in before)
    last = first + plan.epochs
    log = callbacks.EpochLog(emit, attempt=task.attempt, phase=plan.name, rates=built.rates)

    def is_lost(losses: Mapping[int, float]) -> bool:
        return check.is_lost(task, rows, built, losses, emit)

    with _blaming(built.pipeline):
        preparation.fit(
            task.config,
            built.model,
            built.pipeline.batches(first, plan.epochs),
            epochs=last,
            initial_epoch=first,
            steps_per_epoch=built.pipeline.steps_per_epoch,
            shuffle=built.pipeline.shuffle,
            validation_data=built.held,
            callbacks=[
                *built.callbacks,
                callbacks.SeedGenerators(built.settings.seed),
                callbacks.CapRates(built.rates),
                callbacks.Heartbeats(emit, steps=built.pipeline.steps),
                log,
                callbacks.EndWhenLost(is_lost, last_epoch=last),
            ],
        )
    return log.epochs


@contextlib.contextmanager
def _blaming(feed: Feed | LiveFeed) -> Iterator[None]:
    """Raise what the user's generator has raised, of which TensorFlow passes on the text alone."""
    try:
        yield
    except Exception as error:
        if feed.fault is None:
            raise
        raise feed.fault from error


def _phase(
    plan: PhasePlan | None,
    epochs: Epochs,
    checks: tuple[AnyCheck, ...],
    model: keras.Model,
    start: float,
) -> Phase:
    """The record of a phase."""
    return Phase(
        phase=INIT if plan is None else plan.name,
        epochs=epochs.count,
        seconds=round(time.perf_counter() - start, 3),
        metrics=dict(epochs.metrics),
        first_loss=epochs.first_loss,
        highest_loss=epochs.highest_loss,
        weights=saving.digest(variable.numpy() for variable in model.weights),
        checks=checks,
    )


def _save_checkpoint(task: Task, built: Built) -> None:
    with built.rates.plain():
        checkpoints.save(built.model, task.directory / "checkpoint.keras")


def _save_result(task: Task, rows: Loaded, built: Built, emit: Emit) -> None:
    """Save the model that takes raw inputs, hidden until the run accepts it."""
    dataset, path = rows.dataset, task.directory / ".model.keras"
    with built.rates.plain():
        problem = checkpoints.save_result(built.model, path, dataset.scalings, dataset.train)
    if problem is not None:
        emit(Warned(message=f"the model was saved as weights only: {problem}"))
