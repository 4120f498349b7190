"""Who writes a run directory: one process at a time, on one machine or on a shared file system.

On one machine the system's lock of the file `.lock` decides, and ends with its process however that
ends. It may not reach other machines that share the file system; there the file itself tells who
the owner is, and its time, which the owner renews every few seconds, whether he is alive. Readers
hold the lock for a moment, shared, and a writer waits for them.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import platform
import secrets
import stat
import sys
import threading
import time
import weakref
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from orchestrator.errors import RecordError, StoppedError
from orchestrator.record.encoding import Record, decode, decoder, document
from orchestrator.record.storage.directory import read_file

if sys.platform != "win32":
    import fcntl

BEAT_SECONDS = 5.0
"""So often an owner renews the time of its lock."""
STALE_SECONDS = 30.0
"""An owner on another machine that has not renewed it for so long is gone."""
_PATIENCE = 10.0
"""Seconds that a writer waits for readers, of whom each holds the lock for microseconds."""
_OWNED_PATIENCE = 1.0
"""Seconds that it waits where another writer has it."""
_FLAGS = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_MAX_BYTES = 4096


class Owner(Record, kw_only=True):
    """What a lock's file says of its owner; a file without it has none that is known."""

    host: str
    """Name of the machine, for people."""
    pid: int
    """Number of the process there."""
    since: str
    """UTC, ISO 8601."""
    boot: str
    """Tells one start of one machine from all others: locks reach from one to the same."""
    inode: int
    """Number of the file: a copy has another, and is nobody's."""


_OWNER: msgspec.json.Decoder[Owner] = decoder(Owner)


class Lock:
    """The lock of a run or a search, held until it is released; made by `acquire`.

    Args:
        descriptor: the open file, locked.
        content: what is written there of the owner.
    """

    def __init__(self, descriptor: int, content: bytes) -> None:
        self._beating = _Beating(descriptor, content)
        self.release = weakref.finalize(self, self._beating.end)

    def confirm(self) -> None:
        """See that this process is the owner still.

        Raises:
            StoppedError: while this machine was suspended, or cut off, another has taken over.
        """
        self._beating.confirm()


class _Beating:
    """Renews a lock's time from a thread; knows nothing of the lock, which may be forgotten."""

    def __init__(self, descriptor: int, content: bytes) -> None:
        self._descriptor: int | None = descriptor
        self._content = content
        self._guard = threading.Lock()
        self._ended = threading.Event()
        self._beaten = _clock()
        self._successor: Owner | None = None
        _ALL.add(self)
        threading.Thread(target=self._beat, name="orchestrator-owner", daemon=True).start()

    def confirm(self) -> None:
        if _clock() - self._beaten > STALE_SECONDS / 2:
            self._renew()
        if self._successor is not None:
            raise StoppedError(f"{_named(self._successor)} has taken over")

    def end(self) -> None:
        self._ended.set()
        with self._guard:
            if self._descriptor is None:
                return
            if self._successor is None:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._descriptor, 0)
            _flock(self._descriptor, "unlock")
            os.close(self._descriptor)
            self._descriptor = None

    def forget(self) -> None:
        """Let go of it in a forked process, which is not the owner."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            self._renew()

    def _renew(self) -> None:
        with self._guard, contextlib.suppress(OSError):
            if self._descriptor is None:
                return
            found = os.pread(self._descriptor, _MAX_BYTES, 0)
            if found != self._content and (owner := _parse(found)) is not None:
                self._successor = owner
                return
            os.utime(self._descriptor)
            self._beaten = _clock()


def _clock() -> float:
    """Seconds, those of a suspended machine among them, where it has a clock for that."""
    if hasattr(time, "CLOCK_BOOTTIME"):  # Linux's `monotonic` stands still then
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


_ALL: weakref.WeakSet[_Beating] = weakref.WeakSet()


def _forget_all() -> None:
    for each in list(_ALL):
        each.forget()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_forget_all)


def acquire(path: Path) -> Lock:
    """Take a lock.

    Args:
        path: its file, made where it is missing, in the directory that it is for.

    Raises:
        RecordError: another process has it.
        OSError: the file cannot be opened.
    """
    begun = owned_since = time.monotonic()
    while (descriptor := _try(path)) is None:
        now = time.monotonic()
        if not is_held(path):
            owned_since = now
        if now - owned_since > _OWNED_PATIENCE or now - begun > _PATIENCE:
            raise RecordError(refusal(path))
        time.sleep(0.002)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise RecordError(f"{path} is no file, which a lock is: remove it")
        owner = _owner(descriptor)
        if owner is not None and owner.boot != _boot() and _is_fresh(descriptor, path.parent):
            raise RecordError(refusal(path))
        content = document(
            Owner(
                host=platform.node(),
                pid=os.getpid(),
                since=datetime.now(UTC).isoformat(timespec="seconds"),
                boot=_boot(),
                inode=os.fstat(descriptor).st_ino,
            )
        )
        with contextlib.suppress(OSError):  # on a full disk the lock itself is enough
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, content, 0)
    except BaseException:
        os.close(descriptor)
        raise
    return Lock(descriptor, content)


def is_held(path: Path) -> bool:
    """Whether a process has a lock, here or on another machine."""
    try:
        descriptor = os.open(path, os.O_RDONLY | _FLAGS)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:  # a link is nobody's lock
        return error.errno != errno.ELOOP
    try:
        # The owner has it exclusively; shared, it is there for any number of readers.
        if not _flock(descriptor, "shared"):
            return True
        _flock(descriptor, "unlock")
        owner = _owner(descriptor)
        return owner is not None and owner.boot != _boot() and _is_fresh(descriptor, path.parent)
    finally:
        os.close(descriptor)


def _try(path: Path) -> int | None:
    """The open and locked file; None where somebody has it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _FLAGS, 0o644)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise RecordError(f"{path} is a link, which a lock is not: remove it") from error
        raise
    try:
        mine = _flock(descriptor, "exclusive") and os.path.samestat(
            os.fstat(descriptor), os.stat(path)
        )
    except FileNotFoundError:  # it was removed meanwhile
        mine = False
    except BaseException:
        os.close(descriptor)
        raise
    if mine:
        return descriptor
    os.close(descriptor)
    return None


def _flock(descriptor: int, how: str) -> bool:
    """Lock an open file, or unlock it; whether that was possible."""
    if sys.platform != "win32":
        operations = {
            "shared": fcntl.LOCK_SH | fcntl.LOCK_NB,
            "exclusive": fcntl.LOCK_EX | fcntl.LOCK_NB,
            "unlock": fcntl.LOCK_UN,
        }
        try:
            fcntl.flock(descriptor, operations[how])
        except OSError as error:
            # A file system without locks leaves all to the owner's beat.
            return error.errno in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)
    return True


def _owner(descriptor: int) -> Owner | None:
    """Who a lock's file says has it; None where it is empty, a copy, or nothing of ours."""
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        return None
    owner = _parse(os.pread(descriptor, _MAX_BYTES, 0))
    return None if owner is None or owner.inode != found.st_ino else owner


def _parse(content: bytes) -> Owner | None:
    try:
        return decode(content, _OWNER)
    except RecordError:
        return None


def _is_fresh(descriptor: int, folder: Path) -> bool:
    """Whether a lock's time was renewed lately, by the clock of its own file system."""
    return _now(folder) - os.fstat(descriptor).st_mtime < STALE_SECONDS


def _now(folder: Path) -> float:
    """The time of a file that is made now; by this machine's clock where none can be made."""
    probe = folder / f".clock-{secrets.token_hex(4)}"
    try:
        descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError:
        return time.time()
    try:
        return os.fstat(descriptor).st_mtime
    finally:
        os.close(descriptor)
        os.unlink(probe)


def refusal(path: Path, what: str | None = None) -> str:
    """Why a lock cannot be had, and what to do.

    Args:
        path: its file.
        what: what it is for; None for the directory that it is in.
    """
    owner = None
    with contextlib.suppress(OSError):
        owner = _parse(read_file(path)[:_MAX_BYTES])
    who = "another process" if owner is None else _named(owner)
    name = what or path.parent.name
    told = f"{name} is in progress: {who} works on it; wait for its end, or stop it"
    if owner is None:
        return told
    if owner.boot == _boot():
        return f"{told}: kill {owner.pid}"
    return f"{told} there; if that machine is down, wait for {STALE_SECONDS:g} s"


def _named(owner: Owner) -> str:
    # Its name comes from a file, and a terminal would obey what stands in it.
    host = "".join(each if each.isprintable() else "?" for each in owner.host)
    return f"process {owner.pid} on {host}"


@functools.cache
def _boot() -> str:
    """What tells this start of this machine from all others."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return platform.node()
