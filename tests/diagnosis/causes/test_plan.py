"""The rates at which networks train, by their optimizer and their widths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, optimizers

from orchestrator.data.rows import Rows
from orchestrator.diagnosis.causes.plan import faster, sound_rate
from orchestrator.model.outputs import find_outputs
from orchestrator.record.events import ModelBuilt
from tests.conftest import MakeConfig
from tests.training.attempt.checking.test_outlook import train


@pytest.mark.parametrize(
    ("optimizer", "stack", "rate"),
    [
        (optimizers.SGD(5.0), [layers.Dense(8), layers.Dense(1)], 0.03),
        (optimizers.SGD(5.0, momentum=0.9), [layers.Dense(8), layers.Dense(1)], 0.03),
        (optimizers.SGD(5.0, momentum=0.99), [layers.Dense(8), layers.Dense(1)], 0.003),
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
    assert sound_rate(model, ()) == pytest.approx(rate)


def wide(*between: Any, depth: int = 3, width: int = 256) -> list[Any]:
    """Layers of so many units, with a copy of those between behind each."""
    copies = [
        type(each).from_config(each.get_config() | {"name": None}) for each in between * depth
    ]
    step = len(between)
    blocks = [[layers.Dense(width), *copies[at * step : (at + 1) * step]] for at in range(depth)]
    return [layer for block in blocks for layer in block]


def own_error(y: Any, predicted: Any) -> Any:
    return keras.ops.mean((y - predicted) ** 2, axis=-1)


own_error.__name__ = "mean_squared_error"


@pytest.mark.parametrize(
    ("stack", "options", "rate"),
    [
        (wide(depth=1, width=16), {}, 0.03),
        (wide(depth=4, width=64), {}, 2 / (4 + 4 * 64)),
        (wide(), {"optimizer": optimizers.SGD(momentum=0.99)}, 0.2 / (4 + 3 * 256)),
        (wide(), {}, 2 / (4 + 3 * 256)),
        (wide(), {"optimizer": optimizers.Adam()}, 0.003),
        # An error that is bounded, or not known to be squared.
        (wide(), {"loss": "huber"}, 0.03),
        (wide(), {"loss": own_error}, 0.03),
        (wide(), {"end": "sigmoid"}, 0.03),
        # What normalises between layers lets none add to the other; in front of them it does not.
        (wide(layers.BatchNormalization()), {}, 0.03),
        (wide(layers.RMSNormalization()), {}, 0.03),
        ([layers.BatchNormalization(), *wide()], {}, 2 / (4 + 3 * 256)),
        # What is looked up is no sum.
        ([layers.Embedding(1000, 4), layers.Flatten(), layers.Dense(16)], {}, 0.03),
    ],
)
def test_steps_of_sgd_under_squared_error_are_the_smaller_the_more_inputs_there_are(
    make_config: MakeConfig, stack: list[Any], options: dict[str, Any], rate: float
) -> None:
    end = layers.Dense(1, options.get("end"))
    model = keras.Sequential([layers.Input((4,)), *stack, end])
    model.compile(options.get("optimizer", optimizers.SGD()), options.get("loss", "mse"))
    x, y = np.zeros((8, 4), np.float32), np.linspace(0, 1, 8)
    outputs = find_outputs(model, make_config(), Rows(x=x, y=y))
    assert sound_rate(model, outputs) == pytest.approx(rate, rel=0.02)


@pytest.mark.parametrize(
    ("rate", "momentum", "factor", "gathered"),
    [
        (1e-4, 0.0, 100.0, 26.0),  # without momentum 0.026 does what 0.0026 does with 0.9
        (0.01, 0.0, 2.6, 0.26),
        (0.05, 0.0, None, None),
        (1e-4, 0.9, 26.0, None),
        (0.01, 0.9, None, None),
    ],
)
def test_no_rate_is_raised_above_what_the_size_allows(
    make_config: MakeConfig,
    rate: float,
    momentum: float,
    factor: float | None,
    gathered: float | None,
) -> None:
    model = keras.Sequential([layers.Input((4,)), *wide(), layers.Dense(1)])
    model.compile(optimizers.SGD(rate, momentum=momentum), "mse")
    x, y = np.zeros((8, 4), np.float32), np.linspace(0, 1, 8)
    fix = faster(model, find_outputs(model, make_config(), Rows(x=x, y=y)), rate, 100.0)
    found = (fix.learning_rate_factor or 0.0, fix.factor_with_momentum or 0.0)
    assert found == pytest.approx((factor or 0.0, gathered or 0.0), rel=0.02)


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
