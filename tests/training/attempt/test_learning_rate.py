"""Learning rates of phases, under a cap."""

import keras
import numpy as np
import pytest

from orchestrator.training.attempt.learning_rate import Rates

ROWS = np.ones((4, 1), np.float32), np.ones(4, np.float32)


def compiled(learning_rate: object) -> keras.Model:
    model = keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(learning_rate), loss="mse")
    return model


def test_a_phase_without_a_rate_goes_back_to_the_optimizers() -> None:
    rates = Rates([compiled(0.5).optimizer], None)
    assert [rates.start_phase(rate) for rate in (None, 0.25, None)] == [0.5, 0.25, 0.5]


@pytest.mark.parametrize(("wanted", "expected"), [(None, 0.125), (0.25, 0.125), (0.0625, 0.0625)])
def test_no_rate_is_above_the_cap(wanted: float | None, expected: float) -> None:
    model = compiled(0.5)
    assert Rates([model.optimizer], 0.125).start_phase(wanted) == expected
    assert float(model.optimizer.learning_rate) == expected


def test_a_rate_that_a_callback_raised_comes_under_the_cap_at_the_next_epoch() -> None:
    model = compiled(0.5)
    rates = Rates([model.optimizer], 0.125)
    rates.start_phase(None)
    model.optimizer.learning_rate = 0.75
    rates.start_epoch()
    assert float(model.optimizer.learning_rate) == 0.125


def test_a_schedule_runs_under_the_cap_and_reports_its_highest_rate() -> None:
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([0, 1], [0.5, 0.25, 0.0625])
    model = compiled(schedule)
    rates = Rates([model.optimizer], 0.375)
    assert rates.start_phase(None) == 0.375  # step 0 of the schedule, 0.5, capped
    model.fit(*ROWS, batch_size=4, epochs=1, verbose=0)
    assert rates.highest() == 0.375
    rates.start_epoch()
    model.fit(*ROWS, batch_size=4, epochs=1, verbose=0)
    assert rates.highest() == 0.25
    assert rates.start_phase(0.03125) == 0.03125
    assert rates.start_phase(None) == 0.0625  # step 2: the schedule went on meanwhile


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
    assert [rates.start_phase(rate) for rate in (None, 0.25, 1.0)] == [2.0, 1.0, 3.0]
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([0, 1], [0.5, 0.25, 0.0625])
    rates = Rates([compiled(schedule).optimizer], 3.0, 4.0)
    assert [rates.start_phase(rate) for rate in (None, 0.25, 1.0)] == [2.0, 1.0, 3.0]
