"""Taking runs away, so that they can be put back: a folder beside them, one rename each."""

from __future__ import annotations

import itertools
from pathlib import Path

import filelock

from orchestrator.errors import InvalidError, Problem
from orchestrator.paths import Paths

FOLDER = ".trash"
"""Name of the folder in the folder of all runs."""


def discard(directory: Path) -> Path:
    """Move a run into the trash of its folder.

    Args:
        directory: the run's.

    Returns:
        Where it is now.

    Raises:
        InvalidError: it is no run, it is in progress, or it cannot be moved.
    """
    expect_idle(directory)
    lock = filelock.FileLock(Paths(directory).lock)
    try:
        # Held, so that nobody takes the run up while it moves.
        with lock.acquire(timeout=0):
            trash = directory.resolve().parent / FOLDER
            trash.mkdir(exist_ok=True)
            target = _free(trash, directory.resolve().name)
            directory.resolve().rename(target)
            return target
    except filelock.Timeout:
        raise _refused(directory, "is in progress") from None
    except OSError as error:
        raise _refused(directory, f"cannot be moved: {error.strerror}") from error


def expect_idle(directory: Path) -> None:
    """Refuse what is no run, and a run that somebody works on.

    Raises:
        InvalidError: it is such.
    """
    from orchestrator import archive  # noqa: PLC0415 - pydantic, where it is needed

    if not Paths(directory).is_run():
        raise _refused(directory, "is no run: it has neither a run.json nor a journal.jsonl")
    if archive.is_owned(directory):
        raise _refused(directory, "is in progress")


def _free(trash: Path, name: str) -> Path:
    """A name in the trash that nothing has."""
    names = itertools.chain([name], (f"{name}.{count}" for count in itertools.count(2)))
    return next(trash / each for each in names if not (trash / each).exists())


def _refused(directory: Path, message: str) -> InvalidError:
    return InvalidError([Problem(file=str(directory), message=message)])
