"""A softmax over one unit, and what only looks like it."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from orchestrator.diagnosis.causes.before.outputs.one_unit import find_one_unit_softmax
from tests.diagnosis.causes.before.outputs.looking import inputs, stack, subject, told

layers = keras.layers
pytestmark = [
    pytest.mark.filterwarnings("ignore:You are using a softmax over axis -1"),
    pytest.mark.filterwarnings("ignore:.*expected.*y_pred.shape to be"),
]
X = inputs()
BINARY = (X[:, 0] > 0).astype(np.float32)


class Own(keras.Model):
    def __init__(self, units: int) -> None:
        super().__init__()
        self.inner = layers.Dense(units)

    def call(self, x: Any) -> Any:
        return keras.ops.softmax(self.inner(x))


@pytest.mark.parametrize("loss", ["binary_crossentropy", "mse", "categorical_crossentropy"])
@pytest.mark.parametrize("kind", ["argument", "layer", "own"])
def test_it_is_named_before_training(kind: str, loss: str) -> None:
    model = {
        "argument": lambda: stack(layers.Dense(1, activation="softmax")),
        "layer": lambda: stack(layers.Dense(1), layers.Softmax()),
        "own": lambda: Own(1),
    }[kind]()
    model.compile("adam", loss)
    (found,) = find_one_unit_softmax(subject(model, X, BINARY))
    assert (found.cause, found.certain) == ("one_unit_softmax", True)
    assert found.told == (
        "the output is a softmax over one unit, which is 1 on every row whatever the weights are, "
        "so that no training can change the prediction: write activation sigmoid with loss "
        "binary_crossentropy, or 2 units of softmax with loss sparse_categorical_crossentropy"
    )


def test_the_config_says_where() -> None:
    model = stack(layers.Dense(1, activation="softmax"), loss="mse")
    named = {"layers": [{"Dense": {"units": 1, "activation": "softmax"}}]}
    (found,) = find_one_unit_softmax(subject(model, X, BINARY, model=named))
    assert found.key == "model.layers.0.Dense.activation"


@pytest.mark.parametrize(
    ("y", "advice"),
    [
        (np.arange(200) % 3, "give the last layer one unit for each class, 3 as the targets are"),
        (5 * X[:, 1], "leave the activation out, for targets that are numbers"),
        ((1 + X[:, 1].clip(-1, 1)) / 2, "write activation sigmoid"),
    ],
)
def test_the_advice_goes_by_the_targets(y: Any, advice: str) -> None:
    model = stack(layers.Dense(1, activation="softmax"), loss="mse")
    (found,) = find_one_unit_softmax(subject(model, X, y.astype(np.float32)))
    assert found.advice.startswith(advice)


def test_where_the_targets_are_constant_it_is_none_the_worse() -> None:
    model = stack(layers.Dense(1, activation="softmax"), loss="mse")
    assert told(find_one_unit_softmax, subject(model, X, np.ones(200, np.float32))) == [
        ("one_unit_softmax", False)
    ]


@pytest.mark.parametrize(
    "model",
    [
        stack(layers.Dense(1, activation="sigmoid"), loss="binary_crossentropy"),
        stack(layers.Dense(2, activation="softmax"), loss="sparse_categorical_crossentropy"),
        # In front of the output it does no such harm.
        stack(layers.Dense(1, activation="softmax"), layers.Dense(1), loss="mse"),
    ],
)
def test_other_outputs_are_left_in_peace(model: keras.Model) -> None:
    assert not told(find_one_unit_softmax, subject(model, X, BINARY))


def test_a_softmax_along_another_axis_varies() -> None:
    model = stack(layers.Dense(4), layers.Reshape((4, 1)), layers.Softmax(axis=1), loss="mse")
    y = np.random.default_rng(0).dirichlet(np.ones(4), 200).astype(np.float32)[..., None]
    assert not told(find_one_unit_softmax, subject(model, X, y))
