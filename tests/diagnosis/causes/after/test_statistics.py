"""BatchNorm's moving statistics: not arrived, and arrived."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from orchestrator.diagnosis.causes.after.statistics import find_lagging_statistics
from tests.diagnosis.causes.after.subjects import causes, ended, stack, trained

layers = keras.layers


def normalised(momentum: float) -> keras.Model:
    """A network whose inputs are scaled by their statistics alone."""
    return stack(
        layers.BatchNormalization(momentum=momentum),
        layers.Dense(8, activation="relu", kernel_initializer=keras.initializers.HeNormal(seed=1)),
    )


@pytest.mark.parametrize(("momentum", "expected"), [(0.99, ["lagging_statistics"]), (0.5, [])])
def test_moving_statistics_need_time_to_arrive(momentum: float, expected: list[str]) -> None:
    x = np.random.default_rng(0).normal(size=(100, 3)).astype("float32")
    y = x.sum(axis=1)
    subject = trained(
        normalised(momentum), 30 * x + 60, y, optimizer=keras.optimizers.Adam(0.05), epochs=12
    )
    assert causes(subject) == expected
    for found in find_lagging_statistics(subject):
        assert "79% of their first value is left after 24 steps at momentum 0.99" in found.reason
        assert found.advice == "write a momentum of 0.83 or less, or train for more steps"
        assert not found.certain


def test_without_such_a_layer_nothing_lags() -> None:
    assert ended(stack()).lag is None
