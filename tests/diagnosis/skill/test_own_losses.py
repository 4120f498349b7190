"""What a model is worth by the loss that trains it, whatever that is."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
import pytest

from orchestrator import diagnose
from orchestrator.config.sections.checks import Checks
from orchestrator.data.rows import Rows
from orchestrator.diagnosis.diagnose import Arguments
from orchestrator.diagnosis.examine import examine
from orchestrator.diagnosis.tracing.probe import Probe
from orchestrator.diagnosis.verdicts.checks import Evidence
from orchestrator.model.outputs import find_outputs

layers = keras.layers


def _fitted(loss: Any, units: int = 1, activation: str | None = None) -> keras.Model:
    """A model of four inputs whose outputs are close to their first column."""
    kernel = np.zeros((4, units), np.float32)
    kernel[0] = 3.0
    out = layers.Dense(units, activation=activation)
    model = keras.Sequential([layers.Input((4,)), out])
    out.set_weights([kernel, np.zeros(units, np.float32)])
    model.compile(loss=loss)
    return model


FOUR = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)


def _contrastive(t: Any, d: Any) -> Any:
    return keras.ops.mean((1 - t) * d**2 + t * keras.ops.maximum(1 - d, 0) ** 2)


def _pairs(y: Any, p: Any) -> Any:
    """Of a batch: rows that have more should be predicted to have more."""
    return keras.ops.mean(
        keras.ops.relu(0.1 - (p - keras.ops.transpose(p)) * (y - keras.ops.transpose(y)))
    ) - 0.1 / keras.ops.cast(keras.ops.shape(y)[0], "float32")


def test_a_loss_of_ones_own_on_another_scale_has_a_skill() -> None:
    different = (FOUR[:, 0] > 0).astype(np.float32)
    health = diagnose(_fitted(_contrastive, activation="relu"), FOUR, different)
    (output,) = health.outputs
    assert (output.function, output.unjudged) == ("_contrastive", None)
    distances = np.maximum(3 * FOUR[:, 0], 0)
    loss = (1 - different) * distances**2 + different * np.maximum(1 - distances, 0) ** 2
    assert output.loss == pytest.approx(loss.mean(), rel=1e-4)
    share = different.mean()  # the best distance, by its derivative
    constant = (1 - share) * share**2 + share * (1 - share) ** 2
    assert output.constant_loss == pytest.approx(constant, rel=1e-3)
    assert output.skill == pytest.approx(1 - loss.mean() / constant, abs=1e-3)


def test_a_loss_that_compares_the_rows_of_a_batch_is_told_of_without_skill() -> None:
    model = _fitted(_pairs)
    health = diagnose(model, FOUR, FOUR[:, :1])
    (output,) = health.outputs
    assert output.unjudged == "its loss compares the rows of a batch with each other"
    assert output.loss == pytest.approx(model.evaluate(FOUR, FOUR[:, :1], verbose=0), rel=1e-3)
    check = health.verdicts["prediction_variance"]
    assert check.verdict == "pass"
    assert "skill is not judged: its loss compares the rows" in check.reason
    model.layers[-1].set_weights([np.zeros((4, 1)), np.ones(1)])
    assert diagnose(model, FOUR, FOUR[:, :1]).verdicts["prediction_variance"].verdict == "fail"


@pytest.mark.parametrize("activation", [None, "sigmoid", "softplus"])
def test_a_network_that_predicts_the_same_for_all_rows_does_not_hide_what_its_loss_is(
    activation: str | None,
) -> None:
    def order(y: Any, p: Any) -> Any:
        apart = (p - keras.ops.transpose(p)) * (y - keras.ops.transpose(y))
        return keras.ops.mean(keras.ops.relu(0.1 - apart))

    model = _fitted(order, activation=activation)
    model.layers[-1].set_weights([np.zeros((4, 1)), np.ones(1)])
    (output,) = diagnose(model, FOUR, FOUR[:, :1]).outputs
    assert output.unjudged == "its loss compares the rows of a batch with each other"


def test_columns_with_one_loss_in_all_are_one_output() -> None:
    y = FOUR[:, :1] * [1.0, 2.0, 3.0]
    health = diagnose(_fitted("cosine_similarity", 3), FOUR, y)
    (output,) = health.outputs
    assert output.lowest_loss == pytest.approx(-1)
    assert output.loss is not None
    assert output.constant_loss is not None
    expected = 1 - (output.loss + 1) / (output.constant_loss + 1)
    assert output.skill == pytest.approx(expected)
    # A cosine leaves the scale to the model: predictions of any length vary.
    model = _fitted("cosine_similarity", 3)
    model.layers[-1].set_weights([1e-6 * each for each in model.layers[-1].get_weights()])
    (small,) = diagnose(model, FOUR, y).outputs
    assert small.variance_ratio == pytest.approx(output.variance_ratio, rel=1e-3)


def test_sample_weights_are_in_the_loss_and_in_its_constant() -> None:
    model, y = _fitted("mse"), FOUR[:, :1] + 1
    weight = np.random.default_rng(1).uniform(0.2, 3.0, 200)
    (output,) = diagnose(model, FOUR, y, sample_weight=weight).outputs
    known = model.evaluate(FOUR, y, sample_weight=weight, verbose=0)
    mean = np.average(y[:, 0], weights=weight)
    constant = np.mean(weight * (y[:, 0] - mean) ** 2)
    assert (output.loss, output.constant_loss) == pytest.approx((known, constant), rel=1e-5)
    assert output.skill == pytest.approx(1 - known / constant, rel=1e-4)


def test_class_weights_are_weights_of_the_rows() -> None:
    model = _fitted("binary_crossentropy", activation="sigmoid")
    y = (FOUR[:, 0] > 1.5).astype(np.int64)
    table = {0: 0.5, 1: 25.0}
    rows = Rows(x=FOUR, y=y)
    outputs = find_outputs(model, Arguments(), rows)
    found = [
        examine(Probe(model), each, outputs, Checks(), Evidence(), class_weight=weights)
        for each, weights in (
            (rows, table),
            (dataclasses.replace(rows, weight=np.array([0.5, 25.0])[y]), None),
        )
    ]
    assert found[0].columns == found[1].columns
    known = model.evaluate(FOUR, y, sample_weight=np.array([0.5, 25.0])[y], verbose=0)
    assert found[0].columns[0][0].loss == pytest.approx(known, rel=1e-5)


def test_the_best_constant_is_looked_for_once_for_the_same_targets() -> None:
    model, rows = _fitted("mae"), Rows(x=FOUR, y=FOUR[:, :1])
    outputs = find_outputs(model, Arguments(), rows)
    loss = outputs[0].loss
    assert loss is not None
    for _ in range(2):
        examine(Probe(model), rows, outputs, Checks(), Evidence())
        assert len([key for key in loss.found if isinstance(key, bytes)]) == 1


def _verdict(model: keras.Model, y: Any) -> str:
    return diagnose(model, FOUR, y).verdicts["prediction_variance"].verdict


def _with_its_twin(model: keras.Model, y: Any) -> list[str]:
    """What is found of a model, and of the same one once its prediction is constant."""
    found = _verdict(model, y)
    model.layers[-1].set_weights([np.zeros((4, 1)), np.ones(1)])
    return [found, _verdict(model, y)]


def test_targets_that_a_loss_does_not_look_at_excuse_no_constant() -> None:
    def margin(_: Any, nearer: Any) -> Any:
        return keras.ops.mean(keras.ops.maximum(nearer + 0.5, 0))

    assert _with_its_twin(_fitted(margin), np.zeros(200, "float32")) == ["pass", "fail"]


def test_parameters_on_a_scale_of_their_own_are_not_put_beside_the_targets() -> None:
    def log_poisson(y: Any, log_rate: Any) -> Any:
        return keras.ops.mean(keras.ops.exp(log_rate) - y * log_rate, axis=-1)

    # Beside that of such targets, the spread of the logarithms would be a constant's.
    rates = np.exp(9 + 0.3 * FOUR[:, :1])
    model = _fitted(log_poisson)
    model.layers[-1].set_weights([np.array([[0.3], [0], [0], [0]]), np.array([9.0])])
    assert 0.09 / rates.var() < 1e-6
    assert _with_its_twin(model, rates) == ["pass", "fail"]


def test_outliers_make_no_prediction_constant_but_under_squared_error() -> None:
    y = np.where(np.arange(200)[:, None] % 100 == 0, -1e5, 3 * FOUR[:, :1])
    assert _with_its_twin(_fitted("mean_absolute_error"), y) == ["warn", "fail"]
    model = _fitted("mean_absolute_error")
    reason = diagnose(model, FOUR, y).verdicts["prediction_variance"].reason
    assert "hardly better than the best constant" in reason
    assert _verdict(_fitted("mse"), y) == "fail"


@pytest.mark.parametrize(
    ("loss", "kind"), [("binary_crossentropy", "regression"), ("mse", "classification")]
)
def test_another_kind_leaves_the_loss_and_its_constant_what_they_are(loss: str, kind: str) -> None:
    model = keras.Sequential([keras.Input((1,)), layers.Dense(1, activation="sigmoid")])
    model.compile("adam", loss)
    y = np.linspace(0.2, 0.8, 200)
    if kind == "classification":
        y = np.round(y)
    rows = Rows(x=np.linspace(-1, 1, 200)[:, None].astype(np.float32), y=y)
    (output,) = find_outputs(model, Arguments(), rows)
    found = []
    for each in (output, output.read_as(kind, rows.y)):
        examined = examine(Probe(model), rows, [each], Checks(), Evidence())
        found.append(examined.columns[0][0])
    assert (found[0].kind, found[1].kind)[:: 1 if kind == "classification" else -1] == (
        "regression",
        "classification",
    )
    assert found[1].loss == pytest.approx(found[0].loss)
    assert found[1].constant_loss == pytest.approx(found[0].constant_loss, rel=1e-4)
    assert found[1].skill == pytest.approx(found[0].skill, abs=1e-3)
