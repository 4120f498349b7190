"""Kernels that are frozen at zero, and those that only start there."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from orchestrator.diagnosis.causes.before.outputs.held import find_held_at_zero
from tests.diagnosis.causes.before.outputs.looking import inputs, stack, subject, told

layers = keras.layers
X = inputs()
Y = X[:, 0]


def zero(units: int = 1, **options: Any) -> layers.Layer:
    return layers.Dense(units, kernel_initializer="zeros", name="zero", **options)


def test_a_frozen_kernel_of_zeros_holds_the_output() -> None:
    for model in (
        stack(layers.Dense(4, activation="relu"), zero(trainable=False), loss="mse"),
        stack(zero(4, trainable=False), layers.Dense(8, "tanh"), layers.Dense(1), loss="mse"),
    ):
        (found,) = find_held_at_zero(subject(model, X, Y))
        assert found.certain
        assert found.reason == (
            "the kernel of layer zero is zero and frozen (trainable=False), so that the output is "
            "the same on every row whatever the other weights are"
        )


def test_the_models_own_class_is_looked_into() -> None:
    class Own(keras.Model):
        def __init__(self, beside: bool) -> None:
            super().__init__()
            self.zero, self.other = zero(trainable=False), layers.Dense(1)
            self.beside = beside

        def call(self, x: Any) -> Any:
            return self.zero(x) + self.other(x) if self.beside else self.zero(self.other(x))

    for beside, expected in [(False, [("held_at_zero", True)]), (True, [])]:
        model = Own(beside)
        model.compile("adam", "mse")
        assert told(find_held_at_zero, subject(model, X, Y)) == expected


def test_a_kernel_that_starts_at_zero_and_trains_is_healthy() -> None:
    assert not told(find_held_at_zero, subject(stack(zero(), loss="mse"), X, Y))


def test_a_path_around_it_is_enough() -> None:
    x = keras.Input((3,))
    hidden = layers.Dense(4, activation="relu")(x)
    branch = layers.Add()([hidden, zero(4, trainable=False)(hidden)])
    model = keras.Model(x, layers.Dense(1)(branch))
    model.compile("adam", "mse")
    assert not told(find_held_at_zero, subject(model, X, Y))


def test_a_frozen_kernel_that_is_not_zero_lets_rows_through() -> None:
    model = stack(layers.Dense(4, trainable=False), layers.Dense(1), loss="mse")
    assert not told(find_held_at_zero, subject(model, X, Y))


def test_constant_targets_are_reached() -> None:
    model = stack(zero(trainable=False), loss="mse")
    (found,) = find_held_at_zero(subject(model, X, np.ones(200, np.float32)))
    assert not found.certain


def test_a_model_that_was_trained_elsewhere_is_told_why_it_is_constant() -> None:
    model = stack(zero(trainable=False), loss="mse")
    assert told(find_held_at_zero, subject(model, X, Y, elsewhere=True)) == [
        ("held_at_zero", False)
    ]


def test_other_weights_reach_a_call_that_was_traced_before() -> None:
    class Traced(layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.beside, self.held = layers.Dense(1, kernel_initializer="zeros"), zero()
            self.held.trainable = False

        @tf.function  # type: ignore[untyped-decorator]
        def call(self, x: Any) -> Any:
            return self.beside(x) + self.held(x)

    looked_at = subject(stack(Traced(), loss="mse"), X, Y)
    assert looked_at.predictions  # traced now
    assert not told(find_held_at_zero, looked_at)
