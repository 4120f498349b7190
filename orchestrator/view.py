"""What the person sees while a run goes on, and at its end.

Progress goes to stderr: a moving line on a terminal, one line now and then elsewhere. The result,
a table of attempts and where the model lies, is made here too and printed by the caller.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from orchestrator import events
from orchestrator.events import (
    AttemptEnded,
    AttemptStarted,
    EpochEnded,
    Event,
    PhaseEnded,
    PhaseStarted,
    RunEnded,
    Warned,
)
from orchestrator.records import Attempt, Check, Failure, Phase, Run
from orchestrator.tasks import Prepared

SPARSE_SECONDS = 15.0
"""Where nothing can move, a line at most this often between two phases."""

_STYLES = {"pass": "green", "warn": "yellow", "fail": "bold red", "not_applicable": "dim"}
_SHORT = {"not_applicable": "n/a"}
_CHANGES = {
    "learning_rate_cap": "learning rate at most {}",
    "negative_slope": "leaky relu with slope {}",
    "initializer": "initializer {}",
    "seed": "seed {}",
}


class View:
    """Shows a run as it goes.

    Args:
        console: where to.
        quiet: show warnings and nothing else.
    """

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self._console = console
        self._quiet = quiet
        self._moving = console.is_terminal and not quiet
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[state]}"),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
            disable=not self._moving,
        )
        self._task: Any = None
        self._epoch = 0
        self._planned = 0
        self._spoke = time.monotonic()

    def __enter__(self) -> View:
        """Begin to move."""
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Take the moving line away."""
        self._progress.stop()

    def say(self, text: str) -> None:
        """Tell what is going on before the run has begun."""
        if self._moving:
            self._replace_task(text)
        elif not self._quiet:
            self._print(Text(text))

    def begin(self, directory: Path) -> None:
        """Tell where the run is recorded."""
        if not self._quiet:
            self._replace_task("")
            self._print(Text(f"Run {directory.name} in {_near(directory.parent)}{os.sep}"))

    def show(self, event: Event | events.Progress, run: Run) -> None:
        """Show one event; `run` is the run after it."""
        if self._quiet and not isinstance(event, Warned):
            return
        match event:
            case AttemptStarted():
                self._attempt(event)
            case PhaseStarted():
                self._epoch, self._planned = 0, event.epochs
                self._replace_task(
                    f"attempt {event.attempt} · {event.phase}", total=float(event.epochs)
                )
            case events.Progress():
                self._move(self._epoch + event.step / event.steps)
            case EpochEnded():
                self._epoch += 1
                self._move(
                    self._epoch, f"epoch {self._epoch}/{self._planned} · {_losses(event.metrics)}"
                )
                self._say_now_and_then(event)
            case PhaseEnded():
                self._replace_task("")
                self._phase(event.phase)
            case Warned():
                self._print(Text.assemble(("warning", "yellow"), f": {event.message}"))
            case AttemptEnded():
                if event.status != "failed" and event.failure is not None:
                    self._print(Text(f"Attempt {event.attempt} crashed: {event.failure.reason}"))
            case RunEnded():
                self._replace_task("")

    def _attempt(self, event: AttemptStarted) -> None:
        if event.cause is not None and event.remedy is not None:
            self._print(Text(restart_sentence(event), style="bold"))
        self._print(Text(f"\nAttempt {event.attempt} (seed {event.settings.seed})", style="bold"))
        self._replace_task(f"attempt {event.attempt} · building the model")

    def _phase(self, phase: Phase) -> None:
        head = f"  {phase.phase}"
        if phase.epochs:
            head += f" · {phase.epochs} epoch{'s' * (phase.epochs != 1)} · {_losses(phase.metrics)}"
        self._print(Text(f"{head} · {phase.seconds:.1f} s"))
        for check in phase.checks:
            line = Text("    ").append_text(_verdict(check)).append(f"  {check.check:<19}  ")
            if self._console.is_terminal:
                grid = Table.grid()
                grid.add_column(width=len(line), no_wrap=True)
                grid.add_column(overflow="fold")
                grid.add_row(line, escape(check.reason))
                self._print(grid)
            else:
                self._print(line.append(check.reason))

    def _say_now_and_then(self, event: EpochEnded) -> None:
        if not self._moving and time.monotonic() - self._spoke >= SPARSE_SECONDS:
            epoch = f"epoch {self._epoch}/{self._planned}"
            self._print(Text(f"  {event.phase} · {epoch} · {_losses(event.metrics)}"))

    def _move(self, epochs: float, state: str | None = None) -> None:
        if self._task is not None:
            self._progress.update(self._task, completed=epochs)
            if state is not None:
                self._progress.update(self._task, state=state)

    def _replace_task(self, description: str, total: float | None = None) -> None:
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = None
        if description:
            self._task = self._progress.add_task(description, total=total, state="")

    def _print(self, renderable: RenderableType) -> None:
        self._spoke = time.monotonic()
        # A log file gets whole lines, a terminal gets wrapped ones.
        whole = isinstance(renderable, Text) and not self._console.is_terminal
        self._console.print(renderable, highlight=False, soft_wrap=whole)


def restart_sentence(event: AttemptStarted) -> str:
    """Why there is another attempt and what is different in it, in one sentence."""
    cause = event.cause
    if cause is None:
        return ""
    return (
        f"Attempt {event.attempt - 1} {_how(cause)}: {cause.reason}; "
        f"restarting by {event.remedy} with {_changed(event.changed) or 'the same settings'}."
    )


def result(run: Run, directory: Path) -> RenderableType:
    """The end of a run: its attempts, what the model is worth, and where it lies.

    Args:
        run: the finished run.
        directory: its directory.
    """
    return Group(_attempts_table(run), *(Text(line) for line in _closing(run, directory)))


def _attempts_table(run: Run) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("attempt", justify="right")
    table.add_column("remedy and change", overflow="fold")
    table.add_column("outcome", overflow="fold")
    table.add_column("skill", justify="right")
    table.add_column("seconds", justify="right")
    for attempt in run.attempts:
        skill = attempt.skill()
        change = (
            f"{attempt.remedy}: {_changed(attempt.changed)}"
            if attempt.remedy
            else (f"as configured: seed {attempt.settings.seed}")
        )
        table.add_row(
            str(attempt.attempt),
            escape(change),
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
                yield f"Model: {_near(directory / name)}"
        if run.inputs.columns:
            yield f"It takes the raw columns {', '.join(run.inputs.columns)}, in this order."
    else:
        yield f"{run.status}: {run.conclusion}"
        if run.best_attempt is not None:
            best = run.attempts[run.best_attempt - 1]
            checkpoint = directory / "attempts" / f"{best.attempt:03d}" / "checkpoint.keras"
            if checkpoint.exists():
                yield f"Best attempt: {best.attempt}, its state is in {_near(checkpoint)}"
    for warning in run.warnings:
        yield f"warning: {warning}"
    yield f"Record: {_near(directory)}, {run.seconds:.1f} s in all"


def _quality(attempt: Attempt) -> Iterator[str]:
    """The model's loss beside the best constant's, for each output and set of rows."""
    for check in attempt.phases[-1].checks:
        outputs = check.measured.get("outputs", ())
        sets = [("validation", check.measured.get("validation", ())), ("training", outputs)]
        for rows, entries in sets:
            for index, entry in enumerate(entries):
                if "loss" not in entry or entry["loss"] is None:
                    continue
                kind = outputs[index]["kind"]
                unit = "cross-entropy" if kind == "classification" else "mean squared error"
                name = f" of output {index}" if len(entries) > 1 else ""
                constant = f"the best constant has {_number(entry['constant_loss'])}"
                yield (
                    f"{rows.capitalize()}: {unit}{name} {_number(entry['loss'])}, {constant} "
                    f"(skill {entry['skill']:.3g})"
                )


def validated(name: str, found: Prepared) -> RenderableType:
    """What `validate` found.

    Args:
        name: the config's name.
        found: data and model, built and fitted together.
    """
    shape = " × ".join(map(str, found.input_shape))
    held = f", {found.validation_rows} held back for validation" if found.validation_rows else ""
    watched = ", ".join(found.layers) or "none"
    lines = [
        Text.assemble((name, "bold"), " is valid"),
        Text(f"Data: {found.rows} training rows of {shape}{held}"),
        Text(f"Model: {found.parameters} weights; activations are watched in: {watched}"),
        *(Text.assemble(("warning", "yellow"), f": {warning}") for warning in found.warnings),
    ]
    return Group(*lines)


def _how(failure: Failure) -> str:
    if failure.check == "crashed":
        return "crashed"
    return f"failed {failure.check} after phase {failure.phase}"


def _changed(changed: dict[str, dict[str, Any]]) -> str:
    parts = []
    for name, template in _CHANGES.items():
        if name not in changed:
            continue
        value = changed[name]["to"]
        if value is None:
            parts.append(f"{name} taken back")
        else:
            parts.append(template.format(f"{value:g}" if isinstance(value, float) else value))
    return ", ".join(parts)


def _verdict(check: Check) -> Text:
    word = _SHORT.get(check.verdict, check.verdict)
    return Text(f"{word:<4}", style=_STYLES[check.verdict])


def _losses(metrics: Mapping[str, float]) -> str:
    shown = {name: value for name, value in metrics.items() if name in ("loss", "val_loss")}
    return " · ".join(f"{name} {_number(value)}" for name, value in shown.items())


def _number(value: float) -> str:
    return f"{value:.4g}"


def _near(path: Path) -> str:
    """The path from the current folder where that is shorter."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
