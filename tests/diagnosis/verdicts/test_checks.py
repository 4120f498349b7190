"""Verdicts on what is not finite, on predictions and on gates; and all checks at once."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from orchestrator.config.sections.checks import Checks, Gate, PredictionVariance
from orchestrator.diagnosis.skill.columns import OutputSkill, numbered
from orchestrator.diagnosis.skill.learned import Learnt
from orchestrator.diagnosis.units import INPUT, Flow, Layer
from orchestrator.diagnosis.verdicts import checks
from orchestrator.diagnosis.verdicts.checks import Evidence
from orchestrator.diagnosis.verdicts.prediction_variance import prediction_variance
from orchestrator.record.checks import NAMES, Form, MetricCheck, PredictionVarianceCheck
from orchestrator.record.encoding import jsonable
from tests.builders import scored

VARIANCE = PredictionVariance()


# ------------------------------------------------------------------------------- finite


def test_nothing_found_is_finite() -> None:
    assert checks.finite([]).verdict == "pass"


def test_the_first_place_that_is_not_finite_is_named() -> None:
    check = checks.finite(["weight a has NaN", "the loss is NaN"])
    assert (check.verdict, check.reason) == ("fail", "weight a has NaN (and 1 more)")
    assert check.measured.non_finite == ("weight a has NaN", "the loss is NaN")
    assert checks.finite(["weight a has NaN"]).reason == "weight a has NaN"


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
    return prediction_variance(
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


def test_without_a_skill_that_is_judged_the_variance_is_all_the_same() -> None:
    reason = "the model has a train_step of its own"
    output = _with(skill=None, loss=None, constant_loss=None, unjudged=reason)
    check = _variance(output)
    assert check.verdict == "pass"
    assert check.reason.endswith(f"skill is not judged: {reason}")
    assert check.measured.outputs[0].unjudged == reason
    assert _variance(dataclasses.replace(output, variance_ratio=0.0)).verdict == "fail"
    without = OutputSkill(output=0, kind="regression", varies=None, unjudged=reason)
    assert _variance(without).reason.endswith(f"skill is not judged: {reason}")
    assert _variance(dataclasses.replace(without, distinct=False)).verdict == "fail"


OWN_LOSS = dataclasses.replace(REGRESSION, function="pinball", by_spread=False)


def test_under_a_loss_of_its_own_scale_what_has_skill_is_not_constant() -> None:
    small = dataclasses.replace(OWN_LOSS, variance_ratio=1e-7)
    assert _variance(small).verdict == "pass"
    assert _variance(dataclasses.replace(small, skill=0.009)).verdict == "fail"
    assert _variance(dataclasses.replace(small, skill=None, unjudged="…")).verdict == "fail"


def test_nearly_constant_is_right_where_most_targets_are_the_best_constant() -> None:
    median = dataclasses.replace(OWN_LOSS, variance_ratio=1e-7, skill=0.0, usual=True)
    check = _variance(median)
    assert check.verdict == "warn"
    assert "nearly constant, as most of the targets are" in check.reason
    assert _variance(dataclasses.replace(median, distinct=False)).verdict == "fail"
    assert _variance(dataclasses.replace(median, skill=-0.2)).verdict == "fail"


def test_predictions_without_targets_of_their_shape_can_have_a_skill() -> None:
    output = OutputSkill(output=0, kind="regression", varies=None, skill=0.5)
    assert _variance(output).reason == "the predictions differ between rows, skill 0.5"
    assert _variance(dataclasses.replace(output, skill=-0.2)).verdict == "fail"


def test_a_prediction_that_varies_little_is_constant_beside_the_targets_only() -> None:
    """That of a fresh network is no constant, though targets in the thousands dwarf it."""
    reason = _variance(_with(variance_ratio=1e-9)).reason
    assert reason.endswith(": beside the targets, the prediction is constant")
    assert _variance(_with(variance_ratio=0.0)).reason.endswith("): the prediction is constant")


def test_the_worst_output_decides_and_is_named() -> None:
    good, bad = REGRESSION, _with(output=1, variance_ratio=0.0)
    check = _variance(good, bad)
    assert check.verdict == "fail"
    assert check.reason.startswith(
        "output 1: variance ratio 0 (limit 0.0001): the prediction is constant"
    )
    constant = OutputSkill(output=2, kind="regression", varies=False)
    assert _variance(good, constant).verdict == "pass"


def test_outputs_are_named_and_their_columns_numbered_and_alike_ones_counted() -> None:
    price = [REGRESSION, *[_with(variance_ratio=0.0)] * 3]
    outputs = numbered([[dataclasses.replace(each, name="price") for each in price], [REGRESSION]])
    assert [each.column for each in outputs] == [0, 1, 2, 3, None]
    check = _variance(*outputs)
    assert check.reason == (
        "output price, column 1: variance ratio 0 (limit 0.0001): the prediction is constant; "
        "2 more of 5 fail too"
    )
    assert [each.column for each in check.measured.outputs] == [0, 1, 2, 3, None]
    assert _variance(*numbered([price])).reason.startswith("column 1: variance ratio 0")


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
    check = _variance(collapsed, last=False, batch=[REGRESSION])
    assert check.verdict == "warn"
    assert check.reason.endswith("BatchNorm's moving ones lag")
    assert _variance(collapsed, last=False, batch=[collapsed]).verdict == "fail"


@pytest.mark.parametrize("lagging", [{"variance_ratio": 0.0}, {"skill": -0.2}])
def test_a_lag_at_the_end_fails_for_so_the_model_is_saved(lagging: Any) -> None:
    check = _variance(_with(**lagging), batch=[REGRESSION])
    assert check.verdict == "fail"
    assert check.reason.endswith("BatchNorm's moving ones lag")


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


# ------------------------------------------------------------------------------- all of them


def _layer(dead: int) -> Layer:
    active = np.array([0] * dead + [9] * (4 - dead))
    return Layer(name="dense", activation="relu", rows=9, active_rows=active)


def test_all_checks_are_taken_in_the_order_of_their_names() -> None:
    gates = [Gate(name="loss", max=1.0)]
    evidence = Evidence(
        layers=[_layer(0)],
        flow=Flow(layers=(frozenset({INPUT}),), outputs=(frozenset({0}),)),
        columns=[[REGRESSION]],
        learnt=[Learnt(output=0, skill=0.9, reference=1.0)],
        gates=gates,
        logged={"loss": 0.5},
    )
    found = checks.judge(evidence, Checks(metric=gates))
    # What was found before the training stands apart: it is put in where it was looked for.
    assert [check.check for check in found] == [name for name in NAMES if name != "findings"]
    assert {check.verdict for check in found} == {"pass"}


def test_what_is_off_or_not_due_is_not_taken() -> None:
    evidence = Evidence(columns=[[REGRESSION]], logged={"loss": 0.5})
    one = Checks(finite="off", dead_neurons="off")
    assert [check.check for check in checks.judge(evidence, one)] == ["prediction_variance"]
    none = Checks(finite="off", dead_neurons="off", prediction_variance="off")
    assert checks.judge(evidence, none) == ()


def test_what_is_not_finite_hides_units_and_outputs_and_no_gate() -> None:
    evidence = Evidence(
        non_finite=["weight a has NaN"], gates=[Gate(name="loss", max=1.0)], logged={"loss": 0.5}
    )
    found = checks.judge(evidence, Checks())
    verdicts = {check.check: (check.verdict, check.reason) for check in found}
    hidden = ("not_applicable", "there are non-finite values")
    assert verdicts == {
        "finite": ("fail", "weight a has NaN"),
        "dead_neurons": hidden,
        "prediction_variance": hidden,
        "learned": hidden,
        "metric": ("pass", "loss is 0.5 (max 1)"),
    }


@pytest.mark.parametrize("skill", [0.0, None])
def test_the_lowest_skill_of_an_output_judges_the_units_that_feed_it(skill: float | None) -> None:
    columns = [REGRESSION, _with(skill=skill, output=1)]
    flow = Flow(layers=(frozenset({INPUT}), frozenset({INPUT})), outputs=(frozenset({0, 1}),))
    nearly = Layer(name="wide", activation="relu", rows=9, active_rows=np.array([0] * 19 + [9]))
    evidence = Evidence(layers=[nearly, _layer(0)], flow=flow, columns=[columns])
    (found, _) = checks.judge(evidence, Checks(finite="off"))
    assert found.verdict == ("fail" if skill == 0 else "warn")
