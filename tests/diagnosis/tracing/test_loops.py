"""Counting in the loops of recurrent layers, against the same layers unrolled and against NumPy."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

from orchestrator import diagnose
from orchestrator.data.rows import Rows
from orchestrator.diagnosis.tracing.probe import Measurement, Probe
from orchestrator.diagnosis.units import INPUT

layers = keras.layers

Array = npt.NDArray[Any]
Make = Callable[[bool], keras.Model]
"""A model with its recurrent layers unrolled, or not."""


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def sequential(shape: tuple[int | None, ...], *stack: keras.Layer) -> keras.Model:
    return keras.Sequential([layers.Input(shape), *stack])


def restless(model: keras.Model, seed: int = 0) -> keras.Model:
    """With weights so large that units die, and are active on few rows."""
    generator = np.random.default_rng(seed)
    model.set_weights(
        [generator.normal(size=each.shape, scale=1.2).astype(np.float32) for each in model.weights]
    )
    return model


class Cell(layers.Layer):
    """A cell of the user's own."""

    def __init__(self, units: int, function: Callable[[Any], Any]) -> None:
        super().__init__(name="cell")
        self.units = self.state_size = self.output_size = units
        self.inner = layers.Dense(units)
        self.recurrent = layers.Dense(units)
        self.function = function

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.inner.build(shape)
        self.recurrent.build((shape[0], self.units))

    def call(self, inputs: Any, states: Any) -> Any:
        state = self.function(self.inner(inputs) + self.recurrent(states[0]))
        return state, [state]


def embedded(unroll: bool) -> keras.Model:
    inputs = layers.Input((3,), dtype="int32")
    words = layers.Embedding(5, 3, mask_zero=True)(inputs)
    state = layers.GRU(3, activation="relu", unroll=unroll, name="it")(words)
    return keras.Model(inputs, layers.Dense(1)(state))


def _stacked(unroll: bool) -> keras.Model:
    cells = [
        layers.LSTMCell(3, activation="relu", name="a"),
        Cell(3, lambda z: tf.nn.relu(z) - tf.nn.silu(z) / 2),
    ]
    stack = layers.StackedRNNCells(cells, name="stack")
    return sequential((3, 3), layers.RNN(stack, unroll=unroll, name="it"), layers.Dense(1))


MODELS: dict[str, Make] = {
    "masked, with dropout": lambda unroll: sequential(
        (3, 3),
        layers.Masking(),
        layers.SimpleRNN(
            4,
            activation="relu6",
            recurrent_dropout=0.5,
            return_sequences=True,
            unroll=unroll,
            name="it",
        ),
        layers.Dense(1),
    ),  # fmt: skip
    "stacked cells, one of the user's own": _stacked,
    "both directions": lambda unroll: sequential(
        (3, 3),
        layers.Bidirectional(
            layers.GRU(3, activation="elu", return_sequences=True, unroll=unroll, name="gru"),
            name="both",
        ),
        layers.Dense(1),
    ),
    "words": embedded,
    "time-distributed": lambda unroll: sequential(
        (2, 2, 3),
        layers.TimeDistributed(
            layers.LSTM(3, activation="relu", unroll=unroll, name="lstm"), name="time"
        ),
        layers.Flatten(),
        layers.Dense(1),
    ),
    "convolutional": lambda unroll: sequential(
        (3, 5, 5, 2),
        layers.ConvLSTM2D(3, 3, activation="relu", unroll=unroll, name="it"),
        layers.Flatten(),
        layers.Dense(1),
    ),
}


SWEPT = ("both directions", "words", "time-distributed")
"""Those that the sweep takes."""


def measured(model: keras.Model, x: Array) -> Measurement:
    return Probe(model).measure(Rows(x=x, y=None), gradients=True)


def assert_same(found: Measurement, expected: Measurement) -> None:
    assert [each.name for each in found.layers] == [each.name for each in expected.layers]
    for one, other in zip(found.layers, expected.layers, strict=True):
        assert (one.activation, one.rows) == (other.activation, other.rows)
        assert one.active_rows.tolist() == other.active_rows.tolist()
        assert one.constant_units.tolist() == other.constant_units.tolist()
        assert one.reached_rows is not None
        assert other.reached_rows is not None
        assert one.reached_rows.tolist() == other.reached_rows.tolist()
    assert found.responding == expected.responding
    assert found.flow == expected.flow
    assert found.notes == expected.notes == ()


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.sweep] * (kind in SWEPT)) for kind in MODELS]
)
def test_a_loop_is_counted_as_it_would_be_unrolled(kind: str) -> None:
    make = MODELS[kind]
    model, unrolled = make(False), make(True)
    unrolled.set_weights(restless(model).get_weights())
    x = normal(24, *(model.inputs[0].shape[1:]))
    x[::3, -1] = 0  # masked, where there is a mask
    if kind == "words":
        x = np.random.default_rng(0).integers(0, 5, x.shape)

    found = measured(model, x)

    assert_same(found, measured(unrolled, x))
    relu = [layer for layer in found.layers if layer.activation in ("relu", "relu6")]
    assert not relu or any(0 < rows < layer.rows for layer in relu for rows in layer.active_rows)


@pytest.mark.parametrize("seed", range(2))
def test_a_long_loop_is_counted_and_differentiated_as_numpy_does(seed: int) -> None:
    layer = layers.SimpleRNN(5, activation="relu", dtype="float64", name="it")
    output = layers.Dense(1, dtype="float64")
    model = restless(sequential((None, 2), layer, output), seed)
    kernel, recurrent, bias = (each / 2 for each in layer.get_weights())
    layer.set_weights([kernel, recurrent, bias])
    x = normal(30, 280, 2, seed=seed)

    found = measured(model, x)

    state, active = np.zeros((30, 5)), []
    for step in range(280):
        z = x[:, step] @ kernel + state @ recurrent + bias
        active.append(z > 0)
        state = np.maximum(z, 0)
    gradient = np.broadcast_to(output.get_weights()[0][:, 0], (30, 5))
    reached = np.zeros(5, np.int64)
    for each in reversed(active):
        gradient = gradient * each
        reached += np.count_nonzero(gradient, axis=0)
        gradient = gradient @ recurrent.T
    (it,) = found.layers
    assert it.rows == 30 * 280
    assert it.active_rows.tolist() == np.sum(active, axis=(0, 1)).tolist()
    assert it.reached_rows is not None
    assert it.reached_rows.tolist() == reached.tolist()
    assert found.responding == 30


def test_a_loop_of_the_users_own_is_looked_into() -> None:
    def twice(z: Any) -> Any:
        return tf.while_loop(
            lambda step, _: step < 2, lambda step, z: (step + 1, tf.nn.relu(z - 1)), (0, z)
        )[1]

    model = sequential((3,), layers.Lambda(twice, name="twice"))
    x = normal(20, 3)

    (layer,) = diagnose(model, x, gradients=True).layers

    first = x - 1
    second = np.maximum(first, 0) - 1
    assert layer.rows == 40
    assert layer.active_rows.tolist() == ((first > 0).sum(0) + (second > 0).sum(0)).tolist()


def test_a_loop_within_a_loop_is_looked_into() -> None:
    def again(z: Any) -> Any:
        return tf.while_loop(
            lambda step, _: step < 3, lambda step, z: (step + 1, tf.nn.relu(z - 0.1)), (0, z)
        )[1]

    def build(unroll: bool) -> keras.Model:
        cell = Cell(3, again)
        return sequential((2, 2), layers.RNN(cell, unroll=unroll, name="it"), layers.Dense(1))

    model, unrolled = build(False), build(True)
    unrolled.set_weights(restless(model).get_weights())
    x = normal(20, 2, 2)

    found = measured(model, x)

    assert_same(found, measured(unrolled, x))
    assert found.layers[0].rows == 20 * 2 * 3


def test_what_a_loop_hands_from_step_to_step_feeds_its_units() -> None:
    model = sequential(
        (4, 3),
        layers.Dense(4, activation="relu", name="before"),
        layers.SimpleRNN(3, activation="relu", name="it"),
        layers.Dense(1),
    )
    flow = measured(model, normal(5, 4, 3)).flow
    assert flow.layers == (frozenset({INPUT}), frozenset({0, 1}))
    assert flow.outputs == (frozenset({1}),)


def test_a_loop_changes_neither_predictions_nor_weights() -> None:
    model = restless(MODELS["masked, with dropout"](False))
    x = normal(20, 3, 3)
    before, predicted = model.get_weights(), model.predict(x, verbose=0)
    seen: list[Array] = []
    Probe(model).measure(
        Rows(x=x, y=None),
        gradients=True,
        see=lambda _, p, *__: seen.extend(each.value for each in p),
    )
    np.testing.assert_allclose(seen[0], predicted, rtol=1e-6)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_mixed_precision_is_counted_in_loops() -> None:
    layer = layers.LSTM(3, activation="relu", dtype="mixed_float16", name="it")
    model = restless(sequential((4, 2), layer, layers.Dense(1)))
    found = diagnose(model, normal(10, 4, 2), gradients=True)
    assert [layer.rows for layer in found.layers] == [40, 40]
    assert found.responding_rows is not None
