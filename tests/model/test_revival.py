"""Dead units are given fresh weights, and the prediction stays the same to the bit."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from orchestrator.data.rows import Rows
from orchestrator.diagnosis.tracing.probe import Probe
from orchestrator.model.revival import Revival, revive

KILLED = [1, 4, 5]


def dead(model: keras.Model, x: Any) -> dict[str, list[int]]:
    layers = Probe(model).measure(Rows(x=x, y=None)).layers
    return {each.name: [*map(int, each.dead_units)] for each in layers if each.dead}


def kill(layer: keras.Layer, units: list[int]) -> None:
    bias = layer.bias.numpy()
    bias[units] = -1e3
    layer.bias.assign(bias)


def dense() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(8, "relu", name="first"),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(8, name="second"),
            keras.layers.ReLU(name="relu"),
            keras.layers.Dense(1),
        ]
    )


def convolutional() -> keras.Model:
    inputs = keras.Input((8, 8, 2))
    hidden = keras.layers.Conv2D(8, 3, activation="relu", name="first")(inputs)
    hidden = keras.layers.MaxPooling2D()(hidden)
    hidden = keras.layers.Conv2D(8, 2, padding="same", name="second", activation="relu")(hidden)
    hidden = keras.layers.Flatten()(hidden)
    return keras.Model(inputs, keras.layers.Dense(2)(hidden))


@pytest.mark.parametrize("build", [dense, convolutional])
def test_the_prediction_stays_and_half_of_the_rows_pass(build: Any) -> None:
    keras.utils.set_random_seed(0)
    model = build()
    x = np.random.default_rng(0).normal(3, 2, (400, *model.input_shape[1:])).astype("float32")
    for name in ("first", "second"):
        kill(model.get_layer(name), KILLED)
    before = model.predict(x, verbose=0)
    found = dead(model, x)
    assert all(set(KILLED) <= set(units) for units in found.values())
    assert len(found) == 2
    revived = revive(model, found, x, seed=1)
    assert revived == Revival({name: tuple(units) for name, units in found.items()}, {})
    assert model.predict(x, verbose=0).tobytes() == before.tobytes()
    for layer in Probe(model).measure(Rows(x=x, y=None)).layers:
        shares = layer.active_rows[found[layer.name]] / layer.rows
        assert shares == pytest.approx(0.5, abs=0.01)


def test_training_uses_the_units_and_forgets_what_the_optimizer_kept() -> None:
    keras.utils.set_random_seed(0)
    model = dense()
    x = np.random.default_rng(0).normal(size=(256, 3)).astype("float32")
    y = np.abs(x).sum(axis=1)
    model.compile(keras.optimizers.Adam(0.01, use_ema=True), "mse")
    model.fit(x, y, epochs=2, verbose=0)
    first, second = model.get_layer("first"), model.get_layer("second")
    kill(first, KILLED)
    revive(model, dead(model, x), x, seed=1, optimizers=[model.optimizer])
    kept = {each.name: each.numpy() for each in model.optimizer.variables}
    alive = [0, 2, 3, 6, 7]
    for part in ("momentum", "velocity"):
        into, out = (
            next(value for name, value in kept.items() if f"{layer}_kernel_{part}" in name)
            for layer in ("first", "second")
        )
        assert not into[:, KILLED].any()
        assert not out[KILLED].any()
        assert into[:, alive].any()
        assert out[alive].any()
    average = next(value for name, value in kept.items() if "first_kernel_average" in name)
    assert (average[:, KILLED] == first.kernel.numpy()[:, KILLED]).all()
    into = first.kernel.numpy()[:, KILLED]
    model.fit(x, y, epochs=1, verbose=0)
    assert second.kernel.numpy()[KILLED].any()
    assert (first.kernel.numpy()[:, KILLED] != into).all()


def test_what_cannot_be_followed_is_left_alone_and_named() -> None:
    inputs = keras.Input((3,))
    one = keras.layers.Dense(4, "relu", name="summed")(inputs)
    two = keras.layers.Dense(4, "relu", name="normed")(keras.layers.Add(name="sum")([one, one]))
    two = keras.layers.BatchNormalization(name="norm")(two)
    three = keras.layers.Dense(4, "relu", use_bias=False, name="unbiased")(two)
    four = keras.layers.Dense(4, "relu6", name="bounded")(three)
    five = keras.layers.Dense(4, "relu", name="read_twice")(four)
    both = keras.layers.Concatenate()([keras.layers.Dense(2)(five), keras.layers.Dense(2)(five)])
    model = keras.Model(inputs, keras.layers.Dense(1, "relu", name="end")(both))
    names = ["summed", "normed", "unbiased", "bounded", "read_twice", "end", "inner/dense"]
    before = [each.copy() for each in model.get_weights()]
    revived = revive(model, {name: [0] for name in names}, np.ones((4, 3), "float32"), seed=0)
    assert revived.units == {}
    assert revived.left == {
        "summed": "2 layers take its units",
        "normed": "norm follows, a BatchNormalization",
        "unbiased": "the layer has no bias to centre its units by",
        "bounded": "its activation is not relu",
        "read_twice": "2 layers take its units",
        "end": "its units make an output",
        "inner/dense": "it is not a layer of the model itself",
    }
    assert all(map(np.array_equal, before, model.get_weights()))


def test_units_whose_inputs_do_not_vary_are_left_alone() -> None:
    model = dense()
    kill(model.get_layer("first"), KILLED)
    revived = revive(model, {"first": KILLED}, np.ones((50, 3), "float32"), seed=0)
    assert revived == Revival({}, {"first": "what goes in hardly varies"})
