"""The run directory: the only code that knows its paths.

The journal is written first; `run.json`, `attempt.json`, the checks and `epochs.csv` are derived
from it and replaced by one rename each.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import secrets
import shutil
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import filelock

from orchestrator.events import (
    AttemptEnded,
    AttemptStarted,
    EpochEnded,
    Event,
    PhaseEnded,
    RunEnded,
    RunStarted,
    advance,
)
from orchestrator.journal import Journal
from orchestrator.records import Attempt, Inputs, Run, jsonable, without_units


class Paths:
    """Every file name of a run directory.

    Args:
        root: the run directory.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.record = root / "run.json"
        self.config = root / "config.yaml"
        self.resolved = root / "resolved.yaml"
        self.environment = root / "environment.json"
        self.journal = root / "journal.jsonl"
        self.lock = root / ".lock"
        self.model = root / "model.keras"
        self.model_weights = root / "model.weights.h5"

    def attempt(self, number: int) -> AttemptPaths:
        """The names inside one attempt's directory."""
        return AttemptPaths(self.root / "attempts" / f"{number:03d}")


class AttemptPaths:
    """Every file name of an attempt's directory.

    Args:
        root: the attempt's directory.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.record = root / "attempt.json"
        self.epochs = root / "epochs.csv"
        self.log = root / "log.txt"
        self.checkpoint = root / "checkpoint.keras"
        self.checkpoint_weights = root / "checkpoint.weights.h5"
        self.result = root / ".model.keras"
        self.result_weights = root / ".model.weights.h5"

    def checks(self, index: int, phase: str) -> Path:
        """The evidence of one phase; `index` is 0 for phase `init`."""
        return self.root / "checks" / f"{index:02d}-{phase}.json"


class Store:
    """Writes one run's directory; made by `create`.

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
        lock: filelock.BaseFileLock,
        fingerprint: str | None,
    ) -> None:
        self.paths = paths
        self.run = run
        self.fingerprint = fingerprint
        self._journal = journal
        self._start = time.monotonic() - run.seconds
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
        """
        entry = self._journal.append(event, elapsed=self.elapsed)
        self.run = advance(self.run, event, elapsed=entry.elapsed)
        self._derive(event)
        return self.run

    def attempt_directory(self, number: int) -> Path:
        """The directory of an attempt, made where it is missing."""
        root = self.paths.attempt(number).root
        (root / "checks").mkdir(parents=True, exist_ok=True)
        return root

    def accept(self, number: int) -> Path:
        """Give the run the model of an attempt that passed.

        Args:
            number: the attempt.

        Returns:
            Path of the model, or of its weights where it could not be saved whole.
        """
        attempt = self.paths.attempt(number)
        for hidden, shown in (
            (attempt.result, self.paths.model),
            (attempt.result_weights, self.paths.model_weights),
        ):
            if hidden.exists():
                hidden.replace(shown)
        _sync_directory(self.paths.root)
        return self.paths.model if self.paths.model.exists() else self.paths.model_weights

    def discard_checkpoints(self, keep: Sequence[int]) -> None:
        """Delete the checkpoints of all attempts but those named."""
        for attempt in self.run.attempts:
            paths = self.paths.attempt(attempt.attempt)
            paths.result.unlink(missing_ok=True)
            paths.result_weights.unlink(missing_ok=True)
            if attempt.attempt not in keep:
                paths.checkpoint.unlink(missing_ok=True)
                paths.checkpoint_weights.unlink(missing_ok=True)

    def _derive(self, event: Event) -> None:
        match event:
            case EpochEnded():
                self._append_epoch(event)
                return
            case PhaseEnded():
                attempt = self.run.attempts[-1]
                path = self.paths.attempt(event.attempt).checks(
                    len(attempt.phases) - 1, event.phase.phase
                )
                _write_json(path, jsonable(event.phase))
        if isinstance(event, AttemptStarted | PhaseEnded | AttemptEnded):
            attempt = self.run.attempts[-1]
            self.attempt_directory(attempt.attempt)
            _write_json(self.paths.attempt(attempt.attempt).record, attempt_record(attempt))
        if isinstance(event, AttemptStarted | PhaseEnded | AttemptEnded | RunEnded):
            _write_json(self.paths.record, run_record(self.run))

    def _append_epoch(self, event: EpochEnded) -> None:
        path = self.paths.attempt(event.attempt).epochs
        row = {
            "phase": event.phase,
            "epoch": event.epoch,
            "learning_rate": event.learning_rate,
            **event.metrics,
        }
        new = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, row)
            if new:
                writer.writeheader()
            writer.writerow(row)


def create(
    runs: Path,
    *,
    name: str,
    config: bytes,
    resolved: str,
    environment: dict[str, Any],
    inputs: Inputs,
    fingerprint: str | None,
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

    Returns:
        The store, with the run's first event recorded.
    """
    now = datetime.now(UTC)
    run_name = f"{name}-{now.astimezone():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    runs.mkdir(parents=True, exist_ok=True)
    draft = runs / f".{run_name}"
    draft.mkdir()
    paths = Paths(draft)
    # The lock stays with the open file, so that the run has its owner from the first moment.
    lock = filelock.FileLock(paths.lock)
    try:
        lock.acquire(timeout=0)
        started = RunStarted(
            run=run_name,
            started=now.isoformat(timespec="seconds"),
            inputs=inputs,
            fingerprint=fingerprint,
        )
        run = advance(Run(run=run_name), started, elapsed=0.0)
        _write(paths.config, config)
        _write(paths.resolved, resolved.encode())
        _write_json(paths.environment, environment)
        _write_json(paths.record, run_record(run))
        Journal(paths.journal).append(started, elapsed=0.0)
        draft.rename(runs / run_name)
    except BaseException:
        lock.release()
        shutil.rmtree(draft, ignore_errors=True)
        raise
    _sync_directory(runs)
    paths = Paths(runs / run_name)
    return Store(paths, run, Journal(paths.journal, entries=1), lock, fingerprint)


def run_record(run: Run) -> dict[str, Any]:
    """The run as `run.json` and `--json` have it: without per-unit lists."""
    record: dict[str, Any] = without_units(jsonable(run))
    return record


def attempt_record(attempt: Attempt) -> dict[str, Any]:
    """The attempt as `attempt.json` has it."""
    record: dict[str, Any] = without_units(jsonable(attempt))
    return record


def _write_json(path: Path, value: Any) -> None:
    _write(path, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())


def _write(path: Path, content: bytes) -> None:
    """Replace a file by one rename; readers see the old content or the new."""
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    """Make renames in a directory durable, where the platform can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
