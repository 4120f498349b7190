"""The benchmarks start: what they measure takes too long for a test."""

import inspect
from collections import Counter

import click
import pytest

from tests.benchmarks import epochs, fuzz, history, learned, overhead, reading, stopping, watch, zoo
from tests.benchmarks.restarts import __main__ as restarts
from tests.benchmarks.restarts import table
from tests.benchmarks.restarts.cases import CASES
from tests.benchmarks.restarts.table import Outcomes
from tests.benchmarks.restarts.trials import Outcome, trained_epochs

HALVES = ("tuned", "held_out")


@pytest.mark.parametrize(
    "command",
    [
        epochs.main,
        fuzz.main,
        history.main,
        learned.main,
        overhead.main,
        reading.main,
        restarts.main,
        stopping.main,
        watch.main,
        zoo.main,
    ],
)
def test_options_are_what_the_function_takes(command: click.Command) -> None:
    assert command.callback is not None
    taken = inspect.signature(command.callback).parameters
    assert [param.name for param in command.params if param.name not in taken] == []
    assert len(command.params) == len(taken)


def test_of_each_kind_of_case_of_restarts_no_more_than_about_half_may_be_tuned_by() -> None:
    tuned, held = (
        Counter(each.kind for each in CASES.values() if each.half == half) for half in HALVES
    )
    assert len(CASES) >= 40
    assert (tuned + held)["healthy"] >= 12
    assert all(tuned[kind] <= held[kind] + 1 for kind in tuned)
    assert all(case.known for case in CASES.values() if case.kind == "repairable")


def test_what_an_attempt_inherits_is_no_cost_and_what_a_race_loses_is() -> None:
    phases = [{"epochs": 0}, {"epochs": 40}, {"epochs": 60}]
    assert trained_epochs({"phases": phases}) == 100
    raced = [{"epochs": 5, "reason": "it has learnt less"}, {"epochs": 5, "reason": None}]
    rewound = {"phases": phases, "start": {"attempt": 1, "epoch": 40}, "raced": raced}
    assert trained_epochs(rewound) == 65


def test_a_failure_that_only_an_end_has_shown_may_cost_more() -> None:
    def outcome(cost: float, late: bool) -> Outcome:
        return Outcome(
            seed=1, passed=True, cost=cost, seconds=1, skill=1, reference=1, attempts=2, late=late
        )

    found: Outcomes = {"orchestrator": [outcome(1.5, False), outcome(2.2, True)]}
    told = "\n".join(table.summary(CASES, {"fast": found}))
    assert "95th percentile of the cost where it showed before an end ≤ 2: 1 of 1" in told
    assert "95th percentile of the cost ≤ 2.5: 1 of 1" in told
    found = {"orchestrator": [outcome(2.1, False), outcome(2.2, True)]}
    assert "≤ 2: 0 of 1; not fast 2.10" in "\n".join(table.summary(CASES, {"fast": found}))


def test_a_repair_that_does_not_pass_has_learnt_nothing() -> None:
    def outcome(seed: int, skill: float, passed: bool = True) -> Outcome:
        return Outcome(
            seed=seed, passed=passed, cost=seed, seconds=1, skill=skill, reference=1, attempts=1
        )

    found: Outcomes = {
        "orchestrator": [outcome(1, 0.8), outcome(2, 0.8), outcome(3, 0.7, passed=False)],
        "oracle": [outcome(1, 0.8)],
    }
    told = "\n".join(table.summary(CASES, {"fast": found}))
    assert "median skill over the oracle's ≥ 0.9: 1 of 1" in told
    assert "least skill over the oracle's ≥ 0.7: 0 of 1; not fast 0.00" in told
    assert "mean cost ≤ 1.3: 0 of 1; not fast 2.00" in told
