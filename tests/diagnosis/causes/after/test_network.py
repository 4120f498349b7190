"""What the evidence points to: each cause where it is one, and not where it is none."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
import pytest
from msgspec.structs import replace

from orchestrator.config.sections.checks import Checks
from orchestrator.data.rows import Rows
from orchestrator.diagnosis.causes.after.network import (
    find_dead_branch,
    find_held_kernels,
    find_initialization,
)
from orchestrator.diagnosis.causes.after.subject import Subject, sample_weights
from orchestrator.diagnosis.diagnose import Arguments
from orchestrator.diagnosis.examine import examine
from orchestrator.diagnosis.tracing.probe import Probe
from orchestrator.diagnosis.verdicts.checks import Evidence
from orchestrator.model.outputs import find_outputs
from tests import builders
from tests.diagnosis.causes.after.subjects import causes, curve, ended, stack, trained

layers = keras.layers


# ----------------------------------------------------------------------- initialisation


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"kernel_initializer": "zeros"}, "its kernel is zero everywhere"),
        (
            {"kernel_initializer": keras.initializers.RandomUniform(-1, 0)},
            "its kernel has no positive weight",
        ),
        (
            {"bias_initializer": keras.initializers.Constant(-5)},
            "its biases are all negative, down to -5",
        ),
    ],
)
def test_initialisers_that_kill_are_named(options: dict[str, Any], what: str) -> None:
    model = stack(layers.Dense(16, name="sick", **options))
    (found,) = find_initialization(ended(model, untrained=True))
    assert found.reason == f"layer sick is dead by its initialisation: {what}"
    assert (found.cause, found.certain) == ("initialization", False)
    assert not [*find_initialization(ended(model))]  # what the training has made of it


@pytest.mark.parametrize(
    "model",
    [
        stack(layers.Dense(8), layers.BatchNormalization(), layers.PReLU()),
        stack(layers.Dense(8), last=layers.Dense(1, kernel_initializer="zeros")),
        stack(layers.Dense(8, bias_initializer="ones")),
    ],
)
def test_initialisers_that_do_not_kill_are_left_in_peace(model: keras.Model) -> None:
    assert not [*find_initialization(ended(model, untrained=True))]


def begun(model: keras.Model, *, dead: int, loaded: float = 1.0, **fields: Any) -> Subject:
    """A training that has failed, of which phase 0 saw so many of the 8 units of a layer dead."""
    model.layers[0].kernel.assign(model.layers[0].kernel * loaded)
    subject = ended(model, start=sample_weights(model), **fields)
    layer = {"layer": "sick", "activation": "relu", "units": 8, "dead": dead}
    units = builders.made("dead_neurons", verdict="warn", measured={"layers": [layer]})
    first = builders.phase("init", units)
    return dataclasses.replace(subject, phases=[first, *subject.phases[1:]])


def sick(**options: Any) -> keras.Model:
    return stack(layers.Dense(64, "relu", name="sick", **options))


NEGATIVE = {"kernel_initializer": keras.initializers.RandomNormal(-0.5, 0.5, seed=1)}
WIDE = {"bias_initializer": keras.initializers.RandomNormal(0.0, 1.0, seed=1)}


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (NEGATIVE, "its kernel is negative on average, -0.5"),
        (WIDE, "its biases, from -"),
        ({"bias_initializer": keras.initializers.Constant(-5)}, "its biases are all negative"),
    ],
)
def test_units_born_dead_are_known_after_the_training(options: dict[str, Any], what: str) -> None:
    (found,) = find_initialization(begun(sick(**options), dead=4))
    assert found.reason.startswith(f"layer sick is dead by its initialisation: {what}")
    assert not [*find_initialization(begun(sick(**options), dead=3))]  # most units were alive


def test_kernels_that_are_negative_on_average_kill_before_the_training() -> None:
    (found,) = find_initialization(ended(sick(**NEGATIVE), untrained=True))
    assert found.reason.startswith(
        "layer sick is dead by its initialisation: its kernel is negative on average, -0.5"
    )
    assert not [*find_initialization(ended(sick(**WIDE), untrained=True))]  # a seed may do


def test_a_usual_initializer_is_never_at_fault() -> None:
    assert not [*find_initialization(begun(sick(), dead=8))]
    narrow = stack(layers.Dense(2, "relu", kernel_initializer=keras.initializers.Constant(-1)))
    assert not [*find_initialization(begun(narrow, dead=8))]  # two units may be so by chance


def test_weights_that_were_loaded_are_not_the_initializers() -> None:
    assert [*find_initialization(begun(sick(**NEGATIVE), dead=8))]
    assert not [*find_initialization(begun(sick(**NEGATIVE), dead=8, loaded=3.0))]


def test_a_network_that_has_learnt_was_initialised_well_enough() -> None:
    passed = builders.made("dead_neurons", verdict="warn")
    subject = begun(sick(**NEGATIVE), dead=8, skill=0.9)
    healthy = dataclasses.replace(
        subject, examined=dataclasses.replace(subject.examined, checks=(passed,))
    )
    assert not [*find_initialization(healthy)]


# ----------------------------------------------------------------------------- collapse


def held(*, kernel: float, **options: Any) -> keras.Model:
    model = stack(layers.Dense(4, activation="relu"), last=layers.Dense(1, name="last", **options))
    last = model.get_layer("last")
    last.set_weights([np.full((4, 1), kernel, np.float32), np.zeros(1, np.float32)])
    return model


@pytest.mark.parametrize(
    ("options", "by", "certain"),
    [
        ({"kernel_constraint": keras.constraints.MaxNorm(0.0)}, "constraint MaxNorm", True),
        ({"kernel_constraint": "non_neg"}, "constraint NonNeg", False),
        ({"trainable": False}, "trainable=False", True),
    ],
)
def test_what_holds_a_kernel_at_zero_is_named(
    options: dict[str, Any], by: str, certain: bool
) -> None:
    (found,) = find_held_kernels(ended(held(kernel=0.0, **options)))
    assert (found.cause, found.certain) == ("held_at_zero", certain)
    assert f"the kernel of layer last is held at zero by its {by}" in found.reason
    assert found.advice == "take it away or weaken it"
    assert not [*find_held_kernels(ended(held(kernel=0.5, **options)))]


def test_a_small_kernel_that_nothing_holds_is_free_to_grow() -> None:
    assert not [*find_held_kernels(ended(held(kernel=0.0)))]


def test_a_hidden_layer_held_at_zero_says_nothing_of_the_output() -> None:
    frozen = layers.Dense(4, kernel_initializer="zeros", trainable=False)
    assert not [*find_held_kernels(ended(stack(frozen)))]


# ------------------------------------------------------------------------------ branches


def branched(*, sick: bool, outputs: int = 1) -> keras.Model:
    """Two branches, of which one may be born dead, to one output or to one each."""
    inputs = keras.Input((3,))
    bias = keras.initializers.Constant(-50.0 if sick else 0.0)
    options: dict[str, Any] = {"activation": "relu"}
    glorot = keras.initializers.GlorotUniform
    one = layers.Dense(8, kernel_initializer=glorot(seed=1), name="one", **options)(inputs)
    two = layers.Dense(
        8, kernel_initializer=glorot(seed=2), bias_initializer=bias, name="two", **options
    )(inputs)
    if outputs == 1:
        return keras.Model(inputs, layers.Dense(1)(layers.concatenate([one, two])))
    return keras.Model(inputs, [layers.Dense(1, name="a")(one), layers.Dense(1, name="b")(two)])


def test_a_dead_branch_is_named_while_the_network_lives_on_the_other() -> None:
    subject = trained(branched(sick=True), *curve(), optimizer=keras.optimizers.Adam(0.02))
    (found,) = find_dead_branch(subject)
    assert (found.cause, found.certain) == ("dead_branch", False)
    assert found.reason == (
        "layer two is entirely dead, so that the output can only learn from what goes past it"
    )
    assert "dead_branch" in causes(subject)


def test_two_branches_that_live_are_left_in_peace() -> None:
    subject = trained(branched(sick=False), *curve(), optimizer=keras.optimizers.Adam(0.02))
    assert not [*find_dead_branch(subject)]


def test_one_output_of_several_may_be_dead() -> None:
    x, y = curve()
    model = branched(sick=True, outputs=2)
    model.compile("adam", ["mse", "mse"])
    given = Rows(x=x, y=(y, y))
    heads = find_outputs(model, Arguments(), given)
    examined = examine(Probe(model), given, heads, Checks(), Evidence())
    phases = (replace(builders.phase("init"), checks=examined.checks),)
    subject = ended(model, given, heads=heads, examined=examined, phases=phases)
    (found,) = find_dead_branch(subject)
    assert found.reason == (
        "layer two is entirely dead, so that output b cannot learn, while output a can"
    )


def test_where_all_is_dead_there_is_no_branch() -> None:
    model = stack(layers.Dense(8, activation="relu", bias_initializer="zeros", name="all"))
    model.get_layer("all").set_weights([np.zeros((3, 8)), np.full(8, -1.0)])
    subject = trained(model, *curve(), optimizer="sgd", epochs=1)
    assert "dead_neurons" in subject.failed
    assert not [*find_dead_branch(subject)]
