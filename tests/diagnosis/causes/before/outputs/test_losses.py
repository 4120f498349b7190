"""Outputs and losses that do not belong together, and those that only look so."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from orchestrator.diagnosis.causes.before.outputs.losses import find_loss_mismatch
from tests.diagnosis.causes.before.outputs.looking import inputs, stack, subject, told

layers, losses = keras.layers, keras.losses
X = inputs()
LABELS = np.arange(200) % 3
ONE_HOT = np.eye(3, dtype=np.float32)[LABELS]
MULTI_HOT = (X > 0).astype(np.float32)
BINARY = MULTI_HOT[:, :1]


class Unseen(keras.Model):
    """A softmax or sigmoid of TensorFlow's behind which Keras does not find the logits."""

    def __init__(self, units: int, function: Any) -> None:
        super().__init__()
        self.inner, self.function = layers.Dense(units), function

    def call(self, x: Any) -> Any:
        return tf.identity(self.function(self.inner(x)))


def compiled(model: keras.Model, loss: Any) -> keras.Model:
    model.compile("adam", loss)
    return model


def head(units: int, activation: Any, loss: Any) -> keras.Model:
    return stack(layers.Dense(units, activation=activation), loss=loss)


FAULTS: dict[str, tuple[keras.Model, Any, str, str]] = {
    "linear as probabilities": (
        head(1, None, "binary_crossentropy"),
        BINARY,
        "the loss binary_crossentropy takes the output for probabilities",
        "write activation sigmoid in the last layer, or from_logits=True in the loss",
    ),
    "linear as probabilities of classes": (
        head(3, None, "sparse_categorical_crossentropy"),
        LABELS,
        "the loss sparse_categorical_crossentropy takes the output for probabilities",
        "write activation softmax in the last layer",
    ),
    "tanh as probabilities": (
        head(1, "tanh", "binary_crossentropy"),
        BINARY,
        "the loss binary_crossentropy takes the output for probabilities",
        "write activation sigmoid in the last layer",
    ),
    "tanh that is positive at first": (
        stack(
            layers.Dense(1, activation="tanh", bias_initializer="ones", kernel_initializer="zeros"),
            loss="binary_crossentropy",
        ),
        BINARY,
        "the loss binary_crossentropy takes the output for probabilities, and it is made by tanh, "
        "which gives values outside of 0 to 1, too",
        "write activation sigmoid in the last layer",
    ),
    "softmax as logits": (
        compiled(Unseen(3, tf.nn.softmax), losses.SparseCategoricalCrossentropy(from_logits=True)),
        LABELS,
        "the output is made by softmax, and the loss sparse_categorical_crossentropy has "
        "from_logits=True",
        "leave from_logits=True out, or the softmax",
    ),
    "sigmoid as logits of a focal loss": (
        head(1, "sigmoid", losses.BinaryFocalCrossentropy(from_logits=True)),
        BINARY,
        "the output is made by sigmoid, and the loss binary_focal_crossentropy has "
        "from_logits=True",
        "leave from_logits=True out, or the sigmoid",
    ),
    "softmax trained unit by unit": (
        head(3, "softmax", "binary_crossentropy"),
        ONE_HOT,
        "the output is a softmax, whose units share out 1",
        "write loss categorical_crossentropy",
    ),
    "softmax of several classes": (
        head(3, "softmax", "binary_crossentropy"),
        MULTI_HOT,
        "the output is a softmax, whose units share out 1",
        "write activation sigmoid",
    ),
    "sigmoid of one class": (
        head(3, "sigmoid", "categorical_crossentropy"),
        ONE_HOT,
        "the output is made by sigmoid, each unit for itself",
        "write activation softmax",
    ),
    "sigmoid of several classes": (
        head(3, "sigmoid", "categorical_crossentropy"),
        MULTI_HOT,
        "the output is made by sigmoid, each unit for itself",
        "write loss binary_crossentropy",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_mismatch_is_named_and_may_train_all_the_same(fault: str) -> None:
    model, y, reason, advice = FAULTS[fault]
    (found,) = find_loss_mismatch(subject(model, X, y))
    assert (found.cause, found.certain) == ("loss_mismatch", False)
    assert found.reason.startswith(reason)
    assert found.advice.startswith(advice)


@pytest.mark.filterwarnings("ignore:.*expected.*y_pred.shape to be")
@pytest.mark.parametrize("activation", ["sigmoid", None])
def test_the_cross_entropy_of_one_class_is_zero(activation: str | None) -> None:
    model = head(1, activation, "categorical_crossentropy")
    (found,) = find_loss_mismatch(subject(model, X, BINARY))
    assert found.certain
    assert found.told == (
        "categorical_crossentropy compares the units of a row with each other, and the output has "
        "only one: the loss is zero whatever the weights are: write loss binary_crossentropy with "
        "one unit of sigmoid, or give the last layer one unit for each class"
    )


def _mean_of_two() -> keras.Model:
    x = keras.Input((3,))
    both = [layers.Dense(3, activation="softmax")(x) for _ in range(2)]
    return compiled(keras.Model(x, layers.Average()(both)), "sparse_categorical_crossentropy")


HEALTHY: dict[str, tuple[keras.Model, Any]] = {
    "sigmoid": (head(1, "sigmoid", "binary_crossentropy"), BINARY),
    "two units, of which each loss says the same": (
        head(2, "softmax", "binary_crossentropy"),
        np.hstack([BINARY, 1 - BINARY]),
    ),
    "several labels a row": (head(3, "sigmoid", "binary_crossentropy"), MULTI_HOT),
    "softmax": (head(3, "softmax", "categorical_crossentropy"), ONE_HOT),
    "logits": (head(1, None, losses.BinaryCrossentropy(from_logits=True)), BINARY),
    "a softmax behind which Keras finds the logits": (
        head(3, "softmax", losses.SparseCategoricalCrossentropy(from_logits=True)),
        LABELS,
    ),
    "a softmax whose operation Keras knows": (
        compiled(Unseen(3, tf.nn.softmax), losses.SparseCategoricalCrossentropy(from_logits=False)),
        LABELS,
    ),
    "probabilities in another way": (head(1, "hard_sigmoid", "binary_crossentropy"), BINARY),
    "what the loss divides by its sum": (
        head(3, "exponential", "categorical_crossentropy"),
        ONE_HOT,
    ),
    "the mean of two": (_mean_of_two(), LABELS),
    "a loss of regression": (head(3, None, "mse"), ONE_HOT),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_what_belongs_together_is_left_in_peace(name: str) -> None:
    model, y = HEALTHY[name]
    assert not told(find_loss_mismatch, subject(model, X, y))


def test_mixed_precision_hides_the_logits_from_keras() -> None:
    """A float16 output is cast in front of the loss, which then no longer finds its logits."""
    for logits, expected in [(True, 1), (False, 0)]:
        loss = losses.SparseCategoricalCrossentropy(from_logits=logits)
        model = stack(layers.Dense(3, activation="softmax", dtype="mixed_float16"), loss=loss)
        assert len(told(find_loss_mismatch, subject(model, X, LABELS))) == expected
        p = np.asarray(model(X), np.float64)
        p = np.exp(p) / np.exp(p).sum(axis=1, keepdims=True) if logits else p
        own = -np.mean(np.log(p[np.arange(200), LABELS]))
        assert float(loss(LABELS, model(X))) == pytest.approx(own, rel=1e-3)
