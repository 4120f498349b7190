"""What dropout makes of predictions, measured on networks whose noise is known."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import pytest

from orchestrator.data.rows import Rows
from orchestrator.diagnosis.causes.after.dropped import PASSES, _Scatter, dropping, measure
from orchestrator.diagnosis.diagnose import Arguments
from orchestrator.model.keras_internals import global_generator
from orchestrator.model.outputs import find_outputs

layers = keras.layers


def look(model: keras.Model, given: Rows, *, loss: Any = "mse", batch_size: int = 50) -> Any:
    model.compile("adam", loss)
    return measure(model, given, find_outputs(model, Arguments(), given), batch_size=batch_size)


def rows(count: int = 400, columns: int = 1) -> Rows:
    x = np.random.default_rng(0).normal(size=(count, 3)).astype(np.float32)
    return Rows(x=x, y=x[:, :columns].astype(np.float64))


def scaled(*more: layers.Layer, rate: float = 0.5, ends: int = 1) -> keras.Model:
    """Each output is an input, left out at such a rate."""
    inputs = keras.Input((3,))
    x = inputs
    for layer in more:
        x = layer(x)
    x = layers.Dropout(rate, seed=0)(x)
    return keras.Model(inputs, layers.Dense(ends, kernel_initializer="identity")(x))


def test_the_noise_of_an_input_that_is_left_out_is_known() -> None:
    """x / keep with probability keep has a variance of x² (1 - keep) / keep: x² at a half."""
    (found,) = look(scaled(), rows(4000))
    assert (found.output, found.name) == (0, "")
    assert found.without == pytest.approx(1.0)
    assert found.noise == pytest.approx(1.0, rel=0.15)
    assert 0.9 < found.by < 0.97  # 1 - 1 / 16


def test_each_column_has_its_own() -> None:
    model = scaled(ends=3)
    kernel = np.diag([1.0, 1000.0, 0.0]).astype(np.float32)
    model.layers[-1].set_weights([kernel, np.array([0.0, 10.0, 1.0], np.float32)])
    noises = [each.noise for each in look(model, rows(2000, 3))]
    assert noises[:2] == pytest.approx([1.0, 1.0], rel=0.3)
    assert noises[2] == 0.0


def test_what_all_rows_share_is_no_signal() -> None:
    scatter = _Scatter()
    scatter.see(np.full((8, 1), 3.0), np.full((8, 1), 0.5))
    assert scatter.noises(1) == [math.inf]
    scatter = _Scatter()
    scatter.see(np.full((8, 1), 3.0), np.full((8, 1), 1e-12))  # rounding
    assert scatter.noises(1) == [0.0]


def test_a_mean_of_passes_has_a_part_of_the_noise() -> None:
    scatter = _Scatter()
    far = (1 + 1 / PASSES) ** 0.5
    scatter.see(np.array([[-far], [far]]), np.ones((2, 1)))
    assert scatter.noises(1) == pytest.approx([1.0])


class Drawing(layers.Layer):
    """It draws from the generator of those without a seed, and makes nothing of it."""

    def call(self, inputs: Any, training: bool = False) -> Any:
        return inputs + 0.0 * keras.random.normal((1,))


def test_the_model_is_as_it_was() -> None:
    """Its masks, and what layers without a seed draw."""
    keras.random.normal((1,))
    model = scaled(layers.Dropout(0.1), Drawing())
    generator = global_generator()
    assert generator is not None
    model.compile("adam", "mse")
    given = rows()
    outputs = find_outputs(model, Arguments(), given)
    variables = [*model.variables, generator.state]
    before = [keras.ops.convert_to_numpy(each) for each in variables]
    assert measure(model, given, outputs, batch_size=50)
    for variable, value in zip(variables, before, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), value)
    assert [each.rate for each in dropping(model)] == [0.1, 0.5]


@pytest.mark.parametrize("fault", ["noise", "writes"])
def test_what_differs_in_training_by_more_than_dropout_is_not_told(fault: str) -> None:
    # A noise that is not the dropout's, and weights that are written in training.
    more = {
        "noise": layers.GaussianNoise(1.0, seed=0),
        "writes": layers.SpectralNormalization(layers.Dense(3)),
    }[fault]
    model = scaled(more)
    model.compile("adam", "mse")
    before = [keras.ops.convert_to_numpy(each) for each in model.variables]
    assert look(model, rows()) == ()
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), value)


def test_nor_is_anything_without_dropout() -> None:
    assert look(scaled(rate=0.0), rows()) == ()


def test_classes_have_one_noise_together() -> None:
    model = keras.Sequential(
        [keras.Input((3,)), layers.Dropout(0.5, seed=0), layers.Dense(3, activation="softmax")]
    )
    given = rows(600)
    y = np.abs(given.x).argmax(axis=1).astype(np.int64)
    (found,) = look(model, Rows(x=given.x, y=y), loss="sparse_categorical_crossentropy")
    assert 0.1 < found.noise < 10


@pytest.mark.parametrize("count", [1, 7, 49, 51, 700])
def test_any_number_of_rows_will_do(count: int) -> None:
    assert len(look(scaled(), rows(count))) == (count > 1)
