"""Counting active rows, against NumPy."""

from collections.abc import Sequence

import keras
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.data.rows import Rows
from orchestrator.diagnosis.tracing.probe import Probe
from orchestrator.diagnosis.units import INPUT

layers = keras.layers

DYADIC = [number / 8 for number in range(-16, 17)]
"""Small multiples of 1/8: products and sums of them are exact in float32."""


def dyadic(rng: np.random.Generator, shape: Sequence[int]) -> npt.NDArray[np.float32]:
    return rng.choice(DYADIC, size=shape).astype(np.float32)


def randomized(model: keras.Model, rng: np.random.Generator) -> keras.Model:
    model.set_weights([dyadic(rng, weight.shape) for weight in model.weights])
    return model


def rows_of(x: npt.NDArray[np.float32]) -> Rows:
    return Rows(x=x, y=np.zeros(len(x)))


def sequential(shape: tuple[int, ...], *stack: keras.Layer) -> keras.Model:
    return keras.Sequential([layers.Input(shape), *stack])


@pytest.fixture(scope="module")
def probed() -> list[tuple[keras.Model, Probe]]:
    """Networks of one, two and three hidden layers, traced once."""
    found = []
    for widths in ((5,), (1, 4), (6, 3, 2)):
        stack = [layers.Dense(width, activation="relu") for width in widths]
        model = sequential((3,), *stack, layers.Dense(1))
        found.append((model, Probe(model)))
    return found


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    which=st.integers(0, 2),
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 40),
    batch_size=st.integers(1, 50),
)
def test_active_rows_equal_numpy(
    probed: list[tuple[keras.Model, Probe]], which: int, seed: int, rows: int, batch_size: int
) -> None:
    model, probe = probed[which]
    rng = np.random.default_rng(seed)
    randomized(model, rng)
    x = dyadic(rng, (rows, 3))

    predictions = []
    found = probe.measure(
        rows_of(x),
        batch_size=batch_size,
        see=lambda _, seen, *__: predictions.append(seen[0].value),
    )

    value = x.astype(np.float64)
    for layer, measured in zip(model.layers, found.layers, strict=False):
        kernel, bias = (weight.astype(np.float64) for weight in layer.get_weights())
        value = value @ kernel + bias
        assert measured.active_rows.tolist() == (value > 0).sum(axis=0).tolist()
        assert measured.rows == rows
        value = np.maximum(value, 0)
    assert len(found.layers) == len(model.layers) - 1
    np.testing.assert_array_equal(np.concatenate(predictions), model(x).numpy())


def relu_zeros(z: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[np.bool_]]:
    """Where each activation's derivative is not zero, by its definition."""
    always = np.ones_like(z, dtype=bool)
    return {
        "relu": z > 0,
        "relu6": (z > 0) & (z < 6),
        "leaky_relu": always,
        "ReLU": z > 0,
        "ReLU max 4": (z > 0) & (z < 4),
        "ReLU threshold 1": z > 1,
        "ReLU slope": always,
        "ReLU slope max 4": z < 4,
        "LeakyReLU": always,
        "PReLU": always,
        "Activation": z > 0,
    }


FORMS = {
    "relu": layers.Dense(4, activation="relu"),
    "relu6": layers.Dense(4, activation="relu6"),
    "leaky_relu": layers.Dense(4, activation="leaky_relu"),
    "ReLU": layers.ReLU(),
    "ReLU max 4": layers.ReLU(max_value=4),
    "ReLU threshold 1": layers.ReLU(threshold=1),
    "ReLU slope": layers.ReLU(negative_slope=0.1),
    "ReLU slope max 4": layers.ReLU(negative_slope=0.1, max_value=4),
    "LeakyReLU": layers.LeakyReLU(),
    "PReLU": layers.PReLU(),
    "Activation": layers.Activation("relu"),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_relu_is_one_site(form: str) -> None:
    layer = FORMS[form]
    model = sequential((4,), layer)
    if isinstance(layer, layers.Dense):
        layer.set_weights([np.eye(4, dtype=np.float32), np.zeros(4, np.float32)])
    z = np.random.default_rng(1).choice([-7.0, -1, 0, 0.5, 1, 3, 4, 5, 6, 9], (30, 4))
    z = z.astype(np.float32)

    (found,) = Probe(model).measure(rows_of(z)).layers

    assert found.active_rows.tolist() == relu_zeros(z)[form].sum(axis=0).tolist()


@pytest.mark.parametrize("activation", ["linear", "softmax", "log_softmax"])
def test_what_has_no_derivative_to_watch_is_no_site(activation: str) -> None:
    model = sequential((4,), layers.Dense(3, activation=activation))
    assert Probe(model).measure(rows_of(np.zeros((2, 4), np.float32))).layers == ()


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "gelu", "silu", "elu", "selu"])
def test_saturated_units_are_reported_as_such(activation: str) -> None:
    dense = layers.Dense(2, activation=activation)
    model = sequential((1,), dense)
    dense.set_weights([np.zeros((1, 2), np.float32), np.array([-100.0, 0.5], np.float32)])

    (found,) = Probe(model).measure(rows_of(np.zeros((7, 1), np.float32))).layers

    assert (found.saturated, found.dead) == (1, 0)
    assert found.active_rows.tolist() == [0, 7]


def test_a_unit_that_fires_on_one_row_of_50000_is_alive() -> None:
    dense = layers.Dense(2, activation="relu")
    model = sequential((1,), dense)
    dense.set_weights([np.array([[1.0, -1.0]], np.float32), np.zeros(2, np.float32)])
    x = np.full((50_000, 1), -1.0, np.float32)
    x[31_234] = 1.0

    (found,) = Probe(model).measure(rows_of(x)).layers

    assert found.active_rows.tolist() == [1, 49_999]
    assert found.dead_units.tolist() == []
    assert found.near_dead == 1


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_convolutions_count_every_position_of_a_channel(padding: str) -> None:
    rng = np.random.default_rng(2)
    conv = layers.Conv1D(3, 2, activation="relu", padding=padding)
    model = randomized(sequential((5, 2), conv, layers.Flatten(), layers.Dense(1)), rng)
    x = dyadic(rng, (9, 5, 2))

    (found,) = Probe(model).measure(rows_of(x), batch_size=4).layers

    kernel, bias = (weight.astype(np.float64) for weight in conv.get_weights())
    padded = np.pad(x, ((0, 0), (0, 1), (0, 0))) if padding == "same" else x
    z = sum(padded[:, k : padded.shape[1] - 1 + k] @ kernel[k] for k in range(2)) + bias
    assert found.rows == z.shape[0] * z.shape[1]
    assert found.active_rows.tolist() == (z > 0).sum(axis=(0, 1)).tolist()


def test_nested_models_are_named_by_their_path() -> None:
    encoder = keras.Sequential(
        [layers.Input((3,)), layers.Dense(4, activation="relu", name="hidden")], name="encoder"
    )
    inputs = keras.Input((3,))
    model = keras.Model(inputs, layers.Dense(1, name="head")(encoder(inputs)))

    found = Probe(model).measure(rows_of(np.ones((2, 3), np.float32)))

    assert [layer.name for layer in found.layers] == ["encoder/hidden"]


def test_a_shared_layer_is_a_site_for_each_call() -> None:
    shared = layers.Dense(2, activation="relu", name="shared")
    inputs = keras.Input((2,))
    model = keras.Model(inputs, shared(shared(inputs)))
    shared.set_weights([-np.eye(2, dtype=np.float32), np.zeros(2, np.float32)])

    found = Probe(model).measure(rows_of(np.array([[-1.0, 1.0]], np.float32)))

    assert [layer.name for layer in found.layers] == ["shared", "shared:2"]
    assert [layer.active_rows.tolist() for layer in found.layers] == [[1, 0], [0, 0]]


def test_a_time_distributed_layer_is_one_site() -> None:
    dense = layers.Dense(2, activation="relu", name="step")
    model = sequential((4, 3), layers.TimeDistributed(dense))
    rng = np.random.default_rng(3)
    randomized(model, rng)
    x = dyadic(rng, (5, 4, 3))

    (found,) = Probe(model).measure(rows_of(x)).layers

    kernel, bias = dense.get_weights()
    assert found.rows == 20
    assert found.active_rows.tolist() == ((x @ kernel + bias) > 0).sum(axis=(0, 1)).tolist()


def test_the_flow_follows_branches_and_skips() -> None:
    inputs = keras.Input((3,))
    left = layers.Dense(3, activation="relu", name="left")(inputs)
    right = layers.Dense(3, activation="relu", name="right")(left)
    model = keras.Model(inputs, layers.Dense(1)(layers.add([right, left])))

    found = Probe(model).measure(rows_of(np.ones((2, 3), np.float32)))

    assert [layer.name for layer in found.layers] == ["left", "right"]
    assert found.flow.layers == (frozenset({INPUT}), frozenset({0}))
    assert found.flow.outputs == (frozenset({0, 1}),)


def test_batch_statistics_leave_the_moving_ones_alone() -> None:
    norm = layers.BatchNormalization()
    model = sequential((1,), norm, layers.ReLU())
    gamma, beta, mean, variance = norm.get_weights()
    norm.set_weights([gamma, beta, mean + 1000, variance])  # the moving mean lags far behind
    probe = Probe(model)
    x = np.linspace(0, 10, 64, dtype=np.float32)[:, None]

    (moving,) = probe.measure(rows_of(x)).layers
    (batch,) = probe.measure(rows_of(x), batch_size=32, batch_statistics=True).layers

    assert probe.has_batch_normalization
    assert moving.dead == 1
    assert batch.active_rows.tolist() == [32]
    assert norm.get_weights()[2] == mean + 1000


def test_the_model_is_as_before_after_a_measurement() -> None:
    model = sequential((3,), layers.Dense(4, activation="relu"), layers.ReLU(), layers.Dense(1))
    before = {id(layer): dict(vars(layer)) for layer in model.layers}
    x = np.ones((4, 3), np.float32)
    expected = model(x).numpy()

    Probe(model).measure(rows_of(x))

    for layer in model.layers:
        assert vars(layer).keys() == before[id(layer)].keys()
        for name in ("activation", "call"):
            assert vars(layer).get(name) is before[id(layer)].get(name)
    np.testing.assert_array_equal(model(x).numpy(), expected)


def test_weights_that_changed_are_seen_without_a_new_trace() -> None:
    dense = layers.Dense(2, activation="relu")
    model = sequential((1,), dense)
    probe = Probe(model)
    x = np.ones((3, 1), np.float32)
    for bias in (-5.0, 5.0):
        dense.set_weights([np.zeros((1, 2), np.float32), np.full(2, bias, np.float32)])
        (found,) = probe.measure(rows_of(x)).layers
        assert found.dead == (2 if bias < 0 else 0)
