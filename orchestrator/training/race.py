"""Holding a race: each of several rungs and seeds is trained for a few epochs, in a worker.

What was tried is in the record; which goes on follows from that. The one that does leaves its state
and what it has told, which only save time: without them it is trained again, to the same bits.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from orchestrator.config.schema import Config
from orchestrator.display import words
from orchestrator.errors import OrchestratorError, StoppedError
from orchestrator.policy import race
from orchestrator.record.events import Doing, EpochEnded, Event, Heartbeat, RacerEnded
from orchestrator.record.records import Attempt, Failure, Racer
from orchestrator.record.storage.store import Store
from orchestrator.training.attempt.task import Standing, Task
from orchestrator.training.executors.executor import Died, Emit, Executor, Finished, Raised
from orchestrator.training.work import AttemptWork

_STARTS = 3
"""So often is a worker started whose racer has killed it."""

Events = Sequence[Event]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """A race that is over."""

    raced: tuple[Racer, ...]
    """All of it, each loser with its reason."""
    place: int
    """The one that goes on."""
    told: Events
    """What that has told until then; empty where it is to be trained again."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Broken:
    """A race that ended by an error which no rung answers."""

    place: int
    """The one that raised it."""
    error: OrchestratorError
    """What it raised."""


def hold(
    config: Config,
    store: Store,
    executor: Executor,
    entrants: Sequence[Racer],
    repeat: Callable[[Attempt], Task],
    tell: Emit,
) -> Held | Broken:
    """Try each in turn, but for those that the record tells of.

    Args:
        config: the run's.
        store: its directory.
        executor: trains them.
        entrants: what is tried.
        repeat: what an attempt of the next number would be given.
        tell: records what is known of each, and shows what goes on.

    Returns:
        What goes on, or what a model or rows have raised.

    Raises:
        StoppedError: the run was asked to stop, or cannot be written any more.
    """
    number, best = len(store.run.attempts) + 1, None
    kept: Events = ()
    store.discard_race()
    for place in range(len(store.run.race), len(entrants)):
        if not race.has_room(config, store.run.race):
            break
        racer = entrants[place]
        attempt = Attempt(
            attempt=number,
            status="running",
            remedy=racer.remedy,
            rung=racer.rung,
            settings=racer.settings,
            raced=tuple(entrants),
        )
        task = dataclasses.replace(repeat(attempt), race=race.epochs(config))
        found, heard = _try(task, racer, store, place, executor, tell)
        if isinstance(found, OrchestratorError):
            return Broken(place=place, error=found)
        tell(RacerEnded(attempt=number, racer=found))
        if race.best(store.run.race) == place:
            best, kept = place, heard
        store.discard_race(keep=best)
    raced = race.judged(store.run.race)
    winner = race.best(raced)
    goes_on = winner == best and raced[winner].failure is None
    return Held(raced=raced, place=winner, told=kept if goes_on else ())


def _try(
    task: Task,
    racer: Racer,
    store: Store,
    place: int,
    executor: Executor,
    tell: Emit,
) -> tuple[Racer | OrchestratorError, Events]:
    """Train one; a worker that is killed is started again, as that of an attempt is."""
    heard: list[Event] = []
    told = words.racer(racer)

    def take(event: Event | Heartbeat) -> None:
        if isinstance(event, EpochEnded):
            tell(Doing(what="racing", detail=f"{told}, epoch {event.epoch} of {task.race}"))
        if isinstance(event, Event):
            heard.append(event)

    reason = ""
    for _ in range(_STARTS):
        tell(Doing(what="racing", detail=told))
        heard.clear()
        work = AttemptWork(dataclasses.replace(task, directory=store.race_directory(place)))
        match executor.run(work, take):
            case Finished(Standing() as standing):
                found = replace(
                    racer,
                    seed=standing.seed,
                    screened=standing.screened,
                    epochs=standing.epochs,
                    share=standing.share,
                    loss=standing.loss,
                    failure=standing.failure,
                )
                return found, heard
            case Raised(StoppedError() as error):  # as on a full disk: the race goes on later
                raise error
            case Raised(error):
                return error, ()
            case Died(reason=reason):
                pass
    crashed = Failure(check="crashed", phase=None, reason=reason)
    return replace(racer, failure=crashed), ()
