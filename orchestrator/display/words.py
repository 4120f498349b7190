"""What is recorded, in words: why an attempt was restarted, what was changed, how it ended.

Each sentence about a run stands here once, whether the terminal, a log or a table shows it. Each is
one line, whatever a record has in its texts.
"""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from orchestrator.display.text import clean
from orchestrator.record.checks import AnyCheck, FindingsCheck, OutputWorth, ValidationWorth
from orchestrator.record.events import (
    AttemptResumed,
    AttemptStarted,
    Doing,
    ReadingProgress,
    ScreeningProgress,
    SeedsScreened,
)
from orchestrator.record.records import Attempt, Failure, Finding, Racer, Run, Settings, Start

STYLES = {"pass": "green", "warn": "yellow", "fail": "bold red", "not_applicable": "dim"}
"""The style, in rich's words, of each verdict."""
VERDICTS = {"pass": "pass", "warn": "warn", "fail": "fail", "not_applicable": "n/a"}
"""Each verdict in at most four letters."""

_MAX_LOGGED = 4
"""Logged values that are told of where none of them is the loss."""


def restart_sentence(event: AttemptStarted, *, reason: bool = True) -> str:
    """Why there is another attempt, what is at its root, and what is different, in one sentence.

    Args:
        event: the start of the other attempt.
        reason: repeat the reason that the failed check gave.
    """
    cause = event.cause
    if cause is None:
        return ""
    why = f": {cause.reason}" if reason else ""
    if cause.lost is not None:
        why += f" ({cause.lost.told})"
    if event.because is not None and not (reason and event.because in cause.reason):
        why += f", because {event.because}"
    how = "restarting" if event.start is None else f"going on from {place(event.start)}"
    best = f", the best of {len(event.raced)} that raced" if event.raced else ""
    return clean(
        f"Attempt {event.attempt - 1} {_how(cause)}{why}; "
        f"{how} by {event.remedy} with {_changed(event.changed) or 'the same settings'}{best}."
    )


def racer(racer: Racer) -> str:
    """What something that races is."""
    return clean(_named(racer))


def _named(racer: Racer) -> str:
    return f"{racer.remedy} with seed {racer.settings.seed if racer.seed is None else racer.seed}"


def race_sentence(racer: Racer) -> str:
    """How far something that races has come, in one sentence."""
    told = f"raced {_named(racer)} for {racer.epochs} epoch{'s' * (racer.epochs != 1)}"
    if racer.failure is not None:
        return clean(f"{told}: {racer.failure.reason}")
    loss = "" if racer.loss is None else f"loss {number(racer.loss)}"
    share = "" if racer.share is None else f"share {max(racer.share, 0.0):.2g} of the reference"
    return clean(f"{told}: {', '.join(filter(None, (loss, share))) or 'alive'}")


def place(start: Start) -> str:
    """What an attempt goes on from."""
    return f"epoch {start.epoch} of attempt {start.attempt}"


def going_on(run: Run) -> str:
    """With what a run goes on that was cut short."""
    if not run.attempts:
        return "begins again: it was cut short before its first attempt"
    last = run.attempts[-1]
    if last.status in ("running", "interrupted"):
        return f"goes on with attempt {last.attempt}"
    return f"goes on after attempt {last.attempt}, which {last.status}"


def resumption(event: AttemptResumed) -> str:
    """That an attempt goes on, from where, and how its worker ended, in one sentence."""
    if event.phases == 0:
        place = "begins again"
    elif event.step:
        place = f"goes on after step {event.step} of epoch {event.epoch + 1}"
    elif event.restarts == 0:
        place = f"goes on from its race, after epoch {event.epoch}"
    else:
        place = f"goes on after epoch {event.epoch}"
    why = "" if event.reason is None else f": {event.reason}"
    return clean(f"attempt {event.attempt} {place}{why}")


def reading(progress: ReadingProgress) -> str:
    """How far the reading of rows has come."""
    if not progress.batches:
        return clean(f"reading rows: waiting for {progress.what}")
    return (
        f"reading rows: {progress.rows:,} in {progress.batches:,} batches of "
        f"{clean(progress.what)}, "
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


def finding_line(finding: Finding, *, failed: bool = False) -> str:
    """A cause as a line of its own, with its line in the config where there is one.

    Args:
        finding: the cause.
        failed: the attempt that points to it has failed; nobody is alarmed by what has not.
    """
    lead = "no training can succeed" if finding.certain else "the evidence points to"
    if not failed and not finding.certain:
        lead = "worth knowing"
    return clean(f"{lead}: {finding.told}{_place(finding)}")


def verdict_reason(check: AnyCheck) -> str:
    """Why a verdict is what it is; of findings the causes, for each is told in full beside it."""
    if isinstance(check, FindingsCheck) and check.verdict != "pass":
        return clean(check.reading())
    return clean(check.reason)


def worth_knowing(run: Run) -> list[str]:
    """What there is to know of the accepted attempt, a line each, although it has passed."""
    if run.accepted_attempt is None:
        return []
    found = run.attempts[run.accepted_attempt - 1].told_findings()
    return list(dict.fromkeys(map(finding_line, found)))


def screening(report: ScreeningProgress) -> str:
    """How many seeds were looked at."""
    return f"screening seeds: {report.seeds} of at most {report.limit}"


def doing(report: Doing) -> str:
    """What a worker does, and behind a colon how far it has come."""
    return clean(f"{report.what}: {report.detail}" if report.detail else report.what)


def screening_sentence(event: SeedsScreened) -> str:
    """Which of several candidate seeds was chosen, in one sentence."""
    count = len(event.candidates)
    if event.candidates[-1].reason is None:
        return f"seed {event.seed} is the first of {count} whose untrained network is not dead"
    reason = clean(str(event.candidates[0].reason))
    return f"none of {count} seeds gives a network that is not dead: {reason}"


def last_sentence(run: Run) -> str:
    """How the last attempt ended and the run with it, in one sentence."""
    attempt, failure = run.attempts[-1], run.attempts[-1].failure
    if attempt.status == "passed":
        skill = attempt.skill()
        worth = "" if skill is None else f", skill {skill:.3g}"
        return f"Attempt {attempt.attempt} passed{worth}."
    if failure is None:
        return clean(f"Attempt {attempt.attempt} {run.status}: {run.conclusion}.")
    conclusion = run.conclusion or ""
    end = run.status if failure.reason == conclusion else f"{run.status}: {conclusion}"
    # Where nothing is known of the cause, the conclusion tells the reason.
    why = "" if failure.reason != conclusion and failure.reason in conclusion else failure.reason
    return clean(f"Attempt {attempt.attempt} {_how(failure)}{why and ': '}{why}; {end}.")


def _how(failure: Failure) -> str:
    if failure.check == "crashed":
        return "crashed"
    if failure.check == "findings":
        return "was not trained"
    return f"failed {failure.check} after phase {failure.phase}"


def change(attempt: Attempt) -> str:
    """The remedy of an attempt and the settings that it changed."""
    if attempt.remedy is None:
        return f"as configured: seed {attempt.settings.seed}"
    back = "" if attempt.start is None else f" from {place(attempt.start)}"
    return clean(f"{attempt.remedy}{back}: {_changed(attempt.changed)}")


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
    return clean(f"{attempt.remedy}: {brief}" if brief else attempt.remedy)


def changed_model(attempts: Sequence[Attempt]) -> str:
    """What of the last attempt's model is not as the config has it, and what to write there.

    Args:
        attempts: all until then.

    Returns:
        One clause; empty where the model is the config's.
    """
    *_, last = attempts
    settings, clauses = last.settings, []
    if settings.negative_slope is not None:
        clauses.append(f"its hidden relu is leaky relu with slope {settings.negative_slope:g}")
    if settings.dropout_cap is not None:
        most = f"at most {settings.dropout_cap:g}" if settings.dropout_cap else "nothing"
        clauses.append(f"its Dropout layers leave out {most}")
    if settings.penalty_cap is not None:
        clauses.append(f"its penalties on weights are at most {settings.penalty_cap:g}")
    for each in _fixes(attempts):
        clauses.append(each)
    if "inputs" in (settings.standardize or ""):
        paths = last.standardization.get("inputs", {})
        named = ["x." + path.replace("/", ".") for path in paths if path]
        its = " and ".join(named) or "its inputs"
        clauses.append(f"it standardises {its}, as with data.standardize: true")
    for name, scale in last.standardization.get("targets", {}).items():
        of = f" of {name}" if name else ""
        clauses.append(
            f"its last layer{of} is a Rescaling with {_scale(scale)} (in a config of your own, "
            "subtract and divide by these in your data instead: steps towards raw targets are "
            "larger)"
        )
    told = "; ".join(clauses)
    return clean(f"the model is not as configured: {told}") if told else ""


def _fixes(attempts: Sequence[Attempt]) -> list[str]:
    """What was written instead for the outputs, and where the config has it."""
    settings, told = attempts[-1].settings, dict[str, None]()
    for finding in (each for attempt in attempts for each in attempt.findings):
        fix = finding.fix
        if fix is None or not (
            (settings.output_activation or {}).get(fix.output) == fix.activation is not None
            or (settings.output_loss or {}).get(fix.output) == fix.loss is not None
        ):
            continue
        whose = f"output {fix.output}" if fix.output else "its output"
        told.setdefault(f"{whose} has {fix.told}{_place(finding)}")
    return [*told]


def _scale(scale: Mapping[str, Sequence[float]]) -> str:
    """Scale and offset of a Rescaling layer, of one column in figures."""
    mean, variance = scale["mean"], scale["variance"]
    if len(mean) > 1:
        return f"the scale and offset of each of {len(mean)} columns"
    return f"scale: {math.sqrt(variance[0]):.4g} and offset: {mean[0]:.6g}"


def _place(finding: Finding) -> str:
    """Where the config has what a finding is about; empty where it does not."""
    return "" if finding.line is None else f" (line {finding.line}, {finding.key})"


def outcome(attempt: Attempt) -> str:
    """How an attempt ended, in a few words."""
    failure = attempt.failure
    if failure is None:
        return attempt.status
    what = "" if failure.check == "crashed" else f" {failure.check}"
    where = "" if failure.phase is None else f" at {failure.phase}"
    return clean(f"{attempt.status}{what}{where}")


def _changed(changed: Mapping[str, Mapping[str, Any]], *, narrow: bool = False) -> str:
    parts = []
    for name, templates in Settings.WORDS.items():
        if name not in changed:
            continue
        value = changed[name]["to"]
        if value is None:
            parts.append(f"{name} taken back")
        else:
            parts.append(templates[narrow].format(_shown(value)))
    return ", ".join(parts)


def _shown(value: Any) -> str:
    """The value of a setting; of one for each output, under the output's name where it has one."""
    if isinstance(value, Mapping):
        return ", ".join(f"{each} of {name}" if name else str(each) for name, each in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)


def losses(metrics: Mapping[str, float]) -> str:
    """What an epoch's values of `told_of` are, as one clause."""
    shown = (f"{clean(name)} {number(float(metrics[name]))}" for name in told_of(metrics))
    return " · ".join(shown) or "nothing is logged"


def told_of(metrics: Iterable[str]) -> list[str]:
    """The logged values that are told of: loss and validation loss.

    A `train_step` of the user's own need not log any, such as a GAN's; then the first few it does.
    """
    names = [*metrics]
    return [name for name in names if name in ("loss", "val_loss")] or names[:_MAX_LOGGED]


def number(value: float) -> str:
    """A measured value, to four digits."""
    return f"{value:.4g}"


Columns = list[tuple[OutputWorth, OutputWorth | ValidationWorth]]
"""Columns of one output on the training rows, each with the same on those that are told of."""


def by_output(
    outputs: Sequence[OutputWorth], columns: Sequence[OutputWorth | ValidationWorth]
) -> dict[str, Columns]:
    """Columns by their output's name; in records without names each column is an output."""
    several = sum(output.name is None for output in outputs) > 1
    # Until columns had the name of their loss, each was told of by itself.
    numbered = several and not any(output.function for output in outputs)
    found: dict[str, Columns] = {}
    for index, (output, column) in enumerate(zip(outputs, columns, strict=False)):
        name = str(index) if numbered else output.name or ""
        found.setdefault(name, []).append((output, column))
    return found


def loss_name(function: str | None, kind: str | None) -> str:
    """The name of an output's loss as people read it.

    Args:
        function: its name in the record; until records had it, there were two.
        kind: regression or classification.
    """
    if function:
        return clean(function.replace("_", " "))
    return "cross-entropy" if kind == "classification" else "mean squared error"


def worth(name: str, columns: Columns) -> str:
    """The loss of an output beside the best constant's, in one clause; empty where unknown.

    Args:
        name: the output's; empty where there is only one.
        columns: its columns, of which Keras logs the mean.
    """
    output = columns[0][0]
    unit = loss_name(output.function, output.kind)
    known = [column for _, column in columns if column.loss is not None]
    of_output = f" of output {clean(name)}" if name else ""
    if not known:
        aside = columns[0][1] is output and output.unjudged
        return f"skill{of_output} is not judged: {output.unjudged}" if aside else ""
    told = f"{unit}{of_output} {number(_mean([column.loss for column in known]))}"
    judged = [column for column in known if column.skill is not None]
    if not judged:
        return f"{told}; skill is not judged: {output.unjudged}" if output.unjudged else told
    skills = [column.skill for column in judged if column.skill is not None]
    if any(column.constant_loss is None for column in judged):
        return f"{told} without the class weights (skill {_mean(skills):.3g} with them)"
    constant = _mean([column.constant_loss for column in judged])
    if len(judged) == 1:
        return f"{told}, the best constant has {number(constant)} (skill {skills[0]:.3g})"
    return (
        f"{told}, the best constant has {number(constant)} "
        f"(skill of its {len(judged)} columns {min(skills):.3g} to {max(skills):.3g})"
    )


def _mean(values: Sequence[float | None]) -> float:
    return sum(value for value in values if value is not None) / len(values)


def resuming(directory: Path, *, given: bool) -> str:
    """How to go on with a run that was cut short.

    Args:
        directory: its directory.
        given: whether it is one of `retrain`, of which the record has not enough.
    """
    if given:
        return "to begin it anew: call retrain() again; what it was given is not in the record"
    found = relative(directory)
    run = directory.name if found == os.path.join("runs", directory.name) else found
    return clean(f"to go on with it: orchestrate resume {shlex.quote(run)}")


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
        return f"not measured: {clean(check.reason)}", ""
    return clean(check.reading()), clean(check.bounds())


def when(started: str | None) -> str:
    """A time of the record as people here read it."""
    try:
        local = datetime.fromisoformat(started or "").astimezone()
        return local.isoformat(" ", "minutes")[: len("2026-11-23 22:20")]
    except (ValueError, OverflowError):
        return clean(started or "")


def duration(seconds: float) -> str:
    """A length of time: `9.5 s`, `1:34`, `2:03:11`."""
    if not 60 <= seconds < math.inf:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
