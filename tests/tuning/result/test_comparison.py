import math

import pytest
from msgspec.structs import replace

from orchestrator.record.search import ArmRuns, Comparison, Objective, Term
from orchestrator.tuning.result.comparison import compare
from tests.searches import COST, arm

SKILL = Objective(
    name="skill", direction="max", terms=(Term(measure="skill", direction="max"),), penalty=8.0
)
COSTS = [1.0, 2.0, 1.0, 1.5, 3.0, 1.0, 2.0, 1.25, 1.0, 2.0]


def _compare(*arms: ArmRuns, objective: Objective = COST) -> Comparison:
    return compare(tuple(range(101, 101 + len(arms[0].runs))), arms, objective)


def test_a_winner_that_is_cheaper_on_every_seed_is_better() -> None:
    found = _compare(arm("default", *(cost + 0.5 for cost in COSTS)), arm("tuned", *COSTS))
    assert found.better is True
    assert found.default is not None
    assert (found.default.mean, found.default.low, found.default.high) == (-0.5, -0.5, -0.5)
    assert found.reason == (
        "On 10 fresh seeds the mean is 1.57 trainings with the tuned config and 2.08 trainings "
        "with the default policy. It is better than the default policy: 0.5 less, on every "
        "seed."
    )
    assert [each.score for each in found.arms] == [2.075, 1.575]


def test_one_that_wins_as_often_as_it_loses_is_not() -> None:
    gains = [0.5, -0.5] * 5
    mixed = [cost + gain for cost, gain in zip(COSTS, gains, strict=True)]
    found = _compare(arm("default", *COSTS), arm("tuned", *mixed))
    assert found.better is False
    assert found.reason is not None
    assert (
        "It is not shown to be better than the default policy: no difference a run" in found.reason
    )


@pytest.mark.parametrize(
    ("objective", "gain", "told"),
    [
        (COST, -0.1, "It is better than "),
        (COST, 0.1, "It is worse than "),
        (SKILL, 0.1, "It is better than "),
        (SKILL, -0.1, "It is worse than "),
    ],
)
def test_the_direction_of_the_objective_says_what_is_better(
    objective: Objective, gain: float, told: str
) -> None:
    tuned = [cost + gain * (1 + index % 3) for index, cost in enumerate(COSTS)]
    found = _compare(arm("default", *COSTS), arm("tuned", *tuned), objective=objective)
    assert found.reason is not None
    assert told in found.reason
    assert found.better is (told == "It is better than ")
    side = "less" if gain < 0 else "more"
    assert found.reason.count(side) == 3  # the mean and both ends of the interval


def test_equal_scores_gain_nothing() -> None:
    found = _compare(arm("default", *COSTS), arm("tuned", *COSTS))
    assert found.better is False
    assert found.reason is not None
    assert found.reason.endswith(
        "Seed by seed they are equal: nothing is gained over the default policy."
    )


@pytest.mark.parametrize("count", [1, 5])
def test_a_few_seeds_say_nothing(count: int) -> None:
    found = _compare(arm("default", *[9.0] * count), arm("tuned", *[1.0] * count))
    assert found.better is False
    assert found.default is not None
    assert (found.default.mean, found.default.low) == (-8.0, -math.inf)
    assert found.reason is not None
    assert "So few seeds say nothing with 95 % confidence; six are the fewest" in found.reason


def test_a_seed_without_a_result_does_not_count_and_nobody_wins_by_it() -> None:
    costs: list[float | None] = [1.0] * 10
    costs[3] = None
    found = _compare(arm("default", *[2.0] * 10), arm("tuned", *costs))
    assert found.default is not None
    assert found.default.pairs == 9
    assert found.better is False
    assert found.reason is not None
    assert found.reason.startswith("On 9 fresh seeds the mean is 1 training with the tuned config")
    assert "Of 10 seeds 1 had no result with both, and do not count." in found.reason
    assert "It is not taken for better, since the default policy has fewer" in found.reason
    other = _compare(arm("default", *[2.0] * 3, None, *[2.0] * 6), arm("tuned", *[1.0] * 10))
    assert other.better is True
    assert other.arms[0].score == 2.0


def test_not_a_number_is_no_result() -> None:
    found = _compare(arm("default", *[2.0] * 9, math.nan), arm("tuned", *[1.0] * 10))
    assert found.default is not None
    assert (found.default.pairs, found.default.mean) == (9, -1.0)
    nothing = _compare(arm("default", None, None), arm("tuned", 1.0, 1.0))
    assert nothing.better is False
    assert nothing.reason == (
        "No fresh seed has a result with both the tuned config and the default policy."
    )


def test_a_penalised_run_counts_and_is_no_success() -> None:
    found = _compare(arm("default", 12.0, *[1.0] * 9, failing=1), arm("tuned", *[1.0] * 10))
    default, tuned = found.arms
    assert (default.passed, tuned.passed) == (9, 10)
    assert default.passed_low == pytest.approx(0.5958, abs=5e-5)
    assert tuned.passed_high == 1.0
    assert found.better is False  # one seed of ten may be chance
    assert default.score == pytest.approx(2.1)


def test_the_configs_own_policy_is_compared_too() -> None:
    found = _compare(
        arm("default", *[3.0] * 10), arm("given", *[1.0] * 10), arm("tuned", *[1.0] * 10)
    )
    assert found.better is True
    assert found.given is not None
    assert found.given.better is False
    assert found.reason is not None
    assert found.reason.endswith(
        "Seed by seed they are equal: nothing is gained over the config as it is."
    )


def test_seconds_are_told_as_time() -> None:
    seconds = replace(COST, name="seconds", terms=(Term(measure="seconds", direction="min"),))
    found = _compare(arm("default", *[90.0] * 6), arm("tuned", *[9.0] * 6), objective=seconds)
    assert found.reason is not None
    assert (
        "the mean is 9.0 s with the tuned config and 1:30 with the default policy" in found.reason
    )


def test_the_config_as_it_is_may_be_the_winner() -> None:
    arms = (arm("default", *[2.0] * 6), arm("tuned", *[1.0] * 6))
    found = compare(tuple(range(6)), arms, COST, winner="the config as it is")
    assert found.reason is not None
    assert found.reason.startswith(
        "On 6 fresh seeds the mean is 1 training with the config as it is"
    )
