"""The checks as they are recorded: a class for each, with what it measured and its limits.

To add a check, write its class and name it in `AnyCheck`. Fields that were not measured are None
or empty, and are then left out of the JSON where the class says `omit_defaults`.
"""

import typing

from orchestrator.record.checks.check import Check, Form, Kind, NoLimits, Verdict
from orchestrator.record.checks.dead_neurons import (
    DeadNeuronsCheck,
    DeadNeuronsLimits,
    DeadNeuronsMeasured,
    LayerUnits,
)
from orchestrator.record.checks.findings import FindingsCheck, FindingsMeasured
from orchestrator.record.checks.finite import Break, FiniteCheck, FiniteMeasured
from orchestrator.record.checks.learned import (
    NO_SKILL,
    LearnedCheck,
    LearnedLimits,
    LearnedMeasured,
    OutputShare,
)
from orchestrator.record.checks.metric import (
    GateBounds,
    GateValue,
    MetricCheck,
    MetricLimits,
    MetricMeasured,
)
from orchestrator.record.checks.prediction_variance import (
    FEW,
    OutputWorth,
    PredictionVarianceCheck,
    PredictionVarianceLimits,
    PredictionVarianceMeasured,
    ValidationWorth,
    is_visible,
    place,
)

AnyCheck = (
    FiniteCheck
    | FindingsCheck
    | DeadNeuronsCheck
    | PredictionVarianceCheck
    | LearnedCheck
    | MetricCheck
)
NAMES: tuple[str, ...] = tuple(
    str(kind.__struct_config__.tag) for kind in typing.get_args(AnyCheck)
)
"""Their names, in the order in which they are taken."""

__all__ = [
    "AnyCheck",
    "Break",
    "Check",
    "DeadNeuronsCheck",
    "DeadNeuronsLimits",
    "DeadNeuronsMeasured",
    "FEW",
    "FindingsCheck",
    "FindingsMeasured",
    "FiniteCheck",
    "Form",
    "FiniteMeasured",
    "GateBounds",
    "GateValue",
    "Kind",
    "LayerUnits",
    "LearnedCheck",
    "LearnedLimits",
    "LearnedMeasured",
    "MetricCheck",
    "MetricLimits",
    "MetricMeasured",
    "NAMES",
    "NO_SKILL",
    "NoLimits",
    "OutputShare",
    "OutputWorth",
    "PredictionVarianceCheck",
    "PredictionVarianceLimits",
    "PredictionVarianceMeasured",
    "ValidationWorth",
    "Verdict",
    "is_visible",
    "place",
]
