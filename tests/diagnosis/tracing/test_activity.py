"""Dead units and pre-activations as they are looked at while a network trains."""

import keras
import numpy as np
import pytest

from orchestrator.data.rows import Rows
from orchestrator.diagnosis.tracing.activity import Activity, Look

X = np.array([[-3.0], [0.0], [2.0], [5.0]], np.float32)


def test_all_applications_are_looked_at() -> None:
    model = keras.Sequential(
        [
            keras.Input((1,)),
            keras.layers.Dense(
                2,
                "relu",
                kernel_initializer=lambda shape, dtype=None: np.array([[1.0, 0.0]]),
                bias_initializer=lambda shape, dtype=None: np.array([1.0, -1.0]),
                name="a",
            ),
            keras.layers.Dense(1, "tanh", kernel_initializer="ones", name="b"),
            keras.layers.Dense(1),
        ]
    )
    found = Look(model).measure(Rows(x=X, y=None), 4)
    assert found == {
        "a": Activity(dead_fraction=0.5, lowest=-2.0, highest=6.0),  # x + 1, and -1
        "b": Activity(dead_fraction=0.0, lowest=0.0, highest=6.0),
    }


def test_a_part_of_the_rows_may_be_enough_and_none_is_hidden_by_what_is_no_number() -> None:
    layer = keras.layers.Dense(1, "relu", kernel_initializer="ones", name="a")
    model = keras.Sequential([keras.Input((1,)), layer])
    look = Look(model)
    assert look.measure(Rows(x=X, y=None), 2) == {
        "a": Activity(dead_fraction=1.0, lowest=-3.0, highest=0.0)
    }
    layer.kernel.assign([[np.nan]])
    found = look.measure(Rows(x=X, y=None), 4)["a"]
    assert [found.lowest, found.highest] == pytest.approx([np.nan] * 2, nan_ok=True)


def test_inside_of_a_loop_units_are_counted_all_the_same() -> None:
    # Alone by their biases: what comes back from the others may wake the first.
    cell = keras.layers.SimpleRNN(3, activation="relu", recurrent_initializer="zeros", name="a")
    model = keras.Sequential([keras.Input((4, 1)), cell, keras.layers.Dense(1)])
    cell.cell.bias.assign([-100.0, 100.0, 100.0])
    (found,) = Look(model).measure(Rows(x=np.ones((2, 4, 1), np.float32), y=None), 2).values()
    assert found == Activity(dead_fraction=pytest.approx(1 / 3), lowest=None, highest=None)
