"""Targets out of scale: the network trains as on standardised ones, and speaks in their units."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from orchestrator.config.schema import Config
from orchestrator.data.rows import Rows
from orchestrator.model.outputs import find_outputs
from orchestrator.model.remedies import scaled_targets
from tests import builders

layers = keras.layers
DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(64, 3)).astype(np.float32)
Y = 500 + 40 * np.stack([X[:, 0], 3 * X[:, 1] - 9], axis=1)
CONFIG: Config = builders.config()


def build(loss: Any) -> keras.Model:
    keras.utils.set_random_seed(1)
    stack = [layers.Input((3,)), layers.Dense(4, activation="tanh"), layers.Dense(2)]
    model = keras.Sequential(stack)
    model.compile(keras.optimizers.SGD(0.1), loss)
    return model


def rescaled(model: keras.Model, rows: Rows) -> keras.Model:
    outputs = find_outputs(model, CONFIG, rows)
    assert scaled_targets.obstacle(model, CONFIG, outputs, rows.y) is None
    return scaled_targets.rescale(model, scaled_targets.find_scales(model, outputs, rows))


@pytest.mark.parametrize("loss", ["mse", "mae", keras.losses.Huber(delta=1e6)])
def test_the_network_trains_as_on_standardised_targets(loss: Any) -> None:
    rows = Rows(x=X, y=Y)
    raw, standardised = rescaled(build(loss), rows), build("mae" if loss == "mae" else "mse")
    # Huber's loss is half a squared error below its delta.
    standardised.optimizer.learning_rate = 0.1 if isinstance(loss, str) else 0.05
    z = (Y - Y.mean(axis=0)) / Y.std(axis=0)
    raw.fit(X, Y, batch_size=16, epochs=3, shuffle=False, verbose=0)
    standardised.fit(X, z, batch_size=16, epochs=3, shuffle=False, verbose=0)
    for one, other in zip(raw.get_weights(), standardised.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-3, atol=2e-4)
    predicted = raw.predict(X, verbose=0)
    np.testing.assert_allclose(
        predicted, standardised.predict(X, verbose=0) * Y.std(axis=0) + Y.mean(axis=0), rtol=1e-3
    )
    if loss == "mse":  # what Keras logs is in the units of the rows
        assert raw.evaluate(X, Y, verbose=0) == pytest.approx(np.mean((predicted - Y) ** 2), 1e-4)


@pytest.mark.parametrize("loss", ["log_cosh", "mape", "msle"])
def test_steps_under_other_distances_are_as_large(loss: str) -> None:
    keras.utils.set_random_seed(1)
    model = keras.Sequential([layers.Input((3,)), layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1), loss)
    wanted = Y[:, :1] * 1e3  # in other units nothing learns slower or faster
    model = rescaled(model, Rows(x=X, y=wanted))
    model.fit(X, wanted, batch_size=16, epochs=15, shuffle=False, verbose=0)
    assert np.mean((model.predict(X, verbose=0) - wanted) ** 2) < 0.02 * np.var(wanted)


def test_plain_keras_loads_a_layer_of_its_own(tmp_path: Path) -> None:
    model = rescaled(build("mse"), Rows(x=X, y=Y))
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), model.predict(X, verbose=0))
    assert type(loaded.layers[-1]) is layers.Rescaling
    found = scaled_targets.describe(model, find_outputs(model, CONFIG, Rows(x=X, y=Y)))
    assert found[""]["mean"] == pytest.approx(Y.mean(axis=0))
    assert found[""]["variance"] == pytest.approx(Y.var(axis=0))


def test_of_several_outputs_the_linear_ones_keep_their_names() -> None:
    inputs = keras.Input((3,))
    hidden = layers.Dense(4, activation="tanh")(inputs)
    price = layers.Dense(1, name="price")(hidden)
    sold = layers.Dense(1, activation="sigmoid", name="sold")(hidden)
    model = keras.Model(inputs, {"price": price, "sold": sold})
    model.compile("sgd", {"price": "mse", "sold": "binary_crossentropy"})
    targets = {"price": Y[:, :1], "sold": (X[:, :1] > 0).astype(np.float32)}
    changed = rescaled(model, Rows(x=X, y=targets))
    found = changed.predict(X, verbose=0)
    assert abs(found["price"].mean() - Y[:, 0].mean()) < 3 * Y[:, 0].std()
    assert 0 < found["sold"].min() < found["sold"].max() < 1
    logged = changed.fit(X, targets, epochs=1, verbose=0).history
    assert {"price_loss", "sold_loss"} <= logged.keys()
    described = scaled_targets.describe(
        changed, find_outputs(changed, CONFIG, Rows(x=X, y=targets))
    )
    assert described.keys() == {"price"}


@keras.saving.register_keras_serializable("tests")
class Own(keras.Model):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.head = layers.Dense(2)

    def call(self, inputs: Any) -> Any:
        return self.head(inputs)


def test_a_config_that_says_no_is_followed() -> None:
    model, rows = build("mse"), Rows(x=X, y=Y)
    outputs = find_outputs(model, CONFIG, rows)
    data = CONFIG.data.model_copy(update={"standardize": False})
    forbidden = CONFIG.model_copy(update={"data": data})
    reason = scaled_targets.obstacle(model, forbidden, outputs, rows.y)
    assert reason == "data.standardize is false in the config"


def test_where_the_units_cannot_be_given_it_says_what_to_write() -> None:
    rows = Rows(x=X, y=Y)

    def reason(model: keras.Model, loss: str = "mse") -> str | None:
        model.compile("sgd", loss)
        return scaled_targets.obstacle(model, CONFIG, find_outputs(model, CONFIG, rows), rows.y)

    own = Own()
    own(X[:1])
    assert "end Own with a Rescaling layer" in (reason(own) or "")
    front = [layers.Input((3,)), layers.Dense(2)]
    ends: list[list[Any]] = [[layers.ReLU()], [layers.Rescaling(40.0, 500.0)]]
    for end in ends:
        assert "no output is a linear layer" in (reason(keras.Sequential([*front, *end])) or "")
    assert "no output is a linear" in (reason(keras.Sequential(front), "poisson") or "")
    assert "take their logarithms" in (reason(keras.Sequential(front), "msle") or "")


@pytest.mark.parametrize(
    ("end", "linear"),
    [
        (keras.activations.sigmoid, False),
        (keras.ops.softplus, False),
        (lambda z: 100 * z, False),
        (layers.Lambda(lambda z: keras.ops.tanh(z)), False),
        (lambda z: z[:, :1], True),
        (layers.Reshape((1,)), True),
    ],
)
def test_behind_a_function_nothing_is_linear(end: Any, linear: bool) -> None:
    inputs = keras.Input((3,))
    model = keras.Model(inputs, end(layers.Dense(1)(inputs)))
    model.compile("sgd", "mse")
    rows = Rows(x=X, y=Y[:, :1])
    outputs = find_outputs(model, CONFIG, rows)
    assert (scaled_targets.obstacle(model, CONFIG, outputs, rows.y) is None) == linear
