from __future__ import annotations

import json
import math
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from orchestrator.record.records import (
    INIT,
    Attempt,
    Check,
    Phase,
    Settings,
    dump,
    jsonable,
    numbers,
    without_units,
)
from tests import builders
from tests.builders import LAW

TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text("abc ", max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc"), inner, max_size=3),
    max_leaves=12,
)


def _same(a: Any, b: Any) -> bool:
    """Equality under which NaN equals itself and 1 is not 1.0."""
    return repr(a) == repr(b)


@LAW
@given(TREES)
def test_json_and_back_keeps_numbers_that_json_does_not_have(value: Any) -> None:
    assert _same(numbers(json.loads(dump(jsonable(value)))), value)


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
        "negative_slope": None,
        "initializer": None,
        "clip_norm": None,
    }


def test_a_file_name_that_is_not_utf8_survives_json() -> None:
    name = b"caf\xe9.csv".decode(errors="surrogateescape")
    assert json.loads(dump({"argv": [name], "word": "größe"})) == {"argv": [name], "word": "größe"}
    assert "größe".encode() in dump("größe")


def test_dump_refuses_what_is_not_json() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        dump(math.nan)


def test_per_unit_lists_are_left_out_of_what_was_measured_only() -> None:
    record = {
        "metrics": {"dead_units": 3.0},
        "categories": {"active_rows": ["a"]},
        "checks": [{"measured": {"layers": [{"dead": 1, "dead_units": [0], "active_rows": [9]}]}}],
    }
    assert without_units(record) == {
        "metrics": {"dead_units": 3.0},
        "categories": {"active_rows": ["a"]},
        "checks": [{"measured": {"layers": [{"dead": 1}]}}],
    }


def test_changes_name_the_settings_that_differ() -> None:
    before = Settings(seed=1)
    after = Settings(seed=2, negative_slope=0.2)
    assert after.changes(before) == {
        "seed": {"from": 1, "to": 2},
        "negative_slope": {"from": None, "to": 0.2},
    }
    assert after.changes(after) == {}


def test_the_first_failing_check_names_the_failure() -> None:
    checks = [
        Check(check="finite", verdict="pass", reason="a"),
        Check(check="dead_neurons", verdict="fail", reason="b"),
        Check(check="prediction_variance", verdict="fail", reason="c"),
    ]
    failure = builders.phase("main", *checks).failure()
    assert failure is not None
    assert (failure.check, failure.phase, failure.reason) == ("dead_neurons", "main", "b")


@pytest.mark.parametrize("verdict", ["pass", "warn", "not_applicable"])
def test_only_fail_is_a_failure(verdict: Any) -> None:
    assert builders.phase("main", builders.check(verdict)).failure() is None


def _attempt(*phases: Phase) -> Attempt:
    return Attempt(attempt=1, status="failed", settings=Settings(seed=0), phases=phases)


def _rated(*skills: float) -> Check:
    outputs = [{"output": index, "skill": skill} for index, skill in enumerate(skills)]
    return Check(
        check="prediction_variance", verdict="pass", reason="", measured={"outputs": outputs}
    )


def test_skill_is_the_lowest_of_the_outputs_after_the_last_phase() -> None:
    phases = (builders.phase("warmup", _rated(0.1)), builders.phase("main", _rated(0.9, 0.4)))
    assert _attempt(*phases).skill() == 0.4


@pytest.mark.parametrize("bad", [math.nan, -math.inf])
def test_an_output_without_a_finite_skill_leaves_the_attempt_without_one(bad: float) -> None:
    assert _attempt(builders.phase("main", _rated(0.9, bad))).skill() is None


def test_an_attempt_that_never_trained_has_no_skill() -> None:
    assert _attempt().skill() is None
    assert _attempt(builders.phase(INIT, _rated(0.0))).skill() is None


def test_an_output_that_was_not_rated_has_no_say_in_the_skill() -> None:
    constant = {"output": 0, "kind": "regression"}
    rated = {"output": 1, "kind": "regression", "skill": 0.7}
    check = Check(
        check="prediction_variance",
        verdict="pass",
        reason="",
        measured={"outputs": [constant, rated]},
    )
    assert _attempt(builders.phase("main", check)).skill() == 0.7
