"""A disk that is full, broken, read-only or taken away while a run is recorded."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from orchestrator.errors import RecordError, StoppedError
from orchestrator.record.events import AttemptResumed, Event, Heartbeat, RunStarted
from orchestrator.record.records import Inputs, Run
from orchestrator.record.storage import archive, journal, store
from orchestrator.record.storage.directory import Paths
from orchestrator.record.storage.store import Store
from tests.story import story

WRITING = ("open", "write", "fsync", "ftruncate", "replace", "unlink", "mkdir")
"""Calls by which anything is written in a run directory."""
ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EACCES, errno.EROFS, errno.ENOENT)


@pytest.fixture
def runs(memory_path: Path) -> Path:
    return memory_path / "runs"


def _events() -> list[Event]:
    """A run of one attempt, which goes on from a snapshot in its last phase."""
    layers = {"dense": (2, 1)}
    *before, ended, run_ended = [
        each
        for each in story(attempts=1, loss=1e3, layers=layers)
        if not isinstance(each, Heartbeat | RunStarted)
    ]
    first, second, *_, done = before[-9:]
    again = AttemptResumed(attempt=1, restarts=1, phases=2, epoch=3)
    return [*before[:-9], first, second, again, second, done, ended, run_ended]


def _create(runs: Path) -> Store:
    return store.create(
        runs,
        name="case",
        config=b"version: 1\n",
        resolved="version: 1\n",
        environment={},
        inputs=Inputs(),
        fingerprint=None,
    )


class Faults:
    """Counts the calls that write, and lets one of them fail, or all from that one on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = 0
        self._failing: Callable[[int], bool] = lambda _: False
        self._code = 0
        for name in WRITING:
            monkeypatch.setattr(os, name, self._wrapped(name, getattr(os, name)))

    def arm(self, first: int, code: int, *, lasting: bool) -> None:
        self.calls, self._code = 0, code
        self._failing = (lambda n: n >= first) if lasting else (lambda n: n == first)

    def heal(self) -> None:
        self._failing = lambda _: False

    def _wrapped(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            reading = name == "open" and not arguments[1] & (os.O_WRONLY | os.O_RDWR)
            if reading:
                return real(*arguments, **options)
            self.calls += 1
            if not self._failing(self.calls):
                return None if name == "fsync" else real(*arguments, **options)
            if name == "write":  # half of it fits
                real(arguments[0], arguments[1][: len(arguments[1]) // 2])
            path = arguments[0] if isinstance(arguments[0], str | Path) else None
            raise OSError(self._code, os.strerror(self._code), path)

        return call


def _record(made: Store, events: list[Event]) -> int:
    """Record until it cannot be done any more; how many were."""
    for count, event in enumerate(events):
        before = made.run
        try:
            made.record(event)
        except StoppedError as error:
            assert str(made.paths.root) in str(error)
            # What stands in the journal has happened, whatever was to follow from it.
            return count + (made.run is not before)
    return len(events)


def _timeless(run: Run) -> Run:
    return replace(run, run="", started=None, seconds=0.0)


def _files(root: Path) -> dict[str, str]:
    """What follows from the journal, without the times."""
    paths = [root / "run.json", *(path for path in root.glob("attempts/**/*") if path.is_file())]
    lines = {path: path.read_text().splitlines() for path in paths}
    return {
        str(path.relative_to(root)): "\n".join(
            line for line in found if not line.startswith((' "run"', ' "started"', ' "seconds"'))
        )
        for path, found in lines.items()
    }


@pytest.mark.parametrize("lasting", [True, False])
def test_whatever_call_fails_what_was_recorded_stays_and_the_run_goes_on(
    runs: Path, monkeypatch: pytest.MonkeyPatch, lasting: bool
) -> None:
    monkeypatch.setattr("orchestrator.record.storage.store._RECORD_SECONDS", 0.0)
    events = _events()
    faults = Faults(monkeypatch)
    with _create(runs) as made:
        faults.arm(0, 0, lasting=False)
        assert _record(made, events) == len(events)
        expected, files, calls = _timeless(made.run), _files(made.paths.root), faults.calls
    assert calls > 60
    shutil.rmtree(runs)
    for place, code in zip(range(1, calls + 1), itertools.cycle(ERRORS), strict=False):
        made = _create(runs)
        root = made.paths.root
        faults.arm(place, code, lasting=lasting)
        count = _record(made, events)
        faults.heal()
        made.__exit__()
        told = [entry.event for entry in journal.read(made.paths.journal)][1:]
        # A line that is whole, could not be synced and could not be taken back stays.
        assert told in (events[:count], events[: count + 1]), place
        assert len(told) == count or lasting
        found = archive.read(root)
        assert found.status in ("interrupted", expected.status)
        with store.reopen(root) as again:
            assert again.run == made.run or len(told) > count
            assert _record(again, events[len(told) :]) == len(events) - len(told)
        assert _timeless(archive.read(root)) == expected, place
        assert _files(root) == files, place
        shutil.rmtree(runs)


def test_a_line_that_could_not_be_taken_back_is_before_the_next(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = Faults(monkeypatch)
    events = _events()
    with _create(runs) as made:
        for place in (2, 3):  # the write, and the sync of a whole line
            faults.arm(place, errno.EIO, lasting=True)
            assert _record(made, events[:1]) == 0
            faults.heal()
        size = made.paths.journal.stat().st_size
        assert _record(made, events) == len(events)
        assert [e.event for e in journal.read(made.paths.journal)][1:] == events
        assert size < made.paths.journal.stat().st_size


def test_a_run_that_was_moved_away_is_not_begun_again(runs: Path) -> None:
    events = _events()
    with _create(runs) as made:
        root = made.paths.root
        assert _record(made, events[:5]) == 5
        root.rename(runs / "moved")
        with pytest.raises(StoppedError, match=r"the directory is gone: .*; put it back, or go"):
            made.record(events[5])
        with pytest.raises(StoppedError, match=r"the directory is gone"):
            made.attempt_directory(7)
        assert not root.exists()
    with store.reopen(runs / "moved") as again:
        assert _record(again, events[5:]) == len(events) - 5


def test_a_journal_that_was_deleted_does_not_begin_in_its_middle(runs: Path) -> None:
    with _create(runs) as made:
        made.paths.journal.unlink()
        with pytest.raises(StoppedError, match=r"the directory is gone: .*journal\.jsonl"):
            made.record(_events()[0])
        assert not made.paths.journal.exists()


# ------------------------------------------------------------------------- real file systems


@contextlib.contextmanager
def _as_nobody() -> Iterator[None]:
    """Without the rights of root, whom no permission stops."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_directory_whose_permission_is_lost(runs: Path) -> None:
    runs.parent.chmod(0o755)
    events = _events()
    with _create(runs) as made:
        root = made.paths.root
        assert _record(made, events[:5]) == 5
        before = made.paths.journal.read_bytes()
        paths = [root, *(path for path in root.rglob("*"))]
        modes = {path: path.stat().st_mode for path in paths}
        for path in reversed(paths):
            path.chmod(0o555 if path.is_dir() else 0o444)
        with (
            _as_nobody(),
            pytest.raises(StoppedError, match="Permission denied: .*; get back the permission"),
        ):
            made.record(events[5])
        assert made.paths.journal.read_bytes() == before
    with _as_nobody(), pytest.raises(StoppedError, match="nothing can be written there: Perm"):
        store.reopen(root)
    with _as_nobody():
        assert archive.read(root).status == "interrupted"
    for path, mode in modes.items():
        path.chmod(mode)
    with store.reopen(root) as again:
        assert _record(again, events[5:]) == len(events) - 5
    assert archive.read(root).status == "passed"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 128 KB."""
    folder = tmp_path / "small"
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", "size=128k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(["mount", *options], check=False).returncode != 0:
        pytest.skip("nothing may be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_small_disk_that_is_full(small_disk: Path) -> None:
    events = _events()
    with _create(small_disk / "runs") as made:
        root = made.paths.root
        free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
        ballast = small_disk / "ballast"
        ballast.write_bytes(bytes(free - 8_192))
        count = _record(made, events)
        assert 0 < count < len(events)
    assert archive.read(root).status == "interrupted"
    assert [e.event for e in journal.read(made.paths.journal)][1:] == events[:count]
    with pytest.raises(StoppedError, match="the disk is full: No space left on device: .*; free"):
        store.reopen(root)
    ballast.unlink()
    with store.reopen(root) as again:
        assert _record(again, events[count:]) == len(events) - count
    assert archive.read(root).status == "passed"


def test_a_disk_that_becomes_read_only(small_disk: Path) -> None:
    events = _events()
    with _create(small_disk / "runs") as made:
        root = made.paths.root
        assert _record(made, events[:5]) == 5
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StoppedError, match="Read-only file system: .*; mount the file system for"):
        store.reopen(root)
    assert archive.read(root).status == "interrupted"
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    with store.reopen(root) as again:
        assert _record(again, events[5:]) == len(events) - 5
    assert Paths(root).is_run()
    with pytest.raises(RecordError, match="cannot be read"):
        archive.read(root / "nothing")
