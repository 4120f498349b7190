"""The content of a `run.json` as a record, and what is wrong with one that is none."""

import copy
import json
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from orchestrator.errors import NewerError, RecordError
from orchestrator.history import briefs
from orchestrator.record.checks import OutputWorth, PredictionVarianceCheck
from orchestrator.record.encoding import NON_FINITE, dump, jsonable
from orchestrator.record.records import Settings
from orchestrator.record.storage import archive
from orchestrator.record.storage.archive import parse
from tests.builders import LAW
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


def units(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda run: run["attempts"][0]["phases"][1]["checks"][1]["measured"].update(values)


UNITS = "attempts.0.phases.1.checks.1"
PLACE = "attempts.0.phases.1.checks.2"
LAYER = {"layer": "dense", "units": 4, "dead": 1}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda run: run.update(status="bogus"), "status: invalid enum value 'bogus'"),
        (lambda run: run.update(status=1), "status: expected `str`, received 1"),
        (lambda run: run.update(schema=0), "schema: expected 1, received 0"),
        (lambda run: run.update(schema=-1), "schema: expected 1, received -1"),
        (lambda run: run.update(schema=True), "schema: expected `int`, received true"),
        (lambda run: run.update(seconds=-5), "seconds: expected a length of time, received -5"),
        (lambda run: run.update(seconds="NaN"), "seconds: expected a length of time, received nan"),
        (lambda run: run.update(seconds="Infinity"), "seconds: expected a length of time, rec"),
        (lambda run: run["attempts"][1].update(seconds="NaN"),
         "attempts.1.seconds: expected a length of time, received nan"),
        (lambda run: run["attempts"][0]["phases"][1].update(seconds="Infinity"),
         "attempts.0.phases.1.seconds: expected a length of time, received inf"),
        (lambda run: run["attempts"][1].update(changed={"seed": {"from": 1}}),
         "attempts.1.changed.*.to: is missing"),
        (lambda run: run.update(inputs={"categories": {"sex": [[]]}}),
         "inputs.categories.*.0: expected `str`"),
        (lambda run: run["attempts"][0]["phases"][1].update(metrics={"loss": "low"}),
         "attempts.0.phases.1.metrics.*: expected `float`"),
        (lambda run: run.update(accepted_attempt=99), "accepted_attempt: there is no attempt 99"),
        (lambda run: run.update(best_attempt=3, accepted_attempt=None),
         "best_attempt: there is no attempt 3"),
        (lambda run: run.update(best_attempt=3), "best_attempt: there is no attempt 3"),
        (lambda run: run["attempts"].pop(0), "attempts.0.attempt: expected 1, received 2"),
        (lambda run: run["attempts"][1].update(start={"attempt": 2, "epoch": 1}),
         "attempts.1.start.attempt: expected an earlier attempt"),
        (lambda run: run.update(attempts="x"), "attempts: expected `array`, received 'x'"),
        (lambda run: run.pop("run"), "run: is missing"),
        (lambda run: run["attempts"][0].pop("settings"), "attempts.0.settings: is missing"),
        (lambda run: run["attempts"][0].update(failure=3), "attempts.0.failure: expected `object"),
        (lambda run: run["attempts"][0]["settings"].update(clip_norm="x"),
         "attempts.0.settings.clip_norm: expected `float | null`, received 'x'"),
        (lambda run: run.update(warnings=[1]), "warnings.0: expected `str`, received 1"),
        (measured(outputs=5), f"{PLACE}.measured.outputs: expected `array`, received 5"),
        (measured(outputs=[{"skill": "x"}]), f"{PLACE}.measured.outputs.0.skill: expected `float"),
        (units(layers=3), f"{UNITS}.measured.layers: expected `array`, received 3"),
        (units(layers=[{"units": 3}]), f"{UNITS}.measured.layers.0.layer: is missing"),
        (units(layers=[{**LAYER, "units": None}]), f"{UNITS}.measured.layers.0.units: expected"),
        (units(dead_fraction="x"), f"{UNITS}.measured.dead_fraction: expected `float"),
    ],
)  # fmt: skip
def test_what_is_no_record_is_refused_and_told_where(
    change: Callable[[dict[str, Any]], Any],
    problem: str,
    written: dict[str, Any],
) -> None:
    run = copy.deepcopy(written)
    change(run)
    content = json.dumps(run).encode()
    with pytest.raises(RecordError, match=f"run.json is damaged: {re.escape(problem)}"):
        parse(content, "run.json")


@pytest.mark.parametrize(
    "change", [limits(min_ratio="x"), limits(min_skill=[]), measured(validation=[{}])]
)
def test_limits_and_outputs_are_held_to_what_is_shown_of_them(
    change: Callable[[dict[str, Any]], Any], written: dict[str, Any]
) -> None:
    run = copy.deepcopy(written)
    change(run)
    content = json.dumps(run).encode()
    with pytest.raises(RecordError, match=f"run.json is damaged: {PLACE}"):
        parse(content, "run.json")


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
        assert taken(lambda: briefs.read_brief(tmp_path)) == readable, path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "run.json is damaged: it is no JSON: Expecting value"),
        (b"[]", r"run.json is damaged: expected `object`, received \[\]"),
        (b'{"a":' * 200_000, "run.json is damaged: it is no JSON: maximum recursion"),
        (b'{"run": "\xff"}', "run.json is damaged: it is no JSON: 'utf-8' codec"),
    ],
)
def test_what_is_no_json_is_damaged(content: bytes, message: str) -> None:
    with pytest.raises(RecordError, match=message):
        parse(content, "run.json")


def test_a_newer_record_says_so_first() -> None:
    with pytest.raises(NewerError, match="its schema is 2"):
        parse(b'{"schema": 2, "run": 5}', "run.json")


def test_keys_that_only_a_newer_version_writes_are_passed_over(written: dict[str, Any]) -> None:
    run = {**copy.deepcopy(written), "news": 1}
    measured(news=[{"any": "thing"}], outputs=[{"output": 0, "skill": "NaN", "news": 1}])(run)
    check = parse(json.dumps(run).encode(), "run.json").attempts[0].phases[1].checks[2]
    assert isinstance(check, PredictionVarianceCheck)
    assert repr(check.measured.outputs) == repr((OutputWorth(output=0, skill=math.nan),))


# ------------------------------------------------------------------------------- writing

TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text("abc ", max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc"), inner, max_size=3),
    max_leaves=12,
)


def _same(a: Any, b: Any) -> bool:
    """Equality under which NaN equals itself and 1 is not 1.0."""
    return repr(a) == repr(b)


def _read_back(value: Any) -> Any:
    """The JSON value with the texts that stand for numbers as numbers."""
    if isinstance(value, dict):
        return {key: _read_back(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_read_back(item) for item in value]
    return NON_FINITE.get(value, value) if isinstance(value, str) else value


@LAW
@given(TREES)
def test_json_and_back_keeps_numbers_that_json_does_not_have(value: Any) -> None:
    assert _same(_read_back(json.loads(dump(jsonable(value)))), value)


def test_non_finite_numbers_are_written_as_text() -> None:
    assert jsonable([math.nan, math.inf, -math.inf, 1.5]) == ["NaN", "Infinity", "-Infinity", 1.5]


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (np.float32(0.5), 0.5),
        (np.float64("nan"), "NaN"),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.array([[1.0, np.inf]]), [[1.0, "Infinity"]]),
        ((1, (2,)), [1, [2]]),
        ({3: "x"}, {"3": "x"}),
    ],
)
def test_numpy_and_tuples_become_plain_json(value: Any, plain: Any) -> None:
    assert _same(jsonable(value), plain)


def test_a_record_becomes_an_object_with_its_field_names() -> None:
    assert jsonable(Settings(seed=3, learning_rate_cap=0.1)) == {
        "seed": 3,
        "learning_rate_cap": 0.1,
        "anneal": None,
        "learning_rate_factor": None,
        "schedule_stretch": None,
        "momentum": None,
        "more_epochs": None,
        "negative_slope": None,
        "initializer": None,
        "dropout_cap": None,
        "penalty_cap": None,
        "clip_norm": None,
        "standardize": None,
        "output_activation": None,
        "output_loss": None,
    }


def test_a_file_name_that_is_not_utf8_survives_json() -> None:
    name = b"caf\xe9.csv".decode(errors="surrogateescape")
    assert json.loads(dump({"argv": [name], "word": "größe"})) == {"argv": [name], "word": "größe"}
    assert "größe".encode() in dump("größe")


def test_dump_refuses_what_is_not_json() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        dump(math.nan)
