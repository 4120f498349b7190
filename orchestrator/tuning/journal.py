"""What happens during a search, in the order of its journal, and the search that follows from it.

As of a run, the journal is the truth, and `search.json` is derived from it with every event.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from orchestrator.errors import RecordError
from orchestrator.record.encoding import decoder
from orchestrator.record.events import Recorded
from orchestrator.record.search import (
    Arm,
    ArmRuns,
    Comparison,
    Effect,
    Search,
    SearchStatus,
    Trial,
    TrialRun,
    TrialStatus,
)
from orchestrator.record.storage import journal, ownership, store
from orchestrator.record.storage.directory import SearchPaths, write, write_json, writing
from orchestrator.tuning.trials import objective


class SearchStarted(Recorded, kw_only=True, tag="search_started"):
    """The search's directory was made."""

    search: Search
    """All that was known of it by then."""


class SearchResumed(Recorded, kw_only=True, tag="search_resumed"):
    """A search that was interrupted goes on."""

    time: str
    """UTC, ISO 8601."""


class TrialStarted(Recorded, kw_only=True, tag="trial_started"):
    """A trial was decided on; its runs are about to start."""

    trial: int
    values: dict[str, Any]


class TrialRunEnded(Recorded, kw_only=True, tag="trial_run_ended"):
    """A run of a trial counts; the next of it is of the next seed."""

    trial: int
    run: TrialRun


class TrialEnded(Recorded, kw_only=True, tag="trial_ended"):
    """The trial has its status."""

    trial: int
    status: TrialStatus
    score: float | None
    reason: str | None


class ComparisonStarted(Recorded, kw_only=True, tag="comparison_started"):
    """The trials are over, and the best is compared with the default."""

    seeds: tuple[int, ...]
    arms: tuple[Arm, ...]


class ArmRunEnded(Recorded, kw_only=True, tag="arm_run_ended"):
    """A run of an arm counts; the next of it is of the next seed."""

    arm: Arm
    run: TrialRun


class Compared(Recorded, kw_only=True, tag="compared"):
    """The comparison has its result."""

    comparison: Comparison


class SearchWarned(Recorded, kw_only=True, tag="search_warned"):
    """Something the user should know, although nothing failed."""

    message: str


class SearchEnded(Recorded, kw_only=True, tag="search_ended"):
    """The search has its status."""

    status: SearchStatus
    recommended: Literal["tuned", "default"] | None
    effects: tuple[Effect, ...]
    conclusion: str
    exit_code: int
    overhead_seconds: float


SearchEvent = (
    SearchStarted
    | SearchResumed
    | TrialStarted
    | TrialRunEnded
    | TrialEnded
    | ComparisonStarted
    | ArmRunEnded
    | Compared
    | SearchWarned
    | SearchEnded
)

_EVENT: msgspec.json.Decoder[SearchEvent] = decoder(SearchEvent)


def advance(search: Search, event: SearchEvent, *, elapsed: float) -> Search:
    """The search after one more event.

    Args:
        search: the search so far.
        event: what happened.
        elapsed: seconds since its start, over all sittings.

    Returns:
        The next record; `search` is unchanged.
    """
    search = replace(search, seconds=round(elapsed, 3))
    match event:
        case SearchStarted():
            return event.search
        case SearchResumed():
            return replace(search, status="running", conclusion=None, exit_code=None)
        case SearchWarned():
            if event.message in search.warnings:
                return search
            return replace(search, warnings=(*search.warnings, event.message))
        case TrialStarted():
            trial = Trial(trial=event.trial, values=event.values, started=round(elapsed, 3))
            return replace(search, trials=(*search.trials, trial))
        case TrialRunEnded():
            *before, trial = search.trials
            return replace(search, trials=(*before, replace(trial, runs=(*trial.runs, event.run))))
        case TrialEnded():
            *before, trial = search.trials
            ended = replace(
                trial,
                status=event.status,
                score=event.score,
                reason=event.reason,
                seconds=round(elapsed - trial.started, 3),
            )
            search = replace(search, trials=(*before, ended))
            best = objective.best(search.trials, search.objective)
            return replace(search, best_trial=None if best is None else best.trial)
        case ComparisonStarted():
            arms = tuple(ArmRuns(arm=arm) for arm in event.arms)
            return replace(search, comparison=Comparison(seeds=event.seeds, arms=arms))
        case ArmRunEnded():
            return replace(search, comparison=_with_run(search.comparison, event))
        case Compared():
            return replace(search, comparison=event.comparison)
        case SearchEnded():
            return replace(
                search,
                status=event.status,
                recommended=event.recommended,
                effects=event.effects,
                conclusion=event.conclusion,
                exit_code=event.exit_code,
                overhead_seconds=event.overhead_seconds,
            )


def _with_run(comparison: Comparison | None, event: ArmRunEnded) -> Comparison:
    if comparison is None:
        raise ValueError("the comparison has not begun")
    arms = []
    for arm in comparison.arms:
        if arm.arm == event.arm:
            runs = (*arm.runs, event.run)
            arm = replace(arm, runs=runs, score=objective.mean(runs))
        arms.append(arm)
    return replace(comparison, arms=tuple(arms))


class SearchStore:
    """Writes one search's directory; made by `create` and `reopen`.

    Args:
        paths: the names of its files.
        search: the search so far.
        journal: its journal.
        lock: its lock, held: a search in progress is one whose lock is held.
    """

    def __init__(
        self,
        paths: SearchPaths,
        search: Search,
        journal: journal.Journal,
        lock: ownership.Lock,
    ) -> None:
        self.paths = paths
        self.search = search
        self._journal = journal
        self._lock = lock
        self._start = time.monotonic() - search.seconds

    def __enter__(self) -> SearchStore:
        """The store itself; leaving gives the search up."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Give the search up."""
        self._lock.release()

    @property
    def elapsed(self) -> float:
        """Seconds since the search's start, without the time between two sittings."""
        return time.monotonic() - self._start

    def record(self, event: SearchEvent) -> Search:
        """Write an event to the journal, and then the record that follows from it."""
        self._lock.confirm()
        with writing(self.paths.root):
            entry = self._journal.append(event, elapsed=self.elapsed)
            self.search = advance(self.search, event, elapsed=entry.elapsed)
            write_json(self.paths.record, self.search)
        return self.search


def create(
    runs: Path, *, search: Search, config: bytes, resolved: str, environment: dict[str, Any]
) -> SearchStore:
    """Make a search's directory; it appears complete, by one rename.

    Args:
        runs: the folder of all runs.
        search: what is known of the search; its name is still to come.
        config: the config file as given.
        resolved: the config with every default filled in.
        environment: versions, host, arguments and the like.
    """
    now = datetime.now(UTC)
    made: list[Search] = []

    def fill(root: Path, name: str) -> None:
        paths = SearchPaths(root)
        found = replace(search, search=name, started=now.isoformat(timespec="seconds"))
        made.append(found)
        paths.runs.mkdir()
        write(paths.config, config)
        write(paths.resolved, resolved.encode())
        write_json(paths.environment, environment)
        write_json(paths.record, found)
        journal.Journal(paths.journal).append(SearchStarted(search=found), elapsed=0.0)

    prefix = f"tune-{search.name}-{now.astimezone():%Y%m%d-%H%M%S}"
    root, lock = store.new_directory(runs, prefix, fill)
    paths = SearchPaths(root)
    return SearchStore(paths, made[-1], journal.Journal(paths.journal, entries=1), lock)


def reopen(directory: Path) -> SearchStore:
    """Go on with a search where its journal ends.

    Args:
        directory: the search's.

    Returns:
        Its store, with the search as its journal tells it.

    Raises:
        RecordError: the journal cannot be read, or somebody else works on the search.
    """
    paths = SearchPaths(directory.absolute())  # the user's code may go to another folder
    lock = ownership.acquire(paths.lock)
    try:
        entries = journal.recover(paths.journal, _EVENT)
        search = replay(entries)
    except BaseException:
        lock.release()
        raise
    found = SearchStore(paths, search, journal.Journal(paths.journal, len(entries)), lock)
    found.record(SearchResumed(time=datetime.now(UTC).isoformat(timespec="seconds")))
    return found


def replay(entries: Iterable[journal.Entry[SearchEvent]]) -> Search:
    """The search that follows from a journal.

    Raises:
        RecordError: it does not begin with the search's start, or tells of what has not begun.
    """
    search: Search | None = None
    for entry in entries:
        event = entry.event
        if search is None:
            if not isinstance(event, SearchStarted):
                raise RecordError("the journal is damaged: it does not begin with the search")
            search = event.search
            continue
        try:
            search = advance(search, event, elapsed=entry.elapsed)
        except ValueError as error:
            raise RecordError(f"the journal is damaged: entry {entry.number}: {error}") from error
    if search is None:
        raise RecordError("the journal is damaged: it has no entry")
    return search
