"""Networks that cannot bend, and ones that have learnt their rows by heart."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
import pytest
from msgspec.structs import replace

from orchestrator.data.rows import Rows
from orchestrator.diagnosis.causes.after.capacity import find_overfitting, find_too_small
from orchestrator.diagnosis.causes.after.subject import Subject
from orchestrator.model.outputs import Output
from tests import builders
from tests.diagnosis.causes.after.subjects import causes, curve, ended, rows, stack, trained

layers, optimizers = keras.layers, keras.optimizers

# ----------------------------------------------------------------------------- too small


def straight(y: Any, x: Any, loss: str, **head: Any) -> Subject:
    """A network of two Dense layers without an activation between them."""
    model = stack(layers.Dense(4), last=layers.Dense(1, **head))
    return trained(model, x, y, optimizer=optimizers.Adam(0.05), epochs=8, loss=loss)


def test_a_linear_network_cannot_bend() -> None:
    subject = straight(curve(400)[1], curve(400)[0], "mse")
    (found,) = find_too_small(subject)
    assert (found.cause, found.certain) == ("too_small", False)
    assert found.reason.startswith("the network is linear from its inputs, and has a skill of ")
    assert found.advice == "put a layer with an activation, such as relu, in front of the output"
    assert "too_small" in causes(subject)


def test_probabilities_of_a_linear_network_are_straight_as_logits() -> None:
    x, y = curve(400)
    labels = (y > 2.3).astype("float32")
    subject = straight(labels, x, "binary_crossentropy", activation="sigmoid")
    assert [found.cause for found in find_too_small(subject)] == ["too_small"]


def shared(skill: float, linear: float, reference: float) -> Any:
    """What `learned` has measured."""
    output = {"output": 0, "skill": skill, "linear": linear, "reference": reference}
    return builders.made("learned", verdict="fail", measured={"outputs": [output]})


@pytest.mark.parametrize(
    ("skill", "linear", "reference", "count"),
    [(0.3, 0.3, 0.9, 1), (0.3, 0.8, 0.9, 0), (0.6, 0.3, 0.9, 0)],
)
def test_only_a_curve_is_too_much_for_a_line(
    skill: float, linear: float, reference: float, count: int
) -> None:
    given = rows(np.arange(40.0))
    check = shared(skill, linear, reference)
    assert len([*find_too_small(ended(stack(), given, check))]) == count
    bent = stack(layers.Lambda(lambda x: x * x))  # no activation that anybody has counted
    assert not [*find_too_small(ended(bent, given, check))]


# --------------------------------------------------------------------------- overfitting


def held(training: float, validation: float, count: int, reference: float | None = None) -> Subject:
    """An attempt that has passed, with what it is worth on the rows that it has not seen."""
    check = builders.made(
        "prediction_variance",
        measured={
            "outputs": [{"output": 0, "kind": "regression", "skill": training}],
            "validation": [{"output": 0, "skill": validation}],
        },
    )
    known = [] if reference is None else [replace(shared(1, 0, reference), verdict="pass")]
    unseen = rows(np.arange(float(count)))
    return ended(stack(), rows(np.arange(400.0)), check, *known, validation=unseen)


@pytest.mark.parametrize(
    ("subject", "told"),
    [
        (held(0.97, -0.38, 100), True),
        (held(0.97, -0.38, 2), False),  # of two rows the skill is chance
        (held(0.99, 0.5, 1000), False),  # worse, and who knows what there is to learn
        (held(0.99, 0.5, 1000, reference=0.55), False),  # as good as can be
        (held(0.99, 0.3, 1000, reference=0.85), True),
        (held(0.1, -0.05, 1000, reference=0.0), False),
        (held(0.9, 0.85, 1000, reference=0.99), False),
        (held(-101, -104, 180, reference=0.8), False),  # as bad on the training rows
        (held(0.19, -0.9, 1000, reference=0.8), False),
        (held(0.21, -0.9, 1000, reference=0.8), True),
    ],
)
def test_rows_that_were_not_seen_are_held_against_those_that_were(
    subject: Subject, told: bool
) -> None:
    assert [each.cause for each in find_overfitting(subject)] == ["overfitting"] * told


def test_the_reason_has_all_the_figures() -> None:
    (found,) = find_overfitting(held(0.97, -0.38, 100, reference=0.8))
    assert found.reason == (
        "the skill is 0.97 on the training rows and -0.38 on the 100 validation rows, where a "
        "simple model reaches 0.8 on rows that it has not seen"
    )
    assert found.advice.startswith("train on more rows, or hold the network back")


def test_rows_of_another_kind_are_told_from_overfitting() -> None:
    subject = held(0.97, -0.38, 100, reference=0.8)
    x, y = subject.validation.x, subject.validation.y  # type: ignore[union-attr]
    far = dataclasses.replace(subject, validation=Rows(x=x + np.float32([0, 4, 0]), y=y))
    (found,) = find_overfitting(far)
    assert "the validation rows are of another kind, input column 1 is" in found.reason
    assert "the same source" in found.advice


@pytest.mark.parametrize(("right", "told"), [(0.9, False), (0.5, True)])
def test_classes_that_are_right_as_often_are_not_judged_by_how_sure_they_are(
    right: float, told: bool
) -> None:
    """Cross-entropy is far above the constant's where a few rows are wrong and sure."""
    x = np.random.default_rng(0).normal(size=(400, 3)).astype("float32")
    y = (x[:, 0] > 0).astype("float32")
    flipped = np.where(np.random.default_rng(1).random(400) < right, y, 1 - y)
    sure = stack(last=layers.Dense(1, activation="sigmoid"))
    sure.set_weights([np.float32([[500], [0], [0]]), np.float32([0])])
    check = builders.made(
        "prediction_variance",
        measured={
            "outputs": [{"output": 0, "kind": "classification", "skill": 1.0}],
            "validation": [{"output": 0, "skill": -3.0}],
        },
    )
    head = Output(name="", target="", shape=(1,), form="binary", from_logits=False)
    subject = ended(sure, Rows(x=x, y=y), check, heads=[head], validation=Rows(x=x, y=flipped))
    found = [*find_overfitting(subject)]
    assert [each.cause for each in found] == ["overfitting"] * told
    for each in found:
        assert each.reason.startswith("the skill of the probabilities is 0.999 on the training")
