import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.tuning.result.intervals import paired_interval, share_interval
from tests.builders import LAW

DIFFERENCES = st.lists(
    st.integers(-1000, 1000).map(lambda value: value / 8), min_size=6, max_size=9
)


@pytest.mark.parametrize("count", range(6))
def test_fewer_than_six_pairs_say_nothing(count: int) -> None:
    assert paired_interval([-1.0] * count) == (-math.inf, math.inf)


def test_of_six_pairs_it_is_all_that_was_seen_and_of_seven_less() -> None:
    # One of 64 pieces may be left out at each end, so none of the 63 means; of 128, three.
    assert paired_interval([3.0, 1.0, 4.0, 1.5, 9.0, 2.0]) == (1.0, 9.0)
    values = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]
    subsets = [each for size in range(1, 8) for each in itertools.combinations(values, size)]
    means = sorted(sum(each) / len(each) for each in subsets)
    assert paired_interval(values) == pytest.approx((means[2], means[-3]))


@pytest.mark.parametrize("count", [6, 12, 13, 40])
@pytest.mark.parametrize("value", [0.0, -0.1])
def test_equal_differences_have_an_interval_without_width(count: int, value: float) -> None:
    assert paired_interval([value] * count) == (value, value)


def test_of_many_pairs_it_is_about_what_theory_says_and_always_the_same() -> None:
    values = np.random.default_rng(3).normal(size=100)
    low, high = paired_interval(values)
    half = 1.984 * values.std(ddof=1) / 10  # Student's t with 99 degrees of freedom
    assert low == pytest.approx(values.mean() - half, abs=0.03)
    assert high == pytest.approx(values.mean() + half, abs=0.03)
    assert paired_interval(values) == (low, high)


@LAW
@given(st.lists(st.floats(0, 1e3), min_size=6, max_size=8))
def test_where_swapping_changes_nothing_it_misses_zero_in_at_most_five_of_a_hundred(
    sizes: list[float],
) -> None:
    missed = 0
    for signs in itertools.product((-1.0, 1.0), repeat=len(sizes)):
        low, high = paired_interval([sign * size for sign, size in zip(signs, sizes, strict=True)])
        missed += low > 0 or high < 0
    assert missed <= 0.05 * 2 ** len(sizes)


@LAW
@given(DIFFERENCES, st.integers(-8, 8))
def test_it_moves_and_turns_with_the_differences(values: list[float], by: int) -> None:
    low, high = paired_interval(values)
    assert min(values) <= low <= np.mean(values) + 1e-9
    assert np.mean(values) - 1e-9 <= high <= max(values)
    assert paired_interval([each + by for each in values]) == pytest.approx((low + by, high + by))
    assert paired_interval([-each for each in values]) == pytest.approx((-high, -low))


@pytest.mark.parametrize(
    ("count", "total", "expected"),
    [
        (0, 10, (0.0, 0.2775)),
        (5, 10, (0.2366, 0.7634)),
        (8, 10, (0.4902, 0.9433)),
        (10, 10, (0.7225, 1.0)),
        (1, 1, (0.2065, 1.0)),
        (0, 0, (0.0, 1.0)),
    ],
)
def test_shares_as_published(count: int, total: int, expected: tuple[float, float]) -> None:
    assert share_interval(count, total) == pytest.approx(expected, abs=5e-5)


@LAW
@given(st.integers(0, 50), st.integers(1, 50))
def test_a_share_lies_in_its_interval_which_turns_with_it(count: int, total: int) -> None:
    count = min(count, total)
    low, high = share_interval(count, total)
    assert 0 <= low <= count / total <= high <= 1
    assert share_interval(total - count, total) == pytest.approx((1 - high, 1 - low))
