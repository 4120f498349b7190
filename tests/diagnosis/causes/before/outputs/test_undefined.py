"""Losses that are no number before the training, and those that are."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from orchestrator.diagnosis.causes.before.find import find_before
from orchestrator.diagnosis.causes.before.outputs.undefined import find_undefined_loss
from tests.diagnosis.causes.before.outputs.looking import inputs, stack, subject, told

layers, ops = keras.layers, keras.ops
X = inputs()
COUNTS = np.random.default_rng(0).poisson(np.exp(X[:, 0])).astype(np.float32)


def squared_logs(y: Any, predicted: Any) -> Any:
    y = ops.reshape(y, ops.shape(predicted))
    return ops.mean(ops.square(ops.log(1 + y) - ops.log(predicted)), -1)


def head(loss: Any, **options: Any) -> keras.Model:
    return stack(layers.Dense(1, **options), loss=loss)


def test_counts_need_an_output_above_zero() -> None:
    looked_at = subject(head("poisson"), X, COUNTS)
    (found,) = find_undefined_loss(looked_at)
    assert (found.cause, found.certain) == ("undefined_loss", True)
    assert found in find_before(looked_at)
    assert found.reason.startswith("the loss poisson takes the logarithm of the output, and 0.")
    assert found.fix is not None and found.fix.activation == "exponential"
    slow = subject(head("poisson"), X, COUNTS)
    slow.model.compile("sgd", "poisson")
    (found,) = find_undefined_loss(slow)
    assert found.fix is not None and found.fix.activation == "softplus"


def test_a_seed_may_hide_it_from_the_first_rows() -> None:
    model = head("poisson", bias_initializer="ones", kernel_initializer="zeros")
    assert not told(find_undefined_loss, subject(model, X, COUNTS))
    looked_at = subject(model, X, COUNTS)
    _ = looked_at.trial
    kernel, _ = model.weights[-2:]
    kernel.assign(np.ones(kernel.shape))  # of the other rows some are below zero then
    assert told(find_undefined_loss, looked_at) == [("undefined_loss", False)]


def test_a_loss_of_ones_own_is_told_with_what_it_is_given() -> None:
    (found,) = find_undefined_loss(subject(head(squared_logs), X, COUNTS))
    assert (found.cause, found.certain, found.fix) == ("undefined_loss", False, None)
    assert found.reason.startswith(
        "the loss squared_logs of the output is nan before any training, for values from -"
    )
    assert found.advice.startswith("write activation softplus in the last layer, for of values ab")
    (by_zero,) = find_undefined_loss(
        subject(head(lambda y, z: ops.mean(z / (0 * y), -1)), X, COUNTS)
    )
    assert by_zero.advice.startswith("let it take what the network gives: look for a division")


def test_what_a_layer_adds_may_be_it() -> None:
    class Adds(layers.Layer):
        def call(self, x: Any) -> Any:
            self.add_loss(ops.log(-ops.mean(ops.square(x)) - 1))
            return x

    (found,) = find_undefined_loss(subject(stack(Adds(), layers.Dense(1), loss="mse"), X, COUNTS))
    assert found.cause == "undefined_loss" and "what layers add to it" in found.reason


@pytest.mark.parametrize("activation", ["exponential", "softplus", "relu", "sigmoid"])
def test_a_loss_that_is_a_number_is_none(activation: str) -> None:
    for loss in ("poisson", squared_logs) if activation != "relu" else ("poisson",):
        model = head(loss, activation=activation)
        assert not told(find_undefined_loss, subject(model, X, COUNTS))


@pytest.mark.parametrize("loss", ["mse", "msle", "kl_divergence", "mape", "log_cosh"])
def test_other_losses_of_keras_take_any_number(loss: str) -> None:
    assert not told(find_undefined_loss, subject(head(loss), X, COUNTS))
