"""One run in a line, read from as little of its record as that takes."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import msgspec

from orchestrator.errors import RecordError
from orchestrator.record import files, outlines
from orchestrator.record.directory import Paths
from orchestrator.record.events import EpochEnded, Event, PhaseStarted
from orchestrator.record.records import INIT, Run, jsonable, numbers

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
        brief = quick(directory, files.read(record))
    except (OSError, RecordError):
        return None
    return None if brief.status == "running" else brief


def derived(directory: Path) -> Brief:
    """The line of a run in progress, or of one whose `run.json` cannot be read.

    Raises:
        RecordError: it is no run directory, damaged, or of a newer schema.
    """
    # Pydantic takes longer to import than a thousand lines to read, and is seldom needed.
    from orchestrator.record import archive  # noqa: PLC0415

    run = archive.read(directory)
    brief = quick(directory.name, msgspec.json.encode(jsonable(run)))
    brief = msgspec.structs.replace(brief, recorded=False)
    if run.status != "running":
        return brief
    events = [entry.event for entry in archive.events(directory)]
    return msgspec.structs.replace(brief, state=state(run, events))


def quick(directory: str, content: bytes) -> Brief:
    """The line that follows from the content of a `run.json`.

    Args:
        directory: name of the run directory.
        content: the file's.

    Raises:
        RecordError: the content does not match the record's schema.
    """
    record = outlines.decode(content)
    attempts = record.attempts
    failures, beside = _failures(attempts)
    accepted, best = record.accepted_attempt, record.accepted_attempt or record.best_attempt
    order = [each.attempt for each in attempts]
    for number in (accepted, record.best_attempt):
        if number is not None and number not in order:
            raise RecordError(f"there is no attempt {number}")
    chosen = attempts[-1 if best is None else order.index(best)] if attempts else None
    last = chosen.phases[-1] if chosen is not None and chosen.phases else None
    return Brief(
        run=directory,
        name=_SUFFIX.sub("", record.run),
        status=record.status,
        started=record.started,
        attempts=len(attempts),
        failures=tuple(failures),
        failed=tuple(failures | beside),
        remedy=chosen.remedy if chosen is not None and accepted is not None else None,
        skill=None if last is None or last.phase == INIT else _skill(last),
        metrics={} if last is None else numbers(last.metrics),
        seconds=record.seconds,
        screened_seeds=record.screened_seeds,
    )


def _failures(attempts: Sequence[outlines.Attempt]) -> tuple[dict[str, None], dict[str, None]]:
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


def _skill(phase: outlines.Phase) -> float | None:
    """Lowest skill of the outputs, as `records.Attempt.skill`."""
    skills = [output.skill for check in phase.checks for output in check.measured.outputs]
    if any(isinstance(skill, str) for skill in skills):  # "NaN" and the like
        return None
    return min((skill for skill in skills if isinstance(skill, float)), default=None)


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
