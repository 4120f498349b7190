"""The epochs of a phase, trained from its beginning or from a snapshot in it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import keras

from orchestrator.config.schema import PhasePlan
from orchestrator.data.streams.feed import LiveFeed
from orchestrator.data.streams.pipeline import Feed
from orchestrator.record.checks import Break
from orchestrator.record.events import PhaseStarted, Warned
from orchestrator.training.attempt import callbacks, snapshots
from orchestrator.training.attempt.building import preparation
from orchestrator.training.attempt.callbacks import EpochLog, Epochs
from orchestrator.training.attempt.checking import check, within
from orchestrator.training.attempt.checking.moment import Moment
from orchestrator.training.attempt.snapshots import Keeper, Resume, Snapshot


def train_phase(
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

    with blaming(built.pipeline):
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
def blaming(feed: Feed | LiveFeed) -> Iterator[None]:
    """Raise what the user's generator has raised, of which TensorFlow passes on the text alone."""
    try:
        yield
    except Exception as error:
        if feed.fault is None:
            raise
        raise feed.fault from error
