"""The rates at which networks train, by their optimizer and their widths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, optimizers

from orchestrator.data.rows import Rows
from orchestrator.diagnosis.causes.plan import sound_rate
from orchestrator.model.outputs import find_outputs
from orchestrator.record.events import ModelBuilt
from tests.conftest import MakeConfig
from tests.training.attempt.checking.test_outlook import train


@pytest.mark.parametrize(
    ("optimizer", "stack", "rate"),
    [
        (optimizers.SGD(5.0), [layers.Dense(8), layers.Dense(1)], 0.03),
        (optimizers.Adam(5.0), [layers.Dense(32), layers.Dense(1)], 0.01),
        (optimizers.Adam(5.0), [layers.Dense(33), layers.Dense(1)], 0.003),
        (optimizers.RMSprop(), [layers.Reshape((4, 1)), layers.GRU(16), layers.Dense(1)], 0.01),
        (optimizers.Lion(), [layers.Dense(8), layers.Dense(1)], 0.003),
        (optimizers.Adagrad(), [layers.Dense(8), layers.Dense(1)], 0.1),
        (optimizers.Ftrl(), [layers.Dense(8), layers.Dense(1)], None),
    ],
)
def test_the_rate_that_does_is_the_optimizers_and_that_of_the_width(
    optimizer: Any, stack: list[Any], rate: float | None
) -> None:
    model = keras.Sequential([layers.Input((4,)), *stack])
    model.compile(optimizer, "mse")
    assert sound_rate(model) == pytest.approx(rate)


@pytest.mark.parametrize(
    ("optimizer", "loss", "stack", "rate"),
    [
        (optimizers.SGD(), "mse", [layers.Dense(16)], 0.03),
        (optimizers.SGD(), "mse", [layers.Dense(64)] * 4, 2 / (4 + 4 * 64)),
        (optimizers.SGD(), "mse", [layers.Dense(256)] * 3, 2 / (4 + 3 * 256)),
        (optimizers.SGD(), "huber", [layers.Dense(256)] * 3, 0.03),
        (optimizers.SGD(), "mse", [layers.Dense(256), layers.BatchNormalization()] * 3, 0.03),
        (optimizers.Adam(), "mse", [layers.Dense(256)] * 3, 0.003),
    ],
)
def test_steps_of_sgd_under_squared_error_are_the_smaller_the_more_inputs_there_are(
    make_config: MakeConfig, optimizer: Any, loss: str, stack: list[Any], rate: float
) -> None:
    copies = [type(each).from_config(each.get_config() | {"name": None}) for each in stack]
    model = keras.Sequential([layers.Input((4,)), *copies, layers.Dense(1)])
    model.compile(optimizer, loss)
    x, y = np.zeros((8, 4), np.float32), np.arange(8.0)
    outputs = find_outputs(model, make_config(), Rows(x=x, y=y))
    assert sound_rate(model, outputs) == pytest.approx(rate, rel=0.02)


def test_the_planned_rate_is_that_of_the_longest_phase(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    phases = [
        {"name": "warmup", "epochs": 1, "learning_rate": 1e-6},
        {"name": "main", "epochs": 2},
        {"name": "shock", "epochs": 1, "learning_rate": 0.5},
    ]
    decay = {"CosineDecay": {"initial_learning_rate": 2e-4, "decay_steps": 1000}}
    adam = {"optimizer": {"Adam": {"learning_rate": decay}}, "loss": "mse"}
    events = train(make_config(phases=phases, compile=adam), tmp_path / "1")
    (told,) = [event for event in events if isinstance(event, ModelBuilt)]
    assert told.planned_rate == pytest.approx(2e-4, rel=0.1)
    assert told.sound_rate is not None
