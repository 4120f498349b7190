"""The checks as they are recorded: a class for each, with what it measured and its limits.

To add a check, write its class and name it in `AnyCheck`. Fields that were not measured are None
or empty, and are then left out of the JSON where the class says `omit_defaults`.
"""

from __future__ import annotations

import math
import typing
from collections.abc import Sequence
from typing import Annotated, Literal, Self

from msgspec import Meta
from msgspec.structs import replace

from orchestrator.record.encoding import Record

Verdict = Literal["pass", "warn", "fail", "not_applicable"]
Kind = Literal["regression", "classification"]
_SHOWN_ROWS = 5
"""So many rows of a batch are told."""


class Check(Record, tag_field="check"):
    """One check's verdict after one phase."""

    verdict: Verdict
    """The verdict."""
    reason: str
    """One clause for people: what was measured, where, against which limit."""

    @property
    def check(self) -> str:
        """Its name, which is also that of its section in the config."""
        return str(self.__struct_config__.tag)

    def without_units(self) -> Self:
        """As `run.json` has it: without the lists with an entry for each unit."""
        return self

    def reading(self) -> str:
        """What was measured, in one clause for tables; the reason, where that says it best."""
        return self.reason

    def bounds(self) -> str:
        """What is allowed, in one clause for tables; empty where there are no limits."""
        return ""


class NoLimits(Record):
    """A check without limits."""


class Break(Record, kw_only=True):
    """The steps in which a network broke."""

    epoch: Annotated[int, Meta(ge=1)]
    """Number of their epoch, counted from 1 over all phases."""
    first: Annotated[int, Meta(ge=1)]
    """The first of them in that epoch, counted from 1."""
    last: Annotated[int, Meta(ge=1)]
    """The last; the first where it is known which one it was."""
    rows: tuple[int, ...] = ()
    """The training rows of their batches, counted from 0, in order; empty where that is not known,
    as when the user's own code gives the batches."""

    @property
    def told(self) -> str:
        """When it was, and with which rows, in one clause."""
        steps = f"step {self.first}"
        if self.first < self.last:
            steps = f"one of the steps {self.first} to {self.last}"
        since = f"since {steps} of epoch {self.epoch}"
        if not self.rows:
            return since
        shown = ", ".join(map(str, self.rows[:_SHOWN_ROWS]))
        more = len(self.rows) - _SHOWN_ROWS
        rows = f"row{'s' * (len(self.rows) > 1)} {shown}{f' and {more} more' * (more > 0)}"
        return f"{since}, on training {rows}"


class FiniteMeasured(Record, kw_only=True):
    """What `finite` looked for."""

    non_finite: tuple[str, ...] = ()
    """A clause for each place with values that are not finite."""
    broken: Break | None = None
    """When it came to that, as far as it is known."""


class FiniteCheck(Check, tag="finite", kw_only=True):
    """Whether weights, optimizer state, losses and predictions are finite."""

    measured: FiniteMeasured = FiniteMeasured()
    """What was measured."""
    limits: NoLimits = NoLimits()
    """There are none."""

    def reading(self) -> str:
        """What was measured."""
        return "all finite" if self.verdict == "pass" else self.reason


class FindingsMeasured(Record, kw_only=True):
    """What was found before the training; the attempt has the findings themselves."""

    causes: tuple[str, ...] = ()
    """Their causes, certain ones first."""


class FindingsCheck(Check, tag="findings", kw_only=True):
    """Whether a training can succeed at all; taken before it."""

    measured: FindingsMeasured = FindingsMeasured()
    """What was measured."""
    limits: NoLimits = NoLimits()
    """There are none."""

    def reading(self) -> str:
        """What was found."""
        return ", ".join(self.measured.causes) or "nothing found"


class LayerUnits(Record, kw_only=True, omit_defaults=True):
    """The units of one place where an activation is applied."""

    layer: str
    """Readable path of the layer in the model."""
    activation: str | None = None
    """Keras's name of the activation."""
    units: int
    """Number of units."""
    rows: int | None = None
    """Rows × positions that were looked at."""
    dead: int
    """Units whose derivative was zero on all of them."""
    near_dead: int | None = None
    """Units that were active on some rows, but on fewer than 0.1% of them."""
    constant: int | None = None
    """Units that were active and had the same value on every row."""
    saturated: int | None = None
    """Units with |derivative| ≤ 1e-6 on every row; for smooth activations only."""
    dead_with_batch_statistics: int | None = None
    """Dead units with BatchNorm's batch statistics, where these were compared."""
    partial: bool = False
    """A loop hides some of the applications, so that nothing is known to be dead."""
    blocked: int | None = None
    """Units that were active, but got no gradient from an output on any row where they were; where
    gradients were measured."""
    blocked_units: tuple[int, ...] | None = None
    """Their indices."""
    dead_units: tuple[int, ...] | None = None
    """Indices of the dead or saturated units; in `checks/*.json` only."""
    silent_after: tuple[int, ...] | None = None
    """The epoch in which each of `dead_units` got its last gradient, counted from 1 over all
    phases; 0 for one that is born dead, or to which nothing has ever come back. In `checks/*.json`
    only."""
    active_rows: tuple[int, ...] | None = None
    """Rows × positions on which each unit was active; in `checks/*.json` only."""

    def counted_dead(self) -> int:
        """Dead units as the verdict counts them: BatchNorm's moving statistics alone kill none."""
        batch = self.dead_with_batch_statistics
        return self.dead if batch is None else min(self.dead, batch)

    def without_units(self) -> LayerUnits:
        """As `run.json` has it."""
        return replace(self, dead_units=None, silent_after=None, active_rows=None)


class DeadNeuronsMeasured(Record, kw_only=True, omit_defaults=True):
    """What `dead_neurons` counted; nothing where it could not be taken."""

    worst_layer: str | None = None
    """The layer with the greatest dead share."""
    dead_fraction: float | None = None
    """Its dead share, 0 to 1."""
    exact: bool | None = None
    """Whether every training row was looked at; else the counts are bounds."""
    layers: tuple[LayerUnits, ...] = ()
    """One for each place where an activation is applied, in forward order."""
    responding_rows: int | None = None
    """Rows on which an output responds to the inputs; where gradients were measured."""
    rows: int | None = None
    """Rows that were looked at; where gradients were measured."""
    notes: tuple[str, ...] = ()
    """What could not be seen."""


class DeadNeuronsLimits(Record, kw_only=True, omit_defaults=True):
    """Shares of a layer's units, 0 to 1."""

    warn_above: float | None = None
    """Dead share above which it warns."""
    fail_above: float | None = None
    """Dead share above which it fails, where an output that the layer feeds has no skill."""


_FEW_LIVE = 0.45
"""Where a row gets through with a probability below this, most networks are dead or have lost rows:
of 1,152 with seven layers of three units, five of two or three of two, 0.07 to 0.38 learn, and with
leaky relu at ten times the rate 0.75 to 0.95. One unit of relu, as an output may be, has 0.5."""


class DeadNeuronsCheck(Check, tag="dead_neurons", kw_only=True):
    """Whether units can still learn."""

    measured: DeadNeuronsMeasured = DeadNeuronsMeasured()
    """What was measured."""
    limits: DeadNeuronsLimits = DeadNeuronsLimits()
    """The limits that the verdict was taken against."""

    def is_deep_and_narrow(self) -> bool:
        """Whether most networks with layers of relu as wide are dead as they are drawn.

        All units of a layer of n are negative for a row with probability 2**-n (Lu, Shin, Su and
        Karniadakis, Dying ReLU and initialization, 2020); of nine layers of two 0.92 are dead by
        this, and 0.91 are. A layer that looks at several positions of a row seldom loses all.
        """
        places = min((each.rows or 0 for each in self.measured.layers), default=0)
        widths = [
            each.units
            for each in self.measured.layers
            if each.activation == "relu" and each.rows in (None, places)
        ]
        return math.prod(1 - 0.5**units for units in widths) < _FEW_LIVE

    def without_units(self) -> DeadNeuronsCheck:
        """As `run.json` has it: without the lists with an entry for each unit."""
        layers = tuple(layer.without_units() for layer in self.measured.layers)
        return replace(self, measured=replace(self.measured, layers=layers))

    def reading(self) -> str:
        """The dead share of the worst layer; for a warning its reason, which may name another."""
        measured = self.measured
        if measured.dead_fraction is None or self.verdict == "warn":
            return self.reason
        sign = "at most " if measured.exact is False else ""
        share = measured.dead_fraction
        if 0 < share < 1:  # not rounded to none or to all
            share = min(max(share, 0.01), 0.99)
        return f"{sign}{share:.0%} of {measured.worst_layer} dead"

    def bounds(self) -> str:
        """Above which dead shares it warns and fails."""
        bounds = (("warn", self.limits.warn_above), ("fail", self.limits.fail_above))
        return ", ".join(f"{word} > {bound:.0%}" for word, bound in bounds if bound is not None)


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
        limits = self.limits
        return any(
            _is_below(output.variance_ratio, limits.min_ratio)
            or _is_below(output.information, limits.min_information)
            for output in self.measured.outputs
        )

    def is_worse_than_constant(self) -> bool:
        """Whether predictions vary, and an output's are worse than the best constant."""
        return not self.is_constant() and any(
            _is_below(output.skill, self.limits.min_skill) for output in self.measured.outputs
        )

    def lags(self) -> bool:
        """Whether a skill is below its limit by BatchNorm's moving statistics alone."""
        return any(
            _is_below(output.skill, self.limits.min_skill)
            and output.skill_with_batch_statistics is not None
            and not _is_below(output.skill_with_batch_statistics, self.limits.min_skill)
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


FEW = 8
"""Columns that are told of one by one; more are told of together."""


def _numbers(outputs: Sequence[OutputWorth]) -> str:
    """What was measured of some columns, from the least to the greatest value."""
    told = []
    for name in ("variance_ratio", "information", "skill"):
        values = [value for each in outputs if (value := getattr(each, name)) is not None]
        if values:
            low, high = f"{min(values):.4g}", f"{max(values):.4g}"
            told.append(f"{name.replace('_', ' ')} {low if low == high else f'{low} to {high}'}")
    return ", ".join(told)


NO_SKILL = 0.01
"""Skill below which nothing was learnt (design, section 4)."""


class OutputShare(Record, kw_only=True, omit_defaults=True):
    """What one output has learnt of what there is to learn, on the training rows."""

    output: int
    """Number of the output, counted from 0."""
    name: str | None = None
    """Keras's name of it, where the model has several."""
    share: float | None = None
    """`skill` over `reference`; None where the check is not applicable to this output."""
    share_at_most: float | None = None
    """The most that the share may be at 99%, by the scatter of the rows that it was measured on."""
    skill: float | None = None
    """The network's skill: 1 - squared error / variance, for classes of the probabilities."""
    reference: float | None = None
    """The same of ridge regression over the inputs and random relu features, on held-back rows."""
    linear: float | None = None
    """The same of ridge regression over the inputs alone."""
    by_absolute_error: bool = False
    """Whether both skills are those of the absolute error, which trains it, beside the median."""
    share_with_batch_statistics: float | None = None
    """The share with BatchNorm's batch statistics, where these were compared."""
    unjudged: str | None = None
    """Why it is not applicable, as a clause; None where it is."""


class LearnedMeasured(Record, kw_only=True, omit_defaults=True):
    """What `learned` measured."""

    outputs: tuple[OutputShare, ...] = ()
    """One for each output of the model."""
    epochs: int | None = None
    """Epochs that were trained."""
    loss: float | None = None
    """Keras's loss of the last of them."""
    slope: float | None = None
    """Change of the loss an epoch, over the last quarter of the epochs; None where it has been
    lower before."""

    lenient: str | None = None
    """Why an output that has learnt little is no failure, as a clause; None where it is."""


class LearnedLimits(Record, kw_only=True, omit_defaults=True):
    """Shares of the reference's skill."""

    fail_below: float | None = None
    """Share below which it fails."""
    warn_below: float | None = None
    """Share below which it warns."""


class LearnedCheck(Check, tag="learned", kw_only=True):
    """Whether the network has learnt what there is to learn; after the last phase."""

    measured: LearnedMeasured = LearnedMeasured()
    """What was measured."""
    limits: LearnedLimits = LearnedLimits()
    """The limits that the verdict was taken against."""

    def share(self) -> float | None:
        """Lowest share over the outputs; None where it is applicable to none."""
        shares = [each.share for each in self.measured.outputs if each.share is not None]
        return min(shares, default=None)

    def falls_short(self) -> bool:
        """Whether less was learnt than a share that passes, and it is a warning all the same."""
        share, limits = self.share(), self.limits
        return (
            self.verdict == "warn"
            and self.measured.lenient is None
            and share is not None
            and _is_below(share, limits.warn_below)
        )

    def surely_falls_short(self) -> bool:
        """Whether it falls short by more than the scatter of the rows may make of enough.

        Of a class of few rows a share tells little: of fourteen rows in a thousand one of 0.42 may
        be more than 0.8, and trainings with the greater one were no better on other rows.
        """
        return self.falls_short() and self._is_surely_below(self.limits.warn_below)

    def is_surely_behind(self) -> bool:
        """Whether it is behind by more than that."""
        return self.is_behind() and self._is_surely_below(self.limits.fail_below)

    def _is_surely_below(self, limit: float | None) -> bool:
        return any(
            each.share is not None
            and _is_below(each.share if each.share_at_most is None else each.share_at_most, limit)
            for each in self.measured.outputs
        )

    def is_behind(self) -> bool:
        """Whether less was learnt than a share that does not fail, whatever the verdict."""
        share = self.share()
        return share is not None and _is_below(share, self.limits.fail_below)

    def was_falling(self) -> bool:
        """Whether the loss still fell by a tenth in the last quarter of the epochs."""
        epochs, loss, slope = self.measured.epochs, self.measured.loss, self.measured.slope
        if epochs is None or loss is None or slope is None:
            return False
        fallen = -slope * -(-epochs // 4)
        return fallen > 0.1 * abs(loss + fallen)

    def reading(self) -> str:
        """The share of every output."""
        told = []
        for each in self.measured.outputs:
            if each.share is not None:
                named = f"output {each.name}: " if each.name else ""
                told.append(
                    f"{named}share {each.share:.3g}: skill {each.skill:.3g} of {each.reference:.3g}"
                )
        return "; ".join(told) or self.reason

    def bounds(self) -> str:
        """Below which shares it warns and fails."""
        bounds = (("warn", self.limits.warn_below), ("fail", self.limits.fail_below))
        return ", ".join(f"{word} < {bound:g}" for word, bound in bounds if bound is not None)


class GateValue(Record, kw_only=True):
    """The value of a metric with a gate."""

    name: str
    """Keras's name of the metric."""
    value: float | None = None
    """Its value at the phase's last epoch; None where it was not logged."""


class GateBounds(Record, kw_only=True):
    """What a metric has to keep to."""

    name: str
    """Keras's name of the metric."""
    min: float | None = None
    """Smallest value that passes."""
    max: float | None = None
    """Greatest value that passes."""


class MetricMeasured(Record, kw_only=True, omit_defaults=True):
    """The values of the metrics."""

    gates: tuple[GateValue, ...] = ()
    """One for each gate that was due."""


class MetricLimits(Record, kw_only=True, omit_defaults=True):
    """The bounds of the metrics."""

    gates: tuple[GateBounds, ...] = ()
    """One for each gate that was due."""


class MetricCheck(Check, tag="metric", kw_only=True):
    """Whether logged values keep to the config's gates."""

    measured: MetricMeasured = MetricMeasured()
    """What was measured."""
    limits: MetricLimits = MetricLimits()
    """The limits that the verdict was taken against."""

    def reading(self) -> str:
        """The value of every metric with a gate."""
        values = (
            f"{gate.name} {'not logged' if gate.value is None else f'{gate.value:.4g}'}"
            for gate in self.measured.gates
        )
        return ", ".join(values) or self.reason

    def bounds(self) -> str:
        """What each metric has to keep to."""
        return ", ".join(
            f"{sign} {bound:g}"
            for gate in self.limits.gates
            for sign, bound in ((">=", gate.min), ("<=", gate.max))
            if bound is not None
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


def _is_below(value: float | None, limit: float | None) -> bool:
    """Whether a value was measured and does not reach its limit; NaN reaches none."""
    return value is not None and limit is not None and not value >= limit
