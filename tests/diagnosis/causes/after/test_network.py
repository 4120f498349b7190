"""What the evidence points to: each cause where it is one, and not where it is none."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from orchestrator.data.rows import Rows
from orchestrator.diagnosis.causes.after.network import (
    find_dead_initialization,
    find_held_kernels,
)
from orchestrator.model.outputs import Output

layers = keras.layers
HEAD = Output(name="", target="", shape=(1,), form="regression", from_logits=False)


def stack(*hidden: layers.Layer, last: layers.Layer | None = None) -> keras.Model:
    return keras.Sequential([layers.Input((3,)), *hidden, last or layers.Dense(1)])


ONE = np.zeros((1, 3), np.float32)
LINEAR = stack()


def rows(y: Any, x: Any = None) -> Rows:
    y = np.asarray(y, dtype=np.float64)
    x = np.random.default_rng(0).normal(size=(len(y), 3)) if x is None else x
    return Rows(x=np.asarray(x, np.float32), y=y)


# ----------------------------------------------------------------------- initialisation


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"kernel_initializer": "zeros"}, "its kernel is zero everywhere"),
        (
            {"kernel_initializer": keras.initializers.RandomUniform(-1, 0)},
            "its kernel has no positive weight",
        ),
        (
            {"bias_initializer": keras.initializers.Constant(-5)},
            "its biases are all negative, down to -5",
        ),
    ],
)
def test_initialisers_that_kill_are_named(options: dict[str, Any], what: str) -> None:
    model = stack(layers.Dense(16, name="sick", **options))
    (found,) = find_dead_initialization(model, np.zeros((1, 3)))
    assert found.reason == f"layer sick is dead by its initialisation: {what}"
    assert (found.cause, found.certain) == ("initialization", False)


@pytest.mark.parametrize(
    "model",
    [
        stack(layers.Dense(8), layers.BatchNormalization(), layers.PReLU()),
        stack(layers.Dense(8), last=layers.Dense(1, kernel_initializer="zeros")),
        stack(layers.Dense(8, bias_initializer="ones")),
    ],
)
def test_initialisers_that_do_not_kill_are_left_in_peace(model: keras.Model) -> None:
    assert not [*find_dead_initialization(model, np.zeros((1, 3)))]


# ----------------------------------------------------------------------------- collapse


def held(*, kernel: float, **options: Any) -> keras.Model:
    model = stack(layers.Dense(4, activation="relu"), last=layers.Dense(1, name="last", **options))
    last = model.get_layer("last")
    last.set_weights([np.full((4, 1), kernel, np.float32), np.zeros(1, np.float32)])
    return model


@pytest.mark.parametrize(
    ("options", "by", "certain"),
    [
        ({"kernel_regularizer": keras.regularizers.L1(100.0)}, "regularizer L1", True),
        ({"kernel_regularizer": keras.regularizers.L2(1e-4)}, "regularizer L2", False),
        ({"kernel_constraint": keras.constraints.MaxNorm(0.0)}, "constraint MaxNorm", True),
        ({"kernel_constraint": "non_neg"}, "constraint NonNeg", False),
        ({"activity_regularizer": "l2"}, "activity regularizer L2", False),
        ({"trainable": False}, "trainable=False", True),
    ],
)
def test_what_holds_a_kernel_at_zero_is_named(
    options: dict[str, Any], by: str, certain: bool
) -> None:
    (found,) = find_held_kernels(held(kernel=0.0, **options), ONE, 0.25)
    assert (found.cause, found.certain) == ("held_at_zero", certain)
    assert f"the kernel of layer last is held at zero by its {by}" in found.reason
    assert not [*find_held_kernels(held(kernel=0.5, **options), ONE, 0.25)]


def test_a_small_kernel_that_nothing_holds_is_free_to_grow() -> None:
    assert not [*find_held_kernels(held(kernel=0.0), ONE, 0.25)]


def test_a_hidden_layer_held_at_zero_says_nothing_of_the_output() -> None:
    frozen = layers.Dense(4, kernel_initializer="zeros", trainable=False)
    assert not [*find_held_kernels(stack(frozen), ONE, 0.25)]
