"""The history as a table, a row a run: for people, for spreadsheets and as JSON."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from orchestrator.display import words
from orchestrator.display.tables import Cell, Column, Row, Style
from orchestrator.history import query
from orchestrator.history.briefs import NUMBERS, TEXTS, Brief
from orchestrator.history.find import UNREADABLE, FoundSearch, Unreadable, reason_of
from orchestrator.record.encoding import dump, jsonable
from orchestrator.record.records import Attempt, Settings
from orchestrator.record.search import Search, Trial
from orchestrator.record.storage import archive
from orchestrator.record.storage.directory import Paths, read_file

_STYLES: dict[str, Style] = {
    "passed": "green", "running": "cyan", "interrupted": "yellow",
    "exhausted": "red", "invalid": "red", "error": "red",
}  # fmt: skip
_QUALITY = ("val_loss", "loss")
"""The metrics of which the first that any run has is shown where none is asked for."""

_FIELDS = tuple(
    name for name in Brief.__struct_fields__
    if name not in ("failed", "metrics", "state", "recorded")
)  # fmt: skip
"""The columns for programs; one for each metric follows them."""


def _status(brief: Brief) -> Cell:
    text = brief.status if brief.state is None else f"{brief.status}: {brief.state}"
    return Cell(brief.status, text, _STYLES.get(brief.status))


def _started(started: str | None) -> Cell:
    """The time as people here read it, without the year that it is now."""
    year = f"{datetime.now().year}-"
    return Cell(started, words.when(started).removeprefix(year))


def _number(value: float | None, form: str) -> Cell:
    return Cell(value, None if value is None else format(value, form))


class Shown(NamedTuple):
    """A column for people."""

    field: str
    """The field of `Brief` or the metric that it shows."""
    column: Column
    """Its heading, and how it gives way on a narrow terminal."""
    cell: Callable[[Brief], Cell]
    """Its cell for a run."""


COLUMNS = (
    Shown("run", Column("run", least=14, middle=True), lambda brief: Cell(brief.run)),
    Shown("started", Column("started", optional=7), lambda brief: _started(brief.started)),
    Shown("status", Column("status", least=len("interrupted")), _status),
    Shown(
        "attempts",
        Column("attempts", right=True, optional=5),
        lambda brief: Cell(brief.attempts),
    ),
    Shown(
        "failures",
        Column("failures", least=11, optional=1),
        lambda brief: Cell(" ".join(brief.failures), ", ".join(brief.failures)),
    ),
    Shown(
        "remedy",
        Column("repaired by", least=11, optional=3),
        lambda brief: Cell(brief.remedy),
    ),
    Shown(
        "skill",
        Column("skill", right=True, optional=4),
        lambda brief: _number(brief.skill, ".3g"),
    ),
    # The metrics stand here.
    Shown(
        "seconds",
        Column("time", right=True, optional=2),
        lambda brief: Cell(brief.seconds, words.duration(brief.seconds)),
    ),
)
"""The columns for people, from left to right."""


def table(
    found: Sequence[Brief], asked: Sequence[str]
) -> tuple[tuple[Column, ...], tuple[Row, ...]]:
    """The rows for people.

    Args:
        found: the runs.
        asked: the fields and metrics that were asked for by name.
    """
    fields = {shown.field for shown in COLUMNS if shown.field in NUMBERS} | {*TEXTS}
    metrics = [name for name in dict.fromkeys(asked) if name not in fields]
    if not metrics:
        metrics = [name for name in _QUALITY if any(name in each.metrics for each in found)][:1]
    columns = (*COLUMNS[:-1], *map(_metric, metrics), COLUMNS[-1])
    rows = tuple([tuple([shown.cell(brief) for shown in columns]) for brief in found])
    return tuple([shown.column for shown in columns]), rows


def _metric(name: str) -> Shown:
    column = Column(name, right=True, optional=6)
    return Shown(name, column, lambda brief: _number(query.number(brief, name), ".4g"))


def fields(found: Sequence[Brief]) -> tuple[tuple[Column, ...], tuple[Row, ...]]:
    """The rows for programs, with every metric; the items of a list are separated by blanks."""
    metrics = sorted({name for brief in found for name in brief.metrics})
    columns = (*map(Column, _FIELDS), *(Column(f"metrics.{name}") for name in metrics))
    rows = []
    for brief in found:
        values = [getattr(brief, name) for name in _FIELDS]
        values = [" ".join(value) if isinstance(value, tuple) else value for value in values]
        rows.append((*map(Cell, values), *(Cell(brief.metrics.get(name)) for name in metrics)))
    return columns, tuple(rows)


def searches(found: Sequence[FoundSearch]) -> tuple[tuple[Column, ...], tuple[Row, ...]]:
    """A row a search, for people and for programs."""
    columns = (
        Column("search", least=14, middle=True),
        Column("started", optional=5),
        Column("status", least=len("interrupted")),
        Column("trials", right=True),
        Column("objective", least=9, optional=3),
        Column("best score", right=True),
        Column("recommended", optional=2),
        Column("time", right=True, optional=4),
    )
    return columns, tuple([_search(each) for each in found])


def _search(found: FoundSearch) -> Row:
    search = found.search
    best = search.best()
    ended = sum(trial.status != "running" for trial in search.trials)
    status: Style = "green" if search.status == "finished" else "yellow"
    style = _STYLES.get(search.status, status)
    return (
        Cell(found.directory),
        _started(search.started),
        Cell(search.status, None, style),
        Cell(ended, f"{ended} of {search.max_trials}" if search.status != "finished" else None),
        Cell(search.objective.name),
        _number(None if best is None else best.score, ".4g"),
        Cell(search.recommended),
        Cell(search.seconds, words.duration(search.seconds)),
    )


def trials(search: Search) -> tuple[tuple[Column, ...], tuple[Row, ...]]:
    """A row a trial, for programs and for Markdown; a column for each parameter."""
    names = ("trial", "status", "score", "runs", "passed", "seconds", "reason")
    paths = [parameter.path for parameter in search.space]
    columns = tuple(Column(name) for name in (*names, *paths))
    rows = []
    for trial in search.trials:
        passed = sum(run.status == "passed" for run in trial.runs)
        numbers = (trial.score, len(trial.runs), passed, trial.seconds, trial.reason)
        rows.append((
            *map(Cell, (trial.trial, trial.status, *numbers)),
            *(_parameter(trial, path) for path in paths),
        ))  # fmt: skip
    return columns, tuple(rows)


def _parameter(trial: Trial, path: str) -> Cell:
    value = trial.values.get(path)
    return Cell(dump(value).decode() if isinstance(value, list | dict) else value)


def attempts(found: Sequence[Attempt]) -> tuple[tuple[Column, ...], tuple[Row, ...]]:
    """A row an attempt, for programs and for Markdown."""
    settings = Settings.__struct_fields__
    numbers = ("attempt", "skill", "seconds")
    names = ("attempt", "status", "remedy", "failed", "phase", "reason", "skill", "seconds")
    columns = tuple(Column(name, right=name in numbers) for name in (*names, *settings))
    rows = []
    for attempt in found:
        failure = attempt.failure
        ending = (None,) * 3 if failure is None else (failure.check, failure.phase, failure.reason)
        rows.append((
            *map(Cell, (attempt.attempt, attempt.status, attempt.remedy, *ending)),
            _number(attempt.skill(), ".3g"),
            Cell(attempt.seconds),
            *(_setting(getattr(attempt.settings, name)) for name in settings),
        ))  # fmt: skip
    return columns, tuple(rows)


def _setting(value: Any) -> Cell:
    # The framework's single precision has digits that nobody wrote.
    return Cell(value, f"{value:.6g}" if isinstance(value, float) else None)


def documents(
    runs: Path,
    found: Sequence[Brief],
    unreadable: Sequence[Unreadable],
    searches: Sequence[FoundSearch] = (),
) -> Iterator[bytes]:
    """The JSON document, a piece at a time, since all records together may be large.

    Args:
        runs: the folder of all runs.
        found: the runs that are wanted.
        unreadable: what could not be read.
        searches: the searches that are wanted; each goes without the runs of its trials.
    """
    left_out = list(unreadable)
    between = b"\n"
    yield b'{"schema": 1, "runs": ['
    for brief in found:
        try:
            record = _record(runs / brief.run, brief)
            piece = _encoded({**_without_layers(record), "directory": brief.run})
        except UNREADABLE as error:
            left_out.append(Unreadable(brief.run, reason_of(error)))
            continue
        yield between + piece
        between = b",\n"
    told = [
        {**jsonable(replace(each.search, trials=_without_runs(each))), "directory": each.directory}
        for each in searches
    ]
    yield b'\n], "searches": ' + _encoded(told)
    yield (b', "unreadable": ' + _encoded([dataclasses.asdict(each) for each in left_out]) + b"}\n")


def _without_runs(found: FoundSearch) -> tuple[Trial, ...]:
    return tuple(replace(trial, runs=()) for trial in found.search.trials)


def _encoded(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:  # the name of a directory that is not UTF-8
        return dump(value)


def _record(directory: Path, brief: Brief) -> dict[str, Any]:
    """The record of a run, from the same file as its line."""
    if brief.recorded:
        with contextlib.suppress(*UNREADABLE, msgspec.MsgspecError):
            content = read_file(Paths(directory).record)
            found: dict[str, Any] = msgspec.json.decode(content)
            return found
    record: dict[str, Any] = jsonable(archive.read(directory))
    return record if brief.state is None else {**record, "state": brief.state}


def _without_layers(value: Any, *, measured: bool = False) -> Any:
    if isinstance(value, dict):
        return {
            key: _without_layers(item, measured=measured or key == "measured")
            for key, item in value.items()
            if not (measured and key == "layers")
        }
    if isinstance(value, list):
        return [_without_layers(item, measured=measured) for item in value]
    return value
