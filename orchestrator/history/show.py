"""One run for people: why each attempt failed, what was changed then, and whether that helped."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from orchestrator.config import recorded
from orchestrator.display import words
from orchestrator.display.charts import Fitted, Indented, Legible, bar, is_logarithmic, sparkline
from orchestrator.display.text import clean
from orchestrator.record.checks import NAMES, DeadNeuronsCheck, LayerUnits
from orchestrator.record.events import EpochEnded
from orchestrator.record.records import Attempt, Failure, Phase, Run

_CURVE = 28
_SHORT_CURVE = 12
_BAR = 24
_SHORT_BAR = 8
_NARROW = 72
"""Columns below which tables have fewer or shorter columns."""
_CHECK = max(map(len, NAMES))
_CANDIDATES = 3
"""How many rejected seeds are named."""


def describe_run(
    run: Run,
    directory: Path,
    *,
    epochs: Mapping[int, Sequence[EpochEnded]],
    sizes: Mapping[str, int],
    environment: Mapping[str, Any],
    attempt: int | None = None,
    state: str | None = None,
) -> RenderableType:
    """Everything about a run, or about one attempt of it.

    Args:
        run: its record.
        directory: its directory.
        epochs: the epochs of each attempt.
        sizes: bytes on disk, by file or folder.
        environment: the content of its environment.json.
        attempt: number of the attempt to show in full; None for the run, with the layers of every
            attempt's last phase.
        state: what a run in progress is doing.
    """
    parts: list[RenderableType] = [*_head(run, directory, environment, state)]
    for each in run.attempts:
        if attempt is None or each.attempt == attempt:
            parts += _attempt(each, run, epochs.get(each.attempt, ()), full=attempt is not None)
    parts += _foot(run, directory, sizes)
    return Legible(Indented(Group(*parts), 0))


def _head(
    run: Run, directory: Path, environment: Mapping[str, Any], state: str | None
) -> Iterator[RenderableType]:
    count = len(run.attempts)
    # A copy, or a run that was renamed, goes by the name of its directory.
    title = Text(clean(directory.name), style="bold")
    style = {"passed": "green", "running": "cyan", "interrupted": "yellow"}.get(run.status, "red")
    title.append("  ").append(run.status, style=style)
    title.append(f": {clean(state)}" if state else "", "not bold")
    attempts = f"{count} attempt{'s' * (count != 1)}"
    title.append(f" · {attempts} · {words.duration(run.seconds)}", "not bold")
    yield title
    packages = environment.get("packages")
    versions = packages if isinstance(packages, dict) else {}
    told = [f"started {words.when(run.started)}"] if run.started else []
    told += [
        clean(f"{name} {versions[name]}") for name in ("tensorflow", "keras") if versions.get(name)
    ]
    if isinstance(git := environment.get("git"), dict):
        changed = ", with changes" if git.get("dirty") else ""
        told.append(clean(f"git {str(git.get('commit', ''))[:7]}{changed}"))
    if told:
        yield Text(" · ".join(told), style="dim")
    if run.status != "passed" and run.conclusion:
        yield Text(f"{run.status}: {clean(run.conclusion)}")
    if run.status == "interrupted":
        given = bool(recorded.lost(recorded.read(directory)))
        yield Text(words.resuming(directory, given=given))
    for warning in run.warnings:
        yield Text.assemble(("warning", "yellow"), f": {clean(warning)}")


def _attempt(
    attempt: Attempt, run: Run, epochs: Sequence[EpochEnded], *, full: bool
) -> Iterator[RenderableType]:
    yield Text("")
    if attempt.cause is not None and attempt.remedy is not None:
        cause = f"for {clean(attempt.cause.check)}"
        yield Text(f"  ↓ {cause}, {words.change(attempt)}", style="cyan")
    for reason in attempt.passed_over:
        yield Text(f"    passed over {clean(reason)}", style="dim")
    head = Text(f"Attempt {attempt.attempt}", style="bold")
    if attempt.remedy is None:
        head.append(f" · {words.change(attempt)}", "not bold")
    yield head.append(" · ").append_text(_result(attempt, run))
    if attempt.screened[1:] or (attempt.screened and attempt.screened[0].reason):
        yield from _indented(_screened(attempt))
    for racer in attempt.raced:
        behind = "goes on" if racer.reason is None else racer.reason
        yield from _indented(Text(f"{words.race_sentence(racer)}; {behind}", style="dim"))
    if attempt.failure is not None and attempt.failure.check != "findings":
        yield from _indented(Text(f"why: {clean(attempt.failure.reason)}"))
        if attempt.failure.lost is not None:
            yield from _indented(Text(f"when: {clean(attempt.failure.lost.told)}"))
    for finding in attempt.told_findings():
        failed = attempt.failure is not None
        yield from _indented(Text(words.finding_line(finding, failed=failed)))
    yield from _curves(epochs)
    for phase in attempt.phases:
        yield from _checks(phase, header=phase is attempt.phases[0])
        if full or phase is attempt.phases[-1]:
            yield from _layers(phase, full=full)


def _result(attempt: Attempt, run: Run) -> Text:
    """How an attempt ended, and whether its remedy helped."""
    style = {"passed": "green", "failed": "red", "crashed": "red"}.get(attempt.status, "yellow")
    text = Text(words.outcome(attempt), style=f"bold {style}")
    skill = attempt.skill()
    if skill is not None:
        text.append(f" · skill {skill:.3g}", "not bold default")
    text.append(f" · {words.duration(attempt.seconds)}", "not bold default")
    verdict = _effect(attempt)
    return text.append(f" · {clean(verdict)}", "not bold default") if verdict else text


def _effect(attempt: Attempt) -> str:
    """Whether the failure that the remedy answers came back."""
    cause, failure = attempt.cause, attempt.failure
    if cause is None or attempt.remedy is None or attempt.status in ("running", "interrupted"):
        return ""
    if failure is None:
        return f"{attempt.remedy} helped"
    last = attempt.phases[-1].checks if attempt.phases else ()
    # A check fails beside others, of which only the first is the failure.
    if cause.check in (failure.check, *(each.check for each in last if each.verdict == "fail")):
        return f"{attempt.remedy} did not help"
    ended = "a crash came" if failure.check == "crashed" else f"{failure.check} did fail"
    returning = "the crash" if cause.check == "crashed" else cause.check
    if _got_past(attempt, cause):
        return f"{attempt.remedy}: {returning} did not come back, {ended}"
    return f"{attempt.remedy}: {ended} before {returning} could come back"


def _got_past(attempt: Attempt, cause: Failure) -> bool:
    """Whether an attempt came to where the one before it failed, and took that check there."""
    names = [phase.phase for phase in attempt.phases]
    if cause.phase not in names:
        return cause.phase is None  # before the first phase
    if cause.check == "crashed":
        return True
    since = attempt.phases[names.index(cause.phase) :]
    checks = (check for phase in since for check in phase.checks if check.check == cause.check)
    return any(check.verdict != "not_applicable" for check in checks)


def _screened(attempt: Attempt) -> Text:
    rejected = [candidate for candidate in attempt.screened if candidate.reason is not None]
    chosen = len(rejected) < len(attempt.screened)
    named = "; ".join(f"{each.seed}: {each.reason}" for each in rejected[:_CANDIDATES])
    more = f"; and {len(rejected) - _CANDIDATES} more" if len(rejected) > _CANDIDATES else ""
    end = f"trained with seed {attempt.settings.seed}" if chosen else "none was left to train"
    count = f"{len(rejected)} of {len(attempt.screened)} seeds were dead before training"
    return Text(clean(f"{count} ({named}{more}); {end}"))


def _curves(epochs: Sequence[EpochEnded]) -> Iterator[RenderableType]:
    """A small plot of each loss, over all phases."""
    curves = {
        name: values
        for name in words.told_of(epochs[0].metrics if epochs else ())
        if (values := [float(epoch.metrics[name]) for epoch in epochs if name in epoch.metrics])
    }
    if curves:
        yield from _indented(Fitted(lambda width: _curves_table(curves, width)))


def _curves_table(curves: Mapping[str, Sequence[float]], width: int) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    for name, values in curves.items():
        if len(values) == 1:
            grid.add_row(Text(clean(name)), Text(words.number(values[0])))
            continue
        finite = [value for value in values if math.isfinite(value)]
        note = f"{words.number(values[0])} → {words.number(values[-1])}"
        if finite and min(finite) < values[-1]:
            note += f", lowest {words.number(min(finite))}"
        if is_logarithmic(values):
            note += ", log scale"
        curve = sparkline(values, _CURVE if width >= _NARROW else _SHORT_CURVE)
        grid.add_row(
            Text(clean(name)), Text(curve, style="cyan", no_wrap=True), Text(note, style="dim")
        )
    return grid


def _checks(phase: Phase, *, header: bool) -> Iterator[RenderableType]:
    epochs = f" · {phase.epochs} epoch{'s' * (phase.epochs != 1)}" if phase.epochs else ""
    values = "".join(
        f" · {clean(name)} {words.number(value)}" for name, value in phase.metrics.items()
    )
    head = f"{clean(phase.phase)}{epochs} · {words.duration(phase.seconds)}{values}"
    yield from _indented(Text(head, "bold"))
    yield from _indented(Fitted(lambda width: _checks_table(phase, width, header=header)), 4)


def _checks_table(phase: Phase, width: int, *, header: bool) -> Table:
    """Verdict, check, measured values and limits; in two columns where four would break numbers."""
    narrow = width < _NARROW
    names = ("", "check") if narrow else ("", "check", "measured", "limit")
    table = Table(
        box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim",
        show_header=header and not narrow,
    )  # fmt: skip
    for name in names:
        least = _CHECK if name == "check" and not narrow else None
        table.add_column(name, overflow="fold", min_width=least)
    for check in phase.checks:
        verdict = Text(words.VERDICTS[check.verdict], style=words.STYLES[check.verdict])
        measured, limit = words.readings(check)
        if narrow:
            allowed = f" ({limit})" if limit else ""
            table.add_row(verdict, Text(f"{check.check}: {measured}{allowed}"))
        else:
            table.add_row(verdict, check.check, Text(measured), Text(limit))
    return table


def _layers(phase: Phase, *, full: bool) -> Iterator[RenderableType]:
    """The dead units of each layer; of many layers only the worst."""
    check = phase.find(DeadNeuronsCheck)
    layers = () if check is None else check.measured.layers
    if layers:
        yield from _indented(Fitted(lambda width: _layers_table(layers, width, full=full)), 4)


def _layers_table(layers: Sequence[LayerUnits], width: int, *, full: bool) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("layer", "", "dead"):
        table.add_column(name, overflow="fold")
    length = _BAR if width >= _NARROW else _SHORT_BAR
    further = [name for name in ("near_dead", "constant", "saturated", "blocked")
               if any(getattr(layer, name) for layer in layers)]  # fmt: skip
    for name in further:
        table.add_column(name.replace("_", "-"), justify="right")
    shown = list(layers)
    if not full and len(layers) > 12:
        shown = sorted(layers, key=lambda layer: -_share(layer))[:11]
    for layer in shown:
        dead, units = layer.dead, layer.units
        filled = bar(dead, units, length)
        style = "red" if units and dead == units else "yellow" if 2 * dead > units else "green"
        picture = Text.assemble(("█" * filled, style), ("░" * (length - filled), "dim"))
        counts = (_count(getattr(layer, name)) for name in further)
        table.add_row(Text(clean(layer.layer)), picture, f"{dead}/{units}", *counts)
    if len(shown) < len(layers):
        table.add_row(Text(f"and {len(layers) - len(shown)} more, none worse", style="dim"))
    return table


def _count(value: int | None) -> str:
    return "" if value is None else str(value)


def _share(layer: LayerUnits) -> float:
    return layer.dead / layer.units if layer.units else 0.0


def _foot(run: Run, directory: Path, sizes: Mapping[str, int]) -> Iterator[RenderableType]:
    yield Text("")
    total = sum(sizes.values())
    largest = ", ".join(f"{clean(name)} {decimal(size)}" for name, size in list(sizes.items())[:4])
    yield Text(f"{decimal(total)} in {clean(words.relative(directory))}: {largest}", style="dim")


def _indented(renderable: RenderableType, columns: int = 2) -> Iterator[RenderableType]:
    yield Indented(renderable, columns)
