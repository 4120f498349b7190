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
    ],
)
def test_what_is_looked_up_by_its_number_stays_as_it_is(
    model: keras.Model, reason: str | None
) -> None:
    rows = Rows(x=np.arange(10)[:, None], y=np.zeros(10))
    found = scaled_inputs.obstacle(model, builders.config(), rows)
    assert (found is None) if reason is None else (found or "").startswith(reason)
