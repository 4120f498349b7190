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
from orchestrator.record.checks import (
    NO_SKILL,
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
    OutputWorth,
    PredictionVarianceCheck,
    PredictionVarianceLimits,
    PredictionVarianceMeasured,
    ValidationWorth,
    Verdict,
    place,
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
    return min((each.skill for each in columns if each.skill is not None), default=None)


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
            skills=[each.skill for columns in evidence.columns for each in columns],
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


def prediction_variance(
    outputs: Sequence[OutputSkill],
    limits: PredictionVariance,
    *,
    untrained: bool,
    last: bool,
    exact: bool = True,
    batch_outputs: Sequence[OutputSkill] | None = None,
) -> PredictionVarianceCheck:
    """The verdict on a constant prediction.

    Args:
        outputs: what was measured, column by column; never averaged.
        limits: the config's limits.
        untrained: whether this is phase 0, where nothing fails.
        last: whether this is the last phase, where the skill is judged too.
        exact: whether every training row was looked at.
        batch_outputs: the same with BatchNorm's batch statistics; a collapse that is not in them
            is a lag, and a failure only after the last phase, for so the model is saved.

    Returns:
        The worst verdict over the outputs, with the reason of the first that has it.
    """
    findings: list[tuple[Verdict, str]] = []
    for index, output in enumerate(outputs):
        verdict, reason = _judge_output(output, limits, last=last)
        if verdict == "fail" and untrained:
            verdict = "warn"
        if verdict == "fail" and batch_outputs is not None:
            batch_verdict, _ = _judge_output(batch_outputs[index], limits, last=last)
            if batch_verdict != "fail":
                verdict = "fail" if last else "warn"
                reason += "; not so with the batch's statistics: BatchNorm's moving ones lag"
        name = f"{place(index, output.name, output.column)}: " if len(outputs) > 1 else ""
        findings.append((verdict, name + reason))
    order: tuple[Verdict, ...] = ("fail", "warn", "pass", "not_applicable")
    verdict, reason = min(findings, key=lambda finding: order.index(finding[0]))
    alike = sum(each == verdict for each, _ in findings) - 1
    if alike and verdict in ("fail", "warn"):
        reason += f"; {alike:,} more of {len(findings):,} {verdict} too"
    return PredictionVarianceCheck(
        verdict=verdict,
        reason=reason,
        measured=PredictionVarianceMeasured(
            outputs=tuple(
                _output_worth(output, None if batch_outputs is None else batch_outputs[index])
                for index, output in enumerate(outputs)
            ),
            exact=exact,
        ),
        limits=PredictionVarianceLimits(
            min_ratio=limits.min_ratio,
            min_information=limits.min_information,
            min_skill=limits.min_skill,
        ),
    )


def with_validation(
    check: PredictionVarianceCheck, held: Sequence[OutputSkill]
) -> PredictionVarianceCheck:
    """The check with what the predictions are worth on the validation rows, too."""
    worth = tuple(
        ValidationWorth(
            output=each.output,
            skill=each.skill,
            loss=each.loss,
            constant_loss=each.constant_loss,
            lowest_loss=each.lowest_loss,
        )
        for each in held
    )
    return replace(check, measured=replace(check.measured, validation=worth))


def _judge_output(
    output: OutputSkill, limits: PredictionVariance, *, last: bool
) -> tuple[Verdict, str]:
    if not output.trained:
        return "not_applicable", "no loss trains it, so it is not judged"
    if output.varies is False:
        return "not_applicable", "the target is constant, so a constant prediction is right"
    shown, verdict, reason = _judge_spread(output, limits)
    if verdict == "fail":
        return verdict, f"{shown}{reason}"
    if output.unjudged is not None:
        shown += f", skill is not judged: {output.unjudged}"
    elif output.skill is not None:
        shown += f", skill {output.skill:.3g}"
        if last and not output.skill >= limits.min_skill:
            return "fail", f"{shown} (limit {limits.min_skill:g}): worse than the best constant"
        if last and output.skill < NO_SKILL and verdict == "pass":
            how = "hardly" if output.skill > 0 else "no"
            return "warn", f"{shown}: {how} better than the best constant"
    return verdict, f"{shown}{reason}"


def _judge_spread(output: OutputSkill, limits: PredictionVariance) -> tuple[str, Verdict, str]:
    """How the prediction varies: what was measured, the verdict on that, and its reason."""
    if output.varies is None:
        if output.distinct:
            return "the predictions differ between rows", "pass", ""
        return "all predictions are equal", "fail", ""
    if output.kind == "regression":
        value, limit, what = output.variance_ratio, limits.min_ratio, "variance ratio"
    else:
        value, limit, what = output.information, limits.min_information, "information"
    value = math.nan if value is None else value
    shown = f"{what} {value:.3g} (limit {limit:g})"
    # No constant is better than the best one: what has skill varies, on whatever scale.
    skilled = output.skill is not None and output.skill > NO_SKILL
    if value >= limit or (skilled and not output.by_spread):
        same = ": every row gets the same class" if output.constant_class else ""
        return shown, "warn" if same else "pass", same
    if output.usual and output.distinct:
        # Under such a loss a constant can be the right answer: that of mae is the median.
        return shown, "warn", ": nearly constant, as most of the targets are under this loss"
    if output.kind == "regression" and value > 0:
        # Of targets in the thousands, a fresh network's predictions are a vanishing share.
        return shown, "fail", ": beside the targets, the prediction is constant"
    return shown, "fail", ": the prediction is constant"


def _output_worth(output: OutputSkill, batch: OutputSkill | None) -> OutputWorth:
    return OutputWorth(
        output=output.output,
        kind=output.kind,
        name=output.name or None,
        column=output.column,
        variance_ratio=output.variance_ratio,
        information=output.information,
        skill=output.skill,
        skill_with_batch_statistics=None if batch is None else batch.skill,
        loss=output.loss,
        constant_loss=output.constant_loss,
        function=output.function or None,
        lowest_loss=output.lowest_loss,
        unjudged=output.unjudged,
    )


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
