"""Gradients that get lost behind sigmoid, and those that do not."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from orchestrator.diagnosis.causes.after.gradients import find_vanishing_gradient
from orchestrator.diagnosis.causes.after.subject import Subject
from tests.diagnosis.causes.after.subjects import causes, stack, trained

layers = keras.layers
X = np.random.default_rng(0).normal(size=(100, 3)).astype("float32")
Y = X[:, 0] * X[:, 1]
SGD = keras.optimizers.SGD


def ended(*activations: Any, optimizer: Any = None, epochs: int = 1) -> Subject:
    keras.utils.set_random_seed(0)
    hidden = [layers.Dense(8, activation=each) for each in activations]
    return trained(stack(*hidden), X, Y, optimizer=optimizer or SGD(0.01), epochs=epochs)


def test_layers_of_sigmoid_are_told_where_sgd_has_learnt_nothing() -> None:
    subject = ended("sigmoid", "relu", "hard_sigmoid", "sigmoid")
    (found,) = find_vanishing_gradient(subject)
    assert (found.cause, found.certain) == ("vanishing_gradient", False)
    assert found.reason.startswith("3 hidden layers of sigmoid, ")
    assert "0.016 of it together" in found.reason
    assert found.advice == "write relu for sigmoid there, or take Adam"
    assert "vanishing_gradient" in causes(subject)


@pytest.mark.parametrize(
    ("activations", "optimizer"),
    [
        (["sigmoid"], None),
        (["relu", "relu"], None),
        (["tanh", "tanh"], None),
        (["sigmoid", "sigmoid"], "adam"),
        (["sigmoid", "sigmoid"], SGD(0.31)),  # that is another fault
    ],
)
def test_other_networks_have_another_cause(activations: list[str], optimizer: Any) -> None:
    assert not [*find_vanishing_gradient(ended(*activations, optimizer=optimizer))]


def test_a_gate_beside_a_path_holds_nothing_back() -> None:
    keras.utils.set_random_seed(0)
    x = h = keras.Input((3,))
    for _ in range(2):
        h = layers.Multiply()([layers.Dense(8)(h), layers.Dense(8, activation="sigmoid")(h)])
    model = keras.Model(x, layers.Dense(1)(h))
    gated = trained(model, X, Y, optimizer=SGD(1e-4), epochs=1)
    assert gated.is_poor
    assert not [*find_vanishing_gradient(gated)]


def test_the_output_is_no_hidden_layer() -> None:
    keras.utils.set_random_seed(0)
    model = stack(layers.Dense(8, "sigmoid"), last=layers.Dense(1, "sigmoid"))
    poor = trained(model, X, (Y > 0).astype("float32"), optimizer=SGD(1e-4), epochs=1)
    assert poor.is_poor
    assert not [*find_vanishing_gradient(poor)]


def test_a_network_that_learns_has_lost_nothing() -> None:
    keras.utils.set_random_seed(0)
    hidden = [layers.Dense(8, activation="sigmoid") for _ in range(2)]
    learnt = trained(stack(*hidden), X, X[:, 0], optimizer=SGD(0.3, momentum=0.9), epochs=60)
    assert not learnt.is_poor
    assert not [*find_vanishing_gradient(learnt)]
