"""What the live display knows at one moment."""

import math

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.display.live import scene
from orchestrator.display.live.scene import Curve
from tests.builders import LAW


def drawn(values: list[float]) -> Curve:
    curve = Curve()
    for value in values:
        curve = curve.followed_by(value)
    return curve


def test_a_short_curve_has_a_point_for_each_epoch() -> None:
    values = [1 / number for number in range(1, scene._POINTS + 1)]
    curve = drawn(values)
    assert (curve.points, curve.each) == (tuple(values), 1)
    assert (curve.latest, curve.lowest, curve.highest) == (values[-1], values[-1], 1.0)


def test_a_long_curve_has_no_more_points_each_the_last_of_its_epochs() -> None:
    curve = drawn([float(number) for number in range(10_000)])
    assert curve.each == 32
    assert curve.points == (*(float(number) for number in range(31, 10_000, 32)), 9999.0)
    assert len(curve.points) <= scene._POINTS


@LAW
@given(st.lists(st.floats(), max_size=40), st.integers(0, 1200))
def test_no_extreme_and_no_value_that_is_not_finite_is_lost(values: list[float], ones: int) -> None:
    curve = drawn([*values, *ones * [1.0]])
    finite = [value for value in values if math.isfinite(value)] + [1.0] * bool(ones)
    assert curve.lowest == min(finite, default=math.inf)
    assert curve.highest == max(finite, default=-math.inf)
    assert all(map(math.isfinite, curve.points)) is all(map(math.isfinite, values))


def test_nothing_is_known_of_a_curve_without_values() -> None:
    assert (Curve().points, Curve().epochs) == ((), 0)
