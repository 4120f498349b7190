"""The lowest and the highest pre-activation."""

import keras
import numpy as np
import pytest

from orchestrator.data.rows import Rows
from orchestrator.diagnosis.tracing.ranges import Ranges

X = np.array([[-3.0], [0.0], [2.0], [5.0]], np.float32)


def test_all_applications_are_looked_at() -> None:
    model = keras.Sequential(
        [
            keras.Input((1,)),
            keras.layers.Dense(
                2, "relu", kernel_initializer="ones", bias_initializer="ones", name="a"
            ),
            keras.layers.Dense(1, "tanh", kernel_initializer="ones", name="b"),
            keras.layers.Dense(1),
        ]
    )
    found = Ranges(model).measure(Rows(x=X, y=None), 4)
    # x + 1 twice, then the sum of two units max(x + 1, 0)
    assert found == {"a": (-2.0, 6.0), "b": (0.0, 12.0)}


def test_a_part_of_the_rows_may_be_enough_and_none_is_hidden_by_what_is_no_number() -> None:
    layer = keras.layers.Dense(1, "relu", kernel_initializer="ones")
    model = keras.Sequential([keras.Input((1,)), layer])
    ranges = Ranges(model)
    (name,) = ranges.measure(Rows(x=X, y=None), 4)
    assert ranges.measure(Rows(x=X, y=None), 2) == {name: (-3.0, 0.0)}
    layer.kernel.assign([[np.nan]])
    assert ranges.measure(Rows(x=X, y=None), 4)[name] == pytest.approx((np.nan,) * 2, nan_ok=True)
