"""What the evidence points to: each cause where it is one, and not where it is none."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from orchestrator.diagnosis.causes.after.network import find_held_kernels, find_initialization
from tests.diagnosis.causes.after.subjects import ended, stack

layers = keras.layers


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
    (found,) = find_initialization(ended(model, untrained=True))
    assert found.reason == f"layer sick is dead by its initialisation: {what}"
    assert (found.cause, found.certain) == ("initialization", False)
    assert not [*find_initialization(ended(model))]  # what the training has made of it


@pytest.mark.parametrize(
    "model",
    [
        stack(layers.Dense(8), layers.BatchNormalization(), layers.PReLU()),
        stack(layers.Dense(8), last=layers.Dense(1, kernel_initializer="zeros")),
        stack(layers.Dense(8, bias_initializer="ones")),
    ],
)
def test_initialisers_that_do_not_kill_are_left_in_peace(model: keras.Model) -> None:
    assert not [*find_initialization(ended(model, untrained=True))]


# ----------------------------------------------------------------------------- collapse


def held(*, kernel: float, **options: Any) -> keras.Model:
    model = stack(layers.Dense(4, activation="relu"), last=layers.Dense(1, name="last", **options))
    last = model.get_layer("last")
    last.set_weights([np.full((4, 1), kernel, np.float32), np.zeros(1, np.float32)])
    return model


HELD, PENALTY = "held_at_zero", "over_regularised"


@pytest.mark.parametrize(
    ("options", "cause", "by", "certain"),
    [
        ({"kernel_regularizer": keras.regularizers.L1(100.0)}, PENALTY, "regularizer L1", True),
        ({"kernel_regularizer": keras.regularizers.L2(1e-4)}, PENALTY, "regularizer L2", False),
        ({"kernel_constraint": keras.constraints.MaxNorm(0.0)}, HELD, "constraint MaxNorm", True),
        ({"kernel_constraint": "non_neg"}, HELD, "constraint NonNeg", False),
        ({"activity_regularizer": "l2"}, PENALTY, "activity regularizer L2", False),
        ({"trainable": False}, HELD, "trainable=False", True),
    ],
)
def test_what_holds_a_kernel_at_zero_is_named(
    options: dict[str, Any], cause: str, by: str, certain: bool
) -> None:
    (found,) = find_held_kernels(ended(held(kernel=0.0, **options)))
    assert (found.cause, found.certain) == (cause, certain)
    assert f"the kernel of layer last is held at zero by its {by}" in found.reason
    assert found.advice == "take it away or weaken it"
    assert not [*find_held_kernels(ended(held(kernel=0.5, **options)))]


def test_a_small_kernel_that_nothing_holds_is_free_to_grow() -> None:
    assert not [*find_held_kernels(ended(held(kernel=0.0)))]


def test_a_hidden_layer_held_at_zero_says_nothing_of_the_output() -> None:
    frozen = layers.Dense(4, kernel_initializer="zeros", trainable=False)
    assert not [*find_held_kernels(ended(stack(frozen)))]
