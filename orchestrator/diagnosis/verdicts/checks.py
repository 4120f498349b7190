"""The checks: from what was measured to verdicts. Pure: no model, no file.

A check is a function with its line in `judge`, a class with what it measures in `record.checks`,
and a section with its limits in `config.sections.checks`. The limits are those of the
project's design, section 4.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TypeVar

from msgspec.structs import replace

from orchestrator.config.sections.checks import (
    Checks,
    DeadNeurons,
    Gate,
    Learned,
    PredictionVariance,
)
from orchestrator.diagnosis.skill.columns import OutputSkill, numbered
from orchestrator.diagnosis.skill.learned import Learnt
from orchestrator.diagnosis.units import NO_FLOW, Flow, Layer
from orchestrator.diagnosis.verdicts.dead_neurons import dead_neurons
from orchestrator.diagnosis.verdicts.learned import Course, learned
from orchestrator.diagnosis.verdicts.prediction_variance import prediction_variance
from orchestrator.record.checks import (
    AnyCheck,
    Break,
    DeadNeuronsCheck,
    FindingsCheck,
    FindingsMeasured,
    FiniteCheck,
    FiniteMeasured,
    GateBounds,
    GateValue,
    LearnedCheck,
    MetricCheck,
    MetricLimits,
    MetricMeasured,
    PredictionVarianceCheck,
    Verdict,
)
from orchestrator.record.records import Finding

C = TypeVar("C", bound=AnyCheck)

_HIDDEN = "there are non-finite values"
"""Why nothing else is judged where values are not finite: they hide what is dead."""
_NOTHING = "nothing stands against the training"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """What is known of a model after a phase: all that checks are taken from."""

    non_finite: Sequence[str] = ()
    """A clause for each place with values that are not finite."""
    unseen: str | None = None
    """Why no row was run through the model; None where they were."""
    untrained: bool = False
    """Whether this is phase 0, where only a cut fails."""
    last: bool = True
    """Whether this is after the last phase, where the skill is judged too."""
    exact: bool = True
    """Whether every training row was looked at."""
    layers: Sequence[Layer] = ()
    """What was counted at each activation site, in forward order."""
    flow: Flow = NO_FLOW
    """Which of them feed which, and which make the outputs."""
    columns: Sequence[Sequence[OutputSkill]] = ()
    """What each output is worth, column by column."""
    batch_layers: Sequence[Layer] | None = None
    """The same sites counted with BatchNorm's batch statistics, where that was needed."""
    batch_columns: Sequence[Sequence[OutputSkill]] | None = None
    """The outputs' worth with BatchNorm's batch statistics, where that was needed."""
    responding: tuple[int, int] | None = None
    """On how many rows an output responds to the inputs, of how many; None where not measured."""
    notes: Sequence[str] = ()
    """A sentence for each layer with activations that could not be seen."""
    learnt: Sequence[Learnt] | None = None
    """What each output has learnt; None where it is not the time to ask."""
    batch_learnt: Sequence[Learnt] | None = None
    """The same with BatchNorm's batch statistics, where that was needed."""
    course: Course = Course()
    """How the training went until now."""
    lenient: str | None = None
    """Why an output that has learnt little is no failure, as a clause; None where it is."""
    gates: Sequence[Gate] = ()
    """The metric gates that are due."""
    logged: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Keras's logged values at the phase's last epoch."""


def judge(evidence: Evidence, limits: Checks) -> tuple[AnyCheck, ...]:
    """Take all checks that are on, in the order in which they are recorded.

    Args:
        evidence: what is known.
        limits: the checks with their limits.
    """
    found: list[AnyCheck] = []
    if limits.finite is not None:
        found.append(finite(evidence.non_finite))
    if limits.dead_neurons is not None:
        found.append(_judge_units(evidence, limits.dead_neurons))
    if limits.prediction_variance is not None:
        found.append(_judge_outputs(evidence, limits.prediction_variance))
    if limits.learned is not None and evidence.last:
        found += _judge_learnt(evidence, limits.learned)
    if evidence.gates:
        found.append(metric(evidence.gates, evidence.logged))
    return tuple(found)


def _judge_units(evidence: Evidence, limits: DeadNeurons) -> DeadNeuronsCheck:
    if evidence.non_finite or evidence.unseen:
        return not_applicable(DeadNeuronsCheck, evidence.unseen or _HIDDEN)
    return dead_neurons(
        evidence.layers,
        evidence.flow,
        limits,
        skills=[_lowest_skill(columns) for columns in evidence.columns],
        untrained=evidence.untrained,
        distinct=[[each.distinct for each in columns] for columns in evidence.columns],
        exact=evidence.exact,
        batch_layers=evidence.batch_layers,
        responding=evidence.responding,
        notes=evidence.notes,
    )


def _lowest_skill(columns: Sequence[OutputSkill]) -> float | None:
    return min((each.of_output for each in columns if each.of_output is not None), default=None)


def _judge_outputs(evidence: Evidence, limits: PredictionVariance) -> PredictionVarianceCheck:
    if evidence.non_finite or evidence.unseen:
        return not_applicable(PredictionVarianceCheck, evidence.unseen or _HIDDEN)
    batch = evidence.batch_columns
    return prediction_variance(
        numbered(evidence.columns),
        limits,
        untrained=evidence.untrained,
        last=evidence.last,
        exact=evidence.exact,
        batch_outputs=None if batch is None else numbered(batch),
    )


def _judge_learnt(evidence: Evidence, limits: Learned) -> list[LearnedCheck]:
    if evidence.non_finite or evidence.unseen:
        return [not_applicable(LearnedCheck, evidence.unseen or _HIDDEN)]
    if evidence.learnt is None:
        return []
    return [
        learned(
            evidence.learnt,
            limits,
            skills=[each.of_output for columns in evidence.columns for each in columns],
            course=evidence.course,
            lenient=evidence.lenient,
            batch=evidence.batch_learnt,
        )
    ]


def finite(found: Sequence[str]) -> FiniteCheck:
    """The verdict on non-finite values.

    Args:
        found: a clause for each place where one was seen, in the order of looking.

    Returns:
        `fail` when there is any.
    """
    measured = FiniteMeasured(non_finite=tuple(found))
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        return FiniteCheck(verdict="fail", reason=found[0] + more, measured=measured)
    reason = "all weights, losses and predictions are finite"
    return FiniteCheck(verdict="pass", reason=reason, measured=measured)


def with_break(check: FiniteCheck, broken: Break) -> FiniteCheck:
    """A verdict on non-finite values with the steps that they come from."""
    measured = replace(check.measured, broken=broken)
    return replace(check, reason=f"{check.reason}, {broken.told}", measured=measured)


def findings(found: Sequence[Finding], nothing: str = _NOTHING) -> FindingsCheck:
    """The verdict on what was found before a training.

    Args:
        found: the findings, certain ones first.
        nothing: what to say where there are none, as a clause.

    Returns:
        `fail` where one is certain, `warn` where there is advice.
    """
    measured = FindingsMeasured(causes=tuple(each.cause for each in found))
    if not found:
        return FindingsCheck(verdict="pass", reason=nothing, measured=measured)
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    verdict: Verdict = "fail" if found[0].certain else "warn"
    return FindingsCheck(verdict=verdict, reason=found[0].told + more, measured=measured)


def with_findings(
    checks: Sequence[AnyCheck], found: Sequence[Finding], nothing: str = _NOTHING
) -> tuple[AnyCheck, ...]:
    """The checks of a phase with the verdict on findings, see `findings`, behind `finite`."""
    place = 1 if checks and isinstance(checks[0], FiniteCheck) else 0
    return (*checks[:place], findings(found, nothing), *checks[place:])


def not_applicable(kind: type[C], reason: str) -> C:
    """A check that could not be taken, with the reason."""
    return kind(verdict="not_applicable", reason=reason)


def metric(gates: Sequence[Gate], logged: Mapping[str, float]) -> MetricCheck:
    """The verdict on the metric gates of one phase.

    Args:
        gates: the gates due after this phase, at least one.
        logged: Keras's logged values at the phase's last epoch.

    Returns:
        `fail` when a value is missing, not finite or out of its bounds.
    """
    passing: list[str] = []
    failing: list[str] = []
    for gate in gates:
        value = logged.get(gate.name, math.nan)
        low = gate.min is None or value >= gate.min
        high = gate.max is None or value <= gate.max
        bounds = [f"min {gate.min:g}"] if gate.min is not None else []
        bounds += [f"max {gate.max:g}"] if gate.max is not None else []
        shown = f"is {value:.4g}" if gate.name in logged else "was not logged"
        text = f"{gate.name} {shown} ({', '.join(bounds)})"
        (passing if low and high and math.isfinite(value) else failing).append(text)
    return MetricCheck(
        verdict="fail" if failing else "pass",
        reason="; ".join(failing or passing),
        measured=MetricMeasured(
            gates=tuple(GateValue(name=gate.name, value=logged.get(gate.name)) for gate in gates)
        ),
        limits=MetricLimits(
            gates=tuple(GateBounds(name=gate.name, min=gate.min, max=gate.max) for gate in gates)
        ),
    )
