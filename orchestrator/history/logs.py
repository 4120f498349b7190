"""A run's journal as lines for people, among them what its attempts print."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

from orchestrator.display import words
from orchestrator.display.tables import Cell, Column, Row
from orchestrator.display.text import clean, plain
from orchestrator.record.events import (
    AttemptEnded,
    AttemptResumed,
    AttemptStarted,
    CausesFound,
    EpochEnded,
    Event,
    ModelBuilt,
    ObstacleMet,
    PhaseEnded,
    PhaseStarted,
    RacerEnded,
    RunEnded,
    RunResumed,
    RunStarted,
    SeedsScreened,
    Warned,
)
from orchestrator.record.storage import archive, journal
from orchestrator.record.storage.directory import Paths, read_file

_POLL = 0.2
"""Seconds between two readings of a run in progress."""


def follow_run(
    directory: Path, *, wait: bool, sleep: Callable[[float], None] = time.sleep
) -> Iterator[str]:
    """The lines of a run.

    Args:
        directory: the run's.
        wait: go on until the run ends.
        sleep: waits so many seconds.

    Raises:
        RecordError: the journal cannot be read.
    """
    reader = journal.Reader(Paths(directory).journal)
    output = _Output()
    ended: RunEnded | None = None
    while True:
        owned = archive.is_owned(directory)  # asked before reading, so that nothing is missed
        for entry in reader.read():
            if isinstance(entry.event, AttemptStarted):
                yield from output.rest()
                output.open(Paths(directory).attempt(entry.event.attempt).log)
            elif isinstance(entry.event, AttemptEnded):
                yield from output.rest()
            yield from (f"{_clock(entry)}  {text}" for text in lines(entry.event))
            ended = entry.event if isinstance(entry.event, RunEnded) else None
        yield from output.new() if wait and owned else output.rest()
        if ended is None and not owned:
            yield "the run is interrupted: its process ended without a word"
        # What was interrupted and has an owner is just being taken up.
        over = ended is not None and ended.status != "interrupted"
        if over or not owned or not wait:
            return
        sleep(_POLL)


def lines(event: Event) -> Iterator[str]:
    """What an event says, mostly in one line."""
    return map(clean, _sentences(event))


def _sentences(event: Event) -> Iterator[str]:
    match event:
        case RunStarted():
            yield f"run {event.run}"
        case RunResumed():
            yield "the run goes on"
        case AttemptResumed():
            yield words.resumption(event)
        case AttemptStarted():
            if event.cause is not None:
                yield words.restart_sentence(event, reason=False)
            yield f"attempt {event.attempt} starts with seed {event.settings.seed}"
        case RacerEnded():
            yield words.race_sentence(event.racer)
        case SeedsScreened() if len(event.candidates) > 1:
            yield words.screening_sentence(event)
        case ModelBuilt():
            yield f"model of {event.parameters} weights is built"
        case ObstacleMet():
            yield f"without {event.remedy}: {event.reason}"
        case PhaseStarted():
            planned = f"{event.epochs} epoch{'s' * (event.epochs != 1)}"
            yield f"{event.phase}: {planned} at learning rate {event.learning_rate:g}"
        case EpochEnded():
            yield f"{event.phase}: epoch {event.epoch}: {_values(event.metrics)}"
        case PhaseEnded():
            phase = event.phase
            for check in phase.checks:
                reason = words.verdict_reason(check)
                yield f"{phase.phase}: {check.verdict} {check.check}: {reason}"
        case CausesFound():
            for finding in event.findings:
                yield words.finding_line(finding, failed=event.failed)
        case Warned():
            yield f"warning: {event.message}"
        case AttemptEnded():
            failure = event.failure
            told = failure is None or failure.check == event.status  # crashed: crashed
            why = "" if failure is None or told else f": {failure.check}"
            ending = f"{event.status}{why} after {words.duration(event.seconds)}"
            yield f"attempt {event.attempt} {ending}"
        case RunEnded():
            yield f"run {event.status}: {event.conclusion}"


def table(entries: Sequence[journal.Entry[Event]]) -> tuple[tuple[Column, ...], tuple[Row, ...]]:
    """A row a line, for programs."""
    columns = (Column("time"), Column("elapsed", right=True), Column("event"), Column("text"))
    rows = tuple(
        (Cell(entry.time), Cell(entry.elapsed), Cell(entry.event.name), Cell(text))
        for entry in entries
        for text in lines(entry.event)
    )
    return columns, rows


def _values(metrics: dict[str, float]) -> str:
    return " · ".join(f"{name} {words.number(value)}" for name, value in metrics.items())


def _clock(entry: journal.Entry[Event]) -> str:
    """Local time of day."""
    return f"{datetime.fromisoformat(entry.time).astimezone():%H:%M:%S}"


class _Output:
    """What an attempt prints, line by line, read as it grows."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._offset = 0
        self._torn = b""

    def open(self, path: Path) -> None:
        """Read another attempt's from its beginning."""
        self._path, self._offset, self._torn = path, 0, b""

    def new(self) -> Iterator[str]:
        """The whole lines since the last call."""
        *whole, self._torn = (self._torn + self._read()).split(b"\n")
        yield from map(self._shown, whole)

    def rest(self) -> Iterator[str]:
        """The same, and a last line that has no end yet."""
        yield from self.new()
        if self._torn:
            yield self._shown(self._torn)
            self._torn = b""

    def _read(self) -> bytes:
        if self._path is None:
            return b""
        try:
            content = read_file(self._path, self._offset)
        except OSError:
            return b""
        self._offset += len(content)
        return content

    def _shown(self, line: bytes) -> str:
        # A progress bar writes over itself with carriage returns: only its last state is shown.
        text = line.rstrip(b"\r").rpartition(b"\r")[2].decode(errors="replace")
        return f"          | {plain(text)}"
