"""What holds a network back, planted in trainings by Keras, and the same in a small dose."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from orchestrator.diagnosis.causes.after.regularisation import find_over_regularised
from orchestrator.diagnosis.causes.after.training import find_undertrained
from tests import builders
from tests.diagnosis.causes.after.subjects import causes, curve, ended, small, stack, trained

layers, optimizers = keras.layers, keras.optimizers


class _OwnL1(keras.regularizers.L1):
    """One that no remedy may touch."""


LITTLE = builders.made("learned", verdict="fail")


def test_a_penalty_that_weighs_more_than_the_loss_shrinks_the_weights() -> None:
    subject = trained(
        small(kernel_regularizer=keras.regularizers.L2(20.0)), *curve(),
        optimizer=optimizers.Adam(0.05), epochs=12,
    )  # fmt: skip
    (found,) = find_over_regularised(subject)
    assert found.cause == "over_regularised"
    assert "is shrunk to nothing by its regularizer L2, largest weight" in found.reason
    assert found.advice == "weaken it or take it away"
    assert "over_regularised" in causes(subject)


@pytest.mark.parametrize(("decay", "count"), [(5.0, 1), (0.004, 0)])
def test_decay_bounds_the_weights(decay: float, count: int) -> None:
    model = small()
    model.compile(optimizers.AdamW(0.01, weight_decay=decay), "mse")
    found = [*find_over_regularised(ended(model))]
    assert [each.reason for each in found] == count * [
        "a weight_decay of 5 draws every weight back to below 0.2"
    ]


@pytest.mark.parametrize("penalised", [True, False])
def test_what_falls_while_a_regularizer_shrinks_the_weights_is_that(penalised: bool) -> None:
    model = small()
    model.compile(optimizers.AdamW(0.01, weight_decay=5.0), "mse")
    losses = [1.0, 0.8, 0.6, 0.4]
    subject = ended(model, None, LITTLE, skill=0.02, losses=losses, penalised=penalised)
    assert [*find_undertrained(subject)]
    told = ["over_regularised"] if penalised else ["over_regularised", "undertrained"]
    assert causes(subject) == told


# ------------------------------------------------------------------- kernels of the output


@pytest.mark.parametrize(
    ("options", "by", "certain"),
    [
        ({"kernel_regularizer": keras.regularizers.L1(100.0)}, "regularizer L1", False),
        ({"kernel_regularizer": _OwnL1(100.0)}, "regularizer _OwnL1", True),
        ({"kernel_regularizer": keras.regularizers.L2(1e-4)}, "regularizer L2", False),
        ({"activity_regularizer": "l2"}, "activity regularizer L2", False),
    ],
)
def test_a_penalty_on_the_output_is_certain_where_it_costs_more_than_a_constant(
    options: dict[str, Any], by: str, certain: bool
) -> None:
    model = stack(layers.Dense(4, activation="relu"), last=layers.Dense(1, name="last", **options))
    start = {model.get_layer("last").kernel.path: np.full(4, 0.5)}
    model.get_layer("last").set_weights([np.zeros((4, 1), np.float32), np.zeros(1, np.float32)])
    (found,) = find_over_regularised(ended(model, start=start))
    assert found.certain is certain
    assert f"the kernel of layer last is shrunk to nothing by its {by}" in found.reason
    for skill in (0.0, 0.02):  # it swings about a constant, or brings something after all
        (poor,) = find_over_regularised(ended(model, None, LITTLE, start=start, skill=skill))
        assert poor.certain is (certain and skill == 0.0)
    dear = "L1" in by  # it weighs too much as well, where it is held small
    for size, count in ((0.5, 0), (0.2, int(dear))):
        model.get_layer("last").set_weights([np.full((4, 1), size), np.zeros(1, np.float32)])
        grown = [*find_over_regularised(ended(model, start=start))]
        assert [each.certain for each in grown] == [False] * count
