"""Verdicts on dead units, from counts made by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from orchestrator.config.sections.checks import DeadNeurons
from orchestrator.diagnosis.units import INPUT, Flow, Layer, cut
from orchestrator.diagnosis.verdicts.dead_neurons import dead_neurons, needs_batch_statistics
from orchestrator.record.checks import DeadNeuronsCheck
from orchestrator.record.encoding import jsonable

LIMITS = DeadNeurons()
CHAIN = Flow(
    layers=(frozenset({INPUT}), frozenset({0})),
    outputs=(frozenset({1}),),
)
TWO_OUTPUTS = Flow(
    layers=(frozenset({INPUT}), frozenset({0}), frozenset({0})),
    outputs=(frozenset({1}), frozenset({2})),
)


def _layer(name: str, units: int, dead: int, *, saturating: bool = False) -> Layer:
    active = np.full(units, 100, dtype=np.int64)
    active[:dead] = 0
    return Layer(name=name, activation="relu", rows=100, active_rows=active, saturating=saturating)


def _dead(
    *dead: int,
    units: int = 20,
    skill: float | None = 0.5,
    untrained: bool = False,
    limits: DeadNeurons = LIMITS,
    batch: tuple[int, ...] | None = None,
) -> DeadNeuronsCheck:
    """The verdict on a chain of two layers, of which the first may be left out."""
    counts = dead if len(dead) == 2 else (0, *dead)
    in_batch = batch if batch is None or len(batch) == 2 else (0, *batch)
    return dead_neurons(
        [_layer(name, units, count) for name, count in zip("ab", counts, strict=True)],
        CHAIN,
        limits,
        skills=[skill],
        untrained=untrained,
        batch_layers=None
        if in_batch is None
        else [_layer(name, units, count) for name, count in zip("ab", in_batch, strict=True)],
    )


@pytest.mark.parametrize("untrained", [False, True])
def test_an_entirely_dead_layer_that_cuts_the_output_fails_even_untrained(untrained: bool) -> None:
    check = _dead(20, untrained=untrained, skill=None)
    assert check.verdict == "fail"
    assert check.reason == (
        "layer b is entirely dead (20 of 20 units) on 100 rows; nothing gets through to the output"
    )
    assert (check.measured.worst_layer, check.measured.dead_fraction) == ("b", 1.0)


def test_all_dead_layers_are_counted() -> None:
    assert "layer a is entirely dead (20 of 20 units) on 100 rows, and so is 1 more" in (
        _dead(20, 20).reason
    )


def test_a_dead_layer_with_a_way_around_it_does_not_fail() -> None:
    around = Flow(layers=(frozenset({INPUT}),), outputs=(frozenset({0, INPUT}),))
    check = dead_neurons([_layer("a", 4, 4)], around, LIMITS, skills=[0.5], untrained=False)
    assert (check.verdict, check.reason) == (
        "warn",
        "4 of 4 units of a are dead on 100 rows (limit 50%)",
    )


@pytest.mark.parametrize(
    ("dead", "distinct", "verdict"),
    [
        (4, [True, False], "fail"),
        (4, [False, False], "warn"),  # as behind a kernel that begins at zero
        (4, [True, True], "warn"),
        (3, [True, False], "warn"),
    ],
)
def test_before_training_a_column_that_a_dead_branch_makes_fails(
    dead: int, distinct: list[bool], verdict: str
) -> None:
    around = Flow(layers=(frozenset({INPUT}),), outputs=(frozenset({0, INPUT}),))
    check = dead_neurons(
        [_layer("a", 4, dead)], around, LIMITS, skills=[0.5], untrained=True, distinct=[distinct]
    )
    assert check.verdict == verdict
    if verdict == "fail":
        assert check.reason.endswith("nothing gets through to column 1 of the output")


def test_the_layer_that_cuts_is_named_and_not_another_dead_one() -> None:
    # Layer a has a way around it, layer b has none.
    flow = Flow(layers=(frozenset({INPUT}), frozenset({0, INPUT})), outputs=(frozenset({1}),))
    layers = [_layer("a", 4, 4), _layer("b", 4, 4)]
    check = dead_neurons(layers, flow, LIMITS, skills=[0.5], untrained=False)
    assert check.reason.startswith("layer b is entirely dead (4 of 4 units)")


def test_branches_that_only_together_cut_fail_together() -> None:
    flow = Flow(layers=(frozenset({INPUT}), frozenset({INPUT})), outputs=(frozenset({0, 1}),))
    layers = [_layer("a", 4, 4), _layer("b", 4, 4)]
    assert dead_neurons(layers, flow, LIMITS, skills=[0.5], untrained=True).verdict == "fail"
    layers[1] = _layer("b", 4, 3)
    assert dead_neurons(layers, flow, LIMITS, skills=[0.5], untrained=True).verdict == "warn"


def test_one_cut_output_of_two_fails_and_is_named() -> None:
    layers = [_layer("a", 4, 0), _layer("b", 4, 0), _layer("c", 4, 4)]
    check = dead_neurons(layers, TWO_OUTPUTS, LIMITS, skills=[0.9, 0.9], untrained=False)
    assert check.verdict == "fail"
    assert check.reason.endswith("nothing gets through to output 1")
    layers[0] = _layer("a", 4, 4)
    check = dead_neurons(layers, TWO_OUTPUTS, LIMITS, skills=[0.9, 0.9], untrained=False)
    assert check.reason.endswith("nothing gets through to outputs 0, 1")


@pytest.mark.parametrize(
    ("dead", "skill", "verdict"),
    [
        (19, 0.01, "fail"),
        (19, -3.0, "fail"),
        (19, math.nan, "fail"),
        (19, 0.010001, "warn"),
        (19, 0.9, "warn"),
        (19, None, "warn"),
        (18, 0.0, "warn"),
        (11, 0.0, "warn"),
        (10, 0.0, "pass"),
        (0, 0.0, "pass"),
    ],
)
def test_a_share_fails_above_its_limit_and_only_without_skill(
    dead: int, skill: float | None, verdict: str
) -> None:
    assert _dead(dead, skill=skill).verdict == verdict


def test_a_wide_healthy_net_with_95_percent_dead_only_warns() -> None:
    check = _dead(243, units=256, skill=1.0)
    assert check.verdict == "warn"
    assert check.reason == "243 of 256 units of b are dead on 100 rows (limit 50%)"


def test_no_share_fails_before_training() -> None:
    assert _dead(19, skill=-5.0, untrained=True).verdict == "warn"


def test_only_an_output_that_the_layer_feeds_counts() -> None:
    layers = [_layer("a", 20, 0), _layer("b", 20, 0), _layer("c", 20, 19)]
    unskilled_elsewhere = dead_neurons(
        layers, TWO_OUTPUTS, LIMITS, skills=[0.0, 0.9], untrained=False
    )
    assert unskilled_elsewhere.verdict == "warn"
    check = dead_neurons(layers, TWO_OUTPUTS, LIMITS, skills=[0.9, 0.0], untrained=False)
    assert (check.verdict, "output 1 has no skill (0)" in check.reason) == ("fail", True)


def test_limits_of_the_config_are_used_and_recorded() -> None:
    limits = DeadNeurons(warn_above=0.1, fail_above=0.2)
    check = _dead(5, skill=0.0, limits=limits)
    assert check.verdict == "fail"
    assert jsonable(check.limits) == {"warn_above": 0.1, "fail_above": 0.2}


def test_saturation_warns_and_never_fails() -> None:
    layers = [_layer("a", 4, 4, saturating=True)]
    flow = Flow(layers=(frozenset({INPUT}),), outputs=(frozenset({0}),))
    check = dead_neurons(layers, flow, LIMITS, skills=[-1.0], untrained=False)
    assert check.verdict == "warn"
    assert check.reason == "4 of 4 relu units of a are saturated on every row"
    assert check.measured.layers[0].saturated == 4
    assert check.measured.layers[0].dead == 0


@pytest.mark.parametrize(
    ("moving", "batch", "verdict", "lags"),
    [
        (20, 0, "warn", True),  # entirely dead, but not with the batch's statistics
        (20, 12, "warn", True),  # still above warn_above, and alive all the same
        (20, 19, "fail", False),  # no cut, but too dead for an output without skill
        (20, 20, "fail", False),
        (19, 15, "warn", True),
        (12, 11, "warn", False),  # warned about either way
        (12, 10, "warn", True),
        (10, 0, "pass", False),
        (10, 20, "pass", False),  # the batch's statistics acquit, they never accuse
    ],
)
def test_a_layer_that_lives_with_the_batch_statistics_lags(
    moving: int, batch: int, verdict: str, lags: bool
) -> None:
    check = _dead(moving, skill=0.0, batch=(batch,))
    assert (check.verdict, "moving statistics lag" in check.reason) == (verdict, lags)
    assert check.measured.layers[1].dead == moving
    assert check.measured.layers[1].dead_with_batch_statistics == batch


@pytest.mark.parametrize(("dead", "needed"), [(10, False), (11, True), (20, True)])
def test_batch_statistics_are_asked_for_where_a_layer_is_above_warn(
    dead: int, needed: bool
) -> None:
    assert needs_batch_statistics([_layer("a", 20, dead)], LIMITS) is needed


def test_no_layer_is_not_applicable() -> None:
    check = dead_neurons(
        [], Flow(layers=(), outputs=(frozenset({INPUT}),)), LIMITS, skills=[0.0], untrained=False
    )
    assert check.verdict == "not_applicable"


def test_a_sample_is_marked_as_not_exact() -> None:
    check = dead_neurons(
        [_layer("a", 4, 0), _layer("b", 4, 0)],
        CHAIN,
        LIMITS,
        skills=[0.5],
        untrained=False,
        exact=False,
    )
    assert check.measured.exact is False
    assert check.reason == "no dead unit of 8 (limit 50% of a layer)"


def test_the_evidence_names_every_unit() -> None:
    entry = jsonable(_dead(2, units=3).measured.layers[1])
    assert entry == {
        "layer": "b",
        "activation": "relu",
        "units": 3,
        "rows": 100,
        "dead": 2,
        "near_dead": 0,
        "constant": 0,
        "dead_units": [0, 1],
        "active_rows": [0, 0, 100],
    }


def test_cut_names_the_dead_layers_and_the_outputs() -> None:
    layers = [_layer("a", 4, 0), _layer("b", 4, 4), _layer("c", 4, 3)]
    assert cut(layers, TWO_OUTPUTS) == ([1], [0])
