from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from orchestrator.config.sections.checks import DeadNeurons, Gate, PredictionVariance
from orchestrator.diagnosis import checks
from orchestrator.diagnosis.skill.columns import OutputSkill
from orchestrator.diagnosis.units import INPUT, Flow, Layer
from orchestrator.record.checks import DeadNeuronsCheck, MetricCheck, PredictionVarianceCheck
from orchestrator.record.encoding import jsonable
from orchestrator.record.records import Form
from tests.builders import scored

LIMITS = DeadNeurons()
VARIANCE = PredictionVariance()
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
    return checks.dead_neurons(
        [_layer(name, units, count) for name, count in zip("ab", counts, strict=True)],
        CHAIN,
        limits,
        skills=[skill],
        untrained=untrained,
        batch_layers=None
        if in_batch is None
        else [_layer(name, units, count) for name, count in zip("ab", in_batch, strict=True)],
    )


# ------------------------------------------------------------------------------- finite


def test_nothing_found_is_finite() -> None:
    assert checks.finite([]).verdict == "pass"


def test_the_first_place_that_is_not_finite_is_named() -> None:
    check = checks.finite(["weight a has NaN", "the loss is NaN"])
    assert (check.verdict, check.reason) == ("fail", "weight a has NaN (and 1 more)")
    assert check.measured.non_finite == ("weight a has NaN", "the loss is NaN")
    assert checks.finite(["weight a has NaN"]).reason == "weight a has NaN"


# ------------------------------------------------------------------------------- dead neurons


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
    check = checks.dead_neurons([_layer("a", 4, 4)], around, LIMITS, skills=[0.5], untrained=False)
    assert (check.verdict, check.reason) == (
        "warn",
        "4 of 4 units of a are dead on 100 rows (limit 50%)",
    )


def test_the_layer_that_cuts_is_named_and_not_another_dead_one() -> None:
    # Layer a has a way around it, layer b has none.
    flow = Flow(layers=(frozenset({INPUT}), frozenset({0, INPUT})), outputs=(frozenset({1}),))
    layers = [_layer("a", 4, 4), _layer("b", 4, 4)]
    check = checks.dead_neurons(layers, flow, LIMITS, skills=[0.5], untrained=False)
    assert check.reason.startswith("layer b is entirely dead (4 of 4 units)")


def test_branches_that_only_together_cut_fail_together() -> None:
    flow = Flow(layers=(frozenset({INPUT}), frozenset({INPUT})), outputs=(frozenset({0, 1}),))
    layers = [_layer("a", 4, 4), _layer("b", 4, 4)]
    assert checks.dead_neurons(layers, flow, LIMITS, skills=[0.5], untrained=True).verdict == "fail"
    layers[1] = _layer("b", 4, 3)
    assert checks.dead_neurons(layers, flow, LIMITS, skills=[0.5], untrained=True).verdict == "warn"


def test_one_cut_output_of_two_fails_and_is_named() -> None:
    layers = [_layer("a", 4, 0), _layer("b", 4, 0), _layer("c", 4, 4)]
    check = checks.dead_neurons(layers, TWO_OUTPUTS, LIMITS, skills=[0.9, 0.9], untrained=False)
    assert check.verdict == "fail"
    assert check.reason.endswith("nothing gets through to output 1")
    layers[0] = _layer("a", 4, 4)
    check = checks.dead_neurons(layers, TWO_OUTPUTS, LIMITS, skills=[0.9, 0.9], untrained=False)
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
    unskilled_elsewhere = checks.dead_neurons(
        layers, TWO_OUTPUTS, LIMITS, skills=[0.0, 0.9], untrained=False
    )
    assert unskilled_elsewhere.verdict == "warn"
    check = checks.dead_neurons(layers, TWO_OUTPUTS, LIMITS, skills=[0.9, 0.0], untrained=False)
    assert (check.verdict, "output 1 has no skill (0)" in check.reason) == ("fail", True)


def test_limits_of_the_config_are_used_and_recorded() -> None:
    limits = DeadNeurons(warn_above=0.1, fail_above=0.2)
    check = _dead(5, skill=0.0, limits=limits)
    assert check.verdict == "fail"
    assert jsonable(check.limits) == {"warn_above": 0.1, "fail_above": 0.2}


def test_saturation_warns_and_never_fails() -> None:
    layers = [_layer("a", 4, 4, saturating=True)]
    flow = Flow(layers=(frozenset({INPUT}),), outputs=(frozenset({0}),))
    check = checks.dead_neurons(layers, flow, LIMITS, skills=[-1.0], untrained=False)
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
    assert checks.needs_batch_statistics([_layer("a", 20, dead)], LIMITS) is needed


def test_no_layer_is_not_applicable() -> None:
    check = checks.dead_neurons(
        [], Flow(layers=(), outputs=(frozenset({INPUT}),)), LIMITS, skills=[0.0], untrained=False
    )
    assert check.verdict == "not_applicable"


def test_a_sample_is_marked_as_not_exact() -> None:
    check = checks.dead_neurons(
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
    assert checks.cut(layers, TWO_OUTPUTS) == ([1], [0])


# ------------------------------------------------------------------------------- predictions


REGRESSION = OutputSkill(
    output=0,
    kind="regression",
    varies=True,
    variance_ratio=0.5,
    skill=0.5,
    loss=0.5,
    constant_loss=1.0,
)
CLASSES = dataclasses.replace(
    REGRESSION, kind="classification", variance_ratio=None, information=0.5
)


def _variance(
    *outputs: OutputSkill, untrained: bool = False, last: bool = True, batch: Any = None
) -> PredictionVarianceCheck:
    return checks.prediction_variance(
        outputs, VARIANCE, untrained=untrained, last=last, batch_outputs=batch
    )


def _with(base: OutputSkill = REGRESSION, /, **changes: Any) -> OutputSkill:
    return dataclasses.replace(base, **changes)


@pytest.mark.parametrize(
    ("ratio", "verdict"),
    [(1e-4, "pass"), (0.99e-4, "fail"), (0.0, "fail"), (math.nan, "fail"), (None, "fail")],
)
def test_a_prediction_with_too_little_variance_fails_after_any_phase(
    ratio: float | None, verdict: str
) -> None:
    assert _variance(_with(variance_ratio=ratio), last=False).verdict == verdict


@pytest.mark.parametrize(
    ("information", "verdict"), [(1e-4, "pass"), (0.99e-4, "fail"), (math.nan, "fail")]
)
def test_classes_with_too_little_information_fail(information: float, verdict: str) -> None:
    assert _variance(_with(CLASSES, information=information), last=False).verdict == verdict


@pytest.mark.parametrize(
    ("skill", "verdict"),
    [
        (0.01, "pass"),
        (0.0099, "warn"),
        (-0.1, "warn"),
        (-0.1001, "fail"),
        (-math.inf, "fail"),
        (math.nan, "fail"),
    ],
)
def test_skill_is_judged_after_the_last_phase_only(skill: float, verdict: str) -> None:
    output = _with(skill=skill)
    assert _variance(output).verdict == verdict
    assert _variance(output, last=False).verdict == "pass"


@pytest.mark.parametrize(
    "output",
    [_with(variance_ratio=0.0), _with(CLASSES, information=0.0), _with(skill=math.nan)],
)
def test_nothing_fails_before_training(output: OutputSkill) -> None:
    assert _variance(output, untrained=True, last=True).verdict == "warn"


def test_the_same_class_for_every_row_warns() -> None:
    check = _variance(_with(CLASSES, constant_class=True))
    assert check.verdict == "warn"
    assert check.reason.endswith("every row gets the same class")


def test_a_constant_target_is_not_applicable() -> None:
    output = OutputSkill(output=0, kind="regression", varies=False, distinct=False)
    assert _variance(output).verdict == "not_applicable"


@pytest.mark.parametrize(("distinct", "verdict"), [(True, "pass"), (False, "fail")])
def test_without_targets_only_equal_predictions_fail(distinct: bool, verdict: str) -> None:
    output = OutputSkill(output=0, kind="regression", varies=None, distinct=distinct)
    assert _variance(output).verdict == verdict


def test_the_worst_output_decides_and_is_named() -> None:
    good, bad = REGRESSION, _with(output=1, variance_ratio=0.0)
    check = _variance(good, bad)
    assert check.verdict == "fail"
    assert check.reason.startswith(
        "output 1: variance ratio 0 (limit 0.0001): the prediction is constant"
    )
    constant = OutputSkill(output=2, kind="regression", varies=False)
    assert _variance(good, constant).verdict == "pass"


def test_every_output_is_recorded() -> None:
    assert jsonable(_variance(REGRESSION, _with(CLASSES, output=1)).measured) == {
        "outputs": [
            {
                "output": 0,
                "kind": "regression",
                "variance_ratio": 0.5,
                "skill": 0.5,
                "loss": 0.5,
                "constant_loss": 1.0,
            },
            {
                "output": 1,
                "kind": "classification",
                "information": 0.5,
                "skill": 0.5,
                "loss": 0.5,
                "constant_loss": 1.0,
            },
        ]
    }
    assert jsonable(_variance(REGRESSION).limits) == {
        "min_ratio": 1e-4,
        "min_information": 1e-4,
        "min_skill": -0.1,
    }


def test_a_collapse_that_the_batch_statistics_do_not_show_is_a_lag() -> None:
    collapsed = _with(variance_ratio=0.0)
    check = _variance(collapsed, batch=[REGRESSION])
    assert check.verdict == "warn"
    assert check.reason.endswith("BatchNorm's moving ones lag")
    assert _variance(collapsed, batch=[collapsed]).verdict == "fail"


@pytest.mark.parametrize(
    ("form", "from_logits"),
    [
        ("regression", False),
        ("binary", False),
        ("binary", True),
        ("categorical", False),
        ("categorical", True),
        ("sparse", False),
        ("sparse", True),
    ],
)
def test_from_arrays_to_a_verdict(form: Form, from_logits: bool) -> None:
    labels = np.array([0, 1] * 50)
    y: Any = np.eye(2)[labels] if form == "categorical" else labels
    wide = form in ("categorical", "sparse")
    signs = 4.0 * (2 * labels - 1)
    raw = np.stack([-signs, signs], axis=1) if wide else signs[:, None]
    good = raw if from_logits else 1 / (1 + np.exp(-(2 if wide else 1) * raw))
    constant = np.full_like(good, 0.5)
    judged = [
        _variance(*scored(y, prediction.astype(np.float32), form, from_logits=from_logits))
        for prediction in (good, constant)
    ]
    assert [check.verdict for check in judged] == ["pass", "fail"]


def test_a_weak_signal_of_1_percent_passes() -> None:
    rows = np.random.default_rng(0)
    signal = rows.normal(size=20_000)
    y = signal + math.sqrt(80) * rows.normal(size=20_000)
    check = _variance(*scored(y, signal, "regression"))
    assert check.verdict == "pass"


@pytest.mark.parametrize(("offset", "scale"), [(1e4, 1.0), (0.0, 1e-3), (1e4, 1e-3)])
def test_neither_offset_nor_scale_hides_a_constant_or_makes_one(
    offset: float, scale: float
) -> None:
    y = offset + scale * np.random.default_rng(0).normal(size=1000)
    constant = np.full(1000, y.mean(), dtype=np.float32)
    assert _variance(*scored(y, constant, "regression")).verdict == "fail"
    assert _variance(*scored(y, y, "regression")).verdict == "pass"


# ------------------------------------------------------------------------------- metric


def _metric(logged: dict[str, float], *gates: Gate) -> MetricCheck:
    return checks.metric(gates, logged)


@pytest.mark.parametrize(
    ("value", "verdict"), [(1.0, "pass"), (2.0, "pass"), (0.9999, "fail"), (2.0001, "fail")]
)
def test_bounds_themselves_pass(value: float, verdict: str) -> None:
    assert _metric({"loss": value}, Gate(name="loss", min=1.0, max=2.0)).verdict == verdict


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("bounds", [{"min": 0.0}, {"max": 0.0}])
def test_a_value_that_is_not_finite_fails_any_gate(value: float, bounds: dict[str, Any]) -> None:
    assert _metric({"loss": value}, Gate(name="loss", **bounds)).verdict == "fail"


def test_a_missing_value_fails_and_says_so() -> None:
    check = _metric({"loss": 1.0}, Gate(name="val_loss", max=2.0))
    assert (check.verdict, check.reason) == ("fail", "val_loss was not logged (max 2)")
    assert jsonable(check.measured) == {"gates": [{"name": "val_loss", "value": None}]}


def test_all_failing_gates_are_named_and_no_other() -> None:
    gates = [Gate(name="a", max=1.0), Gate(name="b", min=0.0), Gate(name="c", max=3.0)]
    check = _metric({"a": 2.0, "b": 5.0, "c": 4.0}, *gates)
    assert check.reason == "a is 2 (max 1); c is 4 (max 3)"
    assert jsonable(check.limits.gates[1]) == {"name": "b", "min": 0.0, "max": None}
    passed = _metric({"a": 0.5, "b": 5.0, "c": 1.0}, *gates)
    assert passed.reason == "a is 0.5 (max 1); b is 5 (min 0); c is 1 (max 3)"
