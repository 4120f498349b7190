"""When dead units fell silent, and what is told of it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from orchestrator.diagnosis.watch.deaths import Heard, Past, largest_loss, with_silence
from orchestrator.diagnosis.watch.epochs import EpochSignals, LayerSignal
from orchestrator.record.checks import DeadNeuronsCheck
from orchestrator.record.records import UnitsLost
from tests import builders


def check(dead: list[int], units: int = 6, **told: Any) -> DeadNeuronsCheck:
    layer = {"layer": "hidden", "units": units, "dead": len(dead), "dead_units": dead, **told}
    found = builders.made("dead_neurons", measured={"layers": [layer]})
    assert isinstance(found, DeadNeuronsCheck)
    return found


def heard(*last: int) -> Heard:
    """The last epoch of each unit; in each of five epochs the output's weights moved most."""
    epochs = [
        EpochSignals(
            epoch=epoch,
            steps=4,
            layers=(
                LayerSignal(layer="hidden", units=6, silent=0, gradient_norm=3.0, update_ratio=0.1),
                LayerSignal(layer="out", units=1, silent=0, gradient_norm=4.0, update_ratio=0.75),
            ),
        )
        for epoch in range(1, 6)
    ]
    return Heard(epochs=epochs, last={"hidden": np.array(last)})


PAST = Past(
    rates=[(0.01, 0.01, 0.01), (0.05, 0.05)], losses={1: 0.9, 2: 0.8, 3: 0.7, 4: 0.8, 5: 0.9}
)
"""Three epochs of one phase and two of another."""


def lost(dead: list[int], last: Heard, past: Past = PAST) -> UnitsLost | None:
    return largest_loss(with_silence(check(dead), last), last, past)


def test_each_dead_unit_has_the_epoch_of_its_last_gradient() -> None:
    (layer,) = with_silence(check([0, 3, 5]), heard(0, 5, 5, 2, 1, 4)).measured.layers
    assert layer.silent_after == (0, 2, 4)
    assert layer.without_units().silent_after is None


@pytest.mark.parametrize(
    ("layer", "last"),
    [
        ({"layer": "other"}, (1, 1, 1, 1, 1, 1)),
        ({}, (1, 1)),  # units of another number are those of another layer
    ],
)
def test_nothing_is_told_of_units_that_are_not_watched(layer: Any, last: Any) -> None:
    (found,) = with_silence(check([0], **layer), heard(*last)).measured.layers
    assert found.silent_after is None


def test_a_layer_called_twice_has_the_units_of_the_layer() -> None:
    (found,) = with_silence(check([1], layer="hidden:2"), heard(1, 2, 3, 4, 5, 5)).measured.layers
    assert found.silent_after == (2,)


def test_the_largest_loss_is_told_with_its_epoch() -> None:
    found = lost([0, 1, 2, 3], heard(0, 2, 4, 4, 5, 5))
    assert found == UnitsLost(
        layer="hidden", units=6, lost=2, alive=4, epoch=4, learning_rate=0.05, rate_before=0.01,
        loss_before=0.7, first=True, gradient_norm=5.0, moved_layer="out", moved=0.75,
    )  # fmt: skip
    assert found.is_most
    told = "layer hidden lost 2 of 6 units in epoch 4"
    assert found.told == f"{told}, right after the phase's learning rate rose to 0.05"
    assert replace(found, first=False).told == f"{told}, as the learning rate rose to 0.05"
    steady = replace(found, rate_before=0.05)
    far = "the weights of out moved by 75% of their norm"
    assert steady.told == f"{told}, in which {far} at learning rate 0.05"
    assert "moved by 211 times their norm" in replace(steady, moved=211.35).told
    assert replace(steady, moved=0.2).told == f"{told}, at learning rate 0.05"
    assert not replace(found, alive=5).is_most


def test_the_last_units_of_a_layer_are_told_as_such() -> None:
    found = lost([0, 1], heard(0, 1, 0, 0, 0, 0))
    assert found is not None
    assert found.told.startswith("layer hidden lost the last 1 of 6 units in epoch 1")


def test_what_is_born_dead_is_not_lost() -> None:
    assert lost([0, 1], heard(0, 0, 5, 5, 5, 5)) is None


def test_silence_that_is_no_death_does_not_count() -> None:
    assert lost([], heard(1, 1, 1, 1, 1, 1)) is None
    last = heard(1, 1, 1, 1, 1, 1)
    lagging = with_silence(check([0, 1], dead_with_batch_statistics=0), last)
    assert largest_loss(lagging, last, PAST) is None


def test_after_a_failure_the_loss_counts_that_came_after_the_healthy_epoch() -> None:
    """Healthy networks may lose most of their units early."""
    last = heard(1, 1, 1, 1, 5, 5)
    dead = [0, 1, 2, 3, 4, 5]
    early, late = lost(dead, last), lost(dead, last, dataclasses.replace(PAST, healthy=3))
    assert early is not None
    assert (early.epoch, early.lost, early.alive) == (1, 4, 6)
    assert late is not None
    assert (late.epoch, late.lost, late.alive) == (5, 2, 2)
    assert late.is_most
