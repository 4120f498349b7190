"""Reading run directories, whoever wrote them and however far they got.

`run.json` is read first; where it is damaged, or says `running` while nobody holds the run's lock,
the journal, which is the truth, is read instead.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from orchestrator.errors import NewerError, RecordError
from orchestrator.record.encoding import decode_file, decoder
from orchestrator.record.events import AttemptStarted, EpochEnded, Event, RunResumed, advance
from orchestrator.record.records import SCHEMA, Run
from orchestrator.record.storage import journal, ownership
from orchestrator.record.storage.directory import Paths, entries, read_file

_RESUMED = RunResumed(resumed="")
"""Makes an interrupted run one in progress, whenever it was resumed."""


def is_owned(directory: Path) -> bool:
    """Whether a process is working on the run; its status is not to be trusted otherwise."""
    return ownership.is_held(Paths(directory).lock)


def read(directory: Path) -> Run:
    """The run that a directory records; `running` while somebody works on it, and only then.

    Args:
        directory: a run directory.

    Raises:
        RecordError: neither the record nor the journal can be read, or they are of a newer schema.
    """
    _expect_run(directory)
    paths = Paths(directory)
    owned = is_owned(directory)
    try:
        run = parse(_content(paths.record), paths.record.name)
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
    if not owned:
        return _abandoned(run)
    # Whoever takes up a run reads its rows, which may take long, before its journal says so.
    return advance(run, _RESUMED, elapsed=run.seconds) if run.status == "interrupted" else run


def parse(content: bytes, name: str) -> Run:
    """The record that the content of a `run.json` is.

    Args:
        content: the file's.
        name: its name.

    Raises:
        RecordError: it is none.
        NewerError: it is of a newer schema.
    """
    run = decode_file(content, _RUN, name, schema=SCHEMA)
    _expect_sense(run, name)
    return run


_RUN: msgspec.json.Decoder[Run] = decoder(Run)


def _expect_sense(run: Run, name: str) -> None:
    """Refuse a record whose values have the right types and make no sense.

    Raises:
        RecordError: it is such a record; the message begins with the name of its file.
    """
    for problem in _problems(run):
        raise RecordError(f"{name} is damaged: {problem}")


def _problems(run: Run) -> Iterator[str]:
    """What is wrong with values whose types are right."""
    if run.schema < 1:
        yield f"schema: expected {SCHEMA}, received {run.schema}"
    numbers = {attempt.attempt for attempt in run.attempts}
    for index, attempt in enumerate(run.attempts):
        if attempt.attempt != index + 1:
            yield f"attempts.{index}.attempt: expected {index + 1}, received {attempt.attempt}"
        if attempt.start is not None and not attempt.start.attempt <= index:
            yield f"attempts.{index}.start.attempt: expected an earlier attempt"
    for key in ("accepted_attempt", "best_attempt"):
        if (number := getattr(run, key)) is not None and number not in numbers:
            yield f"{key}: there is no attempt {number}"
    for key, seconds in _lengths(run):
        if not 0 <= seconds < math.inf:
            yield f"{key}: expected a length of time, received {seconds}"


def _lengths(run: Run) -> Iterator[tuple[str, float]]:
    """Every length of time in a record, with its key."""
    yield "seconds", run.seconds
    for index, attempt in enumerate(run.attempts):
        yield f"attempts.{index}.seconds", attempt.seconds
        for place, phase in enumerate(attempt.phases):
            yield f"attempts.{index}.phases.{place}.seconds", phase.seconds


def _expect_run(directory: Path) -> None:
    try:
        with os.scandir(directory):
            pass
    except OSError as error:
        raise RecordError(f"cannot be read: {error.strerror}") from error
    if not Paths(directory).is_run():
        raise RecordError("no run: it has neither a run.json nor a journal.jsonl")


def events(directory: Path) -> list[journal.Entry[Event]]:
    """The journal of a run.

    Raises:
        RecordError: it cannot be read.
    """
    return journal.read(Paths(directory).journal)


def epochs(directory: Path) -> dict[int, list[EpochEnded]]:
    """Every epoch of each attempt that has one, in order, without those that were trained again.

    There is none where the journal cannot be read.
    """
    try:
        told = journal.tell(entry.event for entry in events(directory))
    except RecordError:
        return {}
    return {number: attempt.epochs for number, attempt in told.items() if attempt.epochs}


def sizes(directory: Path) -> dict[str, int]:
    """Bytes on disk, by what stands directly in the run directory, the largest first."""
    found: dict[str, int] = {}
    for entry in entries(directory):
        with contextlib.suppress(OSError):
            if entry.is_file(follow_symlinks=False):
                top = os.path.relpath(entry.path, directory).split(os.sep)[0]
                found[top] = found.get(top, 0) + entry.stat(follow_symlinks=False).st_size
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))


def environment(directory: Path) -> dict[str, Any]:
    """What `environment.json` says; empty where it cannot be read."""
    try:
        value = json.loads(read_file(Paths(directory).environment))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _replayed(path: Path) -> Run:
    """What follows from a journal; an attempt without an end has lasted until its last word."""
    entries = journal.read(path)
    run = journal.replay(entries)
    _expect_sense(run, path.name)
    if not run.attempts or run.attempts[-1].status != "running":
        return run
    begun = max(each.elapsed for each in entries if isinstance(each.event, AttemptStarted))
    last = replace(run.attempts[-1], seconds=round(run.seconds - begun, 3))
    return replace(run, attempts=(*run.attempts[:-1], last))


def _abandoned(run: Run) -> Run:
    """A run that nobody works on is not running."""
    if run.status != "running":
        return run
    attempts = tuple(
        replace(attempt, status="interrupted") if attempt.status == "running" else attempt
        for attempt in run.attempts
    )
    return replace(
        run,
        status="interrupted",
        attempts=attempts,
        conclusion=run.conclusion or "its process ended without a word",
    )


def _content(path: Path) -> bytes:
    try:
        return read_file(path)
    except FileNotFoundError as error:
        raise RecordError(f"{path.name} is missing") from error
    except OSError as error:
        raise RecordError(f"{path.name} cannot be read: {error.strerror}") from error
