"""BatchNorm's moving statistics: not arrived, and arrived."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
from msgspec.structs import replace

from orchestrator.diagnosis.causes.after.find import find_after
from orchestrator.diagnosis.causes.after.statistics import (
    find_lagging_statistics,
    find_small_batches,
)
from orchestrator.record.checks import FindingsCheck, FindingsMeasured
from tests import builders
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


@pytest.mark.parametrize(
    ("batch_size", "before", "named"),
    [
        (2, ["small_batches"], True),
        (1, ["small_batches"], True),
        (3, ["small_batches"], False),  # a network may cope with it
        (2, ["small_batches", "unscaled_inputs"], False),
        (2, [], False),
    ],
)
def test_batches_of_two_values_are_at_fault_where_nothing_else_is(
    batch_size: int, before: list[str], named: bool
) -> None:
    check = FindingsCheck(
        verdict="warn", reason="found before", measured=FindingsMeasured(causes=before)
    )
    init = replace(builders.phase("init"), checks=(check,))
    subject = ended(
        stack(layers.BatchNormalization(name="norm")),
        config=builders.config(batch_size=batch_size),
    )
    subject = dataclasses.replace(subject, phases=(init, *subject.phases[1:]))
    found = [*find_small_batches(subject)]
    assert [each.cause for each in found] == ["small_batches"] * named
    for each in found:
        assert each.found == "after" and not each.certain
        assert f"layer norm normalises by the mean and deviation of {batch_size} value" in (
            each.reason
        )
    assert [each.cause for each in find_after(subject, before)] == ["small_batches"] * named
