"""Runs or attempts side by side: only what differs."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import asdict

from orchestrator.config import recorded
from orchestrator.display.tables import Cell, Column, Row
from orchestrator.record.checks import DeadNeuronsCheck
from orchestrator.record.encoding import jsonable
from orchestrator.record.records import Attempt, Run
from orchestrator.record.storage import archive

_NOTHING = "–"
_LEAST = 12
"""Columns of the terminal that each side keeps, however narrow that is."""
_HASH = re.compile(r"(sha256:)?[0-9a-f]{40,}")
_DIGEST = 19
"""How many characters of a hash people see."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Side:
    """A run or an attempt that is compared."""

    name: str
    """The run's name, with the attempt where one was asked for."""
    facts: Mapping[str, Any]
    """Its settings, data, environment and results, each value by its dotted path."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """A fact that is not the same on all sides."""

    fact: str
    """Dotted path; its first part is `settings`, `data`, `environment` or `results`."""
    values: tuple[Any, ...]
    """One for each side; None where it has none."""


def read_side(directory: Path, run: Run, number: int | None) -> Side:
    """What is known of a run, or of one of its attempts.

    Args:
        directory: the run's directory.
        run: its record.
        number: the attempt; None for the run, which stands for its accepted attempt, or else the
            best, or else the last.
    """
    wanted = number or run.accepted_attempt or run.best_attempt or len(run.attempts)
    attempt = next((each for each in run.attempts if each.attempt == wanted), None)
    environment = archive.environment(directory)
    config = recorded.read(directory)
    source = config.pop("data", None)
    data = {
        "fingerprint": environment.pop("data", None),
        **(source if isinstance(source, dict) else {}),
    }
    for key in ("schema", "argv", "cwd"):
        environment.pop(key, None)
    facts = {
        "settings": {**config, **_settings(attempt)},
        "data": {**data, "inputs": jsonable(run.inputs)},
        "environment": environment,
        "results": _results(run, attempt, whole=number is None),
    }
    name = directory.name if number is None else f"{directory.name}@{number}"
    return Side(name=name, facts=dict(_flat(facts, "")))


def differences(sides: Sequence[Side]) -> tuple[Difference, ...]:
    """The facts that are not the same for all, in the order in which the sides tell them."""
    names = dict.fromkeys(name for each in sides for name in each.facts)
    found = []
    for name in sorted(names, key=lambda name: _ORDER.index(name.split(".")[0])):
        values = tuple(each.facts.get(name) for each in sides)
        same = jsonable(values[0])  # as JSON, in which NaN is equal to NaN
        if any(jsonable(value) != same for value in values):
            found.append(Difference(fact=name, values=values))
    return tuple(found)


_ORDER = ("settings", "data", "environment", "results")


def table(
    sides: Sequence[Side], found: Sequence[Difference]
) -> tuple[tuple[Column, ...], tuple[Row, ...]]:
    """The comparison as a table: a row for each difference, a column for each side."""
    names = (Column(each.name, least=_LEAST) for each in sides)
    columns = (Column("differs", least=_LEAST, middle=True), *names)
    rows = tuple(
        (Cell(difference.fact), *(Cell(value, _shown(value)) for value in difference.values))
        for difference in found
    )
    return columns, rows


def document(sides: Sequence[Side], found: Sequence[Difference]) -> dict[str, Any]:
    """The comparison as JSON."""
    facts = {name for each in sides for name in each.facts}
    return {
        "schema": 1,
        "compared": [each.name for each in sides],
        "same": len(facts) - len(found),
        "differences": [jsonable(difference) for difference in found],
    }


def _settings(attempt: Attempt | None) -> dict[str, Any]:
    """The settings of the attempt, whose seed may differ from the config's."""
    return {} if attempt is None else {"attempt": asdict(attempt.settings)}


def _results(run: Run, attempt: Attempt | None, *, whole: bool) -> dict[str, Any]:
    """How the run or the attempt ended, and what was measured after its last phase."""
    results: dict[str, Any] = {}
    if whole:
        results["status"] = run.status
        results["attempts"] = len(run.attempts)
        results["screened_seeds"] = run.screened_seeds
    if attempt is None:
        return results
    results["remedy"] = attempt.remedy
    if not whole:
        results["status"] = attempt.status
    failure = attempt.failure
    results["failed"] = None if failure is None else f"{failure.check} at {failure.phase}"
    causes = dict.fromkeys(finding.cause for finding in attempt.findings)
    results["causes"] = ", ".join(causes) or None
    results["skill"] = attempt.skill()
    results["epochs"] = attempt.trained
    results["seconds"] = run.seconds if whole else attempt.seconds
    if attempt.phases:
        last = attempt.phases[-1]
        results["last_phase"] = last.phase
        results["metrics"] = last.metrics
        results["verdicts"] = {check.check: check.verdict for check in last.checks}
        units = last.find(DeadNeuronsCheck)
        layers = () if units is None else units.measured.layers
        results["dead_units"] = {layer.layer: layer.dead for layer in layers}
    return results


def _flat(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """The values in nested containers, each with its dotted path."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _flat(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple) and value:
        for index, item in enumerate(value):
            yield from _flat(item, f"{path}.{index}")
    elif isinstance(value, Mapping | list | tuple):
        return
    else:
        yield path, value


def _shown(value: Any) -> str:
    if value is None:
        return _NOTHING
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    return f"{text[:_DIGEST]}…" if _HASH.fullmatch(text) else text
