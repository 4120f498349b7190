"""Moving runs and searches into the trash: a folder beside them, to move them back from."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Sequence
from pathlib import Path

from orchestrator.errors import InvalidError, Problem, RecordError
from orchestrator.record.storage import archive, ownership
from orchestrator.record.storage.directory import Paths, SearchPaths

FOLDER = ".trash"
"""Name of the folder in the folder of all runs."""


def canonical_path(directory: Path) -> Path:
    """The one absolute path of a run, however it was given; a link stays itself, not its target."""
    absolute = Path(os.path.abspath(directory))
    return absolute.parent.resolve() / absolute.name


def move_to_trash(directories: Sequence[Path]) -> list[Path]:
    """Move runs into the trash of the folder that each stands in: all, or none.

    Args:
        directories: the runs', each as `canonical_path` gives it.

    Returns:
        Where each is now.

    Raises:
        InvalidError: one is no run, is in progress, is in the trash already or cannot be moved.
    """
    for directory in directories:
        expect_idle(directory)
    moved = []
    with contextlib.ExitStack() as undo:
        # Links first: once its target is moved, a link leads nowhere and cannot be read.
        for directory in sorted(directories, key=lambda each: not each.is_symlink()):
            target = _move(directory)
            undo.callback(target.rename, directory)
            moved.append((directory, target))
        undo.pop_all()
    targets = dict(moved)
    return [targets[directory] for directory in directories]


def expect_idle(directory: Path) -> None:
    """Refuse what is no run or search, what is in progress, and what is in the trash already.

    Raises:
        InvalidError: it is one of these.
    """
    if directory.parent.name == FOLDER:
        raise _refused(directory, "is in the trash already", "delete it there to free its space")
    if not (Paths(directory).is_run() or SearchPaths(directory).is_search()):
        raise _refused(directory, "is no run: it has neither a run.json nor a journal.jsonl")
    if archive.is_owned(directory):
        raise _refused(directory, "is in progress")


def _move(directory: Path) -> Path:
    trash = directory.parent / FOLDER
    # With the lock held nobody can resume the run while it moves. A link needs none: its target
    # stays where it is.
    try:
        with contextlib.ExitStack() as held:
            if not directory.is_symlink():
                held.callback(ownership.acquire(Paths(directory).lock).release)
            trash.mkdir(exist_ok=True)
            return directory.rename(_free(trash, directory.name))
    except RecordError as error:
        raise _refused(directory, f"cannot be moved: {error}") from error
    except FileExistsError:
        message = f"cannot be moved: {trash} is no folder"
        raise _refused(directory, message, "the trash needs that name: rename the file") from None
    except OSError as error:
        raise _refused(directory, f"cannot be moved: {error.strerror}") from error


def _free(trash: Path, name: str) -> Path:
    """A path in the trash that nothing has: the name, or the name with a number behind it."""
    names = itertools.chain([name], (f"{name}.{count}" for count in itertools.count(2)))
    return next(trash / each for each in names if not os.path.lexists(trash / each))


def _refused(directory: Path, message: str, hint: str | None = None) -> InvalidError:
    return InvalidError([Problem(file=str(directory), message=message, hint=hint)])
