"""All runs and searches of a folder, and what a name stands for: a run, an attempt, a search."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

from orchestrator.errors import InvalidError, Problem, RecordError, closest
from orchestrator.history.briefs import Brief, read_brief
from orchestrator.history.index import Index, stamp
from orchestrator.record.records import Run
from orchestrator.record.search import Search
from orchestrator.record.search import read as read_search
from orchestrator.record.storage import archive
from orchestrator.record.storage.directory import Paths, SearchPaths

LATEST = "latest"
"""The name that stands for the run that began last; where a search may be meant, for whichever of
both began last."""

_UNFINISHED = ("running", "interrupted")
"""Statuses that can change without a change of `run.json`: by a process that ends, or resumes."""
_NAMED = 5
"""How many runs an error names at most."""

UNREADABLE = (
    RecordError, OSError, ValueError, TypeError, LookupError, ArithmeticError, RecursionError,
)  # fmt: skip
"""Errors that reading foreign files may raise; one bad directory must not hide the others."""


@dataclasses.dataclass(frozen=True, slots=True)
class Unreadable:
    """A directory that is no run, or one that cannot be read."""

    directory: str
    """Its name."""
    reason: str
    """Why, in one clause."""


@dataclasses.dataclass(frozen=True, slots=True)
class FoundSearch:
    """A search and where it is."""

    directory: str
    """Name of its directory."""
    search: Search
    """Its record."""


@dataclasses.dataclass(frozen=True, slots=True)
class History:
    """All runs and searches of a folder; the runs within a search are not among them."""

    runs: tuple[Brief, ...]
    """Newest first."""
    unreadable: tuple[Unreadable, ...]
    """By name."""
    searches: tuple[FoundSearch, ...] = ()
    """Newest first."""


def read_history(runs: Path, *, cached: bool = True) -> History:
    """Read every run of a folder.

    Args:
        runs: the folder; one that does not exist has no runs.
        cached: use the folder's cache, and bring it up to date.

    Raises:
        InvalidError: the folder cannot be read.
    """
    index = Index(runs) if cached else None
    found: list[Brief] = []
    searches: list[FoundSearch] = []
    unreadable: list[Unreadable] = []
    for name in run_names(runs):
        try:
            each = _read(runs, name, index)
            if isinstance(each, Brief):
                found.append(each)
            else:
                searches.append(each)
        except UNREADABLE as error:
            unreadable.append(Unreadable(name, reason_of(error)))
    if index is not None:
        index.save()
    found.sort(key=lambda brief: (brief.started or "", brief.run), reverse=True)
    searches.sort(key=lambda each: (each.search.started or "", each.directory), reverse=True)
    return History(tuple(found), tuple(unreadable), tuple(searches))


def reason_of(error: Exception) -> str:
    """What one of `UNREADABLE` says, in one clause."""
    if isinstance(error, RecordError):
        return str(error)
    told = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
    return f"cannot be read: {told}"


def run_names(runs: Path) -> list[str]:
    """Names of the directories that may be runs, in order; what starts with a dot is none.

    Raises:
        InvalidError: the folder cannot be read.
    """
    try:
        with os.scandir(runs) as entries:
            return sorted(
                entry.name for entry in entries if entry.name[0] != "." and _is_directory(entry)
            )
    except FileNotFoundError:
        return []
    except OSError as error:
        message, hint = f"cannot be read: {error.strerror}", "--runs-dir names another folder"
        raise InvalidError([Problem(file=str(runs), message=message, hint=hint)]) from error


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle, or to where nobody may look
        return True


def find_run(runs: Path, text: str, *, suggest: bool = True) -> Path:
    """The directory of the run that a name stands for.

    Args:
        runs: the folder of all runs.
        text: a run's name, an unambiguous prefix of it, `latest`, or its directory; for a run
            within a search `SEARCH/runs/RUN`.
        suggest: name the run that a misspelt name may mean.

    Raises:
        InvalidError: no run is meant by it, or several are, or a search.
    """
    found = _find(runs, text, suggest=suggest, searches=False)
    if SearchPaths(found).is_search():
        hint = f"`orchestrate show {text}` shows it; its runs go by {text}/runs/RUN"
        raise _unknown(text, "expected a run, received a search, which holds runs", hint)
    return found


def find_entry(runs: Path, text: str, *, suggest: bool = True) -> Path:
    """As `find_run`, where a search may be meant as well.

    Raises:
        InvalidError: neither is meant by it, or several are.
    """
    return _find(runs, text, suggest=suggest, searches=True)


def find_search(runs: Path, text: str) -> Path | None:
    """The directory of the search that a name stands for; None where it stands for none."""
    with contextlib.suppress(InvalidError):
        found = find_entry(runs, text)
        if SearchPaths(found).is_search():
            return found
    return None


def _find(runs: Path, text: str, *, suggest: bool, searches: bool) -> Path:
    if not text:
        raise _unknown("RUN", "expected a run's name, received an empty one")
    # Many runs may be asked for by name, and listing their folder takes long.
    if text[0] != "." and os.sep not in text and os.path.isdir(runs / text):
        return runs / text
    if os.path.isdir(text):
        directory = Path(text)
        if _is_entry(directory):
            # What has no name of its own, as `.` and `..`, has one elsewhere.
            return directory if directory.name not in ("", "..") else directory.resolve()
        if os.sep in text:
            raise _unknown(text, "is no run: it has neither a run.json nor a journal.jsonl")
    outer, within, inner = text.rstrip(os.sep).partition(f"{os.sep}{SearchPaths.RUNS}{os.sep}")
    if within and (search := find_search(runs, outer)) is not None:
        return _find(SearchPaths(search).runs, inner, suggest=suggest, searches=False)
    if text == LATEST:
        return _latest(runs, searches=searches)
    known = run_names(runs)
    if text in known:  # a link in a circle, which is no directory
        return runs / text
    matches = [name for name in known if name.startswith(text)]
    if len(matches) > 1:  # what only stands beside the runs makes none of them ambiguous
        matches = [name for name in matches if _is_entry(runs / name)] or matches
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


def _is_entry(directory: Path) -> bool:
    return Paths(directory).is_run() or SearchPaths(directory).is_search()


def _latest(runs: Path, *, searches: bool) -> Path:
    """The run that began last, or the search, where one may be meant."""
    history = read_history(runs)
    found = [(brief.started or "", brief.run) for brief in history.runs[:1]]
    if searches:
        found += [(each.search.started or "", each.directory) for each in history.searches[:1]]
    if not found:
        raise _unknown(LATEST, f"there are no runs in {runs}")
    return runs / max(found)[1]


def find_whole_run(runs: Path, text: str, *, suggest: bool = True, searches: bool = False) -> Path:
    """As `find_run`, or `find_entry` where a search may be meant, but no attempt.

    Raises:
        InvalidError: as these; or one is meant.
    """
    name, at, number = text.rpartition("@")
    find = find_entry if searches else find_run
    try:
        return find(runs, text, suggest=suggest)
    except InvalidError:
        if not at or not number.isdecimal():
            raise
        find_run(runs, name, suggest=suggest)
        message = "expected a whole run, received one of its attempts"
        raise _unknown(text, message, f"leave out the @{number}") from None


def find_attempt(runs: Path, text: str) -> tuple[Path, int | None]:
    """The run's directory and the attempt's number that `RUN` or `RUN@ATTEMPT` stand for.

    Raises:
        InvalidError: there is no such run, or what follows the `@` is no number.
    """
    name, at, number = text.rpartition("@")
    if not at or os.path.isdir(runs / text) or os.path.isdir(text):
        return find_run(runs, text), None
    if not number.isdecimal():
        if any(known.startswith(text) for known in run_names(runs)):
            return find_run(runs, text), None
        raise _unknown(text, f"expected a number after the @, received {number!r}")
    return find_run(runs, name), int(number)


def read_attempt(runs: Path, text: str) -> tuple[Path, Run, int | None]:
    """The record of the run that `RUN` or `RUN@ATTEMPT` stand for.

    Args:
        runs: the folder of all runs.
        text: what was given.

    Returns:
        The run's directory, its record, and the number of the attempt; None for the whole run.

    Raises:
        InvalidError: there is no such run or attempt, or the record cannot be read.
    """
    directory, number = find_attempt(runs, text)
    with naming(directory):
        run = archive.read(directory)
    if number is not None and not any(attempt.attempt == number for attempt in run.attempts):
        count = len(run.attempts)
        has = f"it has attempts 1 to {count}" if count > 1 else f"it has {count or 'no'} attempt"
        raise _unknown(text, f"there is no attempt {number}; {has}")
    return directory, run, number


@contextlib.contextmanager
def naming(directory: Path) -> Iterator[None]:
    """Name the directory in an error about what is read from it.

    Raises:
        InvalidError: something in the directory could not be read.
    """
    try:
        yield
    except RecordError as error:
        raise InvalidError([Problem(file=str(directory), message=str(error))]) from error


def _unknown(text: str, message: str, hint: str | None = None) -> InvalidError:
    return InvalidError([Problem(file=text, message=message, hint=hint)])


def _read(runs: Path, name: str, index: Index | None) -> Brief | FoundSearch:
    """The line of a run, from the cache where that has it; or a search."""
    directory = os.path.join(runs, name)
    found = None
    with contextlib.suppress(OSError):
        found = stamp(os.stat(os.path.join(directory, Paths.RECORD)))
    if found is None and SearchPaths(path := Path(directory)).is_search():
        return FoundSearch(name, read_search(path))
    if index is not None and found is not None and (known := index.get(name, found)) is not None:
        return known
    brief = read_brief(directory)
    # A line that comes from the journal does not follow from the file with that stamp.
    cacheable = brief.recorded and brief.status not in _UNFINISHED
    if index is not None and found is not None and cacheable:
        index.put(brief, found)
    return brief
