"""Checks as records: what each says of itself in tables."""

import pytest

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


class Invented(Check, tag="invented", kw_only=True):
    """A check that says nothing of its own."""


def test_a_check_without_words_of_its_own_has_its_reason() -> None:
    check = Invented(verdict="pass", reason="all is well")
    assert (check.check, check.reading(), check.bounds()) == ("invented", "all is well", "")


def test_names_are_those_of_the_sections() -> None:
    assert NAMES == ("finite", "dead_neurons", "prediction_variance", "metric")
