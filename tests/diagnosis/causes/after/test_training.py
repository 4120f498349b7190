"""How a training went: each fault planted in one by Keras, and one that went well beside it."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import keras
import numpy as np
import pytest
from msgspec.structs import replace

from orchestrator.diagnosis.causes.after.find import find_after
from orchestrator.diagnosis.causes.after.subject import Subject
from orchestrator.diagnosis.causes.after.training import (
    find_no_effect,
    find_oscillating,
    find_rate_too_low,
    find_undertrained,
    find_unusual_rate,
)
from orchestrator.record.records import UnitsLost
from tests import builders
from tests.diagnosis.causes.after.subjects import (
    LINEAR,
    causes,
    curve,
    ended,
    small,
    stack,
    trained,
)

layers, optimizers = keras.layers, keras.optimizers


@pytest.fixture(scope="module")
def healthy() -> Subject:
    weak = keras.regularizers.L2(1e-4)
    model = small(kernel_regularizer=weak)
    return trained(model, *curve(), optimizer=optimizers.Adam(0.03), epochs=16)


def test_a_network_that_learns_has_no_cause(healthy: Subject) -> None:
    (column,) = healthy.columns
    assert column.skill is not None and column.skill > 0.9
    assert causes(healthy) == []
    assert max(healthy.moved.values()) > 0.1


# ----------------------------------------------------------------------------- no effect


def test_a_rate_of_zero_has_no_effect_whatever_is_tried() -> None:
    subject = trained(small(), *curve(), optimizer=optimizers.SGD(0.0), epochs=2)
    (found,) = find_no_effect(subject)
    assert (found.cause, found.certain, found.found) == ("no_effect", True, "after")
    assert found.reason == (
        "no weight has changed in 8 steps, for the learning rate was 0 in every epoch"
    )
    assert found.advice == "write a learning rate above 0, such as 0.001 for Adam"
    assert causes(subject) == ["no_effect"]  # nothing else follows from it
    same = tuple(replace(phase, weights="sha256:0") for phase in subject.phases)
    tiny = dataclasses.replace(subject, start={}, phases=same, rates=[1e-30, 1e-30])
    (found,) = find_no_effect(tiny)  # by the digests of the record
    assert not found.certain and "at rates up to 1e-30" in found.reason


@pytest.mark.filterwarnings("ignore:The model does not have any trainable weights")
def test_a_frozen_network_has_nothing_to_train() -> None:
    subject = trained(small(trainable=False), *curve(), optimizer="adam", epochs=1)
    (found,) = find_no_effect(subject)
    assert found.certain and "nothing in the model is trainable" in found.reason


@pytest.mark.filterwarnings("ignore:In loss categorical_crossentropy")
def test_a_loss_of_nothing_trains_nothing() -> None:
    x, y = curve()
    labels = (y > 2).astype("float32")
    subject = trained(
        small(), x, labels, optimizer="adam", loss="categorical_crossentropy", epochs=1
    )
    (found,) = find_no_effect(subject)
    assert found.certain and "the loss was 0 from the first step on" in found.reason


# -------------------------------------------------------------------------- undertrained


@pytest.mark.parametrize(
    ("epochs", "span", "when"), [(8, 2, "the last 2 of 8 epochs"), (4, 1, "the last of 4 epochs")]
)
def test_a_loss_that_was_still_falling_is_undertrained(epochs: int, span: int, when: str) -> None:
    subject = trained(small(), *curve(), optimizer=optimizers.Adam(0.002), epochs=epochs)
    (found,) = find_undertrained(subject)
    assert (found.cause, found.certain) == ("undertrained", False)
    before, last = subject.course[-1 - span], subject.course[-1]
    assert found.reason == (
        "the loss was still falling when the training ended, from "
        f"{before:.4g} to {last:.4g} in {when}, {(last - before) / span:.3g} an epoch, "
        f"after {4 * epochs} steps"
    )
    assert found.advice == "train for more epochs, or at a higher rate"
    assert causes(subject) == ["undertrained"]
    assert found.fix is not None and found.fix.learning_rate_factor == 10


def test_a_loss_that_was_falling_when_it_ended_early_needs_no_more_epochs() -> None:
    planned = builders.config().phases[-1].epochs
    for epochs, when, advice in (
        (planned, "ended", "train for more epochs, or at a higher rate"),
        (planned - 1, "ended early", "train at a higher rate"),
    ):
        phases = (builders.phase("init"), replace(builders.phase("main"), epochs=epochs))
        (found,) = find_undertrained(ended(LINEAR, losses=[1.0, 0.8, 0.6, 0.4], phases=phases))
        assert found.reason.startswith(f"the loss was still falling when the training {when}, from")
        assert found.advice == advice


def test_how_much_higher_the_rate_has_to_be_follows_from_how_far_the_weights_moved() -> None:
    for factor, times in ((1.5, 10), (1.1, 10), (1.029, 100)):
        known = {"start": {"kernel": np.ones(3)}, "losses": [1.0, 0.8, 0.6, 0.4]}
        planned = builders.config().phases[-1].epochs
        # What ended after a quarter of its epochs would have moved twice as far by its end.
        for epochs, moved in ((planned, factor - 1), (planned / 4, (factor - 1) / 2)):
            main = replace(builders.phase("main"), epochs=epochs)
            subject = ended(LINEAR, **known, phases=(builders.phase("init"), main))
            vars(subject)["weights"] = {"kernel": (1 + moved) * np.ones(3)}
            (found,) = find_undertrained(subject)
            assert found.fix is not None and found.fix.learning_rate_factor == times


@pytest.mark.parametrize(("rate", "told"), [(0.03, True), (0.031, False), (1.0, False)])
def test_what_falls_at_a_rate_that_nobody_chooses_has_first_shot_up(
    rate: float, told: bool
) -> None:
    rates = [float(np.float32(rate))] * 4  # as Keras has it
    subject = ended(LINEAR, losses=[9.0, 7.0, 5.0, 3.0], rates=rates)
    assert bool([*find_undertrained(subject)]) is told


def test_what_has_learnt_may_fall_on(healthy: Subject) -> None:
    falling = dataclasses.replace(healthy, losses=[4.0, 2.0, 1.0, 0.5])
    assert falling.is_falling
    assert not [*find_undertrained(falling)]


@pytest.mark.parametrize("losses", [[9.0, 5.0, 5.0, 4.9], [9.0, 3.0, 5.0, 4.0], [9.0]])
def test_a_loss_that_has_come_to_its_end_is_not_undertrained(losses: list[float]) -> None:
    assert not [*find_undertrained(ended(LINEAR, losses=losses))]


# -------------------------------------------------------------------------- rate too low


def test_weights_that_hardly_move_need_a_higher_rate() -> None:
    subject = trained(small(), *curve(), optimizer=optimizers.Adam(1e-5), epochs=8)
    (found,) = find_rate_too_low(subject)
    assert (found.cause, found.certain) == ("rate_too_low", False)
    assert found.reason.startswith("the weights have hardly moved, none by more than 0.00")
    assert found.reason.endswith("of its size in 32 steps at rates up to 1e-05")
    assert found.advice == (
        "write a learning rate 1,000 times as high, or train for as many more steps"
    )
    assert found.fix is not None
    assert (found.fix.learning_rate_factor, found.fix.told) == (1000.0, "")
    # Where gradients are clipped to nothing it is not the rate.
    assert [[each.cause for each in find_after(subject, known)] for known in ([], ["clipped"])] == [
        ["rate_too_low"],
        [],
    ]


def test_a_poor_network_whose_weights_have_moved_has_another_cause() -> None:
    start = {"kernel": np.ones(3)}
    moved = {"start": start, "weights": {"kernel": np.full(3, 1.05)}, "steps": 9}
    subject = ended(LINEAR, start=start, steps=9, rates=[0.1])
    for factor, count in ((1.05, 0), (1.01, 1)):
        vars(subject)["weights"] = {"kernel": factor * moved["start"]["kernel"]}
        vars(subject).pop("moved", None)
        assert len([*find_rate_too_low(subject)]) == count


@pytest.mark.parametrize(
    ("rate", "given", "found"),
    [
        (0.001, {}, True),  # 480 steps take a weight 0.48 far, and those of the kernel are 1
        (0.003, {}, False),
        (0.001, {"losses": [9.0, 7.0, 5.0, 3.0]}, False),  # `undertrained` says it already
        (0.001, {"slowed": True}, False),
        (0.0, {}, False),
    ],
)
def test_steps_that_are_smaller_together_than_the_weights_are_too_low(
    rate: float, given: dict[str, Any], found: bool
) -> None:
    model = stack()
    (kernel, _) = model.trainable_variables
    known: dict[str, Any] = {
        "start": {kernel.path: np.array([1.0, -1.0, 1.0])},
        "weights": {kernel.path: np.array([1.4, -1.0, 1.0])},
        "losses": [3.0, 2.0, 2.0, 2.0],
        "rates": [rate] * 4,
        "steps": 480,
        "config": builders.config(phases=[{"name": "main", "epochs": 4}]),
    }
    weights = known.pop("weights")
    subject = ended(model, **{**known, **given})
    vars(subject)["weights"] = weights
    findings = [*find_rate_too_low(subject)]
    assert [each.cause for each in findings] == ["rate_too_low"] * found
    for each in findings:
        assert each.reason == (
            "at rates up to 0.001, Adam moves a weight by 0.48 at most in 4 epochs, where fresh "
            "weights are about 1 in size: what is drawn badly stays so"
        )
        assert each.fix is not None and each.fix.learning_rate_factor == 10.0
    model.compile(optimizers.SGD(momentum=0.9), "mse")
    assert not [*find_rate_too_low(subject)]


@pytest.mark.parametrize(
    ("optimizer", "rate", "factor", "with_momentum"),
    [
        (optimizers.SGD(), 0.01, 10.0, 3.0),
        (optimizers.SGD(), 0.02, 10.0, 1.5),
        (optimizers.SGD(), 0.04, 2.5, 1.0),  # tenfold would be far above the usual 0.01
        (optimizers.SGD(), 0.1, None, 1.0),
        (optimizers.SGD(), 0.2, None, None),
        (optimizers.SGD(momentum=0.9), 0.01, None, None),
        (optimizers.Adagrad(), 0.001, 100.0, None),
        (optimizers.Adagrad(), 0.1, None, None),
        (optimizers.Adadelta(), 0.001, 1000.0, None),
        (optimizers.Adam(), 0.001, None, None),
    ],
)
def test_steps_that_get_small_with_the_gradient_are_slow(
    optimizer: Any, rate: float, factor: float | None, with_momentum: float | None
) -> None:
    model = stack()
    model.compile(optimizer, "mse")
    rates = [float(np.float32(rate))] * 4  # as Keras has them
    known: dict[str, Any] = {"losses": [3.0, 2.0, 1.99, 1.98], "rates": rates, "steps": 480}
    findings = [*find_rate_too_low(ended(model, **known))]
    assert len(findings) == (factor is not None or with_momentum is not None)
    for each in findings:
        assert "has not got far in 480 steps" in each.reason
        assert "the loss was lowest in the last 1 epoch, 1.98 after 3 at first" in each.reason
        assert each.fix is not None
        assert each.fix.learning_rate_factor == factor
        assert each.fix.factor_with_momentum == with_momentum
    for other in (
        {"losses": [3.0, 1.5, 1.99, 1.98]},  # it was lower
        {"losses": [9.0, 7.0, 5.0, 3.0]},  # `undertrained` says it
        {"skill": 0.8},  # of the rows that it was trained on, much was learnt
        {"slowed": True},
    ):
        assert not [*find_rate_too_low(ended(model, **{**known, **other}))]


def test_no_rate_is_raised_far_beyond_the_usual_one() -> None:
    for rate, factor in ((0.001, 10.0), (0.003, 3.33), (0.006, None), (0.01, None)):
        subject = ended(LINEAR, losses=[9.0, 7.0, 5.0, 3.0], rates=[rate] * 4, steps=9)
        (found,) = find_undertrained(subject)
        assert (found.fix and found.fix.learning_rate_factor) == factor


def test_gradient_descent_that_has_learnt_nothing_needs_more_than_its_way_says() -> None:
    model = stack()
    for optimizer, skill, factor in (("sgd", 0.0, 100.0), ("sgd", 0.3, 10.0), ("adam", 0.0, 10.0)):
        model.compile(optimizer, "mse")
        course = {"losses": [9.0, 7.0, 5.0, 3.0], "rates": [1e-4] * 4, "steps": 9}
        (found,) = find_undertrained(ended(model, skill=skill, **course))
        assert found.fix is not None and found.fix.learning_rate_factor == factor


# ------------------------------------------------------------------------- unusual rate


@pytest.mark.parametrize(
    ("optimizer", "rate", "expected"),
    [
        ("adam", 1.0, "1, 1,000 times what Adam"),
        ("adam", 0.1, "0.1, 100 times what Adam"),
        ("adam", 0.031, "0.031, 31 times what Adam"),
        ("adam", 0.03, None),
        ("sgd", 5.0, "5, 500 times what SGD"),
        ("sgd", 0.3, None),
        ("adagrad", 5.0, None),
        ("adam", math.inf, None),
    ],
)
def test_a_failure_far_above_the_usual_rate_is_laid_to_it(
    optimizer: str, rate: float, expected: str | None
) -> None:
    model = stack()
    model.compile(optimizer, "mse")
    subject = ended(model, rates=[0.001, rate])
    found = [*find_unusual_rate(subject)]
    assert [each.cause for each in found] == ([] if expected is None else ["unusual_rate"])
    for each in found:
        assert each.reason == f"the learning rate went up to {expected} usually takes"
        assert each.fix is not None and each.fix.learning_rate_factor is not None
        assert each.fix.learning_rate_factor < 0.034
    # What a schedule does after the units have died has not killed them.
    lost = UnitsLost(layer="dense", units=4, lost=3, alive=4, epoch=1, learning_rate=rate)
    phases = [*subject.phases[:-1], replace(subject.phases[-1], lost=lost)]
    for later in (0.001, 9000.0):
        late = dataclasses.replace(subject, phases=phases, rates=[rate, later])
        reasons = [each.reason for each in find_unusual_rate(late)]
        when = " in epoch 1, in which dense lost 3 units,"
        told = [] if expected is None else expected.split(",", 1)
        assert reasons == (
            [] if not told else [f"the learning rate was {told[0]}{when}{told[1]} usually takes"]
        )
    short = builders.made("learned", verdict="warn")
    assert bool([*find_unusual_rate(ended(model, None, short, rates=[rate]))]) is bool(expected)
    passed = builders.made("learned")
    assert not [*find_unusual_rate(ended(model, None, passed, rates=[rate]))]


@pytest.mark.parametrize(("rate", "momentum", "times"), [
    (0.05, 0.99, 50), (0.05, 0.9, None), (0.01, 0.99, None), (0.01, 1.0, 100),
])  # fmt: skip
def test_a_momentum_above_the_usual_one_makes_a_rate_higher(
    rate: float, momentum: float, times: int | None
) -> None:
    model = stack()
    model.compile(keras.optimizers.SGD(rate, momentum=momentum), "mse")
    found = [*find_unusual_rate(ended(model, rates=[rate]))]
    assert [each.cause for each in found] == ([] if times is None else ["unusual_rate"])
    for each in found:
        told = f", which with a momentum of {momentum:g} is {times} times what SGD usually takes"
        assert each.reason == f"the learning rate went up to {rate:g}{told}"
        assert each.advice.endswith(", or one near 0.01 and momentum: 0.9")
        assert each.fix is not None and each.fix.usual_rate == pytest.approx(rate / times)


# --------------------------------------------------------------------------- oscillating

SWINGING = [9.0, 4.0, 8.0, 4.5, 9.0, 4.0, 8.0, 5.0]


def phased(losses: list[float], **known: Any) -> Subject:
    """A poor attempt whose last phase had these losses."""
    subject = ended(LINEAR, losses=losses, rates=[0.5] * len(losses), **known)
    init, main = subject.phases
    return dataclasses.replace(subject, phases=(init, replace(main, epochs=len(losses))))


def test_a_loss_that_goes_up_and_down_is_told_with_its_swing() -> None:
    (found,) = find_oscillating(phased(SWINGING))
    assert (found.cause, found.certain) == ("oscillating", False)
    assert found.reason == (
        "the loss goes up and down instead of down, between 4 and 9 in the last 6 epochs, 62% an "
        "epoch, at rates up to 0.5, which are too high"
    )
    assert found.advice == "lower the learning rate, or take larger batches"


@pytest.mark.parametrize(
    "losses",
    [
        [9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0],  # falls
        [4.0, 4.1, 4.0, 4.1, 4.0, 4.1, 4.0, 4.1],  # the noise of batches
        [9.0, 4.0, 8.0, 4.0],  # too short to tell
        [9.0, 4.0, 8.0, 4.0, float("nan"), 4.0, 8.0],
    ],
)
def test_noise_and_a_fall_are_no_oscillation(losses: list[float]) -> None:
    assert not [*find_oscillating(phased(losses))]


def test_steps_that_are_too_large_go_up_and_down() -> None:
    far = optimizers.SGD(1.0, clipnorm=1.0)
    subject = trained(small(), *curve(), optimizer=far, epochs=12, batch_size=40)
    assert [finding.cause for finding in find_oscillating(subject)] == ["oscillating"]


def test_a_loss_that_dropout_moves_says_nothing_of_the_rate() -> None:
    losses = [8.0, 3.0, 7.0, 2.0, 6.0, 2.5, 7.5, 2.0, 6.5, 3.0]
    for rate, expected in ((0.5, ["oscillating"]), (0.9, [])):
        model = stack(layers.Dense(4, activation="relu"), layers.Dropout(rate))
        subject = dataclasses.replace(phased(losses), model=model)
        assert [finding.cause for finding in find_oscillating(subject)] == expected
