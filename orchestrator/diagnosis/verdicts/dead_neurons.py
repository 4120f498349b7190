"""The check of dead units: a layer that is dead, and an output that pays for it.

Pure: no model, no file. The definitions are those of the project's design, section 4.
"""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.config.sections.checks import DeadNeurons
from orchestrator.diagnosis.units import Flow, Layer, cut_reason, livelier, names_of
from orchestrator.record.checks import (
    NO_SKILL,
    DeadNeuronsCheck,
    DeadNeuronsLimits,
    DeadNeuronsMeasured,
    LayerUnits,
    Verdict,
)


def dead_neurons(
    layers: Sequence[Layer],
    flow: Flow,
    limits: DeadNeurons,
    *,
    skills: Sequence[float | None],
    untrained: bool,
    distinct: Sequence[Sequence[bool]] = (),
    exact: bool = True,
    batch_layers: Sequence[Layer] | None = None,
    responding: tuple[int, int] | None = None,
    notes: Sequence[str] = (),
) -> DeadNeuronsCheck:
    """The verdict on dead units.

    Args:
        layers: what was counted, in forward order.
        flow: which of them feed which.
        limits: the config's limits.
        skills: lowest skill of each output of `flow`; None where there is none.
        untrained: whether this is phase 0, where only a cut fails.
        distinct: of each column of each output, whether its predictions differ from row to row.
        exact: whether every training row was counted.
        batch_layers: the same layers counted with BatchNorm's batch statistics; a layer that is
            alive in them lags, and is not dead.
        responding: on how many rows an output responds to the inputs, of how many; None where that
            was not measured.
        notes: what could not be seen.

    Returns:
        `fail` when entirely dead layers cut every path to an output or, before training, to a
        column of it, or when a layer is dead above
        `fail_above` and an output that it feeds has no skill.
    """
    if not layers:
        none = "no layer applies an activation with dead units"
        return DeadNeuronsCheck(verdict="not_applicable", reason="; ".join([none, *notes]))
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
    if reason is None and untrained:
        reason = _cut_column(judged, flow, distinct)
    elif reason is None:
        reason = _without_skill(judged, flow, limits, skills)
    if reason is None:
        verdict, reason = _judge_survivors(layers, judged, limits)
    return DeadNeuronsCheck(
        verdict=verdict,
        reason=reason,
        measured=measured,
        limits=DeadNeuronsLimits(warn_above=limits.warn_above, fail_above=limits.fail_above),
    )


def needs_batch_statistics(layers: Sequence[Layer], limits: DeadNeurons) -> bool:
    """Whether a layer is dead enough for the verdict to hang on BatchNorm's moving statistics."""
    return any(_severity(layer, limits) > 0 for layer in layers)


def is_certainly_alive(layers: Sequence[Layer], limits: DeadNeurons) -> bool:
    """Whether no further row can make the verdict anything but `pass`: units do not die of rows."""
    return not any(_severity(layer, limits) or layer.saturated for layer in layers)


def _cut_column(
    judged: Sequence[Layer], flow: Flow, distinct: Sequence[Sequence[bool]]
) -> str | None:
    """Why a column of an output cannot learn, as where branches are joined and one is dead.

    A kernel that begins at zero makes constant columns, too, but all of them.
    """
    for index, layer in enumerate(judged):
        if not layer.units or layer.dead < layer.units:
            continue
        for output in flow.feeds(index):
            columns = distinct[output] if output < len(distinct) else ()
            if any(columns) and not all(columns):
                return (
                    f"layer {layer.name} is entirely dead ({layer.dead} of {layer.units} units) "
                    f"on {layer.rows} rows; nothing gets through to column "
                    f"{columns.index(False)} of {names_of([output], flow)}"
                )
    return None


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
                    f"{names_of([output], flow)} has no skill ({skill:.3g})"
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
