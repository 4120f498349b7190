"""All runs of a folder, which of them are wanted, and the run that a name stands for."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from pathlib import Path

from orchestrator.errors import InvalidError, Problem, RecordError, closest
from orchestrator.history import briefs
from orchestrator.history.briefs import Brief
from orchestrator.history.index import Index, stamp
from orchestrator.record.directory import Paths

LATEST = "latest"
"""The name that stands for the run that began last."""

_UNFINISHED = ("running", "interrupted")
"""These can change with no change of the run's record: a process ends, or takes it up again."""
_NAMED = 5
"""Runs that an error names."""

UNREADABLE = (RecordError, OSError, ValueError, TypeError, ArithmeticError, RecursionError)
"""What may come of reading anything at all; one directory must not hide the others."""


@dataclasses.dataclass(frozen=True, slots=True)
class Unreadable:
    """A directory that is no run, or one that cannot be read."""

    directory: str
    """Its name."""
    reason: str
    """Why, in one clause."""


@dataclasses.dataclass(frozen=True, slots=True)
class History:
    """All runs of a folder."""

    runs: tuple[Brief, ...]
    """Newest first."""
    unreadable: tuple[Unreadable, ...]
    """By name."""


def read(runs: Path, *, cached: bool = True) -> History:
    """Read every run of a folder.

    Args:
        runs: the folder; one that does not exist has no runs.
        cached: use the folder's cache, and bring it up to date.
    """
    index = Index(runs) if cached else None
    found: list[Brief] = []
    unreadable: list[Unreadable] = []
    for name in names(runs):
        try:
            found.append(_read(runs, name, index))
        except UNREADABLE as error:
            unreadable.append(Unreadable(name, why(error)))
    if index is not None:
        index.save()
    found.sort(key=lambda brief: (brief.started or "", brief.run), reverse=True)
    return History(tuple(found), tuple(unreadable))


def why(error: Exception) -> str:
    """What one of `UNREADABLE` says, in one clause."""
    if isinstance(error, RecordError):
        return str(error)
    told = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
    return f"cannot be read: {told}"


def names(runs: Path) -> list[str]:
    """Names of the directories that may be runs, in order; what starts with a dot is none."""
    try:
        with os.scandir(runs) as entries:
            return sorted(
                entry.name for entry in entries if entry.name[0] != "." and _is_directory(entry)
            )
    except FileNotFoundError:
        return []


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle, or to where nobody may look
        return True


def find(runs: Path, text: str, *, suggest: bool = True) -> Path:
    """The directory of the run that a name stands for.

    Args:
        runs: the folder of all runs.
        text: a run's name, an unambiguous prefix of it, `latest`, or its directory.
        suggest: name the run that a misspelt name may mean.

    Raises:
        InvalidError: no run is meant by it, or several are.
    """
    if not text:
        raise _unknown("RUN", "expected a run's name, received an empty one")
    known = names(runs)
    if text in known:
        return runs / text
    if os.path.isdir(text):
        directory = Path(text)
        if Paths(directory).is_run():
            # What has no name of its own, as `.` and `..`, has one elsewhere.
            return directory if directory.name not in ("", "..") else directory.resolve()
        if os.sep in text:
            raise _unknown(text, "is no run: it has neither a run.json nor a journal.jsonl")
    if text == LATEST:
        found = read(runs).runs
        if not found:
            raise _unknown(text, f"there are no runs in {runs}")
        return runs / found[0].run
    matches = [name for name in known if name.startswith(text)]
    if len(matches) > 1:  # what only stands beside the runs makes none of them ambiguous
        matches = [name for name in matches if Paths(runs / name).is_run()] or matches
    if len(matches) == 1:
        return runs / matches[0]
    if matches:
        listed = ", ".join(matches[-_NAMED:])
        rest = f" and {len(matches) - _NAMED} more" if len(matches) > _NAMED else ""
        raise _unknown(text, f"{len(matches)} runs begin so: {listed}{rest}", "give more of it")
    if not known:
        raise _unknown(text, f"there are no runs in {runs}", "--runs-dir names another folder")
    match = closest(text, known) if suggest else None
    hint = f"did you mean {match!r}?" if match else "`orchestrate history` lists them"
    raise _unknown(text, f"there is no such run in {runs}", hint)


def find_whole(runs: Path, text: str, *, suggest: bool = True) -> Path:
    """As `find`, where no attempt can be meant.

    Raises:
        InvalidError: as `find`; or one is meant.
    """
    name, at, number = text.rpartition("@")
    try:
        return find(runs, text, suggest=suggest)
    except InvalidError:
        if not at or not number.isdecimal():
            raise
        find(runs, name, suggest=suggest)
        message = "expected a whole run, received one of its attempts"
        raise _unknown(text, message, f"leave out the @{number}") from None


def find_attempt(runs: Path, text: str) -> tuple[Path, int | None]:
    """The run's directory and the attempt's number that `RUN` or `RUN@ATTEMPT` stand for.

    Raises:
        InvalidError: there is no such run, or what follows the `@` is no number.
    """
    name, at, number = text.rpartition("@")
    if not at or os.path.isdir(runs / text) or os.path.isdir(text):
        return find(runs, text), None
    if not number.isdecimal():
        if any(known.startswith(text) for known in names(runs)):
            return find(runs, text), None
        raise _unknown(text, f"expected a number after the @, received {number!r}")
    return find(runs, name), int(number)


def _unknown(text: str, message: str, hint: str | None = None) -> InvalidError:
    return InvalidError([Problem(file=text, message=message, hint=hint)])


def _read(runs: Path, name: str, index: Index | None) -> Brief:
    # Thousands of paths as texts are made several times faster than as objects.
    record = os.path.join(runs, name, Paths.RECORD)
    found = None
    if index is not None:
        with contextlib.suppress(OSError):
            found = stamp(os.stat(record))
        if found is not None and (known := index.get(name, found)) is not None:
            return known
    brief = briefs.recorded(name, record)
    if brief is None:  # the stamp is not of the file that the line is from
        return briefs.derived(runs / name)
    if index is not None and found is not None and brief.status not in _UNFINISHED:
        index.put(brief, found)
    return brief
