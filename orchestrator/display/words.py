"""What is recorded, in words: why an attempt was restarted, what was changed, how it ended.

Each sentence about a run stands here once, whether the terminal, a log or a table shows it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from orchestrator.record.checks import (
    AnyCheck,
)
from orchestrator.record.events import (
    AttemptStarted,
    Doing,
    ReadingProgress,
    ScreeningProgress,
    SeedsScreened,
)
from orchestrator.record.records import Attempt, Failure, Finding, Run, Settings

STYLES = {"pass": "green", "warn": "yellow", "fail": "bold red", "not_applicable": "dim"}
"""The style, in rich's words, of each verdict."""
VERDICTS = {"pass": "pass", "warn": "warn", "fail": "fail", "not_applicable": "n/a"}
"""Each verdict in at most four letters."""


def restart_sentence(event: AttemptStarted, *, reason: bool = True) -> str:
    """Why there is another attempt and what is different in it, in one sentence.

    Args:
        event: the start of the other attempt.
        reason: repeat the reason that the failed check gave.
    """
    cause = event.cause
    if cause is None:
        return ""
    why = f": {cause.reason}" if reason else ""
    return (
        f"Attempt {event.attempt - 1} {_how(cause)}{why}; "
        f"restarting by {event.remedy} with {_changed(event.changed) or 'the same settings'}."
    )


def reading(progress: ReadingProgress) -> str:
    """How far the reading of rows has come."""
    if not progress.batches:
        return f"reading rows: waiting for {progress.what}"
    return (
        f"reading rows: {progress.rows:,} in {progress.batches:,} batches of {progress.what}, "
        f"{progress.megabytes:,.1f} MB, {duration(progress.seconds)}"
    )


def stalled(awaited: ReadingProgress, patience: float) -> tuple[str, str]:
    """That rows did not come in time, and what to do.

    Args:
        awaited: how far the reading had come.
        patience: seconds that were waited since.
    """
    batches = f"{awaited.batches:,} batch{'es' * (awaited.batches != 1)}"
    given = f" after {awaited.rows:,} rows in {batches}" if awaited.batches else ""
    return (
        f"{awaited.what} gave no batch for {patience:g} s{given}",
        "look for what it waits for, or raise stall_timeout where it needs so long",
    )


def finding_line(finding: Finding) -> str:
    """What the evidence on a failure points to, as a line below it."""
    return f"  the evidence points to: {finding.reason}"


def screening(report: ScreeningProgress) -> str:
    """How many seeds were looked at."""
    return f"screening seeds: {report.seeds} of at most {report.limit}"


def doing(report: Doing) -> str:
    """What a worker does, and behind a colon how far it has come."""
    return f"{report.what}: {report.detail}" if report.detail else report.what


def screening_sentence(event: SeedsScreened) -> str:
    """Which of several candidate seeds was chosen, in one sentence."""
    count = len(event.candidates)
    if event.candidates[-1].reason is None:
        return f"seed {event.seed} is the first of {count} whose untrained network is not dead"
    return f"none of {count} seeds gives a network that is not dead: {event.candidates[0].reason}"


def last_sentence(run: Run) -> str:
    """How the last attempt ended and the run with it, in one sentence."""
    attempt, failure = run.attempts[-1], run.attempts[-1].failure
    if attempt.status == "passed":
        skill = attempt.skill()
        worth = "" if skill is None else f", skill {skill:.3g}"
        return f"Attempt {attempt.attempt} passed{worth}."
    if failure is None:
        return f"Attempt {attempt.attempt} {run.status}: {run.conclusion}."
    conclusion = run.conclusion or ""
    end = run.status if failure.reason == conclusion else f"{run.status}: {conclusion}"
    # Where nothing is known of the cause, the conclusion tells the reason.
    why = "" if failure.reason != conclusion and failure.reason in conclusion else failure.reason
    return f"Attempt {attempt.attempt} {_how(failure)}{why and ': '}{why}; {end}."


def _how(failure: Failure) -> str:
    if failure.check == "crashed":
        return "crashed"
    return f"failed {failure.check} after phase {failure.phase}"


def change(attempt: Attempt) -> str:
    """The remedy of an attempt and the settings that it changed."""
    if attempt.remedy is None:
        return f"as configured: seed {attempt.settings.seed}"
    return f"{attempt.remedy}: {_changed(attempt.changed)}"


def short_change(attempt: Attempt, *, seed: bool = False) -> str:
    """What is different in an attempt, short enough for a narrow line.

    Args:
        attempt: the attempt.
        seed: name the seed too, although nearly every remedy changes it.
    """
    if attempt.remedy is None:
        return f"as configured: seed {attempt.settings.seed}" if seed else "as configured"
    told = {name: each for name, each in attempt.changed.items() if seed or name != "seed"}
    brief = _changed(told, narrow=True)
    return f"{attempt.remedy}: {brief}" if brief else attempt.remedy


def outcome(attempt: Attempt) -> str:
    """How an attempt ended, in a few words."""
    failure = attempt.failure
    if failure is None:
        return attempt.status
    what = "" if failure.check == "crashed" else f" {failure.check}"
    where = "" if failure.phase is None else f" at {failure.phase}"
    return f"{attempt.status}{what}{where}"


def _changed(changed: Mapping[str, Mapping[str, Any]], *, narrow: bool = False) -> str:
    parts = []
    for name, templates in Settings.WORDS.items():
        if name not in changed:
            continue
        value = changed[name]["to"]
        if value is None:
            parts.append(f"{name} taken back")
        else:
            shown = f"{value:g}" if isinstance(value, float) else value
            parts.append(templates[narrow].format(shown))
    return ", ".join(parts)


def losses(metrics: Mapping[str, float]) -> str:
    """Loss and validation loss as one clause."""
    shown = {name: value for name, value in metrics.items() if name in ("loss", "val_loss")}
    return " · ".join(f"{name} {number(value)}" for name, value in shown.items())


def number(value: float) -> str:
    """A measured value, to four digits."""
    return f"{value:.4g}"


def relative(path: Path) -> str:
    """The path from the current folder, or the path itself where it is not below that."""
    found = os.path.relpath(path)
    return str(path) if found.startswith("..") else found


def readings(check: AnyCheck) -> tuple[str, str]:
    """What a check measured and what it allows, each in one clause.

    Args:
        check: a recorded check.
    """
    if check.verdict == "not_applicable":
        return f"not measured: {check.reason}", ""
    return check.reading(), check.bounds()


def when(started: str | None) -> str:
    """A time of the record as people here read it."""
    try:
        local = datetime.fromisoformat(started or "").astimezone()
        return local.isoformat(" ", "minutes")[: len("2026-11-23 22:20")]
    except (ValueError, OverflowError):
        return started or ""


def duration(seconds: float) -> str:
    """A length of time: `9.5 s`, `1:34`, `2:03:11`."""
    if not 60 <= seconds < math.inf:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
