"""The journal: one JSON line an event, appended and fsynced, each line with its own checksum.

A line that a crash has torn, or that anything has changed, does not verify. A last line that does
not is what a crash leaves, and is passed over; a broken line before others is damage, and is
refused. So is a line that verifies but that this version cannot read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import re
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from orchestrator.errors import RecordError, short
from orchestrator.record.encoding import Record, decode, decoder, dump, jsonable
from orchestrator.record.events import (
    AttemptResumed,
    AttemptStarted,
    EpochEnded,
    Event,
    PhaseEnded,
    Recorded,
    advance,
)
from orchestrator.record.records import SCHEMA, Phase, Run, Start, finished
from orchestrator.record.storage.directory import cut, read_file, write_all

_START = re.compile(rb'\{"crc":"[0-9a-f]{8}","schema":')
"""How every line begins, and nothing inside of one."""


class _Head(Record, kw_only=True):
    """What every line has beside its event."""

    schema: int
    number: int
    time: str
    elapsed: float


_HEAD: msgspec.json.Decoder[_Head] = decoder(_Head)
EVENT: msgspec.json.Decoder[Event] = decoder(Event)
"""Reads the events of a run."""


E = TypeVar("E", bound=Recorded)


class Entry(Record, Generic[E], kw_only=True):
    """One line of the journal of a run, or of something else that has events."""

    number: int
    """Position, counted from 1."""
    time: str
    """UTC, ISO 8601."""
    elapsed: float
    """Seconds since the run's start."""
    event: E
    """What happened."""


class Journal:
    """Appends to one journal.

    Args:
        path: the file; made at the first event.
        entries: number of lines that it has already.
    """

    def __init__(self, path: Path, entries: int = 0) -> None:
        self._path = path
        self._entries = entries
        self._torn_at: int | None = None
        """Size of the file before a line that could not be written."""

    def append(self, event: E, *, elapsed: float) -> Entry[E]:
        """Write one event; it is on disk when this returns.

        Args:
            event: what happened.
            elapsed: seconds since the run's start.

        Returns:
            The entry as written.
        """
        entry = Entry(
            number=self._entries + 1,
            time=datetime.now(UTC).isoformat(timespec="milliseconds"),
            elapsed=round(elapsed, 3),
            event=event,
        )
        self._write(_encode(entry))
        self._entries += 1
        return entry

    def _write(self, line: bytes) -> None:
        """Add a line, or leave the file as it was: at the latest before the next line."""
        # A journal that is gone does not begin anew in its middle.
        made = os.O_CREAT if self._entries == 0 else 0
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | made, 0o644)
        try:
            if self._torn_at is not None:
                os.ftruncate(descriptor, self._torn_at)
            self._torn_at = os.fstat(descriptor).st_size
            try:
                write_all(descriptor, line, sync=True)
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(descriptor, self._torn_at)
                raise
            self._torn_at = None
        finally:
            os.close(descriptor)


def read(path: Path) -> list[Entry[Event]]:
    """Read and verify the journal of a run.

    Args:
        path: the file.

    Raises:
        RecordError: as `read_as`.
    """
    return read_as(path, EVENT)


def read_as(path: Path, known: msgspec.json.Decoder[E]) -> list[Entry[E]]:
    """Read and verify a journal.

    Args:
        path: the file.
        known: reads its events.

    Returns:
        Its entries, at least one; a torn last line is left out.

    Raises:
        RecordError: the file is missing or holds no event, a line before the last is damaged, or
            any line is of a newer schema.
    """
    return _read(path, known)[0]


class Reader:
    """Reads a journal that may still grow.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._entries = 0

    def read(self) -> list[Entry[Event]]:
        """The entries since the last time; a line that is not whole yet comes later.

        Raises:
            RecordError: as `read`.
        """
        try:
            content = read_file(self._path, self._offset)
        except OSError as error:
            raise RecordError(f"{self._path.name}: cannot be read: {error.strerror}") from error
        whole = content[: content.rfind(b"\n") + 1]
        lines = whole.split(b"\n")
        entries = list(_verified(lines, self._path, EVENT, first=self._entries + 1))
        self._offset += len(whole)
        self._entries += len(entries)
        return entries


def recover(path: Path, known: msgspec.json.Decoder[E]) -> list[Entry[E]]:
    """Read a journal that is to go on, and cut off what a killed process has left of a line.

    Args:
        path: the file.
        known: reads its events.

    Returns:
        Its entries, at least one.

    Raises:
        RecordError: as `read_as`.
        OSError: the file cannot be written.
    """
    entries, lines = _read(path, known)
    cut(path, sum(len(line) + 1 for line in lines[: len(entries)]))
    return entries


def replay(entries: Iterable[Entry[Event]]) -> Run:
    """The run that follows from a journal.

    Raises:
        RecordError: it tells of an attempt that has not begun.
    """
    run = Run(run="")
    for entry in entries:
        try:
            run = advance(run, entry.event, elapsed=entry.elapsed)
        except ValueError as error:
            message = f"entry {entry.number} is of an attempt that has not begun"
            raise RecordError(f"the journal is damaged: {message}") from error
    return run


@dataclasses.dataclass
class Told:
    """What a journal tells of one attempt, without what was made void when it went on."""

    phases: list[Phase] = dataclasses.field(default_factory=list)
    """Finished phases in order, with the lists of all units."""
    epochs: list[EpochEnded] = dataclasses.field(default_factory=list)
    """Finished epochs in order."""


def tell(events: Iterable[Event]) -> dict[int, Told]:
    """What a journal tells of each attempt.

    Args:
        events: the journal's, in order.

    Returns:
        Every attempt of which an epoch or a phase is told, by its number.
    """
    found: defaultdict[int, Told] = defaultdict(Told)
    for event in events:
        match event:
            case AttemptStarted(start=Start() as start):
                other = found[start.attempt]
                found[event.attempt] = Told(
                    phases=other.phases[: finished(other.phases, start.epoch)],
                    epochs=[each for each in other.epochs if each.epoch <= start.epoch],
                )
            case EpochEnded():
                found[event.attempt].epochs.append(event)
            case PhaseEnded():
                found[event.attempt].phases.append(event.phase)
            case AttemptResumed():
                told = found[event.attempt]
                told.epochs = [each for each in told.epochs if each.epoch <= event.epoch]
                del told.phases[event.phases :]
    return dict(found)


def _read(path: Path, known: msgspec.json.Decoder[E]) -> tuple[list[Entry[E]], list[bytes]]:
    """The entries of a journal, and its lines, the torn one too."""
    try:
        lines = read_file(path).split(b"\n")
    except OSError as error:
        raise RecordError(f"{path.name}: cannot be read: {error.strerror}") from error
    entries = list(_verified(lines, path, known))
    if not entries:
        raise RecordError(f"{path.name}: expected at least one event, received none")
    return entries, lines


def _verified(
    lines: list[bytes], path: Path, known: msgspec.json.Decoder[E], *, first: int = 1
) -> Iterator[Entry[E]]:
    """Read lines split at their ends, so that the last is empty unless it is torn.

    Args:
        lines: the lines.
        path: their file.
        known: reads the events.
        first: number of the first of them.
    """
    *whole, rest = lines
    for number, line in enumerate(whole, start=first):
        place = f"{path.name}:{number}"
        body = _body(line)
        if body is None:
            # Two lines whose separator is gone are damage; one may be what a crash has left.
            if number == first + len(whole) - 1 and not rest and not _holds_two(line):
                return
            raise RecordError(f"{place}: damaged line: the checksum does not match")
        try:
            entry = _decode(body, known)
        except RecordError as error:
            raise RecordError(f"{place}: {error}") from error
        if entry.number != number:
            raise RecordError(f"{place}: expected entry {number}, received {short(entry.number)}")
        yield entry
    if _holds_two(rest):
        raise RecordError(
            f"{path.name}:{first + len(whole)}: damaged line: the checksum does not match"
        )


def _encode(entry: Entry[Any]) -> bytes:
    fields = {
        "schema": SCHEMA,
        "number": entry.number,
        "time": entry.time,
        "elapsed": entry.elapsed,
        **jsonable(entry.event),
    }
    body = dump(fields, separators=(",", ":"))
    return b'{"crc":"%08x",' % zlib.crc32(body) + body[1:] + b"\n"


def _holds_two(line: bytes) -> bool:
    return len(_START.findall(line)) > 1


def _body(line: bytes) -> bytes | None:
    """What the checksum was taken of; None where it does not match."""
    prefix, _, rest = line.partition(b",")
    body = b"{" + rest
    return body if prefix == b'{"crc":"%08x"' % zlib.crc32(body) else None


def _decode(body: bytes, known: msgspec.json.Decoder[E]) -> Entry[E]:
    """Read a line that has been verified.

    Raises:
        RecordError: it is no event, or of a newer schema.
    """
    head = decode(body, _HEAD)
    if head.schema > SCHEMA:
        raise RecordError(f"its schema is {short(head.schema)}, this version reads up to {SCHEMA}")
    _expect_moment(head)
    event = decode(body, known)
    return Entry(number=head.number, time=head.time, elapsed=head.elapsed, event=event)


def _expect_moment(head: _Head) -> None:
    """Refuse a line that was not written at any time.

    Raises:
        RecordError: it is such a line.
    """
    if not 0 <= head.elapsed < math.inf:
        raise RecordError(f"elapsed: expected a length of time, received {head.elapsed}")
    try:
        datetime.fromisoformat(head.time)
    except ValueError as error:
        raise RecordError(f"time: expected one as ISO 8601, received {short(head.time)}") from error
