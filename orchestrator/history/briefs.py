"""One run in a line, read from as little of its record as that takes."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import msgspec

from orchestrator.errors import RecordError
from orchestrator.record import archive, files
from orchestrator.record.directory import Paths
from orchestrator.record.events import EpochEnded, Event, PhaseStarted
from orchestrator.record.records import Attempt, Run

_SUFFIX = re.compile(r"-\d{8}-\d{6}-[0-9a-f]{4}$")
"""What a run's name has after its config's."""


class Brief(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One run in a line; made for many at once, so without what a dataclass costs."""

    run: str
    """Name of its directory."""
    name: str
    """Name of its config."""
    status: str
    """One of `records.RunStatus`."""
    started: str | None
    """UTC, ISO 8601."""
    attempts: int
    """How many there were."""
    failures: tuple[str, ...]
    """The checks that attempts ended by, each once, in order; `crashed` among them."""
    failed: tuple[str, ...]
    """These, and the checks that failed beside them."""
    remedy: str | None
    """The remedy of the attempt that passed; None where the first did, or none."""
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
    """Whether `run.json` alone gave all of this."""


def read(directory: Path) -> Brief:
    """The line of a run directory.

    Raises:
        RecordError: it is no run directory, damaged, or of a newer schema.
    """
    record = os.path.join(directory, Paths.RECORD)
    return recorded(directory.name, record) or derived(directory)


def recorded(directory: str, record: str) -> Brief | None:
    """The line that `run.json` alone gives; None where another file has a say in it.

    Args:
        directory: name of the run directory.
        record: path of the file.
    """
    try:
        brief = line(directory, archive.parse(files.read(record), Paths.RECORD))
    except (OSError, RecordError):
        return None
    return None if brief.status == "running" else brief


def derived(directory: Path) -> Brief:
    """The line of a run in progress, or of one whose `run.json` cannot be read.

    Raises:
        RecordError: it is no run directory, damaged, or of a newer schema.
    """
    run = archive.read(directory)
    brief = msgspec.structs.replace(line(directory.name, run), recorded=False)
    if run.status != "running":
        return brief
    events = [entry.event for entry in archive.events(directory)]
    return msgspec.structs.replace(brief, state=state(run, events))


def line(directory: str, run: Run) -> Brief:
    """The line of a run.

    Args:
        directory: name of the run directory.
        run: what it records.
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
    """The checks that attempts ended by, and those that failed in the last phase of one."""
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


def state(run: Run, events: Sequence[Event]) -> str:
    """What a run in progress is doing."""
    if not run.attempts:
        return "starting"
    number = run.attempts[-1].attempt
    starts = [index for index, event in enumerate(events) if isinstance(event, PhaseStarted)]
    phase = events[starts[-1]] if starts else None
    if not isinstance(phase, PhaseStarted) or phase.attempt != number:
        return f"attempt {number}, starting"
    done = sum(isinstance(event, EpochEnded) for event in events[starts[-1] :])
    return f"attempt {number}, {phase.phase} {done}/{phase.epochs}"
