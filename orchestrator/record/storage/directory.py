"""A run directory: its file names, which no other code knows, and the content of its files."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from orchestrator.errors import RecordError, StoppedError, unwritable
from orchestrator.record.encoding import document

_BINARY: int = getattr(os, "O_BINARY", 0)
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _BINARY
"""A pipe is opened without waiting for who writes into it."""


AS_CONFIGURED = "as_configured"
"""What stands where the remedy of another attempt does, for the first."""


class Paths:
    """Every file name of a run directory.

    Args:
        root: the run directory.
    """

    RECORD = "run.json"

    def __init__(self, root: Path) -> None:
        self.root = root
        self.record = root / self.RECORD
        self.config = root / "config.yaml"
        self.resolved = root / "resolved.yaml"
        self.environment = root / "environment.json"
        self.journal = root / "journal.jsonl"
        self.lock = root / ".lock"
        self.race = root / ".race"
        self.model = root / "model.keras"
        self.model_weights = root / "model.weights.h5"
        self.attempts = root / "attempts"

    def is_run(self) -> bool:
        """Whether the directory has what every run directory has; a search has a journal, too."""
        return os.path.isfile(self.record) or (
            os.path.isfile(self.journal) and not SearchPaths(self.root).is_search()
        )

    def attempt(self, number: int) -> AttemptPaths:
        """The names inside one attempt's directory."""
        return AttemptPaths(self.attempts / f"{number:03d}")


def run_of(file: Path) -> Path | None:
    """The run directory that a file lies in, itself or in that of an attempt; None where in none.

    Args:
        file: an absolute path.
    """
    for paths in map(Paths, file.parents[:3]):
        inside = file.parent == paths.root or file.parent.parent == paths.attempts
        if inside and paths.is_run():
            return paths.root
    return None


class Place(NamedTuple):
    """How far an attempt has come, or how far its record goes; a later place is greater."""

    phases: int
    """Phases that are finished, `init` among them."""
    epoch: int
    """Epochs that are finished, over all phases."""
    step: int = 0
    """Steps of the next epoch that are done."""


class AttemptPaths:
    """Every file name of an attempt's directory.

    Args:
        root: the attempt's directory.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.record = root / "attempt.json"
        self.evidence = root / "checks"
        self.epochs = root / "epochs.csv"
        self.log = root / "log.txt"
        self.checkpoint = root / "checkpoint.keras"
        self.checkpoint_weights = root / "checkpoint.weights.h5"
        self.result = root / ".model.keras"
        self.result_weights = root / ".model.weights.h5"

    def board(self, remedy: str | None) -> Path:
        """The folder of TensorBoard's files, which names attempts by their folders.

        Args:
            remedy: the change from the attempt before it; None for the first.
        """
        return self.root / "tensorboard" / (remedy or AS_CONFIGURED)

    def snapshot(self, place: Place) -> Path:
        """The file of the snapshot at a place."""
        return self.root / f".snapshot-{place.phases:03d}-{place.epoch:07d}-{place.step:09d}.npz"

    def snapshots(self) -> list[tuple[Place, Path]]:
        """Those that are there, the newest first."""
        found = []
        for path in self.root.glob(".snapshot-*-*-*.npz"):
            parts = path.stem.removeprefix(".snapshot-").split("-")
            if len(parts) == 3 and all(part.isdecimal() for part in parts):
                found.append((Place(*map(int, parts)), path))
        return sorted(found, reverse=True)

    def unfinished(self) -> list[Path]:
        """What a worker that was killed has left of files that it was writing."""
        return [*self.root.glob(".*.new.*")]

    def checks(self, index: int, phase: str) -> Path:
        """The evidence of one phase; `index` is 0 for phase `init`."""
        return self.evidence / f"{index:02d}-{phase}.json"


class SearchPaths:
    """Every file name of a search's directory.

    Args:
        root: the search's directory.
    """

    RECORD = "search.json"
    RUNS = "runs"

    def __init__(self, root: Path) -> None:
        self.root = root
        self.record = root / self.RECORD
        self.config = root / "config.yaml"
        self.resolved = root / "resolved.yaml"
        self.environment = root / "environment.json"
        self.journal = root / "journal.jsonl"
        self.lock = root / ".lock"
        self.oracle = root / "oracle"
        self.runs = root / self.RUNS
        self.tuned = root / "tuned.yaml"
        self.picture = root / "cost.svg"

    def is_search(self) -> bool:
        """Whether the directory records a search."""
        return os.path.isfile(self.record)


def entries(root: Path) -> Iterator[os.DirEntry[str]]:
    """Everything below a folder, however deep; links are among it, and are not followed."""
    folders = [os.fspath(root)]
    while folders:
        with contextlib.suppress(OSError), os.scandir(folders.pop()) as found:
            for entry in found:
                yield entry
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)


def expect_own(root: Path) -> None:
    """Refuse to write a run directory of which a part lies elsewhere, where it would be changed.

    Raises:
        RecordError: something in it is a link.
    """
    for entry in entries(root):
        if entry.is_symlink():
            name = os.path.relpath(entry.path, root)
            raise RecordError(
                f"{name} is a link, and what it leads to would be changed or deleted: "
                "put a copy in its place"
            )


def read_file(path: str | os.PathLike[str], start: int = 0) -> bytes:
    """The content of a regular file; in half the time of `open`, which asks the system for more.

    Args:
        path: the file.
        start: bytes to leave out at its beginning.

    Raises:
        OSError: it cannot be read, or is a pipe, a device or a folder, which may have no end.
    """
    descriptor = os.open(path, _FLAGS)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        if start:
            os.lseek(descriptor, start, os.SEEK_SET)
        # Once more than its size, for a file that grows meanwhile.
        block = max(found.st_size - start, 0) + 1
        content = os.read(descriptor, block)
        while len(content) >= block and (more := os.read(descriptor, block)):
            content += more
        return content
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any, *, sync: bool = True) -> None:
    """Replace a file by a JSON document, by one rename."""
    write(path, document(value), sync=sync)


def write(path: Path, content: bytes, *, sync: bool = True) -> None:
    """Replace a file by one rename; readers see the old content or the new."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _BINARY, 0o644)
        try:
            write_all(descriptor, content, sync=sync)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    if sync:
        sync_directory(path.parent)


def append(path: Path, content: bytes) -> None:
    """Add to a file; half of it may stand there after an error."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | _BINARY)
    try:
        write_all(descriptor, content, sync=False)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, content: bytes, *, sync: bool) -> None:
    """Write to an open file, and to the disk where `sync` says so."""
    while content:
        content = content[os.write(descriptor, content) :]
    if sync:
        os.fsync(descriptor)


def cut(path: Path, size: int) -> None:
    """Take away what a file has beyond a size, durably."""
    descriptor = os.open(path, os.O_WRONLY | _BINARY)
    try:
        if os.fstat(descriptor).st_size > size:
            os.ftruncate(descriptor, size)
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(path: Path) -> None:
    """Make renames in a directory durable, where the platform can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Say what it means that a folder cannot be written any more, and what to do.

    How to go on afterwards is said by whoever shows the run or the search that was cut short.

    Args:
        folder: where everything is written inside of this.

    Raises:
        StoppedError: the disk is full or broken, or the folder is gone or may not be written.
    """
    try:
        yield
    except OSError as error:
        told = unwritable(error, folder=str(folder))
        if told is None:
            raise
        raise StoppedError(told) from error
