"""A run in words and tables: what an attempt changed, how it ended, what the model is worth."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from orchestrator.display.charts import Legible
from orchestrator.record.checks import OutputWorth, PredictionVarianceCheck, ValidationWorth
from orchestrator.record.events import AttemptStarted, SeedsScreened
from orchestrator.record.records import Attempt, Failure, Run

if TYPE_CHECKING:
    from orchestrator.diagnosis.health import Health

STYLES = {"pass": "green", "warn": "yellow", "fail": "bold red", "not_applicable": "dim"}
"""Styles of the verdicts."""
WORDS = {"pass": "pass", "warn": "warn", "fail": "fail", "not_applicable": "n/a"}
"""Words for the verdicts."""

_CHANGES: Mapping[str, str] = {
    "learning_rate_cap": "learning rate at most {}",
    "negative_slope": "leaky relu with slope {}",
    "initializer": "initializer {} and zero biases",
    "clip_norm": "gradients clipped to norm {}",
    "seed": "seed {}",
}
_BRIEF_CHANGES = {
    "learning_rate_cap": "rate ≤ {}",
    "negative_slope": "slope {}",
    "initializer": "{}",
    "clip_norm": "norm ≤ {}",
}


def restart_sentence(event: AttemptStarted, *, reason: bool = True) -> str:
    """Why there is another attempt and what is different in it, in one sentence.

    Args:
        event: the start of the other attempt.
        reason: say what the failing check said, too.
    """
    cause = event.cause
    if cause is None:
        return ""
    why = f": {cause.reason}" if reason else ""
    return (
        f"Attempt {event.attempt - 1} {_how(cause)}{why}; "
        f"restarting by {event.remedy} with {_changed(event.changed) or 'the same settings'}."
    )


def screened(event: SeedsScreened) -> str:
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
    end = run.status if failure.reason == run.conclusion else f"{run.status}: {run.conclusion}"
    return f"Attempt {attempt.attempt} {_how(failure)}: {failure.reason}; {end}."


def result(run: Run, directory: Path) -> RenderableType:
    """The end of a run: its attempts, what the model is worth, and where it lies.

    Args:
        run: the finished run.
        directory: its directory.
    """
    closing = (Text(line) for line in _closing(run, directory))
    return Legible(Group(_attempts_table(run), *closing))


def health(found: Health) -> RenderableType:
    """A diagnosis: its layers, its outputs, the verdicts, and what they mean.

    Args:
        found: what was found.
    """
    parts: list[RenderableType] = []
    if found.layers:
        parts.append(_layers_table(found))
    if any(output.varies is not None for output in found.outputs):
        parts.append(_outputs_table(found))
    verdicts = Table.grid(padding=(0, 2))
    for check in found.verdicts:
        style = STYLES[check.verdict]
        verdicts.add_row(
            Text(check.verdict.replace("_", " "), style), check.check, Text(check.reason)
        )
    rows = f"Looked at {'all' if found.exact else 'the first'} {found.rows} rows"
    if not found.exact:
        rows += ", which no further one can change the verdicts of"
    if found.responding_rows is not None:
        rows += f"; on {found.responding_rows} an output responds to the inputs"
    parts += [verdicts, Text(f"\n{rows}."), *(Text(each) for each in found.summary())]
    return Legible(Group(*parts))


def _layers_table(found: Health) -> Table:
    """Units, and what is the matter with some of them; without the columns that say nothing."""
    matters: dict[str, list[int]] = {
        "constant": [layer.constant.size for layer in found.layers],
        "saturated": [layer.saturated.size for layer in found.layers],
    }
    shown = {"near-dead": [layer.near_dead.size for layer in found.layers]}
    shown |= {name: counts for name, counts in matters.items() if any(counts)}
    if found.responding_rows is not None:
        shown["blocked"] = [
            0 if layer.blocked is None else layer.blocked.size for layer in found.layers
        ]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("layer", overflow="fold")
    table.add_column("activation", overflow="fold")
    for name in ("units", "dead", *shown):
        table.add_column(name, justify="right", no_wrap=True)
    for index, layer in enumerate(found.layers):
        dead = Text("?" if layer.partial else str(layer.dead.size))
        if layer.units and layer.dead.size == layer.units:
            dead.stylize("red")
        counts = (str(counts[index]) for counts in shown.values())
        table.add_row(escape(layer.name), layer.activation, str(layer.units), dead, *counts)
    return table


def _outputs_table(found: Health) -> Table:
    """What each output is worth; without the columns that nothing was measured for."""
    values = {
        "variance ratio": [output.variance_ratio for output in found.outputs],
        "information": [output.information for output in found.outputs],
        "skill": [output.skill for output in found.outputs],
        "loss": [output.loss for output in found.outputs],
        "best constant's": [output.constant_loss for output in found.outputs],
    }
    shown = {
        name: column
        for name, column in values.items()
        if any(value is not None for value in column)
    }
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("output", overflow="fold")
    table.add_column("kind")
    for name in shown:
        table.add_column(name, justify="right")
    for index, output in enumerate(found.outputs):
        cells = (column[index] for column in shown.values())
        table.add_row(
            escape(output.name or str(output.output)),
            output.kind,
            *("" if value is None else f"{value:.3g}" for value in cells),
        )
    return table


def _attempts_table(run: Run) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("attempt", justify="right")
    table.add_column("remedy and change", overflow="fold")
    table.add_column("outcome", overflow="fold")
    table.add_column("skill", justify="right")
    table.add_column("seconds", justify="right")
    for attempt in run.attempts:
        skill = attempt.skill()
        table.add_row(
            str(attempt.attempt),
            escape(change(attempt)),
            _outcome(attempt),
            "" if skill is None else f"{skill:.3g}",
            f"{attempt.seconds:.1f}",
        )
    return table


def _outcome(attempt: Attempt) -> Text:
    if attempt.failure is None:
        style = "green" if attempt.status == "passed" else "yellow"
        return Text(attempt.status, style=style)
    failure = attempt.failure
    where = "" if failure.phase is None else f" at {failure.phase}"
    what = "" if failure.check == "crashed" else f" {failure.check}"
    text = Text(f"{attempt.status}{where}:{what}", style="red")
    return text.append(f"\n{failure.reason}", style="not bold default")


def _closing(run: Run, directory: Path) -> Iterator[str]:
    if run.accepted_attempt is not None:
        attempt = run.attempts[run.accepted_attempt - 1]
        yield from _quality(attempt)
        for name in ("model.keras", "model.weights.h5"):
            if (directory / name).exists():
                yield f"Model: {near(directory / name)}"
        if run.inputs.columns:
            yield f"It takes the raw columns {', '.join(run.inputs.columns)}, in this order."
    else:
        yield f"{run.status}: {run.conclusion}"
        if run.best_attempt is not None:
            best = run.attempts[run.best_attempt - 1]
            checkpoint = directory / "attempts" / f"{best.attempt:03d}" / "checkpoint.keras"
            if checkpoint.exists():
                yield f"Best attempt: {best.attempt}, its state is in {near(checkpoint)}"
    for warning in run.warnings:
        yield f"warning: {warning}"
    yield f"Record: {near(directory)}, {run.seconds:.1f} s in all"


def _quality(attempt: Attempt) -> Iterator[str]:
    """The model's loss beside the best constant's, for each output and set of rows."""
    check = attempt.phases[-1].find(PredictionVarianceCheck)
    if check is None:
        return
    measured = check.measured
    sets: Mapping[str, Sequence[OutputWorth | ValidationWorth]]
    sets = {"Validation": measured.validation, "Training": measured.outputs}
    for rows, outputs in sets.items():
        for index, (output, each) in enumerate(zip(measured.outputs, outputs, strict=False)):
            if each.loss is None or each.constant_loss is None or each.skill is None:
                continue
            unit = "cross-entropy" if output.kind == "classification" else "mean squared error"
            name = f" of output {index}" if len(outputs) > 1 else ""
            yield (
                f"{rows}: {unit}{name} {number(each.loss)}, the best constant has "
                f"{number(each.constant_loss)} (skill {each.skill:.3g})"
            )


def _how(failure: Failure) -> str:
    if failure.check == "crashed":
        return "crashed"
    return f"failed {failure.check} after phase {failure.phase}"


def change(attempt: Attempt) -> str:
    """What is different in an attempt, after the remedy that asked for it."""
    if attempt.remedy is None:
        return f"as configured: seed {attempt.settings.seed}"
    return f"{attempt.remedy}: {_changed(attempt.changed)}"


def brief_change(attempt: Attempt, *, seed: bool = False) -> str:
    """The same for a narrow line.

    Args:
        attempt: the attempt.
        seed: tell the seed too, although nearly every remedy changes it.
    """
    if attempt.remedy is None:
        return f"as configured: seed {attempt.settings.seed}" if seed else "as configured"
    templates = _BRIEF_CHANGES | ({"seed": _CHANGES["seed"]} if seed else {})
    brief = _changed(attempt.changed, templates)
    return f"{attempt.remedy}: {brief}" if brief else attempt.remedy


def ending(attempt: Attempt) -> str:
    """How an attempt ended, in a few words."""
    failure = attempt.failure
    if failure is None:
        return attempt.status
    what = "" if failure.check == "crashed" else f" {failure.check}"
    where = "" if failure.phase is None else f" at {failure.phase}"
    return f"{attempt.status}{what}{where}"


def _changed(
    changed: Mapping[str, Mapping[str, Any]], templates: Mapping[str, str] = _CHANGES
) -> str:
    parts = []
    for name, template in templates.items():
        if name not in changed:
            continue
        value = changed[name]["to"]
        if value is None:
            parts.append(f"{name} taken back")
        else:
            parts.append(template.format(f"{value:g}" if isinstance(value, float) else value))
    return ", ".join(parts)


def losses(metrics: Mapping[str, float]) -> str:
    """Loss and validation loss as one clause."""
    shown = {name: value for name, value in metrics.items() if name in ("loss", "val_loss")}
    return " · ".join(f"{name} {number(value)}" for name, value in shown.items())


def number(value: float) -> str:
    """A measured value, to four digits."""
    return f"{value:.4g}"


def near(path: Path) -> str:
    """The path from the current folder where that is shorter."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
