"""One attempt, in the process that runs it: load, build and screen, train, check, save.

What happens is emitted as events; nothing here decides what comes next.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from orchestrator.model import saving
from orchestrator.model.layers import undrawn
from orchestrator.policy import rewind
from orchestrator.record.checks import AnyCheck, LearnedCheck
from orchestrator.record.events import ObstacleMet, PhaseEnded, Warned
from orchestrator.record.records import Phase
from orchestrator.record.storage.directory import Place, writing
from orchestrator.training.attempt import checkpoints, snapshots
from orchestrator.training.attempt.beginning import begin, known_phases
from orchestrator.training.attempt.building import build, keras_warnings, preparation
from orchestrator.training.attempt.building.build import Built, Loaded
from orchestrator.training.attempt.callbacks import Epochs
from orchestrator.training.attempt.checking import check, moving_statistics, outlook
from orchestrator.training.attempt.checking.moment import Moment
from orchestrator.training.attempt.phase import train_phase
from orchestrator.training.attempt.snapshots import Keeper
from orchestrator.training.attempt.task import Standing, Task
from orchestrator.training.executors.executor import Emit

if TYPE_CHECKING:
    from orchestrator.training.attempt.board.board import Board


def train(task: Task, emit: Emit) -> Standing | None:
    """Train one attempt to its end, or to its first failing check.

    Args:
        task: what to train.
        emit: gets the events as they happen.

    Returns:
        How far it has come, where it races.

    Raises:
        InvalidError: the data is not what the run began with.
        UserCodeError: the user's own code raised.
    """
    with preparation.blamed(), keras_warnings.heard(lambda text: emit(Warned(message=text))):
        rows = build.load(task)
        try:
            return _train(task, rows, emit)
        except snapshots.LostError:
            assert task.begun is not None  # noqa: S101 - only what goes on inside of an epoch is
            begun = dataclasses.replace(task.begun, place=Place(0, 0))
            return _train(dataclasses.replace(task, begun=begun), rows, emit)


def _train(task: Task, rows: Loaded, emit: Emit) -> Standing | None:
    """The same of rows that are read.

    Raises:
        LostError: it has gone on inside of an epoch, and cannot go on after that.
    """
    built, weights, begun = begin(task, rows, emit)
    trained: list[Epochs] = [] if begun is None else begun.trained[:-1]
    phases = [*known_phases(task)[: len(trained)]]
    keeper = Keeper(
        built,
        task.directory,
        task.config.checkpoint_seconds,
        lambda text: emit(Warned(message=text)),
        lambda reason: _hinder(task, reason, emit),
        until=task.race,
    )
    place = Place(0, 0) if begun is None else begun.place
    boards = build.open_boards(task, rows, built, place, sum(each.count for each in trained))
    moment = Moment(
        task=task,
        rows=rows,
        built=built,
        emit=emit,
        start=weights,
        trained=trained,
        phases=phases,
    )
    plans = (None, *task.config.phases)  # phase 0, `init`, has no epochs
    for plan in plans[len(trained) :]:
        start, first = time.perf_counter(), dataclasses.replace(moment, plan=plan)
        epochs = Epochs()
        if plan is not None:
            epochs = train_phase(first, plan, keeper, begun, boards, outlook.ends_now)
        begun, moment = None, first.after(epochs)
        if sum(each.count for each in moment.trained) == task.race:
            if keeper.rest is not None:
                with writing(task.directory):
                    snapshots.write(keeper.rest, task.directory)
            return check.stand(moment)
        with undrawn(built.model):
            phase = _end_phase(moment, start, keeper, boards)
        failed = phase.failure() is not None
        if failed and task.race is not None:
            return check.stand(moment, phase.failure())
        if failed or task.until == phase.phase:
            return None
        moment = dataclasses.replace(moment, phases=[*moment.phases, phase])
    _save_result(task, rows, built, emit)
    return None if task.race is None else check.stand(moment)


def _end_phase(moment: Moment, start: float, keeper: Keeper, boards: Sequence[Board]) -> Phase:
    """Take the checks at a phase's end, and report what they and the finders of causes find.

    Args:
        moment: the end of the phase.
        start: when it began, by `time.perf_counter`.
        keeper: has the snapshots of its epochs.
        boards: write for TensorBoard.
    """
    task = moment.task
    judged = moment if moment.now.count >= moment.epochs else outlook.held(moment)
    examined = check.examine_phase(judged)
    examined, settled = moving_statistics.settle(judged, examined)
    if moment.plan is None:
        examined = check.look_before(moment, examined)
    else:
        _save_checkpoint(task, moment.built)
    phase = _phase(moment, examined.checks, start, settled)
    phase = check.look_back(moment, phase)
    _leave_snapshots(moment, phase, keeper)
    moment.emit(PhaseEnded(attempt=task.attempt, phase=phase))
    for board in boards:
        passed = phase.failure() is None and moment.is_last
        board.end_phase(len(moment.phases), phase, passed=passed)
    check.explain(moment, phase, examined)
    return phase


def _hinder(task: Task, reason: str, emit: Emit) -> None:
    """Tell why no state of an attempt can be kept."""
    told = f"no snapshot can be kept, because {reason}"
    emit(ObstacleMet(attempt=task.attempt, remedy="rewind", reason=told))
    told += ": a training that is interrupted begins again from the start of its attempt"
    emit(Warned(message=f"{told}, and no other goes on from an epoch of it"))


def _leave_snapshots(moment: Moment, phase: Phase, keeper: Keeper) -> None:
    """Keep what another attempt may go on from after a phase, where the policy may ask for that."""
    restart, failed = moment.task.config.restart, phase.failure() is not None
    healthy = rewind.healthy_epoch(phase)
    if failed and healthy and restart.may_rewind():
        keeper.leave(healthy)
    learned = phase.find(LearnedCheck)
    short = learned is not None and learned.falls_short()
    if (failed or short) and moment.is_last and restart.may_go_on():
        keeper.leave(sum(each.count for each in moment.trained))


def _phase(moment: Moment, checks: tuple[AnyCheck, ...], start: float, settled: bool) -> Phase:
    """The record of a phase at its end."""
    epochs = moment.now
    phase = Phase(
        phase=moment.name,
        epochs=epochs.count,
        seconds=round(time.perf_counter() - start, 3),
        metrics=dict(epochs.metrics),
        first_loss=epochs.first_loss,
        highest_loss=epochs.highest_loss,
        weights=saving.digest(variable.numpy() for variable in moment.built.model.weights),
        settled=settled,
        checks=checks,
    )
    losses = moment.losses
    if phase.failure() is not None:
        losses.pop(sum(each.count for each in moment.trained), None)
    finite = [(loss, -epoch) for epoch, loss in losses.items() if math.isfinite(loss)]
    if not finite:
        return phase
    lowest, epoch = min(finite)
    return replace(phase, lowest_loss=lowest, lowest_epoch=-epoch)


def _save_checkpoint(task: Task, built: Built) -> None:
    with built.rates.plain(), writing(task.directory):
        checkpoints.save(built.model, task.directory / "checkpoint.keras")


def _save_result(task: Task, rows: Loaded, built: Built, emit: Emit) -> None:
    """Save the model that takes raw inputs, hidden until the run accepts it."""
    dataset, path = rows.dataset, task.directory / ".model.keras"
    with built.rates.plain(), writing(task.directory):
        problem = checkpoints.save_result(built.model, path, dataset.scalings, dataset.train)
    if problem is not None:
        emit(Warned(message=f"the model was saved as weights only: {problem}"))
