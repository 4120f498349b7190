"""Losses and metrics in which (n,) meets (n, 1), and those that compare rows on purpose."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from orchestrator.diagnosis.causes.before.outputs.broadcast import find_broadcast_shapes
from tests.diagnosis.causes.before.outputs.looking import inputs, stack, subject, told

layers, ops = keras.layers, keras.ops
X = inputs()
Y = X[:, 0] + np.abs(X[:, 1])


def flattened(y: Any, p: Any) -> Any:
    """Keras has made (n, 1) of the targets already."""
    return ops.mean(ops.square(y - p[:, 0]), axis=-1)


def squeezed(y: Any, p: Any) -> Any:
    return ops.mean(ops.abs(ops.cast(y, "float32") - ops.squeeze(p, axis=-1)))


class Plain(keras.losses.Loss):
    """A class gets the targets as they are, (n,)."""

    def call(self, y: Any, p: Any) -> Any:
        return ops.square(y - p)


def entropy(y: Any, p: Any) -> Any:
    p = ops.clip(p[:, 0], 1e-6, 1 - 1e-6)
    return -ops.mean(y * ops.log(p) + (1 - y) * ops.log(1 - p))


def head(loss: Any, activation: Any = None, **options: Any) -> keras.Model:
    return stack(layers.Dense(1, activation=activation), loss=loss, **options)


@pytest.mark.parametrize(
    ("loss", "y"),
    [(flattened, Y), (flattened, Y[:, None]), (squeezed, Y), (Plain(), Y)],
)
def test_a_loss_of_every_pair_is_named(loss: Any, y: Any) -> None:
    (found,) = find_broadcast_shapes(subject(head(loss), X, y))
    assert (found.cause, found.certain) == ("broadcast_shapes", True)
    assert "compares every target with every prediction" in found.reason
    of_y = "(n,)" if y.ndim == 1 else "(n, 1)"
    assert f"targets of shape {of_y} and predictions of shape (n, 1) come in" in found.reason
    assert "keras.ops.reshape(y_true, keras.ops.shape(y_pred))" in found.advice


def test_a_cross_entropy_of_every_pair_is_named() -> None:
    y = (Y > 1).astype(np.float32)
    assert told(find_broadcast_shapes, subject(head(entropy, "sigmoid"), X, y)) == [
        ("broadcast_shapes", True)
    ]


def right(y: Any, p: Any) -> Any:
    return ops.mean(ops.square(ops.reshape(y, (-1,)) - p[:, 0]))


def columns(y: Any, p: Any) -> Any:
    return ops.mean(ops.square(y[:, 0] - p[:, 0]))


def plain(y: Any, p: Any) -> Any:
    return ops.square(y - p)


def correlation(y: Any, p: Any) -> Any:
    y, p = ops.reshape(y, (-1,)), ops.reshape(p, (-1,))
    y, p = y - ops.mean(y), p - ops.mean(p)
    return 1 - ops.sum(y * p) / ops.sqrt(ops.sum(y * y) * ops.sum(p * p))


def pairs(y: Any, p: Any) -> Any:
    """Every two rows are to differ as their targets do."""
    y, p = ops.reshape(y, (-1,)), ops.reshape(p, (-1,))
    return ops.mean(ops.square((y[:, None] - y[None]) - (p[:, None] - p[None])))


def blind(_: Any, p: Any) -> Any:
    return ops.mean(ops.square(p[:, None] - p[None]))


@pytest.mark.parametrize(
    "loss", [right, columns, plain, correlation, pairs, blind, "mse", keras.losses.Huber()]
)
def test_right_losses_are_left_in_peace(loss: Any) -> None:
    assert not told(find_broadcast_shapes, subject(head(loss), X, Y))
    assert not told(find_broadcast_shapes, subject(head(loss), X, Y[:, None]))


def test_a_class_that_gets_both_in_one_shape_is_right() -> None:
    assert not told(find_broadcast_shapes, subject(head(Plain()), X, Y[:, None]))


def test_constant_targets_tell_nothing() -> None:
    assert not told(find_broadcast_shapes, subject(head(flattened), X, np.ones(200, np.float32)))


def r2(y: Any, p: Any) -> Any:
    return 1 - ops.sum(ops.square(y - p[:, 0])) / ops.sum(ops.square(y - ops.mean(y)))


class Own(keras.metrics.Metric):
    """As r2, with a state."""

    def __init__(self, aligned: bool) -> None:
        super().__init__(name="own")
        self.aligned = aligned
        self.error = self.add_variable((), "zeros")

    def update_state(self, y: Any, p: Any, sample_weight: Any = None) -> None:
        y = ops.reshape(y, ops.shape(p)) if self.aligned else y
        self.error.assign_add(ops.mean(ops.square(y - p)))

    def result(self) -> Any:
        return self.error


@pytest.mark.parametrize(("metric", "y"), [(plain, Y), (r2, Y[:, None])])
def test_a_metric_of_every_pair_is_named_and_trains_nothing(metric: Any, y: Any) -> None:
    """Keras hands the targets to a metric as they are, other than to a loss."""
    (found,) = find_broadcast_shapes(subject(head("mse", metrics=["mae", metric]), X, y))
    assert (found.cause, found.certain) == ("broadcast_shapes", False)
    assert found.reason.startswith(
        f"the metric {metric.__name__} of the output compares every target with every prediction"
    )


def test_a_metric_with_a_state_is_tried_too() -> None:
    for aligned, expected in [(True, 0), (False, 1)]:
        looked_at = subject(head("mse", metrics=[Own(aligned)]), X, Y)
        assert len(told(find_broadcast_shapes, looked_at)) == expected


@pytest.mark.parametrize(("metric", "y"), [(plain, Y[:, None]), (r2, Y), (correlation, Y)])
def test_right_metrics_are_left_in_peace(metric: Any, y: Any) -> None:
    metrics = [metric, "mae", keras.metrics.RootMeanSquaredError()]
    assert not told(find_broadcast_shapes, subject(head("mse", metrics=metrics), X, y))
