"""Where an attempt begins: anew, at its newest snapshot, or at a state of another attempt."""

from __future__ import annotations

import dataclasses
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from orchestrator.diagnosis.causes.after.subject import Weights, sample_weights
from orchestrator.errors import InvalidError
from orchestrator.record.events import AttemptResumed
from orchestrator.record.records import Phase, Settings
from orchestrator.record.storage.directory import Place
from orchestrator.training.attempt import revival, snapshots
from orchestrator.training.attempt.building import build, preparation
from orchestrator.training.attempt.building.build import Built, Loaded
from orchestrator.training.attempt.callbacks import Epochs
from orchestrator.training.attempt.checking.moment import Moment
from orchestrator.training.attempt.phase import blaming, train_phase
from orchestrator.training.attempt.snapshots import Keeper, Snapshot
from orchestrator.training.attempt.task import Begun, Origin, Task
from orchestrator.training.executors.executor import Emit


def begin(task: Task, rows: Loaded, emit: Emit) -> tuple[Built, Weights, Snapshot | None]:
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


def known_phases(task: Task) -> Sequence[Phase]:
    """The finished phases of an attempt that does not begin with the first."""
    if task.begun is not None:
        return task.begun.phases
    return () if task.origin is None else task.origin.phases


def _restore(task: Task, rows: Loaded, seed: int, emit: Emit) -> tuple[Built, Weights]:
    """A model that can get the state of a snapshot, and what of its own weights there is before."""
    settings = replace(task.settings, seed=seed)
    built = build.build(dataclasses.replace(task, settings=settings, seeds=()), rows, emit)
    weights = sample_weights(built.model)
    with blaming(built.pipeline):
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
    built, _, begun = begin(task, rows, lambda event: None)
    trained: list[Epochs] = [Epochs()] if begun is None else begun.trained[:-1]
    keeper = Keeper(built, task.directory, math.inf, until=origin.epoch)
    moment = Moment(task=task, rows=rows, built=built, emit=lambda event: None, trained=trained)
    for plan in task.config.phases[len(trained) - 1 : origin.place.phases]:
        moment = dataclasses.replace(moment, plan=plan)
        moment = moment.after(train_phase(moment, plan, keeper, begun))
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
