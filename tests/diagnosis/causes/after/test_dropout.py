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
from orchestrator.diagnosis.causes.after.dropout import (
    find_drowning_dropout,
    find_shifting_dropout,
)
from orchestrator.diagnosis.causes.after.dropped import Dropped
from orchestrator.diagnosis.causes.after.find import find_after
from orchestrator.diagnosis.causes.after.subject import Subject
from orchestrator.diagnosis.tracing.probe import Probe
from orchestrator.record.checks import FindingsCheck, FindingsMeasured
from tests.builders import made
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
    found = [*find_shifting_dropout(subject)]
    assert [each.cause for each in found] == ["heavy_dropout"] * count
    for each in found:
        assert each.reason.startswith("with dropout (4 layers, at most 0.3), as in training, the ")
        # Of a single one it is far lower.
        assert float(re.findall(r"skill of ([0-9.]+)", each.reason)[0]) > 0.8
        assert "without it, as in inference, the prediction has" in each.reason
        assert each.advice == "write much lower rates, or leave it out"
        assert not each.certain
    # The masks that training draws next are the same.
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), value)


def short(subject: Subject, share: float | None = 0.1) -> Subject:
    """It has learnt a share of what there is to learn."""
    each = {"output": 0, "share": share, "skill": share, "reference": 1.0}
    limits = {"fail_below": 0.5, "warn_below": 0.8}
    check = made("learned", verdict="fail", measured={"outputs": [each]}, limits=limits)
    last = replace(subject.phases[-1], checks=(*subject.phases[-1].checks, check))
    poor = dataclasses.replace(subject.examined, checks=(*subject.examined.checks, check))
    return dataclasses.replace(subject, phases=[*subject.phases[:-1], last], examined=poor)


def seen(*, without: float = 0.1, by: float = 0.2, noise: float = 0.0, **known: Any) -> Subject:
    """A network of which dropout makes this."""
    model = dropping(0.1)
    model.compile(optimizers.Adam(0.001), "mse")
    share = known.pop("share", 0.1)
    subject = short(ended(model, **{"rates": [0.001], **known}), share)
    found = Dropped(output=0, name="", without=without, by=by, noise=noise)
    vars(subject)["dropped"] = (found,)
    return subject


@pytest.mark.parametrize(
    ("without", "by", "below", "count"),
    [
        (0.1, 0.6, None, 1),
        (0.1, 0.45, None, 0),
        (0.45, 0.6, None, 0),
        (-3.0, 0.6, None, 1),
        (0.1, 0.6, 0.05, 0),  # it is not this output that has learnt too little
    ],
)
def test_what_is_predicted_well_and_clearly_better_with_dropout_is_told(
    without: float, by: float, below: float | None, count: int
) -> None:
    subject = seen(without=without, by=by)
    assert len([*find_shifting_dropout(subject, below)]) == count


@pytest.mark.parametrize(
    ("noise", "known", "before", "count"),
    [
        (1.0, {}, None, 1),
        (0.99, {}, None, 0),
        (1140.0, {}, None, 1),
        (math.inf, {}, None, 1),
        (4.9, {"losses": [4.0, 3.0, 2.0, 1.0]}, None, 0),  # it may still learn
        (5.0, {"losses": [4.0, 3.0, 2.0, 1.0]}, None, 1),
        (5.0, {"losses": [4.0, 1.0, 1.0, 1.0]}, None, 1),
        (5.0, {"rates": [0.04]}, None, 0),  # too high, or too low, for other networks as well
        (5.0, {"rates": [0.02]}, None, 1),
        (5.0, {"rates": [0.00009]}, None, 0),
        (5.0, {"rates": [0.00011]}, None, 1),
        (5.0, {}, ("unscaled_inputs", "heavy_dropout"), 0),
        (5.0, {}, ("heavy_dropout",), 1),
        (5.0, {"share": None}, None, 0),  # there may be nothing to learn
        (5.0, {"share": 0.9}, None, 0),
    ],
)
def test_what_drowns_in_dropout_is_told_where_nothing_else_is_at_fault(
    noise: float, known: dict[str, Any], before: tuple[str, ...] | None, count: int
) -> None:
    subject = seen(noise=noise, **known)
    if before is not None:
        measured = FindingsMeasured(causes=before)
        check = FindingsCheck(verdict="warn", reason="found before", measured=measured)
        first = replace(subject.phases[0], checks=(check,))
        dropped = subject.dropped
        subject = dataclasses.replace(subject, phases=[first, *subject.phases[1:]])
        vars(subject)["dropped"] = dropped
    found = [*find_drowning_dropout(subject)]
    assert len(found) == count
    for each in found:
        times = (
            "not over the rows" if noise == math.inf else f"{noise:,.4g} times as much by the un"
        )
        assert times in each.reason


@pytest.mark.parametrize(("noise", "now", "at_end"), [(5.0, 1, 1), (4.9, 0, 1), (0.9, 0, 0)])
def test_while_a_training_goes_on_it_has_to_drown_five_times_over(
    noise: float, now: int, at_end: int
) -> None:
    subject = seen(noise=noise)
    assert len([*find_drowning_dropout(subject, early=True)]) == now
    assert len([*find_drowning_dropout(subject)]) == at_end


def small(
    rate: float, x: Any, y: Any, *, activation: str = "elu", optimizer: Any = None
) -> Subject:
    """A small network that is trained on rows with dropout, and is known to have learnt little."""
    hidden = [
        each
        for seed in range(2)
        for each in (
            layers.Dense(32, activation, kernel_initializer=keras.initializers.HeNormal(seed)),
            layers.Dropout(rate, seed=seed),
        )
    ]
    model = stack(*hidden, last=layers.Dense(1, kernel_initializer="zeros"))
    optimizer = optimizer or optimizers.Adam(0.003)
    return short(trained(model, x, y, optimizer=optimizer, epochs=20))


def absolute() -> tuple[Any, Any]:
    x = np.random.default_rng(0).uniform(-1.7, 1.7, (800, 3)).astype(np.float32)
    y = np.abs(x).sum(axis=1)
    return x, y - y.mean()


def test_a_small_network_learns_nothing_with_so_much_dropout() -> None:
    found = find_after(small(0.5, *absolute()))
    assert [each.cause for each in found] == ["heavy_dropout"]
    reason = found[0].reason
    times = re.findall(r"varies ([0-9.e+]+) times as much by the units that are left", reason)
    assert float(times[0]) > 1 and not found[0].certain


@pytest.mark.parametrize("fault", ["linear", "noise", "slow"])
def test_what_leaves_no_signal_for_another_reason_is_not_the_dropout(fault: str) -> None:
    x, y = absolute()
    if fault == "noise":
        y = np.random.default_rng(1).normal(size=y.shape)
    changes: dict[str, Any] = {
        "linear": {"activation": "linear"},
        "slow": {"optimizer": optimizers.SGD(0.0005)},
    }
    subject = small(0.3, x, y, **changes.get(fault, {}))
    assert subject.dropped[0].noise > 1
    assert "heavy_dropout" not in {each.cause for each in find_after(subject)}


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
    (found,) = find_shifting_dropout(subject)
    assert f"predictions of output {second} has" in found.reason


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
    assert [*find_shifting_dropout(dataclasses.replace(subject))] == []


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
    assert [*find_shifting_dropout(subject)] == []


def test_rows_in_an_order_are_looked_at_all_over() -> None:
    """Of rows that are sorted by their target the first are of one kind."""
    subject = left_out(dropping(0.3))
    order = np.argsort(subject.rows.y)
    ordered = Rows(x=subject.rows.x[order], y=subject.rows.y[order])
    (found,), (same,) = (
        [*find_shifting_dropout(each)]
        for each in (subject, dataclasses.replace(subject, rows=ordered))
    )
    skills = [float(re.findall(r"skill of ([0-9.]+)", each.reason)[0]) for each in (found, same)]
    assert skills[0] == pytest.approx(skills[1], abs=0.05)


@pytest.mark.parametrize(("rates", "count"), [((0.7, 0.7), 1), ((0.5, 0.5), 0), ((), 0)])
def test_dropout_has_to_leave_something(rates: tuple[float, ...], count: int) -> None:
    """Where what it makes of the predictions cannot be told, as with BatchNorm."""
    dropped = (layers.Dropout(rate, name=f"drop{index}") for index, rate in enumerate(rates))
    model = stack(layers.Dense(4), layers.BatchNormalization(), *dropped)
    found = [*find_drowning_dropout(ended(model))]
    assert [(each.cause, each.reason) for each in found] == count * [
        (
            "over_regularised",
            "dropout (2 layers, at most 0.7) leaves 0.09 of what goes through the network at a "
            "step, too little to learn from",
        )
    ]
