"""Outputs that cannot reach their targets, and those that only look so."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
import pytest

from orchestrator.diagnosis.causes.before.outputs.reach import (
    find_targets_out_of_reach,
    find_unreachable_targets,
)
from orchestrator.diagnosis.causes.before.subject import Subject
from orchestrator.diagnosis.tracing.probe import Probe
from orchestrator.model.remedies import leaky_relu
from orchestrator.record.checks import OutputShare
from orchestrator.record.records import Finding
from tests.diagnosis.causes.after.subjects import HEAD, rows, stack
from tests.diagnosis.causes.before.outputs import looking
from tests.diagnosis.causes.before.outputs.looking import config, inputs, subject, told

layers = keras.layers


def unreachable(
    model: keras.Model, y: Any, *, weight: Any = None, min_skill: float | None = -0.1
) -> list[Finding]:
    given = dataclasses.replace(rows(y), weight=weight)
    measured = Probe(model).measure(given)
    limits = "off" if min_skill is None else {"min_skill": min_skill}
    looked_at = Subject(
        model=model,
        outputs=[HEAD],
        rows=given,
        layers=measured.layers,
        flow=measured.flow,
        config=config(checks={"prediction_variance": limits}),
    )
    return [*find_unreachable_targets(looked_at)]


@pytest.mark.parametrize(
    ("activation", "reference", "given", "found"),
    [
        ("sigmoid", 1.0, {}, True),  # within 0 and 1 a skill of 0.4 is the best
        ("sigmoid", 0.6, {}, False),  # more than half of which is within reach
        ("relu", 1.0, {}, False),
        ("tanh", 1.0, {"by_absolute_error": True}, False),
        ("sigmoid", 1.0, {"by_absolute_error": True}, True),
        ("linear", 1.0, {}, False),
    ],
)
@pytest.mark.parametrize("certain_below", [0.5, 0.0])
def test_what_of_the_reference_is_out_of_reach_is_known_after_a_training(
    activation: str, reference: float, given: dict[str, Any], found: bool, certain_below: float
) -> None:
    model = stack(last=layers.Dense(1, activation=activation))
    model.compile("adam", "mse")
    share = OutputShare(output=0, share=0.1, skill=0.1 * reference, reference=reference, **given)
    targets = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])[:, None]
    looked_at = subject(model, np.zeros((5, 3)), targets)
    findings = [*find_targets_out_of_reach(looked_at, [share], 0.5, certain_below=certain_below)]
    assert len(findings) == found
    for each in findings:
        # One that passes short is no training that cannot succeed.
        assert (each.certain, each.found) == (certain_below > 0, "after")
        assert each.fix is not None and each.fix.activation == "linear"
        assert each.reason.endswith(f", where the reference has {reference:g}")
        assert "0.6 of the targets are outside of that" in each.reason
    assert not [*find_targets_out_of_reach(looked_at, [], 0.5, certain_below=certain_below)]


@pytest.mark.parametrize(
    ("targets", "loss", "scaled"),
    [
        ([11.0, 12.0, 12.5], "mse", True),  # far from zero for how they vary
        ([50.0, 100.0, 300.0], "mae", True),
        ([1.5, 2.5, 4.0], "mse", False),
        ([11.0, 12.0, 12.5], "log_cosh", True),
    ],
)
def test_distant_targets_are_to_be_scaled_as_well(
    targets: list[float], loss: str, scaled: bool
) -> None:
    model = stack(last=layers.Dense(1, activation="tanh"))
    model.compile("adam", loss)
    (found,) = find_unreachable_targets(subject(model, X[:3], np.array(targets)[:, None]))
    assert found.certain and found.fix is not None
    assert (found.fix.activation, found.fix.standardize) == ("linear", scaled)
    assert not found.fix.standardize_inputs
    # What takes inputs of hundreds gives hundreds, where scaled targets are about 1.
    (found,) = find_unreachable_targets(subject(model, 200 * X[:3], np.array(targets)[:, None]))
    assert found.fix is not None and found.fix.standardize_inputs == scaled


class Own(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.inner = layers.Dense(1)

    def call(self, x: Any) -> Any:
        return keras.ops.relu(self.inner(x))


@pytest.mark.parametrize("kind", ["argument", "layer", "own"])
def test_negative_targets_behind_a_relu_are_beyond_reach(kind: str) -> None:
    model = {
        "argument": stack(last=layers.Dense(1, activation="relu")),
        "layer": stack(layers.Dense(1), last=layers.ReLU()),
        "own": Own(),
    }[kind]
    (found,) = unreachable(model, [-1.0, -2.0, -3.0])
    assert (found.cause, found.certain) == ("unreachable_targets", True)
    assert found.reason == (
        "the output is made by relu, which gives values of 0 and above; every target is outside of "
        "that, from -3 to -1"
    )
    assert found.advice == "leave the activation of the last layer out, or scale the targets"
    assert found.found == "before"


@pytest.mark.parametrize(
    ("activation", "y", "certain"),
    [
        ("relu", [-1.0, 0.0], True),  # the best prediction within reach is 0
        ("relu", [-1.0, 2.0], False),
        ("relu", [0.0, 2.0], None),
        ("sigmoid", [3.0, 4.0], True),
        ("sigmoid", [0.5, 4.0], True),  # 0.5 and 1 are worse than the mean
        ("sigmoid", [0.5, 1.5], False),
        ("relu", [-1.0, 0.41], False),  # as bad as a constant passes with a warning
        ("relu", [-1.0, -1.0], False),  # not judged
        ("sigmoid", [0.0, 1.0000000000000002], None),  # as scaling leaves it
        ("sigmoid", [0.0, 1.00001], False),
        ("relu", [-1e-5, 1000.0], None),
        ("relu", [-1e-5, 1e-5], False),
        ("tanh", [-2.0, -3.0], True),
        ("tanh", [-2.0, 3.0], False),
        ("relu6", [7.0, 8.0], True),
        ("elu", [-1.5, -2.0], None),  # its alpha may be any
        ("elu", [-0.5, 2.0], None),
        ("leaky_relu", [-1.0, -2.0], None),
        (None, [-1.0, -2.0], None),
    ],
)
def test_reach_is_judged_by_the_activation(
    activation: str | None, y: list[float], certain: bool | None
) -> None:
    found = unreachable(stack(last=layers.Dense(1, activation=activation)), y)
    assert [each.certain for each in found] == ([] if certain is None else [certain])


def test_an_output_that_a_remedy_changes_may_reach_them_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leaky_relu, "takes_activation", lambda config: True)
    model = stack(last=layers.Dense(1, activation="relu"))
    (found,) = unreachable(model, [-1.0, -2.0])
    assert not found.certain


@pytest.mark.parametrize(
    ("scale", "own", "certain"), [(2.0, True, True), (2.0, False, False), (0.3, True, False)]
)
def test_an_output_that_is_kept_from_its_own_input_is_certain(
    scale: float, own: bool, certain: bool
) -> None:
    """Of numbers about 0 a sigmoid has less than half; that of others need not be learnt."""
    x = 0.5 * (scale < 1) + scale * inputs()
    y = x if own else np.random.default_rng(1).permutation(x)
    looked_at = subject(looking.stack(layers.Dense(3, activation="sigmoid"), loss="mse"), x, y)
    (found,) = find_unreachable_targets(looked_at)
    assert found.certain == certain
    assert ("what is to be its own input has a skill above" in found.reason) == certain
    assert (found.fix is not None and found.fix.activation == "linear") == certain


def test_classes_that_are_out_of_reach_are_to_have_units_of_their_own() -> None:
    """An accuracy is asked for: no number of activation: linear is a class."""
    y = (np.arange(200) % 10).astype(np.float32)
    end = layers.Dense(1, activation="sigmoid")
    model = looking.stack(end, loss="mse", metrics=["accuracy"])
    (found,) = find_unreachable_targets(subject(model, inputs(), y))
    assert (found.certain, found.fix) == (True, None)
    assert found.advice.startswith("give the last layer 10 units of softmax")


def test_what_no_check_would_fail_is_not_certain() -> None:
    sigmoid = stack(last=layers.Dense(1, activation="sigmoid"))
    (found,) = unreachable(sigmoid, [0.5, 4.0], min_skill=None)
    assert not found.certain
    relu = stack(last=layers.Dense(2, activation="relu"))
    (found,) = unreachable(relu, [[-1.0, 1.0], [-1.0, 3.0]])  # a constant column is not judged
    assert not found.certain


def test_rows_without_weight_are_not_reached_for() -> None:
    relu = stack(last=layers.Dense(1, activation="relu"))
    y = [-999.0, 1.0, -999.0, 3.0]
    assert unreachable(relu, y)[0].certain
    assert not unreachable(relu, y, weight=np.array([0.0, 1, 0, 1]))


X = inputs()
MULTI_HOT = (X > 0).astype(np.float32)
ONE_HOT = np.eye(3, dtype=np.float32)[np.arange(200) % 3]


def test_a_softmax_gives_values_that_add_up_to_one() -> None:
    model = looking.stack(layers.Dense(3, activation="softmax"), loss="mse")
    (found,) = find_unreachable_targets(subject(model, X, MULTI_HOT))
    assert not found.certain
    assert found.reason == (
        "the output is a softmax, whose 3 values add up to 1 on every row; the targets add up to "
        "0 to 3"
    )
    assert told(find_unreachable_targets, subject(model, X, 300 + X)) == [
        ("unreachable_targets", True)
    ]
    assert not told(find_unreachable_targets, subject(model, X, ONE_HOT))
    multinomial = looking.stack(layers.Dense(3, activation="softmax"), loss="kl_divergence")
    assert not told(find_unreachable_targets, subject(multinomial, X, ONE_HOT))


def test_a_hinge_takes_0_and_1_for_signs() -> None:
    y = ONE_HOT[:, 0]
    for activation, expected in [("sigmoid", 1), ("relu", 1), ("tanh", 0), (None, 0)]:
        model = looking.stack(layers.Dense(1, activation=activation), loss="hinge")
        assert len(told(find_unreachable_targets, subject(model, X, y))) == expected


def test_a_loss_that_leaves_marks_out_reaches_the_others() -> None:
    y = np.where(ONE_HOT[:, :1] > 0, -1.0, X[:, :1] > 0).astype(np.float32)

    def masked(y: Any, p: Any) -> Any:
        known = keras.ops.cast(y >= 0, "float32")
        return keras.ops.sum(known * keras.ops.square(y - p), axis=-1)

    def plain(y: Any, p: Any) -> Any:
        return keras.ops.mean(keras.ops.square(y - p), axis=-1)

    for loss, expected in [(masked, 0), (plain, 1)]:
        model = looking.stack(layers.Dense(1, activation="sigmoid"), loss=loss)
        assert len(told(find_unreachable_targets, subject(model, X, y))) == expected


@pytest.mark.parametrize("leaves_out", ["mask", "weight", "nothing"])
def test_positions_that_do_not_count_are_not_reached_for(leaves_out: str) -> None:
    draw = np.random.default_rng(0)
    there = np.arange(6) < draw.integers(1, 7, 40)[:, None]
    x = np.where(there[..., None], draw.normal(size=(40, 6, 2)), -1.0).astype(np.float32)
    y = np.where(there[..., None], draw.uniform(0.1, 0.9, (40, 6, 1)), -1.0)
    masking = [layers.Masking(-1.0)] if leaves_out == "mask" else []
    last = layers.Dense(1, activation="sigmoid")
    stacked = [layers.Input((6, 2)), *masking, layers.GRU(2, return_sequences=True), last]
    model = keras.Sequential(stacked)
    model.compile("adam", "mse")
    weight = there.astype(np.float32) if leaves_out == "weight" else None
    expected = [("unreachable_targets", False)] if leaves_out == "nothing" else []
    assert told(find_unreachable_targets, subject(model, x, y, weight)) == expected
    (beyond,) = find_unreachable_targets(subject(model, x, y + 3 * there[..., None], weight))
    assert beyond.certain == (leaves_out == "weight")  # of a mask only some rows are known


def test_a_step_that_is_out_of_reach_is_one_of_a_column() -> None:
    y = np.random.default_rng(0).uniform(0.1, 0.9, (200, 4, 1))
    y[:, 3] += 1  # such as one pixel of an image
    model = looking.stack(layers.Dense(4), layers.Reshape((4, 1)), loss="mse")
    model.add(layers.Activation("sigmoid"))
    model.compile("adam", "mse")
    assert told(find_unreachable_targets, subject(model, X, y)) == [("unreachable_targets", False)]


@pytest.mark.parametrize("loss", ["cosine_similarity", "own"])
def test_a_loss_of_directions_reaches_targets_of_any_length(loss: str) -> None:
    def own(y: Any, p: Any) -> Any:
        y, p = (keras.ops.normalize(each, axis=-1) for each in (y, p))
        return 1 - keras.ops.sum(y * p, axis=-1)

    y = np.random.default_rng(0).uniform(1.5, 19.8, (200, 3)).astype(np.float32)
    model = looking.stack(
        layers.Dense(3, activation="sigmoid"), loss=own if loss == "own" else loss
    )
    assert not told(find_unreachable_targets, subject(model, X, y))


@pytest.mark.parametrize(
    ("loss", "weighted", "certain"),
    [("mse", False, True), ("mse", True, False), ("mae", False, False), ("huber", False, False)],
)
def test_what_fails_is_judged_by_the_loss_that_trains(
    loss: str, weighted: bool, certain: bool
) -> None:
    y = np.where(np.arange(200) % 5, np.linspace(0, 1, 200), 100.0)[:, None]
    model = looking.stack(layers.Dense(1, activation="sigmoid"), loss=loss)
    given = [np.where(y[:, 0] > 1, 1e-6, 1.0)] if weighted else []
    found = told(find_unreachable_targets, subject(model, X, y, *given))
    assert found == [("unreachable_targets", certain)]
