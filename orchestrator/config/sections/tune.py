"""What `orchestrate tune` searches, how, and what for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pydantic
from pydantic import BeforeValidator, Field

from orchestrator.config.sections.base import Flag, OneOf, PositiveFloat, PositiveInt, Section

_Bounds = Annotated[list[float], Field(min_length=2, max_length=2)]
_WholeBounds = Annotated[list[int], Field(min_length=2, max_length=2)]
_Boolean = Literal[True]


class FloatDimension(Section):
    """A number from a range."""

    float: _Bounds
    """Smallest and greatest value."""
    log: Flag = False
    """Draw it uniformly on a logarithmic scale."""
    step: PositiveFloat | None = None
    """Distance of the values, with `log` the factor between them; null means any value."""


class IntDimension(Section):
    """A whole number from a range."""

    int: _WholeBounds
    """Smallest and greatest value, both included."""
    log: Flag = False
    """Draw it uniformly on a logarithmic scale."""
    step: PositiveInt | None = None
    """Distance of the values, with `log` the factor between them; null means every whole number."""


class ChoiceDimension(Section):
    """One of several values of any kind."""

    choice: Annotated[list[Any], Field(min_length=1)]
    """The values, as the config would hold them; a whole policy may be one of them."""


class BooleanDimension(Section):
    """True or false."""

    boolean: _Boolean
    """Always true."""


Dimension = Annotated[
    Annotated[FloatDimension, pydantic.Tag("<float>")]
    | Annotated[IntDimension, pydantic.Tag("<int>")]
    | Annotated[ChoiceDimension, pydantic.Tag("<choice>")]
    | Annotated[BooleanDimension, pydantic.Tag("<boolean>")],
    OneOf(("float", "int", "choice", "boolean")),
]
"""The values that a key of the config may take."""


class MeasureTerm(Section):
    """A measure of a run as a part of the objective."""

    measure: Literal["cost", "seconds", "skill"]
    """`cost`: what the run trained until a model passed, in plain trainings of the config;
    `seconds`: how long it took; `skill`: that of the model, where more is better."""
    weight: PositiveFloat = 1.0
    """Its factor in the sum."""


class MetricTerm(Section):
    """A metric that Keras logs as a part of the objective."""

    metric: str
    """Keras's name of it, such as `val_loss`; its value after the last phase counts."""
    direction: Literal["min", "max"]
    """Whether less or more of it is better."""
    weight: PositiveFloat = 1.0
    """Its factor in the sum."""


_Term = Annotated[
    Annotated[MeasureTerm, pydantic.Tag("<measure>")]
    | Annotated[MetricTerm, pydantic.Tag("<metric>")],
    OneOf(("measure", "metric")),
]
_Measure = Literal["cost", "seconds", "skill"]


def _listed(value: Any) -> Any:
    """`cost` is short for `[{measure: cost}]`, and one term for a list of it."""
    if isinstance(value, str):
        return [{"measure": value}]
    return [value] if isinstance(value, Mapping | Section) else value


class Tune(Section):
    """What `orchestrate tune` searches, how, and what for."""

    tuner: Literal["random", "bayesian", "hyperband", "grid"] = "random"
    """KerasTuner's way to choose the next values."""
    objective: Annotated[
        list[_Term],
        Field(min_length=1),
        BeforeValidator(_listed, json_schema_input_type=_Measure | _Term | list[_Term]),
    ] = Field(default="cost", validate_default=True)
    """What is to be made best: `cost`, `seconds`, `skill`, `{metric: val_loss, direction: min}`, or
    a list of such terms with weights, whose sum is minimised."""
    max_trials: PositiveInt = 20
    """How many sets of values are tried, the config as it is being the first of them."""
    seeds: PositiveInt = 5
    """Base seeds that every set of values is tried on, the same for all."""
    fresh_seeds: Annotated[int, Field(ge=0)] = 10
    """Further seeds for the final comparison with the default policy; 0 leaves it out."""
    penalty: Annotated[float, Field(ge=0)] | None = None
    """What a run without a model that passes costs beside what it trained, in plain trainings;
    null means `restart.max_attempts`, all that one run may train."""
    cut: Flag = True
    """End a trial early that can no longer win."""
    space: dict[str, Dimension] = {}
    """What is searched: dotted paths of the config's keys with the values that each may take. In
    `restart.policy.leaky_relu.negative_slope` every rung of that remedy is meant. With none, the
    policy is searched: its remedies and their order, and what they take."""
