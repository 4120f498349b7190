"""The loss that is told of an output is the one that Keras logs for the same rows."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from orchestrator.data.rows import Rows
from orchestrator.diagnosis.diagnose import Arguments, diagnose
from orchestrator.diagnosis.skill.scores import Scores
from orchestrator.diagnosis.tracing.probe import Probe
from orchestrator.model.outputs import find_outputs

layers, losses = keras.layers, keras.losses
ROWS, STEPS, CLASSES = 96, 5, 3
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(ROWS, 4)).astype(np.float32)


def numbers(shape: tuple[int, ...]) -> Any:
    return RANDOM.uniform(0.1, 2.0, shape)


def counts(shape: tuple[int, ...]) -> Any:
    return RANDOM.poisson(3.0, shape).astype(np.float32)


def truths(shape: tuple[int, ...]) -> Any:
    return (RANDOM.uniform(size=shape) < 0.3).astype(np.float32)


def one_hot(shape: tuple[int, ...]) -> Any:
    return np.eye(shape[-1])[RANDOM.integers(0, shape[-1], shape[:-1])]


def indices(shape: tuple[int, ...]) -> Any:
    return RANDOM.integers(0, shape[-1], shape[:-1])


def labels(shape: tuple[int, ...]) -> Any:
    return RANDOM.integers(1, shape[-1], (shape[0], 2))


ALL = ("n", "n1", "nk", "ntk")
KINDS: dict[str, tuple[str | None, Callable[..., Any], tuple[str, ...]]] = {
    "BinaryCrossentropy": ("sigmoid", truths, ALL),
    "BinaryFocalCrossentropy": ("sigmoid", truths, ALL),
    "CTC": (None, labels, ("ntk",)),
    "CategoricalCrossentropy": ("softmax", one_hot, ("nk", "ntk")),
    "CategoricalFocalCrossentropy": ("softmax", one_hot, ("nk", "ntk")),
    "CategoricalGeneralizedCrossEntropy": ("softmax", indices, ("nk", "ntk")),
    "CategoricalHinge": (None, one_hot, ("nk", "ntk")),
    "Circle": (None, indices, ("nk",)),
    "CosineSimilarity": (None, numbers, ALL),
    "Dice": ("sigmoid", truths, ALL),
    "Hinge": (None, truths, ALL),
    "Huber": (None, numbers, ALL),
    "KLDivergence": ("softmax", one_hot, ("nk", "ntk")),
    "LogCosh": (None, numbers, ALL),
    "MeanAbsoluteError": (None, numbers, ALL),
    "MeanAbsolutePercentageError": (None, numbers, ALL),
    "MeanSquaredError": (None, numbers, ALL),
    "MeanSquaredLogarithmicError": ("softplus", numbers, ALL),
    "Poisson": ("softplus", counts, ALL),
    "SparseCategoricalCrossentropy": ("softmax", indices, ("nk", "ntk")),
    "SquaredHinge": (None, truths, ALL),
    "Tversky": ("sigmoid", truths, ALL),
}
"""Each loss of Keras's: the activation of its output, its targets, and the shapes that it takes."""


def test_no_loss_of_keras_is_left_out() -> None:
    public = vars(losses).values()
    classes = {each for each in public if inspect.isclass(each) and each is not losses.Loss}
    assert {each.__name__ for each in classes} == set(KINDS)
    functions = {each for each in public if inspect.isfunction(each)}
    functions -= {losses.get, losses.serialize, losses.deserialize}
    assert {each().fn for each in classes} == functions


def shape_of(name: str) -> tuple[int, ...]:
    return {"n": (ROWS, 1), "n1": (ROWS, 1), "nk": (ROWS, CLASSES), "ntk": (ROWS, STEPS, CLASSES)}[
        name
    ]


def logged(model: keras.Model, y: Any, weight: Any = None, **options: Any) -> Any:
    """What Keras says, step by step: a graph of many losses takes it seconds."""
    model.run_eagerly = True
    found = model.evaluate(X, y, sample_weight=weight, verbose=0, **options)
    model.run_eagerly = False
    return found


def told(
    model: keras.Model,
    y: Any,
    weight: Any = None,
    batch_size: int = 32,
    probe: Probe | None = None,
) -> dict[str, float]:
    """The figure of each output, without a look for the best constants."""
    rows = Rows(x=X, y=y, weight=weight)
    outputs = find_outputs(model, Arguments(), rows)
    scores = Scores(outputs, batch_size)
    (probe or Probe(model)).measure(rows, see=lambda _, *seen: scores.see(*seen))
    found: dict[str, list[Any]] = {}
    for column in (each for columns in scores.columns(complete=False) for each in columns):
        found.setdefault(column.name, []).append(column.loss)
    return {name: float(np.mean(values)) for name, values in found.items()}


@pytest.mark.parametrize("form", ALL)
def test_the_figure_of_every_loss_is_what_keras_logs(form: str) -> None:
    shape = shape_of(form)
    names = [name for name, (_, _, forms) in KINDS.items() if form in forms]
    if form == "ntk":
        names.remove("CTC")  # has one loss a sequence, and takes no weights of its positions
    inputs, hidden = keras.Input((4,)), int(np.prod(shape[1:]))
    made, y = {}, {}
    for name in names:
        activation, targets, _ = KINDS[name]
        values = layers.Reshape(shape[1:])(layers.Dense(hidden)(inputs))
        made[name] = layers.Activation(activation or "linear", name=name)(values)
        y[name] = targets(shape).reshape(ROWS) if form == "n" else targets(shape)
    model = keras.Model(inputs, made)
    model.compile(loss={name: getattr(losses, name)() for name in names})
    probe = Probe(model)
    for weight in (None, RANDOM.uniform(0.2, 3.0, shape[:-1])):
        weights = None if weight is None else dict.fromkeys(names, weight)
        known = logged(model, y, weights, return_dict=True)
        expected = {name: known[f"{name}_loss"] for name in names}
        assert told(model, y, weight, probe=probe) == pytest.approx(expected, rel=2e-5, abs=1e-6)


def test_the_figure_of_ctc_is_what_keras_logs() -> None:
    model = one(STEPS * CLASSES, "ctc", layers.Reshape((STEPS, CLASSES)))
    y = labels(shape_of("ntk"))
    for weight in (None, RANDOM.uniform(0.2, 3.0, ROWS)):
        known = logged(model, y, weight)
        assert told(model, y, weight)[""] == pytest.approx(known, rel=2e-5)


@pytest.mark.parametrize("name", ["CTC", "Circle"])
def test_two_losses_of_keras_are_not_judged_for_skill(name: str) -> None:
    form = KINDS[name][2][0]
    shape = shape_of(form)
    end = layers.Reshape(shape[1:])
    y = KINDS[name][1](shape)
    (output,) = diagnose(one(int(np.prod(shape[1:])), getattr(losses, name)(), end), X, y).outputs
    assert output.unjudged in (
        "its loss aligns sequences of different lengths",
        "its loss compares the rows of a batch with each other",
    )
    assert output.loss is not None
    assert output.skill is None


def test_every_other_loss_of_keras_is_judged_for_skill() -> None:
    names = [name for name, (_, _, forms) in KINDS.items() if "nk" in forms and name != "Circle"]
    inputs, shape = keras.Input((4,)), shape_of("nk")
    made = {
        name: layers.Dense(CLASSES, activation=KINDS[name][0], name=name)(inputs) for name in names
    }
    model = keras.Model(inputs, made)
    model.compile(loss={name: getattr(losses, name)() for name in names})
    outputs = diagnose(model, X, {name: KINDS[name][1](shape) for name in names}).outputs
    # The targets of hinge are 0 and 1, which Keras makes -1 and 1.
    assert {each.name for each in outputs if each.skill is not None} == set(names)
    assert all(each.unjudged is None for each in outputs)
    for each in outputs:
        assert each.constant_loss is not None
        assert each.constant_loss > (each.lowest_loss or 0.0)


# ------------------------------------------------------------------------------- as it was given


class Squared(losses.Loss):
    """A loss of the user's own class, which puts each prediction beside each target by mistake."""

    def call(self, y: Any, p: Any) -> Any:
        return keras.ops.mean(keras.ops.square(y - p), axis=-1)


class Halved(losses.MeanSquaredError):
    """One that only looks like Keras's."""

    def call(self, y: Any, p: Any) -> Any:
        return super().call(y, p) / 2


def cubed(y: Any, p: Any) -> Any:
    return keras.ops.mean(keras.ops.abs(y - p) ** 3)


def one(units: int, loss: Any, end: Any = None, **options: Any) -> keras.Model:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    found = layers.Dense(units, kernel_initializer=keras.initializers.RandomNormal(stddev=3))(
        inputs
    )
    model = keras.Model(inputs, found if end is None else end(found))
    model.compile(loss=loss, **options)
    return model


SOFTMAX = layers.Softmax()
NUMBERS, TRUTHS, INDICES = numbers((ROWS,)), truths((ROWS, 1)), indices((ROWS, CLASSES))


@pytest.mark.parametrize(
    ("units", "loss", "end", "y"),
    [
        (1, "mse", None, NUMBERS),
        (1, losses.mean_squared_error, None, NUMBERS),
        (1, losses.MeanSquaredError, None, NUMBERS),
        (1, [losses.Huber(delta=0.3)], None, NUMBERS),
        (1, functools.partial(losses.huber, delta=0.2), None, NUMBERS),
        (1, lambda y, p: keras.ops.abs(y - p), None, NUMBERS),
        (1, cubed, None, NUMBERS),
        (1, Squared(), None, NUMBERS),
        (1, Halved(), None, NUMBERS),
        (1, losses.MeanSquaredError(reduction="sum"), None, NUMBERS),
        (1, losses.MeanSquaredError(reduction="mean_with_sample_weight"), None, NUMBERS),
        (1, losses.MeanSquaredError(reduction=None), None, NUMBERS),
        (1, "crossentropy", tf.sigmoid, TRUTHS),
        (3, "crossentropy", SOFTMAX, INDICES),
        # Keras goes back to the logits where a softmax or sigmoid makes the output itself.
        (3, losses.SparseCategoricalCrossentropy(from_logits=True), SOFTMAX, INDICES),
        (3, losses.SparseCategoricalCrossentropy(from_logits=True), None, INDICES),
        (3, losses.SparseCategoricalCrossentropy(), layers.Activation("softmax"), INDICES),
        (1, losses.BinaryCrossentropy(from_logits=True), layers.Activation("sigmoid"), TRUTHS),
        (3, losses.BinaryCrossentropy(), SOFTMAX, np.eye(3)[INDICES]),
        # It does not where something else comes after that.
        (3, losses.SparseCategoricalCrossentropy(from_logits=True),
         lambda z: layers.Reshape((3,))(layers.Softmax()(z)), INDICES),
        (3, losses.CategoricalCrossentropy(label_smoothing=0.2), SOFTMAX, np.eye(3)[INDICES]),
        (1, losses.BinaryCrossentropy(label_smoothing=0.2), tf.sigmoid, TRUTHS),
        (3, losses.SparseCategoricalCrossentropy(ignore_class=1), SOFTMAX, INDICES),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:.*received `from_logits=True`")
def test_a_loss_is_read_as_keras_resolves_it(units: int, loss: Any, end: Any, y: Any) -> None:
    layer = layers.Lambda(end) if end in (tf.sigmoid,) else end
    model = one(units, loss, layer)
    probe, weight = Probe(model), RANDOM.uniform(0.2, 3.0, ROWS)
    for given in (None, weight):
        known = logged(model, y, given)
        assert told(model, y, given, probe=probe)[""] == pytest.approx(known, rel=2e-5, abs=1e-6)


@pytest.mark.parametrize("size", [32, 50])
@pytest.mark.parametrize("loss", ["mse", "dice", losses.MeanSquaredError(reduction="sum")])
def test_the_batches_are_those_of_the_training(loss: Any, size: int) -> None:
    model = one(1, loss, layers.Activation("sigmoid"))
    known = logged(model, TRUTHS, batch_size=size)
    assert told(model, TRUTHS, batch_size=size)[""] == pytest.approx(known, rel=2e-5)


def test_neither_regularisation_nor_added_losses_nor_loss_weights_count() -> None:
    inputs = keras.Input((4,))
    found = layers.Dense(1, kernel_regularizer="l2")(inputs)
    found = layers.ActivityRegularization(l2=0.1)(found)
    model = keras.Model(inputs, found)
    model.compile(loss="mse", loss_weights=[3.0], metrics=["mse"])
    known = logged(model, NUMBERS, return_dict=True)
    assert told(model, NUMBERS)[""] == pytest.approx(known["mse"], rel=1e-5)


def test_what_keras_masks_does_not_count() -> None:
    inputs = keras.Input((STEPS,), dtype="int32")
    found = layers.Embedding(5, 4, mask_zero=True)(inputs)
    model = keras.Model(inputs, layers.TimeDistributed(layers.Dense(1))(found))
    model.compile(loss="mse")
    x, y = RANDOM.integers(0, 5, (32, STEPS)), numbers((32, STEPS, 1))
    (output,) = diagnose(model, x, y).outputs
    assert output.loss == pytest.approx(model.evaluate(x, y, verbose=0), rel=1e-5)
    assert output.constant_loss == pytest.approx(y[x > 0].var(), rel=1e-3)


def test_a_loss_that_fails_is_told_of_and_the_rest_is_looked_at() -> None:
    def refusing(y: Any, p: Any) -> Any:
        raise ValueError("never today")

    health = diagnose(one(1, refusing), X, NUMBERS)
    assert health.outputs[0].unjudged == "its loss fails on these targets: never today"
    assert health.verdicts["prediction_variance"].verdict == "pass"
    assert health.outputs[0].variance_ratio is not None


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize(
    ("loss", "activation", "low", "high"),
    [("mse", None, 290.0, 310.0), ("binary_crossentropy", "sigmoid", 0.0, 1.0)],
)
def test_half_precision_ends_in_front_of_the_loss(
    policy: str, loss: str, activation: str | None, low: float, high: float
) -> None:
    last = layers.Dense(2, activation=activation, dtype=policy)
    model = keras.Sequential([keras.Input((4,)), last])
    model.compile(loss=loss)
    y = RANDOM.uniform(low, high, (ROWS, 2)).astype(np.float32)
    assert told(model, y)[""] == pytest.approx(logged(model, y), rel=1e-4)


def test_the_weight_of_a_row_is_that_of_its_pixels() -> None:
    model = keras.Sequential([keras.Input((4,)), layers.Dense(6), layers.Reshape((2, 3, 1))])
    model.compile(loss="mse")
    y = RANDOM.normal(size=(ROWS, 2, 3, 1)).astype(np.float32)
    weight = RANDOM.uniform(0.2, 3.0, ROWS)
    every = np.broadcast_to(weight[:, None, None], (ROWS, 2, 3))
    assert told(model, y, weight)[""] == pytest.approx(logged(model, y, every), rel=1e-5)
