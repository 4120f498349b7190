"""The loop: attempts, each trained phase by phase and checked, until one passes or none is left.

It decides and records; training happens behind `Trainer`, wherever that runs.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from orchestrator.config import Config
from orchestrator.errors import InvalidError, StoppedError, UserCodeError, WorkerDiedError, WorkerError
from orchestrator.events import (
    AttemptEnded,
    AttemptStarted,
    Event,
    ModelBuilt,
    PhaseStarted,
    Progress,
    RunEnded,
)
from orchestrator.policy import Policy, Step, first_settings
from orchestrator.records import INIT, Attempt, AttemptStatus, Failure, Run, RunStatus
from orchestrator.store import Store
from orchestrator.tasks import Task

EXIT_CODES: dict[RunStatus, int] = {
    "passed": 0,
    "error": 1,
    "invalid": 2,
    "exhausted": 3,
    "interrupted": 75,
}
"""Exit code of a run by its status; 4 instead of 1 where the user's own code raised."""
USER_CODE_EXIT = 4

Trainer = Callable[[Task], Iterator[Event | Progress]]
"""Trains one attempt and reports; raises what `workers.Workers.train` raises."""


class Watcher(Protocol):
    """Shows what happens."""

    def show(self, event: Event | Progress, run: Run) -> None:
        """Show one event; `run` is the run after it."""


def execute(config: Config, store: Store, train: Trainer, watcher: Watcher) -> Run:
    """Take a run to its end.

    Args:
        config: the config.
        store: the run's directory, with no attempt yet.
        train: trains one attempt.
        watcher: shows what happens.

    Returns:
        The finished run; also on an interrupt, and when the user's code raised.
    """
    return _Loop(config, store, train, watcher).run()


class _Loop:
    """The state of a run while it is executed."""

    def __init__(self, config: Config, store: Store, train: Trainer, watcher: Watcher) -> None:
        self.config = config
        self.store = store
        self.train = train
        self.watcher = watcher
        self.policy = Policy(seed=config.seed, rungs=config.restart.policy)
        self.obstacles: dict[str, str] = {}
        self._phase: str | None = None
        self._started = time.monotonic()

    def run(self) -> Run:
        step = Step(rung=None, settings=first_settings(self.config.seed), passed_over=())
        try:
            while True:
                self._attempt(step)
                if self._last.status == "passed":
                    return self._end("passed", self._describe_success())
                refusal = self._refusal()
                if refusal is not None:
                    return self._end("exhausted", refusal)
                step = self.policy.step(self.store.run.attempts, self.obstacles)
                if step.rung is None:
                    return self._end("exhausted", self._describe_end(step))
        except StoppedError:
            self._close_attempt("interrupted", None)
            return self._end("interrupted", "interrupted; what was recorded so far is kept")
        except UserCodeError as error:
            self._close_attempt("crashed", str(error))
            return self._end("error", str(error), exit_code=USER_CODE_EXIT)
        except InvalidError as error:
            self._close_attempt("crashed", str(error))
            return self._end("invalid", str(error))
        except WorkerError as error:
            self._close_attempt("crashed", str(error))
            return self._end("error", f"internal error: {error}")

    @property
    def _last(self) -> Attempt:
        return self.store.run.attempts[-1]

    def _record(self, event: Event) -> None:
        self.watcher.show(event, self.store.record(event))

    def _attempt(self, step: Step) -> None:
        """Train one attempt and give it its status."""
        attempts = self.store.run.attempts
        number = len(attempts) + 1
        if step.settings is None:
            raise ValueError("expected a step with settings")
        self._record(
            AttemptStarted(
                attempt=number,
                settings=step.settings,
                remedy=None if step.rung is None else step.rung.remedy,
                cause=attempts[-1].failure if attempts else None,
                changed=step.settings.changes(attempts[-1].settings) if attempts else {},
                passed_over=step.passed_over,
            )
        )
        self._started = time.monotonic()
        self._phase = None
        task = Task(
            config=self.config,
            settings=step.settings,
            attempt=number,
            directory=self.store.attempt_directory(number),
            fingerprint=self.store.fingerprint,
        )
        try:
            for event in self.train(task):
                self._take(event)
        except WorkerDiedError as error:
            self._close_attempt("crashed", str(error))
            return
        failure = self._last.phases[-1].failure() if self._last.phases else None
        status: AttemptStatus = "passed" if failure is None else "failed"
        self._record(
            AttemptEnded(
                attempt=number, status=status, failure=failure, seconds=self._attempt_seconds
            )
        )

    def _take(self, event: Event | Progress) -> None:
        if isinstance(event, Progress):
            self.watcher.show(event, self.store.run)
            return
        if isinstance(event, ModelBuilt):
            self.obstacles = event.obstacles or self.obstacles
            self._phase = INIT
        elif isinstance(event, PhaseStarted):
            self._phase = event.phase
        self._record(event)

    def _close_attempt(self, status: AttemptStatus, reason: str | None) -> None:
        """Give a running attempt the status with which it was cut short."""
        if not self.store.run.attempts or self._last.status != "running":
            return
        failure = None
        if reason is not None:
            failure = Failure(check="crashed", phase=self._phase, reason=reason)
        self._record(
            AttemptEnded(
                attempt=self._last.attempt,
                status=status,
                failure=failure,
                seconds=self._attempt_seconds,
            )
        )

    @property
    def _attempt_seconds(self) -> float:
        return round(time.monotonic() - self._started, 3)

    def _refusal(self) -> str | None:
        """Why no further attempt may be made, whatever the policy says."""
        restart = self.config.restart
        count = len(self.store.run.attempts)
        if count >= restart.max_attempts:
            return f"{count} attempts were made, restart.max_attempts allows no more"
        if restart.max_seconds is not None and self.store.elapsed >= restart.max_seconds:
            return f"restart.max_seconds ({restart.max_seconds:g}) is over"
        return None

    def _describe_success(self) -> str:
        remedy = self._last.remedy
        return f"attempt {self._last.attempt} passed" + (f" after {remedy}" if remedy else "")

    def _describe_end(self, step: Step) -> str:
        text = "the policy has no rung left that answers this failure"
        if step.passed_over:
            text += "; passed over: " + "; ".join(step.passed_over)
        return text

    def _end(self, status: RunStatus, conclusion: str, *, exit_code: int | None = None) -> Run:
        accepted = self._last.attempt if status == "passed" else None
        best = accepted or _best(self.store.run)
        if accepted is not None:
            self.store.accept(accepted)
        if self.config.keep == "accepted" and status in ("passed", "exhausted"):
            self.store.discard_checkpoints(keep=[] if best is None else [best])
        self._record(
            RunEnded(
                status=status,
                accepted_attempt=accepted,
                best_attempt=best,
                conclusion=conclusion,
                exit_code=EXIT_CODES[status] if exit_code is None else exit_code,
            )
        )
        return self.store.run


def _best(run: Run) -> int | None:
    """The attempt with the highest skill, the earliest of equals; None where none has one."""
    rated = [(skill, -a.attempt) for a in run.attempts if (skill := a.skill()) is not None]
    return -max(rated)[1] if rated else None


def is_disk_full(error: OSError) -> bool:
    """Whether an error means that nothing more can be written."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)
