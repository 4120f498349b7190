"""Reading run directories, whoever wrote them and however far they got.

`run.json` is read first; where it is damaged, or says `running` while nobody holds the run's lock,
the journal, which is the truth, is read instead.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any

from orchestrator.errors import NewerError, RecordError
from orchestrator.record import decoding, files, journal
from orchestrator.record.directory import Paths
from orchestrator.record.events import AttemptStarted, EpochEnded
from orchestrator.record.records import Run

if sys.platform != "win32":
    import fcntl


def is_owned(directory: Path) -> bool:
    """Whether a process is working on the run; its status is not to be trusted otherwise."""
    try:
        descriptor = os.open(Paths(directory).lock, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        return False
    except OSError:  # Windows opens no file that is locked
        return True
    try:
        if sys.platform != "win32":
            # The owner has it exclusively; shared, it is there for any number of readers.
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def read(directory: Path) -> Run:
    """The run that a directory records; `running` only while somebody works on it.

    Args:
        directory: a run directory.

    Raises:
        RecordError: neither the record nor the journal can be read, or they are of a newer schema.
    """
    _expect_run(directory)
    paths = Paths(directory)
    owned = is_owned(directory)
    try:
        run = decoding.parse(_content(paths.record), paths.record.name)
    except RecordError as error:
        if isinstance(error, NewerError) or not os.path.isfile(paths.journal):
            raise
        try:
            run = _replayed(paths.journal)
        except RecordError as second:
            raise RecordError(f"{error}; {second}") from second
    else:
        if run.status == "running":
            with contextlib.suppress(RecordError):
                run = _replayed(paths.journal)
    return run if owned else _abandoned(run)


def _expect_run(directory: Path) -> None:
    try:
        with os.scandir(directory):
            pass
    except OSError as error:
        raise RecordError(f"cannot be read: {error.strerror}") from error
    if not Paths(directory).is_run():
        raise RecordError("no run: it has neither a run.json nor a journal.jsonl")


def events(directory: Path) -> list[journal.Entry]:
    """The journal of a run.

    Raises:
        RecordError: it cannot be read.
    """
    return journal.read(Paths(directory).journal)


def epochs(directory: Path) -> dict[int, list[EpochEnded]]:
    """Every epoch of each attempt, in order; none where the journal cannot be read."""
    found: dict[int, list[EpochEnded]] = {}
    with contextlib.suppress(RecordError):
        for entry in events(directory):
            if isinstance(entry.event, EpochEnded):
                found.setdefault(entry.event.attempt, []).append(entry.event)
    return found


def sizes(directory: Path) -> dict[str, int]:
    """Bytes on disk, by what stands directly in the run directory, the largest first."""
    found: dict[str, int] = {}
    for path in directory.rglob("*"):
        with contextlib.suppress(OSError):
            if path.is_file() and not path.is_symlink():
                top = path.relative_to(directory).parts[0]
                found[top] = found.get(top, 0) + path.stat().st_size
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))


def environment(directory: Path) -> dict[str, Any]:
    """What `environment.json` says; empty where it cannot be read."""
    try:
        value = json.loads(files.read(Paths(directory).environment))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _replayed(path: Path) -> Run:
    """What follows from a journal; an attempt without an end has lasted until its last word."""
    entries = journal.read(path)
    run = journal.replay(entries)
    if not run.attempts or run.attempts[-1].status != "running":
        return run
    begun = max(each.elapsed for each in entries if isinstance(each.event, AttemptStarted))
    last = dataclasses.replace(run.attempts[-1], seconds=round(run.seconds - begun, 3))
    return dataclasses.replace(run, attempts=(*run.attempts[:-1], last))


def _abandoned(run: Run) -> Run:
    """A run that nobody works on is not running."""
    if run.status != "running":
        return run
    attempts = tuple(
        dataclasses.replace(attempt, status="interrupted")
        if attempt.status == "running"
        else attempt
        for attempt in run.attempts
    )
    return dataclasses.replace(
        run,
        status="interrupted",
        attempts=attempts,
        conclusion=run.conclusion or "its process ended without a word",
    )


def _content(path: Path) -> bytes:
    try:
        return files.read(path)
    except FileNotFoundError as error:
        raise RecordError(f"{path.name} is missing") from error
    except OSError as error:
        raise RecordError(f"{path.name} cannot be read: {error.strerror}") from error
