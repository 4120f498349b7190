"""The callback in a training of one's own: plain Keras, real models."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from orchestrator.errors import InvalidError
from orchestrator.keras import DeadNeuronWatch

layers = keras.layers

X = np.random.default_rng(0).normal(size=(64, 2)).astype("float32")
Y = X.sum(axis=1)


def network(bias: float | list[float]) -> keras.Model:
    keras.utils.set_random_seed(0)
    first = layers.Dense(4, activation="relu", name="first")
    start = keras.initializers.Constant(bias)
    second = layers.Dense(3, activation="relu", bias_initializer=start, name="second")
    model = keras.Sequential([keras.Input((2,)), first, second, layers.Dense(1, name="out")])
    model.compile(keras.optimizers.Adam(0.01), "mse")
    return model


def fit(model: keras.Model, watch: DeadNeuronWatch, epochs: int = 3, x: Any = X, y: Any = Y) -> int:
    """Train, and count the epochs."""
    return len(model.fit(x, y, epochs=epochs, verbose=0, callbacks=[watch]).epoch)


def batches() -> Iterator[tuple[Any, Any]]:
    for start in range(0, 64, 16):
        yield X[start : start + 16], Y[start : start + 16]


DATA = {
    "inputs": X,
    "function": batches,
    "dataset": tf.data.Dataset.from_tensor_slices((X, Y)).batch(16),
}


@pytest.mark.parametrize("kind", DATA)
def test_a_dead_network_is_stopped_by_an_exact_look(kind: str) -> None:
    watch = DeadNeuronWatch(on_failure="stop", data=DATA[kind])
    reason = "layer second is entirely dead \\(3 of 3 units\\) on 64 rows; nothing gets through"
    with pytest.warns(UserWarning, match=f"stopped at the end of epoch 1: {reason}"):
        assert fit(network(bias=-99.0), watch) == 1
    assert watch.failure is not None
    assert watch.last_heard["second"].tolist() == [0, 0, 0]
    # Nothing comes back through the dead layer: silent, and alive.
    assert watch.last_heard["first"].tolist() == [0, 0, 0, 0]


def test_a_dead_network_is_told_of_and_trained_on() -> None:
    watch = DeadNeuronWatch(data=(X, Y))
    with pytest.warns(UserWarning, match="epoch 1: layer second is entirely dead") as told:
        assert fit(network(bias=-99.0), watch) == 3
    assert len([each for each in told if each.filename == "DeadNeuronWatch"]) == 1


def test_without_rows_a_layer_without_gradient_is_a_failure_and_no_verdict() -> None:
    watch = DeadNeuronWatch(on_failure="stop")
    with pytest.warns(UserWarning, match="no unit of first and second got a gradient in any step"):
        assert fit(network(bias=-99.0), watch) == 1
    assert "not there alone: DeadNeuronWatch(data=(x, y)) looks exactly" in str(watch.failure)


def test_a_healthy_network_is_left_alone() -> None:
    watch = DeadNeuronWatch(on_failure="stop", data=(X, Y))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert fit(network(bias=1.0), watch) == 3
    assert watch.failure is None
    assert [each.epoch for each in watch.epochs] == [1, 2, 3]


def test_the_exact_look_overrules_silence() -> None:
    """Weights of zero in front of the output let nothing back to units that are alive."""
    model = network(bias=1.0)
    model.get_layer("out").kernel.assign(np.zeros((3, 1)))
    model.get_layer("out").trainable = False
    model.compile("sgd", "mse")
    watch = DeadNeuronWatch(on_failure="stop", data=(X, Y))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert fit(model, watch) == 3
    assert [each.silent for each in watch.epochs[-1].layers] == [4, 3]
    with pytest.warns(UserWarning, match="no unit of first and second"):
        assert fit(model, DeadNeuronWatch(on_failure="stop")) == 1


def test_a_dead_branch_is_told_of_and_stops_nothing() -> None:
    inputs = keras.Input((2,))
    dead = layers.Dense(3, activation="relu", bias_initializer=keras.initializers.Constant(-99.0))
    joined = layers.Concatenate()([dead(inputs), layers.BatchNormalization()(inputs)])
    model = keras.Model(inputs, layers.Dense(1)(joined))
    model.compile("sgd", "mse")
    watch = DeadNeuronWatch(on_failure="stop", data=(X, Y))
    with pytest.warns(UserWarning, match=f"{dead.name} is entirely dead .* other paths lead"):
        assert fit(model, watch, epochs=2) == 2
    assert watch.failure is None


def test_weights_that_are_not_finite_are_a_failure_also_where_relu_hides_them() -> None:
    model = network(bias=1.0)
    model.get_layer("first").kernel.assign(np.full((2, 4), np.nan))
    watch = DeadNeuronWatch(on_failure="stop")
    with pytest.warns(UserWarning, match="first/kernel has 8 of 8 values not finite"):
        assert fit(model, watch) == 1


def test_the_epochs_of_each_model_are_counted_from_one() -> None:
    watch = DeadNeuronWatch()
    for _ in range(2):
        fit(network(bias=1.0), watch, epochs=2)
        assert [each.epoch for each in watch.epochs] == [1, 2]


class Drawing(layers.Layer):  # type: ignore[misc]
    """Noise in inference, too: of its own generator, and of Keras's global one."""

    def __init__(self) -> None:
        super().__init__()
        self.seed_generator = keras.random.SeedGenerator(1)

    def call(self, x: Any) -> Any:
        shape = keras.ops.shape(x)
        noise = keras.random.normal(shape, seed=self.seed_generator) + keras.random.normal(shape)
        return x + 0.1 * noise


@pytest.mark.parametrize("used", [False, True])
def test_a_look_takes_no_draws_from_the_training(used: bool) -> None:
    losses = []
    for watch in ([], [DeadNeuronWatch(data=(X, Y))]):
        some_dead = network(bias=[-99.0, 1.0, 1.0])
        model = keras.Sequential([keras.Input((2,)), Drawing(), *some_dead.layers])
        model.compile("sgd", "mse")
        if used:
            keras.random.normal((1,))
        losses += [model.fit(X, Y, epochs=2, verbose=0, callbacks=watch).history["loss"]]
    assert losses[0] == losses[1]


def test_a_stateful_layer_is_watched_without_an_exact_look() -> None:
    lstm = layers.LSTM(2, stateful=True, name="memory")
    model = keras.Sequential([keras.Input(batch_shape=(32, 2, 1)), lstm, layers.Dense(1)])
    model.compile("sgd", "mse")
    x = X[:, :, None]
    watch = DeadNeuronWatch(data=(x, Y))
    with pytest.warns(UserWarning, match="no exact look is possible: layer memory is stateful"):
        model.fit(x, Y, shuffle=False, verbose=0, callbacks=[watch])
    assert [each.layer for each in watch.epochs[0].layers] == ["memory", model.layers[-1].name]
    assert watch.report() is None


def linear(optimizer: keras.optimizers.Optimizer, **compiled: Any) -> keras.Model:
    model = keras.Sequential([keras.Input((2,)), layers.Dense(1, name="out")])
    model.compile(optimizer, "mse", **compiled)
    return model


@pytest.mark.parametrize("data", [None, (X, Y)])
def test_a_training_that_turns_nan_is_a_failure_though_nothing_is_silent(data: Any) -> None:
    """What is not a number is not zero: each unit gets a gradient."""
    watch = DeadNeuronWatch(on_failure="stop", data=data)
    with pytest.warns(UserWarning, match="out/kernel has 2 of 2 values not finite"):
        assert fit(linear(keras.optimizers.SGD(1e30)), watch, epochs=4) < 4


def test_gradients_that_overflow_stop_nothing_while_the_weights_are_finite() -> None:
    """Clipped, they still train."""
    model = linear(keras.optimizers.SGD(1e-3, clipvalue=0.1), loss_weights=[1e38])
    x, y = np.ones_like(X), np.full_like(Y, 1e3)
    watch = DeadNeuronWatch(on_failure="stop", data=(X, Y))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert fit(model, watch, epochs=2, x=x, y=y) == 2
    assert not np.isfinite([each.gradient_norm for each in watch.epochs[-1].layers]).all()


def test_the_report_is_that_of_check(capsys: pytest.CaptureFixture[str]) -> None:
    watch = DeadNeuronWatch(data=(X, Y))
    with pytest.warns(UserWarning, match="entirely dead"):
        fit(network(bias=-99.0), watch, epochs=1)
    health = watch.report()
    assert health is not None
    assert health.layers[1].dead.tolist() == [0, 1, 2]
    out = capsys.readouterr().out
    assert "since epoch" in out
    assert "1 (3)" in out
    assert "Every unit of second is dead" in out


def test_the_report_says_nothing_of_rows_and_training_that_it_does_not_know(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It may have seen the training, on these very rows, and knows neither plan nor config."""
    x, y = np.tile(X, (5, 1)), np.tile(Y, 5)
    watch = DeadNeuronWatch(data=(x, y))
    fit(linear(keras.optimizers.Adam(30.0)), watch, epochs=1, x=x, y=y)
    health = watch.report()
    assert health is not None
    assert health.verdicts["findings"].reason == (
        "nothing was found in the model and these rows, which do not tell how it was trained"
    )
    learned = health.verdicts["learned"]
    assert learned.verdict == "warn"
    assert learned.reason.endswith("; only a warning, for no config tells how it was trained")
    out = " ".join(capsys.readouterr().out.split())
    assert "a training on these rows went astray, and is to be tried at a lower" in out


def test_without_rows_or_epochs_the_report_says_what_there_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert DeadNeuronWatch().report() is None
    assert capsys.readouterr().out == "No epoch was watched.\n"


def test_wrong_arguments_are_told() -> None:
    with pytest.raises(InvalidError, match="expected warn or stop, received 'halt'"):
        DeadNeuronWatch(on_failure="halt")  # type: ignore[arg-type]
    with pytest.raises(InvalidError, match="expected batches that can be read again"):
        DeadNeuronWatch(data=batches())
    with pytest.raises(InvalidError, match="received 4 parts"):
        DeadNeuronWatch(data=(X, Y, Y, Y))
    with pytest.raises(InvalidError, match="shape"):
        fit(network(bias=1.0), DeadNeuronWatch(data=(X[:, :1], Y)))
