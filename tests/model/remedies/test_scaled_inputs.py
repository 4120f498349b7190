"""Inputs that may be standardised in front of a model, and those that are names or marks."""

from typing import Any

import keras
import numpy as np
import pytest

from orchestrator.data.rows import Rows
from orchestrator.model.remedies import scaled_inputs
from tests import builders

layers, ops = keras.layers, keras.ops


def functional(first: Any, dtype: str = "float32") -> keras.Model:
    inputs = keras.Input((1,), dtype=dtype)
    return keras.Model(inputs, layers.Dense(1)(layers.Flatten()(first(inputs))))


def one_hot(x: Any) -> Any:
    return ops.one_hot(ops.cast(x, "int32"), 10)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (functional(lambda x: ops.one_hot(x, 10), "int32"), "an input of the model holds integers"),
        (functional(lambda x: ops.cast(x, "float32"), "uint8"), "an input of the model holds inte"),
        (functional(one_hot), "cast"),
        (keras.Sequential([layers.Input((1,)), functional(one_hot)]), "cast"),
        (functional(lambda x: ops.one_hot(x, 10)), "one_hot"),
        (functional(layers.Dense(2)), None),
        (functional(lambda x: ops.cast(x, "float16")), None),
        # Behind weights nothing is an index, and what scales gives the units of the targets.
        (keras.Sequential([layers.Input((1,)), layers.Dense(1), layers.Rescaling(9.0)]), None),
        (keras.Sequential([layers.Input((1,)), layers.Rescaling(9.0), layers.Dense(1)]), "layer"),
        (
            functional(keras.Sequential([layers.Input((1,)), layers.Flatten(), layers.Masking()])),
            "layer",
        ),
        (functional(keras.Sequential([layers.Input((1,)), layers.Dense(1)])), None),
    ],
)
def test_what_is_looked_up_by_its_number_stays_as_it_is(
    model: keras.Model, reason: str | None
) -> None:
    rows = Rows(x=np.arange(10)[:, None], y=np.zeros(10))
    found = scaled_inputs.obstacle(model, builders.config(), rows)
    assert (found is None) if reason is None else (found or "").startswith(reason)


def test_beside_what_is_looked_up_numbers_are_standardised() -> None:
    mark, number = keras.Input((1,), name="b"), keras.Input((2,), name="a")
    known = keras.Sequential([layers.Input((1,)), layers.Flatten()])(mark)
    found = layers.Flatten()(layers.Embedding(9, 3)(known))
    joined = layers.Dense(1)(layers.Concatenate()([found, number]))
    model = keras.Model([mark, number], layers.Rescaling(2.0)(joined))
    numbers, marks = np.zeros((9, 2), np.float32), np.arange(9.0, dtype=np.float32)[:, None]
    for x, paths in (((marks, numbers), ["0", "1"]), ({"a": numbers, "b": marks}, ["b", "a"])):
        rows = Rows(x=x, y=np.zeros(9))
        found = scaled_inputs.left_out(model, rows)
        assert "(Embedding) takes what it is given" in (found[paths[0]] or "")
        assert found[paths[1]] is None
        assert scaled_inputs.obstacle(model, builders.config(), rows) is None
    whole = Rows(x=(marks, numbers.astype(np.int64)), y=np.zeros(9))
    assert "x.1 holds whole numbers" in (scaled_inputs.left_out(model, whole)["1"] or "")
    assert "Embedding" in (scaled_inputs.obstacle(model, builders.config(), whole) or "")


class Own(keras.Model):
    def __init__(self, ends: bool) -> None:
        super().__init__()
        self.ends, self.head, self.scale = ends, layers.Dense(1), layers.Rescaling(9.0)

    def call(self, inputs: Any) -> Any:
        return self.scale(self.head(inputs)) if self.ends else self.head(self.scale(inputs))


@pytest.mark.parametrize("ends", [True, False])
def test_a_model_of_the_users_own_is_asked_what_ends_it(ends: bool) -> None:
    rows = Rows(x=np.zeros((4, 1), np.float32), y=np.zeros(4))
    model = Own(ends)
    model(rows.x)
    assert (scaled_inputs.obstacle(model, builders.config(), rows) is None) == ends
