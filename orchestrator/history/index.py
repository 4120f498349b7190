"""A cache of the runs' lines in their folder; it may be deleted at any time."""

from __future__ import annotations

import contextlib
import os
import time
import zlib
from pathlib import Path

import msgspec

from orchestrator.history.briefs import Brief
from orchestrator.record import files

NAME = ".history.index"
"""Its file in the folder of all runs."""

_VERSION = 4
"""Of what a line holds; another version's cache is not used."""
_CHECKSUM = 4
"""Bytes of the CRC-32 that the file begins with, for a disk may hand back other bytes."""
_SETTLED = 2 * 10**9
"""Nanoseconds after a change until a file is kept in mind: what changes again within one tick of
the file system's clock would look the same."""

Stamp = tuple[int, int, int, int]
"""What a file that was changed or replaced does not keep: its times, its size, its number."""


class _Line(msgspec.Struct, array_like=True, gc=False):
    stamp: Stamp
    brief: Brief


class _Content(msgspec.Struct, array_like=True):
    version: int
    lines: dict[str, _Line]


_DECODER = msgspec.msgpack.Decoder(_Content)


class Index:
    """The lines that are known, and the files that they were read from.

    Args:
        runs: the folder of all runs.
    """

    def __init__(self, runs: Path) -> None:
        self._path = runs / NAME
        self._known = _load(self._path)
        self._kept: dict[str, _Line] = {}
        self._now = time.time_ns()

    def get(self, directory: str, stamp: Stamp) -> Brief | None:
        """The line of a run whose file has not changed."""
        line = self._known.get(directory)
        if line is None or line.stamp != stamp:
            return None
        self._kept[directory] = line
        return line.brief

    def put(self, brief: Brief, stamp: Stamp) -> None:
        """Keep a line in mind, unless its file may still change unseen, or has no name in UTF-8."""
        try:
            brief.run.encode()
        except UnicodeEncodeError:
            return
        if self._now - max(stamp[0], stamp[1]) > _SETTLED:
            self._kept[brief.run] = _Line(stamp, brief)

    def save(self) -> None:
        """Write what is new; a folder that cannot be written to goes without."""
        if self._kept == self._known:
            return
        temporary = self._path.with_name(f"{NAME}.{os.getpid()}")
        lines = msgspec.msgpack.encode(_Content(_VERSION, self._kept))
        content = zlib.crc32(lines).to_bytes(_CHECKSUM) + lines
        with contextlib.suppress(OSError):
            try:
                temporary.write_bytes(content)
                temporary.replace(self._path)
            finally:
                temporary.unlink(missing_ok=True)


def stamp(found: os.stat_result) -> Stamp:
    """What tells whether a file is the same as before."""
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def _load(path: Path) -> dict[str, _Line]:
    """The lines of a cache; none where there is no cache, or one that cannot be used."""
    try:
        found = files.read(path)
        lines = memoryview(found)[_CHECKSUM:]
        if zlib.crc32(lines).to_bytes(_CHECKSUM) != found[:_CHECKSUM]:
            return {}
        content = _DECODER.decode(lines)
    except (OSError, ValueError, msgspec.MsgspecError):
        return {}
    return content.lines if content.version == _VERSION else {}
