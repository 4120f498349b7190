"""Outputs and the targets that belong to them, for every way in which Keras writes them."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from orchestrator.data.rows import Rows
from orchestrator.diagnosis.diagnose import diagnose
from orchestrator.errors import InvalidError, UserCodeError
from orchestrator.model.losses.targets import check_classes, check_targets
from orchestrator.model.outputs import Output, find_outputs, find_untrained
from tests import builders

layers = keras.layers
X = np.arange(8.0, dtype=np.float32).reshape(4, 2)
PRICE = np.arange(4.0, dtype=np.float32)
KIND = np.array([0, 2, 1, 0])
BOTH = {"price": PRICE, "kind": KIND}
LOSSES = {"price": "mse", "kind": "sparse_categorical_crossentropy"}


class Own(keras.Model):
    """A model of the user's own class that returns its two outputs as the test wants them."""

    def __init__(self, shape: Any) -> None:
        super().__init__()
        self.price = layers.Dense(1)
        self.kind = layers.Dense(3, activation="softmax")
        self.shape_of = shape

    def call(self, x: Any) -> Any:
        return self.shape_of(self.price(x), self.kind(x))


def two(form: str = "list", loss: Any = None, **arguments: Any) -> keras.Model:
    """A model with the outputs price and kind, as a list, a dict or from a class of its own."""
    inputs = keras.Input((2,))
    price = layers.Dense(1, name="price")(inputs)
    kind = layers.Dense(3, activation="softmax", name="kind")(inputs)
    model = {
        "list": lambda: keras.Model(inputs, [price, kind]),
        "dict": lambda: keras.Model(inputs, {"price": price, "kind": kind}),
        "own dict": lambda: Own(lambda price, kind: {"price": price, "kind": kind}),
        "own tuple": lambda: Own(lambda price, kind: (price, kind)),
    }[form]()
    model.compile(loss=LOSSES if loss is None else loss, **arguments)
    model(X)
    return model


def one(units: int, loss: Any, activation: str | None = None) -> keras.Model:
    dense = layers.Dense(units, activation=activation, name="out")
    model = keras.Sequential([layers.Input((2,)), dense])
    model.compile(loss=loss)
    return model


def found(model: keras.Model, y: Any) -> list[tuple[str, str | None, str]]:
    outputs = find_outputs(model, builders.config(), Rows(x=X, y=y))
    return [(output.name, output.target, output.form) for output in outputs]


def refused(model: keras.Model, y: Any, /, **sections: Any) -> str:
    config = builders.config(**sections)
    with pytest.raises(InvalidError, match=".") as caught:
        check_targets(model, config, Rows(x=X, y=y))
    return "\n".join(map(str, caught.value.problems))


# ------------------------------------------------------------------------------- matching


@pytest.mark.parametrize("form", ["list", "dict", "own dict"])
def test_targets_by_name_belong_to_the_outputs_of_that_name(form: str) -> None:
    model = two(form)
    expected = {("price", "price", "regression"), ("kind", "kind", "sparse")}
    outputs = find_outputs(model, builders.config(), Rows(x=X, y=BOTH))
    assert {(output.name, output.target, output.form) for output in outputs} == expected
    assert {output.name: output.shape for output in outputs} == {"price": (1,), "kind": (3,)}
    for output in outputs:
        assert output.targets(BOTH) is BOTH[output.name]
    check_targets(model, builders.config(), Rows(x=X, y=BOTH))


@pytest.mark.parametrize("form", ["list", "own tuple"])
@pytest.mark.parametrize("loss", [list(LOSSES.values())])
def test_targets_by_position_belong_to_the_outputs_in_order(form: str, loss: Any) -> None:
    model = two(form, loss)
    y = (PRICE, KIND)
    names = ("price", "kind") if form == "list" else ("0", "1")
    assert found(model, y) == [(names[0], "0", "regression"), (names[1], "1", "sparse")]
    check_targets(model, builders.config(), Rows(x=X, y=y))


@pytest.mark.parametrize("y", [PRICE, {"out": PRICE}, (PRICE,)])
def test_the_only_targets_belong_to_the_only_output(y: Any) -> None:
    inputs = keras.Input((2,))
    model = keras.Model(inputs, {"out": layers.Dense(1, name="out")(inputs)})
    model.compile(loss="mse")
    ((name, _, form),) = found(model, y)
    assert (name, form) == ("", "regression")
    check_targets(model, builders.config(), Rows(x=X, y=y))


def test_one_loss_is_the_loss_of_every_output() -> None:
    inputs = keras.Input((2,))
    model = keras.Model(inputs, [layers.Dense(1)(inputs), layers.Dense(1)(inputs)])
    model.compile(loss="mae")
    assert [form for _, _, form in found(model, (PRICE, PRICE))] == ["regression"] * 2


@pytest.mark.parametrize("form", ["list", "dict"])
@pytest.mark.parametrize("weight", [0, 0.0, 0.01])
def test_an_output_whose_loss_counts_for_nothing_is_not_trained(form: str, weight: float) -> None:
    model = two(form, loss_weights={"price": 1.0, "kind": weight})
    outputs = find_outputs(model, builders.config(), Rows(x=X, y=BOTH))
    assert {each.name: each.trained for each in outputs} == {"price": True, "kind": weight > 0}
    told = {each.name: each.unjudged for each in outputs}
    assert told == {"price": None, "kind": None if weight else "its loss has a weight of 0"}
    untrained = find_untrained(model, builders.config(), Rows(x=X, y=BOTH))
    assert [outputs[index].name for index in untrained] == ["kind"] * (weight == 0)


def test_an_output_without_targets_has_none() -> None:
    model = two("dict", {"price": "mse"})
    outputs = {output.name: output for output in find_outputs(
        model, builders.config(), Rows(x=X, y={"price": PRICE})
    )}  # fmt: skip
    assert outputs["kind"].target is None
    assert outputs["kind"].targets({"price": PRICE}) is None
    assert (outputs["price"].form, outputs["kind"].form) == ("regression", "sparse")


@pytest.mark.parametrize(
    ("loss", "y", "places"),
    [
        (["mse", None], PRICE, ["", None]),
        (["mse", None], (PRICE,), ["0", None]),
        (["mse", None], (PRICE, None), ["0", None]),
        (["mse", None], (PRICE, KIND), ["0", "1"]),
        ([None, LOSSES["kind"]], KIND, [None, ""]),
        ([None, LOSSES["kind"]], (None, KIND), [None, "1"]),
    ],
)
def test_as_many_targets_as_losses_belong_to_the_outputs_that_have_one(
    loss: Any, y: Any, places: list[str | None]
) -> None:
    model = two("own tuple", loss)
    assert [target for _, target, _ in found(model, y)] == places
    check_targets(model, builders.config(), Rows(x=X, y=y))


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (PRICE, "data.train: the model has the outputs price, kind, the targets are one array; give targets by output name: a dict of arrays, or target: {OUTPUT: COLUMN, …}"),  # noqa: E501
        ((PRICE, KIND, KIND), "data.train: the model has 2 outputs, there are targets for 3"),
        ((PRICE,), "data.train: the model has 2 outputs, there are targets for 1"),
        ({"prise": PRICE, "kind": KIND}, "data.train: the model has no output 'prise' for these targets; did you mean 'price'?"),  # noqa: E501
    ],
)  # fmt: skip
def test_targets_that_belong_to_no_output_are_refused(y: Any, message: str) -> None:
    assert message in refused(two(), y)


def test_names_of_targets_are_refused_where_keras_knows_none_of_the_output() -> None:
    message = "the model has one output, the targets have names: out; give them as one array"
    assert message in refused(one(1, "mse"), {"out": PRICE})


# ------------------------------------------------------------------------------- forms


@pytest.mark.parametrize(
    ("loss", "activation", "form", "from_logits"),
    [
        ("sparse_categorical_crossentropy", "softmax", "sparse", False),
        (keras.losses.SparseCategoricalCrossentropy(from_logits=True), None, "sparse", True),
        (keras.losses.sparse_categorical_crossentropy, "softmax", "sparse", False),
        (lambda y, p: keras.ops.mean(p), "softmax", "sparse", False),
        ("mse", "softmax", "regression", False),
    ],
)
def test_the_form_of_an_output_is_that_of_its_loss(
    loss: Any, activation: str | None, form: str, from_logits: bool
) -> None:
    model = one(3, loss, activation)
    (output,) = find_outputs(model, builders.config(), Rows(x=X, y=KIND))
    assert (output.form, output.from_logits) == (form, from_logits)


@pytest.mark.parametrize(
    ("units", "y", "kind", "form"),
    [
        (1, PRICE, "classification", "binary"),
        (3, KIND, "classification", "sparse"),
        (3, np.eye(3)[KIND], "classification", "categorical"),
        (3, np.eye(3)[KIND], "regression", "regression"),
        (3, KIND, None, "regression"),
    ],
)
def test_the_kind_of_the_config_outweighs_the_loss(
    units: int, y: Any, kind: str | None, form: str
) -> None:
    output = Output(name="", target="", shape=(units,), form="regression", from_logits=True)
    read = output.read_as(kind, y)
    assert read.form == form
    assert read.from_logits is (kind != "regression")


# ------------------------------------------------------------------------------- without skill


class OwnStep(keras.Model):
    """A model that trains in a way that only it knows."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = layers.Dense(1)

    def call(self, x: Any) -> Any:
        return self.dense(x)

    def train_step(self, data: Any) -> Any:
        return {}


class OwnLoss(keras.Model):
    """A model that computes its loss itself."""

    def compute_loss(self, **arguments: Any) -> Any:
        return keras.ops.mean(arguments["y_pred"])


def test_an_output_that_trains_on_another_loss_than_the_compiled_one_is_not_judged() -> None:
    own = OwnStep()
    own.compile(loss="mse")
    own(X)
    (output,) = find_outputs(own, builders.config(), Rows(x=X, y=PRICE))
    assert output.unjudged == "the model has a train_step of its own"
    inputs = keras.Input((2,))
    computing = OwnLoss(inputs, layers.Dense(1)(inputs))
    computing.compile(loss="mse")
    (output,) = find_outputs(computing, builders.config(), Rows(x=X, y=PRICE))
    assert output.unjudged == "the model has a compute_loss of its own"


def test_an_output_without_a_loss_is_not_judged_where_the_model_is_compiled() -> None:
    model = two("dict", {"price": "mse", "kind": None})
    y = {"price": PRICE, "kind": KIND}
    told = {each.name: each.unjudged for each in find_outputs(
        model, builders.config(), Rows(x=X, y=y)
    )}  # fmt: skip
    assert told == {"price": None, "kind": "no loss is compiled for it"}
    bare = keras.Sequential([layers.Input((2,)), layers.Dense(1)])
    (output,) = find_outputs(bare, builders.config(), Rows(x=X, y=PRICE))
    assert output.unjudged is None


# ------------------------------------------------------------------------------- misfits


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": KIND + 1}, "output kind: expected class indices from 0 to 2 for 3 units, received 3 in training row 1 (from 0)"),  # noqa: E501
        ({"kind": KIND - 1}, "output kind: expected class indices from 0 to 2 for 3 units, received -1 in training row 0 (from 0)"),  # noqa: E501
        ({"kind": KIND + 0.5}, "output kind: expected class indices from 0 to 2 for 3 units, received 0.5 in training row 0 (from 0)"),  # noqa: E501
        ({"kind": np.eye(3)[KIND]}, "output kind: expected one class index a row, received targets of shape (3,)"),  # noqa: E501
        ({"price": np.stack([PRICE, PRICE], axis=1)}, "output price: the output has shape (1,) a row, the targets have (2,)"),  # noqa: E501
    ],
)  # fmt: skip
def test_targets_that_a_loss_cannot_take_are_named_with_their_output(
    change: dict[str, Any], message: str
) -> None:
    assert message in refused(two(), BOTH | change)


def test_every_output_that_does_not_fit_is_named_at_once() -> None:
    y = {"price": np.stack([PRICE, PRICE], axis=1), "kind": KIND + 1}
    assert len(refused(two(), y).splitlines()) == 2


@pytest.mark.parametrize(
    ("model", "y", "message"),
    [
        (one(1, "binary_crossentropy", "sigmoid"), PRICE, "expected targets from 0 to 1 for a cross-entropy, received 2 in training row 2 (from 0)"),  # noqa: E501
        (one(3, "categorical_crossentropy", "softmax"), KIND, "the output has shape (3,) a row, the targets have (); class indices need sparse_categorical_crossentropy"),  # noqa: E501
        (one(2, "mse"), PRICE, "the output has shape (2,) a row, the targets have ()"),
    ],
)  # fmt: skip
def test_what_keras_would_broadcast_is_refused(model: keras.Model, y: Any, message: str) -> None:
    assert message in refused(model, y)


@pytest.mark.parametrize(
    ("model", "y", "hint"),
    [
        (one(3, "sparse_categorical_crossentropy", "softmax"), KIND + 1, "the labels start at 1: subtract 1"),  # noqa: E501
        (one(2, "sparse_categorical_crossentropy", "softmax"), KIND, "give the last layer 3 units, one for each class"),  # noqa: E501
        (one(1, "sparse_categorical_crossentropy", "sigmoid"), KIND % 2, "one unit of sigmoid takes binary_crossentropy"),  # noqa: E501
        (one(3, "sparse_categorical_crossentropy", "softmax"), np.eye(3)[KIND], "one-hot targets need categorical_crossentropy"),  # noqa: E501
        (one(1, "binary_crossentropy", "sigmoid"), 2 * (KIND % 2) - 1, "write the two classes as 0 and 1, not -1 and 1"),  # noqa: E501
        (one(1, "binary_crossentropy", "sigmoid"), KIND, "3 classes need 3 units of softmax and sparse_categorical_crossentropy"),  # noqa: E501
        (one(3, "mse"), KIND, "class indices need softmax and sparse_categorical_crossentropy"),
    ],
)  # fmt: skip
def test_a_refusal_says_what_to_write(model: keras.Model, y: Any, hint: str) -> None:
    assert refused(model, y).endswith(f"; {hint}")


@pytest.mark.parametrize(
    ("sections", "key"),
    [
        ({"compile": {"loss": "mse"}}, "compile.loss"),
        ({"compile": None, "model": {"file": "m.keras"}}, "model.file"),
        ({"compile": None, "model": {"factory": {"callable": "m:f"}}}, "model.factory"),
    ],
)
def test_a_misfit_is_the_fault_of_who_has_chosen_the_loss(
    sections: dict[str, Any], key: str
) -> None:
    assert f"{key}: the output has shape" in refused(one(2, "mse"), PRICE, **sections)


def test_what_a_mask_or_a_weight_leaves_out_may_be_any_number() -> None:
    embedding = layers.Embedding(9, 2, mask_zero=True)
    model = keras.Sequential([layers.Input((4,)), embedding, layers.Dense(1, activation="sigmoid")])
    model.compile("sgd", "binary_crossentropy")
    x = np.array([[3, 1, 0, 0], [2, 2, 5, 0], [1, 1, 1, 1]])
    y = np.where(x > 0, x % 2, -1)[..., None]
    found = diagnose(model, x, y)
    assert found.outputs[0].loss == pytest.approx(model.evaluate(x, y, verbose=0), rel=1e-5)
    check_targets(model, builders.config(), Rows(x=x, y=y))

    single = one(1, "binary_crossentropy", "sigmoid")
    y = np.where(np.arange(len(X)) % 2, KIND % 2, -1)
    weight = (y >= 0).astype(np.float32)
    check_targets(single, builders.config(), Rows(x=X, y=y, weight=weight))
    found = diagnose(single, X, y, sample_weight=weight)
    logged = single.evaluate(X, y, sample_weight=weight, verbose=0)
    assert found.outputs[0].loss == pytest.approx(logged, rel=1e-5)
    assert "expected targets from 0 to 1" in refused(single, y)
    check_targets(single, builders.config(), Rows(x=X, y=np.where(y < 0, 0, y + 2e-16)))


def test_a_loss_of_the_users_own_may_take_targets_of_another_shape() -> None:
    """Mean and logarithm of the deviation for one number, as a model of uncertainty has them."""

    def likelihood(y: Any, p: Any) -> Any:
        mean, log = p[:, :1], p[:, 1:]
        return keras.ops.mean(log + keras.ops.square(y - mean) * keras.ops.exp(-2 * log))

    model = one(2, likelihood)
    check_targets(model, builders.config(), Rows(x=X, y=PRICE))
    assert found(model, PRICE) == [("", None, "regression")]


def test_a_loss_that_raises_is_the_users_code() -> None:
    def broken(y: Any, p: Any) -> Any:
        raise RuntimeError("no loss today")

    with pytest.raises(UserCodeError, match=r"your code raised RuntimeError: no loss today \(.*test_outputs\.py:\d+, in broken\)"):  # fmt: skip  # noqa: E501
        check_targets(one(1, broken), builders.config(), Rows(x=X, y=PRICE))


def test_trying_the_loss_leaves_no_trace_in_the_metrics() -> None:
    model = one(1, "mse")
    check_targets(model, builders.config(), Rows(x=X, y=PRICE))
    assert all(float(metric.result()) == 0 for metric in model.metrics)


def test_texts_are_no_targets_of_a_regression() -> None:
    outputs = find_outputs(one(1, "mse"), builders.config(), Rows(x=X, y=PRICE))
    with pytest.raises(InvalidError, match=r"the target color holds texts \(2 classes\), the loss is a regression; use sparse_categorical"):  # fmt: skip  # noqa: E501
        check_classes(outputs, builders.config(), {"color": ("blue", "red")})


def test_texts_as_targets_of_one_of_two_outputs_must_belong_to_a_classification() -> None:
    outputs = find_outputs(two(), builders.config(), Rows(x=X, y=BOTH))
    check_classes(outputs, builders.config(), {"kind": ("blue", "green", "red")})


class Absolute(keras.metrics.Metric):
    """A metric of the user's own, which mixes no types."""

    def __init__(self) -> None:
        super().__init__(name="absolute")
        self.total = self.add_weight(name="total", initializer="zeros")

    def update_state(self, y: Any, p: Any, sample_weight: Any = None) -> None:
        error = tf.abs(y - p) if sample_weight is None else tf.abs(y - p) * sample_weight
        self.total.assign_add(tf.reduce_sum(error))

    def result(self) -> Any:
        return tf.convert_to_tensor(self.total)


@pytest.mark.parametrize("weight", [None, np.ones(4)])
def test_the_users_own_metric_gets_targets_as_in_training(weight: Any) -> None:
    model = keras.Sequential([layers.Input((2,)), layers.Dense(1)])
    model.compile(loss="mse", metrics=[Absolute()])
    rows = Rows(x=X, y=np.arange(4.0)[:, None], weight=weight)
    check_targets(model, builders.config(), rows)
