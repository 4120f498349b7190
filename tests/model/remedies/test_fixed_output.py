"""Outputs that cannot be trained as they are: another activation, another loss, in plain Keras."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from orchestrator.data import load as data
from orchestrator.model import layers as keras_layers
from orchestrator.model.build import build_model
from orchestrator.model.remedies import fixed_output
from orchestrator.record.records import Settings
from tests.conftest import MakeConfig

layers = keras.layers
X = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)


@pytest.mark.parametrize(
    "end",
    [
        [layers.Dense(1, activation="relu")],
        [layers.Dense(1), layers.Activation("relu")],
        [layers.Dense(1), layers.ReLU()],
        [layers.Dense(1, activation="relu"), layers.Flatten()],
    ],
)
def test_what_makes_the_output_is_changed_and_saved(end: list[Any], tmp_path: Path) -> None:
    model = keras.Sequential([layers.Input((3,)), layers.Dense(4, activation="relu"), *end])
    draw = np.random.default_rng(1)  # the output is below zero on some rows, above on others
    for dense in (each for each in model.layers if isinstance(each, layers.Dense)):
        kernel, bias = dense.get_weights()
        dense.set_weights([draw.uniform(-1, 1, kernel.shape), bias])
    assert fixed_output.obstacle(model) is None
    changed = fixed_output.put_activations(model, {"": "linear"})
    changed.set_weights(model.get_weights())
    changed.save(tmp_path / "m.keras")
    found = keras.saving.load_model(tmp_path / "m.keras").predict(X, verbose=0)
    before = model.predict(X, verbose=0)
    assert found.min() < 0 == before.min()
    np.testing.assert_allclose(np.maximum(found, 0), before, rtol=1e-6)
    assert changed.layers[0].activation is keras.activations.relu


def test_of_several_outputs_the_one_that_is_named_is_changed() -> None:
    inputs = keras.Input((3,))
    ends = {name: layers.Dense(1, activation="relu", name=name)(inputs) for name in "ba"}
    model = keras.Model(inputs, ends)
    model.compile("sgd", {"a": "categorical_crossentropy", "b": "mse"})
    changed = fixed_output.put_activations(model, {"a": "sigmoid"})
    fixed_output.put_losses(changed, {"a": "binary_crossentropy"})
    found = changed.predict(X, verbose=0)
    assert (found["b"] == 0).any()
    assert 0 < found["a"].min() < found["a"].max() < 1
    assert changed.loss == {"a": "binary_crossentropy", "b": "mse"}


def test_an_output_that_code_makes_is_left_to_the_user() -> None:
    inputs = keras.Input((3,))
    ends = [layers.Dense(1)(inputs), layers.Dense(1)(inputs)]
    made = keras.Model(inputs, layers.Add()(ends))
    assert "no activation of Keras's makes the output" in (fixed_output.obstacle(made) or "")


def test_settings_change_activation_and_loss(make_config: MakeConfig) -> None:
    config = make_config(
        data={"train": {"callable": "rows:signs"}},
        model={"layers": [{"Dense": {"units": 1, "activation": "relu"}}]},
        compile={"optimizer": "adam", "loss": "mse", "metrics": ["accuracy"]},
    )
    settings = Settings(
        seed=7, output_activation={"": "sigmoid"}, output_loss={"": "binary_crossentropy"}
    )
    model = build_model(config, settings, data.load(config).train)
    assert model.layers[-1].activation is keras.activations.sigmoid
    assert model.loss == "binary_crossentropy"


def functional(end: Any) -> keras.Model:
    inputs = keras.Input((3,))
    model = keras.Model(inputs, end(layers.Dense(1)(inputs)))
    model.compile("sgd", "mse")
    return model


@pytest.mark.parametrize(
    "end",
    [
        keras.activations.relu,
        keras.activations.sigmoid,
        keras.ops.exp,
        keras.ops.softplus,
        keras.ops.tanh,
        layers.Softmax(),
        lambda z: keras.ops.squeeze(keras.ops.relu(z), -1),
    ],
)
def test_a_function_at_the_end_makes_the_output(end: Any, tmp_path: Path) -> None:
    model = functional(end)
    (*_, last) = keras_layers.output_chains(model)[0]
    assert not keras_layers.is_linear(last)
    assert fixed_output.obstacle(model) is None
    changed = fixed_output.put_activations(model, {"": "linear"})
    changed.set_weights(model.get_weights())
    plain = X @ model.get_weights()[0]
    found = changed.predict(X, verbose=0)
    np.testing.assert_allclose(found.reshape(plain.shape), plain, rtol=1e-5, atol=1e-6)
    changed.save(tmp_path / "m.keras")
    np.testing.assert_array_equal(
        keras.saving.load_model(tmp_path / "m.keras").predict(X, verbose=0), found
    )


@pytest.mark.parametrize("end", [layers.Lambda(lambda z: 3 * z), lambda z: z * 3, keras.ops.sin])
def test_what_a_function_computes_is_left_to_the_user(end: Any) -> None:
    assert "no activation of Keras's makes the output" in (
        fixed_output.obstacle(functional(end)) or ""
    )


def test_kernels_of_the_output_are_those_in_front_of_its_activation() -> None:
    for end in (layers.Softmax(), layers.Activation("sigmoid"), keras.ops.sigmoid):
        model = functional(end)
        assert model.layers[1] in keras_layers.last_layers(model, X)
