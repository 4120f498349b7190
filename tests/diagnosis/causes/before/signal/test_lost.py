"""Rows that cannot be told apart any more, and those that only begin alike."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from orchestrator.diagnosis.causes.before.signal.lost import find_lost_signal
from orchestrator.record.records import Finding
from tests.diagnosis.causes.before.subjects import compiled, make_subject

layers = keras.layers

X = np.random.default_rng(0).normal(size=(300, 4)).astype("float32")
Y = (X[:, 0] > 0).astype("float32")


def lost(model: keras.Model, x: Any = X) -> list[Finding]:
    return [*find_lost_signal(make_subject(model, x, np.resize(Y, len(x))))]


def classifier(*stack: Any, shape: tuple[int, ...] = (4,)) -> keras.Model:
    last = layers.Dense(1, activation="sigmoid")
    return compiled(*stack, last, loss="binary_crossentropy", shape=shape)


# ---------------------------------------------------------------------------- padding


def sentences(padding: int, front: bool = False) -> Any:
    words = np.random.default_rng(1).integers(1, 30, size=(64, 6)).astype("int32")
    zeros = np.zeros((64, padding), "int32")
    return np.concatenate([zeros, words] if front else [words, zeros], axis=1)


def reader(recurrent: Any, steps: int, **options: Any) -> keras.Model:
    embedding = layers.Embedding(30, 8, name="words", **options)
    return classifier(embedding, recurrent, shape=(steps,))


def test_padding_that_is_not_masked_is_named() -> None:
    (found,) = lost(reader(layers.GRU(8, name="reader"), 30), sentences(24))
    assert (found.cause, found.certain) == ("lost_signal", False)
    assert found.reason.startswith(
        "behind layer reader the rows cannot be told apart (it differs by "
    )
    assert "the last 24 steps of its sequences are the same in all of them" in found.reason
    assert found.advice == "give words mask_zero=True, so that padding is passed over"


def test_padding_that_does_no_harm_is_not_named() -> None:
    assert not lost(reader(layers.GRU(8), 30, mask_zero=True), sentences(24))
    assert not lost(reader(layers.Bidirectional(layers.GRU(8)), 30), sentences(24))
    assert not lost(reader(layers.GRU(8), 30), sentences(24, front=True))
    assert not lost(reader(layers.GRU(8), 12), sentences(6))


def test_padding_of_numbers_wants_a_masking_layer() -> None:
    x = np.zeros((64, 40, 3), "float32")
    x[:, :8] = np.random.default_rng(0).normal(size=(64, 8, 3))
    (found,) = lost(classifier(layers.GRU(8), shape=(40, 3)), x)
    assert found.advice.startswith("put a Masking layer in front of it")


# ------------------------------------------------------------------------- frozen parts


def frozen(*stack: Any) -> Any:
    base = keras.Sequential([keras.Input((4,)), *stack], name="base")
    base.trainable = False
    return base


def small(units: int = 16, scale: float = 0.01) -> Any:
    initializer = keras.initializers.RandomNormal(stddev=scale, seed=1)
    return layers.Dense(units, activation="tanh", kernel_initializer=initializer)


def test_a_frozen_random_base_that_hands_nothing_on_is_named() -> None:
    model = classifier(frozen(*(small() for _ in range(6))), layers.Dense(8, activation="relu"))
    (found,) = lost(model)
    assert (found.cause, found.certain) == ("lost_signal", False)
    assert found.reason.startswith("from layer base/dense_")
    assert "what layers that do not train hand on varies by" in found.reason
    assert found.advice == "load weights that were trained into those layers, or let them train"


def test_a_frozen_base_that_hands_the_rows_on_is_healthy() -> None:
    wide = [layers.Dense(32, activation="relu", kernel_initializer="he_normal") for _ in range(3)]
    assert not lost(classifier(frozen(*wide), layers.Dense(8, activation="relu")))
    assert not lost(classifier(*(small() for _ in range(6))))  # trains, and comes out of it


# ---------------------------------------------------------------------------- saturation


def test_saturated_units_are_named() -> None:
    x = 1e6 * (1 + np.abs(X[:, :1]))
    full = layers.Dense(16, activation="tanh", name="full")
    (found,) = lost(classifier(full, layers.Dense(8, activation="relu"), shape=(1,)), x)
    assert found.reason.startswith("from layer full on the rows cannot be told apart: ")
    gates = classifier(layers.LSTM(8, name="gates"), shape=(5, 1))
    (found,) = lost(gates, np.repeat(x[:64, None], 5, axis=1))
    assert found.reason.startswith("from layer gates on the rows cannot be told apart: ")


def test_too_many_sigmoid_layers_are_named_from_the_first_that_tells_nothing() -> None:
    deep = [layers.Dense(16, activation="sigmoid", name=f"deep_{index}") for index in range(14)]
    (found,) = lost(classifier(*deep))
    assert found.reason.startswith("from layer deep_")
    assert not lost(classifier(*(layers.Dense(16, activation="sigmoid") for _ in range(5))))


def residual() -> keras.Model:
    inputs = keras.Input((4,))
    x = layers.Dense(8)(inputs)
    branch = layers.Dense(8, activation="relu")(x)
    branch = layers.Dense(8, kernel_initializer="zeros")(branch)
    x = layers.Add()([x, branch])
    outputs = layers.Dense(1, activation="sigmoid")(x)
    model = keras.Model(inputs, outputs)
    model.compile("adam", "binary_crossentropy")
    return model


def begins_at_zero() -> keras.Model:
    head = layers.Dense(1, activation="sigmoid", kernel_initializer="zeros")
    dense = layers.Dense(8, activation="relu")
    return compiled(dense, head, loss="binary_crossentropy")


def gamma_of_zero() -> keras.Model:
    return classifier(
        layers.Dense(8), layers.BatchNormalization(gamma_initializer="zeros"),
        layers.Activation("relu"),
    )  # fmt: skip


def dead() -> keras.Model:
    return classifier(
        layers.Dense(8, activation="relu", bias_initializer=keras.initializers.Constant(-99))
    )


def certain_of_one_class() -> keras.Model:
    sure = keras.initializers.Constant(20.0)
    return compiled(
        layers.Dense(8, activation="relu"),
        layers.Dense(1, activation="sigmoid", bias_initializer=sure),
        loss="binary_crossentropy",
    )


@pytest.mark.parametrize(
    "build", [residual, begins_at_zero, gamma_of_zero, dead, certain_of_one_class]
)
def test_what_begins_at_zero_is_not_lost(build: Any) -> None:
    assert not lost(build())


def test_rows_that_do_not_differ_cannot_be_told_apart() -> None:
    assert not lost(classifier(layers.Dense(8, activation="tanh")), np.ones((64, 4), "float32"))
