from __future__ import annotations

import math
from typing import Any

import pytest
from msgspec.structs import replace

from orchestrator.record.checks import AnyCheck
from orchestrator.record.encoding import decode, decoder, jsonable
from orchestrator.record.records import INIT, Attempt, Finding, Phase, Settings
from tests import builders


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
        builders.made("finite", reason="a"),
        builders.made("dead_neurons", verdict="fail", reason="b"),
        builders.made("prediction_variance", verdict="fail", reason="c"),
    ]
    failure = builders.phase("main", *checks).failure()
    assert failure is not None
    assert (failure.check, failure.phase, failure.reason) == ("dead_neurons", "main", "b")


@pytest.mark.parametrize("verdict", ["pass", "warn", "not_applicable"])
def test_only_fail_is_a_failure(verdict: Any) -> None:
    assert builders.phase("main", builders.check(verdict)).failure() is None


def _attempt(*phases: Phase) -> Attempt:
    return Attempt(attempt=1, status="failed", settings=Settings(seed=0), phases=phases)


def _rated(*skills: float) -> AnyCheck:
    outputs = [{"output": index, "skill": skill} for index, skill in enumerate(skills)]
    return builders.made("prediction_variance", measured={"outputs": outputs})


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
    check = builders.made("prediction_variance", measured={"outputs": [constant, rated]})
    assert _attempt(builders.phase("main", check)).skill() == 0.7


def test_what_was_suspected_and_confirmed_is_told_once_with_its_place() -> None:
    before = Finding(cause="unscaled_inputs", reason="bytes", found="before", key="data", line=2)
    other = Finding(cause="initialization", reason="zeros")
    after = Finding(cause="unscaled_inputs", reason="bytes")
    attempt = Attempt(
        attempt=1, status="failed", settings=Settings(seed=0), findings=(before, other, after)
    )
    assert set(attempt.told_findings()) == {before, other}


def test_what_training_adds_to_a_suspicion_is_told_instead_of_it() -> None:
    before = Finding(cause="unreachable_targets", reason="tanh", found="before", key="model.last")
    after = replace(before, reason="tanh, to 0.6 at most", found="after")
    other = replace(before, key="model.other")
    attempt = Attempt(
        attempt=1, status="passed", settings=Settings(seed=0), findings=(before, other, after)
    )
    assert set(attempt.told_findings()) == {other, after}


def test_a_finding_of_an_older_record_is_read() -> None:
    old = b'{"cause": "held_at_zero", "reason": "by L1: weaken it", "final": true}'
    found = decode(old, decoder(Finding))
    assert found == Finding(cause="held_at_zero", reason="by L1: weaken it", certain=True)
    assert (found.found, found.told) == ("after", "by L1: weaken it")
    assert "final" not in jsonable(found)
