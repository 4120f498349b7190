"""Diagnosing whole models: counts against NumPy, and against gradients row by row."""

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import hypothesis
import keras
import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import diagnose
from orchestrator.config.sections.checks import Checks
from orchestrator.data.rows import Rows
from orchestrator.diagnosis.diagnose import Arguments
from orchestrator.diagnosis.examine import examine
from orchestrator.diagnosis.health import Health, LayerHealth
from orchestrator.diagnosis.tracing.probe import Measurement, Probe
from orchestrator.diagnosis.verdicts.checks import Evidence
from orchestrator.errors import InvalidError
from orchestrator.model.outputs import find_outputs
from orchestrator.record.checks import PredictionVarianceCheck
from orchestrator.record.records import Phase
from tests import builders

layers = keras.layers
Array = npt.NDArray[Any]

HALVES = np.array([-1, -0.5, 0, 0.5, 1], np.float32)
QUARTERS = np.arange(-8, 9) / np.float32(4)
"""With weights of `HALVES`, every sum in networks this small is exact in float32."""

SLOPE = 0.25
"""Of leaky relu: Keras's own 0.2 is not exact in any float."""

SEEDS = st.integers(0, 2**32 - 1)
MANY = hypothesis.settings(builders.LAW, max_examples=40)


@dataclasses.dataclass(frozen=True)
class Hidden:
    """A hidden layer, and where what goes into it comes from."""

    units: int
    sources: tuple[int, ...] = (-1,)
    """Layers whose results are put side by side; -1 is the input, others count from 0."""
    activation: str = "relu"


@dataclasses.dataclass(frozen=True)
class Design:
    """A network of three inputs."""

    hidden: tuple[Hidden, ...]
    outputs: tuple[tuple[int, int], ...] = ((-1, 1),)
    """Source and width of each output; -1 is the last hidden layer."""


def chain(*widths: int) -> tuple[Hidden, ...]:
    return tuple(Hidden(width, (index - 1,)) for index, width in enumerate(widths))


DESIGNS = (
    Design(chain(5)),
    Design(chain(2, 2, 2, 2)),
    Design((*chain(4, 3), Hidden(3, (1, -1)), Hidden(2, (2, 0)))),
    Design((*chain(6), Hidden(3, (0,)), Hidden(2, (0,), "relu6")), ((1, 1), (2, 2))),
    Design((Hidden(4, activation="leaky_relu"), Hidden(3, (0,)), Hidden(3, (0, 1))), ((2, 2),)),
)


class Network:
    """A design as a Keras model, and layer by layer."""

    def __init__(self, design: Design) -> None:
        self.design = design
        self.dense = [layers.Dense(each.units) for each in design.hidden]
        self.activations = [
            layers.LeakyReLU(SLOPE, name=f"hidden_{index}")
            if each.activation == "leaky_relu"
            else layers.Activation(each.activation, name=f"hidden_{index}")
            for index, each in enumerate(design.hidden)
        ]
        self.heads = [layers.Dense(width) for _, width in design.outputs]
        inputs = keras.Input((3,))
        _, ends = self.run(inputs, keras.ops.concatenate)
        self.model = keras.Model(inputs, ends if len(ends) > 1 else ends[0])
        self.probe = Probe(self.model)

    def run(self, x: Any, join: Callable[..., Any]) -> tuple[list[Any], list[Any]]:
        """What goes into each activation, and the outputs."""
        found, before = [], []
        for index, hidden in enumerate(self.design.hidden):
            parts = [x if source < 0 else found[source] for source in hidden.sources]
            value = parts[0] if len(parts) == 1 else join(parts, axis=-1)
            before.append(self.dense[index](value))
            found.append(self.activations[index](before[-1]))
        sources = [source for source, _ in self.design.outputs]
        return before, [
            head(found[source]) for head, source in zip(self.heads, sources, strict=True)
        ]

    def reweight(self, rng: np.random.Generator) -> None:
        shift = rng.choice([-1.0, 0.0, 0.0, 1.0])  # networks that are mostly dead are worth a look
        for dense in (*self.dense, *self.heads):
            kernel, bias = (
                rng.choice(HALVES, weight.shape).astype(np.float32)
                for weight in dense.get_weights()
            )
            dense.set_weights([kernel, bias + np.float32(shift * (dense in self.dense))])

    def active(self, x: Array) -> list[Array]:
        """Where each unit's derivative is not zero, in NumPy and float64."""
        found: list[Array] = []
        masks = []
        for dense, hidden in zip(self.dense, self.design.hidden, strict=True):
            parts = [x if source < 0 else found[source] for source in hidden.sources]
            kernel, bias = (weight.astype(np.float64) for weight in dense.get_weights())
            z = np.concatenate(parts, axis=1).astype(np.float64) @ kernel + bias
            slope = SLOPE if hidden.activation == "leaky_relu" else 0.0
            top = 6.0 if hidden.activation == "relu6" else np.inf
            found.append(np.minimum(np.where(z > 0, z, slope * z), top))
            masks.append((z < top) & ((z > 0) | (slope > 0)))
        return masks


@dataclasses.dataclass(frozen=True)
class Referee:
    """What plain gradients say, a row at a time and an output column at a time."""

    learns: list[Array]
    """Whether a unit's incoming weights or bias get a gradient on a row, shape (rows, units)."""
    reached: list[Array]
    """Whether the gradient at a unit's pre-activation is not zero, shape (rows, units)."""
    responds: Array
    """Whether an output responds to the input, shape (rows,)."""


def referee(network: Network, x: Array) -> Referee:
    learns = [np.zeros((len(x), dense.units), bool) for dense in network.dense]
    reached = [np.zeros((len(x), dense.units), bool) for dense in network.dense]
    responds = np.zeros(len(x), bool)
    weights = [dense.trainable_variables for dense in network.dense]
    for row in range(len(x)):
        inputs = tf.constant(x[row : row + 1])
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(inputs)
            before, ends = network.run(inputs, tf.concat)
            columns = [end[0, index] for end in ends for index in range(end.shape[-1])]
        for column in columns:
            sources = ([each.value for pair in weights for each in pair], before, inputs)
            of_weights, of_units, of_input = tape.gradient(
                column, sources, unconnected_gradients="zero"
            )
            responds[row] |= bool(np.any(of_input.numpy() != 0))
            for index in range(len(weights)):
                kernel, bias = of_weights[2 * index].numpy(), of_weights[2 * index + 1].numpy()
                learns[index][row] |= (kernel != 0).any(axis=0) | (bias != 0)
                reached[index][row] |= of_units[index].numpy()[0] != 0
    return Referee(learns, reached, responds)


@pytest.fixture(scope="module")
def networks() -> list[Network]:
    """Each design, traced once and weighted anew many times."""
    return [Network(design) for design in DESIGNS]


def rows_of(x: Array) -> Rows:
    return Rows(x=x, y=None)


def assert_exact(network: Network, x: Array, found: Measurement | Health) -> None:
    """Counts as NumPy's, dead units without a gradient on any row, blocked ones likewise."""
    judged = referee(network, x)
    by_name = {layer.name: layer for layer in found.layers}
    assert len(by_name) == len(network.dense)
    for index, active in enumerate(network.active(x)):
        layer = by_name[f"hidden_{index}"]
        blocked = layer.blocked if isinstance(layer, LayerHealth) else layer.blocked_units
        dead = ~active.any(axis=0)
        stuck = ~dead & ~judged.reached[index].any(axis=0)
        assert layer.rows == len(x)
        assert layer.active_rows.tolist() == active.sum(axis=0).tolist()
        assert not judged.learns[index][:, dead].any()
        assert blocked is not None
        assert blocked.tolist() == np.flatnonzero(stuck).tolist()
        assert judged.learns[index].any(axis=0).tolist() == (~dead & ~stuck).tolist()
    responding = found.responding_rows if isinstance(found, Health) else found.responding
    assert responding == judged.responds.sum()


@MANY
@given(which=st.integers(0, len(DESIGNS) - 1), seed=SEEDS, count=st.integers(1, 8))
def test_random_networks_are_counted_exactly_and_gradients_agree(
    networks: list[Network], which: int, seed: int, count: int
) -> None:
    rng = np.random.default_rng(seed)
    network = networks[which]
    network.reweight(rng)
    x = rng.choice(QUARTERS, (count, 3)).astype(np.float32)
    assert_exact(network, x, network.probe.measure(rows_of(x), batch_size=5, gradients=True))


@hypothesis.settings(builders.LAW, max_examples=6)
@given(data=st.data(), seed=SEEDS)
def test_networks_built_afresh_are_counted_exactly(data: st.DataObject, seed: int) -> None:
    hidden: list[Hidden] = []
    for index in range(data.draw(st.integers(1, 4), "depth")):
        skips = data.draw(st.sets(st.integers(-1, max(index - 2, -1)), max_size=1), "skips")
        kind = data.draw(st.sampled_from(["relu", "relu", "relu6", "leaky_relu"]), "activation")
        sources = (index - 1, *sorted(skips - {index - 1}))
        hidden.append(Hidden(data.draw(st.integers(1, 5), "units"), sources, kind))
    last = len(hidden) - 1
    first = data.draw(st.integers(0, last), "first output")
    ends = ((last, 2),) if first == last else ((first, 1), (last, 1))
    network = Network(Design(tuple(hidden), ends))
    rng = np.random.default_rng(seed)
    network.reweight(rng)
    x = rng.choice(QUARTERS, (6, 3)).astype(np.float32)
    assert_exact(network, x, diagnose(network.model, x, gradients=True, batch_size=4))


def test_a_unit_whose_gradient_only_comes_on_rows_where_it_is_inactive_is_blocked() -> None:
    first, second = layers.Dense(2, activation="relu"), layers.Dense(1, activation="relu")
    model = keras.Sequential([layers.Input((1,)), first, second, layers.Dense(1)])
    first.set_weights([np.array([[1.0, -1]], np.float32), np.zeros(2, np.float32)])
    # The second layer is active where x < 0, and there only.
    second.set_weights([np.array([[-1.0], [1]], np.float32), np.zeros(1, np.float32)])

    health = diagnose(model, np.array([[-1.0], [1.0]]), gradients=True)

    assert health.layers[0].active_rows.tolist() == [1, 1]
    assert health.layers[0].blocked is not None
    assert health.layers[0].blocked.tolist() == [0]
    assert health.responding_rows == 1


def test_a_unit_whose_paths_cancel_exactly_is_blocked() -> None:
    hidden = [layers.Dense(units, activation="relu") for units in (1, 3)]
    model = keras.Sequential([layers.Input((1,)), *hidden, layers.Dense(1)])
    kernels = [[[1.0]], [[1.0, 1.0, 1.0]], [[0.25], [0.5], [-0.75]]]
    for layer, kernel in zip(model.layers, kernels, strict=True):
        layer.set_weights([np.array(kernel), np.zeros(len(kernel[0]))])
    health = diagnose(model, np.array([[1.0], [2.0]]), gradients=True)
    assert [each.blocked.tolist() for each in health.layers if each.blocked is not None] == [
        [0],
        [],
    ]
    assert health.responding_rows == 0


@MANY
@given(
    which=st.integers(0, len(DESIGNS) - 1),
    seed=SEEDS,
    count=st.integers(1, 60),
    targets=st.sampled_from(["none", "noise", "fitted"]),
)
def test_stopping_early_never_changes_a_verdict(
    networks: list[Network], which: int, seed: int, count: int, targets: str
) -> None:
    rng = np.random.default_rng(seed)
    network = networks[which]
    network.reweight(rng)
    x = rng.choice(QUARTERS, (count, 3)).astype(np.float32)
    y: Any = None
    if targets != "none":
        predicted = network.model(x)
        ends = predicted if isinstance(predicted, list) else [predicted]
        noise = [rng.normal(size=end.shape) for end in ends]
        y = tuple(
            np.array(end) + each / 10 if targets == "fitted" else each
            for end, each in zip(ends, noise, strict=True)
        )
        y = y if len(y) > 1 else y[0]
    rows = Rows(x=x, y=y)
    outputs = find_outputs(network.model, Arguments(), rows)

    options: dict[str, Any] = {"batch_size": 4}
    early = examine(network.probe, rows, outputs, Checks(), Evidence(), exhaustive=False, **options)
    # The skill is judged only where all rows were read.
    every = examine(
        network.probe, rows, outputs, Checks(), Evidence(last=early.complete), **options
    )

    assert every.complete
    assert early.complete == (early.rows == count)
    verdicts = [[(check.check, check.verdict) for check in each.checks] for each in (every, early)]
    assert verdicts[0] == verdicts[1]


def healthy() -> tuple[keras.Model, Array]:
    model = keras.Sequential([layers.Input((1,)), layers.Dense(2, activation="relu"),
                              layers.Dense(1)])  # fmt: skip
    kernel, head = np.array([[1.0, -1]], np.float32), np.array([[1.0], [-1]], np.float32)
    model.set_weights([kernel, np.zeros(2, np.float32), head, np.zeros(1, np.float32)])
    return model, np.tile(np.array([[-2.0], [-1], [1], [2]], np.float32), (25, 1))


def test_a_healthy_network_needs_few_rows_when_not_all_are_asked_for() -> None:
    model, x = healthy()
    early = diagnose(model, x, exhaustive=False, batch_size=10)
    every = diagnose(model, x, batch_size=10)
    assert (early.exact, early.rows) == (False, 10)
    assert (every.exact, every.rows) == (True, 100)
    assert [check.verdict for check in early.verdicts.values()] == ["pass"] * 4
    assert early.verdicts["dead_neurons"].measured.exact is False


def test_the_skill_is_judged_only_on_all_rows() -> None:
    model, x = healthy()
    y = -x[:, 0]
    early = diagnose(model, x, y, exhaustive=False, batch_size=10)
    every = diagnose(model, x, y, batch_size=10)
    assert (early.exact, early.rows) == (False, 10)
    assert [check.verdict for check in early.verdicts.values()] == ["pass"] * 4
    assert every.verdicts["prediction_variance"].verdict == "fail"
    assert "worse than the best constant" in every.verdicts["prediction_variance"].reason


def test_a_target_that_may_make_the_prediction_constant_beside_it_has_all_rows_read() -> None:
    model, x = healthy()
    y = x[:, 0].copy()
    y[-1] = 1e4
    health = diagnose(model, x, y, exhaustive=False, batch_size=10)
    assert health.exact
    assert "constant" in health.verdicts["prediction_variance"].reason


def test_batches_are_read_to_the_end() -> None:
    model, x = healthy()
    stream = tf.data.Dataset.from_tensor_slices(x).batch(10)
    assert diagnose(model, stream, exhaustive=False).rows == 100


def test_the_rows_that_are_not_read_are_looked_at_for_what_is_not_finite() -> None:
    model, x = healthy()
    x[97] = np.nan
    health = diagnose(model, x, exhaustive=False, batch_size=10)
    assert health.verdicts["finite"].reason == "x is nan in row 97, column 0 (from 0)"
    assert not health.finite


# ------------------------------------------------------------------------------ units


def unit_layer(kernel: Sequence[float], bias: Sequence[float], activation: str = "relu") -> Any:
    """A model of one layer on one input."""
    dense = layers.Dense(len(kernel), activation=activation, name="it")
    model = keras.Sequential([layers.Input((1,)), dense])
    dense.set_weights([np.array([kernel], np.float32), np.array(bias, np.float32)])
    return model


def test_a_unit_that_fires_on_one_row_of_50000_is_alive() -> None:
    x = np.full((50_000, 1), -1.0, np.float32)
    x[31_234] = 1.0
    (layer,) = diagnose(unit_layer([1, -1, 0], [0, 0, 0]), x).layers
    assert layer.active_rows.tolist() == [1, 49_999, 0]
    assert (layer.dead.tolist(), layer.near_dead.tolist()) == ([2], [0])
    assert layer.dead_fraction == pytest.approx(1 / 3)


@pytest.mark.parametrize(("active", "near"), [(1, [0]), (2, []), (3, [])])
def test_near_dead_is_fewer_than_one_row_in_a_thousand(active: int, near: list[int]) -> None:
    x = np.full((2_000, 1), -1.0, np.float32)
    x[:active] = 1.0
    (layer,) = diagnose(unit_layer([1], [0]), x, batch_size=300).layers
    assert layer.near_dead.tolist() == near


def test_a_constant_unit_is_active_and_has_the_same_value_on_every_row() -> None:
    x = np.linspace(-1, 1, 50, dtype=np.float32)[:, None]
    (layer,) = diagnose(unit_layer([0, 1, 0, 0], [2, 0, -1, 0]), x, batch_size=7).layers
    assert layer.constant.tolist() == [0]
    assert layer.dead.tolist() == [2, 3]


def test_a_unit_that_is_constant_but_for_its_last_row_is_not() -> None:
    x = np.ones((50, 1), np.float32)
    x[-1] = 2
    (layer,) = diagnose(unit_layer([1], [0]), x, batch_size=7).layers
    assert layer.constant.tolist() == []


def test_saturated_units_are_not_dead() -> None:
    health = diagnose(unit_layer([0, 1], [-50, 0], "tanh"), np.array([[0.5], [1.0]]))
    (layer,) = health.layers
    assert (layer.saturated.tolist(), layer.dead.tolist()) == ([0], [])
    assert health.verdicts["dead_neurons"].verdict == "warn"


# ------------------------------------------------------------------------------ outputs


def linear(columns: int = 1, *, activation: str | None = None, loss: Any = None) -> keras.Model:
    """A model whose prediction is its input, through an activation."""
    dense = layers.Dense(columns, activation=activation)
    model = keras.Sequential([layers.Input((columns,)), dense])
    dense.set_weights([np.eye(columns, dtype=np.float32), np.zeros(columns, np.float32)])
    if loss is not None:
        model.compile(loss=loss)
    return model


def entropy(p: Array) -> float:
    p = p[p > 0]
    return float(-(p * np.log(p)).sum())


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(("scale", "offset"), [(1, 0), (1e-3, 0), (1, 1e4), (1e-3, 1), (1e4, 0)])
def test_a_regression_is_scored_at_any_scale(scale: float, offset: float) -> None:
    y = (offset + scale * normal(500)).astype(np.float32)
    x = (y + scale * 0.5 * normal(500, seed=1)).astype(np.float32)[:, None]

    (output,) = diagnose(linear(), x, y, batch_size=64).outputs

    target, predicted = y.astype(np.float64), x[:, 0].astype(np.float64)
    assert output.kind == "regression"
    assert output.variance_ratio == pytest.approx(predicted.var() / target.var(), rel=1e-6)
    skill = 1 - ((target - predicted) ** 2).mean() / target.var()
    assert output.skill == pytest.approx(skill, abs=1e-5)


def test_columns_of_a_regression_are_never_averaged() -> None:
    x = normal(100, 2)
    y = x.copy()
    x[:, 1] = y[:, 1].mean()
    health = diagnose(linear(2), x, y)
    assert [output.skill for output in health.outputs] == pytest.approx([1, 0], abs=1e-5)
    assert health.verdicts["prediction_variance"].verdict == "fail"
    assert "column 1" in health.verdicts["prediction_variance"].reason


def _nearly_right(columns: int) -> tuple[keras.Model, Array]:
    """A network that repeats its inputs, a little too small; and inputs, of which the last hardly
    varies.
    """
    x = np.random.default_rng(0).normal(size=(400, columns)).astype(np.float32)
    x[:, -1] = 0.5 + 0.001 * x[:, -1]
    model = keras.Sequential([keras.Input((columns,)), layers.Dense(columns)])
    model.compile("adam", "mse")
    model.set_weights([0.9 * np.eye(columns), np.zeros(columns)])
    return model, x


@pytest.mark.parametrize(
    ("columns", "own", "verdict"), [(12, True, "warn"), (3, True, "warn"), (12, False, "warn"),
                                    (3, False, "fail")],
)  # fmt: skip
def test_of_columns_of_one_kind_one_that_hardly_varies_does_not_fail(
    columns: int, own: bool, verdict: str
) -> None:
    """A pixel of an autoencoder does not; one of a few targets that are no inputs does."""
    model, x = _nearly_right(columns)
    y = x if own else x + np.random.default_rng(1).normal(size=x.shape) * x.std(axis=0)
    check = diagnose(model, x, y).verdicts["prediction_variance"]
    assert isinstance(check, PredictionVarianceCheck)
    assert check.verdict == verdict
    assert "worse than the best constant" in check.reason
    worst = check.measured.outputs[-1]
    assert worst.skill is not None and worst.skill < -100
    assert check.is_worse_than_constant() == (verdict == "fail")
    phase = Phase(phase="main", epochs=1, seconds=0.0, metrics={}, checks=(check,))
    assert (phase.skill() or 0) > 0.2 or verdict == "fail"


def test_a_column_of_many_fails_where_its_loss_is_a_visible_share() -> None:
    model, x = _nearly_right(12)
    bias = 0.4 * np.eye(12)[-1]  # the others have a variance of 1
    model.set_weights([0.9 * np.eye(12), bias])
    assert diagnose(model, x, x).verdicts["prediction_variance"].verdict == "fail"


@pytest.mark.parametrize(("own", "verdict"), [(True, "fail"), (False, "warn")])
def test_an_output_that_says_nothing_of_the_input_that_it_is_to_be_fails(
    own: bool, verdict: str
) -> None:
    """As where the code of a variational autoencoder is noise; other targets may be unrelated."""
    model, x = _nearly_right(12)
    others = np.random.default_rng(2).normal(size=(12, 12)) * (1 - np.eye(12))
    model.set_weights([0.02 * others, 0.5 * np.eye(12)[-1]])
    y = x if own else np.random.default_rng(1).permutation(x)
    check = diagnose(model, x, y).verdicts["prediction_variance"]
    assert isinstance(check, PredictionVarianceCheck)
    assert (check.verdict, check.is_blind()) == (verdict, own)
    assert not check.is_constant()
    assert ("it is to be its own input, and says nothing of it" in check.reason) == own


def test_one_sigmoid_is_a_classification_of_two_classes() -> None:
    x = normal(400, 1)
    y = (x[:, 0] + normal(400, seed=1) > 0).astype(np.float32)

    (output,) = diagnose(linear(activation="sigmoid"), x, y).outputs

    p = 1 / (1 + np.exp(-x[:, 0].astype(np.float64)))
    base = entropy(np.array([y.mean(), 1 - y.mean()]))
    within = np.mean([entropy(np.array([each, 1 - each])) for each in p])
    loss = -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p))
    assert output.kind == "classification"
    between = entropy(np.array([p.mean(), 1 - p.mean()]))
    assert output.information == pytest.approx((between - within) / base, rel=1e-4)
    assert output.skill == pytest.approx(1 - loss / base, rel=1e-4)


def test_logits_are_read_as_the_loss_reads_them() -> None:
    x = normal(200, 1)
    y = (x[:, 0] > 0).astype(np.float32)
    logits = linear(loss=keras.losses.BinaryCrossentropy(from_logits=True))
    (expected,) = diagnose(linear(activation="sigmoid"), x, y).outputs
    (found,) = diagnose(logits, x, y).outputs
    assert found.skill == pytest.approx(expected.skill, rel=1e-4)
    assert found.information == pytest.approx(expected.information, rel=1e-4)


MULTICLASS: dict[str, tuple[str | None, Any, bool]] = {
    "sparse": ("softmax", "sparse_categorical_crossentropy", True),
    "one-hot": ("softmax", "categorical_crossentropy", False),
    "sparse logits": (None, keras.losses.SparseCategoricalCrossentropy(from_logits=True), True),
    "one-hot logits": (None, keras.losses.CategoricalCrossentropy(from_logits=True), False),
    "sparse by activation": ("softmax", None, True),
    "one-hot by activation": ("softmax", None, False),
}


@pytest.mark.parametrize("way", MULTICLASS)
def test_several_classes_are_one_output_however_they_are_written(way: str) -> None:
    activation, loss, sparse = MULTICLASS[way]
    x = normal(300, 3)
    classes = (x + normal(300, 3, seed=1)).argmax(axis=1)
    y = classes if sparse else np.eye(3, dtype=np.float32)[classes]

    (output,) = diagnose(linear(3, activation=activation, loss=loss), x, y, batch_size=64).outputs

    p = np.exp(x.astype(np.float64))
    p /= p.sum(axis=1, keepdims=True)
    base = entropy(np.bincount(classes) / 300)
    loss_value = -np.log(p[np.arange(300), classes]).mean()
    information = entropy(p.mean(axis=0)) - np.mean([entropy(row) for row in p])
    assert output.kind == "classification"
    assert output.skill == pytest.approx(1 - loss_value / base, rel=1e-4)
    assert output.information == pytest.approx(information / base, rel=1e-4)


def test_every_label_of_several_is_an_output() -> None:
    x = normal(200, 2)
    y = (x > 0).astype(np.float32)
    y[:, 1] = 1 - y[:, 1]
    found = diagnose(linear(2, activation="sigmoid", loss="binary_crossentropy"), x, y).outputs
    skills = [output.skill for output in found]
    assert [output.kind for output in found] == ["classification"] * 2
    assert skills[0] is not None and skills[1] is not None
    assert skills[0] > 0 > skills[1]


def test_weighted_rows_count_as_often_as_their_weight_says() -> None:
    x, y = normal(40, 1), normal(40, seed=1)
    weight = np.random.default_rng(2).integers(0, 4, 40)
    (weighted,) = diagnose(linear(), x, y, sample_weight=weight, batch_size=7).outputs
    (repeated,) = diagnose(linear(), np.repeat(x, weight, 0), np.repeat(y, weight)).outputs
    assert weighted.skill == pytest.approx(repeated.skill, rel=1e-6)
    assert weighted.variance_ratio == pytest.approx(repeated.variance_ratio, rel=1e-6)


@pytest.mark.parametrize(("informed", "verdict"), [(True, "pass"), (False, "fail")])
def test_one_positive_in_a_hundred_is_no_excuse(informed: bool, verdict: str) -> None:
    y = (np.arange(1000) % 100 == 0).astype(np.float32)
    x = np.where(y == 1, 3.0, -6.0) if informed else np.full(1000, -4.6)
    health = diagnose(linear(activation="sigmoid"), x[:, None], y)
    assert health.verdicts["prediction_variance"].verdict == verdict


def test_a_constant_target_is_not_applicable() -> None:
    health = diagnose(linear(), normal(20, 1), np.ones(20))
    assert health.verdicts["prediction_variance"].verdict == "not_applicable"
    assert health.outputs[0].varies is False
    assert health.failure is None


def test_with_a_constant_target_no_dead_layer_fails_either() -> None:
    model = unit_layer([1], [-9])
    x = normal(40, 1)
    assert diagnose(model, x, x[:, 0]).verdicts["dead_neurons"].verdict == "fail"
    health = diagnose(model, x, np.full(40, 3.0))
    assert health.layers[0].dead_fraction == 1
    assert health.verdicts["dead_neurons"].verdict == "warn"
    assert health.failure is None


def test_a_weak_signal_of_one_percent_passes() -> None:
    signal, noise = normal(2, 5_000).astype(np.float64)
    signal = (signal - signal.mean()) / signal.std()
    noise -= noise.mean() + signal * (noise @ signal) / (signal @ signal)
    y = 0.11 * signal + noise / noise.std()
    health = diagnose(linear(), 0.11 * signal[:, None], y)
    (output,) = health.outputs
    assert output.variance_ratio == pytest.approx(0.0121 / 1.0121, rel=1e-3)
    assert output.skill == pytest.approx(0.0121 / 1.0121, rel=1e-3)
    assert health.verdicts["prediction_variance"].verdict == "pass"


@pytest.mark.parametrize(("value", "verdict"), [(0.0, "fail"), (1.0, "pass")])
def test_without_targets_only_equal_predictions_fail(value: float, verdict: str) -> None:
    x = np.zeros((10, 1), np.float32)
    x[-1] = value
    assert diagnose(linear(), x).verdicts["prediction_variance"].verdict == verdict


def test_named_outputs_are_judged_by_their_own_targets() -> None:
    inputs = keras.Input((1,))
    up, down = layers.Dense(1, name="up")(inputs), layers.Dense(1, name="down")(inputs)
    model = keras.Model(inputs, {"up": up, "down": down})
    for name, slope in (("up", 1.0), ("down", -1.0)):
        kernel, bias = np.full((1, 1), slope, np.float32), np.zeros(1, np.float32)
        model.get_layer(name).set_weights([kernel, bias])
    x = normal(50, 1)
    found = diagnose(model, x, {"up": x[:, 0], "down": -x[:, 0]}).outputs
    assert {output.name: output.skill for output in found} == pytest.approx({"up": 1, "down": 1})


# ------------------------------------------------------------------------------ streams


def sources(x: Array, y: Array, folder: Path) -> dict[str, tuple[Any, ...]]:
    """The same rows in every way that they can be had."""
    mapped = np.memmap(folder / "x.bin", np.float32, "w+", shape=x.shape)
    mapped[:] = x

    def batches(size: int = 7) -> Iterator[tuple[Array, Array]]:
        for start in range(0, len(x), size):
            yield x[start : start + size], y[start : start + size]

    return {
        "arrays": (x, y),
        "float64": (x.astype(np.float64), y.astype(np.float64)),
        "memmap": (mapped, y),
        "dataset": (tf.data.Dataset.from_tensor_slices((x, y)).batch(16),),
        "function": (batches,),
        "generator": (batches(11),),
        "uneven": (iter([(x[:1], y[:1]), (x[1:40], y[1:40]), (x[40:], y[40:])]),),
    }


def test_every_way_to_have_the_rows_gives_the_same(tmp_path: Path) -> None:
    network = Network(DESIGNS[0])
    network.reweight(np.random.default_rng(3))
    x, y = normal(100, 3), normal(100, seed=1)
    found = {
        way: diagnose(network.model, *given, gradients=True)
        for way, given in sources(x, y, tmp_path).items()
    }
    expected = found.pop("arrays").record()
    for health in found.values():
        record = health.record()
        for part in ("layers", "rows", "exact", "responding_rows", "notes"):
            assert record[part] == expected[part]
        for key in ("variance_ratio", "skill", "loss"):
            value = expected["outputs"][0][key]
            assert record["outputs"][0][key] == pytest.approx(value, rel=1e-9)


def test_a_one_shot_stream_is_read_once_and_says_what_that_leaves_open() -> None:
    norm = layers.BatchNormalization()
    model = keras.Sequential([layers.Input((1,)), norm, layers.ReLU()])
    gamma, beta, mean, variance = norm.get_weights()
    norm.set_weights([gamma, beta, mean + 1000, variance])
    x = normal(64, 1)

    again = diagnose(model, lambda: iter([x]))
    once = diagnose(model, iter([x]))

    assert again.verdicts["dead_neurons"].verdict == "warn"
    assert "the moving statistics lag" in again.verdicts["dead_neurons"].reason
    assert once.verdicts["dead_neurons"].verdict == "fail"
    (note,) = once.notes
    assert "the rows can be read only once" in note


def private_memory() -> int:
    """Bytes of this process that no file backs."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no RssAnon in /proc/self/status")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_a_mapped_file_is_never_in_memory_as_a_whole(tmp_path: Path) -> None:
    size = 300 * 2**20
    x = np.memmap(tmp_path / "x.bin", np.float32, "w+", shape=(size // 1024, 256))
    model = keras.Sequential([layers.Input((256,)), layers.Dense(4, activation="relu")])
    diagnose(model, x[:5000])
    before, peak, done = private_memory(), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.is_set():
            peak = max(peak, private_memory())
            time.sleep(0.005)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        health = diagnose(model, x)
    finally:
        done.set()
        thread.join()

    assert health.rows == len(x)
    assert peak - before < size / 4


# ------------------------------------------------------------------------------ not finite


def test_a_weight_that_is_not_finite_is_named() -> None:
    model = unit_layer([1, np.nan], [0, 0])
    health = diagnose(model, normal(5, 1))
    assert (health.finite, health.layers) == (False, ())
    assert health.verdicts["finite"].reason.endswith("/it/kernel has 1 of 2 values not finite")
    others = [check.verdict for check in health.verdicts.values() if check.check != "finite"]
    assert others == ["not_applicable"] * 3


@pytest.mark.parametrize("exhaustive", [True, False])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_input_that_is_not_finite_is_named_by_row_and_column(
    value: float, exhaustive: bool
) -> None:
    x = normal(50, 2)
    x[31, 1] = value
    model = keras.Sequential([layers.Input((2,)), layers.Dense(2, activation="relu")])
    health = diagnose(model, x, batch_size=8, exhaustive=exhaustive)
    assert not health.finite
    assert health.verdicts["finite"].reason == f"x is {value} in row 31, column 1 (from 0)"


def test_a_target_that_is_not_finite_is_named_in_a_stream_too() -> None:
    x, y = normal(50, 2), np.zeros(50)
    y[31] = np.nan
    model = linear(2, activation="softmax", loss="sparse_categorical_crossentropy")
    health = diagnose(model, lambda: iter([(x[:20], y[:20]), (x[20:], y[20:])]))
    assert health.verdicts["finite"].reason == "y is nan in row 31 (from 0)"


def test_a_batch_that_is_a_list_has_its_targets_second() -> None:
    x = normal(6, 2)
    health = diagnose(linear(2, loss="mse"), lambda: iter([[x, normal(6, 2)]]))
    assert health.outputs[0].skill is not None


def test_a_prediction_that_overflows_is_named() -> None:
    dense = layers.Dense(1)
    model = keras.Sequential([layers.Input((1,)), dense])
    dense.set_weights([np.full((1, 1), 1e38, np.float32), np.zeros(1, np.float32)])
    x = np.ones((20, 1), np.float32)
    x[13] = 100
    health = diagnose(model, x, batch_size=8)
    assert health.verdicts["finite"].reason == (
        "the prediction of 1 of 20 rows is not finite, first of row 13"
    )


# ------------------------------------------------------------------------------ refused

SOFTMAX = {"activation": "softmax", "loss": "sparse_categorical_crossentropy"}
X3 = normal(6, 3)

REFUSED: dict[str, tuple[Callable[[], keras.Model], tuple[Any, ...], str]] = {
    "lengths": (linear, (normal(6, 1), np.ones(5)), "y: expected 6 rows as in x, received 5"),
    "shape": (linear, (X3,), r"x: the model does not take inputs of shape \(3,\): .*axis -1"),
    "no rows": (linear, (normal(0, 1),), "x: expected at least one row, received none"),
    "no batches": (linear, (iter([]),), "x: expected at least one batch, received none"),
    "empty batch": (
        linear, (lambda: iter([(normal(6, 1), np.ones(6)), (normal(0, 1), np.ones(0))]),),
        "x: expected at least one row in every batch, received none; leave empty batches out",
    ),
    "empty dataset": (
        linear, (tf.data.Dataset.from_tensor_slices(X3[:0]),), "x: expected at least one batch",
    ),
    "text": (linear, (np.array([["a"], ["b"]]),), "x: expected numbers, received <U1; encode"),
    "objects": (linear, (np.array([[None]], object),), "x: expected .* received NoneType in row 0"),
    "text targets": (linear, (normal(2, 1), np.array(["a", "b"])), "y: expected numbers"),
    "text batches": (linear, (lambda: iter([np.array([["a"]])]),), "x: expected numbers"),
    "scalar": (linear, (1.0,), "x: expected rows, received a scalar"),
    "y with a dataset": (
        linear, (tf.data.Dataset.from_tensor_slices(normal(6, 1)).batch(2), np.ones(6)),
        "y: the batches bring their own targets and weights; leave it out",
    ),
    "batch of different lengths": (
        linear, (lambda: iter([(normal(6, 1), np.ones(5))]),), "y: expected 6 rows as in x",
    ),
    "four parts": (
        linear, (lambda: iter([(X3, X3, X3, X3)]),), r"x: expected x, \(x, y\) or .* 4 parts",
    ),
    "class out of range": (
        lambda: linear(3, **SOFTMAX), (X3, np.array([0, 1, 2, 0, 3, 0])),
        "y: expected class indices from 0 to 2 for 3 units, received 3 in row 4",
    ),
    "class out of range in a batch": (
        lambda: linear(3, **SOFTMAX),
        (lambda: iter([(X3, np.zeros(6)), (X3, np.array([0, 1, 2, 0, 3, 0]))]),),
        "y: expected class indices from 0 to 2 for 3 units, received 3 in row 10",
    ),
    "one-hot for sparse": (
        lambda: linear(3, **SOFTMAX), (X3, np.eye(3)[[0, 1, 2, 0, 1, 2]]),
        "y: expected one class index a row",
    ),
    "beyond 0 to 1": (
        lambda: linear(activation="sigmoid", loss="binary_crossentropy"),
        (normal(3, 1), np.array([0, 1, 2])), "y: expected targets from 0 to 1",
    ),
    "columns": (
        lambda: linear(loss="mse"), (normal(6, 1), X3), r"y: the output has shape \(1,\) a row",
    ),
}  # fmt: skip


@pytest.mark.parametrize("way", REFUSED)
def test_what_does_not_fit_is_refused_in_one_message(way: str) -> None:
    make, arguments, message = REFUSED[way]
    with pytest.raises(InvalidError, match=f"^diagnose: {message}"):
        diagnose(make(), *arguments)


def test_weights_of_another_length_are_refused() -> None:
    with pytest.raises(InvalidError, match="sample_weight: expected 6 rows as in x, received 3"):
        diagnose(linear(), normal(6, 1), np.ones(6), sample_weight=np.ones(3))


# ------------------------------------------------------------------------ shapes and numbers


@pytest.mark.parametrize(
    ("lengths", "kind"),
    [
        ((5, 7, 5), "dense"),
        ((5, 7, 5), "recurrent"),
        (tuple(range(2, 22)), "dense"),
        pytest.param(tuple(range(2, 22)), "recurrent", marks=pytest.mark.sweep),
        ((3, 300), "dense"),
        ((3, 300), "recurrent"),
    ],
)
def test_batches_of_different_lengths_are_counted_together(
    kind: str, lengths: tuple[int, ...]
) -> None:
    if kind == "dense":
        stack = [layers.Dense(4, activation="relu"), layers.GlobalAveragePooling1D()]
    else:
        stack = [layers.SimpleRNN(4, activation="relu")]
    model = keras.Sequential([layers.Input((None, 3)), *stack, layers.Dense(1)])
    generator = np.random.default_rng(0)
    batches = [generator.normal(size=(4, length, 3)).astype(np.float32) for length in lengths]
    apart = [diagnose(model, batch).layers[0] for batch in batches]

    layer = diagnose(model, lambda: iter(batches)).layers[0]

    assert not layer.partial
    assert layer.rows == sum(each.rows for each in apart)
    assert layer.active_rows.tolist() == sum(each.active_rows for each in apart).tolist()


def test_a_model_in_float64_gets_its_inputs_so() -> None:
    stack = [
        layers.Input((1,), dtype="float64"),
        layers.Dense(2, activation="relu", dtype="float64"),
    ]
    model = keras.Sequential(stack)
    model.set_weights([np.array([[1.0, -1.0]]), np.array([-1.0, 1.0])])
    health = diagnose(model, np.full((5, 1), 1 + 1e-9))
    assert health.layers[0].dead.tolist() == [1]


def test_targets_are_scored_as_exactly_as_they_are_given() -> None:
    model = keras.Sequential([layers.Input((2,)), layers.Dense(1)])
    model.set_weights([np.zeros((2, 1)), np.array([1e4])])
    x = np.random.default_rng(0).normal(size=(200, 2))
    health = diagnose(model, x, 1e4 + 1e-4 * x[:, 0])  # float32 has steps of 1e-3 there
    assert health.verdicts["prediction_variance"].verdict == "fail"


def test_every_position_may_have_a_weight() -> None:
    model = keras.Sequential([layers.Input((4, 2)), layers.Dense(1)])
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(50, 4, 2)), generator.normal(size=(50, 4, 1))
    weight = generator.uniform(0.5, 2, size=(50, 4))
    (output,) = diagnose(model, x, y, sample_weight=weight, batch_size=7).outputs
    error = (model.predict(x, verbose=0).astype(float) - y)[..., 0] ** 2
    mean = np.average(y[..., 0], weights=weight)
    best = np.average((y[..., 0] - mean) ** 2, weights=weight)
    assert output.skill == pytest.approx(1 - np.average(error, weights=weight) / best, rel=1e-5)


def test_units_that_come_with_the_length_are_not_put_together() -> None:
    total = layers.Lambda(lambda z: keras.ops.sum(z, axis=-1, keepdims=True))
    stack = [layers.Dense(1), layers.Reshape((-1,)), layers.Activation("relu"), total]
    model = keras.Sequential([layers.Input((None, 3)), *stack])
    generator = np.random.default_rng(0)
    batches = [generator.normal(size=(4, length, 3)).astype("f4") for length in (5, 7)]
    layer = diagnose(model, lambda: iter(batches)).layers[0]
    assert (layer.units, layer.rows, layer.partial) == (5, 4, True)


@pytest.mark.parametrize("shape", [(50, 3), (50, 4, 2)])
def test_weights_that_fit_no_position_are_refused(shape: tuple[int, ...]) -> None:
    model = keras.Sequential([layers.Input((4, 2)), layers.Dense(1)])
    x = np.zeros((50, 4, 2))
    with pytest.raises(InvalidError, match="sample_weight: expected one weight a row, or one for"):
        diagnose(model, x, x[..., :1], sample_weight=np.ones(shape))


def test_weights_for_each_output_are_refused() -> None:
    model = keras.Sequential([layers.Input((2,)), layers.Dense(1)])
    x = np.zeros((4, 2))
    with pytest.raises(InvalidError, match="sample_weight: expected one weight a row for all"):
        diagnose(model, x, x[:, :1], sample_weight={"a": x[:, 0]})


# --------------------------------------------------------------------------- kinds of outputs


class Ending(keras.Model):
    """A class of the user's own with a function at its end."""

    def __init__(self, units: int, function: Any) -> None:
        super().__init__()
        self.last = layers.Dense(units)
        self.function = function

    def call(self, inputs: Any) -> Any:
        return self.function(self.last(inputs))


@pytest.mark.parametrize(
    ("units", "function", "kind"),
    [
        (1, keras.ops.sigmoid, "classification"),
        (1, tf.sigmoid, "classification"),
        (2, tf.nn.softmax, "classification"),
        (2, keras.ops.softmax, "classification"),
        (2, lambda z: keras.ops.softmax(z, axis=1), "classification"),
        (1, lambda z: z, "regression"),
        (1, lambda z: 2 * tf.sigmoid(z), "regression"),
    ],
)
def test_the_kind_goes_by_what_makes_the_output(units: int, function: Any, kind: str) -> None:
    x = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    model = Ending(units, function)
    model(x[:1])
    (output,) = diagnose(model, x, (x[:, 0] > 0).astype(int)).outputs
    assert output.kind == kind
    assert output.varies


def test_every_output_has_a_kind_of_its_own() -> None:
    inputs = keras.Input((3,))
    heads = [layers.Dense(1, name="r")(inputs), layers.Dense(1, "sigmoid", name="c")(inputs)]
    x = np.random.default_rng(0).normal(size=(40, 3))
    health = diagnose(keras.Model(inputs, heads), x, (x[:, :1], (x[:, 1:2] > 0).astype(float)))
    assert [each.kind for each in health.outputs] == ["regression", "classification"]


def test_a_class_that_the_loss_ignores_does_not_count() -> None:
    drawn = keras.initializers.GlorotUniform(seed=0)
    model = keras.Sequential([layers.Input((3,)), layers.Dense(3, kernel_initializer=drawn)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)
    model.compile(loss=loss)
    generator = np.random.default_rng(0)
    # One batch: Keras takes the mean over what counts in each.
    x, y = generator.normal(size=(32, 3)), generator.integers(0, 3, 32)
    kept = generator.random(32) < 0.7
    (output,) = diagnose(model, x, np.where(kept, y, -1)).outputs
    (alone,) = diagnose(model, x[kept], y[kept]).outputs
    assert (output.loss, output.skill) == pytest.approx((alone.loss, alone.skill), abs=1e-5)


@pytest.mark.parametrize("loss", [keras.losses.Circle(), keras.losses.CTC()])
def test_a_loss_that_compares_other_shapes_leaves_the_predictions_unscored(loss: Any) -> None:
    model = keras.Sequential([layers.Input((4,)), layers.Dense(3), layers.Reshape((3, 1))])
    model.compile(loss=loss)
    health = diagnose(model, np.random.default_rng(0).normal(size=(20, 4)), np.zeros((20, 2)))
    assert [each.varies for each in health.outputs] == [None]


@pytest.mark.parametrize(("end", "kind"), [(tf.nn.softmax, "classification"),
                                           (tf.sigmoid, "regression")])  # fmt: skip
def test_a_loss_of_ones_own_may_take_targets_that_keras_would_not(end: Any, kind: str) -> None:
    model = Ending(3, end)
    x = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    model(x[:1])
    model.compile(loss=lambda y, p: p[:, 0])
    y = np.where(np.arange(40) % 4, np.argmax(x, axis=1), -1)
    if kind == "regression":
        y = 255 * np.abs(x)
    health = diagnose(model, x, y)
    assert {each.kind for each in health.outputs} == {kind}
    assert not any(each.varies is False for each in health.outputs)


def test_verdicts_are_a_mapping_from_the_names_of_the_checks() -> None:
    x = np.arange(4.0)[:, None]
    verdicts = diagnose(linear(), x, x[:, 0]).verdicts
    names = ["finite", "findings", "dead_neurons", "prediction_variance", "learned"]
    assert list(verdicts) == [*verdicts.keys()] == names
    assert [name for name, check in verdicts.items() if check.check == name] == names
    assert list(verdicts.values()) == [verdicts[name] for name in names]
    assert len(verdicts) == len(names)
    assert "finite" in verdicts
    assert verdicts.get("dead_units") is None
    assert dict(verdicts) == verdicts
    assert repr(verdicts).startswith("Verdicts({'finite': 'pass', 'findings': ")
    with pytest.raises(KeyError, match="Expected one of finite, findings, dead_neurons, predict"):
        verdicts["dead"]


def test_an_output_whose_loss_is_weighted_by_nothing_is_not_judged() -> None:
    x = np.random.default_rng(0).normal(size=(64, 3)).astype("float32")
    inputs = keras.Input((3,))
    heads = {name: keras.layers.Dense(1, name=name)(inputs) for name in ("price", "aside")}
    model = keras.Model(inputs, heads)
    y = {"price": model.predict(x, verbose=0)["price"], "aside": x[:, :1] + 100}
    for weight, expected in ((1.0, "fail"), (0.0, "pass")):
        weights = {"price": 1.0, "aside": weight}
        model.compile("sgd", loss={"price": "mse", "aside": "mse"}, loss_weights=weights)
        health = diagnose(model, x, y)
        assert health.verdicts["prediction_variance"].verdict == expected
