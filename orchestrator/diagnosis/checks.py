"""Measurements to verdicts. Pure: no model, no file.

The limits are those of the project's design, section 4.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeVar

from msgspec.structs import replace

from orchestrator.config.sections.checks import DeadNeurons, Gate, PredictionVariance
from orchestrator.diagnosis.skill.columns import OutputSkill
from orchestrator.diagnosis.units import Flow, Layer
from orchestrator.record.checks import (
    AnyCheck,
    DeadNeuronsCheck,
    DeadNeuronsLimits,
    DeadNeuronsMeasured,
    FiniteCheck,
    FiniteMeasured,
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
    ValidationWorth,
    Verdict,
)

C = TypeVar("C", bound=AnyCheck)

NO_SKILL = 0.01
"""Skill at or below which a prediction counts as no better than the best constant."""


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


def not_applicable(kind: type[C], reason: str) -> C:
    """A check that could not be taken, with the reason."""
    return kind(verdict="not_applicable", reason=reason)


def cut(layers: Sequence[Layer], flow: Flow) -> tuple[list[int], list[int]]:
    """The entirely dead layers, and the outputs that they cut off from the inputs."""
    dead = [
        index for index, layer in enumerate(layers) if layer.units and layer.dead == layer.units
    ]
    return dead, flow.cut_outputs(dead)


def needs_batch_statistics(layers: Sequence[Layer], limits: DeadNeurons) -> bool:
    """Whether a layer is dead enough for the verdict to hang on BatchNorm's moving statistics."""
    return any(_severity(layer, limits) > 0 for layer in layers)


def dead_neurons(
    layers: Sequence[Layer],
    flow: Flow,
    limits: DeadNeurons,
    *,
    skills: Sequence[float | None],
    untrained: bool,
    exact: bool = True,
    batch_layers: Sequence[Layer] | None = None,
    responding: tuple[int, int] | None = None,
    notes: Sequence[str] = (),
) -> DeadNeuronsCheck:
    """The verdict on dead units.

    Args:
        layers: what was counted, in forward order.
        flow: how the layers hang together.
        limits: the config's limits.
        skills: lowest skill of each output of `flow`; None where there is none.
        untrained: whether this is phase 0, where only a cut fails.
        exact: whether every training row was counted.
        batch_layers: the same layers counted with BatchNorm's batch statistics; a layer that is
            alive in them lags, and is not dead.
        responding: on how many rows an output responds to the inputs, of how many; None where that
            was not measured.
        notes: what could not be seen.

    Returns:
        `fail` when entirely dead layers cut every path to an output, or when a layer is dead above
        `fail_above` and an output that it feeds has no skill.
    """
    if not layers:
        none = "no layer applies an activation with dead units"
        return not_applicable(DeadNeuronsCheck, "; ".join([none, *notes]))
    judged = [livelier(*pair) for pair in zip(layers, batch_layers or layers, strict=True)]
    worst = max(judged, key=lambda layer: layer.dead_fraction)
    measured = DeadNeuronsMeasured(
        worst_layer=worst.name,
        dead_fraction=worst.dead_fraction,
        exact=exact,
        layers=tuple(
            _layer_units(layer, None if batch_layers is None else batch_layers[index])
            for index, layer in enumerate(layers)
        ),
        responding_rows=None if responding is None else responding[0],
        rows=None if responding is None else responding[1],
        notes=tuple(notes),
    )
    verdict: Verdict = "fail"
    reason = cut_reason(judged, flow)
    if reason is None and not untrained:
        reason = _without_skill(judged, flow, limits, skills)
    if reason is None:
        verdict, reason = _judge_survivors(layers, judged, limits)
    return DeadNeuronsCheck(
        verdict=verdict,
        reason=reason,
        measured=measured,
        limits=DeadNeuronsLimits(warn_above=limits.warn_above, fail_above=limits.fail_above),
    )


def is_certainly_alive(layers: Sequence[Layer], limits: DeadNeurons) -> bool:
    """Whether no further row can make the verdict anything but `pass`: units do not die of rows."""
    return not any(_severity(layer, limits) or layer.saturated for layer in layers)


def livelier(moving: Layer, batch: Layer) -> Layer:
    """The layer as it counts: a unit that only BatchNorm's moving statistics kill is not dead."""
    return batch if batch.dead < moving.dead else moving


def cut_reason(judged: Sequence[Layer], flow: Flow) -> str | None:
    """Why an output is cut off, naming a layer that is enough to cut it where there is one.

    Args:
        judged: the layers, each as it counts.
        flow: how they hang together.

    Returns:
        One clause, or None where every output can be reached.
    """
    dead, outputs = cut(judged, flow)
    if not outputs:
        return None
    alone = [index for index in dead if outputs[0] in flow.cut_outputs([index])]
    layer = judged[(alone or dead)[0]]
    more = len(dead) - 1
    others = f", and so {'are' if more > 1 else 'is'} {more} more" if more else ""
    return (
        f"layer {layer.name} is entirely dead ({layer.dead} of {layer.units} units) on "
        f"{layer.rows} rows{others}; nothing gets through to {_outputs(outputs, flow)}"
    )


def _without_skill(
    judged: Sequence[Layer], flow: Flow, limits: DeadNeurons, skills: Sequence[float | None]
) -> str | None:
    """Why a layer is too dead for an output that has learnt nothing."""
    for index, layer in enumerate(judged):
        if layer.dead_fraction <= limits.fail_above:
            continue
        for output in flow.feeds(index):
            skill = skills[output]
            if skill is not None and not skill > NO_SKILL:
                return (
                    f"layer {layer.name} has {layer.dead} of {layer.units} units dead on "
                    f"{layer.rows} rows (limit {limits.fail_above:.0%}) and "
                    f"{_outputs([output], flow)} has no skill ({skill:.3g})"
                )
    return None


def _judge_survivors(
    layers: Sequence[Layer], judged: Sequence[Layer], limits: DeadNeurons
) -> tuple[Verdict, str]:
    """`warn` or `pass`, and why, where nothing fails."""
    for moving, batch in zip(layers, judged, strict=True):
        if _severity(batch, limits) < _severity(moving, limits):
            return "warn", (
                f"layer {moving.name} has {moving.dead} of {moving.units} units dead with "
                f"BatchNorm's moving statistics, {batch.dead} with the batch's: the moving "
                "statistics lag"
            )
    worst = max(judged, key=lambda layer: layer.dead_fraction)
    share = f"{worst.dead} of {worst.units} units of {worst.name} are dead on {worst.rows} rows"
    if worst.dead_fraction > limits.warn_above:
        return "warn", f"{share} (limit {limits.warn_above:.0%})"
    for layer in layers:
        if layer.saturated:
            return "warn", (
                f"{layer.saturated} of {layer.units} {layer.activation} units of {layer.name} "
                "are saturated on every row"
            )
    total, units = sum(layer.dead for layer in judged), sum(layer.units for layer in judged)
    limit = f"(limit {limits.warn_above:.0%} of a layer)"
    if not total:
        return "pass", f"no dead unit of {units} {limit}"
    return "pass", f"{worst.dead} of {worst.units} units of {worst.name} dead {limit}"


def _severity(layer: Layer, limits: DeadNeurons) -> int:
    """How many of the bounds a layer is beyond: warn_above, fail_above, all dead."""
    bounds = (limits.warn_above, limits.fail_above)
    beyond = sum(layer.dead_fraction > bound for bound in bounds)
    return beyond + (0 < layer.units == layer.dead)


def _layer_units(layer: Layer, batch: Layer | None) -> LayerUnits:
    blocked = layer.blocked_units
    return LayerUnits(
        layer=layer.name,
        activation=layer.activation,
        units=layer.units,
        rows=layer.rows,
        dead=layer.dead,
        near_dead=layer.near_dead,
        constant=layer.constant_units.size,
        saturated=layer.saturated if layer.saturating else None,
        dead_with_batch_statistics=None if batch is None else batch.dead,
        partial=layer.partial,
        blocked=None if blocked is None else blocked.size,
        blocked_units=None if blocked is None else tuple(blocked.tolist()),
        dead_units=tuple(layer.dead_units.tolist()),
        active_rows=tuple(layer.active_rows.tolist()),
    )


def _outputs(indices: Sequence[int], flow: Flow) -> str:
    if len(flow.outputs) == 1:
        return "the output"
    names = [flow.names[index] if flow.names else str(index) for index in indices]
    return f"output{'s' * (len(indices) > 1)} {', '.join(names)}"


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
            is a lag, and no failure.

    Returns:
        The worst verdict over the outputs, with the reason of the first that has it.
    """
    findings: list[tuple[Verdict, str]] = []
    for index, output in enumerate(outputs):
        verdict, reason = _judge(output, limits, last=last)
        if verdict == "fail" and untrained:
            verdict = "warn"
        if verdict == "fail" and batch_outputs is not None:
            batch_verdict, _ = _judge(batch_outputs[index], limits, last=last)
            if batch_verdict != "fail":
                verdict = "warn"
                reason += "; not so with the batch's statistics: BatchNorm's moving ones lag"
        name = f"output {output.name or index}: " if len(outputs) > 1 else ""
        findings.append((verdict, name + reason))
    order: tuple[Verdict, ...] = ("fail", "warn", "pass", "not_applicable")
    verdict, reason = min(findings, key=lambda finding: order.index(finding[0]))
    return PredictionVarianceCheck(
        verdict=verdict,
        reason=reason,
        measured=PredictionVarianceMeasured(
            outputs=tuple(map(_output_worth, outputs)), exact=exact
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
        )
        for each in held
    )
    return replace(check, measured=replace(check.measured, validation=worth))


def _judge(output: OutputSkill, limits: PredictionVariance, *, last: bool) -> tuple[Verdict, str]:
    if output.varies is None:
        if output.distinct:
            return "pass", "the predictions differ between rows"
        return "fail", "all predictions are equal"
    if not output.varies:
        return "not_applicable", "the target is constant, so a constant prediction is right"
    if output.kind == "regression":
        value, limit = output.variance_ratio, limits.min_ratio
        what = "variance ratio {:.3g}"
    else:
        value, limit = output.information, limits.min_information
        what = "information {:.3g}"
    value = math.nan if value is None else value
    skill = math.nan if output.skill is None else output.skill
    shown = f"{what.format(value)} (limit {limit:g})"
    if not value >= limit:
        return "fail", f"{shown}: the prediction is constant"
    shown += f", skill {skill:.3g}"
    if last and not skill >= limits.min_skill:
        return "fail", f"{shown} (limit {limits.min_skill:g}): worse than the best constant"
    if last and skill < NO_SKILL:
        return "warn", f"{shown}: no better than the best constant"
    if output.constant_class:
        return "warn", f"{shown}: every row gets the same class"
    return "pass", shown


def _output_worth(output: OutputSkill) -> OutputWorth:
    return OutputWorth(
        output=output.output,
        kind=output.kind,
        name=output.name or None,
        variance_ratio=output.variance_ratio,
        information=output.information,
        skill=output.skill,
        loss=output.loss,
        constant_loss=output.constant_loss,
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
