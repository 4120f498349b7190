"""Writing a run directory.

The journal is written first; everything else is derived from it.
"""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import shutil
import time
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from orchestrator.errors import RecordError
from orchestrator.record.events import (
    AttemptEnded,
    AttemptResumed,
    AttemptStarted,
    EpochEnded,
    Event,
    PhaseEnded,
    RunEnded,
    RunResumed,
    RunStarted,
    Warned,
    advance,
)
from orchestrator.record.records import Inputs, Run
from orchestrator.record.storage import derived, journal, ownership
from orchestrator.record.storage.directory import (
    Paths,
    expect_own,
    sync_directory,
    write,
    write_json,
    writing,
)
from orchestrator.record.storage.journal import Journal

_RECORD_SECONDS = 1.0
"""While epochs are trained, `run.json` is written at most so often."""


class Store:
    """Writes one run's directory; made by `create` and `reopen`.

    Args:
        paths: the names of its files.
        run: the run so far.
        journal: its journal.
        lock: the run's lock, held: a run in progress is one whose lock is held.
        fingerprint: hash of the run's data; None when it could not be read before the run.
    """

    def __init__(
        self,
        paths: Paths,
        run: Run,
        journal: Journal,
        lock: ownership.Lock,
        fingerprint: str | None,
    ) -> None:
        self.paths = paths
        self.run = run
        self.fingerprint = fingerprint
        self._journal = journal
        self._start = time.monotonic() - run.seconds
        self._written = -math.inf
        self._lock = lock

    def __enter__(self) -> Store:
        """The store itself; leaving gives the run up."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Give the run up."""
        self._lock.release()

    @property
    def elapsed(self) -> float:
        """Seconds since the run's start."""
        return time.monotonic() - self._start

    def record(self, event: Event) -> Run:
        """Write an event to the journal, and then what follows from it.

        Args:
            event: what happened.

        Returns:
            The run after it.

        Raises:
            StoppedError: the directory cannot be written any more, or another process has it.
        """
        self._lock.confirm()
        with writing(self.paths.root):
            entry = self._journal.append(event, elapsed=self.elapsed)
            self.run = advance(self.run, event, elapsed=entry.elapsed)
            self._derive(event)
        return self.run

    def attempt_directory(self, number: int) -> Path:
        """The directory of an attempt, made where it is missing."""
        paths = self.paths.attempt(number)
        with writing(self.paths.root):
            derived.make_directories(paths)
        return paths.root

    def race_directory(self, place: int) -> Path:
        """A new directory for one of those that race for the next attempt.

        Args:
            place: counted from 0; what is there of an earlier one is gone.
        """
        directory = self.paths.race / f"{place:03d}"
        with writing(self.paths.root):
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(parents=True)
        return directory

    def adopt_racer(self, place: int, number: int) -> None:
        """Give an attempt what the one that it goes on from has left, and forget the others.

        Args:
            place: of the one that goes on.
            number: the attempt, which has begun.
        """
        directory = self.attempt_directory(number)
        with writing(self.paths.root):
            for entry in sorted((self.paths.race / f"{place:03d}").iterdir()):
                entry.replace(directory / entry.name)
        self.discard_race()

    def discard_race(self, *, keep: int | None = None) -> None:
        """Delete what those that race have left.

        Args:
            keep: the one that may still go on.
        """
        kept = None if keep is None else self.paths.race / f"{keep:03d}"
        for entry in [*self.paths.race.glob("*")]:
            if entry != kept:
                shutil.rmtree(entry, ignore_errors=True)
        if kept is None:
            shutil.rmtree(self.paths.race, ignore_errors=True)

    def accept(self, number: int) -> Path:
        """Give the run the model of an attempt that passed.

        Args:
            number: the attempt.

        Returns:
            Path of the model, or of its weights where it could not be saved whole.
        """
        attempt = self.paths.attempt(number)
        with writing(self.paths.root):
            for hidden, shown in (
                (attempt.result, self.paths.model),
                (attempt.result_weights, self.paths.model_weights),
            ):
                if hidden.exists():
                    hidden.replace(shown)
        sync_directory(self.paths.root)
        return self.paths.model if self.paths.model.exists() else self.paths.model_weights

    def discard_snapshots(self, number: int, *, keep: int | None = None) -> None:
        """Delete what an attempt could have gone on from, which has ended.

        Args:
            number: the attempt.
            keep: number of an epoch that another attempt goes on from: the newest snapshot that
                leads there stays.
        """
        self.discard_unfinished(number)
        for place, path in self.paths.attempt(number).snapshots():
            if keep is not None and (place.epoch, place.step) <= (keep, 0):
                keep = None
            else:
                path.unlink(missing_ok=True)

    def discard_unfinished(self, number: int) -> None:
        """Delete what a worker that was killed has left of files that it was writing.

        Args:
            number: its attempt, which no worker trains now.
        """
        with writing(self.paths.root):
            for path in self.paths.attempt(number).unfinished():
                path.unlink(missing_ok=True)

    def discard_checkpoints(self, keep: Collection[int], *, results: Collection[int] = ()) -> None:
        """Delete the checkpoints of all attempts but those named, and the models they end with.

        Args:
            keep: attempts whose checkpoint stays.
            results: attempts whose model stays, which the run may still accept.
        """
        with writing(self.paths.root):
            for attempt in self.run.attempts:
                paths = self.paths.attempt(attempt.attempt)
                if attempt.attempt not in results:
                    paths.result.unlink(missing_ok=True)
                    paths.result_weights.unlink(missing_ok=True)
                if attempt.attempt not in keep:
                    paths.checkpoint.unlink(missing_ok=True)
                    paths.checkpoint_weights.unlink(missing_ok=True)

    def _derive(self, event: Event) -> None:
        if isinstance(event, RunResumed | AttemptResumed) or (
            isinstance(event, AttemptStarted) and event.start is not None
        ):
            # It may have made void what stands in any of the files, or begins with another's.
            told = journal.tell(entry.event for entry in journal.read(self.paths.journal))
            derived.restore(self.paths, self.run, told)
            return
        if isinstance(event, AttemptStarted | PhaseEnded | AttemptEnded):
            attempt = self.run.attempts[event.attempt - 1]
            paths = self.paths.attempt(attempt.attempt)
            derived.make_directories(paths)
            if isinstance(event, PhaseEnded):
                index = len(attempt.phases) - 1
                write_json(paths.checks(index, event.phase.phase), event.phase)
            write_json(paths.record, attempt)
        if isinstance(event, EpochEnded):
            derived.append_epoch(self.paths.attempt(event.attempt), event)
            # Who wants to know how far a run has come reads the journal.
            if time.monotonic() - self._written < _RECORD_SECONDS:
                return
        # Between phases the journal, which is always synced, is enough: a sync takes longer than
        # an epoch of a small network.
        durable = isinstance(event, AttemptStarted | PhaseEnded | AttemptEnded | RunEnded)
        write_json(self.paths.record, self.run, sync=durable)
        self._written = time.monotonic()


def create(
    runs: Path,
    *,
    name: str,
    config: bytes,
    resolved: str,
    environment: dict[str, Any],
    inputs: Inputs,
    fingerprint: str | None,
    warnings: Sequence[str] = (),
) -> Store:
    """Make a run directory; it appears complete, by one rename.

    Args:
        runs: the folder of all runs; made where it is missing.
        name: the config's name.
        config: the config file as given.
        resolved: the config with every default filled in.
        environment: versions, host, arguments and the like.
        inputs: what the saved model will take.
        fingerprint: hash of the data.
        warnings: what the user should know before the run begins.

    Returns:
        The store, with the run's start and the warnings recorded.
    """
    now = datetime.now(UTC)
    made: list[Run] = []

    def fill(root: Path, run: str) -> None:
        paths = Paths(root)
        started = RunStarted(
            run=run,
            started=now.isoformat(timespec="seconds"),
            inputs=inputs,
            fingerprint=fingerprint,
        )
        events: list[Event] = [started, *(Warned(message=each) for each in warnings)]
        lines = Journal(paths.journal)
        made.append(journal.replay([lines.append(event, elapsed=0.0) for event in events]))
        write(paths.config, config)
        write(paths.resolved, resolved.encode())
        write_json(paths.environment, environment)
        write_json(paths.record, made[-1])

    root, lock = new_directory(runs, f"{name}-{now.astimezone():%Y%m%d-%H%M%S}", fill)
    paths = Paths(root)
    lines = Journal(paths.journal, entries=1 + len(warnings))
    return Store(paths, made[-1], lines, lock, fingerprint)


def reopen(directory: Path) -> Store:
    """Go on with a run where its journal ends; nothing is recorded by this alone.

    What a killed process has left of its last line is cut off, and the files that follow from the
    journal are written again where they are missing or tell something else.

    Args:
        directory: the run's.

    Returns:
        Its store, with the run as its journal tells it, whose time goes on from the last entry.

    Raises:
        RecordError: the journal cannot be read, or another process works on the run.
        StoppedError: the directory cannot be written.
    """
    with writing(directory):
        return _reopen(Paths(directory.absolute()))  # the user's code may go to another folder


def _reopen(paths: Paths) -> Store:
    if not os.path.isfile(paths.journal):
        raise RecordError(f"{paths.journal.name} is missing, which tells how far the run has come")
    expect_own(paths.root)
    lock = ownership.acquire(paths.lock)
    try:
        entries = journal.recover(paths.journal, journal.EVENT)
        first = entries[0].event
        if not isinstance(first, RunStarted):
            raise RecordError("the journal is damaged: it does not begin with the run's start")
        run = journal.replay(entries)
        derived.restore(paths, run, journal.tell(entry.event for entry in entries))
    except BaseException:
        lock.release()
        raise
    return Store(paths, run, Journal(paths.journal, len(entries)), lock, first.fingerprint)


def new_directory(
    parent: Path, prefix: str, fill: Callable[[Path, str], None]
) -> tuple[Path, ownership.Lock]:
    """Make a directory that appears complete, by one rename.

    Args:
        parent: the folder that it is made in; made where it is missing.
        prefix: how its name begins; four digits follow.
        fill: is given the directory under a hidden name, and its name; writes what belongs there.

    Returns:
        The directory, and its lock, held. The lock stays with the open file, so that the directory
        has its owner from the first moment.
    """
    parent.mkdir(parents=True, exist_ok=True)
    hidden, final = _draft(parent, prefix)
    lock = ownership.acquire(Paths(hidden).lock)
    try:
        fill(hidden, final.name)
        sync_directory(hidden)
        hidden.rename(final)
    except BaseException:
        lock.release()
        shutil.rmtree(hidden, ignore_errors=True)
        raise
    sync_directory(parent)
    return final, lock


def _draft(runs: Path, prefix: str) -> tuple[Path, Path]:
    """A new hidden folder, and the name that it will get, which no run has."""
    while True:
        final = runs / f"{prefix}-{secrets.token_hex(2)}"
        draft = runs / f".{final.name}"
        with contextlib.suppress(FileExistsError):
            draft.mkdir()
            # Asked while the draft is there: whoever had it before has given it its name.
            if not os.path.lexists(final):
                return draft, final
            draft.rmdir()
