"""What holds a network back, planted in trainings by Keras, and the same in a small dose."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest

from orchestrator.data.rows import Rows
from orchestrator.diagnosis.causes.after import regularisation
from orchestrator.diagnosis.causes.after.regularisation import (
    find_over_regularised,
    find_shifting_dropout,
)
from orchestrator.diagnosis.causes.after.subject import Subject
from orchestrator.diagnosis.skill.columns import OutputSkill
from orchestrator.diagnosis.tracing.probe import Probe
from tests.diagnosis.causes.after.subjects import causes, curve, ended, small, stack, trained

layers, optimizers = keras.layers, keras.optimizers


def test_a_penalty_that_weighs_more_than_the_loss_shrinks_the_weights() -> None:
    subject = trained(
        small(kernel_regularizer=keras.regularizers.L2(20.0)), *curve(),
        optimizer=optimizers.Adam(0.05), epochs=12,
    )  # fmt: skip
    (found,) = find_over_regularised(subject)
    assert found.cause == "over_regularised"
    assert "is shrunk to nothing by its regularizer L2, largest weight" in found.reason
    assert found.advice == "weaken it or take it away"
    assert "over_regularised" in causes(subject)


@pytest.mark.parametrize(("decay", "count"), [(5.0, 1), (0.004, 0)])
def test_decay_bounds_the_weights(decay: float, count: int) -> None:
    model = small()
    model.compile(optimizers.AdamW(0.01, weight_decay=decay), "mse")
    found = [*find_over_regularised(ended(model))]
    assert [each.reason for each in found] == count * [
        "a weight_decay of 5 draws every weight back to below 0.2"
    ]


@pytest.mark.parametrize(("rates", "count"), [((0.7, 0.7), 1), ((0.5, 0.5), 0), ((), 0)])
def test_dropout_has_to_leave_something(rates: tuple[float, ...], count: int) -> None:
    dropped = (layers.Dropout(rate, name=f"drop{index}") for index, rate in enumerate(rates))
    found = [*find_over_regularised(ended(stack(layers.Dense(4), *dropped)))]
    assert [each.reason for each in found] == count * [
        "dropout leaves 0.09 of what goes through the network at a step (drop0 0.7, drop1 0.7), "
        "too little to learn from"
    ]


# ------------------------------------------------------------------- kernels of the output


@pytest.mark.parametrize(
    ("options", "by", "certain"),
    [
        ({"kernel_regularizer": keras.regularizers.L1(100.0)}, "regularizer L1", True),
        ({"kernel_regularizer": keras.regularizers.L2(1e-4)}, "regularizer L2", False),
        ({"activity_regularizer": "l2"}, "activity regularizer L2", False),
    ],
)
def test_a_penalty_on_the_output_is_certain_where_it_costs_more_than_a_constant(
    options: dict[str, Any], by: str, certain: bool
) -> None:
    model = stack(layers.Dense(4, activation="relu"), last=layers.Dense(1, name="last", **options))
    start = {model.get_layer("last").kernel.path: np.full(4, 0.5)}
    model.get_layer("last").set_weights([np.zeros((4, 1), np.float32), np.zeros(1, np.float32)])
    (found,) = find_over_regularised(ended(model, start=start))
    assert found.certain is certain
    assert f"the kernel of layer last is shrunk to nothing by its {by}" in found.reason
    model.get_layer("last").set_weights([np.full((4, 1), 0.5), np.zeros(1, np.float32)])
    grown = [*find_over_regularised(ended(model, start=start))]
    assert [each.certain for each in grown] == [False] * certain  # it may still weigh too much


def dropping(rate: float, *more: layers.Layer) -> keras.Model:
    """Four layers of which each loses a share of its units at a step."""
    seeds = (keras.initializers.HeNormal(seed) for seed in range(5))
    hidden = [
        each
        for seed in range(4)
        for each in (
            layers.Dense(64, "relu", kernel_initializer=next(seeds)),
            *more,
            layers.Dropout(rate, seed=seed),
        )
    ]
    return stack(*hidden, last=layers.Dense(1, kernel_initializer=next(seeds)))


def left_out(model: keras.Model, loss: str = "mse") -> Subject:
    """It has learnt a value with its dropout, and is judged without."""
    x, y = curve(800)
    gathering = optimizers.SGD(0.01, momentum=0.9)
    return trained(model, x, y - y.mean(), optimizer=gathering, loss=loss, epochs=20)


@pytest.mark.parametrize(
    ("rate", "loss", "count"), [(0.3, "mse", 1), (0.3, "huber", 1), (0.01, "mse", 0)]
)
def test_a_value_is_predicted_worse_without_the_dropout_it_was_learnt_with(
    rate: float, loss: str, count: int
) -> None:
    model = dropping(rate)
    subject = left_out(model, loss)
    before = [keras.ops.convert_to_numpy(each) for each in model.variables]
    found = [*find_shifting_dropout(subject)]
    assert [each.cause for each in found] == ["heavy_dropout"] * count
    for each in found:
        assert each.reason.startswith("with dropout (4 layers, at most 0.3), as in training, the ")
        # Of a single one it is far lower.
        assert float(re.findall(r"skill of ([0-9.]+)", each.reason)[0]) > 0.8
        assert "without it, as in inference, the prediction has" in each.reason
        assert each.advice == "leave it out where values are predicted, or write much lower rates"
        assert not each.certain
    # The masks that training draws next are the same.
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), value)


@pytest.mark.parametrize(
    ("without", "by", "count"),
    [(0.1, 0.6, 1), (0.1, 0.45, 0), (0.45, 0.6, 0), (None, 0.6, 0), (-3.0, 0.6, 1)],
)
def test_what_is_predicted_well_and_clearly_better_with_dropout_is_told(
    without: float | None, by: float, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = [
        [OutputSkill(output=0, kind="regression", varies=True, skill=each)]
        for each in (without, by)
    ]
    monkeypatch.setattr(regularisation, "_dropout_skills", lambda _: columns)
    model = dropping(0.1)
    model.compile("adam", "mse")
    assert len([*find_shifting_dropout(ended(model))]) == count


class Always(layers.Dropout):
    """It leaves units out in inference, too."""

    def call(self, inputs: Any, training: bool = False) -> Any:
        return super().call(inputs, training=True)


def test_units_that_are_left_out_in_inference_are_so_on_purpose() -> None:
    model = dropping(0.3)
    subject = left_out(model)
    assert [*find_shifting_dropout(subject)]
    for layer in model.layers:
        if isinstance(layer, layers.Dropout):
            layer.__class__ = Always
    assert [*find_shifting_dropout(subject)] == []


@pytest.mark.parametrize("other", ["normalised", "sure", "untrained", "without"])
def test_it_is_asked_of_what_is_poor_and_has_no_statistics_of_its_own(
    other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = left_out(dropping(0.3))
    if other == "normalised":
        monkeypatch.setattr(Probe, "has_batch_normalization", True)
    if other == "sure":
        passed = replace(subject.examined, checks=())
        subject = replace(subject, examined=passed)
    if other == "untrained":
        subject = replace(subject, phases=subject.phases[:1])
    if other == "without":
        for layer in subject.model.layers:
            layer.rate = 0.0
    assert [*find_shifting_dropout(subject)] == []


def test_rows_in_an_order_are_looked_at_all_over() -> None:
    """Of rows that are sorted by their target the first are of one kind."""
    subject = left_out(dropping(0.3))
    order = np.argsort(subject.rows.y)
    ordered = Rows(x=subject.rows.x[order], y=subject.rows.y[order])
    (found,), (same,) = (
        [*find_shifting_dropout(each)] for each in (subject, replace(subject, rows=ordered))
    )
    skills = [float(re.findall(r"skill of ([0-9.]+)", each.reason)[0]) for each in (found, same)]
    assert skills[0] == pytest.approx(skills[1], abs=0.05)
