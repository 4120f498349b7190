"""The content of a `run.json` as a record, and what is wrong with one that is none."""

import copy
import json
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import NewerError, RecordError
from orchestrator.history import briefs
from orchestrator.record import archive
from orchestrator.record.decoding import parse
from tests.story import record, story


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    directory = record(tmp_path_factory.mktemp("runs"), story(loss=1e3))
    found: dict[str, Any] = json.loads((directory / "run.json").read_text())
    return found


def measured(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda run: run["attempts"][0]["phases"][1]["checks"][2]["measured"].update(values)


def limits(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda run: run["attempts"][0]["phases"][1]["checks"][2]["limits"].update(values)


PLACE = "attempts.0.phases.1.checks.2"
LAYER = {"layer": "dense", "units": 4, "dead": 1}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda run: run.update(status="bogus"), "status: expected 'running', "),
        (lambda run: run.update(status=1), "status: expected 'running', "),
        (lambda run: run.update(schema=0), "schema: expected 1, received 0"),
        (lambda run: run.update(schema=-1), "schema: expected 1, received -1"),
        (lambda run: run.update(schema=True), "schema: expected 1, received true"),
        (lambda run: run.update(seconds=-5), "seconds: expected a length of time, received -5"),
        (lambda run: run.update(seconds="NaN"), "seconds: expected a length of time, received nan"),
        (lambda run: run.update(seconds="Infinity"), "seconds: expected a length of time, rec"),
        (lambda run: run.update(accepted_attempt=99), "accepted_attempt: there is no attempt 99"),
        (lambda run: run.update(best_attempt=3, accepted_attempt=None),
         "best_attempt: there is no attempt 3"),
        (lambda run: run.update(best_attempt=3), "best_attempt: there is no attempt 3"),
        (lambda run: run.update(attempts="x"), "attempts: expected a list, received 'x'"),
        (lambda run: run.pop("run"), "run: is missing"),
        (lambda run: run["attempts"][0].pop("settings"), "attempts.0.settings: is missing"),
        (lambda run: run["attempts"][0].update(failure=3), "attempts.0.failure: expected an obj"),
        (lambda run: run["attempts"][0]["settings"].update(clip_norm="x"),
         "attempts.0.settings.clip_norm: expected a valid number, received 'x'"),
        (lambda run: run.update(warnings=[1]), "warnings.0: expected a valid string, received 1"),
        (measured(outputs=5), f"{PLACE}.measured.outputs: expected a list, received 5"),
        (measured(outputs=[{"skill": "x"}]), f"{PLACE}.measured.outputs.0.skill: expected a valid"),
        (measured(layers=3), f"{PLACE}.measured.layers: expected a list, received 3"),
        (measured(layers=[{"units": 3}]), f"{PLACE}.measured.layers.0.layer: is missing"),
        (measured(layers=[{**LAYER, "units": None}]), f"{PLACE}.measured.layers.0.units: expected"),
        (measured(dead_fraction="x"), f"{PLACE}.measured.dead_fraction: expected a valid number"),
    ],
)  # fmt: skip
def test_show_and_history_refuse_the_same_and_say_where(
    change: Callable[[dict[str, Any]], Any],
    problem: str,
    written: dict[str, Any],
) -> None:
    run = copy.deepcopy(written)
    change(run)
    content = json.dumps(run).encode()
    with pytest.raises(RecordError, match=f"run.json is damaged: {re.escape(problem)}"):
        parse(content, "run.json")
    with pytest.raises(RecordError, match="."):
        briefs.quick("name", content)


@pytest.mark.parametrize(
    "change", [limits(fail_above="x"), limits(gates=[{}]), measured(gates=[{"value": 1.0}])]
)
def test_limits_and_gates_are_held_to_what_is_shown_of_them(
    change: Callable[[dict[str, Any]], Any], written: dict[str, Any]
) -> None:
    run = copy.deepcopy(written)
    change(run)
    content = json.dumps(run).encode()
    with pytest.raises(RecordError, match=f"run.json is damaged: {PLACE}"):
        parse(content, "run.json")
    with pytest.raises(RecordError, match=r"."):
        briefs.quick("name", content)


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Paths of everything in a record; of a list's items the first stands for all."""
    if path:
        yield path
    items: Any = value.items() if isinstance(value, dict) else ()
    if isinstance(value, list):
        items = list(enumerate(value))[:1]
    for key, item in items:
        yield from places(item, (*path, key))


GONE = object()


def taken(read: Callable[[], Any]) -> bool:
    try:
        read()
    except RecordError:
        return False
    return True


@pytest.mark.parametrize("value", [None, True, -1, 1.5, 10**30, "x", "NaN", [], {}, [1], GONE])
def test_whatever_stands_anywhere_a_line_is_listed_where_the_record_can_be_read(
    value: Any, written: dict[str, Any], tmp_path: Path
) -> None:
    for path in places(written):
        run = copy.deepcopy(written)
        place: Any = run
        for key in path[:-1]:
            place = place[key]
        if value is GONE:
            del place[path[-1]]
        else:
            place[path[-1]] = value
        (tmp_path / "run.json").write_text(json.dumps(run))
        readable = taken(lambda: archive.read(tmp_path))
        assert taken(lambda: briefs.read(tmp_path)) == readable, path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "run.json is damaged: it is no JSON: EOF while parsing"),
        (b"[]", r"run.json is damaged: expected an object, received \[\]"),
        (b'{"a":' * 200_000, "run.json is damaged: it is no JSON: recursion limit"),
        (b'{"run": "\xff"}', "run.json is damaged: it is no JSON: invalid unicode"),
    ],
)
def test_what_is_no_json_is_damaged(content: bytes, message: str) -> None:
    with pytest.raises(RecordError, match=message):
        parse(content, "run.json")


def test_a_newer_record_says_so_first() -> None:
    with pytest.raises(NewerError, match="its schema is 2"):
        parse(b'{"schema": 2, "run": 5}', "run.json")


def test_values_that_only_a_newer_version_measures_are_let_through(
    written: dict[str, Any],
) -> None:
    run = copy.deepcopy(written)
    measured(news=[{"any": "thing"}], outputs=[{"output": 0, "skill": "NaN", "news": 1}])(run)
    found = parse(json.dumps(run).encode(), "run.json").attempts[0].phases[1].checks[2].measured
    assert found["news"] == [{"any": "thing"}]
    assert math.isnan(found["outputs"][0]["skill"])
