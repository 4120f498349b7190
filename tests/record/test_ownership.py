"""Who writes a run directory: one process at a time."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.errors import RecordError, StoppedError
from orchestrator.record.encoding import document
from orchestrator.record.events import Heartbeat, RunStarted
from orchestrator.record.storage import archive, ownership, store
from orchestrator.record.storage.ownership import Owner
from tests.story import record, story


@pytest.fixture
def lock(memory_path: Path) -> Path:
    (memory_path / "case").mkdir()
    return memory_path / "case" / ".lock"


HOLD = """
import sys, time, pathlib
from orchestrator.record.storage import ownership
lock = ownership.acquire(pathlib.Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(lock: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that has the lock."""
    command = [sys.executable, "-c", HOLD, str(lock)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as found:
        assert found.stdout is not None
        assert found.stdout.readline() == b"held\n"
        yield found
        found.kill()


def test_a_second_writer_is_told_who_the_first_is(
    lock: Path, holder: subprocess.Popen[bytes]
) -> None:
    told = rf"^case is in progress: process {holder.pid} on .* works on it; .*: kill {holder.pid}$"
    assert ownership.is_held(lock)
    with pytest.raises(RecordError, match=told):
        ownership.acquire(lock)
    assert ownership.is_held(lock)  # asking takes nothing from it
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert not ownership.is_held(lock)  # although the file still names it, and is fresh
    ownership.acquire(lock).release()


def test_a_lock_that_was_given_up_is_nobodys(lock: Path) -> None:
    held = ownership.acquire(lock)
    assert ownership.is_held(lock)
    held.release()
    held.release()
    assert lock.read_bytes() == b""
    assert not ownership.is_held(lock)
    again = ownership.acquire(lock)
    del again  # who forgets it gives it up
    assert not ownership.is_held(lock)


@pytest.mark.parametrize("content", [b"", b"\0\xff", b"{}", b"[" * 99_999, b'{"pid": "x"}'])
def test_whatever_stands_in_a_lock_it_can_be_had(lock: Path, content: bytes) -> None:
    lock.write_bytes(content)
    assert not ownership.is_held(lock)
    ownership.acquire(lock).release()


def test_a_link_is_no_lock(lock: Path) -> None:
    precious = lock.with_name("precious")
    precious.write_text("mine")
    lock.symlink_to(precious)
    assert not ownership.is_held(lock)
    with pytest.raises(RecordError, match="is a link, which a lock is not: remove it"):
        ownership.acquire(lock)
    assert precious.read_text() == "mine"


def test_a_pipe_is_no_lock(lock: Path) -> None:
    os.mkfifo(lock)
    assert not ownership.is_held(lock)
    with pytest.raises(RecordError, match="is no file, which a lock is: remove it"):
        ownership.acquire(lock)


def test_a_writer_waits_for_a_reader(lock: Path) -> None:
    lock.touch()
    descriptor = os.open(lock, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    timer = threading.Timer(0.2, os.close, [descriptor])
    timer.start()
    ownership.acquire(lock).release()
    timer.join()


def test_readers_never_stop_a_writer(lock: Path) -> None:
    ended = threading.Event()

    def read() -> None:
        while not ended.is_set():
            ownership.is_held(lock)
            time.sleep(0.0005)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    try:
        for _ in range(50):
            ownership.acquire(lock).release()
    finally:
        ended.set()
        for reader in readers:
            reader.join()


# ------------------------------------------------------------------------- another machine


def _foreign(lock: Path, *, age: float = 0.0, inode: int | None = None) -> None:
    """A lock as a process of another machine has it, whose own lock is not seen here."""
    lock.touch()
    number = lock.stat().st_ino if inode is None else inode
    owner = Owner(host="far\x1b[31m", pid=7, since="2026-01-01", boot="other", inode=number)
    lock.write_bytes(document(owner))
    then = time.time() - age
    os.utime(lock, (then, then))


def test_an_owner_on_another_machine_is_alive_while_it_says_so(lock: Path) -> None:
    _foreign(lock, age=ownership.STALE_SECONDS - 10)
    assert ownership.is_held(lock)
    with pytest.raises(RecordError, match=r"process 7 on far\?\[31m works on it; .* machine is do"):
        ownership.acquire(lock)
    assert [path.name for path in lock.parent.iterdir()] == [".lock"]
    _foreign(lock, age=ownership.STALE_SECONDS + 1)
    assert not ownership.is_held(lock)
    ownership.acquire(lock).release()


def test_a_clock_of_ours_that_is_wrong_does_not_matter(
    lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _foreign(lock)
    real = time.time()
    monkeypatch.setattr(time, "time", lambda: real + 86400)
    assert ownership.is_held(lock)


def test_a_copied_lock_is_nobodys(lock: Path) -> None:
    _foreign(lock, inode=lock.parent.stat().st_ino)
    assert not ownership.is_held(lock)
    ownership.acquire(lock).release()


def _eventually(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 20
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.01)
    return holds()


def test_an_owner_renews_the_time_of_its_lock(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ownership, "BEAT_SECONDS", 0.01)
    held = ownership.acquire(lock)
    os.utime(lock, (1.0, 1.0))
    assert _eventually(lambda: lock.stat().st_mtime > 1.0)
    held.confirm()
    # A machine that was suspended finds that another has taken over.
    _foreign(lock)
    content = lock.read_bytes()
    assert _eventually(lambda: _raises(held))
    held.release()
    assert lock.read_bytes() == content


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="it has no such clock")
def test_an_owner_that_was_suspended_does_nothing_more_before_it_has_looked(
    lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ownership, "BEAT_SECONDS", 1e6)  # its thread is not awake yet
    held = ownership.acquire(lock)
    _foreign(lock)
    held.confirm()
    real = time.clock_gettime
    monkeypatch.setattr(time, "clock_gettime", lambda clock: real(clock) + 60)
    assert _raises(held)
    held.release()


def _raises(held: ownership.Lock) -> bool:
    try:
        held.confirm()
    except StoppedError as error:
        assert str(error) == "process 7 on far?[31m has taken over"
        return True
    return False


def test_a_forked_process_is_not_the_owner(lock: Path) -> None:
    held = ownership.acquire(lock)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover - it waits until the parent is done
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    try:
        held.release()
        assert not ownership.is_held(lock)
    finally:
        os.close(writing)
        os.waitpid(child, 0)
        os.close(reading)


# ------------------------------------------------------------------------- directories

MANY = """
import itertools, pathlib, secrets, sys
from orchestrator.record.storage import store
numbers = itertools.count()
secrets.token_hex = lambda size: f"{next(numbers):04x}" if size == 2 else "00"
for _ in range(8):
    path, lock = store.new_directory(
        pathlib.Path(sys.argv[1]), "case-now", lambda root, name: (root / "name").write_text(name)
    )
    print(path.name)
"""


def test_runs_that_begin_in_the_same_second_get_different_directories(memory_path: Path) -> None:
    """Many processes that all make up the same digits."""
    command = [sys.executable, "-c", MANY, str(memory_path)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    names = [name for each in processes for name in each.communicate()[0].split()]
    assert [each.returncode for each in processes] == [0] * 4
    assert sorted(names) == [f"case-now-{number:04x}" for number in range(32)]
    assert {path.name for path in memory_path.iterdir()} == set(names)
    assert all((memory_path / name / "name").read_text() == name for name in names)


def test_runs_stay_readable_wherever_they_are_moved_and_copied(memory_path: Path) -> None:
    events = [each for each in story(loss=1e3) if not isinstance(each, Heartbeat | RunStarted)]
    done = record(memory_path / "runs", events)
    under_way = record(memory_path / "runs", events[:5])
    with store.reopen(under_way):
        shutil.copytree(memory_path / "runs", memory_path / "copied")
        copy = memory_path / "copied" / under_way.name
        assert archive.read(under_way).status == "running"
        assert archive.read(copy).status == "interrupted"
        with store.reopen(copy) as again:  # the copied lock is nobody's
            for event in events[5:]:
                again.record(event)
        (memory_path / "runs").rename(memory_path / "moved")
        assert archive.read(memory_path / "moved" / under_way.name).status == "running"
    for folder in ("moved", "copied"):
        assert archive.read(memory_path / folder / done.name).status == "passed"
    assert archive.read(copy).status == "passed"
    assert archive.read(memory_path / "moved" / under_way.name).status == "interrupted"
