"""What predictions are worth: by hand, by law, and as Keras counts it."""

from __future__ import annotations

import math
from typing import Any

import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given

from orchestrator.diagnosis.skill.columns import OutputSkill, spread
from orchestrator.record.checks import Form
from tests.builders import LAW, scored


def _normal(*shape: int, seed: int = 0) -> npt.NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=shape)


def _one(y: Any, prediction: Any, form: Form = "regression", **options: Any) -> OutputSkill:
    (output,) = scored(y, prediction, form, **options)
    return output


# ------------------------------------------------------------------------------- regression


def test_regression_by_hand() -> None:
    # var(y) = 2, var(prediction) = 0.5, mean squared error = 0.5
    output = _one([1.0, 2.0, 3.0, 4.0, 5.0], [2.0, 2.5, 3.0, 3.5, 4.0])
    assert output.variance_ratio == pytest.approx(0.25)
    assert output.skill == pytest.approx(1 - 0.5 / 2)
    assert output.loss == pytest.approx(0.5)
    assert output.constant_loss == pytest.approx(2.0)


VALUES = arrays.arrays(
    np.float64, st.integers(2, 30), elements=st.floats(-1e6, 1e6, allow_subnormal=False)
)


@LAW
@given(VALUES)
def test_the_best_constant_has_skill_0_and_the_targets_themselves_1(
    y: npt.NDArray[np.float64],
) -> None:
    assume(np.ptp(y) > 1e-3)
    constant = _one(y, np.full_like(y, y.mean()))
    assert constant.skill == pytest.approx(0, abs=1e-9)
    assert constant.variance_ratio == 0
    perfect = _one(y, y)
    assert perfect.skill == 1
    assert perfect.variance_ratio == pytest.approx(1)


@LAW
@given(VALUES, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(y: npt.NDArray[np.float64], random: Any) -> None:
    assume(np.ptp(y) > 1e-3)
    order = random.sample(range(len(y)), len(y))
    prediction = 0.5 * y + 1
    one, other = _one(y, prediction), _one(y[order], prediction[order])
    assert other.skill == pytest.approx(one.skill)
    assert other.variance_ratio == pytest.approx(one.variance_ratio)


@pytest.mark.parametrize("offset", [0.0, 1e4, 1e7])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_neither_offset_nor_scale_changes_what_a_prediction_is_worth(
    offset: float, scale: float
) -> None:
    y = _normal(500)
    prediction = y + _normal(500, seed=1)
    moved = _one(offset + scale * y, offset + scale * prediction)
    assert moved.skill == pytest.approx(_one(y, prediction).skill, rel=1e-4)
    assert moved.variance_ratio == pytest.approx(_one(y, prediction).variance_ratio, rel=1e-4)


def test_float32_at_a_huge_offset_is_measured_in_float64() -> None:
    # E[x²] - E[x]² in float32 is negative here.
    y = (1e4 + 0.1 * _normal(2000)).astype(np.float32)
    output = _one(y, y)
    assert output.variance_ratio == pytest.approx(1)
    assert output.constant_loss == pytest.approx(0.01, rel=0.1)


def test_a_constant_float32_prediction_at_an_offset_has_no_variance_at_all() -> None:
    y = 1e4 + _normal(1000)
    output = _one(y, np.full((1000, 1), 10_000.3, dtype=np.float32))
    assert (output.variance_ratio, output.distinct) == (0, False)


def test_columns_are_measured_one_by_one_and_never_averaged() -> None:
    y = _normal(100, 2)
    prediction = np.stack([y[:, 0], np.zeros(100)], axis=1)
    good, bad = scored(y, prediction, "regression")
    assert (good.output, good.skill) == (0, 1)
    assert (bad.output, bad.variance_ratio) == (1, 0)


def test_positions_count_as_rows() -> None:
    y = _normal(10, 4, 1)
    assert _one(y, y.reshape(10, 4, 1)) == _one(y.reshape(-1), y.reshape(-1))


@pytest.mark.parametrize("y", [[3.0, 3.0, 3.0], [7.0], [1e-200, 2e-200]])
def test_a_target_without_variance_cannot_be_judged(y: list[float]) -> None:
    output = _one(y, np.arange(len(y)))
    assert (output.varies, output.skill, output.variance_ratio) == (False, None, None)


def test_without_targets_only_the_difference_between_rows_is_known() -> None:
    assert _one(None, [1.0, 1.0]) == OutputSkill(
        output=0, kind="regression", varies=None, distinct=False
    )
    assert _one(None, [1.0, 1.5]).distinct


@pytest.mark.parametrize("form", ["regression", "binary", "categorical"])
def test_a_single_row_is_not_called_constant(form: Form) -> None:
    assert _one(None, [[0.4]], form).distinct


def test_a_nan_among_the_predictions_is_not_a_number_of_skill() -> None:
    output = _one([1.0, 2.0, 3.0], [1.0, math.nan, 3.0])
    assert output.skill is not None
    assert math.isnan(output.skill)


# ------------------------------------------------------------------------------- classification


def _entropy(p: Any) -> float:
    return float(-sum(each * math.log(each) for each in p if each > 0))


LABELS = np.array([0, 0, 1, 2, 2, 2])
SOFT = np.array(
    [[0.7, 0.2, 0.1], [0.4, 0.4, 0.2], [0.1, 0.8, 0.1], [0.0, 0.3, 0.7], [0.2, 0.2, 0.6], [0, 0, 1]]
)


def _by_hand() -> tuple[float, float]:
    """Information and skill of `SOFT` for `LABELS`, from their definitions."""
    entropy = _entropy([2 / 6, 1 / 6, 3 / 6])
    information = _entropy(SOFT.mean(axis=0)) - sum(map(_entropy, SOFT)) / 6
    loss = -sum(math.log(row[label]) for row, label in zip(SOFT, LABELS, strict=True)) / 6
    return information / entropy, 1 - loss / entropy


@pytest.mark.parametrize("from_logits", [False, True])
@pytest.mark.parametrize("form", ["sparse", "categorical"])
def test_information_and_skill_of_classes_follow_their_definitions(
    form: Form, from_logits: bool
) -> None:
    y = LABELS if form == "sparse" else np.eye(3)[LABELS]
    with np.errstate(divide="ignore"):
        logits = np.maximum(np.log(SOFT), -1e3) + np.arange(6)[:, None]
    output = _one(y, logits if from_logits else SOFT, form, from_logits=from_logits)
    information, skill = _by_hand()
    assert output.kind == "classification"
    assert output.information == pytest.approx(information)
    assert output.skill == pytest.approx(skill, abs=1e-6)
    assert output.constant_loss == pytest.approx(_entropy([2 / 6, 1 / 6, 3 / 6]))
    assert not output.constant_class


@pytest.mark.parametrize("from_logits", [False, True])
def test_binary_is_two_classes(from_logits: bool) -> None:
    y, p = np.array([0, 1, 1, 0, 1]), np.array([0.1, 0.8, 0.7, 0.4, 0.45])
    output = _one(y, np.log(p / (1 - p)) if from_logits else p, "binary", from_logits=from_logits)
    entropy = _entropy([0.4, 0.6])
    information = _entropy([p.mean(), 1 - p.mean()]) - np.mean([_entropy([q, 1 - q]) for q in p])
    loss = -np.mean(np.log(np.where(y == 1, p, 1 - p)))
    assert output.information == pytest.approx(information / entropy)
    assert output.skill == pytest.approx(1 - loss / entropy)


def test_columns_of_a_multi_label_output_are_measured_one_by_one() -> None:
    y = np.array([[0, 1], [1, 1], [1, 0], [0, 0]])
    good, bad = scored(y, np.stack([y[:, 0], np.full(4, 0.5)], axis=1), "binary")
    assert (good.output, bad.output) == (0, 1)
    assert good.skill == pytest.approx(1, abs=1e-6)
    assert bad.skill == pytest.approx(0)
    assert bad.information == 0


@LAW
@given(st.lists(st.integers(0, 3), min_size=2, max_size=30), st.booleans(), st.randoms())
def test_class_frequencies_have_skill_0_and_the_classes_themselves_1(
    labels: list[int], one_hot: bool, random: Any
) -> None:
    assume(len(set(labels)) > 1)
    hot = np.eye(4)[labels]
    y, form = (hot, "categorical") if one_hot else (np.array(labels), "sparse")
    constant = _one(y, np.tile(hot.mean(axis=0), (len(labels), 1)), form)  # type: ignore[arg-type]
    assert constant.skill == pytest.approx(0, abs=1e-9)
    assert constant.information == pytest.approx(0, abs=1e-9)
    assert constant.constant_class
    perfect = _one(y, hot, form)  # type: ignore[arg-type]
    assert perfect.skill == pytest.approx(1, abs=1e-5)
    assert perfect.information == pytest.approx(1)
    order = random.sample(range(len(labels)), len(labels))
    mixed = 0.5 * hot + 0.5 * np.roll(hot, 1, axis=1)
    one, other = _one(y, mixed, form), _one(y[order], mixed[order], form)  # type: ignore[arg-type]
    assert other.skill == pytest.approx(one.skill)
    assert other.information == pytest.approx(one.information)


@pytest.mark.parametrize("weight", [None, [1.0, 3.0, 2.0, 0.5]])
@pytest.mark.parametrize(
    "y",
    [[[1, 1, 0], [0, 1, 1], [1, 1, 1], [0, 1, 0]], [[1, 0, 0], [0, 0.3, 0], [0, 0, 0], [0] * 3]],
)
def test_the_best_constant_sums_to_1_where_the_targets_do_not(y: Any, weight: Any) -> None:
    means = np.average(y, axis=0, weights=weight)
    shares = means / means.sum()
    known = shares > 0
    best = -float(means[known] @ np.log(shares[known]))
    output = _one(y, np.tile(shares, (4, 1)), "categorical", weight=weight)
    assert output.constant_loss == pytest.approx(best)
    assert output.skill == pytest.approx(0, abs=1e-6)
    for other in np.random.default_rng(0).dirichlet([1, 1, 1], 20):
        assert _one(y, np.tile(other, (4, 1)), "categorical", weight=weight).loss > best  # type: ignore[operator]
    assert spread(y, "categorical", 3, np.array(weight or [1.0] * 4)) == [
        pytest.approx(_entropy(shares))
    ]


def test_logits_that_are_far_off_cost_what_keras_says_they_cost() -> None:
    # Through probabilities the loss would stop at -log(1e-7) = 16.
    output = _one([0, 1], [-1.0, -100.0], "binary", from_logits=True)
    assert output.loss == pytest.approx((math.log1p(math.exp(-1)) + 100) / 2)


def test_huge_logits_do_not_overflow() -> None:
    output = _one([0, 1], np.array([[3e38, -3e38], [-3e38, 3e38]]), "sparse", from_logits=True)
    assert output.skill == 1
    assert output.information == pytest.approx(1)


@pytest.mark.parametrize(
    ("form", "y"),
    [
        ("sparse", [1, 1, 1]),
        ("categorical", [[0.0, 1.0]] * 3),
        ("categorical", [[0.5, 0.5]] * 3),
    ],
)
def test_constant_classes_cannot_be_judged(form: Form, y: Any) -> None:
    output = _one(y, [[0.2, 0.8], [0.5, 0.5], [0.9, 0.1]], form)
    assert (output.varies, output.skill, output.information) == (False, None, None)


def test_probabilities_below_the_clipping_differ_all_the_same() -> None:
    assert _one(None, [1e-9, 2e-9], "binary").distinct
    assert not _one(None, [1e-9, 1e-9], "binary").distinct


def test_a_shift_of_all_logits_is_no_difference() -> None:
    assert not _one(None, [[1.0, 2.0], [3.0, 4.0]], "sparse", from_logits=True).distinct


def test_rows_of_probabilities_are_made_to_sum_to_1() -> None:
    output = _one([0, 1], [[2.0, 2.0], [0.0, 0.0]], "sparse")
    assert output.skill == pytest.approx(0)


def test_information_is_no_more_than_there_is() -> None:
    """Sure predictions that are more even than rare classes tell more than these hold."""
    y = np.array([1] + [0] * 99)
    output = _one(y, np.tile([0.0001, 0.9999], 50), "binary")
    assert output.information == 1


@pytest.mark.parametrize("form", ["regression", "binary", "categorical"])
def test_a_weight_counts_as_so_many_rows(form: Form) -> None:
    labels = np.array([0, 1, 1, 0, 1])
    weights = np.array([1, 2, 3, 4, 5])
    y = np.eye(2)[labels] if form == "categorical" else labels.astype(float)
    p = np.array([0.2, 0.9, 0.6, 0.3, 0.4])
    prediction = np.stack([1 - p, p], axis=1) if form == "categorical" else p
    weighted = _one(y, prediction, form, weight=weights)
    repeated = _one(y.repeat(weights, axis=0), prediction.repeat(weights, axis=0), form)
    assert weighted.skill == pytest.approx(repeated.skill)
    assert weighted.information == pytest.approx(repeated.information)
    assert weighted.variance_ratio == pytest.approx(repeated.variance_ratio)
    spreads = [
        spread(y, form, prediction.shape[-1] if prediction.ndim > 1 else 1, weights),
        spread(y.repeat(weights, axis=0), form, prediction.shape[-1] if prediction.ndim > 1 else 1),
    ]
    assert spreads[0] == pytest.approx(spreads[1])
