"""The result of a search for people: trials, comparison, what mattered, what to go on with."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.display.charts import Indented, Legible
from orchestrator.display.search import words
from orchestrator.display.search.axes import label
from orchestrator.display.text import clean
from orchestrator.display.words import duration, relative, when
from orchestrator.record.search import BASE, ArmRuns, Comparison, Effect, Parameter, Search, Trial
from orchestrator.record.storage.directory import SearchPaths

_VERSIONS = ("tensorflow", "keras", "keras-tuner")
_STYLES = {"cut": "dim", "failed": "red", "running": "cyan"}


def describe_search(search: Search, directory: Path) -> RenderableType:
    """Everything about a search.

    Args:
        search: its record.
        directory: its directory.
    """
    parts: list[RenderableType] = [*_head(search, directory)]
    parts += [Text("\nWhat is searched", "bold"), _space_table(search)]
    if search.trials:
        parts += [Text("\nTrials, the best first", "bold"), trials_table(search)]
    parts += _outcome(search, directory)
    return Legible(Indented(Group(*parts), 0))


def summarize_search(search: Search, directory: Path) -> RenderableType:
    """The end of a search: the winner, how sure it is, what mattered, what to go on with.

    Args:
        search: the search.
        directory: its directory.
    """
    return Legible(Indented(Group(*_outcome(search, directory)), 0))


def _head(search: Search, directory: Path) -> Iterator[RenderableType]:
    ended = sum(trial.status != "running" for trial in search.trials)
    style = {"finished": "green", "running": "cyan", "interrupted": "yellow"}.get(
        search.status, "red"
    )
    title = (
        Text(clean(directory.name), style="bold").append("  ").append(search.status, style=style)
    )
    trials = f"{ended} of {search.max_trials} trials" if search.max_trials else f"{ended} trials"
    yield title.append(f" · {trials} · {duration(search.seconds)}", "not bold")
    told = [f"started {when(search.started)}"] if search.started else []
    told += [f"{search.tuner} search", words.unit(search.objective)]
    told += [f"{len(search.seeds)} seeds a trial"] if search.seeds else []
    versions = search.versions
    told += [clean(f"{name} {versions[name]}") for name in _VERSIONS if versions.get(name)]
    yield Text(" · ".join(told), style="dim")
    for warning in search.warnings:
        yield Text.assemble(("warning", "yellow"), f": {clean(warning)}")


def _table(*names: str, right: Sequence[str] = ()) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in names:
        if name in right:
            table.add_column(name, justify="right", no_wrap=True)
        else:
            table.add_column(name, overflow="fold")
    return table


def _space_table(search: Search) -> Table:
    table = _table("parameter", "values", "in the config")
    for each in search.space:
        default = "" if each.default is None else label(each.default)
        cells = (each.path, words.domain(each), default)
        table.add_row(*(Text(clean(cell)) for cell in cells))
    return table


def trials_table(search: Search) -> Table:
    """The trials, the best first, those without a score last."""
    table = _table("trial", "score", "passed", "time", "values", right=("trial", "score", "time"))
    sign = 1 if search.objective.direction == "min" else -1

    def rank(trial: Trial) -> tuple[bool, float]:
        known = trial.score is not None and math.isfinite(trial.score)
        return not known or trial.status == "running", sign * (trial.score or 0.0) if known else 0.0

    for trial in sorted(search.trials, key=rank):
        cells = words.trial_cells(trial, search)
        style = "bold green" if trial.trial == search.best_trial else _STYLES.get(trial.status, "")
        number, score, passed, seconds, told = (Text(clean(cell)) for cell in cells)
        for cell in (number, score):
            cell.stylize(style)
        if trial.reason:
            told.append(f"\n{trial.status}: {clean(trial.reason)}", _STYLES.get(trial.status, ""))
        table.add_row(number, score, passed, seconds, told)
    return table


def _outcome(search: Search, directory: Path) -> Iterator[RenderableType]:
    best = search.best()
    if best is not None:
        yield from _winner(search, best)
    if search.comparison is not None:
        yield Text("\nOn fresh seeds", "bold")
        yield _arms_table(search, search.comparison)
        if search.comparison.reason:
            yield Text(clean(search.comparison.reason))
    if search.effects:
        yield Text("\nWhich parameter mattered", "bold")
        if any(effect.share is not None for effect in search.effects):
            yield _effects_table(search)
            yield Text(words.SHARES, "dim")
        yield Text(clean(words.effects_sentence(search)))
    yield from _closing(search, directory)


def _winner(search: Search, best: Trial) -> Iterator[RenderableType]:
    score = words.score(best.score)
    count = f"{len(best.runs)} seed{'s' * (len(best.runs) != 1)}"
    yield Text(f"\nBest: trial {best.trial}, score {score} on the {count} of the search", "bold")
    if best.trial == BASE:
        yield Text("It is the config as it is.")
        return
    table = _table("parameter", "in the config", "best")
    for parameter in search.space:
        if parameter.path in best.values:
            found = best.values[parameter.path]
            changed = found != parameter.default
            default = "" if parameter.default is None else label(parameter.default)
            table.add_row(
                Text(clean(parameter.path)),
                Text(clean(default)),
                Text(clean(words.chosen(parameter, found)), style="bold" if changed else "dim"),
            )
    yield table


def _arms_table(search: Search, found: Comparison) -> Table:
    trained = "trainings a run"
    table = _table("", "score", "passed", trained, right=("score", trained))
    for arm in found.arms:
        style = "bold green" if arm.arm == "tuned" and found.better else ""
        table.add_row(
            Text(words.arm_name(search, arm.arm), style=style),
            words.score(arm.score),
            _passed(arm),
            _trained(arm),
        )
    return table


def _passed(arm: ArmRuns) -> str:
    told = f"{arm.passed} of {len(arm.runs)}"
    if arm.passed_low is None or arm.passed_high is None:
        return told
    return f"{told} (95 %: {100 * arm.passed_low:.0f} to {100 * arm.passed_high:.0f} %)"


def _trained(arm: ArmRuns) -> str:
    costs = [run.cost for run in arm.runs if run.cost is not None]
    return f"{sum(costs) / len(costs):.3g}" if costs else ""


def _effects_table(search: Search) -> Table:
    table = _table("parameter", "share", "by chance", "best", right=("share", "by chance"))
    spaces = {parameter.path: parameter for parameter in search.space}
    for effect in search.effects:
        if effect.share is None or effect.chance is None:
            table.add_row(Text(clean(effect.path)), "–", "–", "")
            continue
        clear = effect.chance < words.CHANCE
        best = _best(effect, spaces.get(effect.path)) if clear else ""
        table.add_row(
            Text(clean(effect.path), style="bold" if clear else ""),
            f"{effect.share:.0%}",
            f"{effect.chance:.0%}" if effect.chance >= 0.01 else "< 1%",
            Text(clean(best)),
        )
    return table


def _best(effect: Effect, parameter: Parameter | None) -> str:
    told: Any = label(effect.best) if parameter is None else words.chosen(parameter, effect.best)
    return told if effect.edge is None else f"{told}, the {effect.edge} that was tried"


def _closing(search: Search, directory: Path) -> Iterator[RenderableType]:
    yield Text("")
    paths = SearchPaths(directory)
    if paths.tuned.exists():
        yield Text(f"Config: {relative(paths.tuned)}")
    if paths.picture.exists():
        yield Text(f"Picture: {relative(paths.picture)}")
    seconds = f"{duration(search.seconds)} in all, {duration(search.overhead_seconds)} of it"
    yield Text(f"Record: {relative(directory)}, {seconds} beside the runs")
    yield Text("")
    for text in words.verdict(search, relative(paths.tuned)):
        yield Text(clean(text), style="bold")
