"""Penalties that outweigh the rest of the loss before a training, and usual ones."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from orchestrator.diagnosis.causes.before.find import find_before
from orchestrator.diagnosis.causes.before.signal.penalty import find_strong_penalty
from orchestrator.record.records import Finding
from tests.diagnosis.causes.before.subjects import compiled, make_subject

layers, regularizers = keras.layers, keras.regularizers
X = np.random.default_rng(0).normal(size=(200, 8)).astype("float32")
Y = X[:, 0] + np.sin(3 * X[:, 1])


def found(optimizer: Any = "adam", **options: Any) -> list[Finding]:
    keras.utils.set_random_seed(0)
    hidden = [layers.Dense(64, activation="relu", name=name, **options) for name in ("a", "b")]
    model = compiled(*hidden, layers.Dense(1), shape=(8,), optimizer=optimizer)
    subject = make_subject(model, X, Y)
    told = [*find_strong_penalty(subject)]
    assert [each for each in find_before(subject) if each.cause == "over_regularised"] == told
    return told


@pytest.mark.parametrize(
    ("regularizer", "named"),
    [
        (None, False),
        (regularizers.L2(1.0), True),
        (regularizers.L1(0.1), True),
        (regularizers.L2(0.01), False),
        (regularizers.L1(0.001), False),
    ],
)
def test_a_penalty_that_outweighs_the_loss_is_suspected(regularizer: Any, named: bool) -> None:
    told = found(kernel_regularizer=regularizer)
    assert [(each.certain, each.found) for each in told] == [(False, "before")] * named
    for each in told:
        assert "before any training, most of it that of layer b, and the rest" in each.reason


@pytest.mark.parametrize(("decay", "named"), [(0.1, False), (1.0, True)])
def test_so_is_a_decay_that_draws_all_weights_back(decay: float, named: bool) -> None:
    told = found(keras.optimizers.AdamW(0.001, weight_decay=decay))
    assert [each.reason for each in told] == [
        "a weight_decay of 1 draws every weight back to below 1"
    ] * named


def test_no_frozen_weight_has_one() -> None:
    assert not found(kernel_regularizer=regularizers.L2(1.0), trainable=False)
