"""How untrained networks start, and how they should."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from orchestrator.diagnosis.causes.before.outputs.start import find_unusual_start
from tests.diagnosis.causes.before.outputs.looking import inputs, stack, subject, told

layers, ops = keras.layers, keras.ops
X = inputs()
Y = X[:, 0] + np.abs(X[:, 1])
LABELS = np.arange(200) % 3
BINARY = (np.arange(200) % 2).astype(np.float32)


def deep(units: int = 1, last: Any = None, loss: Any = "mse", scale: float = 1.0) -> keras.Model:
    """Eight hidden layers."""
    keras.utils.set_random_seed(0)
    wide = keras.initializers.VarianceScaling(2.0 * scale, "fan_in", seed=0)
    return stack(
        *(layers.Dense(32, "relu", kernel_initializer=wide) for _ in range(8)),
        layers.Dense(units, last),
        loss=loss,
    )


def test_predictions_far_beyond_the_targets() -> None:
    for model, x in [(deep(scale=4.0), X), (deep(), 1000 * X)]:
        (found,) = find_unusual_start(subject(model, x, Y))
        assert (found.cause, found.certain) == ("unusual_start", False)
        assert "away from zero (root mean square), and the targets only 1.5" in found.reason
        assert "scale the inputs" in found.advice


@pytest.mark.parametrize(
    ("units", "last", "loss", "y", "classes"),
    [
        (3, "softmax", "sparse_categorical_crossentropy", LABELS, "log(3) = 1.1"),
        (3, "softmax", "categorical_crossentropy", np.eye(3)[LABELS], "log(3) = 1.1"),
        (1, "sigmoid", "binary_crossentropy", BINARY, "log(2) = 0.693"),
        (
            3,
            None,
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            LABELS,
            "log(3) = 1.1",
        ),
    ],
)
def test_classes_of_which_it_is_certain(
    units: int, last: Any, loss: Any, y: Any, classes: str
) -> None:
    (found,) = find_unusual_start(subject(deep(units, last, loss), 1000 * X, y))
    assert f"one that knows nothing has {classes}" in found.reason
    assert not told(find_unusual_start, subject(deep(units, last, loss), X, y))


@pytest.mark.parametrize("y", [Y, 0.01 * Y, 300 + Y, 1e5 * Y, np.where(LABELS, 0, 1)], ids=str)
def test_usual_networks_start_as_they_should(y: Any) -> None:
    for scale in (1.0, 1.2):
        model = deep(scale=scale)
        assert not told(find_unusual_start, subject(model, X, y.astype(np.float32)))


def test_batch_statistics_are_those_of_training() -> None:
    hidden = [each for _ in range(4) for each in (layers.Dense(32), layers.BatchNormalization())]
    model = stack(*hidden, layers.Dense(1), loss="mse")
    assert not told(find_unusual_start, subject(model, 1000 * X, Y))


def test_trained_networks_have_no_start() -> None:
    model = deep(scale=4.0)
    assert not told(find_unusual_start, subject(model, X, Y, model={"file": "m.keras"}))
    assert not told(find_unusual_start, subject(model, X, Y, elsewhere=True))
    fresh = {"file": "m.keras", "initial_weights": "fresh"}
    assert len(told(find_unusual_start, subject(model, X, Y, model=fresh))) == 1


class Two(keras.Model):
    """Something else in training than in inference."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.inner, self.how = layers.Dense(1), how
        self.seeds = keras.random.SeedGenerator(0) if how == "noise" else None

    def call(self, x: Any, training: bool = False) -> Any:
        z = self.inner(x)
        if not training or self.how == "same":
            return z
        if self.how == "noise":
            return z + keras.random.normal(ops.shape(z), 0, 100, seed=self.seeds)
        if self.how == "unseen noise":
            return z + keras.random.normal(ops.shape(z), 0, 100)
        return 500 * z if self.how == "scaled" else 1.1 * z


@pytest.mark.parametrize(
    ("how", "expected"),
    [("scaled", 1), ("same", 0), ("little", 0), ("noise", 0), ("unseen noise", 0)],
)
def test_a_loss_in_training_that_is_not_that_of_the_predictions(how: str, expected: int) -> None:
    model = Two(how)
    model.compile("adam", "mse")
    found = [
        each
        for each in find_unusual_start(subject(model, X, 10 * Y))
        if "in training, which Keras logs" in each.reason
    ]
    assert len(found) == expected
