"""Workers that make the runs of a search, several at a time, from one executor.

A run is an ordinary run. Its rows are read once for each seed, and mapped by all runs of that seed.
"""

from __future__ import annotations

import dataclasses
import shutil
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from orchestrator.config.schema import Config
from orchestrator.errors import OrchestratorError, WorkerDiedError
from orchestrator.record.events import Event, Heartbeat, ReadingProgress
from orchestrator.record.records import Run
from orchestrator.training import launch
from orchestrator.training.executors.executor import (
    Died,
    Emit,
    Ending,
    Executor,
    Result,
    Work,
)
from orchestrator.training.interrupts import Interrupts
from orchestrator.training.work import PrepareWork
from orchestrator.tuning.trials.recorded import Outcome, Recorded, digest
from orchestrator.tuning.trials.shelf import Shelf


class CancelledError(OrchestratorError):
    """A run that nobody waits for any more."""


@dataclasses.dataclass(frozen=True, slots=True)
class Ticket:
    """A run that was asked for."""

    _future: Future[Outcome]
    _cancelled: threading.Event

    def result(self) -> Outcome:
        """Wait for it.

        Raises:
            OrchestratorError: it could not begin, or this process was asked to stop.
        """
        return self._future.result()

    @property
    def cancelled(self) -> bool:
        """Whether nobody wants it any more."""
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Nobody wants it any more: it does not begin, or ends with its next report."""
        if not self._future.done():
            self._cancelled.set()
            self._future.cancel()


class Pool:
    """Makes runs.

    Args:
        executor: does the work of all of them.
        jobs: how many runs are made at a time.
        runs: folder of the search's own runs.
        shelf: has the rows.
        recorded: runs that need not be made.
        interrupts: entered by the caller, and patient.
    """

    def __init__(
        self,
        executor: Executor,
        *,
        jobs: int,
        runs: Path,
        shelf: Shelf,
        recorded: Recorded,
        interrupts: Interrupts,
    ) -> None:
        self._executor = executor
        self._runs = runs
        self._shelf = shelf
        self._recorded = recorded
        self._interrupts = interrupts
        self._threads = ThreadPoolExecutor(jobs, thread_name_prefix="run")
        self._tickets: dict[str, Ticket] = {}
        self._looking = threading.Lock()
        self._clock = _Clock()

    def __enter__(self) -> Pool:
        """The pool itself; leaving ends what is still being made."""
        return self

    def __exit__(self, *exception: object) -> None:
        """End what is still being made, and wait for that."""
        for ticket in self._tickets.values():
            ticket.cancel()
        self._threads.shutdown()

    @property
    def idle_seconds(self) -> float:
        """How long no run was trained since the pool was made."""
        return self._clock.idle()

    def submit(self, config: Config) -> Ticket:
        """Ask for a run; asked again for the same, it is made once.

        Args:
            config: the config, with the seed of the run.
        """
        key = digest(config.dump().encode())
        ticket = self._tickets.get(key)
        if ticket is None or ticket.cancelled:
            cancelled = threading.Event()
            ticket = Ticket(self._threads.submit(self._make, config, cancelled), cancelled)
            self._tickets[key] = ticket
        return ticket

    def _make(self, config: Config, cancelled: threading.Event) -> Outcome:
        work = self._shelf.work(config)
        with self._looking:
            fingerprint = None if work.stored is None else work.stored.fingerprint
            found = self._recorded.find(config, fingerprint)
        if found is None:
            try:
                found = self._train(work, cancelled, strict=True)
            except WorkerDiedError:
                found = self._train(work, cancelled, strict=False)
        rows = None if work.stored is None else work.stored.num_rows
        return dataclasses.replace(found, rows=rows)

    def _train(self, work: PrepareWork, cancelled: threading.Event, *, strict: bool) -> Outcome:
        """Make a run.

        Args:
            work: builds its data and model.
            cancelled: set when nobody wants it any more.
            strict: give the run up when a worker dies, rather than leave that to its policy.
        """
        executor = _Watched(self._executor, cancelled, strict=strict)
        with _Silent(self._clock) as watcher:
            try:
                run, directory = launch.launch_on(
                    work,
                    executor,
                    self._runs,
                    watcher,
                    self._interrupts,
                    prepared=self._shelf.prepared(work),
                )
            except (CancelledError, WorkerDiedError):
                if watcher.directory is not None:
                    shutil.rmtree(watcher.directory, ignore_errors=True)
                raise
        return Outcome(run=run, directory=directory, reused=False)


class _Watched:
    """An executor whose work can be cancelled, and whose worker must not die.

    Args:
        inner: does the work.
        cancelled: set when nobody wants the result any more.
        strict: raise when the worker dies.
    """

    def __init__(self, inner: Executor, cancelled: threading.Event, *, strict: bool) -> None:
        self._inner = inner
        self._cancelled = cancelled
        self._strict = strict

    def run(self, work: Work[Result], take: Emit) -> Ending[Result]:
        """Do a piece of work; see `Executor.run`."""

        def check() -> None:
            if self._cancelled.is_set():
                raise CancelledError("the run is not wanted any more")

        def taken(report: Event | Heartbeat) -> None:
            check()
            take(report)

        check()
        ending = self._inner.run(work, taken)
        if self._strict and isinstance(ending, Died):
            raise WorkerDiedError(ending.reason)
        return ending


class _Silent:
    """Shows nothing; remembers where the run is, and how long it takes.

    Args:
        clock: measures from the run's beginning until this is left.
    """

    def __init__(self, clock: _Clock) -> None:
        self._clock = clock
        self.directory: Path | None = None

    def __enter__(self) -> _Silent:
        """Itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Stop the clock."""
        if self.directory is not None:
            self._clock.end()

    def say(self, text: str) -> None:
        """Say nothing."""

    def read(self, progress: ReadingProgress) -> None:
        """Say nothing."""

    def begin(
        self,
        directory: Path,
        config: Config,
        *,
        replayed: int | None = None,
        resumed: Run | None = None,
    ) -> None:
        """Remember the directory."""
        self.directory = directory
        self._clock.begin()

    def show(self, event: Event | Heartbeat, run: Run) -> None:
        """Show nothing."""


class _Clock:
    """Measures the time in which nothing was trained."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._since = time.monotonic()
        self._idle = 0.0

    def idle(self) -> float:
        """Seconds so far."""
        with self._lock:
            now = 0.0 if self._running else time.monotonic() - self._since
            return self._idle + now

    def begin(self) -> None:
        """One more run is trained."""
        with self._lock:
            if not self._running:
                self._idle += time.monotonic() - self._since
            self._running += 1

    def end(self) -> None:
        """One fewer is."""
        with self._lock:
            self._running -= 1
            self._since = time.monotonic()
