"""A cache of the runs' lines in their folder; it may be deleted at any time."""

from __future__ import annotations

import contextlib
import os
import time
import zlib
from pathlib import Path

import msgspec

from orchestrator.history.briefs import Brief
from orchestrator.record.storage.directory import read_file

NAME = ".history.index"
"""Its file in the folder of all runs."""

_VERSION = 5
"""Raised when the meaning of a field changes; a cache of another version is not used."""
_CHECKSUM = 4
"""Bytes of the CRC-32 at the beginning of the file, by which a damaged one is found out."""
_SETTLED = 2 * 10**9
"""Nanoseconds after its last change until a file is cached: if it changed again within one tick of
the file system's clock, its stamp would stay the same."""

Stamp = tuple[int, int, int, int]
"""Times of modification and change, size and inode: they differ once a file was changed."""


class _Line(msgspec.Struct, array_like=True, gc=False):
    stamp: Stamp
    brief: Brief


class _Content(msgspec.Struct, array_like=True):
    version: int
    fields: tuple[str, ...]
    lines: dict[str, _Line]


_DECODER = msgspec.msgpack.Decoder(_Content)


class Index:
    """The cached lines, each with the stamp of the file that it was read from.

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
        """Cache a line, unless its file changed too recently, or its name is not UTF-8."""
        try:
            brief.run.encode()
        except UnicodeEncodeError:
            return
        if self._now - max(stamp[0], stamp[1]) > _SETTLED:
            self._kept[brief.run] = _Line(stamp, brief)

    def save(self) -> None:
        """Write what is new; in a folder that cannot be written to nothing is cached."""
        if self._kept == self._known:
            return
        temporary = self._path.with_name(f"{NAME}.{os.getpid()}")
        lines = msgspec.msgpack.encode(_Content(_VERSION, Brief.__struct_fields__, self._kept))
        content = zlib.crc32(lines).to_bytes(_CHECKSUM) + lines
        with contextlib.suppress(OSError):
            try:
                temporary.write_bytes(content)
                temporary.replace(self._path)
            finally:
                temporary.unlink(missing_ok=True)


def stamp(found: os.stat_result) -> Stamp:
    """The stamp of a file, from what the system says of it."""
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def _load(path: Path) -> dict[str, _Line]:
    """The lines of a cache; none where there is no cache, or one that cannot be used."""
    try:
        found = read_file(path)
        lines = memoryview(found)[_CHECKSUM:]
        if zlib.crc32(lines).to_bytes(_CHECKSUM) != found[:_CHECKSUM]:
            return {}
        content = _DECODER.decode(lines)
    except (OSError, ValueError, msgspec.MsgspecError):
        return {}
    known = (content.version, content.fields) == (_VERSION, Brief.__struct_fields__)
    return content.lines if known else {}
