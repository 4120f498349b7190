"""The watch inside real training steps: what it sees, and that the training does not see it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from orchestrator.data.rows import Rows
from orchestrator.diagnosis.tracing.probe import Probe
from orchestrator.diagnosis.watch.gradients import GradientWatch
from orchestrator.diagnosis.watch.layers import find_watched
from orchestrator.diagnosis.watch.signals import SignalLog

layers, optimizers = keras.layers, keras.optimizers

X = np.random.default_rng(0).normal(size=(32, 3)).astype("float32")
Y = X.sum(axis=1)


def network(dead: int = 2) -> keras.Model:
    """Four hidden units, some of them born dead."""
    keras.utils.set_random_seed(1)
    bias = keras.initializers.Constant([-99.0] * dead + [1.0] * (4 - dead))
    hidden = layers.Dense(4, activation="relu", bias_initializer=bias, name="hidden")
    return keras.Sequential([keras.Input((3,)), hidden, layers.Dense(1, name="out")])


def trained(model: keras.Model, epochs: int = 2, **arguments: Any) -> SignalLog:
    """What a training has shown."""
    log = SignalLog()
    model.fit(X, Y, batch_size=8, epochs=epochs, verbose=0, callbacks=[log], **arguments)
    return log


KINDS: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "momentum": (
        lambda: optimizers.SGD(0.01, momentum=0.9, nesterov=True, clipnorm=0.1),
        {"steps_per_execution": 3},
    ),
    "averages": (
        lambda: optimizers.AdamW(
            use_ema=True, ema_overwrite_frequency=3, gradient_accumulation_steps=3
        ),
        {},
    ),
    "scaled": (lambda: optimizers.LossScaleOptimizer(optimizers.RMSprop()), {"jit_compile": True}),
}
"""Optimizers and ways to run a step."""


# Where another test of the process has made operations deterministic, Keras leaves XLA out.
@pytest.mark.filterwarnings("ignore:Model doesn't support `jit_compile=True`")
@pytest.mark.parametrize("kind", KINDS)
def test_it_sees_the_silent_units_and_changes_no_bit(kind: str) -> None:
    optimizer, ways = KINDS[kind]
    model, plain = network(), network()
    model.compile(optimizer(), "mse", **ways)
    plain.compile(optimizer(), "mse", **ways)
    log = trained(model)
    plain.fit(X, Y, batch_size=8, epochs=2, verbose=0)
    for one, other in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert [(each.epoch, each.steps) for each in log.epochs] == [(1, 4), (2, 4)]
    hidden, out = log.epochs[-1].layers
    assert (hidden.layer, hidden.units, hidden.silent) == ("hidden", 4, 2)
    assert (out.layer, out.units, out.silent) == ("out", 1, 0)
    assert hidden.gradient_norm > 0
    assert log.last_heard["hidden"].tolist() == [0, 0, 2, 2]


def test_its_figures_are_those_of_the_gradients() -> None:
    """One step of plain gradient descent from known weights."""
    model = keras.Sequential([keras.Input((1,)), layers.Dense(1, name="out")])
    model.layers[0].set_weights([np.array([[2.0]]), np.array([0.0])])
    model.compile(optimizers.SGD(0.25, loss_scale_factor=8.0), "mse")
    log = SignalLog()
    x, y = np.array([[1.0], [1.0]]), np.array([0.0, 1.0])
    model.fit(x, y, batch_size=2, epochs=1, verbose=0, callbacks=[log])
    (out,) = log.epochs[0].layers  # the mean of 2 (2 - 0) and 2 (2 - 1) is 3
    assert out.gradient_norm == pytest.approx(3.0)
    assert out.update_ratio == pytest.approx(0.25 * 3.0 / 2.0)


def test_steps_that_a_loss_scale_skips_are_none() -> None:
    model = network(dead=0)
    model.compile(optimizers.LossScaleOptimizer(optimizers.Adam(), initial_scale=2.0**127), "mse")
    log = SignalLog()  # nothing could be told of an epoch in which every step overflows
    model.fit(X, Y + 1e6, epochs=1, verbose=0, callbacks=[log])
    assert log.epochs == []
    assert log.silent == []


def test_nothing_of_it_is_left_or_saved(tmp_path: Any) -> None:
    model = network()
    model.compile("adam", "mse")
    path = tmp_path / "model.keras"
    log = SignalLog()
    saving = keras.callbacks.ModelCheckpoint(path)
    model.fit(X, Y, epochs=1, verbose=0, callbacks=[log, saving])
    assert "apply" not in vars(model.optimizer)
    loaded = keras.models.load_model(path)
    assert len(loaded.weights) == len(network().weights)
    assert len(loaded.optimizer.variables) == len(model.optimizer.variables) == 10
    steps = model.train_function
    model.fit(X, Y, epochs=1, verbose=0, callbacks=[log])  # traces nothing again
    assert model.train_function is steps
    assert [each.epoch for each in log.epochs] == [1, 2]


def test_a_model_that_is_compiled_again_is_watched_anew() -> None:
    model = network()
    model.compile("adam", "mse")
    log = trained(model)
    model.layers[0].trainable = False
    model.compile("adam", "mse")
    model.fit(X, Y, epochs=1, verbose=0, callbacks=[log])
    assert [each.layer for each in log.epochs[-1].layers] == ["out"]


class Adversaries(keras.Model):  # type: ignore[misc]
    """Two parts, each with an optimizer of its own, in a step of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = network(dead=1), network(dead=3)

    def compile(self, **arguments: Any) -> None:
        super().compile(**arguments)
        self.first, self.second = optimizers.Adam(), optimizers.SGD(1e-3)

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y = data
        for optimizer, part in ((self.first, self.one), (self.second, self.other)):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((part(x)[:, 0] - y) ** 2)
            weights = part.trainable_variables
            optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return {"loss": loss}


def test_a_step_of_the_users_own_may_have_several_optimizers() -> None:
    model = Adversaries()
    model.one.build((None, 3))
    model.compile()
    log = trained(model, epochs=1)
    assert [each.silent for each in log.epochs[0].layers] == [1, 0, 3, 0]


class Watched(keras.Sequential):  # type: ignore[misc]
    """Its step takes the variables from the tape, which knows TensorFlow's alone."""

    def train_step(self, data: Any) -> Any:
        x, y = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((self(x)[:, 0] - y) ** 2)
        weights = tape.watched_variables()
        self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return {"loss": loss}


def test_a_step_of_the_users_own_may_hand_over_variables_of_tensorflow() -> None:
    model = Watched(network().layers)
    model.build((None, 3))
    model.compile("sgd")
    assert [each.silent for each in trained(model, epochs=1).epochs[0].layers] == [2, 0]


class Late(keras.Model):  # type: ignore[misc]
    """A model that has no weights before its first step."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = layers.Dense(1, name="inner")

    def call(self, x: Any) -> Any:
        return self.inner(x)


def test_weights_that_come_with_the_first_step_are_watched_from_the_second_epoch_on() -> None:
    model = Late()
    model.compile("sgd", "mse", run_eagerly=True)
    assert [each.epoch for each in trained(model, epochs=2).epochs] == [2]


def mixed() -> keras.Model:
    """Layers of many kinds, one of them called twice."""
    words = keras.Input((4,), dtype="int32", name="words")
    image = keras.Input((6, 6, 3), name="image")
    x = layers.Conv2D(4, 3, use_bias=False, name="conv")(image)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False, name="depth")(x)
    x = layers.PReLU(name="slopes")(layers.GlobalAveragePooling2D()(x))
    told = layers.LSTM(3, name="lstm")(layers.Embedding(9, 5, name="table")(words))
    part = keras.Sequential([keras.Input((3,)), layers.Dense(3, name="dense")], name="part")
    told = layers.Add()([part(told), part(told + 1)])
    frozen = layers.Dense(2, name="frozen", trainable=False)(told)
    y = layers.Dense(1, name="y")(layers.Concatenate()([x, frozen]))
    return keras.Model({"words": words, "image": image}, y)


def test_layers_have_the_names_and_units_of_the_exact_check() -> None:
    found = {each.name: each for each in find_watched(mixed())}
    units = {name: each.units for name, each in found.items()}
    assert units == {
        "conv": 4, "norm": 4, "depth": 8, "table": 5, "lstm": 3, "part/dense": 3, "y": 1,
    }  # fmt: skip
    assert found["lstm"].owners.tolist() == [0, 1, 2] * 4
    assert [found[name].axes for name in ("conv", "norm", "depth", "table")] == [1, 1, 2, 1]


def test_layers_of_many_kinds_are_watched() -> None:
    random = np.random.default_rng(0)
    x = {
        "words": random.integers(0, 9, (8, 4)),
        "image": random.normal(size=(8, 6, 6, 3)).astype("float32"),
    }
    model = mixed()
    model.compile("sgd", "mse", steps_per_execution=2)
    log = SignalLog()
    # A generator, of which Keras makes a dataset.
    batches = tf.data.Dataset.from_tensors((x, np.ones(8))).repeat(2)
    model.fit(batches, epochs=1, verbose=0, shuffle=False, callbacks=[log])
    (epoch,) = log.epochs
    assert epoch.steps == 2
    heard = {name: each.tolist() for name, each in log.last_heard.items()}
    assert heard["norm"] == [1, 1, 1, 1]
    assert heard["table"] == [1] * 5
    assert heard["lstm"] == [1] * 3


@keras.saving.register_keras_serializable("tests")
class Own(keras.Model):
    """A model whose graph Keras does not know: activations are applied to units of layers."""

    def __init__(self) -> None:
        super().__init__(name="own")
        dead = keras.initializers.Constant([-99.0, 1.0, 1.0])
        self.first = layers.Dense(3, bias_initializer=dead, name="first")
        self.norm = layers.BatchNormalization(name="norm")
        self.second = layers.Dense(2, use_bias=False, kernel_initializer="ones", name="second")
        self.third = layers.Dense(8, name="third")
        self.relu = layers.ReLU(name="relu")
        self.last = layers.Dense(1, name="last")

    def call(self, x: Any) -> Any:
        x = self.relu(self.first(x))
        x = tf.nn.relu(self.second(x))
        return self.last(self.relu(self.norm(self.third(x))))


def test_an_activation_has_the_units_of_the_layer_whose_values_it_gets() -> None:
    keras.utils.set_random_seed(0)
    model = Own()
    model.compile("sgd", "mse")
    log = SignalLog()
    model.fit(X, Y, batch_size=8, epochs=2, verbose=0, callbacks=[log])
    probe = Probe(model)
    assert probe.reads == {}  # nothing was traced yet
    found = probe.measure(Rows(x=X, y=Y))
    heard = log.last_heard_at(probe.reads)
    last = log.last_heard
    assert [each.name for each in found.layers] == ["relu", "own", "relu:2"]
    assert heard["relu"].tolist() == last["first"].tolist()
    assert last["first"][0] == 0 and last["first"].max() == 2
    assert heard["own"].tolist() == last["second"].tolist()
    assert heard["relu:2"].tolist() == last["norm"].tolist()


def test_a_watch_without_layers_reads_nothing() -> None:
    model = keras.Sequential([keras.Input((2,)), layers.Dropout(0.5)])
    model.compile("sgd", "mse")
    watch = GradientWatch(model)
    watch.attach()
    watch.reset()
    assert (watch.layers, watch.units, watch.split(np.zeros(0))) == ((), 0, [])
