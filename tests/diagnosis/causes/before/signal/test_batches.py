"""BatchNorm over a few values, and over enough."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from orchestrator.diagnosis.causes.before.find import find_before
from orchestrator.diagnosis.causes.before.signal.batches import find_small_batches
from orchestrator.record.records import Finding
from tests.diagnosis.causes.before.subjects import compiled, make_subject

layers = keras.layers
X = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")


def small(*stack: Any, batch_size: int = 2, x: Any = X, **options: Any) -> list[Finding]:
    model = compiled(*stack, layers.Dense(1), shape=x.shape[1:])
    subject = make_subject(model, x, X[:, 0], batch_size=batch_size, **options)
    found = [*find_small_batches(subject)]
    assert [each for each in find_before(subject) if each.cause == "small_batches"] == found
    return found


@pytest.mark.parametrize(("rows", "named"), [(1, True), (2, True), (5, True), (6, False)])
def test_a_batch_of_a_few_rows_is_named(rows: int, named: bool) -> None:
    found = small(layers.Dense(8), layers.BatchNormalization(name="norm"), batch_size=rows)
    assert [(each.cause, each.certain, each.key) for each in found] == [
        ("small_batches", False, "batch_size")
    ] * named
    for each in found:
        values = f"{rows} values" if rows > 1 else "1 value"
        assert (
            f"layer norm normalises by the mean and deviation of a batch, which has {values} of"
            in (each.reason)
        )


@pytest.mark.parametrize("axis", [-1, 1])
def test_each_position_is_a_value(axis: int) -> None:
    images = X.reshape(64, 2, 2, 1) if axis == -1 else X.reshape(64, 1, 2, 2)
    norm = layers.BatchNormalization(axis=axis)
    assert not small(norm, layers.Flatten(), x=images)
    assert small(norm, layers.Flatten(), x=images, batch_size=1)
    assert small(norm, layers.Flatten(), layers.BatchNormalization(), x=images)


def test_what_is_frozen_or_normalises_each_row_is_not() -> None:
    frozen = layers.BatchNormalization()
    frozen.trainable = False
    assert not small(layers.Dense(8), frozen)
    assert not small(layers.Dense(8), layers.LayerNormalization())
    assert not small(layers.Dense(8), layers.BatchNormalization(), elsewhere=True)
