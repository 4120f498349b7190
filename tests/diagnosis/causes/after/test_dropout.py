"""Dropout that is in a network's way, in trainings by Keras, and the same in a small dose."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any

import keras
import numpy as np
import pytest
from msgspec.structs import replace

from orchestrator.data.rows import Rows
from orchestrator.diagnosis.causes.after import dropout
from orchestrator.diagnosis.causes.after.dropout import find_heavy_dropout, find_shift
from orchestrator.diagnosis.causes.after.subject import Subject
from orchestrator.diagnosis.tracing.probe import Probe
from orchestrator.record.checks import FindingsCheck, FindingsMeasured
from tests.diagnosis.causes.after.subjects import curve, ended, stack, trained

layers, optimizers = keras.layers, keras.optimizers


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
    found = [*find_heavy_dropout(subject)]
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


def seen(monkeypatch: pytest.MonkeyPatch, without: float, by: float, noise: float = 0.0) -> Subject:
    """A network of which dropout makes this."""
    found = [dropout._Dropped(of_output="", without=without, by=by, noise=noise)]
    monkeypatch.setattr(dropout, "_look", lambda _: found)
    model = dropping(0.1)
    model.compile(optimizers.Adam(0.001), "mse")
    return ended(model, rates=[0.001])


@pytest.mark.parametrize(
    ("without", "by", "count"), [(0.1, 0.6, 1), (0.1, 0.45, 0), (0.45, 0.6, 0), (-3.0, 0.6, 1)]
)
def test_what_is_predicted_well_and_clearly_better_with_dropout_is_told(
    without: float, by: float, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = seen(monkeypatch, without, by)
    assert len([*find_heavy_dropout(subject)]) == count
    assert (find_shift(subject) is not None) is bool(count)


@pytest.mark.parametrize(
    ("noise", "changes", "count"),
    [
        (1.0, {}, 1),
        (0.99, {}, 0),
        (math.inf, {}, 1),
        (5.0, {"losses": [4.0, 3.0, 2.0, 1.0]}, 0),  # it may still learn
        (5.0, {"losses": [4.0, 1.0, 1.0, 1.0]}, 1),
        (5.0, {"rates": [0.04]}, 0),  # too high, or too low, for other networks as well
        (5.0, {"rates": [0.02]}, 1),
        (5.0, {"rates": [0.00002]}, 0),
        (5.0, {"before": ("unscaled_inputs", "heavy_dropout")}, 0),
        (5.0, {"before": ("heavy_dropout",)}, 1),
    ],
)
def test_what_drowns_in_dropout_is_told_where_nothing_else_is_at_fault(
    noise: float, changes: dict[str, Any], count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = seen(monkeypatch, 0.1, 0.2, noise)
    if "before" in changes:
        measured = FindingsMeasured(causes=changes["before"])
        check = FindingsCheck(verdict="warn", reason="found before", measured=measured)
        first = replace(subject.phases[0], checks=(check,))
        changes = {"phases": [first, *subject.phases[1:]]}
    found = [*find_heavy_dropout(dataclasses.replace(subject, **changes))]
    assert len(found) == count
    for each in found:
        times = "not over the rows" if noise == math.inf else f"{noise:.2g} times as much by the un"
        assert times in each.reason


def test_a_small_network_learns_nothing_with_so_much_dropout() -> None:
    hidden = [
        each
        for seed in range(2)
        for each in (
            layers.Dense(32, "elu", kernel_initializer=keras.initializers.HeNormal(seed)),
            layers.Dropout(0.5, seed=seed),
        )
    ]
    x = np.random.default_rng(0).uniform(-1.7, 1.7, (800, 3)).astype(np.float32)
    y = np.abs(x).sum(axis=1, keepdims=True)
    model = stack(*hidden, last=layers.Dense(1, kernel_initializer="zeros"))
    adam = optimizers.Adam(0.001)
    subject = trained(model, x, y - y.mean(), optimizer=adam, loss="mse", epochs=20)
    (found,) = find_heavy_dropout(subject)
    assert found.cause == "heavy_dropout" and not found.certain
    times = re.findall(r"varies ([0-9.e+]+) times as much by the units that are left", found.reason)
    assert float(times[0]) > 1.5
    assert find_shift(subject) is None


def test_the_output_is_named_where_there_are_several() -> None:
    """One of a network of two hangs on its dropout."""
    x, y = curve(800)
    there = keras.Input((3,))
    good = layers.Dense(32, "relu", kernel_initializer=keras.initializers.HeNormal(0))(there)
    ends = [layers.Dense(1, name="good")(good), dropping(0.4)(there)]
    model = keras.Model(there, ends)
    first, second = model.output_names
    subject = trained(
        model, x, (y, y - y.mean()), optimizer=optimizers.Adam(0.003), loss=["mse", "mse"],
        epochs=12,
    )  # fmt: skip
    shift = find_shift(subject)
    assert shift is not None and f"predictions of output {second} has" in shift


def test_noise_is_measured_against_what_differs_between_rows() -> None:
    draw = np.random.default_rng(0).normal
    rows = draw(size=(1, 4000, 1))
    predicted = rows + 2.0 * draw(size=(16, 4000, 1))
    assert dropout._noise_of(predicted) == pytest.approx(4.0, rel=0.1)
    assert dropout._noise_of(np.broadcast_to(rows, (16, 4000, 1))) < 1e-20
    assert dropout._noise_of(np.ones((16, 5, 1))) == 0.0
    # What its draws share says nothing of the rows.
    assert dropout._noise_of(np.broadcast_to(draw(size=(16, 1, 1)), (16, 9, 1))) == math.inf


class Always(layers.Dropout):
    """It leaves units out in inference, too."""

    def call(self, inputs: Any, training: bool = False) -> Any:
        return super().call(inputs, training=True)


def test_units_that_are_left_out_in_inference_are_so_on_purpose() -> None:
    model = dropping(0.3)
    subject = left_out(model)
    assert [*find_heavy_dropout(subject)]
    for layer in model.layers:
        if isinstance(layer, layers.Dropout):
            layer.__class__ = Always
    assert [*find_heavy_dropout(subject)] == []


@pytest.mark.parametrize("other", ["normalised", "sure", "untrained", "without"])
def test_it_is_asked_of_what_is_poor_and_has_no_statistics_of_its_own(
    other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = left_out(dropping(0.3))
    if other == "normalised":
        monkeypatch.setattr(Probe, "has_batch_normalization", True)
    if other == "sure":
        passed = dataclasses.replace(subject.examined, checks=())
        subject = dataclasses.replace(subject, examined=passed)
    if other == "untrained":
        subject = dataclasses.replace(subject, phases=subject.phases[:1])
    if other == "without":
        for layer in subject.model.layers:
            layer.rate = 0.0
    assert [*find_heavy_dropout(subject)] == []


def test_rows_in_an_order_are_looked_at_all_over() -> None:
    """Of rows that are sorted by their target the first are of one kind."""
    subject = left_out(dropping(0.3))
    order = np.argsort(subject.rows.y)
    ordered = Rows(x=subject.rows.x[order], y=subject.rows.y[order])
    (found,), (same,) = (
        [*find_heavy_dropout(each)]
        for each in (subject, dataclasses.replace(subject, rows=ordered))
    )
    skills = [float(re.findall(r"skill of ([0-9.]+)", each.reason)[0]) for each in (found, same)]
    assert skills[0] == pytest.approx(skills[1], abs=0.05)


@pytest.mark.parametrize(("rates", "count"), [((0.7, 0.7), 1), ((0.5, 0.5), 0), ((), 0)])
def test_dropout_has_to_leave_something(
    rates: tuple[float, ...], count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dropout, "_look", lambda _: None)
    dropped = (layers.Dropout(rate, name=f"drop{index}") for index, rate in enumerate(rates))
    found = [*find_heavy_dropout(ended(stack(layers.Dense(4), *dropped)))]
    assert [each.reason for each in found] == count * [
        "dropout (2 layers, at most 0.7) leaves 0.09 of what goes through the network at a step, "
        "too little to learn from"
    ]
