"""What the evidence points to: each cause where it is one, and not where it is none."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
import pytest

from orchestrator.data.rows import Rows
from orchestrator.diagnosis.causes.network import (
    find_dead_initialization,
    find_held_kernels,
    find_unreachable_targets,
)
from orchestrator.diagnosis.tracing.probe import Probe
from orchestrator.model.outputs import Output
from orchestrator.record.records import Finding

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
    assert (found.cause, found.final) == ("initialization", False)


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


# ------------------------------------------------------------------------------ targets


def unreachable(
    model: keras.Model,
    y: Any,
    *,
    weight: Any = None,
    changeable: bool = False,
    min_skill: float | None = -0.1,
) -> list[Finding]:
    given = dataclasses.replace(rows(y), weight=weight)
    measured = Probe(model).measure(given)
    found = find_unreachable_targets(
        [HEAD], measured.flow, measured.layers, given, changeable=changeable, min_skill=min_skill
    )
    return [*found]


class Own(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.inner = layers.Dense(1)

    def call(self, x: Any) -> Any:
        return keras.ops.relu(self.inner(x))


@pytest.mark.parametrize("kind", ["argument", "layer", "own"])
def test_negative_targets_behind_a_relu_are_beyond_reach(kind: str) -> None:
    model = {
        "argument": stack(last=layers.Dense(1, activation="relu")),
        "layer": stack(layers.Dense(1), last=layers.ReLU()),
        "own": Own(),
    }[kind]
    (found,) = unreachable(model, [-1.0, -2.0, -3.0])
    assert (found.cause, found.final) == ("unreachable_targets", True)
    assert found.reason == (
        "the output is made by relu, which gives values of 0 and above; every target is outside of "
        "that, from -3 to -1: leave the activation of the last layer out, or scale the targets"
    )


@pytest.mark.parametrize(
    ("activation", "y", "final"),
    [
        ("relu", [-1.0, 0.0], True),  # the best prediction within reach is 0
        ("relu", [-1.0, 2.0], False),
        ("relu", [0.0, 2.0], None),
        ("sigmoid", [3.0, 4.0], True),
        ("sigmoid", [0.5, 4.0], True),  # 0.5 and 1 are worse than the mean
        ("sigmoid", [0.5, 1.5], False),
        ("relu", [-1.0, 0.41], False),  # as bad as a constant passes with a warning
        ("relu", [-1.0, -1.0], False),  # not judged
        ("tanh", [-2.0, -3.0], True),
        ("tanh", [-2.0, 3.0], False),
        ("relu6", [7.0, 8.0], True),
        ("elu", [-1.5, -2.0], None),  # its alpha may be any
        ("elu", [-0.5, 2.0], None),
        ("leaky_relu", [-1.0, -2.0], None),
        (None, [-1.0, -2.0], None),
    ],
)
def test_reach_is_judged_by_the_activation(
    activation: str | None, y: list[float], final: bool | None
) -> None:
    found = unreachable(stack(last=layers.Dense(1, activation=activation)), y)
    assert [each.final for each in found] == ([] if final is None else [final])


def test_an_output_that_a_remedy_changes_may_reach_them_then() -> None:
    model = stack(last=layers.Dense(1, activation="relu"))
    (found,) = unreachable(model, [-1.0, -2.0], changeable=True)
    assert not found.final


def test_what_no_check_would_fail_is_not_final() -> None:
    sigmoid = stack(last=layers.Dense(1, activation="sigmoid"))
    (found,) = unreachable(sigmoid, [0.5, 4.0], min_skill=None)
    assert not found.final
    relu = stack(last=layers.Dense(2, activation="relu"))
    (found,) = unreachable(relu, [[-1.0, 1.0], [-1.0, 3.0]])  # a constant column is not judged
    assert not found.final


def test_rows_without_weight_are_not_reached_for() -> None:
    relu = stack(last=layers.Dense(1, activation="relu"))
    y = [-999.0, 1.0, -999.0, 3.0]
    assert unreachable(relu, y)[0].final
    assert not unreachable(relu, y, weight=np.array([0.0, 1, 0, 1]))


# ----------------------------------------------------------------------------- collapse


def held(*, kernel: float, **options: Any) -> keras.Model:
    model = stack(layers.Dense(4, activation="relu"), last=layers.Dense(1, name="last", **options))
    last = model.get_layer("last")
    last.set_weights([np.full((4, 1), kernel, np.float32), np.zeros(1, np.float32)])
    return model


@pytest.mark.parametrize(
    ("options", "by", "final"),
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
    options: dict[str, Any], by: str, final: bool
) -> None:
    (found,) = find_held_kernels(held(kernel=0.0, **options), ONE, 0.25)
    assert (found.cause, found.final) == ("held_at_zero", final)
    assert f"the kernel of layer last is held at zero by its {by}" in found.reason
    assert not [*find_held_kernels(held(kernel=0.5, **options), ONE, 0.25)]


def test_a_small_kernel_that_nothing_holds_is_free_to_grow() -> None:
    assert not [*find_held_kernels(held(kernel=0.0), ONE, 0.25)]


def test_a_hidden_layer_held_at_zero_says_nothing_of_the_output() -> None:
    frozen = layers.Dense(4, kernel_initializer="zeros", trainable=False)
    assert not [*find_held_kernels(stack(frozen), ONE, 0.25)]
