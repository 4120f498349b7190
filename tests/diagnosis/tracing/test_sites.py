"""Finding the sites where a model applies an activation, and counting on them against NumPy."""

import copy
import threading
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from keras.activations import relu as imported_relu
from keras.src import backend as keras_backend
from tensorflow.nn import gelu as imported_gelu
from tensorflow.nn import silu as imported_silu

from orchestrator import diagnose
from orchestrator.diagnosis.health import Health, LayerHealth
from orchestrator.errors import UserCodeError

layers = keras.layers

Array = npt.NDArray[Any]
Site = tuple[str, str, int]
"""Name, activation and units."""

GRID = np.array([-7.0, -3, -1, 0, 0.5, 1, 3, 4, 5, 6, 9], np.float32)
"""Values around every corner of every form of relu."""
DYADIC = np.arange(-16, 17) / np.float32(8)
"""Sums and products of a few of them are exact in float32."""


def random(shape: Sequence[int], values: Array = DYADIC, seed: int = 0) -> Array:
    return np.random.default_rng(seed).choice(values, tuple(shape)).astype(np.float32)


def randomized(model: keras.Model, seed: int = 1) -> keras.Model:
    model.set_weights([random(weight.shape, seed=seed) for weight in model.weights])
    return model


def sequential(shape: tuple[int | None, ...], *stack: keras.Layer) -> keras.Model:
    return keras.Sequential([layers.Input(shape), *stack], name="net")


def sites(health: Health) -> list[Site]:
    return [(layer.name, layer.activation, layer.units) for layer in health.layers]


def counted(active: Array) -> list[int]:
    """Rows × positions on which each unit, on the last axis, is active."""
    count: list[int] = active.reshape(-1, active.shape[-1]).sum(axis=0).tolist()
    return count


def assert_counts(layer: LayerHealth, active: Array) -> None:
    assert layer.active_rows.tolist() == counted(active)
    assert layer.rows == active.size // active.shape[-1]
    if not layer.saturated.size:
        assert layer.dead.tolist() == np.flatnonzero(layer.active_rows == 0).tolist()


class Net(keras.Model):
    """A class of the user's own: Dense, then any function."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__(name="net")
        self.first = layers.Dense(4, name="first")
        self.function = function

    def call(self, inputs: Any) -> Any:
        return self.function(self.first(inputs))

    def before(self, x: Array) -> Array:
        """What the function gets."""
        kernel, bias = (weight.astype(np.float64) for weight in self.first.get_weights())
        return x.astype(np.float64) @ kernel + bias


def net(function: Callable[[Any], Any]) -> Net:
    model = Net(function)
    model(np.zeros((1, 3), np.float32))
    randomized(model)
    return model


# ------------------------------------------------------------------------------ layers

WITH_ACTIVATION: dict[str, tuple[tuple[int, ...], Callable[..., keras.Layer]]] = {
    "Dense": ((4,), lambda **k: layers.Dense(3, **k)),
    "Dense on positions": ((2, 4), lambda **k: layers.Dense(3, **k)),
    "EinsumDense": ((4,), lambda **k: layers.EinsumDense("ab,bc->ac", 3, bias_axes="c", **k)),
    "Conv1D": ((5, 2), lambda **k: layers.Conv1D(3, 2, **k)),
    "Conv1D causal": ((5, 2), lambda **k: layers.Conv1D(3, 2, padding="causal", **k)),
    "Conv2D": ((4, 5, 2), lambda **k: layers.Conv2D(3, 2, strides=2, **k)),
    "Conv2D same": ((4, 5, 2), lambda **k: layers.Conv2D(3, 3, padding="same", **k)),
    "Conv3D": ((3, 3, 3, 2), lambda **k: layers.Conv3D(3, 2, **k)),
    "DepthwiseConv1D": ((5, 2), lambda **k: layers.DepthwiseConv1D(2, **k)),
    "DepthwiseConv2D": ((4, 4, 2), lambda **k: layers.DepthwiseConv2D(2, **k)),
    "SeparableConv1D": ((5, 2), lambda **k: layers.SeparableConv1D(3, 2, **k)),
    "SeparableConv2D": ((4, 4, 2), lambda **k: layers.SeparableConv2D(3, 2, **k)),
    "Conv1DTranspose": ((5, 2), lambda **k: layers.Conv1DTranspose(3, 2, **k)),
    "Conv2DTranspose": ((3, 3, 2), lambda **k: layers.Conv2DTranspose(3, 2, **k)),
}


@pytest.mark.parametrize(
    ("kind", "activation"),
    [*((kind, "relu") for kind in WITH_ACTIVATION), ("Dense", tf.nn.relu), ("Conv2D", tf.nn.relu)],
)
def test_a_layers_own_activation_is_one_site(kind: str, activation: Any) -> None:
    shape, make = WITH_ACTIVATION[kind]
    model = sequential(shape, make(activation=activation, name="it"))
    linear = sequential(shape, make(name="twin"))
    linear.set_weights(randomized(model).get_weights())
    x = random((6, *shape))

    health = diagnose(model, x)

    z = linear(x).numpy()
    assert sites(health) == [("it", "relu", z.shape[-1])]
    assert_counts(health.layers[0], z > 0)


def test_the_units_of_a_channels_first_convolution_are_its_channels() -> None:
    conv = layers.Conv1D(3, 2, activation="relu", data_format="channels_first", name="it")
    model = randomized(sequential((2, 5), conv))
    x = random((6, 2, 5))

    health = diagnose(model, x)

    kernel, bias = conv.get_weights()
    last = np.moveaxis(x, 1, -1)
    z = sum(last[:, k : k + 4] @ kernel[k] for k in range(2)) + bias
    assert sites(health) == [("it", "relu", 3)]
    assert_counts(health.layers[0], z > 0)


ELEMENTWISE: dict[str, tuple[keras.Layer, str, Callable[[Array], Array]]] = {
    "ReLU": (layers.ReLU(name="it"), "relu", lambda z: z > 0),
    "ReLU max 4": (layers.ReLU(4, name="it"), "relu", lambda z: (z > 0) & (z < 4)),
    "ReLU max 6": (layers.ReLU(6, name="it"), "relu6", lambda z: (z > 0) & (z < 6)),
    "ReLU threshold": (layers.ReLU(threshold=1, name="it"), "relu", lambda z: z > 1),
    "ReLU slope": (layers.ReLU(negative_slope=0.1, name="it"), "leaky_relu", lambda z: z > -99),
    "ReLU slope 1": (layers.ReLU(negative_slope=1, name="it"), "leaky_relu", lambda z: z > -99),
    "ReLU slope max": (layers.ReLU(4, 0.1, name="it"), "leaky_relu", lambda z: z < 4),
    "ReLU slope max 6": (layers.ReLU(6, 0.1, name="it"), "leaky_relu", lambda z: z < 6),
    "ReLU max threshold": (layers.ReLU(4, 0, 1, name="it"), "relu", lambda z: (z > 1) & (z < 4)),
    "ReLU slope threshold": (
        layers.ReLU(None, 0.1, 1, name="it"), "leaky_relu", lambda z: z > -99,
    ),
    "ReLU slope max threshold": (layers.ReLU(4, 0.1, 1, name="it"), "leaky_relu", lambda z: z < 4),
    "LeakyReLU": (layers.LeakyReLU(name="it"), "leaky_relu", lambda z: z > -99),
    "LeakyReLU slope 0": (layers.LeakyReLU(0.0, name="it"), "leaky_relu", lambda z: z > 0),
    "PReLU": (layers.PReLU(name="it"), "prelu", lambda z: z > -99),
    "ELU": (layers.ELU(name="it"), "elu", lambda z: z > -99),
    "Activation": (layers.Activation("relu", name="it"), "relu", lambda z: z > 0),
    "Activation relu6": (
        layers.Activation("relu6", name="it"), "relu6", lambda z: (z > 0) & (z < 6),
    ),
    "Activation tf": (layers.Activation(tf.nn.relu, name="it"), "relu", lambda z: z > 0),
    "Lambda": (layers.Lambda(lambda z: tf.nn.relu(z), name="it"), "relu", lambda z: z > 0),
}  # fmt: skip


@pytest.mark.parametrize("form", ELEMENTWISE)
def test_every_activation_layer_is_one_site(form: str) -> None:
    layer, activation, active = ELEMENTWISE[form]
    z = random((40, 5), GRID)

    health = diagnose(sequential((5,), layer), z)

    assert sites(health) == [("it", activation, 5)]
    assert_counts(health.layers[0], active(z))


@pytest.mark.parametrize("form", sorted(ELEMENTWISE.keys() - {"PReLU"}))  # its slopes begin at 0
def test_between_its_corners_the_derivative_is_zero_where_the_gradient_is(form: str) -> None:
    layer, _, active = ELEMENTWISE[form]
    z = tf.constant(random((40, 5), np.setdiff1d(GRID, [0, 1, 4, 6])))
    with tf.GradientTape() as tape:
        tape.watch(z)
        result = layer(z)
    np.testing.assert_array_equal(tape.gradient(result, z).numpy() != 0, active(z.numpy()))


SMOOTH = ["elu", "gelu", "silu", "hard_silu", "hard_sigmoid", "tanh", "sigmoid", "softplus",
          "softsign", "mish", "selu", "celu", "exponential"]  # fmt: skip


@pytest.mark.parametrize("name", SMOOTH)
def test_a_smooth_activation_saturates_where_its_gradient_is_tiny(name: str) -> None:
    z = np.array([[-200.0, 0.5, 3.5], [-150.0, 0.25, 4.5]], np.float32)
    function = keras.activations.get(name)
    tensor = tf.constant(z)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        value = function(tensor)
    active = np.abs(tape.gradient(value, tensor).numpy()) > 1e-6

    health = diagnose(sequential((3,), layers.Activation(name, name="it")), z)

    assert sites(health) == [("it", name, 3)]
    assert_counts(health.layers[0], active)
    assert health.layers[0].saturated.tolist() == np.flatnonzero(~active.any(axis=0)).tolist()
    assert health.layers[0].dead.tolist() == []


@pytest.mark.parametrize("name", ["gelu", "silu", "swish"])
def test_a_composite_of_tensorflow_that_a_layer_holds_is_known_by_its_name(name: str) -> None:
    model = sequential((3,), layers.Dense(2, activation=getattr(tf.nn, name), name="it"))
    expected = "gelu" if name == "gelu" else "silu"
    assert sites(diagnose(model, random((4, 3)))) == [("it", expected, 2)]


# ------------------------------------------------------------------------------ functions

FUNCTIONS: dict[str, tuple[Callable[[Any], Any], list[Site], Callable[[Array], Array] | None]] = {
    "keras.ops.relu": (
        lambda z: keras.ops.relu(z), [("net", "relu", 4)], lambda z: z > 0,
    ),
    "keras.ops.relu6": (
        lambda z: keras.ops.relu6(z * 4), [("net", "relu6", 4)], lambda z: (z > 0) & (z < 1.5),
    ),
    "keras.activations.relu": (
        lambda z: keras.activations.relu(z, threshold=1), [("net", "relu", 4)], lambda z: z > 1,
    ),
    "imported relu": (lambda z: imported_relu(z), [("net", "relu", 4)], lambda z: z > 0),
    "tf.nn.relu": (lambda z: tf.nn.relu(z), [("net", "relu", 4)], lambda z: z > 0),
    "tf.nn.relu held": (tf.nn.relu, [("net", "relu", 4)], lambda z: z > 0),
    "tf.nn.relu6": (
        lambda z: tf.nn.relu6(z * 4), [("net", "relu6", 4)], lambda z: (z > 0) & (z < 1.5),
    ),
    "tf.raw_ops.Relu": (
        lambda z: tf.raw_ops.Relu(features=z), [("net", "relu", 4)], lambda z: z > 0,
    ),
    "tf.nn.leaky_relu": (
        lambda z: tf.nn.leaky_relu(z), [("net", "leaky_relu", 4)], lambda z: z > -99,
    ),
    "tf.nn.crelu": (
        lambda z: tf.nn.crelu(z), [("net", "relu", 8)],
        lambda z: np.concatenate([z > 0, z < 0], axis=-1),
    ),
    "tf.nn.gelu": (lambda z: tf.nn.gelu(z), [("net", "gelu", 4)], None),
    "tf.nn.silu": (lambda z: tf.nn.silu(z), [("net", "silu", 4)], None),
    "tf.nn.silu held": (tf.nn.silu, [("net", "silu", 4)], None),
    "tf.nn.silu with beta": (lambda z: tf.nn.silu(z, beta=2.0), [("net", "silu", 4)], None),
    "tf.vectorized_map": (
        lambda z: tf.vectorized_map(tf.nn.relu, z), [("net", "relu", 4)], lambda z: z > 0,
    ),
    "tf.recompute_grad": (
        tf.recompute_grad(tf.nn.relu), [("net", "relu", 4)], lambda z: z > 0,
    ),
    "tf.function": (
        tf.function(lambda z: tf.nn.relu(z)), [("net", "relu", 4)], lambda z: z > 0,
    ),
    "tf.function of keras": (
        tf.function(lambda z: keras.ops.relu(z)), [("net", "relu", 4)], lambda z: z > 0,
    ),
    "jit_compile": (
        tf.function(lambda z: tf.nn.relu(z), jit_compile=True),
        [("net", "relu", 4)], lambda z: z > 0,
    ),
    "relu6 gate": (lambda z: tf.nn.relu6(z + 3) / 6, [("net", "hard_sigmoid", 4)], None),
    "keras relu6 gate": (
        lambda z: z * keras.ops.relu6(z + 3.0) * (1 / 6), [("net", "hard_sigmoid", 4)], None,
    ),
    "softmax": (lambda z: tf.nn.softmax(z), [], None),
    "twice": (
        lambda z: tf.nn.relu(tf.nn.relu(z) + 1), [("net", "relu", 4), ("net:2", "relu", 4)], None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("way", FUNCTIONS)
def test_what_a_class_of_the_users_applies_is_found(way: str) -> None:
    function, expected, active = FUNCTIONS[way]
    model = net(function)
    x = random((20, 3))

    health = diagnose(model, x)

    assert sites(health) == expected
    assert health.notes == ()
    if active is not None:
        assert_counts(health.layers[0], active(model.before(x)))


@pytest.mark.parametrize("options", [{}, {"jit_compile": True}, {"autograph": False}])
def test_a_model_whose_call_is_compiled_is_seen_through(options: dict[str, Any]) -> None:
    model = net(lambda z: tf.nn.relu(z))
    model.call = tf.function(model.call, **options)
    x = random((20, 3))

    health = diagnose(model, x)

    assert sites(health) == [("net", "relu", 4)]
    assert_counts(health.layers[0], model.before(x) > 0)


@tf.function
def branching(z: Any) -> Any:
    if tf.reduce_sum(z) > 0:
        z = z + 1.0
    return tf.nn.relu(z)


@tf.function
def looping(z: Any) -> Any:
    for _ in tf.range(2):
        z = tf.nn.relu(z - 1)
    return z


def test_relu_beside_a_branch_that_needs_autograph_is_found() -> None:
    model = net(branching)
    x = np.abs(random((20, 3)))
    z = model.before(x)
    health = diagnose(model, x)
    assert sites(health) == [("net", "relu", 4)]
    assert_counts(health.layers[0], z + (1 if z.sum() > 0 else 0) > 0)


HIDDEN = {
    "autograph loop": looping,
    "tf.cond": lambda z: tf.cond(tf.reduce_sum(z) > 0, lambda: tf.nn.relu(z), lambda: z),
    "tf.map_fn": lambda z: tf.map_fn(tf.nn.relu, z),
    "keras.ops.map": lambda z: keras.ops.map(keras.ops.relu, z),
}


@pytest.mark.parametrize("way", HIDDEN)
def test_what_the_graph_hides_is_noted_and_nothing_is_called_dead(way: str) -> None:
    model = net(HIDDEN[way])
    health = diagnose(model, random((6, 3)))
    assert sites(health) == []
    assert health.notes == ("net: a loop or branch hides 1 activation from the graph",)
    assert health.verdicts["dead_neurons"].verdict == "not_applicable"


# ------------------------------------------------------------------------------ time steps


def sigmoid(z: Array) -> Array:
    return 1 / (1 + np.exp(-z))


def lstm(x: Array, weights: list[Array]) -> list[Array]:
    """Pre-activations of the candidate and of the state at every step, shape (rows, steps, 2)."""
    kernel, recurrent, bias = (weight.astype(np.float64) for weight in weights)
    h = c = np.zeros((len(x), 2))
    candidates, states = [], []
    for t in range(x.shape[1]):
        i, f, z, o = np.split(x[:, t] @ kernel + h @ recurrent + bias, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.maximum(z, 0)
        h = sigmoid(o) * np.maximum(c, 0)
        candidates.append(z)
        states.append(c)
    return [np.stack(candidates, 1), np.stack(states, 1)]


def gru(x: Array, weights: list[Array]) -> list[Array]:
    kernel, recurrent, bias = (weight.astype(np.float64) for weight in weights)
    h = np.zeros((len(x), 2))
    candidates = []
    for t in range(x.shape[1]):
        update, reset, z = np.split(x[:, t] @ kernel + bias[0], 3, axis=1)
        update_h, reset_h, z_h = np.split(h @ recurrent + bias[1], 3, axis=1)
        z = z + sigmoid(reset + reset_h) * z_h
        gate = sigmoid(update + update_h)
        h = gate * h + (1 - gate) * np.maximum(z, 0)
        candidates.append(z)
    return [np.stack(candidates, 1)]


def simple(x: Array, weights: list[Array]) -> list[Array]:
    kernel, recurrent, bias = (weight.astype(np.float64) for weight in weights)
    h = np.zeros((len(x), 2))
    found = []
    for t in range(x.shape[1]):
        z = x[:, t] @ kernel + h @ recurrent + bias
        h = np.maximum(z, 0)
        found.append(z)
    return [np.stack(found, 1)]


RECURRENT: dict[str, tuple[type[keras.Layer], Callable[..., list[Array]]]] = {
    "LSTM": (layers.LSTM, lstm),
    "GRU": (layers.GRU, gru),
    "SimpleRNN": (layers.SimpleRNN, simple),
}


@pytest.mark.parametrize(
    ("kind", "activation"), [*((kind, "relu") for kind in RECURRENT), ("SimpleRNN", tf.nn.relu)]
)
def test_the_units_of_a_recurrent_layer_are_counted_at_every_step(
    kind: str, activation: Any
) -> None:
    make, reference = RECURRENT[kind]
    layer = make(2, activation=activation, name="it")
    model = randomized(sequential((3, 2), layer))
    x = random((8, 3, 2))

    health = diagnose(model, x)

    expected = reference(x, layer.get_weights())
    names = ["it", "it:2"][: len(expected)]
    assert sites(health) == [(name, "relu", 2) for name in names]
    for found, z in zip(health.layers, expected, strict=True):
        assert_counts(found, z > 0)
    assert health.notes == ()


@pytest.mark.parametrize("kind", RECURRENT)
def test_the_gates_of_a_recurrent_layer_are_no_units(kind: str) -> None:
    model = sequential((3, 2), RECURRENT[kind][0](2, name="it"))
    found = sites(diagnose(model, random((4, 3, 2))))
    assert found == [("it", "tanh", 2), ("it:2", "tanh", 2)][: 2 if kind == "LSTM" else 1]


@pytest.mark.parametrize("kind", RECURRENT)
def test_a_dead_cell_is_found_however_long_the_sequence(kind: str) -> None:
    layer = RECURRENT[kind][0](2, activation="relu", return_sequences=True, name="it")
    model = sequential((None, 2), layer, layers.Dense(1))
    *weights, bias = layer.get_weights()
    layer.set_weights([*weights, np.full_like(bias, -100)])

    health = diagnose(model, random((4, 300, 2)))

    assert [(found.rows, found.dead.size) for found in health.layers] == [(1200, 2)] * len(
        RECURRENT[kind][1](random((1, 1, 2)), layer.get_weights())
    )
    # The gates of an LSTM and a GRU lead past the units, which are factors there.
    failed = health.verdicts["dead_neurons"].verdict == "fail"
    assert failed == (kind == "SimpleRNN")


def test_both_directions_are_sites_of_their_own() -> None:
    step = layers.SimpleRNN(2, activation="relu", name="rnn")
    both = layers.Bidirectional(step, name="both")
    model = randomized(sequential((3, 2), both))
    x = random((8, 3, 2))

    health = diagnose(model, x)

    assert sites(health) == [("both/forward_rnn", "relu", 2), ("both/backward_rnn", "relu", 2)]
    forward, backward = (each.get_weights() for each in (both.forward_layer, both.backward_layer))
    assert_counts(health.layers[0], simple(x, forward)[0] > 0)
    assert_counts(health.layers[1], simple(x[:, ::-1], backward)[0] > 0)


@pytest.mark.parametrize("activation", ["relu", tf.nn.relu])
def test_a_time_distributed_layer_is_one_site(activation: Any) -> None:
    dense = layers.Dense(2, activation=activation, name="step")
    model = randomized(sequential((3, 2), layers.TimeDistributed(dense, name="time")))
    x = random((5, 3, 2))

    health = diagnose(model, x)

    kernel, bias = dense.get_weights()
    assert sites(health) == [("time/step", "relu", 2)]
    assert_counts(health.layers[0], x @ kernel + bias > 0)


def test_time_inside_time_is_one_site() -> None:
    dense = layers.Dense(2, activation="relu", name="step")
    inner = layers.TimeDistributed(dense, name="inner")
    model = randomized(sequential((2, 3, 2), layers.TimeDistributed(inner, name="outer")))
    x = random((5, 2, 3, 2))

    health = diagnose(model, x)

    kernel, bias = dense.get_weights()
    assert sites(health) == [("outer/inner/step", "relu", 2)]
    assert_counts(health.layers[0], x @ kernel + bias > 0)


def test_a_model_at_every_step_is_one_site_for_each_of_its_layers() -> None:
    stack = [layers.Dense(2, activation="relu", name="a"), layers.ReLU(name="b")]
    inner = keras.Sequential([layers.Input((2,)), *stack], name="inner")
    model = sequential((3, 2), layers.TimeDistributed(inner, name="time"))
    found = sites(diagnose(model, random((4, 3, 2))))
    assert found == [("time/inner/a", "relu", 2), ("time/inner/b", "relu", 2)]


def test_a_layer_shared_between_every_step_and_the_whole_is_two_sites() -> None:
    shared = layers.Dense(2, activation="relu", name="shared")
    inputs = keras.Input((3, 2))
    model = keras.Model(inputs, shared(layers.TimeDistributed(shared, name="time")(inputs)))
    found = sites(diagnose(model, random((4, 3, 2))))
    assert found == [("time/shared", "relu", 2), ("shared", "relu", 2)]


# ------------------------------------------------------------------------------ models


def test_a_nested_model_that_is_called_twice_has_its_sites_twice() -> None:
    dense = layers.Dense(3, activation="relu", name="hidden")
    encoder = keras.Sequential([layers.Input((3,)), dense], name="encoder")
    inputs = keras.Input((3,))
    model = randomized(keras.Model(inputs, encoder(encoder(inputs))))
    x = random((9, 3))

    health = diagnose(model, x)

    kernel, bias = (weight.astype(np.float64) for weight in dense.get_weights())
    z = x @ kernel + bias
    names = [("encoder/hidden", "relu", 3), ("encoder/hidden:2", "relu", 3)]
    assert sites(health) == names
    assert_counts(health.layers[0], z > 0)
    assert_counts(health.layers[1], np.maximum(z, 0) @ kernel + bias > 0)


@pytest.mark.parametrize("structure", ["list", "tuple", "dict"])
def test_several_inputs_and_outputs_are_followed(structure: str) -> None:
    left, right = keras.Input((3,), name="left"), keras.Input((2, 2), name="right")
    a = layers.Dense(2, activation="relu", name="a")(left)
    b = layers.Dense(3, activation="relu", name="b")(layers.Flatten()(right))
    p, q = layers.Dense(1, name="p")(a), layers.Dense(1, activation="relu", name="q")(b)
    named = structure == "dict"
    model = keras.Model(
        {"left": left, "right": right} if named else [left, right],
        {"p": p, "q": q} if named else [p, q],
    )
    randomized(model)
    x: Any = {"left": random((7, 3)), "right": random((7, 2, 2), seed=3)}
    kernel, bias = model.get_layer("a").get_weights()
    expected = counted(x["left"] @ kernel + bias > 0)
    if not named:
        x = (list if structure == "list" else tuple)(x.values())

    health = diagnose(model, x)

    assert sorted(sites(health)) == [("a", "relu", 2), ("b", "relu", 3), ("q", "relu", 1)]
    assert {layer.name: layer.active_rows.tolist() for layer in health.layers}["a"] == expected
    assert len(health.outputs) == 2


def test_indices_of_an_embedding_are_inputs() -> None:
    table = layers.Embedding(7, 3)
    dense = layers.Dense(2, activation="relu", name="it")
    model = randomized(sequential((4,), table, dense, layers.GlobalAveragePooling1D()))
    x = np.random.default_rng(0).integers(0, 7, (6, 4))

    health = diagnose(model, x, gradients=True)

    kernel, bias = dense.get_weights()
    z = table.get_weights()[0][x] @ kernel + bias
    assert sites(health) == [("it", "relu", 2)]
    assert_counts(health.layers[0], z > 0)
    assert health.responding_rows == int((z > 0).any(axis=(1, 2)).sum())


def test_batch_normalization_and_dropout_before_an_activation_change_no_names() -> None:
    dense, norm = layers.Dense(4, name="dense"), layers.BatchNormalization(epsilon=0.0, name="norm")
    tail = [layers.Dropout(0.5), layers.GaussianNoise(1.0), layers.ReLU(name="it")]
    model = sequential((3,), dense, norm, *tail)
    randomized(dense)
    gamma, beta = random((4,), seed=5), random((4,), seed=6)
    norm.set_weights([gamma, beta, random((4,), seed=7), np.full(4, 4, np.float32)])
    x = random((20, 3))

    health = diagnose(model, x)

    kernel, bias = dense.get_weights()
    mean = norm.get_weights()[2]
    assert sites(health) == [("it", "relu", 4)]
    assert_counts(health.layers[0], gamma * (x @ kernel + bias - mean) / 2 + beta > 0)


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16", "float64"])
def test_other_precisions_are_counted_alike(dtype: str) -> None:
    dense = layers.Dense(2, activation="relu", dtype=dtype, name="it")
    model = sequential((2,), dense, layers.Dense(1, dtype="float32"))
    dense.set_weights([np.array([[1.0, -1], [1, 0]], np.float32), np.zeros(2, np.float32)])
    x = random((9, 2))

    health = diagnose(model, x, gradients=True)

    assert_counts(health.layers[0], np.stack([x.sum(axis=1), -x[:, 0]], axis=1) > 0)


def test_a_function_of_keras_in_a_functional_model_is_a_site_even_at_its_end() -> None:
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.ops.relu(keras.ops.relu(inputs - 1) - 1))
    x = random((9, 3), GRID)

    health = diagnose(model, x)

    assert [site[1:] for site in sites(health)] == [("relu", 3), ("relu", 3)]
    assert_counts(health.layers[0], x > 1)
    assert_counts(health.layers[1], x > 2)


def test_a_relu_of_one_number_a_row_is_a_site_of_one_unit() -> None:
    model = net(lambda z: tf.nn.relu(z[:, 0]))
    x = random((9, 3))
    health = diagnose(model, x)
    assert sites(health) == [("net", "relu", 1)]
    assert_counts(health.layers[0], model.before(x)[:, :1] > 0)


class Aside(keras.Model):
    """Applies relu where no output hears of it."""

    def __init__(self) -> None:
        super().__init__(name="aside")
        self.used = layers.Dense(2, activation="relu", name="used")
        self.unused = layers.Dense(2, activation="relu", name="unused")
        self.area = keras.metrics.AUC()

    def call(self, inputs: Any) -> Any:
        self.unused(inputs)
        self.add_loss(tf.reduce_mean(tf.nn.relu(inputs)))
        self.area.update_state(tf.ones([2]), tf.constant([0.25, 0.75]))
        shape = tf.shape(tf.nn.relu(inputs))
        return tf.reshape(self.used(inputs), [shape[0], 2])


def test_what_reaches_no_output_is_no_site() -> None:
    model = Aside()
    model(np.zeros((1, 3), np.float32))
    assert sites(diagnose(model, random((4, 3)))) == [("used", "relu", 2)]


# ------------------------------------------------------------------------------ traces


class Raising(keras.Model):
    """Works until it is traced."""

    def __init__(self) -> None:
        super().__init__(name="raising")
        self.it = layers.Dense(2, activation="relu", name="it")
        self.slope = layers.PReLU(name="slope")

    def call(self, inputs: Any) -> Any:
        result = self.slope(self.it(inputs))
        if not tf.executing_eagerly():
            raise RuntimeError("not in a graph")
        return result


def state(model: keras.Model) -> list[Any]:
    """Everything that is patched while a model is traced."""
    owners = [keras.Operation, keras_backend.nn, keras_backend.numpy, tf.nn]
    owners.append(keras.src.activations.activations.ReLU)
    return [dict(vars(owner)) for owner in owners] + [
        {name: id(value) for name, value in vars(layer).items()}
        for layer in model._flatten_layers()
    ] + [tf.config.functions_run_eagerly()]  # fmt: skip


def test_nothing_stays_patched() -> None:
    stack = [
        layers.TimeDistributed(layers.Dense(2, activation="gelu")),
        layers.SimpleRNN(2, activation="relu", return_sequences=True),
        layers.PReLU(),
        layers.BatchNormalization(),
        layers.Dense(1, activation=tf.nn.silu),
        layers.Activation("exponential"),
    ]
    model = sequential((2, 2), *stack)
    x = random((3, 2, 2))
    expected = model(x).numpy()
    before = state(model)

    diagnose(model, x)

    assert state(model) == before
    np.testing.assert_array_equal(model(x).numpy(), expected)


def test_nothing_stays_patched_when_the_model_raises() -> None:
    model = Raising()
    model(np.zeros((1, 3), np.float32))
    before = copy.copy(state(model))
    with pytest.raises((RuntimeError, UserCodeError), match="not in a graph"):
        diagnose(model, random((4, 3)))
    assert state(model) == before


# ----------------------------------------------------------------------------- what is no unit


@pytest.mark.parametrize(("function", "name"), [(imported_silu, "silu"), (imported_gelu, "gelu")])
def test_composites_that_were_imported_are_recognised(function: Any, name: str) -> None:
    model = net(lambda z: function(2.0 * (z + 30)))
    health = diagnose(model, random((20, 3)))
    assert sites(health) == [("net", name, 4)]
    assert health.verdicts["dead_neurons"].verdict == "pass"


class Scaled(keras.Model):
    """Values that are one for the batch, or of the weights alone, beside a relu."""

    def __init__(self) -> None:
        super().__init__(name="net")
        self.hidden = layers.Dense(4, activation="relu", name="hidden")
        self.scale = self.add_weight(shape=())
        self.gates = self.add_weight(shape=(4,))

    def call(self, inputs: Any) -> Any:
        h = self.hidden(inputs)
        return h * tf.nn.softplus(self.scale) * tf.nn.relu(self.gates) + tf.nn.relu(
            tf.reduce_mean(h)
        )


def test_what_has_no_value_for_each_row_is_no_unit() -> None:
    model = Scaled()
    model(np.zeros((1, 3), np.float32))
    assert sites(diagnose(model, random((20, 3)))) == [("hidden", "relu", 4)]


@pytest.mark.parametrize(
    "between",
    [
        [],
        [layers.BatchNormalization(axis=1)],
        [layers.Dropout(0.5), layers.LeakyReLU()],
    ],
)
@pytest.mark.parametrize("last", [layers.ReLU, lambda: layers.Activation("relu")])
def test_channels_first_goes_through_what_has_no_axis(
    between: list[keras.Layer], last: Callable[[], keras.Layer]
) -> None:
    convolution = layers.Conv2D(3, 2, data_format="channels_first")
    between = [type(each).from_config(each.get_config()) for each in between]
    model = sequential((2, 5, 6), convolution, *between, last())
    convolution.bias.assign([-100, 0, 100])
    layer = diagnose(model, random((4, 2, 5, 6))).layers[-1]
    leaky = any(isinstance(each, layers.LeakyReLU) for each in between)
    assert (layer.units, layer.rows) == (3, 4 * 4 * 5)
    assert layer.dead.tolist() == [0]
    assert layer.active_rows[2] == layer.rows
    assert leaky or layer.name.startswith(("re_lu", "activation"))


def test_channels_last_behind_a_permutation_stays() -> None:
    convolution = layers.Conv2D(3, 2, data_format="channels_first")
    model = sequential((2, 5, 6), convolution, layers.Permute((2, 3, 1)), layers.ReLU())
    assert diagnose(model, random((4, 2, 5, 6))).layers[0].units == 3


# ---------------------------------------------------------------------------------- masks


@pytest.mark.parametrize("kind", ["embedding", "masking"])
def test_a_mask_is_no_path_around_a_dead_layer(kind: str) -> None:
    dead = layers.Dense(4, activation="relu", bias_initializer=keras.initializers.Constant(-1e3))
    if kind == "embedding":
        begin = [layers.Input((5,), dtype="int32"), layers.Embedding(10, 4, mask_zero=True)]
        x = np.random.default_rng(0).integers(0, 10, (40, 5))
    else:
        begin = [layers.Input((5, 4)), layers.Masking()]
        x = random((40, 5, 4))
        x[:20, 3:] = 0
    x[:, 0] = 1
    model = keras.Sequential([*begin, dead, layers.GlobalAveragePooling1D(), layers.Dense(1)])
    assert np.ptp(model.predict(x, verbose=0)) == 0
    health = diagnose(model, x, gradients=True)
    assert health.verdicts["dead_neurons"].verdict == "fail"
    assert health.responding_rows == 0


def test_a_living_network_with_a_mask_passes() -> None:
    stack = [layers.Embedding(10, 4, mask_zero=True), layers.SimpleRNN(4), layers.Dense(1)]
    model = keras.Sequential([layers.Input((5,), dtype="int32"), *stack])
    x = np.random.default_rng(0).integers(1, 10, (40, 5))
    health = diagnose(model, x, gradients=True)
    assert health.verdicts["dead_neurons"].verdict == "pass"
    assert health.responding_rows == 40


# ------------------------------------------------------------------------ several at once


def test_a_shared_layer_over_many_steps_is_as_many_sites() -> None:
    shared = layers.SimpleRNN(3, activation="relu", name="shared")
    one, other = keras.Input((None, 2)), keras.Input((None, 2))
    model = keras.Model([one, other], layers.Concatenate()([shared(one), shared(other)]))
    x = random((4, 300, 2))
    assert sites(diagnose(model, (x, -x))) == [("shared", "relu", 3), ("shared:2", "relu", 3)]


def test_threads_can_diagnose_at_the_same_time() -> None:
    before = (tf.nn.gelu, keras.Operation.__call__, tf.config.functions_run_eagerly())
    x = random((50, 4))
    models = [
        sequential((4,), *(layers.Dense(8, activation="relu") for _ in range(4))) for _ in range(4)
    ]
    found: dict[int, Health] = {}

    def work(number: int) -> None:
        found[number] = diagnose(models[number], x)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (tf.nn.gelu, keras.Operation.__call__, tf.config.functions_run_eagerly()) == before
    for number, model in enumerate(models):
        assert [each.active_rows.tolist() for each in found[number].layers] == [
            each.active_rows.tolist() for each in diagnose(model, x).layers
        ]


def test_functions_that_run_eagerly_by_the_users_wish_do_no_harm() -> None:
    model = sequential((4,), layers.Dense(8, activation="relu"))
    x = random((20, 4))
    tf.config.run_functions_eagerly(True)
    try:
        health = diagnose(model, x)
        assert tf.config.functions_run_eagerly()
    finally:
        tf.config.run_functions_eagerly(False)
    assert (
        health.layers[0].active_rows.tolist() == diagnose(model, x).layers[0].active_rows.tolist()
    )


def test_threads_can_diagnose_one_recurrent_model_at_the_same_time() -> None:
    model = sequential(
        (6, 3), layers.LSTM(4, activation="relu", return_sequences=True), layers.LSTM(3)
    )
    x = random((40, 6, 3))
    expected = [(each.name, each.active_rows.tolist()) for each in diagnose(model, x).layers]
    found: list[Any] = []

    def work() -> None:
        health = diagnose(model, x)
        found.append([(each.name, each.active_rows.tolist()) for each in health.layers])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 4


# ------------------------------------------------------------------------ what is no mask


def test_a_recurrent_layer_learns_from_the_mask_alone() -> None:
    dead = layers.Dense(4, activation="relu", bias_initializer=keras.initializers.Constant(-1e3))
    begin = [layers.Input((5,), dtype="int32"), layers.Embedding(10, 4, mask_zero=True)]
    model = keras.Sequential([*begin, dead, layers.LSTM(4), layers.Dense(1)])
    model.layers[2].cell.bias.assign(np.ones(16))
    x = np.array([[1, 2, 3, 0, 0], [1, 0, 0, 0, 0], [1, 2, 3, 4, 5]])
    assert np.ptp(model.predict(x, verbose=0)) > 0  # it counts the steps
    assert diagnose(model, x).verdicts["dead_neurons"].verdict == "warn"


class Softly(layers.Layer):
    """A layer of the user's own that adds what it calls a mask."""

    def call(self, inputs: Any, soft_mask: Any = None) -> Any:
        return inputs + soft_mask


def test_what_the_user_calls_a_mask_is_a_value() -> None:
    inputs = keras.Input((3,))
    dead = layers.Dense(4, activation="relu", bias_initializer=keras.initializers.Constant(-1e3))
    alive = layers.Dense(4, activation="tanh")(inputs)
    model = keras.Model(inputs, layers.Dense(1)(Softly()(dead(inputs), soft_mask=alive)))
    assert diagnose(model, random((20, 3))).verdicts["dead_neurons"].verdict == "warn"


# ------------------------------------------------------------------------------ channels


class Block(layers.Layer):
    """A convolution with relu in a `call` of the user's own."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = layers.Conv2D(3, 2, data_format="channels_first")

    def call(self, inputs: Any) -> Any:
        return tf.nn.relu(self.convolution(inputs))


@pytest.mark.parametrize(
    ("stack", "rows"),
    [
        ([Block()], 4 * 20),
        ([layers.Conv2D(3, 2, data_format="channels_first"),
          layers.GroupNormalization(3, axis=1), layers.ReLU()], 4 * 20),
        ([layers.Conv2D(3, 2, data_format="channels_first"),
          layers.Lambda(lambda z: keras.ops.transpose(z, (0, 2, 3, 1))), layers.ReLU()], 4 * 20),
    ],
)  # fmt: skip
def test_the_axis_of_channels_is_followed(stack: list[keras.Layer], rows: int) -> None:
    layer = diagnose(sequential((2, 5, 6), *stack), random((4, 2, 5, 6))).layers[-1]
    assert (layer.units, layer.rows) == (3, rows)


def test_a_layer_shared_by_short_and_long_sequences_has_two_sites() -> None:
    shared = layers.SimpleRNN(3, activation="relu", name="shared")
    short, long = keras.Input((5, 2)), keras.Input((None, 2))
    model = keras.Model([short, long], layers.Concatenate()([shared(short), shared(long)]))
    found = diagnose(model, (random((4, 5, 2)), random((4, 300, 2)))).layers
    assert [(each.name, each.rows) for each in found] == [("shared", 20), ("shared:2", 1200)]
