"""Callbacks by themselves, with nothing around them but what they are handed."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest

from orchestrator.record.events import EpochEnded, TrainingProgress
from orchestrator.training.attempt import callbacks
from orchestrator.training.attempt.callbacks import (
    CapRates,
    EndWhenLost,
    EpochLog,
    Epochs,
    Heartbeats,
    SeedGenerators,
)
from orchestrator.training.attempt.checking.moment import Moment
from orchestrator.training.attempt.learning_rate import Rates

NAN = math.nan


def compiled(rate: float = 0.5, cap: float | None = None) -> tuple[keras.Model, Rates]:
    dropout = keras.layers.Dropout(0.5)
    model = keras.Sequential([keras.Input((2,)), dropout, keras.layers.Dense(1)])
    model.compile(optimizer=keras.optimizers.SGD(rate), loss="mse")
    return model, Rates([model.optimizer], cap)


def test_the_log_keeps_and_reports_what_epochs_log() -> None:
    events: list[Any] = []
    log = EpochLog(events.append, attempt=2, phase="main", rates=compiled()[1])
    assert log.epochs == Epochs()
    log.on_train_batch_end(0, {"loss": 8.0})
    log.on_train_batch_end(1, {"loss": 4.0})
    log.on_epoch_end(5, {"loss": 6.0, "mae": np.float32(2.0)})
    log.on_epoch_end(6, {"loss": 3.0, "mae": np.float32(1.0)})
    assert log.epochs == Epochs(
        count=2,
        metrics={"loss": 3.0, "mae": 1.0},
        losses={6: 6.0, 7: 3.0},
        rates=(0.5, 0.5),
        first_loss=8.0,
    )
    assert events[0] == EpochEnded(
        attempt=2, phase="main", epoch=6, learning_rate=0.5, metrics={"loss": 6.0, "mae": 2.0}
    )
    assert [event.epoch for event in events] == [6, 7]


@pytest.mark.parametrize(("at_a_time", "known"), [(1, True), (4, False)])
def test_a_loss_that_steps_at_a_time_have_lost_is_not_that_of_the_first(
    at_a_time: int, known: bool
) -> None:
    """The untrained network's loss is finite, whose fourth step is not."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1e15), "mse", steps_per_execution=at_a_time)
    log = EpochLog(lambda _: None, attempt=1, phase="main", rates=compiled()[1])
    x = np.ones((8, 1))
    model.fit(x, x, batch_size=1, verbose=0, callbacks=[log])
    assert not math.isfinite(model.evaluate(x, x, verbose=0))
    assert (log.epochs.first_loss is not None) is known
    assert log.epochs.first_loss is None or math.isfinite(log.epochs.first_loss)
    # One that is lost before any step is told of where it is that of a step.
    log = EpochLog(lambda _: None, attempt=1, phase="main", rates=compiled()[1])
    log.set_model(model)
    log.on_train_batch_end(0, {"loss": math.nan})
    assert (log.epochs.first_loss is not None) is known


def test_penalties_of_weights_are_kept_and_left_out_of_what_is_fitted() -> None:
    """Keras logs the mean of an epoch's steps, in which the weights have changed."""
    model, rates = compiled()
    kernel = model.layers[-1].kernel
    kernel.regularizer = keras.regularizers.L2(0.5)
    log = EpochLog(lambda _: None, attempt=1, phase="main", rates=rates)
    log.set_model(model)
    for epoch, (size, loss) in enumerate([(2.0, 10.0), (1.0, 8.0), (0.0, 7.0)]):
        kernel.assign(np.full((2, 1), size))
        log.on_epoch_end(epoch, {"loss": loss})
    assert log.epochs.penalties == {1: 4.0, 2: 1.0, 3: 0.0}
    built: Any = SimpleNamespace(model=model)
    known: Any = {"task": None, "rows": None, "built": built, "emit": None}
    assert Moment(trained=[log.epochs], **known).fitted == [
        6.0, pytest.approx(8 - 3 / np.log(4)), 7.0
    ]  # fmt: skip
    assert Moment(trained=[dataclasses.replace(log.epochs, penalties={})], **known).fitted == [
        10.0, 8.0, 7.0
    ]  # fmt: skip


def test_what_is_no_number_is_not_kept() -> None:
    """The user's callbacks may log anything."""
    log = EpochLog(lambda _: None, attempt=1, phase="main", rates=compiled()[1])
    log.on_epoch_end(0, {"loss": 1, "note": "x", "none": None, "1j": 1j, "huge": 10**400})
    assert log.epochs.metrics == {"loss": 1.0, "none": pytest.approx(NAN, nan_ok=True)}


def test_two_logs_share_nothing() -> None:
    one, two = (
        EpochLog(lambda _: None, attempt=1, phase=name, rates=compiled()[1]) for name in "ab"
    )
    one.on_epoch_end(0, {"loss": 1.0})
    assert two.epochs == Epochs()


@pytest.mark.parametrize(
    ("losses", "highest"),
    [([], None), ([1.0, 3.0, 2.0], 3.0), ([1.0, math.inf, 9.0], math.inf), ([1.0, NAN], NAN)],
)
def test_a_loss_that_is_not_finite_is_the_highest(
    losses: list[float], highest: float | None
) -> None:
    found = Epochs(losses=dict(enumerate(losses, start=1))).highest_loss
    assert found == highest or (found is not None and highest is not None and math.isnan(found))


def test_heartbeats_come_at_most_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(callbacks.time, "monotonic", lambda: now)
    reports: list[Any] = []
    heartbeats = Heartbeats(reports.append, steps=9)
    for step, now in enumerate([100.5, 100.9, 101.0, 101.5, 102.0, 109.0]):  # noqa: B007 - read above
        heartbeats.on_train_batch_end(step)
    assert reports == [TrainingProgress(step=step, steps=9) for step in (3, 5, 6)]


def test_a_validation_pass_has_heartbeats_too(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(callbacks.time, "monotonic", lambda: now)
    reports: list[Any] = []
    heartbeats = Heartbeats(reports.append, steps=4, done=2)
    heartbeats.on_train_batch_end(1)
    for step, now in enumerate([100.5, 101.0, 101.5, 102.0]):  # noqa: B007 - read above
        heartbeats.on_test_batch_end(step)
    assert reports == [TrainingProgress(step=4, steps=4)] * 2


def test_generators_follow_from_seed_and_epoch() -> None:
    def states(seed: int, epoch: int) -> list[int]:
        model, _ = compiled()
        callback = SeedGenerators(seed)
        callback.set_model(model)
        callback.on_train_begin()
        model(np.ones((4, 2)), training=True)  # which moves the generator on
        callback.on_epoch_begin(epoch)
        found: list[int] = model.layers[0].seed_generator.state.numpy().tolist()
        return found

    assert states(3, 5) == states(3, 5)
    assert len({tuple(states(seed, epoch)) for seed in (3, 4) for epoch in (0, 5)}) == 4
    assert states(3, 5) == np.random.SeedSequence((3, 5, 0)).generate_state(2).tolist()


def test_the_global_generators_follow_from_seed_and_epoch_too() -> None:
    def drawn(seed: int, epoch: int) -> tuple[float, float]:
        callback = SeedGenerators(seed)
        callback.on_epoch_begin(epoch)
        return random.random(), np.random.random()

    assert drawn(3, 5) == drawn(3, 5)
    assert len({each for seed in (3, 4) for epoch in (0, 5) for each in drawn(seed, epoch)}) == 8


def test_a_rate_that_was_raised_is_capped() -> None:
    model, rates = compiled(0.5, cap=0.25)
    assert rates.start_phase(None, first=0, epochs=2) == 0.25
    model.optimizer.learning_rate = 3.0
    CapRates(rates).on_epoch_begin(1)
    assert float(model.optimizer.learning_rate) == 0.25


class Peak(keras.callbacks.Callback):  # type: ignore[misc]
    """A rate that peaks within the epoch, and is low when it ends; a tenth after every epoch."""

    rates = (0.01, 1.0, 0.01, 0.001)

    def __init__(self) -> None:
        super().__init__()
        self.used: list[float] = []

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.model.optimizer.learning_rate = self.rates[batch]

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.used.append(float(self.model.optimizer.learning_rate))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.model.optimizer.learning_rate = 1e-5


@pytest.mark.parametrize(("cap", "highest"), [(None, 1.0), (0.05, 0.05)])
def test_a_rate_that_a_callback_sets_within_an_epoch_is_capped_and_told(
    cap: float | None, highest: float
) -> None:
    model, rates = compiled(0.01, cap=cap)
    rates.start_phase(None, first=0, epochs=2)
    peak, log = Peak(), EpochLog(lambda _: None, attempt=1, phase="main", rates=rates)
    kept = [peak, CapRates(rates, within=True), log]
    model.fit(np.ones((4, 2)), np.ones(4), batch_size=1, epochs=2, verbose=0, callbacks=kept)
    assert peak.used == pytest.approx([0.01, highest, 0.01, 0.001] * 2)
    assert log.epochs.rates == pytest.approx([highest, highest])


def test_a_phase_is_ended_where_all_is_lost_but_not_in_its_last_epoch() -> None:
    asked: list[Mapping[int, float]] = []

    def is_lost(losses: Mapping[int, float]) -> bool:
        asked.append(losses)
        return len(asked) > 1

    model, _ = compiled()
    model.stop_training = False
    callback = EndWhenLost(is_lost, last_epoch=8)
    callback.set_model(model)
    callback.on_epoch_end(4, {"loss": 2.0})
    assert not model.stop_training
    callback.on_epoch_end(5, {})
    assert model.stop_training
    callback.on_epoch_end(7, {"loss": 2.0})
    assert asked == [{5: 2.0}, {}]
