"""The loop: attempts, each trained phase by phase and checked, until one passes or none is left.

It decides and records; training happens in an executor, wherever that runs it.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Protocol

from orchestrator.config.schema import Config
from orchestrator.data.cache import Stored
from orchestrator.display import words
from orchestrator.errors import (
    InvalidError,
    OrchestratorError,
    StoppedError,
    UserCodeError,
    WorkerError,
    unwritable,
)
from orchestrator.policy import budget, deviations, evidence, race, rule, shortfall
from orchestrator.record.events import (
    AttemptEnded,
    AttemptStarted,
    Event,
    Heartbeat,
    ModelBuilt,
    PhaseStarted,
    ReadingProgress,
    RunEnded,
    Warned,
    advance,
)
from orchestrator.record.records import (
    INIT,
    Attempt,
    AttemptStatus,
    Failure,
    Racer,
    Run,
    RunStatus,
    Settings,
    Start,
)
from orchestrator.record.storage import archive
from orchestrator.record.storage.directory import AttemptPaths, Place
from orchestrator.record.storage.store import Store
from orchestrator.training.attempt.task import Begun, Task, repeat
from orchestrator.training.executors.executor import Died, Executor, Raised
from orchestrator.training.race import Broken, hold
from orchestrator.training.work import AttemptWork

EXIT_CODES: dict[RunStatus, int] = {
    "passed": 0,
    "error": 1,
    "invalid": 2,
    "exhausted": 3,
    "interrupted": 75,
}
"""Exit code of a run by its status; 4 instead of 1 where the user's own code raised."""
_IDLE = 3
"""So often is a worker started again that has died without a newer snapshot."""
USER_CODE_EXIT = 4


class Watcher(Protocol):
    """Shows what happens."""

    def show(self, event: Event | Heartbeat, run: Run) -> None:
        """Show one event; `run` is the run after it."""


def execute(
    config: Config,
    store: Store,
    executor: Executor,
    watcher: Watcher,
    stored: Stored | None = None,
) -> Run:
    """Take a run to its end.

    Args:
        config: the config.
        store: the run's directory; where it has attempts already, the run goes on after them.
        executor: trains the attempts.
        watcher: shows what happens.
        stored: where the data is; None where each attempt reads it for itself.

    Returns:
        The finished run; also on an interrupt, and when the user's code raised.
    """
    return _Loop(config, store, executor, watcher, stored).run()


class _Loop:
    """The state of a run while it is executed."""

    def __init__(
        self,
        config: Config,
        store: Store,
        executor: Executor,
        watcher: Watcher,
        stored: Stored | None,
    ) -> None:
        self.config = config
        self.store = store
        self.executor = executor
        self.stored = stored
        self.watcher = watcher
        self._phase: str | None = None
        self._awaited: ReadingProgress | None = None
        self._started = time.monotonic()

    def run(self) -> Run:
        """Take the run to its end; a full disk is one."""
        try:
            return self._train()
        except StoppedError as error:
            return self._stop(str(error))
        except OSError as error:
            told = unwritable(error)
            if told is None:
                raise
            return self._stop(told)

    def _train(self) -> Run:
        """Attempt after attempt, until one passes or none may follow."""
        ended = self._known_end()
        if ended is not None:
            return self._finish(ended)
        task = self._first()
        while True:
            error = None if task is None else self._attempt(task)
            if error is not None:
                return self._fail(error)
            accepted = [each for each in self.store.run.attempts[:-1] if each.status == "passed"]
            if accepted:  # the run ended before it could say so
                return self._accept_short(accepted[0])
            if self._last.status == "passed":
                return self._pass()
            refusal = self._refusal()
            if refusal is not None:
                return self._exhaust(refusal)
            step = rule.step(self.config, self.store.run.attempts)
            if step.taken is None:
                return self._exhaust(step.reason)
            following = self._follow(step.taken, step.passed_over)
            if isinstance(following, OrchestratorError):
                return self._fail(following)
            task = following

    def _known_end(self) -> RunEnded | None:
        """How the run ends by its last attempt, where it was killed before it could say so."""
        events = [entry.event for entry in archive.events(self.store.paths.root)]
        ended = [event.run_ended for event in events if isinstance(event, AttemptEnded)]
        return ended[-1] if ended else None

    def _first(self) -> Task | None:
        """The first attempt, or the one that was cut short; None where the last one has ended."""
        attempts = self.store.run.attempts
        if not attempts:
            return self._start(Settings(seed=self.config.seed))
        if self._last.status != "running":
            return None
        self.store.discard_race()
        begun = max(
            entry.elapsed
            for entry in archive.events(self.store.paths.root)
            if isinstance(entry.event, AttemptStarted)
        )
        self._started = time.monotonic() - (self.store.elapsed - begun)
        return self._again(self._repeat(len(attempts)), self._last.restarts + 1, None)

    def _follow(self, taken: rule.Taken, passed_over: tuple[str, ...]) -> Task | OrchestratorError:
        """The attempt after one that has failed: by the first rung, or the best of a race."""
        entrants = race.entrants(self.config, self.store.run.attempts)
        if not entrants:
            return self._start(
                taken.settings,
                remedy=taken.rung.remedy,
                rung=taken.key,
                start=taken.start,
                passed_over=passed_over,
            )
        held = hold(self.config, self.store, self.executor, entrants, self._given, self._take)
        if isinstance(held, Broken):  # an attempt like any whose model raises, with its log
            racer = entrants[held.place]
            task = self._start(
                racer.settings, remedy=racer.remedy, rung=racer.rung, passed_over=passed_over
            )
            self.store.adopt_racer(held.place, task.attempt)
            return held.error
        chosen = held.raced[held.place]
        task = self._start(
            chosen.settings,
            remedy=chosen.remedy,
            rung=chosen.rung,
            raced=held.raced,
            passed_over=passed_over,
        )
        if not held.told:
            self.store.discard_race()
            return task
        self.store.adopt_racer(held.place, task.attempt)
        for event in held.told:
            self._take(event)
        return self._again(task, 0, None)

    def _repeat(self, number: int) -> Task:
        """What an attempt was given."""
        return self._given(self.store.run.attempts[number - 1])

    def _given(self, attempt: Attempt) -> Task:
        """What an attempt is given, recorded or not."""
        return repeat(
            self.config,
            attempt,
            self.store.run.attempts[: attempt.attempt - 1],
            self.store.attempt_directory,
            fingerprint=self.store.fingerprint,
            stored=self.stored,
        )

    def _again(self, task: Task, restarts: int, reason: str | None) -> Task:
        """The attempt once more, from where its record ends or before."""
        epochs = archive.epochs(self.store.paths.root).get(task.attempt, [])
        phases = self._last.phases
        place = Place(len(phases), max((each.epoch for each in epochs), default=0))
        begun = Begun(restarts=restarts, place=place, phases=phases, reason=reason)
        return dataclasses.replace(task, begun=begun)

    def _fail(self, error: OrchestratorError) -> Run:
        """End by an error of an attempt that no remedy answers."""
        if not isinstance(error, UserCodeError | InvalidError | WorkerError):
            raise error
        match error:
            case UserCodeError():
                ended = self._ended("error", str(error), exit_code=USER_CODE_EXIT)
            case InvalidError():
                ended = self._ended("invalid", str(error))
            case _:
                ended = self._ended("error", f"internal error: {error}")
        if self._awaited is None:
            self._close_attempt("crashed", str(error), ended)
        else:  # the rows did not come, which is no fault of the attempt
            self._close_attempt("interrupted", None)
        return self._finish(ended)

    def _pass(self) -> Run:
        """End with the attempt that learnt the most, of those that pass at the end."""
        short = shortfall.best_short(self.store.run.attempts)
        share = self._last.phases[-1].share()
        if short is not None and share is not None and share < (short.phases[-1].share() or 0):
            return self._accept_short(short)
        return self._accept(self._last)

    def _accept_short(self, attempt: Attempt) -> Run:
        """End with an attempt that would have failed if another one had learnt enough."""
        number, share = attempt.attempt, attempt.phases[-1].share()
        warning = (
            f"attempt {number} has learnt {share:.2g} of what the reference learns, the most of "
            "those that passed their checks: more can be learnt"
        )
        # First: a run that is killed once the attempt has passed would not tell it any more.
        if warning not in self.store.run.warnings:
            self._record(Warned(message=warning))
        if attempt.status != "passed":
            ended = AttemptEnded(
                attempt=number, status="passed", failure=None, seconds=attempt.seconds
            )
            self._record(ended)
        return self._accept(attempt)

    def _accept(self, attempt: Attempt) -> Run:
        """End with an attempt that passed, and say what did not run as configured."""
        for message in deviations.tell(self.config, self.store.run.attempts, attempt):
            if message not in self.store.run.warnings:
                self._record(Warned(message=message))
        return self._end("passed", self._describe(attempt), accepted=attempt.attempt)

    def _exhaust(self, reason: str) -> Run:
        short = shortfall.best_short(self.store.run.attempts)
        if short is not None:
            return self._accept_short(short)
        return self._end("exhausted", evidence.conclusion(self.store.run.attempts, reason))

    def _stop(self, reason: str) -> Run:
        """End as interrupted, on a disk that may be full."""
        before = self.store.run
        ended = self._ended("interrupted", f"{reason}; what was recorded so far is kept")
        closing = self._closing("interrupted", None)
        events: list[Event] = [ended] if closing is None else [closing, ended]
        try:
            for event in events:
                self._record(event)
        except (StoppedError, OSError) as error:
            if isinstance(error, OSError) and unwritable(error) is None:
                raise
            # Without its last lines the journal reads as interrupted too, for it has no owner.
            run = before
            for event in events:
                run = advance(run, event, elapsed=self.store.elapsed)
            return run
        return self.store.run

    @property
    def _last(self) -> Attempt:
        return self.store.run.attempts[-1]

    def _record(self, event: Event) -> None:
        self.watcher.show(event, self.store.record(event))

    def _start(
        self,
        settings: Settings,
        *,
        remedy: str | None = None,
        rung: str | None = None,
        start: Start | None = None,
        raced: tuple[Racer, ...] = (),
        passed_over: tuple[str, ...] = (),
    ) -> Task:
        """Record that an attempt begins, and say what it is to do."""
        attempts = self.store.run.attempts
        number = len(attempts) + 1
        answered = frozenset[str]() if rung is None else rule.asked(self.config, rung)
        self._record(
            AttemptStarted(
                attempt=number,
                settings=settings,
                remedy=remedy,
                rung=rung,
                cause=attempts[-1].failure if attempts else None,
                because=evidence.main_cause(attempts[-1], answered) if attempts else None,
                changed=settings.changes(attempts[-1].settings) if attempts else {},
                passed_over=passed_over,
                start=start,
                raced=raced,
            )
        )
        self._started = time.monotonic()
        self._phase = None
        self._awaited = None
        if attempts:  # what none will go on from any more
            self._discard_snapshots(attempts[-1], start)
        return self._repeat(number)

    def _discard_snapshots(self, attempt: Attempt, start: Start | None) -> None:
        """Keep of an attempt that has ended only what leads to where another one begins."""
        goes_on = start is not None and start.attempt == attempt.attempt
        keep = start.epoch if start is not None and goes_on else None
        self.store.discard_snapshots(attempt.attempt, keep=keep)

    def _attempt(self, task: Task) -> OrchestratorError | None:
        """Train one attempt and give it its status, or return the error that it ended with."""
        idle, reached = 0, Place(0, 0)
        while True:
            self.store.discard_unfinished(task.attempt)
            work = AttemptWork(task)
            match self.executor.run(work, self._take):
                case Died(how="hung") if self._awaited is not None:
                    stalled = words.stalled(self._awaited, work.patience)
                    return InvalidError([self.config.problem(("data",), *stalled)])
                case Died(reason=reason):
                    kept = AttemptPaths(task.directory).snapshots()
                    place = kept[0][0] if kept else Place(0, 0)
                    idle, reached = (0, place) if place > reached else (idle + 1, reached)
                    if idle > _IDLE:
                        self._close_attempt("crashed", reason)
                        self._discard_hopeless()
                        return None
                    task = self._again(task, self._last.restarts + 1, reason)
                    self._awaited = None  # the next worker reads for itself
                case Raised(error):
                    return error
                case _:
                    break
        phases = self._last.phases
        failure = phases[-1].failure() if phases else None
        planned = 1 + len(self.config.phases)
        if failure is None and len(phases) < planned:
            return WorkerError(f"the worker ended after {len(phases)} of {planned} phases")
        more = budget.asks_for_more(self.config, self.store.run.attempts)
        if failure is None and more and self._refusal() is None:
            failure = shortfall.find(self._last)
        self._record(
            AttemptEnded(
                attempt=task.attempt,
                status="passed" if failure is None else "failed",
                failure=failure,
                seconds=self._attempt_seconds,
            )
        )
        self._discard_hopeless()
        return None

    def _discard_hopeless(self) -> None:
        """Keep on disk no more than what the run may still end with."""
        attempts = self.store.run.attempts
        if self.config.keep == "accepted":
            short = shortfall.best_short(attempts)
            hopeful = {each.attempt for each in attempts if each.status == "passed"}
            hopeful |= set() if short is None else {short.attempt}
            best = _best(self.store.run)
            checkpoints = hopeful | (set() if best is None else {best})
            self.store.discard_checkpoints(keep=checkpoints, results=hopeful)

    def _take(self, event: Event | Heartbeat) -> None:
        if isinstance(event, ReadingProgress):
            self._awaited = None if event.done else event
        if isinstance(event, Heartbeat):
            self.watcher.show(event, self.store.run)
            return
        if isinstance(event, Warned) and event.message in self.store.run.warnings:
            return  # told already, before the run or in another attempt
        if isinstance(event, ModelBuilt):
            self._phase = INIT
        elif isinstance(event, PhaseStarted):
            self._phase = event.phase
        self._record(event)

    def _close_attempt(
        self, status: AttemptStatus, reason: str | None, run_ended: RunEnded | None = None
    ) -> None:
        """Give a running attempt the status with which it was cut short."""
        closing = self._closing(status, reason, run_ended)
        if closing is not None:
            self._record(closing)

    def _closing(
        self, status: AttemptStatus, reason: str | None, run_ended: RunEnded | None = None
    ) -> AttemptEnded | None:
        if not self.store.run.attempts or self._last.status != "running":
            return None
        failure = None
        if reason is not None:
            failure = Failure(check="crashed", phase=self._phase, reason=reason)
        return AttemptEnded(
            attempt=self._last.attempt,
            status=status,
            failure=failure,
            seconds=self._attempt_seconds,
            run_ended=run_ended,
        )

    @property
    def _attempt_seconds(self) -> float:
        return round(time.monotonic() - self._started, 3)

    def _refusal(self) -> str | None:
        """Why no further attempt may be made, whatever the policy says."""
        return budget.refusal(self.config, self.store.run.attempts, self.store.elapsed)

    def _describe(self, accepted: Attempt) -> str:
        remedy = accepted.remedy
        passed = f"attempt {accepted.attempt} passed" + (f" after {remedy}" if remedy else "")
        changed = words.changed_model(self.store.run.attempts[: accepted.attempt])
        return f"{passed}; {changed}" if changed else passed

    def _end(self, status: RunStatus, conclusion: str, *, accepted: int | None = None) -> Run:
        return self._finish(self._ended(status, conclusion, accepted=accepted))

    def _finish(self, ended: RunEnded) -> Run:
        if ended.accepted_attempt is not None:
            self.store.accept(ended.accepted_attempt)
        self.store.discard_race()
        for attempt in self.store.run.attempts:
            self.store.discard_snapshots(attempt.attempt)
        if self.config.keep == "accepted" and ended.status in ("passed", "exhausted"):
            self.store.discard_checkpoints(
                keep=[] if ended.best_attempt is None else [ended.best_attempt]
            )
        self._record(ended)
        return self.store.run

    def _ended(
        self,
        status: RunStatus,
        conclusion: str,
        *,
        exit_code: int | None = None,
        accepted: int | None = None,
    ) -> RunEnded:
        return RunEnded(
            status=status,
            accepted_attempt=accepted,
            best_attempt=accepted or _best(self.store.run),
            conclusion=conclusion,
            exit_code=EXIT_CODES[status] if exit_code is None else exit_code,
        )


def _best(run: Run) -> int | None:
    """The attempt with the highest skill, the earliest of equals; None where none has one."""
    rated = [(skill, -a.attempt) for a in run.attempts if (skill := a.skill()) is not None]
    return -max(rated)[1] if rated else None
