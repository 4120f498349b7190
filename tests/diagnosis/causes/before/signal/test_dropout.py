"""Dropout that does harm, and that of the textbook."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from orchestrator.diagnosis.causes.before.signal.dropout import find_heavy_dropout
from orchestrator.record.records import Finding
from tests.diagnosis.causes.before.subjects import compiled, make_subject

layers = keras.layers


def dropout(*stack: Any, shape: tuple[int, ...] = (4,), **options: Any) -> list[Finding]:
    model = compiled(*stack, shape=shape, **options)
    x = np.random.default_rng(0).normal(size=(64, *shape)).astype("float32")
    return [*find_heavy_dropout(make_subject(model, x, x.reshape(64, -1)[:, 0]))]


def test_dropout_on_the_output_is_named() -> None:
    (found,) = dropout(layers.Dense(8), layers.Dense(1), layers.Dropout(0.2, name="drop"))
    assert (found.cause, found.certain) == ("heavy_dropout", False)
    assert found.told == "layer drop drops 20% of the output itself in training: leave it out"
    logits = dropout(layers.Dense(1), layers.Dropout(0.5), layers.Activation("sigmoid"),
                     loss="binary_crossentropy")  # fmt: skip
    assert len(logits) == 1


def test_dropout_that_leaves_next_to_nothing_is_named() -> None:
    (found,) = dropout(layers.Dense(8), layers.Dropout(0.9, name="drop"), layers.Dense(1))
    assert found.told == (
        "layer drop drops 90% of what it is given in training: write a rate of 0.5 or less"
    )


def test_dropout_of_the_textbook_is_healthy() -> None:
    assert not dropout(layers.Dense(8), layers.Dropout(0.5), layers.Dense(1))
    assert not dropout(layers.Dropout(0.8), layers.Dense(1))
    assert not dropout(layers.Dense(1), layers.Dropout(0.0))
    # A mean over many is hardly touched by some that are dropped.
    pooled = dropout(layers.Conv1D(1, 3), layers.Dropout(0.3), layers.GlobalAveragePooling1D(),
                     shape=(20, 2))  # fmt: skip
    assert not pooled
    own = dropout(layers.Dense(8), layers.Dropout(0.3), loss=lambda y, p: (p - p[::-1]) ** 2)
    assert not own  # views of the same row that differ by what is dropped
