"""The journal: one JSON line an event, appended and fsynced, each line with its own checksum.

A line that a crash has torn, or that anything has changed, does not verify. A torn last line is
what a crash leaves, and is passed over; a broken line before others is damage, and is refused.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import zlib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pydantic

from orchestrator import events
from orchestrator.errors import RecordError
from orchestrator.events import Event, advance
from orchestrator.records import SCHEMA, Run, jsonable

_EVENTS: dict[str, type[Event]] = {
    "run_started": events.RunStarted,
    "attempt_started": events.AttemptStarted,
    "model_built": events.ModelBuilt,
    "phase_started": events.PhaseStarted,
    "epoch_ended": events.EpochEnded,
    "phase_ended": events.PhaseEnded,
    "warned": events.Warned,
    "attempt_ended": events.AttemptEnded,
    "run_ended": events.RunEnded,
}
_NAMES = {kind: name for name, kind in _EVENTS.items()}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One line of the journal."""

    number: int
    """Position, counted from 1."""
    time: str
    """UTC, ISO 8601."""
    elapsed: float
    """Seconds since the run's start."""
    event: Event
    """What happened."""


class Journal:
    """Appends to the journal of one run.

    Args:
        path: the file; made at the first event.
        entries: number of lines that it has already.
    """

    def __init__(self, path: Path, entries: int = 0) -> None:
        self._path = path
        self._entries = entries

    def append(self, event: Event, *, elapsed: float) -> Entry:
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
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            line = _encode(entry)
            written = os.write(descriptor, line)
            if written != len(line):
                os.ftruncate(descriptor, os.fstat(descriptor).st_size - written)
                raise OSError(28, "no space left to write the journal", str(self._path))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self._entries += 1
        return entry


def read(path: Path) -> list[Entry]:
    """Read and verify a journal.

    Args:
        path: the file.

    Returns:
        Its entries; a torn last line is left out.

    Raises:
        RecordError: the file is missing, or a line before the last is damaged or of a newer schema.
    """
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror}") from error
    return list(_verified(lines, path))


def replay(entries: Iterable[Entry]) -> Run:
    """The run that follows from a journal."""
    return functools.reduce(
        lambda run, entry: advance(run, entry.event, elapsed=entry.elapsed), entries, Run(run="")
    )


def _verified(lines: list[bytes], path: Path) -> Iterator[Entry]:
    for number, line in enumerate(lines, start=1):
        try:
            entry = _decode(line)
        except ValueError as error:
            if number == len(lines):
                return
            raise RecordError(f"{path}:{number}: damaged line: {error}") from error
        if entry.number != number:
            raise RecordError(f"{path}:{number}: expected entry {number}, received {entry.number}")
        yield entry


def _encode(entry: Entry) -> bytes:
    fields = {
        "schema": SCHEMA,
        "number": entry.number,
        "time": entry.time,
        "elapsed": entry.elapsed,
        "event": _NAMES[type(entry.event)],
        **jsonable(entry.event),
    }
    body = json.dumps(fields, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return f'{{"crc":"{zlib.crc32(body.encode()):08x}",{body[1:]}\n'.encode()


def _decode(line: bytes) -> Entry:
    """Check a line's sum, then read it; every fault is a ValueError."""
    prefix, comma, rest = line.partition(b",")
    if not comma or not line.endswith(b"\n"):
        raise ValueError("the line is not whole")
    body = b"{" + rest[:-1]
    if prefix != b'{"crc":"%08x"' % zlib.crc32(body):
        raise ValueError("the checksum does not match")
    fields: dict[str, Any] = json.loads(body)
    if fields.pop("schema") > SCHEMA:
        raise ValueError(f"schema newer than {SCHEMA}")
    head = {name: fields.pop(name) for name in ("number", "time", "elapsed")}
    kind = _EVENTS.get(fields.pop("event"))
    if kind is None:
        raise ValueError("unknown event")
    return Entry(**head, event=_adapter(kind).validate_python(fields))


@functools.cache
def _adapter(kind: type[Event]) -> pydantic.TypeAdapter[Event]:
    return pydantic.TypeAdapter(kind)
