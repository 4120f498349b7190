"""What is known of an attempt that has ended."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
from msgspec.structs import replace

from orchestrator.diagnosis.causes.after.subject import sample_weights
from tests import builders
from tests.diagnosis.causes.after.subjects import LINEAR, ended, stack

layers = keras.layers


@pytest.mark.parametrize(
    ("losses", "falling"),
    [
        ([], False),
        ([1.0], False),  # from what, is not known
        ([1.0, 0.89], True),
        ([1.0, 0.9], False),
        ([9.0, 5.0, 1.0, 1.0, 1.0], False),  # a quarter of five epochs is two
        ([9.0, 5.0, 1.0, 1.0, 0.8], True),
        ([9.0, 0.7, 1.0, 1.0, 0.8], False),  # it was lower
        ([1.0, math.nan], False),
        ([-2.0, -1.9], False),
        ([-2.0, -2.3], True),
        ([0.7, 0.68, 0.66, 0.64], True),  # a third of its fall, though 3% of itself
        ([0.7, 0.6, 0.59, 0.58], False),  # a twelfth of its fall
        ([0.7, 0.699, 0.698, 0.697], False),  # nothing to speak of
        ([0.7, 0.65], False),  # of two epochs there is no pace
    ],
)
def test_a_loss_falls_while_the_last_quarter_takes_a_tenth_off_it_or_of_its_fall(
    losses: list[float], falling: bool
) -> None:
    assert ended(LINEAR, losses=losses).is_falling is falling


def test_the_loss_of_the_first_step_is_where_a_single_epoch_comes_from() -> None:
    init, main = builders.phase("init"), replace(builders.phase("main"), first_loss=9.0)
    subject = ended(LINEAR, losses=[5.0], phases=(init, main))
    assert (subject.course, subject.span, subject.is_falling) == ((9.0, 5.0), 1, True)


def test_weights_are_sampled_and_compared_with_what_they_were() -> None:
    model = stack(layers.Dense(3000, name="wide"), layers.BatchNormalization())
    start = sample_weights(model)
    assert {len(name) > 0 for name in start} == {True}
    assert all(len(values) <= 4096 for values in start.values())
    assert not any("moving" in name for name in start)  # training does not move them by a rate
    kernel, bias = model.get_layer("wide").get_weights()
    model.get_layer("wide").set_weights([kernel * 1.5, bias])
    moved = ended(model, start=start).moved
    (path,) = (name for name in start if "wide/kernel" in name)
    assert moved[path] == pytest.approx(0.5)
    assert sum(moved.values()) == pytest.approx(0.5)
    assert np.isfinite([*moved.values()]).all()  # of a bias that was zero no share is known
