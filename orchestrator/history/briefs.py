"""One run in a line: what `history` lists, sorts and selects by.

What a line has more is a field of `Brief`, filled in `_brief`, and shown by an entry of
`listing.COLUMNS`. It costs what `_brief` does for it, once for each run that the cache lacks.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from orchestrator.errors import RecordError
from orchestrator.record.events import (
    AttemptResumed,
    AttemptStarted,
    EpochEnded,
    Event,
    PhaseStarted,
    RunEnded,
    RunResumed,
)
from orchestrator.record.records import Attempt, Run
from orchestrator.record.storage import archive
from orchestrator.record.storage.directory import Paths, read_file

_SUFFIX = re.compile(r"-\d{8}-\d{6}-[0-9a-f]{4}$")
"""What a run's name has after its config's."""


class Brief(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One run in a line; a struct, since ten thousand of them are made several times faster so."""

    run: str
    """Name of its directory."""
    name: str
    """Name of its config."""
    started: str | None
    """UTC, ISO 8601."""
    status: str
    """One of `records.RunStatus`."""
    attempts: int
    """How many there were."""
    failures: tuple[str, ...]
    """The checks that ended an attempt, each once, in order; `crashed` among them."""
    failed: tuple[str, ...]
    """These, and the checks that failed in the same phases without being the first."""
    remedy: str | None
    """The remedy of the attempt that passed; None where the first attempt did, or no attempt."""
    skill: float | None
    """Skill of the accepted attempt, or else of the best, or else of the last."""
    metrics: dict[str, float]
    """Keras's logged values at the last epoch of that attempt."""
    seconds: float
    """Wall-clock time."""
    screened_seeds: int
    """Candidate seeds that were looked at before training."""
    state: str | None = None
    """What a run in progress is doing."""
    recorded: bool = True
    """Whether all of this was read from `run.json`, not from the journal."""


NUMBERS = ("skill", "attempts", "seconds", "screened_seeds")
"""Fields that runs can be compared and sorted by, as by their metrics."""
TEXTS = ("started", "run", "name", "status")
"""Further fields that runs can be sorted by."""


def read_brief(directory: str | os.PathLike[str]) -> Brief:
    """The line of a run directory.

    Args:
        directory: its path; among thousands, texts are made several times faster than objects.

    Raises:
        RecordError: it is no run directory, damaged, or of a newer schema.
    """
    name = os.path.basename(directory)
    with contextlib.suppress(OSError, RecordError):
        content = read_file(os.path.join(directory, Paths.RECORD))
        brief = _brief(name, archive.parse(content, Paths.RECORD))
        # Whether a run is in progress, still or again, its record alone cannot tell.
        taken_up = brief.status == "interrupted" and archive.is_owned(Path(directory))
        if brief.status != "running" and not taken_up:
            return brief
    run = archive.read(Path(directory))
    brief = msgspec.structs.replace(_brief(name, run), recorded=False)
    if run.status != "running":
        return brief
    events = archive.events(Path(directory))
    return msgspec.structs.replace(brief, state=activity(entry.event for entry in events))


def _brief(directory: str, run: Run) -> Brief:
    """The line of a run.

    Args:
        directory: name of its directory.
        run: its record.
    """
    attempts = run.attempts
    failures, beside = _failures(attempts)
    best = run.accepted_attempt or run.best_attempt
    chosen = next((each for each in attempts if each.attempt == best), None)
    if best is None and attempts:
        chosen = attempts[-1]
    accepted = chosen is not None and run.accepted_attempt is not None
    return Brief(
        run=directory,
        name=_SUFFIX.sub("", run.run),
        status=run.status,
        started=run.started,
        attempts=len(attempts),
        failures=tuple(failures),
        failed=tuple(failures | beside),
        remedy=chosen.remedy if chosen is not None and accepted else None,
        skill=None if chosen is None else chosen.skill(),
        metrics=chosen.phases[-1].metrics if chosen is not None and chosen.phases else {},
        seconds=run.seconds,
        screened_seeds=run.screened_seeds,
    )


def _failures(attempts: Sequence[Attempt]) -> tuple[dict[str, None], dict[str, None]]:
    """The checks that ended an attempt, and all that failed in the last phase of a failed one."""
    failures: dict[str, None] = {}
    beside: dict[str, None] = {}
    for each in attempts:
        if each.failure is not None:
            failures[each.failure.check] = None
            if each.phases:
                for check in each.phases[-1].checks:
                    if check.verdict == "fail":
                        beside[check.check] = None
    return failures, beside


def activity(events: Iterable[Event]) -> str:
    """What a run in progress is doing, by all of its events."""
    state, phase, done = "starting", None, 0
    for event in events:
        match event:
            case RunResumed() | RunEnded():  # whoever takes up a run that has ended, starts again
                state, phase = "starting", None
            case AttemptStarted() | AttemptResumed():
                state, phase = f"attempt {event.attempt}, starting", None
            case PhaseStarted():
                phase, done = event, event.done
            case EpochEnded():
                done += 1
    if phase is None:
        return state
    return f"attempt {phase.attempt}, {phase.phase} {done}/{phase.epochs}"
