"""Learning rates of phases, under a cap."""

from typing import Any

import keras
import numpy as np
import pytest

from orchestrator.training.attempt.learning_rate import Rates

ROWS = np.ones((4, 1), np.float32), np.ones(4, np.float32)


def compiled(learning_rate: object) -> keras.Model:
    model = keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(learning_rate), loss="mse")
    return model


def started(rates: Rates, learning_rate: float | None = None) -> float:
    return rates.start_phase(learning_rate, first=0, epochs=4)


def test_a_phase_without_a_rate_goes_back_to_the_optimizers() -> None:
    rates = Rates([compiled(0.5).optimizer], None)
    assert [started(rates, rate) for rate in (None, 0.25, None)] == [0.5, 0.25, 0.5]


@pytest.mark.parametrize(("wanted", "expected"), [(None, 0.125), (0.25, 0.125), (0.0625, 0.0625)])
def test_no_rate_is_above_the_cap(wanted: float | None, expected: float) -> None:
    model = compiled(0.5)
    assert started(Rates([model.optimizer], 0.125), wanted) == expected
    assert float(model.optimizer.learning_rate) == expected


def test_a_rate_that_a_callback_raised_comes_under_the_cap_at_the_next_epoch() -> None:
    model = compiled(0.5)
    rates = Rates([model.optimizer], 0.125)
    started(rates)
    model.optimizer.learning_rate = 0.75
    rates.start_epoch(1)
    assert float(model.optimizer.learning_rate) == 0.125


def test_a_schedule_runs_under_the_cap_and_reports_its_highest_rate() -> None:
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([0, 1], [0.5, 0.25, 0.0625])
    model = compiled(schedule)
    rates = Rates([model.optimizer], 0.375)
    assert started(rates) == 0.375  # step 0 of the schedule, 0.5, capped
    model.fit(*ROWS, batch_size=4, epochs=1, verbose=0)
    assert rates.highest() == 0.375
    rates.start_epoch(1)
    model.fit(*ROWS, batch_size=4, epochs=1, verbose=0)
    assert rates.highest() == 0.25
    assert started(rates, 0.03125) == 0.03125
    assert started(rates) == 0.0625  # step 2: the schedule went on meanwhile


def test_a_schedule_may_take_more_steps() -> None:
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([1], [0.5, 0.25])
    model = compiled(schedule)
    rates = Rates([model.optimizer], None, stretch=2.5)
    started(rates)
    found = []
    for _ in range(6):
        found.append(float(model.optimizer.learning_rate))
        model.optimizer.iterations.assign_add(1)
    assert found == [0.5] * 5 + [0.25]
    with rates.plain():
        assert model.optimizer._learning_rate is schedule


def test_a_schedule_is_saved_as_the_users_own(tmp_path: object) -> None:
    schedule = keras.optimizers.schedules.ExponentialDecay(0.5, 10, 0.5)
    model = compiled(schedule)
    rates = Rates([model.optimizer], 0.1)
    with rates.plain():
        saved = model.optimizer.get_config()["learning_rate"]
    assert saved["class_name"] == "ExponentialDecay"
    assert float(model.optimizer.learning_rate) == pytest.approx(0.1)


def test_every_rate_is_raised_before_it_is_capped() -> None:
    rates = Rates([compiled(0.5).optimizer], 3.0, 4.0)
    assert [started(rates, rate) for rate in (None, 0.25, 1.0)] == [2.0, 1.0, 3.0]
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([0, 1], [0.5, 0.25, 0.0625])
    rates = Rates([compiled(schedule).optimizer], 3.0, 4.0)
    assert [started(rates, rate) for rate in (None, 0.25, 1.0)] == [2.0, 1.0, 3.0]


def test_a_cap_falls_in_the_second_half_of_each_phase() -> None:
    model = compiled(0.5)
    rates = Rates([model.optimizer], 0.125, anneal=0.2)
    assert not rates.is_constant
    for first in (0, 5):
        seen = [rates.start_phase(None, first=first, epochs=5)]
        for epoch in range(first, first + 5):
            rates.start_epoch(epoch)
            seen.append(float(model.optimizer.learning_rate))
        assert seen == pytest.approx([0.125, 0.125, 0.125, 0.125, 0.075, 0.025])
    # What is below it all the time is left alone, and an epoch alone has no second half.
    assert rates.start_phase(0.01, first=10, epochs=4) == pytest.approx(0.01)
    rates.start_epoch(13)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.01)
    assert rates.start_phase(None, first=14, epochs=1) == 0.125


@pytest.mark.parametrize("decays", [False, True])
def test_epochs_that_a_remedy_adds_are_at_what_the_cap_fell_to(decays: bool) -> None:
    schedule = keras.optimizers.schedules.ExponentialDecay(0.5, 1, 0.99)
    model = compiled(schedule if decays else 0.5)
    rates = Rates([model.optimizer], 0.125, anneal=0.2)
    started(rates)
    for epoch in (4, 5):
        rates.start_epoch(epoch)
        assert float(model.optimizer.learning_rate) == pytest.approx(0.025)


def test_a_falling_cap_holds_a_schedule_without_a_new_trace() -> None:
    traces = []

    class Traced(keras.optimizers.schedules.ExponentialDecay):
        def __call__(self, step: Any) -> Any:
            traces.append(step)
            return super().__call__(step)

    model = compiled(Traced(0.5, 1, 0.99))
    rates = Rates([model.optimizer], 0.125, anneal=0.2)
    seen = []
    for epoch in range(4):
        if not epoch:
            assert started(rates) == 0.125
        rates.start_epoch(epoch)
        model.fit(*ROWS, batch_size=4, epochs=1, verbose=0)
        seen.append((rates.highest(), len(traces)))
    assert [rate for rate, _ in seen] == pytest.approx([0.125, 0.125, 0.075, 0.025])
    assert len({count for _, count in seen}) == 1


def test_what_was_the_highest_rate_inside_of_an_epoch_is_gone_on_from() -> None:
    model = compiled(0.5)
    rates = Rates([model.optimizer], None)
    started(rates)
    rates.start_step()
    found = rates.highest()
    rates.start_epoch(0)
    rates.go_on(found)
    model.optimizer.learning_rate = 0.25
    rates.start_step()
    assert rates.highest() == 0.5
    rates.start_epoch(1)
    assert rates.highest() == 0.25
