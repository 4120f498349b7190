"""The benchmarks start: what they measure takes too long for a test."""

import inspect
from collections import Counter

import click
import pytest

from tests.benchmarks import epochs, fuzz, history, learned, overhead, reading, stopping, watch, zoo
from tests.benchmarks.restarts import __main__ as restarts
from tests.benchmarks.restarts import drawn, table
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
        drawn.main,
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


def test_a_number_draws_one_network_and_its_known_settings() -> None:
    cases = [drawn.case(number) for number in range(200)]
    assert cases == [drawn.case(number) for number in range(200)]
    losses, optimizers = {each.loss for each in cases}, {[*each.optimizer][0] for each in cases}
    assert losses >= {"mse", "mae", "huber", "binary_crossentropy"}
    assert optimizers == {"SGD", "Adam", "RMSprop", "AdamW", "Adagrad"}
    shocked = [number for number, each in enumerate(cases) if len(each.phases) == 3]
    assert 15 <= len(shocked) <= 45
    for name, known in drawn.known(shocked[0]):
        assert known.epochs == cases[shocked[0]].epochs
        assert all("learning_rate" not in phase for phase in known.known["phases"]), name


def test_drawn_networks_are_counted_by_what_became_of_them() -> None:
    def found(skill: float, attempts: int, *, passed: bool = True) -> drawn.Found:
        run = Outcome(
            seed=1, passed=passed, cost=2, seconds=1, skill=skill, reference=1, attempts=attempts
        )
        return drawn.Found(number=1, about="", run=run, best=0.8, best_by="Adam")

    outcomes = [found(0.5, 1), found(0.76, 2), found(0.6, 3), found(0.1, 8, passed=False)]
    told = [*drawn.summary(outcomes)]
    assert told[0].startswith("not restarted: 1, mean cost 2.00, at least 0.9 of the best known: 0")
    assert "restarted and passed: 2" in told[1] and "known: 1, at least 0.7: 2" in told[1]
    assert told[2].startswith("exhausted: 1")
