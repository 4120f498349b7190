"""The history as a list: a row a run."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from orchestrator.display import words
from orchestrator.display.tables import Cell, Column, Row, Style
from orchestrator.history import find as history
from orchestrator.history import query
from orchestrator.history.briefs import Brief
from orchestrator.history.find import Unreadable
from orchestrator.record import archive, files
from orchestrator.record.directory import Paths
from orchestrator.record.encoding import dump, jsonable
from orchestrator.record.records import Attempt, Settings

_STYLES: dict[str, Style] = {
    "passed": "green", "running": "cyan", "interrupted": "yellow",
    "exhausted": "red", "invalid": "red", "error": "red",
}  # fmt: skip
_QUALITY = ("val_loss", "loss")
"""The metric that is shown where none is asked for: the first that any run has."""

_FIELDS = (
    "run", "name", "started", "status", "attempts", "failures", "remedy", "skill", "seconds",
    "screened_seeds",
)  # fmt: skip
"""The columns for programs, in an order that stays; a column a metric comes after them."""


def table(
    found: Sequence[Brief], metrics: Sequence[str]
) -> tuple[tuple[Column, ...], tuple[Row, ...]]:
    """The rows for people.

    Args:
        found: the runs.
        metrics: the numbers that were asked for by name.
    """
    known = ("skill", "attempts", "seconds", *query.TEXTS)
    asked = [name for name in dict.fromkeys(metrics) if name not in known]
    if not asked:
        asked = [name for name in _QUALITY if any(name in each.metrics for each in found)][:1]
    columns = (
        Column("run", least=14, middle=True),
        Column("started", optional=7),
        Column("status", least=len("interrupted")),
        Column("attempts", right=True, optional=5),
        Column("failures", least=11, optional=1),
        Column("repaired by", least=11, optional=3),
        Column("skill", right=True, optional=4),
        *(Column(name, right=True, optional=6) for name in asked),
        Column("time", right=True, optional=2),
    )
    year = f"{datetime.now().year}-"
    return columns, tuple([_row(brief, asked, year) for brief in found])


def _row(brief: Brief, metrics: Sequence[str], year: str) -> Row:
    status = brief.status if brief.state is None else f"{brief.status}: {brief.state}"
    return (
        Cell(brief.run),
        Cell(brief.started, _day(brief.started, year)),
        Cell(brief.status, status, _STYLES.get(brief.status)),
        Cell(brief.attempts),
        Cell(" ".join(brief.failures), ", ".join(brief.failures)),
        Cell(brief.remedy),
        _number(brief.skill, ".3g"),
        *(_number(query.number(brief, name), ".4g") for name in metrics),
        Cell(brief.seconds, words.duration(brief.seconds)),
    )


def _number(value: float | None, form: str) -> Cell:
    return Cell(value, None if value is None else format(value, form))


def fields(found: Sequence[Brief]) -> tuple[tuple[Column, ...], tuple[Row, ...]]:
    """The rows for programs, with every metric; lists are separated by blanks."""
    metrics = sorted({name for brief in found for name in brief.metrics})
    columns = (*map(Column, _FIELDS), *(Column(f"metrics.{name}") for name in metrics))
    rows = []
    for brief in found:
        values = [getattr(brief, name) for name in _FIELDS]
        values = [" ".join(value) if isinstance(value, tuple) else value for value in values]
        rows.append((*map(Cell, values), *(Cell(brief.metrics.get(name)) for name in metrics)))
    return columns, tuple(rows)


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
    runs: Path, found: Sequence[Brief], unreadable: Sequence[Unreadable]
) -> Iterator[bytes]:
    """The JSON document, a piece at a time, for all records together may be large.

    Args:
        runs: the folder of all runs.
        found: the runs that are wanted.
        unreadable: what could not be read.
    """
    left_out = list(unreadable)
    between = b"\n"
    yield b'{"schema": 1, "runs": ['
    for brief in found:
        try:
            record = _record(runs / brief.run, brief)
            piece = _encoded({**_without_layers(record), "directory": brief.run})
        except history.UNREADABLE as error:
            left_out.append(Unreadable(brief.run, history.why(error)))
            continue
        yield between + piece
        between = b",\n"
    yield (
        b'\n], "unreadable": ' + _encoded([dataclasses.asdict(each) for each in left_out]) + b"}\n"
    )


def _encoded(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:  # the name of a directory that is not UTF-8
        return dump(value)


def _record(directory: Path, brief: Brief) -> dict[str, Any]:
    """The run's record, from where its line was read."""
    if brief.recorded:
        with contextlib.suppress(*history.UNREADABLE, msgspec.MsgspecError):
            content = files.read(Paths(directory).record)
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


def _day(started: str | None, year: str) -> str:
    """A time as `when`, without the year that it is now."""
    return words.when(started).removeprefix(year)
