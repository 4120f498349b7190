"""Whether the prediction is worth more than a constant."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.record.checks.check import Check, Kind, is_below
from orchestrator.record.encoding import Record

FEW = 8
"""Columns that are told of one by one; more are told of together."""


_VISIBLE = 0.1
"""Share of what a constant loses on a column on average, below which a loss does not count.

It is that of a skill of -0.1 on columns that vary alike. Of 24 autoencoders of strokes and of a
table with two columns that hardly vary, at skills of 0.3 to 1.0, all columns that were worse than a
constant, by up to 1,660 times its loss, lost less than 0.07 more than it, but for one after ten
epochs (0.24); those that had become constant less than 0.07. Before that, at skills below 0.1, they
lost up to 5.
"""


def is_visible(loss: float | None, average: float | None) -> bool:
    """Whether what a column loses counts in the loss of its output.

    Args:
        loss: what it loses; None where that is not known.
        average: what a constant loses on a column of the output on average; None where the column
            stands for itself.
    """
    return loss is None or average is None or not loss < _VISIBLE * average


def place(output: int | None, name: str | None, column: int | None) -> str:
    """Which output is meant, and which of its columns, as part of a sentence.

    Args:
        output: index counted over the columns of all outputs.
        name: Keras's name of the output, where the model has several.
        column: number of the column in the output, where it has several; None in older records.
    """
    if column is None:
        return f"output {name or output}"
    return f"output {name}, column {column}" if name else f"column {column}"


class OutputWorth(Record, kw_only=True, omit_defaults=True):
    """What one output's predictions are worth on the training rows."""

    output: int | None = None
    """Index of the output column, counted over all outputs."""
    kind: Kind | None = None
    """Regression or classification."""
    name: str | None = None
    """Keras's name of the model's output, where it has several."""
    column: int | None = None
    """Number of the column in the output, where that has several."""
    variance_ratio: float | None = None
    """var(prediction) / var(target); regression only."""
    information: float | None = None
    """Mutual information of prediction and row over the entropy of the classes; classification
    only."""
    skill: float | None = None
    """1 - loss / loss of the best constant, both counted from `lowest_loss` where there is one."""
    skill_with_batch_statistics: float | None = None
    """The same with BatchNorm's batch statistics, where these were compared."""
    function: str | None = None
    """Name of the loss: Keras's, or that of the user's function."""
    loss: float | None = None
    """The loss, as Keras logs it: of the column, where each has its own, or else of the output."""
    constant_loss: float | None = None
    """The same loss of the best constant."""
    lowest_loss: float | None = None
    """The same loss of the targets themselves, where that is not 0."""
    unjudged: str | None = None
    """Why the skill is not judged, as a clause; None where it is."""
    whole_skill: float | None = None
    """Skill of all columns of its output together, where these are of one kind: more than eight, or
    those of an output that is to be its own input."""
    average_constant_loss: float | None = None
    """`constant_loss` of the columns of its output on average, where these are of one kind."""
    blind: bool = False
    """Whether its output is to be its own input, and after the last phase says nothing of it."""

    def output_skill(self) -> float | None:
        """What its output is worth: as a whole, or where a column stands for itself its skill."""
        return self.skill if self.whole_skill is None else self.whole_skill

    def is_constant(self, limits: PredictionVarianceLimits) -> bool:
        """Whether it varies too little, and loses by that."""
        return (
            is_below(self.variance_ratio, limits.min_ratio)
            or is_below(self.information, limits.min_information)
        ) and is_visible(self.constant_loss, self.average_constant_loss)

    def is_worse(self, limits: PredictionVarianceLimits) -> bool:
        """Whether it is clearly worse than the best constant, and loses by that."""
        if not is_below(self.skill, limits.min_skill):
            return False
        known = self.loss is not None and self.constant_loss is not None
        excess = self.loss - self.constant_loss if known else None  # type: ignore[operator]
        return is_visible(excess, self.average_constant_loss)


class ValidationWorth(Record, kw_only=True):
    """What one output's predictions are worth on the validation rows."""

    output: int
    """Index of the output column, counted over all outputs."""
    skill: float | None = None
    """1 - loss / loss of the best constant, both counted from `lowest_loss` where there is one."""
    loss: float | None = None
    """The loss, as Keras logs it."""
    constant_loss: float | None = None
    """The same loss of the best constant."""
    lowest_loss: float | None = None
    """The same loss of the targets themselves, where that is not 0."""


class PredictionVarianceMeasured(Record, kw_only=True, omit_defaults=True):
    """What `prediction_variance` measured; nothing where it could not be taken."""

    outputs: tuple[OutputWorth, ...] = ()
    """One for each output column of a regression, one for each classification."""
    exact: bool = True
    """Whether every training row was looked at."""
    validation: tuple[ValidationWorth, ...] = ()
    """The same outputs on the validation rows; after the last phase, where there are any."""


class PredictionVarianceLimits(Record, kw_only=True, omit_defaults=True):
    """What each output has to reach."""

    min_ratio: float | None = None
    """Smallest variance ratio."""
    min_information: float | None = None
    """Smallest information."""
    min_skill: float | None = None
    """Smallest skill after the last phase."""


class PredictionVarianceCheck(Check, tag="prediction_variance", kw_only=True):
    """Whether the prediction varies, and is worth more than a constant."""

    measured: PredictionVarianceMeasured = PredictionVarianceMeasured()
    """What was measured."""
    limits: PredictionVarianceLimits = PredictionVarianceLimits()
    """The limits that the verdict was taken against."""

    def is_constant(self) -> bool:
        """Whether an output's prediction was found to be constant."""
        return any(output.is_constant(self.limits) for output in self.measured.outputs)

    def is_blind(self) -> bool:
        """Whether an output that is to be its own input says nothing of it."""
        return any(output.blind for output in self.measured.outputs)

    def is_worse_than_constant(self) -> bool:
        """Whether predictions vary, and an output's are worse than the best constant."""
        return not self.is_constant() and any(
            output.is_worse(self.limits) for output in self.measured.outputs
        )

    def lags(self) -> bool:
        """Whether a skill is below its limit by BatchNorm's moving statistics alone."""
        return any(
            output.is_worse(self.limits)
            and output.skill_with_batch_statistics is not None
            and not is_below(output.skill_with_batch_statistics, self.limits.min_skill)
            for output in self.measured.outputs
        )

    def reading(self) -> str:
        """The numbers of every output; of many, their ranges."""
        outputs = self.measured.outputs
        if not outputs:
            return self.reason
        if len(outputs) > FEW:
            return f"{len(outputs):,} columns: {_numbers(outputs)}"
        told = []
        for each in outputs:
            name = f"{place(each.output, each.name, each.column)}: " if len(outputs) > 1 else ""
            told.append(name + _numbers([each]))
        return "; ".join(told)

    def bounds(self) -> str:
        """The least of each number that its outputs were held to."""
        kinds = {output.kind for output in self.measured.outputs}
        if not kinds:
            return ""
        bounds = {"skill": self.limits.min_skill}
        if kinds - {"classification"}:
            bounds = {"ratio": self.limits.min_ratio, **bounds}
        if "classification" in kinds:
            bounds = {"information": self.limits.min_information, **bounds}
        return ", ".join(
            f"{name} >= {least:g}" for name, least in bounds.items() if least is not None
        )


def _numbers(outputs: Sequence[OutputWorth]) -> str:
    """What was measured of some columns, from the least to the greatest value."""
    told = []
    for name in ("variance_ratio", "information", "skill"):
        values = [value for each in outputs if (value := getattr(each, name)) is not None]
        if values:
            low, high = f"{min(values):.4g}", f"{max(values):.4g}"
            told.append(f"{name.replace('_', ' ')} {low if low == high else f'{low} to {high}'}")
    return ", ".join(told)
