"""Trainings that are too short or at a slip of a rate, and those that only look like it."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
import pytest

from orchestrator.diagnosis.causes.before.steps import find_planned_faults
from orchestrator.record.records import Finding
from tests.diagnosis.causes.before.subjects import compiled, make_subject

layers = keras.layers
schedules = keras.optimizers.schedules
Adam, SGD = keras.optimizers.Adam, keras.optimizers.SGD

X = np.random.default_rng(0).normal(size=(320, 4)).astype("float32")  # ten steps an epoch


def network(optimizer: Any, **options: Any) -> keras.Model:
    dense = layers.Dense(16, activation="relu", **options)
    return compiled(dense, layers.Dense(1), optimizer=optimizer)


def planned(
    optimizer: Any, epochs: int = 10, rows: int = 320, of: Any = None, **changes: Any
) -> list[Finding]:
    x = np.resize(X, (rows, 4))
    changes.setdefault("phases", [{"name": "main", "epochs": epochs}])
    subject = make_subject(of or network(optimizer), x, x[:, 0], **changes)
    return [*find_planned_faults(subject)]


def causes(*args: Any, **options: Any) -> list[tuple[str, str | None]]:
    return [(found.cause, found.key) for found in planned(*args, **options)]


RATE = "compile.optimizer"


def test_a_training_that_moves_no_weight_by_its_own_size_is_short() -> None:
    (found,) = planned(Adam(5e-4))  # 100 steps
    assert (found.cause, found.certain) == ("few_steps", False)
    assert found.key == "phases.0.epochs"
    assert found.reason.startswith(
        "the training is short: in 100 steps Adam, at a rate up to 0.0005, moves a weight by 0.05 "
        "at most, where fresh weights are about 0."
    )
    assert found.advice == "train for more epochs, in smaller batches, or at a higher rate"
    assert found.fix is not None and found.fix.learning_rate_factor == 10


@pytest.mark.parametrize(
    ("optimizer", "changes", "cause"),
    [
        (Adam(1e-3), {}, None),  # exactly 0.1
        (Adam(9.9e-4), {}, "few_steps"),
        (keras.optimizers.RMSprop(5e-4), {}, "few_steps"),
        (keras.optimizers.AdamW(5e-4), {}, "few_steps"),
        (Adam(1e-2), {"epochs": 2}, "few_steps"),  # 20 steps
        (Adam(1e-2), {"epochs": 3}, None),  # 30 steps
        (Adam(5e-4, gradient_accumulation_steps=10), {"epochs": 100}, "few_steps"),
        (Adam(5e-4), {"epochs": 100}, None),
        (Adam(1e-3), {"batch_size": 400, "epochs": 10}, "few_steps"),
        (Adam(1e-2), {"batch_size": 400, "epochs": 90}, "few_steps"),
        (Adam(1e-2), {"batch_size": 400, "epochs": 100}, None),  # each takes all rows, and may
        (Adam(1e-2), {"batch_size": 320, "epochs": 90}, None),  # as somebody has chosen
        (keras.optimizers.Adagrad(1e-4), {}, None),  # its steps follow from the gradients
    ],
)
def test_steps_are_counted_with_their_rates(
    optimizer: Any, changes: Any, cause: str | None
) -> None:
    assert [cause_ for cause_, _ in causes(optimizer, **changes)] == ([cause] if cause else [])


def test_a_batch_of_all_rows_is_named() -> None:
    (found,) = planned(Adam(2e-2), rows=20)
    assert (found.cause, found.key) == ("few_steps", "batch_size")
    assert found.reason == (
        "the training is short: it has 10 steps in all, for a batch of 32 takes all of the 20 rows "
        "at once"
    )


def test_phases_have_their_own_rates() -> None:
    slow = [{"name": "a", "epochs": 5, "learning_rate": 1e-4}, {"name": "b", "epochs": 5}]
    assert causes(Adam(1e-4), phases=slow) == [("few_steps", "phases.0.epochs")]
    fast = [{"name": "a", "epochs": 5}, {"name": "b", "epochs": 5, "learning_rate": 1e-2}]
    assert causes(Adam(1e-5), phases=fast) == []


def test_a_cap_of_a_remedys_is_no_fault_of_the_config() -> None:
    assert causes(Adam(0.05), learning_rate_cap=1e-4) == []
    assert causes(Adam(5e-4), learning_rate_cap=1e-4) == [("few_steps", "phases.0.epochs")]


def test_a_rate_that_a_remedy_has_raised_is_looked_at_as_it_is_then() -> None:
    (found,) = planned(Adam(1e-6), learning_rate_factor=10.0)
    assert found.reason.startswith("the learning rate 1e-05 is far below")
    assert found.fix is not None and found.fix.learning_rate_factor == 100.0
    assert causes(Adam(1e-6), learning_rate_factor=5000.0) == []


def test_a_rate_far_below_the_usual_is_named_for_what_it_is() -> None:
    (found,) = planned(Adam(1e-6))
    assert (found.cause, found.certain, found.key) == ("unusual_rate", False, RATE)
    assert found.reason.startswith(
        "the learning rate 1e-06 is far below what Adam usually takes, 0.001: in 100 steps it "
        "moves a weight by 0.0001 at most"
    )
    assert found.advice == "write a rate near 0.001"


@pytest.mark.parametrize(
    ("rate", "steps_apart"),
    [(1e-2, False), (1e-3, False), (1e-6, True)],
)
def test_gradient_descent_is_judged_by_its_gradient(rate: float, steps_apart: bool) -> None:
    assert bool(planned(SGD(rate))) == steps_apart


def test_a_small_rate_is_right_where_gradients_are_large() -> None:
    model = network(SGD(1e-6))
    subject = make_subject(model, X, 1e4 * (X[:, 0] + 2))
    assert [*find_planned_faults(subject)] == []


def test_a_slip_of_the_keyboard_is_named() -> None:
    (found,) = planned(Adam(5.0))
    assert (found.cause, found.certain, found.key) == ("unusual_rate", False, RATE)
    assert found.reason.startswith(
        "the learning rate of phase main is 5, at which one step of Adam moves a weight by 1"
    )
    assert [cause for cause, _ in causes(SGD(100.0))] == ["unusual_rate"]
    phases = [{"name": "a", "epochs": 9}, {"name": "b", "epochs": 9, "learning_rate": 9.0}]
    assert causes(Adam(0.01), phases=phases) == [("unusual_rate", "phases.1.learning_rate")]


@pytest.mark.parametrize(
    ("optimizer", "cap"),
    [
        (Adam(5.0), 0.05),  # a remedy has seen to it
        (Adam(1.0), None),
        (SGD(10.0), None),
        (keras.optimizers.Adadelta(100.0), None),
    ],
)
def test_high_rates_that_are_none(optimizer: Any, cap: float | None) -> None:
    assert causes(optimizer, learning_rate_cap=cap) == []


def test_gradient_descent_has_other_rates() -> None:
    assert causes(SGD(1000.0)) == [("unusual_rate", RATE)]


@pytest.mark.parametrize(
    ("options", "reach"),
    [  # 100 steps at a rate of 0.01 are a way of 1, and each kernel's norm is about 1.5
        ({"clipnorm": 1e-3}, 1e-3),
        ({"clipnorm": 1e-3, "momentum": 0.9}, 1e-2),
        ({"global_clipnorm": 1e-2}, 1e-2),
        ({"clipvalue": 1e-3}, 3e-3),
        ({"clipvalue": 0.1}, None),
        ({"clipnorm": 1.0}, None),
        ({"clipnorm": 1e-2, "momentum": 0.99}, None),
        ({}, None),
    ],
)
def test_a_bound_on_gradients_may_let_no_weight_move(options: Any, reach: float | None) -> None:
    found = [each for each in planned(SGD(0.01, **options)) if each.cause == "clipped"]
    assert len(found) == (reach is not None)
    for each in found:
        name, *_ = options
        assert each.reason.startswith(f"gradients are clipped to {name} {options[name]:g}, with ")
        moved = float(each.reason.split("more than ")[1].split(" of")[0])
        assert reach is not None and reach / 2 < moved < 2 * reach
        assert (each.certain, each.key) == (False, RATE)


def test_a_bound_does_not_slow_what_divides_by_the_gradients() -> None:
    assert causes(Adam(0.01, clipnorm=1e-6)) == []
    assert causes(SGD(0.01, clipnorm=1e-6), model={"file": "base.keras"}) == []


@pytest.mark.parametrize("bound", [0.5, 1.0, 2.0])
def test_where_a_usual_bound_lets_no_weight_move_it_is_the_rate(bound: float) -> None:
    assert causes(SGD(1e-4, clipnorm=bound)) == causes(SGD(1e-4)) == [("unusual_rate", RATE)]


def test_a_rate_of_zero_trains_nothing() -> None:
    (found,) = planned(Adam(0.0))
    assert (found.cause, found.certain, found.key) == ("no_effect", True, RATE)
    assert found.reason == "the learning rate is 0 in all 100 steps, so that no weight changes"
    ended = schedules.PiecewiseConstantDecay([0], [0.0, 0.0])
    (found,) = planned(Adam(ended))
    assert found.certain


@pytest.mark.parametrize(
    ("schedule", "named"),
    [
        (schedules.CosineDecay(0.01, 30), True),  # 0 from step 30 of 100 on
        (schedules.CosineDecay(0.01, 100), False),
        (schedules.CosineDecay(0.01, 30, alpha=0.1), False),
        (schedules.PolynomialDecay(0.01, 20, end_learning_rate=0.0), True),
        (schedules.ExponentialDecay(0.01, 1, 0.5), True),  # 1e-6 of it after 20 steps
        (schedules.ExponentialDecay(0.01, 100, 0.5), False),
        (schedules.CosineDecay(0.0, 90, warmup_target=0.01, warmup_steps=60), False),
        (schedules.CosineDecayRestarts(0.01, 30), False),
    ],
)
def test_a_schedule_that_ends_too_soon(schedule: Any, named: bool) -> None:
    found = planned(Adam(schedule))
    assert [each.cause for each in found] == ["no_effect"] * named
    assert not any(each.certain for each in found)


@pytest.mark.parametrize(
    ("schedule", "stretch", "advice"),
    [
        (
            schedules.CosineDecay(0.01, 10),  # epochs
            10.0,
            "write decay_steps: 100, for decay_steps counts steps, 10 to an epoch, not epochs",
        ),
        (
            schedules.CosineDecay(0.0, 15, warmup_target=0.01, warmup_steps=5),
            5.0,
            "write warmup_steps: 25 and decay_steps: 75, to end with the training",
        ),
        (
            schedules.PiecewiseConstantDecay([3, 19], [0.01, 0.001, 1e-9]),
            5.0,
            "let the schedule reach its end at step 100, the last one",
        ),
        (
            schedules.ExponentialDecay(0.01, 1, 0.5),  # a hundredth is left after 7 steps
            14.29,
            "write decay_steps: 14, to end with the training",
        ),
    ],
)
def test_a_schedule_that_ends_too_soon_may_take_all_steps(
    schedule: Any, stretch: float, advice: str
) -> None:
    (found,) = planned(Adam(schedule))
    assert found.fix is not None and found.fix.schedule_stretch == stretch
    assert found.advice == advice
    assert "no_effect" not in dict(causes(Adam(schedule), schedule_stretch=stretch))


def test_a_phase_with_a_rate_of_its_own_trains_all_the_same() -> None:
    phases = [{"name": "a", "epochs": 10}, {"name": "b", "epochs": 10, "learning_rate": 0.01}]
    assert causes(Adam(schedules.CosineDecay(0.01, 10)), phases=phases) == []


def test_what_the_users_code_decides_is_not_judged() -> None:
    class Own(keras.Sequential):
        def train_step(self, data: Any) -> Any:
            return {}

    model = Own([keras.Input((4,)), layers.Dense(1)])
    model.compile(Adam(0.0), "mse")
    assert causes(None, of=model) == []
    callbacks = {"callbacks": [{"LearningRateScheduler": {"schedule": "rows:rate"}}]}
    assert causes(Adam(0.0), fit=callbacks) == []
    assert causes(Adam(0.0), fit={"callbacks": ["TerminateOnNaN"]}) == [("no_effect", RATE)]
    assert causes(Adam(lambda: 0.0)) == []


def test_fine_tuning_takes_few_steps_at_low_rates() -> None:
    file = {"model": {"file": "base.keras"}}
    assert causes(Adam(1e-6), **file) == []
    fresh = {"model": {"file": "base.keras", "initial_weights": "fresh"}}
    assert causes(Adam(1e-6), **fresh) == [("unusual_rate", RATE)]
    loaded = network(Adam(1e-6))  # by a factory of the user's
    loaded.layers[0].bias.assign(np.linspace(-1, 1, 16))
    made = {"model": {"factory": {"callable": "rows:build"}}}
    assert causes(None, of=loaded, **made) == []
    assert causes(None, of=loaded) == [("unusual_rate", RATE)]  # listed layers are fresh
    frozen = network(Adam(1e-6), trainable=False)
    assert causes(None, of=frozen, **made) == []


def test_nothing_is_known_of_the_training_of_a_model_from_elsewhere() -> None:
    subject = make_subject(network(Adam(0.0)), X, X[:, 0], elsewhere=True)
    assert [*find_planned_faults(subject)] == []
    unknown = dataclasses.replace(
        make_subject(network(Adam(0.0)), X, X[:, 0]), steps_per_epoch=None
    )
    assert [*find_planned_faults(unknown)] == []
