"""What happens during a run, in the order of the journal, and the run that follows from it.

A run's record is `functools.reduce(advance, events, empty run)`: the journal is the truth, every
other file of a run directory is derived from it.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from orchestrator.record.encoding import Record
from orchestrator.record.records import (
    Attempt,
    AttemptStatus,
    Candidate,
    Change,
    Failure,
    Finding,
    Inputs,
    Phase,
    Racer,
    Run,
    RunStatus,
    Settings,
    Standardization,
    Start,
)


class Recorded(Record, tag_field="event"):
    """What all events have: a name, which stands under `event` in the journal."""

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.__struct_config__.tag)


class RunStarted(Recorded, kw_only=True, tag="run_started"):
    """The run directory was made."""

    run: str
    started: str
    """UTC, ISO 8601."""
    inputs: Inputs
    fingerprint: str | None
    """Hash of the data's arrays, see `data.fingerprint`."""


class AttemptStarted(Recorded, kw_only=True, tag="attempt_started"):
    """An attempt was decided on; its worker is about to start."""

    attempt: int
    settings: Settings
    remedy: str | None
    cause: Failure | None
    changed: dict[str, Change]
    passed_over: tuple[str, ...]
    rung: str | None = None
    """Key of the rung that led to it in the resolved config; None for the first attempt."""
    because: str | None = None
    """What the failure of the attempt before points to; None where that is not known."""
    start: Start | None = None
    """What it goes on from; None where it trains from the beginning."""
    raced: tuple[Racer, ...] = ()
    """What was tried for a few epochs before it, itself among it."""


class RacerEnded(Recorded, kw_only=True, tag="racer_ended"):
    """One of several rungs and seeds was tried for a few epochs; which goes on is not known yet."""

    attempt: int
    """Number of the attempt that the best of them becomes."""
    racer: Racer


class RunResumed(Recorded, kw_only=True, tag="run_resumed"):
    """A run that was cut short goes on, in another process."""

    resumed: str
    """When: UTC, ISO 8601."""


class AttemptResumed(Recorded, kw_only=True, tag="attempt_resumed"):
    """An attempt whose worker is gone goes on from a snapshot, or from its beginning.

    What was told of it beyond that place is void, and is told again.
    """

    attempt: int
    restarts: int
    """How often its worker was started again, this time included."""
    phases: int
    """Finished phases that stand, `init` among them; 0 where it begins anew."""
    epoch: int
    """Finished epochs that stand, over all phases."""
    step: int = 0
    """Steps of the next epoch that were trained already."""
    reason: str | None = None
    """How its worker ended; None where the whole run was cut short."""


class ModelBuilt(Recorded, kw_only=True, tag="model_built"):
    """The attempt's worker has built its model."""

    attempt: int
    parameters: int
    """Number of weights."""
    obstacles: dict[str, str]
    """Remedies that this model cannot carry, each with the reason and the way out."""
    standardization: Standardization = {}
    """What a remedy has standardised."""
    sound_rate: float | None = None
    """A learning rate at which most networks train with its optimizer; None where none is known."""
    planned_rate: float | None = None
    """The highest rate of its longest phase, as the config has it; None where that is not known."""


class ObstacleMet(Recorded, kw_only=True, tag="obstacle_met"):
    """Training has shown what the attempt's model, as it was built, did not."""

    attempt: int
    remedy: str
    """What it cannot carry."""
    reason: str


class SeedsScreened(Recorded, kw_only=True, tag="seeds_screened"):
    """Networks of candidate seeds were looked at before training, and one was chosen."""

    attempt: int
    seed: int
    """The one that the attempt trains with."""
    candidates: tuple[Candidate, ...]
    """Those that were looked at, in order."""


class PhaseStarted(Recorded, kw_only=True, tag="phase_started"):
    """A phase with epochs begins."""

    attempt: int
    phase: str
    epochs: int
    """Epochs planned."""
    learning_rate: float
    """Rate of its first step."""
    done: int = 0
    """Epochs of it that were trained already, where an attempt goes on inside of it."""


class EpochEnded(Recorded, kw_only=True, tag="epoch_ended"):
    """One epoch was trained."""

    attempt: int
    phase: str
    epoch: int
    """Counted from 1 over all phases of the attempt."""
    learning_rate: float
    """Highest rate of the epoch."""
    metrics: dict[str, float]


class PhaseEnded(Recorded, kw_only=True, tag="phase_ended"):
    """A phase was trained and checked."""

    attempt: int
    phase: Phase


class CausesFound(Recorded, kw_only=True, tag="causes_found"):
    """Causes were looked for, before the training of an attempt or after it."""

    attempt: int
    findings: tuple[Finding, ...]
    failed: bool = True
    """Whether a check of the attempt has failed by then; only of those did older journals tell."""


class Warned(Recorded, kw_only=True, tag="warned"):
    """Something the user should know, although nothing failed."""

    message: str


class RunEnded(Recorded, kw_only=True, tag="run_ended"):
    """The run has its status."""

    status: RunStatus
    accepted_attempt: int | None
    best_attempt: int | None
    conclusion: str
    exit_code: int


class AttemptEnded(Recorded, kw_only=True, tag="attempt_ended"):
    """The attempt has its status; at the run's end an earlier one may get another."""

    attempt: int
    status: AttemptStatus
    failure: Failure | None
    seconds: float
    run_ended: RunEnded | None = None
    """How the run ends with it, by an error that no remedy answers; None for any other attempt."""


Event = (
    RunStarted
    | RunResumed
    | RacerEnded
    | AttemptStarted
    | AttemptResumed
    | SeedsScreened
    | ModelBuilt
    | ObstacleMet
    | PhaseStarted
    | EpochEnded
    | PhaseEnded
    | CausesFound
    | Warned
    | AttemptEnded
    | RunEnded
)


class TrainingProgress(Record, kw_only=True):
    """How far an epoch has come; shown, never recorded."""

    step: int
    """Training steps done in this epoch."""
    steps: int
    """Training steps in an epoch."""


class ReadingProgress(Record, kw_only=True):
    """How far the reading of rows has come; shown, never recorded."""

    what: str
    """What is read, or called."""
    rows: int = 0
    """Rows until now."""
    batches: int = 0
    """Batches until now; 0 for what gives all its rows at once."""
    megabytes: float = 0.0
    """Size of these rows."""
    seconds: float = 0.0
    """How long it has taken."""
    done: bool = False
    """Whether that was all."""


class Doing(Record, kw_only=True):
    """What a worker does while it trains nothing; shown, never recorded."""

    what: str
    """In a few words."""
    detail: str = ""
    """How far it has come."""


class ScreeningProgress(Record, kw_only=True):
    """How many candidate seeds were looked at so far; shown, never recorded."""

    seeds: int
    """Seeds looked at."""
    limit: int
    """How many may be."""


class LayerShare(Record, kw_only=True):
    """How many of a layer's units are dead on the rows that were looked at."""

    layer: str
    """Readable path of the layer in the model."""
    units: int
    """Number of units."""
    dead: int
    """Units that were active on none of the rows."""


class Preview(Record, kw_only=True):
    """What a look at the first rows found between two checks; shown, never recorded."""

    rows: int
    """Rows looked at; a unit that is dead on them may live on others."""
    layers: tuple[LayerShare, ...]
    """One for each place where an activation is applied, in forward order."""


Heartbeat = Doing | TrainingProgress | ReadingProgress | ScreeningProgress | Preview
"""A report that a worker is alive: for whoever watches, not for the journal."""


def advance(run: Run, event: Event, *, elapsed: float) -> Run:
    """The run after one more event.

    Args:
        run: the run so far.
        event: what happened.
        elapsed: seconds since the run's start.

    Returns:
        The next record; `run` is unchanged.
    """
    run = replace(run, seconds=round(elapsed, 3))
    match event:
        case RunStarted():
            return replace(run, run=event.run, started=event.started, inputs=event.inputs)
        case RunResumed():
            *before, last = run.attempts or (None,)
            if last is not None and last.status == "interrupted":
                last = replace(last, status="running", failure=None)
            attempts = () if last is None else (*before, last)
            return replace(
                run, status="running", attempts=attempts, conclusion=None, exit_code=None
            )
        case AttemptResumed():
            return _resume_attempt(run, event)
        case Warned():
            return replace(run, warnings=(*run.warnings, event.message))
        case AttemptStarted():
            attempt = Attempt(
                attempt=event.attempt,
                status="running",
                remedy=event.remedy,
                rung=event.rung,
                cause=event.cause,
                changed=event.changed,
                passed_over=event.passed_over,
                settings=event.settings,
                raced=event.raced,
            )
            if event.start is not None:
                attempt = _inherit(attempt, event.start, run.attempts)
            # What the one that goes on has looked at, it tells again.
            again = sum(each.screened for each in event.raced if each.reason is None)
            screened = run.screened_seeds - again
            attempts = (*run.attempts, attempt)
            return replace(run, attempts=attempts, race=(), screened_seeds=screened)
        case RacerEnded():
            screened = run.screened_seeds + event.racer.screened
            return replace(run, race=(*run.race, event.racer), screened_seeds=screened)
        case RunEnded():
            return replace(
                run,
                status=event.status,
                accepted_attempt=event.accepted_attempt,
                best_attempt=event.best_attempt,
                conclusion=event.conclusion,
                exit_code=event.exit_code,
            )
        case SeedsScreened():
            *before, attempt = run.attempts
            settings = replace(attempt.settings, seed=event.seed)
            changed = settings.changes(before[-1].settings) if before else {}
            attempt = replace(
                attempt, settings=settings, changed=changed, screened=event.candidates
            )
            screened = run.screened_seeds + len(event.candidates)
            return replace(run, attempts=(*before, attempt), screened_seeds=screened)
        case (
            ModelBuilt()
            | ObstacleMet()
            | PhaseStarted()
            | EpochEnded()
            | PhaseEnded()
            | CausesFound()
            | AttemptEnded()
        ):
            numbers = [attempt.attempt for attempt in run.attempts]
            place = numbers.index(event.attempt)
            attempt = _advance_attempt(run.attempts[place], event)
            attempts = (*run.attempts[:place], attempt, *run.attempts[place + 1 :])
            return replace(run, attempts=attempts)


def _inherit(attempt: Attempt, start: Start, before: Sequence[Attempt]) -> Attempt:
    """Give an attempt what it shares with the one that it goes on from."""
    other = before[[each.attempt for each in before].index(start.attempt)]
    count = other.finished(start.epoch)
    shared = {phase.phase for phase in other.phases[: count + 1]}
    return replace(
        attempt,
        start=start,
        phases=other.phases[:count],
        findings=tuple(each for each in other.findings if each.found == "before"),
        learning_rates={
            name: rate for name, rate in other.learning_rates.items() if name in shared
        },
    )


def _resume_attempt(run: Run, event: AttemptResumed) -> Run:
    """Take back what an attempt has done beyond the place from which it goes on."""
    place = [attempt.attempt for attempt in run.attempts].index(event.attempt)
    attempt = run.attempts[place]
    resumed = replace(
        attempt,
        status="running",
        failure=None,
        restarts=event.restarts,
        phases=attempt.phases[: event.phases],
        findings=tuple(each for each in attempt.findings if each.found == "before"),
    )
    screened = run.screened_seeds
    if event.phases == 0:  # it chooses its seed again
        screened -= len(attempt.screened)
        settings = unscreened(attempt)
        before = run.attempts[place - 1].settings if place else None
        resumed = replace(
            resumed,
            settings=settings,
            changed={} if before is None else settings.changes(before),
            screened=(),
            findings=(),
        )
    attempts = (*run.attempts[:place], resumed, *run.attempts[place + 1 :])
    return replace(run, attempts=attempts, screened_seeds=screened)


def unscreened(attempt: Attempt) -> Settings:
    """The settings that an attempt was given, before screening chose another seed."""
    if not attempt.screened:
        return attempt.settings
    return replace(attempt.settings, seed=attempt.screened[0].seed)


def _advance_attempt(
    attempt: Attempt,
    event: (
        ModelBuilt
        | ObstacleMet
        | PhaseStarted
        | EpochEnded
        | PhaseEnded
        | CausesFound
        | AttemptEnded
    ),
) -> Attempt:
    match event:
        case ModelBuilt():
            return replace(
                attempt,
                obstacles=event.obstacles,
                standardization=event.standardization,
                sound_rate=event.sound_rate,
                planned_rate=event.planned_rate,
            )
        case ObstacleMet():
            met = {event.remedy: event.reason}
            return replace(attempt, obstacles={**attempt.obstacles, **met})
        case CausesFound():
            return replace(attempt, findings=(*attempt.findings, *event.findings))
        case PhaseStarted() | EpochEnded():
            highest = max(attempt.learning_rates.get(event.phase, 0.0), event.learning_rate)
            return replace(attempt, learning_rates={**attempt.learning_rates, event.phase: highest})
        case PhaseEnded():
            return replace(attempt, phases=(*attempt.phases, event.phase.without_units()))
        case AttemptEnded():
            return replace(
                attempt, status=event.status, failure=event.failure, seconds=event.seconds
            )
