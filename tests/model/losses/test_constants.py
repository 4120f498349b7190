"""The best constant under a loss, against what it is known to be."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from orchestrator.model.losses.constants import Batch, Constant, find_constant, usual_variance
from orchestrator.model.losses.output_loss import OutputLoss
from orchestrator.model.losses.returned import Origin
from orchestrator.record.checks import Form

losses, ops = keras.losses, keras.ops
RANDOM = np.random.default_rng(0)
SKEWED = RANDOM.exponential(size=(500, 1)).astype(np.float32)
TRUTHS = (RANDOM.uniform(size=(500, 1)) < 0.2).astype(np.float32)
CLASSES = RANDOM.choice(3, 500, p=[0.6, 0.3, 0.1])
LINEAR = Origin()
SIGMOID, SOFTMAX = Origin(end="Sigmoid"), Origin(end="Softmax", found="attached")


def constant(
    loss: Any, y: Any, columns: int = 1, origin: Origin = LINEAR, form: Form = "regression",
    weight: Any = None,
) -> Constant:  # fmt: skip
    few = tf.zeros((2, columns))
    batch = Batch(y=y, weight=weight, mask=None, shape=(len(y), columns))
    return find_constant(OutputLoss(loss, tf.constant(y[:2]), few), [batch], origin, form, None)


def least(loss: Any, y: Any, low: float, high: float, weight: Any = None) -> float:
    """The lowest loss on a fine grid of constants."""
    made = losses.get(loss) if isinstance(loss, str) else loss
    if not isinstance(made, losses.Loss):
        function, made = made, losses.MeanSquaredError()
        made.fn = function
    grid = np.linspace(low, high, 400)
    return min(float(made(y, np.full_like(y, c), weight)) for c in grid)


def pinball(y: Any, p: Any) -> Any:
    error = y - p
    return ops.mean(ops.maximum(0.9 * error, -0.1 * error))


def welsch(y: Any, p: Any) -> Any:
    """Robust, and neither convex nor with a single valley."""
    return ops.mean(1 - ops.exp(-ops.square((y - p) / 0.1)))


@pytest.mark.parametrize(
    ("loss", "y", "origin", "low", "high"),
    [
        ("mean_absolute_error", SKEWED, LINEAR, 0.0, 4.0),
        (losses.Huber(delta=0.3), SKEWED, LINEAR, 0.0, 4.0),
        ("log_cosh", SKEWED, LINEAR, 0.0, 4.0),
        ("mean_absolute_percentage_error", SKEWED + 0.1, LINEAR, 0.0, 4.0),
        ("mean_squared_logarithmic_error", SKEWED, Origin(end="Softplus"), 0.01, 4.0),
        (pinball, SKEWED, LINEAR, 0.0, 6.0),
        (welsch, np.concatenate([SKEWED, np.full((100, 1), 7.0, np.float32)]), LINEAR, -1, 9.0),
        (losses.BinaryFocalCrossentropy(gamma=3.0), TRUTHS, SIGMOID, 0.001, 0.999),
        ("dice", TRUTHS, SIGMOID, 0.001, 1.0),
        ("tversky", TRUTHS, SIGMOID, 0.001, 1.0),
        ("squared_hinge", TRUTHS, Origin(end="Tanh"), -1.0, 1.0),
        ("hinge", TRUTHS, LINEAR, -2.0, 2.0),
        # A range that the best constant is out of.
        ("mse", SKEWED - 3, Origin(end="Relu"), 0.0, 1.0),
    ],
)
def test_it_is_no_worse_than_any_on_a_grid(
    loss: Any, y: Any, origin: Origin, low: float, high: float
) -> None:
    found = constant(loss, y, origin=origin)
    assert found.unjudged is None
    expected = least(loss, y, low, high)
    assert expected * (1 - 2e-2) <= float(found.loss) <= expected * (1 + 1e-3)


def test_weights_move_it() -> None:
    weight = np.where(SKEWED[:, 0] > 1, 9.0, 0.5).astype(np.float32)
    found = constant("mean_absolute_error", SKEWED, weight=weight)
    expected = least(losses.MeanAbsoluteError(), SKEWED, 0, 5, weight)
    assert float(found.loss) == pytest.approx(expected, rel=1e-3)


def test_classes_have_their_frequencies() -> None:
    p = np.bincount(CLASSES) / 500
    q = 0.5
    gce = losses.CategoricalGeneralizedCrossEntropy(q=q)
    found = constant(gce, CLASSES, 3, Origin(end="Softmax"), "sparse")
    # The minimum of the sum of p (1 - c^q) / q lies at c proportional to p^(1 / (1 - q)).
    best = p ** (1 / (1 - q)) / (p ** (1 / (1 - q))).sum()
    assert float(found.loss) == pytest.approx(p @ (1 - best**q) / q, rel=1e-4)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_cross_entropy_with_smooth_labels(smoothing: float) -> None:
    loss = losses.CategoricalCrossentropy(label_smoothing=smoothing)
    found = constant(loss, np.eye(3)[CLASSES], 3, SOFTMAX, "categorical")
    p = np.bincount(CLASSES) / 500 * (1 - smoothing) + smoothing / 3
    assert float(found.loss) == pytest.approx(-p @ np.log(p), rel=1e-4)


def test_logits_that_keras_does_not_go_back_to_are_no_better_than_their_activation() -> None:
    loss = losses.CategoricalCrossentropy(from_logits=True)
    hot = np.eye(3)[CLASSES]
    within = constant(loss, hot, 3, Origin(end="Softmax"), "categorical")
    free = constant(loss, hot, 3, LINEAR, "categorical")
    p = np.bincount(CLASSES) / 500
    assert float(free.loss) == pytest.approx(-p @ np.log(p), rel=1e-4)
    assert float(within.loss) > float(free.loss) + 0.01


def test_each_column_has_its_own_where_the_loss_is_their_mean() -> None:
    y = np.concatenate([SKEWED, 100 - 10 * SKEWED], axis=1)
    found = constant("mean_absolute_error", y, 2)
    expected = np.abs(y - np.median(y, axis=0)).mean(axis=0)
    assert found.loss == pytest.approx(expected, rel=1e-3)


def test_what_is_lowest_at_the_targets_is_told_where_that_is_not_0() -> None:
    counts = RANDOM.poisson(6.0, (500, 1)).astype(np.float32)
    found = constant("poisson", counts)
    mean = float(counts.mean())
    logs = np.log(np.maximum(counts, 1e-7))
    assert float(found.loss) == pytest.approx(mean - mean * math.log(mean), rel=1e-4)
    assert found.lowest is not None
    assert float(found.lowest) == pytest.approx(float((counts - counts * logs).mean()), rel=1e-4)
    units = RANDOM.normal(size=(500, 3)).astype(np.float32) + 0.5
    found = constant("cosine_similarity", units, 3)
    direction = (units / np.linalg.norm(units, axis=1, keepdims=True)).mean(axis=0)
    assert float(found.loss) == pytest.approx(-np.linalg.norm(direction), rel=1e-3)
    assert found.lowest is not None
    assert float(found.lowest) == pytest.approx(-1, rel=1e-5)


def test_most_targets_can_be_the_best_constant_themselves() -> None:
    inflated = np.where(RANDOM.uniform(size=(500, 1)) < 0.7, 0, SKEWED).astype(np.float32)
    assert constant("mean_absolute_error", inflated).usual == [True]
    assert constant("mean_absolute_error", SKEWED).usual == [False]
    assert constant("mean_absolute_error", TRUTHS).usual == [False]


def nll(y: Any, p: Any) -> Any:
    """Of a normal distribution with a mean and the logarithm of a standard deviation."""
    return ops.mean(p[:, 1:] + ops.square((y - p[:, :1]) * ops.exp(-p[:, 1:])) / 2)


@pytest.mark.parametrize(
    ("loss", "y", "columns", "reason"),
    [
        (nll, SKEWED, 2, "its loss can be negative"),
        (lambda y, p: -ops.mean(y * p), SKEWED, 1, "its loss can be negative"),
        (lambda y, p: ops.mean(p * np.nan), SKEWED, 1, "its loss has no value for a constant"),
        (lambda y, p: ops.mean(ops.square(p)), np.zeros((50, 1)), 1, "its targets are all the"),
    ],
)
def test_some_losses_cannot_be_put_beside_a_constant(
    loss: Any, y: Any, columns: int, reason: str
) -> None:
    found = constant(loss, y, columns)
    assert found.unjudged is not None
    assert found.unjudged.startswith(reason)


def test_several_quantiles_of_one_target_have_one_constant_in_all() -> None:
    def quantiles(y: Any, p: Any) -> Any:
        share = np.array([0.1, 0.5, 0.9], np.float32)
        return ops.mean(ops.maximum(share * (y - p), (share - 1) * (y - p)))

    found = constant(quantiles, SKEWED, 3)
    best = np.quantile(SKEWED, [0.1, 0.5, 0.9])
    error, share = SKEWED - best, np.array([0.1, 0.5, 0.9])
    expected = np.maximum(share * error, (share - 1) * error).mean()
    assert float(found.loss) == pytest.approx(expected, rel=2e-3)


def log_poisson(y: Any, log_rate: Any) -> Any:
    return ops.mean(ops.exp(log_rate) - y * log_rate, axis=-1)


def cosine_embedding(apart: Any, cosine: Any) -> Any:
    return (1 - apart) * (1 - cosine) + apart * ops.maximum(cosine - 0.2, 0)


@pytest.mark.parametrize(
    ("loss", "y", "comparable"),
    [
        (pinball, SKEWED, True),
        (welsch, SKEWED, True),
        (log_poisson, np.round(3 * SKEWED), False),
        (cosine_embedding, TRUTHS, False),
        ("mean_absolute_error", SKEWED, True),
    ],
)
def test_predictions_are_put_beside_targets_where_these_are_the_best_of_them(
    loss: Any, y: Any, comparable: bool
) -> None:
    assert constant(loss, y).comparable is comparable


def test_the_usual_variance_leaves_outliers_aside_where_something_is_left() -> None:
    plain = RANDOM.normal(size=(1000, 1))
    wild = np.where(np.arange(1000)[:, None] % 100 == 0, -9999.0, plain)
    rare = np.where(np.arange(1000)[:, None] % 100 == 0, 1.0, 0.0)
    found = usual_variance(np.concatenate([plain, wild, rare], axis=1))
    assert found[1] == pytest.approx(found[0], rel=0.1)
    assert 0.7 < found[0] < plain.var()
    assert found[2] == pytest.approx(rare.var())
