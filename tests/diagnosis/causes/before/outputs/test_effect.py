"""Training that can have no effect, and training that only looks like it."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from orchestrator.diagnosis.causes.before.outputs.effect import find_no_effect
from tests.diagnosis.causes.before.outputs.looking import inputs, stack, subject, told

layers, ops = keras.layers, keras.ops
X = inputs()
Y = X[:, 0]
BINARY = (Y > 0).astype(np.float32)


class Behind(keras.Model):
    """A network with a function of the user's own behind it."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.inner, self.function = layers.Dense(1), function

    def call(self, x: Any) -> Any:
        return self.function(self.inner(x))


def compiled(model: keras.Model, loss: Any = "mse", **options: Any) -> keras.Model:
    model.compile(optimizer="adam", loss=loss, **options)
    return model


@pytest.mark.parametrize(
    "function",
    [
        ops.round,
        ops.stop_gradient,
        lambda z: ops.cast(z > 0, "float32"),
        lambda z: ops.cast(ops.argmax(z, axis=-1, keepdims=True), "float32"),
    ],
)
def test_an_output_without_a_gradient_trains_nothing(function: Any) -> None:
    (found,) = find_no_effect(subject(compiled(Behind(function)), X, Y))
    assert (found.cause, found.certain) == ("no_effect", True)
    assert found.reason.startswith("the loss does not depend on any weight")


def test_a_sign_has_a_gradient_of_zero() -> None:
    (found,) = find_no_effect(subject(compiled(Behind(ops.sign)), X, Y))
    assert found.certain
    assert "its gradient is zero on all of 64 rows" in found.reason


def test_a_loss_that_does_not_look_at_the_prediction() -> None:
    def forgetful(y: Any, p: Any) -> Any:
        return ops.mean(ops.square(y - ops.mean(y)), axis=-1)

    assert told(find_no_effect, subject(compiled(Behind(ops.tanh), forgetful), X, Y)) == [
        ("no_effect", True)
    ]


def test_weights_of_zero_on_every_row() -> None:
    model = stack(layers.Dense(1), loss="mse")
    assert len(told(find_no_effect, subject(model, X, Y, np.zeros(200, np.float32)))) == 1
    few = np.zeros(200, np.float32)
    few[3] = 1
    assert not told(find_no_effect, subject(model, X, Y, few))


def test_nothing_to_train() -> None:
    frozen = stack(layers.Dense(4, trainable=False), layers.Dense(1, trainable=False), loss="mse")
    (found,) = find_no_effect(subject(frozen, X, Y))
    assert found.certain
    assert found.reason == (
        "the network has no weights that train: 2 of its layers are frozen (trainable=False)"
    )
    assert not told(find_no_effect, subject(frozen, X, Y, elsewhere=True))
    settling = stack(layers.BatchNormalization(center=False, scale=False), loss="mse")
    assert not told(find_no_effect, subject(settling, X, X))


class Straight(keras.Model):
    """Rounds in front, and hands the gradient on as if it did not."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = layers.Dense(1)

    def call(self, x: Any) -> Any:
        z = self.inner(x)
        return z + ops.stop_gradient(ops.round(z) - z)


class OwnStep(Straight):
    """Trains in a way of its own, of which nothing is known."""

    def train_step(self, data: Any) -> Any:
        return {"loss": 0.0}


def _dead() -> keras.Model:
    """Its relu units are dead, which is a finding of its own."""
    options: dict[str, Any] = {"bias_initializer": keras.initializers.Constant(-100.0)}
    return stack(layers.Dense(4, "relu", **options), layers.Dense(1, use_bias=False), loss="mse")


def _cut_off() -> keras.Model:
    """All its first predictions are beyond where the loss has a gradient."""
    bias = keras.initializers.Constant(-50.0)
    return stack(layers.Dense(1, bias_initializer=bias), loss="binary_crossentropy")


@pytest.mark.parametrize(
    "model",
    [
        stack(layers.Dense(4, activation="relu"), layers.Dense(1), loss="mse"),
        stack(layers.Dense(1, kernel_initializer="zeros"), loss="mse"),
        stack(layers.Dense(4, trainable=False), layers.Dense(1), loss="mse"),
        compiled(Straight()),
        compiled(OwnStep()),
        _dead(),
        _cut_off(),
    ],
    ids=["plain", "zero", "frozen base", "straight through", "own step", "dead", "cut off"],
)
def test_what_trains_or_is_for_others_to_tell_is_left_in_peace(model: keras.Model) -> None:
    assert not told(find_no_effect, subject(model, X, BINARY))


def test_nothing_is_changed_by_looking() -> None:
    model = stack(
        layers.Dense(4),
        layers.BatchNormalization(),
        layers.Dropout(0.5),
        layers.Dense(1),
        loss="mse",
    )
    before = [np.array(each) for each in model.variables]
    looked_at = subject(model, X, Y)
    assert looked_at.trial is not None
    assert looked_at.trial.reach == "some"
    for each, value in zip(model.variables, before, strict=True):
        assert np.array_equal(np.array(each), value)


def test_the_loss_that_is_tried_is_that_of_keras() -> None:
    model = stack(layers.Dense(1, kernel_regularizer="l2"), loss="mse")
    trial = subject(model, X, Y).trial
    assert trial is not None
    assert trial.loss == pytest.approx(
        model.evaluate(*trial.batch[:2], batch_size=64, verbose=0), rel=1e-5
    )


MANY = inputs(4000)
SOME = np.arange(len(MANY)) % 400 == 399
"""Ten rows of 4,000."""


def test_rows_that_keras_leaves_out_say_nothing() -> None:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)
    model = stack(layers.Dense(2), loss=loss)
    labels = np.where(SOME, MANY[:, 0] > 0, -1)
    trial = subject(model, MANY, labels).trial
    assert trial is not None
    assert (trial.reach, trial.rows) == ("some", SOME.sum())
    assert not told(find_no_effect, subject(model, MANY, labels))
    assert told(find_no_effect, subject(model, MANY, np.full(len(MANY), -1))) == [
        ("no_effect", True)
    ]


def test_rows_that_a_loss_of_the_users_own_leaves_out_say_nothing() -> None:
    def masked(y: Any, p: Any) -> Any:
        return ops.sum(ops.cast(y >= 0, "float32") * ops.square(y - p), axis=-1)

    model = stack(layers.Dense(1), loss=masked)
    labels = np.where(SOME, 1.0, -1.0)[:, None]
    assert not told(find_no_effect, subject(model, MANY[-2000:], labels[-2000:]))
    none = np.full_like(labels, -1.0)
    assert told(find_no_effect, subject(model, MANY, none)) == [("no_effect", False)]
    assert told(find_no_effect, subject(model, MANY[:2000], none[:2000])) == [("no_effect", True)]


class Traced(layers.Layer):
    """A layer whose call is traced once for each shape, with its own variables."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = layers.Dense(4, activation="tanh")

    @tf.function  # type: ignore[untyped-decorator]
    def call(self, x: Any) -> Any:
        return self.inner(x)


@pytest.mark.parametrize("recurrent", [False, True])
def test_what_was_traced_before_reads_no_other_weights(recurrent: bool) -> None:
    memory = [layers.Reshape((2, 2)), layers.SimpleRNN(2, trainable=False)]
    model = stack(Traced(), *(memory if recurrent else []), Traced(), loss="mse")
    looked_at = subject(model, X[:60], X[:60, :1] + np.zeros(4))
    assert looked_at.predictions  # traced now, for 60 rows
    assert looked_at.trial is not None
    assert looked_at.trial.reach == "some"
    assert not told(find_no_effect, looked_at)
