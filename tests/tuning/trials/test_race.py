from __future__ import annotations

import math

import pytest

from orchestrator.tuning.trials.race import chance_of_no_difference, cut, t_distribution

TABLE = [
    (1, 6.313752, 0.95),
    (2, 2.919986, 0.95),
    (3, 2.353363, 0.95),
    (4, 2.776445, 0.975),
    (5, 2.015048, 0.95),
    (9, 3.249836, 0.995),
    (10, 1.372184, 0.9),
    (30, 1.697261, 0.95),
]
"""Degrees of freedom, quantile and probability, from the table in any textbook."""


@pytest.mark.parametrize(("degrees", "quantile", "probability"), TABLE)
def test_students_distribution_is_that_of_the_tables(
    degrees: int, quantile: float, probability: float
) -> None:
    assert t_distribution(quantile, degrees) == pytest.approx(probability, abs=1e-6)
    assert t_distribution(-quantile, degrees) == pytest.approx(1 - probability, abs=1e-6)
    assert t_distribution(0, degrees) == 0.5


def test_the_test_is_one_sided_and_paired() -> None:
    # t = 2 / (1 / sqrt(3)) = 3.4641 with 2 degrees of freedom
    assert chance_of_no_difference([1, 2, 3]) == pytest.approx(0.03709, abs=1e-5)
    assert chance_of_no_difference([-1, -2, -3]) == pytest.approx(1 - 0.03709, abs=1e-5)
    assert chance_of_no_difference([2, 2, 2]) == 0
    assert chance_of_no_difference([0, 0, 0]) == 1


def _cut(*scores: float, best: list[float], **changes: float | bool | None) -> str | None:
    options = {"minimised": True, "least": None, **changes}
    return cut(scores, best, **options)  # type: ignore[arg-type]


def test_a_trial_that_is_clearly_worse_is_cut_after_three_seeds() -> None:
    best = [1.0, 1.5, 1.0, 1.0, 1.0]
    assert _cut(9, 9.5, best=best) is None
    reason = _cut(9, 9.5, 9.2, best=best)
    assert reason is not None
    assert reason.startswith("worse than the best trial on the first 3 seeds: 9.233 against 1.167")
    assert _cut(1, 1.5, 9, best=best) is None  # one bad run of three may be chance


def test_seeds_that_are_hard_for_both_cut_none() -> None:
    assert _cut(1, 8, 1.1, best=[1.1, 8, 1, 1, 1]) is None


def test_a_trial_that_is_through_is_not_cut() -> None:
    assert _cut(9, 9, 9, best=[1, 1, 1]) is None


def test_more_is_better_where_the_objective_is_maximised() -> None:
    best = [0.9, 0.8, 0.9, 0.9]
    assert _cut(0.1, 0.2, 0.11, best=best, minimised=False) is not None
    assert _cut(0.95, 0.99, 0.93, best=best, minimised=False) is None


def test_what_is_certain_cuts_at_once() -> None:
    reason = _cut(16, best=[1, 1.5, 1, 1, 1], least=1.0)
    assert reason is not None
    assert "after 1 of 5 seeds even the best that its other runs can be, 1, gives 4" in reason
    assert _cut(1.5, best=[1, 1.5, 1, 1, 1], least=1.0) is None  # a tie is possible yet
    assert _cut(-3, best=[0.5, 0.5], least=1.0, minimised=False) is not None


def test_no_score_is_certain_without_a_bound() -> None:
    assert _cut(math.inf, best=[1, 1, 1]) is None
