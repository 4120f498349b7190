"""Moving statistics that cannot arrive, and those that need not."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from orchestrator.diagnosis.causes.before.signal.statistics import find_slow_statistics
from orchestrator.record.records import Finding
from tests.diagnosis.causes.before.subjects import compiled, make_subject

layers = keras.layers

X = np.random.default_rng(0).normal(size=(300, 4)).astype("float32")
Y = (X[:, 0] > 0).astype("float32")


def slow(x: Any, epochs: int = 3, momentum: float = 0.99, **changes: Any) -> list[Finding]:
    model = compiled(
        layers.Dense(8, name="first"),
        layers.BatchNormalization(momentum=momentum, name="norm"),
        layers.Activation("relu"),
        layers.Dense(8, use_bias=False),
        layers.BatchNormalization(momentum=momentum),
        layers.Activation("relu"),
        layers.Dense(1, activation="sigmoid"),
        loss="binary_crossentropy",
    )
    changes.setdefault("phases", [{"name": "main", "epochs": epochs}])
    return [*find_slow_statistics(make_subject(model, x, Y, **changes))]


FAR = (60 + 10 * X).astype("float32")


def test_statistics_that_cannot_arrive_are_named() -> None:
    (found,) = slow(FAR)  # 30 steps
    assert (found.cause, found.certain) == ("slow_statistics", False)
    assert found.reason == (
        "layer norm predicts with moving statistics that have not arrived: with momentum 0.99, "
        "74% of their first values is left after the training's 30 steps, and what goes in is far "
        "from those"
    )
    assert found.advice == "write momentum=0.85, or train for 459 steps or more"


def test_statistics_that_arrive_or_need_not_go_anywhere_are_not_named() -> None:
    assert not slow(FAR, momentum=0.8)
    assert not slow(FAR, epochs=100)
    assert not slow(X)  # 0 and 1 are where they belong
    assert not slow(FAR, model={"file": "trained.keras"})


def test_signals_that_statistics_shrink_to_nothing_are_named() -> None:
    assert slow(0.01 * X)
