"""One attempt, in the process that runs it: load, build and screen, train, check, save.

What happens is emitted as events; nothing here decides what comes next.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import keras
from msgspec.structs import replace

from orchestrator.config.schema import PhasePlan
from orchestrator.data.streams.feed import LiveFeed
from orchestrator.data.streams.pipeline import Feed
from orchestrator.diagnosis.causes.after.subject import Weights, sample_weights
from orchestrator.errors import InvalidError
from orchestrator.model import saving
from orchestrator.model.layers import undrawn
from orchestrator.policy import rewind
from orchestrator.record.checks import AnyCheck, Break, LearnedCheck
from orchestrator.record.events import AttemptResumed, ObstacleMet, PhaseEnded, PhaseStarted, Warned
from orchestrator.record.records import Phase, Settings
from orchestrator.record.storage.directory import Place, writing
from orchestrator.training.attempt import callbacks, checkpoints, revival, snapshots
from orchestrator.training.attempt.building import build, keras_warnings, preparation
from orchestrator.training.attempt.building.build import Built, Loaded
from orchestrator.training.attempt.callbacks import EpochLog, Epochs
from orchestrator.training.attempt.checking import check, moving_statistics, outlook, within
from orchestrator.training.attempt.checking.moment import Moment
from orchestrator.training.attempt.snapshots import Keeper, Resume, Snapshot
from orchestrator.training.attempt.task import Begun, Origin, Standing, Task
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
    built, weights, begun = _begin(task, rows, emit)
    trained: list[Epochs] = [] if begun is None else begun.trained[:-1]
    phases = [*_known_phases(task)[: len(trained)]]
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
            epochs = _train_phase(first, plan, keeper, begun, boards, outlook.ends_now)
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


def _known_phases(task: Task) -> Sequence[Phase]:
    """The finished phases of an attempt that does not begin with the first."""
    if task.begun is not None:
        return task.begun.phases
    return () if task.origin is None else task.origin.phases


def _begin(task: Task, rows: Loaded, emit: Emit) -> tuple[Built, Weights, Snapshot | None]:
    """What is trained, what of its weights is there before, and the snapshot to go on from.

    An attempt that was begun before and has no snapshot begins anew, and comes to the same.
    """
    found = None
    if task.begun is not None:
        place, inside = task.begun.place, task.begun.inside
        found = snapshots.newest(task.begun.directory or task.directory, place, inside=inside)
    if found is not None:
        built, weights = _restore(task, rows, found.seed, lambda event: None)
        built = dataclasses.replace(built, findings=found.findings)
        if snapshots.fits(found, built) and built.pipeline.catch_up(found.state["feed"]):
            _tell_resumed(task, found.place, emit)
            return built, weights, found
    if task.origin is None:
        _tell_resumed(task, Place(0, 0), emit)
        built = build.build(task, rows, emit)
        return built, sample_weights(built.model), None
    _tell_resumed(task, task.origin.place, emit)
    begun = _reach(task.origin, rows)
    built, weights = _restore(task, rows, task.settings.seed, emit)
    if _raises_rates(task.settings, task.origin.task.settings):
        begun = _at_own_rate(begun, task, built)
    if task.origin.revive:
        begun = revival.revive(begun, rows, built, emit)
    return built, weights, begun


def _restore(task: Task, rows: Loaded, seed: int, emit: Emit) -> tuple[Built, Weights]:
    """A model that can get the state of a snapshot, and what of its own weights there is before."""
    settings = replace(task.settings, seed=seed)
    built = build.build(dataclasses.replace(task, settings=settings, seeds=()), rows, emit)
    weights = sample_weights(built.model)
    with _blaming(built.pipeline):
        # Metrics and optimizers make their variables in the first step, which is then undone.
        preparation.try_step(task.config, built.model, rows.dataset)
    return built, weights


def _raises_rates(settings: Settings, before: Settings) -> bool:
    """Whether rates may be higher than with other settings; lower ones a cap sees to."""
    cap, earlier = (
        math.inf if each.learning_rate_cap is None else each.learning_rate_cap
        for each in (settings, before)
    )
    return cap > earlier or settings.learning_rate_factor != before.learning_rate_factor


def _at_own_rate(begun: Snapshot, task: Task, built: Built) -> Snapshot:
    """A state of another attempt with the rate that the attempt itself has in that phase."""
    snapshots.restore_variables(begun, built)
    earlier = begun.trained[:-1]
    plan = task.config.phases[len(earlier) - 1]
    first = sum(each.count for each in earlier)
    built.rates.start_phase(plan.learning_rate, first=first, epochs=plan.epochs)
    return snapshots.with_present_values(begun, built)


def _reach(origin: Origin, rows: Loaded) -> Snapshot:
    """The state of an attempt at the end of an epoch, trained again from what there is of it."""
    place, kept = origin.place, origin.task.directory
    begun = snapshots.newest(kept, place, inside=False)
    if begun is not None and begun.place == place:
        return begun
    again = Begun(restarts=0, place=place, inside=False, directory=kept, phases=origin.phases)
    with tempfile.TemporaryDirectory(prefix="orchestrator-") as folder:
        # What it writes, such as TensorBoard's files, stands in its own directory already.
        task = dataclasses.replace(origin.task, directory=Path(folder), begun=again)
        try:
            return _train_until(task, origin, rows)
        except snapshots.LostError as error:
            message = (
                f"the state of attempt {task.attempt} after epoch {origin.epoch} cannot be kept, "
                f"because {error}; when it was trained first, nothing stood against that"
            )
            hint = "let every training have the same callbacks, which do the same"
            raise InvalidError(
                [task.config.problem(("fit", "callbacks"), message, hint)]
            ) from error


def _train_until(task: Task, origin: Origin, rows: Loaded) -> Snapshot:
    """Train an attempt to the end of the epoch that another one goes on from.

    Raises:
        LostError: what it has come to cannot be kept.
    """
    built, _, begun = _begin(task, rows, lambda event: None)
    trained: list[Epochs] = [Epochs()] if begun is None else begun.trained[:-1]
    keeper = Keeper(built, task.directory, math.inf, until=origin.epoch)
    moment = Moment(task=task, rows=rows, built=built, emit=lambda event: None, trained=trained)
    for plan in task.config.phases[len(trained) - 1 : origin.place.phases]:
        moment = dataclasses.replace(moment, plan=plan)
        moment = moment.after(_train_phase(moment, plan, keeper, begun))
        begun = None
    if keeper.rest is None:
        raise snapshots.LostError(keeper.obstacle)
    return keeper.rest


def _tell_resumed(task: Task, place: Place, emit: Emit) -> None:
    if task.begun is None:
        return
    emit(
        AttemptResumed(
            attempt=task.attempt,
            restarts=task.begun.restarts,
            phases=place.phases,
            epoch=place.epoch,
            step=place.step,
            reason=task.begun.reason,
        )
    )


def _train_phase(
    moment: Moment,
    plan: PhasePlan,
    keeper: Keeper,
    begun: Snapshot | None,
    boards: Sequence[keras.callbacks.Callback] = (),
    ends: Callable[[Moment], bool] = lambda moment: False,
) -> Epochs:
    """Train the epochs of a phase, or fewer where the attempt is lost on the way.

    Args:
        moment: the beginning of the phase.
        plan: the phase.
        keeper: takes snapshots.
        begun: the snapshot in this phase from which it goes on; None for its beginning.
        boards: write for TensorBoard.
        ends: tells after an epoch whether it is ended, for the checks after it fail.

    Raises:
        LostError: it has gone on inside of an epoch, and the state at the end of that cannot be
            kept.
    """
    task, built, emit = moment.task, moment.built, moment.emit
    built.averages.put_back()
    if begun is not None:  # the rate of a schedule hangs on the steps that were trained
        snapshots.restore_variables(begun, built)
    first = sum(each.count for each in moment.trained)
    rate = built.rates.start_phase(plan.learning_rate, first=first, epochs=plan.epochs)
    last = first + moment.epochs
    known = Epochs() if begun is None else begun.trained[-1]
    emit(
        PhaseStarted(
            attempt=task.attempt,
            phase=plan.name,
            epochs=moment.epochs,
            learning_rate=rate,
            done=known.count,
        )
    )
    log = callbacks.EpochLog(
        emit, attempt=task.attempt, phase=plan.name, rates=built.rates, begun=known
    )
    kept = [*built.callbacks, keras.callbacks.History(), built.signals]
    keeper.start_phase(moment.trained, log, kept)

    def is_lost(losses: Mapping[int, float]) -> bool:
        now = moment.after(log.epochs)
        return check.why_lost(now, losses) is not None or ends(now)

    def fit(start: int, end: int, step: int, state: Snapshot | None) -> None:
        """Train from a step of an epoch to another epoch's end."""
        feed = built.pipeline
        whole = feed.steps_per_epoch
        look = _within(moment, log, step)
        keeper.start_inside(step, look.all_finite)
        with built.averages.noted():
            preparation.fit(
                task.config,
                built.model,
                feed.batches(start, end - start, step=step),
                epochs=end,
                initial_epoch=start,
                steps_per_epoch=None if whole is None else whole - step,
                shuffle=feed.shuffle,
                validation_data=built.held,
                callbacks=[
                    *kept,
                    callbacks.BeginAtEpoch(),
                    callbacks.SeedGenerators(built.settings.seed),
                    callbacks.CapRates(built.rates, within=bool(task.config.fit.callbacks)),
                    callbacks.Heartbeats(emit, steps=feed.steps, done=step),
                    log,
                    *boards,
                    callbacks.EndWhenLost(is_lost, last_epoch=last),
                    *([] if state is None else [Resume(state, built, kept)]),
                    look,
                    keeper,
                ],
            )

    with _blaming(built.pipeline):
        if begun is not None and begun.place.step:
            # The rest of an epoch is a fit of its own: Keras's begin with an epoch.
            epoch = begun.place.epoch + 1
            fit(epoch - 1, epoch, begun.place.step, begun)
            if epoch in (last, keeper.until) or built.model.stop_training:
                return log.epochs
            begun, keeper.rest = keeper.rest, None
            if begun is None:
                raise snapshots.LostError(keeper.obstacle)
        start = first if begun is None else begun.place.epoch
        fit(start, start if begun is not None and begun.stopped else last, 0, begun)
    return log.epochs


def _within(moment: Moment, log: EpochLog, step: int) -> within.LookWithin:
    """What ends an epoch on the way, from a step of it on."""
    checks, built = moment.task.config.checks, moment.built
    weights = None if checks.finite is None else within.Weights(built)
    is_dead = None
    if checks.dead_neurons is not None:
        is_dead = within.layer_died(
            built.signals,
            lambda: check.why_lost(moment, {}),
            lambda text: moment.emit(Warned(message=text)),
            built.pipeline.steps,
        )

    def tell(broken: Break) -> None:
        log.broken = broken

    size = built.model.steps_per_execution
    return within.LookWithin(weights, is_dead, tell, done=step, size=size)


@contextlib.contextmanager
def _blaming(feed: Feed | LiveFeed) -> Iterator[None]:
    """Raise what the user's generator has raised, of which TensorFlow passes on the text alone."""
    try:
        yield
    except Exception as error:
        if feed.fault is None:
            raise
        raise feed.fault from error


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
