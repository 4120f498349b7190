"""What closed-form models learn: of known rows as much as there is in them, of noise nothing."""

import math

import numpy as np
import numpy.typing as npt
import pytest

from orchestrator.diagnosis.skill import reference
from orchestrator.diagnosis.skill.reference import Compared, fit_reference

Array = npt.NDArray[np.float64]


def rows(count: int, columns: int = 5, seed: int = 0) -> tuple[np.random.Generator, Array]:
    draw = np.random.default_rng(seed)
    return draw, draw.normal(size=(count, columns))


def test_a_straight_line_is_learnt_by_both() -> None:
    _, x = rows(500)
    found = fit_reference(x, x[:, :1] - 3 * x[:, 1:2] + 100)
    assert found is not None
    assert min(found.skill, found.linear, found.curved) > 0.99


def test_a_curve_is_learnt_by_the_curved_one_alone() -> None:
    x = np.linspace(-1, 1, 1000)[:, None]
    found = fit_reference(x, np.abs(x))
    assert found is not None
    assert found.linear < 0.01
    assert min(found.skill, found.curved) > 0.99


@pytest.mark.parametrize(
    ("count", "columns"),
    [
        *((count, columns) for count in (300, 2500) for columns in (1, 5)),
        *(
            pytest.param(count, columns, marks=pytest.mark.sweep)
            for count in (300, 2500)
            for columns in (50, 400)
        ),
    ],
)
def test_in_noise_there_is_nothing(count: int, columns: int) -> None:
    for seed in range(5):
        draw, x = rows(count, columns, seed)
        found = fit_reference(x, draw.normal(size=(count, 1)))
        assert found is not None
        assert max(found.skill, found.linear, found.curved) < 0.1


def test_what_is_held_back_was_neither_fitted_nor_chosen_by() -> None:
    draw, x = rows(2500, 3)
    y = x[:, :1] + 0.1 * draw.normal(size=(2500, 1))
    before = fit_reference(x, y)
    assert before is not None
    assert len(before.rows) == 500
    y[before.rows] *= -1  # what was learnt elsewhere is now wrong here
    after = fit_reference(x, y)
    assert after is not None
    assert after.skill < -2


def test_of_few_rows_each_is_held_back_once() -> None:
    _, x = rows(400)
    found = fit_reference(x, x)
    assert found is not None
    assert found.rows.tolist() == list(range(400))


def test_sorted_rows_are_looked_at_all_over() -> None:
    x = np.sort(np.random.default_rng(0).uniform(-1, 1, size=(30_000, 1)), axis=0)
    found = fit_reference(x, np.abs(x))
    assert found is not None
    assert found.skill > 0.99
    assert found.rows.max() > 29_000


def test_the_same_rows_give_the_same_reference() -> None:
    draw, x = rows(600, 400)
    y = x[:, :1] + draw.normal(size=(600, 1))
    one, other = fit_reference(x, y), fit_reference(x.copy(), y.copy())
    assert one is not None
    assert other is not None
    assert (one.skill, one.linear, one.curved) == (other.skill, other.linear, other.curved)


def test_many_columns_are_projected_and_keep_what_they_say() -> None:
    """As of pictures: what is to be learnt stands in many columns at once."""
    draw = np.random.default_rng(0)
    y = draw.normal(size=(1000, 1))
    x = y @ draw.normal(size=(1, 2000)) + draw.normal(size=(1000, 2000))
    found = fit_reference(x, y)
    assert found is not None
    assert found.skill > 0.9


def test_of_many_classes_the_most_frequent_are_looked_at() -> None:
    draw = np.random.default_rng(0)
    classes = np.r_[np.repeat(np.arange(10), 100), np.arange(10, 110)]
    x = np.eye(110)[classes] + 0.1 * draw.normal(size=(1100, 110))
    found = fit_reference(x, np.eye(110)[classes])
    assert found is not None
    assert len(found.targets) == reference.MOST_TARGETS
    assert set(range(10)) <= set(found.targets.tolist())
    assert found.skill > 0.8


def test_inputs_far_from_zero_and_constant_ones_do_no_harm() -> None:
    draw, x = rows(800)
    y = x[:, :1] + x[:, 1:2] * 0.5
    far = np.concatenate([x * 1e-3 + 10, x * 1e6 - 1e9, np.full((800, 1), 7.0)], axis=1)
    found = fit_reference(far.astype("float32"), y + 1e5)
    assert found is not None
    assert found.skill > 0.95


@pytest.mark.parametrize("count", [0, 1, 299])
def test_few_rows_tell_nothing(count: int) -> None:
    assert fit_reference(np.zeros((count, 2)), np.arange(count)[:, None]) is None


def test_targets_that_do_not_vary_leave_nothing_to_learn() -> None:
    _, x = rows(400)
    assert fit_reference(x, np.full((400, 2), 5.0)) is None


def test_other_predictions_are_measured_on_the_same_rows() -> None:
    draw, x = rows(2500)
    y = np.stack([x[:, 0], x[:, 1], np.full(2500, 3.0)], axis=1)
    found = fit_reference(x, y)
    assert found is not None
    best, own = found.compare(y, y).skills
    assert best == 1.0 and own == pytest.approx(found.skill, abs=1e-4)
    means = np.broadcast_to(y[found.rows].mean(axis=0), y.shape)
    assert found.compare(means, y).skills[0] == pytest.approx(0)
    half = y.copy()
    half[:, 0] = means[:, 0]
    assert found.compare(half, y).skills[0] == pytest.approx(0.5, abs=0.05)
    medians = np.broadcast_to(np.median(y[found.rows], axis=0), y.shape)
    assert found.compare(medians, y, absolute=True).skills[0] == pytest.approx(0)


@pytest.mark.parametrize("absolute", [False, True])
def test_the_most_that_a_share_may_be_is_what_it_is_in_99_of_100_draws_of_the_rows(
    absolute: bool,
) -> None:
    draw, x = rows(2500)
    y = x[:, :1] ** 2 + 0.5 * draw.normal(size=(2500, 1))
    found = fit_reference(x, y)
    assert found is not None
    predicted = 0.6 * y + 0.4 * draw.normal(size=y.shape)
    told = found.compare(predicted, y, absolute=absolute)
    share = told.own.sum() / told.other.sum()
    again = draw.integers(len(told.own), size=(4000, len(told.own)))
    shares = told.own[again].sum(axis=1) / told.other[again].sum(axis=1)
    assert told.share_at_most - share == pytest.approx(np.quantile(shares, 0.99) - share, rel=0.15)


def test_the_interval_of_a_share_covers_it_where_few_rows_make_up_the_skill() -> None:
    draw, below, by_error = np.random.default_rng(0), [], []
    for _ in range(4000):
        few = (draw.random(1000) < 0.014) * 1.0
        other, own = few * draw.uniform(-0.3, 1, 1000), few * draw.uniform(-0.3, 1, 1000)
        told = Compared(own=own, other=other, constant=14.0)
        left = own - own.sum() / other.sum() * other
        error = math.sqrt(1000 * left.var()) / other.sum()
        below.append(told.share_at_most < 1)
        by_error.append(own.sum() / other.sum() + 2.326 * error < 1)
    assert np.mean(below) < 0.012
    assert np.mean(by_error) > 0.04


def test_of_a_reference_that_may_be_of_no_skill_a_share_may_be_anything() -> None:
    draw, x = rows(400)
    noise = draw.normal(size=(400, 1))
    found = fit_reference(x, noise)
    assert found is not None and found.skill < 0
    assert found.compare(noise, noise).share_at_most == math.inf
    one = np.zeros(100)
    one[0] = 5.0
    assert Compared(own=0 * one, other=one, constant=5.0).share_at_most == math.inf
