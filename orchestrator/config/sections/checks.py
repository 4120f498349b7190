"""The checks after every phase, and their limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import pydantic
from pydantic import BeforeValidator, Field

from orchestrator.config.sections.base import (
    CauseName,
    Fraction,
    Off,
    PositiveInt,
    Section,
    flag,
)
from orchestrator.errors import short


class Finite(Section):
    """Weights, optimizer state, losses and predictions are finite. It has no limits."""


class Findings(Section):
    """What the evidence points to, before a training and after a failure. It has no limits."""

    ignore: list[CauseName] = []
    """Causes that are not to be looked for."""


def _all_or_count(value: Any) -> Any:
    if value != "all" and (type(value) is not int or value < 1):
        raise ValueError(f"expected all, or a number of rows from 1, received {short(value)}")
    return value


class DeadNeurons(Section):
    """Units whose activation has derivative zero on every training row."""

    warn_above: Fraction = 0.5
    """Dead share of a layer above which the check warns."""
    fail_above: Fraction = 0.9
    """Dead share above which it fails, if an output that the layer feeds has no skill."""
    rows: Annotated[
        Literal["all"] | int,
        BeforeValidator(_all_or_count, json_schema_input_type=Literal["all"] | PositiveInt),
    ] = "all"
    """How many training rows to look at."""

    @pydantic.model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.warn_above > self.fail_above:
            raise ValueError(
                f"expected warn_above <= fail_above, received {self.warn_above} > {self.fail_above}"
            )
        return self


class PredictionVariance(Section):
    """The prediction varies with the input."""

    min_ratio: Annotated[float, Field(ge=0)] = 1e-4
    """Least variance of the prediction over variance of the target (regression)."""
    min_information: Annotated[float, Field(ge=0)] = 1e-4
    """Least information of the prediction over entropy of the classes (classification)."""
    min_skill: Annotated[float, Field(lt=1)] = -0.1
    """Least skill after the last phase; 0 is the best constant, 1 is perfect."""
    kind: Literal["regression", "classification"] | None = None
    """Kind of the outputs; null means by the loss, or else by the output activation."""


class Learned(Section):
    """The network's skill after the last phase, as a share of that of closed-form models."""

    fail_below: Fraction = 0.5
    """Share of the reference's skill below which the check fails."""
    warn_below: Fraction = 0.8
    """Share below which it warns; a restarted attempt fails below it, too, while another attempt is
    allowed and the run has cost less than 2.5 trainings."""

    @pydantic.model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.fail_below > self.warn_below:
            raise ValueError(
                f"expected fail_below <= warn_below, received {self.fail_below} > {self.warn_below}"
            )
        return self


class Gate(Section):
    """A bound on a logged value."""

    name: str
    """Name of the value in Keras's logs, such as val_loss."""
    min: float | None = None
    """Least value that passes."""
    max: float | None = None
    """Greatest value that passes."""
    phases: Annotated[list[str], Field(min_length=1)] | None = None
    """Phases after which it is taken; null means the last."""

    @pydantic.model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("expected min or max, received neither")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"expected min <= max, received {self.min} > {self.max}")
        return self


def _switch(value: Any) -> Any:
    """`off` and false switch a check off; nothing behind the colon means its defaults."""
    if value is None:
        return {}
    return None if flag(value) is False else value


def _write_switch(value: Any, handler: pydantic.SerializerFunctionWrapHandler) -> Any:
    return "off" if value is None else handler(value)


def _switched(check: type[Section]) -> tuple[object, ...]:
    """What makes `check | None` a check that `off` switches off."""
    read = BeforeValidator(_switch, json_schema_input_type=check | Off | None)
    return read, pydantic.WrapSerializer(_write_switch)


def _as_list(value: Any) -> Any:
    value = _switch(value)
    return [] if value is None or value == {} else [value] if isinstance(value, Mapping) else value


class Checks(Section):
    """The checks after every phase; each is merged into its defaults, `off` switches it off."""

    finite: Annotated[Finite | None, *_switched(Finite)] = Finite()
    """Everything is finite."""
    findings: Annotated[Findings | None, *_switched(Findings)] = Findings()
    """Nothing stands against the training; a certain finding fails before it."""
    dead_neurons: Annotated[DeadNeurons | None, *_switched(DeadNeurons)] = DeadNeurons()
    """Units are alive."""
    prediction_variance: Annotated[PredictionVariance | None, *_switched(PredictionVariance)] = (
        PredictionVariance()
    )
    """The prediction is not constant."""
    learned: Annotated[Learned | None, *_switched(Learned)] = Learned()
    """What there is to learn was learnt."""
    metric: Annotated[
        list[Gate], BeforeValidator(_as_list, json_schema_input_type=list[Gate] | Gate | Off | None)
    ] = []
    """Bounds on logged values: one gate or a list."""
