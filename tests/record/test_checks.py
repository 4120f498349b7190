"""Checks as records: what each says of itself in tables."""

import math

import pytest
from msgspec.structs import replace

from orchestrator.record.checks import (
    NAMES,
    AnyCheck,
    Check,
    DeadNeuronsCheck,
    DeadNeuronsLimits,
    DeadNeuronsMeasured,
    FiniteCheck,
    GateBounds,
    GateValue,
    LayerUnits,
    MetricCheck,
    MetricLimits,
    MetricMeasured,
    OutputWorth,
    PredictionVarianceCheck,
    PredictionVarianceLimits,
    PredictionVarianceMeasured,
)

UNITS = DeadNeuronsMeasured(worst_layer="dense", dead_fraction=0.62)
SHARES = DeadNeuronsLimits(warn_above=0.5, fail_above=0.9)
LEAST = PredictionVarianceLimits(min_ratio=1e-4, min_information=1e-3, min_skill=-0.1)
PRICE = OutputWorth(output=0, kind="regression", variance_ratio=0.97, skill=0.85)
COLOR = OutputWorth(output=1, kind="classification", information=0.5, skill=0.25)


def variance(*outputs: OutputWorth) -> PredictionVarianceCheck:
    measured = PredictionVarianceMeasured(outputs=outputs)
    return PredictionVarianceCheck(verdict="pass", reason="why", measured=measured, limits=LEAST)


@pytest.mark.parametrize(
    ("check", "reading", "bounds"),
    [
        (FiniteCheck(verdict="pass", reason="why"), "all finite", ""),
        (FiniteCheck(verdict="fail", reason="weight a has NaN"), "weight a has NaN", ""),
        (
            DeadNeuronsCheck(verdict="fail", reason="why", measured=UNITS, limits=SHARES),
            "62% of dense dead", "warn > 50%, fail > 90%",
        ),
        (
            DeadNeuronsCheck(verdict="warn", reason="why", measured=UNITS, limits=SHARES),
            "why", "warn > 50%, fail > 90%",
        ),
        (variance(PRICE), "variance ratio 0.97, skill 0.85", "ratio >= 0.0001, skill >= -0.1"),
        (
            variance(PRICE, COLOR),
            "output 0: variance ratio 0.97, skill 0.85; output 1: information 0.5, skill 0.25",
            "information >= 0.001, ratio >= 0.0001, skill >= -0.1",
        ),
        (variance(), "why", ""),
        (
            MetricCheck(
                verdict="fail",
                reason="why",
                measured=MetricMeasured(gates=(GateValue(name="val_loss"),)),
                limits=MetricLimits(gates=(GateBounds(name="val_loss", max=20.0),)),
            ),
            "val_loss not logged", "<= 20",
        ),
        (MetricCheck(verdict="pass", reason="why"), "why", ""),
    ],
)  # fmt: skip
def test_a_check_says_what_it_measured_and_allows(
    check: AnyCheck, reading: str, bounds: str
) -> None:
    assert (check.reading(), check.bounds()) == (reading, bounds)


@pytest.mark.parametrize(
    ("dead", "reading"),
    [
        (0, "0% of dense dead"),
        (1, "1% of dense dead"),
        (256, "50% of dense dead"),
        (511, "99% of dense dead"),
        (512, "100% of dense dead"),
    ],
)
def test_only_all_dead_units_are_a_whole_layer(dead: int, reading: str) -> None:
    measured = DeadNeuronsMeasured(worst_layer="dense", dead_fraction=dead / 512)
    assert DeadNeuronsCheck(verdict="fail", reason="", measured=measured).reading() == reading


class Invented(Check, tag="invented", kw_only=True):
    """A check that says nothing of its own."""


def test_a_check_without_words_of_its_own_has_its_reason() -> None:
    check = Invented(verdict="pass", reason="all is well")
    assert (check.check, check.reading(), check.bounds()) == ("invented", "all is well", "")


def test_names_are_those_of_the_sections() -> None:
    assert NAMES == (
        "finite",
        "findings",
        "dead_neurons",
        "prediction_variance",
        "learned",
        "metric",
    )


GOOD = OutputWorth(variance_ratio=0.5, skill=0.5)
WORSE = OutputWorth(variance_ratio=0.5, skill=-0.2)
CONSTANT = OutputWorth(variance_ratio=0.0, skill=-0.2)


@pytest.mark.parametrize(
    ("outputs", "constant", "worse"),
    [
        ([], False, False),
        ([GOOD], False, False),
        ([GOOD, WORSE], False, True),
        ([GOOD, CONSTANT], True, False),
        ([WORSE, CONSTANT], True, False),
        ([OutputWorth(variance_ratio=1e-4, skill=-0.1)], False, False),  # exactly at the limits
        ([OutputWorth(variance_ratio=math.nan)], True, False),
        ([OutputWorth(variance_ratio=0.5, skill=math.nan)], False, True),
        ([OutputWorth(information=1e-5)], True, False),
        ([OutputWorth(kind="regression")], False, False),  # without targets
    ],
)
def test_a_prediction_is_constant_or_worse_than_a_constant_or_neither(
    outputs: list[OutputWorth], constant: bool, worse: bool
) -> None:
    check = variance(*outputs)
    assert (check.is_constant(), check.is_worse_than_constant()) == (constant, worse)


def test_a_limit_that_was_not_recorded_is_not_missed() -> None:
    check = replace(variance(CONSTANT), limits=PredictionVarianceLimits(min_skill=-0.1))
    assert (check.is_constant(), check.is_worse_than_constant()) == (False, True)


@pytest.mark.parametrize(("batch", "counted"), [(None, 4), (1, 1), (6, 4)])
def test_units_that_only_the_moving_statistics_kill_are_not_counted(
    batch: int | None, counted: int
) -> None:
    layer = LayerUnits(layer="a", units=8, dead=4, dead_with_batch_statistics=batch)
    assert layer.counted_dead() == counted
