"""A model looked at over rows: its units counted, its predictions scored, the checks taken."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal

import keras
import numpy as np

from orchestrator.config.sections.checks import Checks
from orchestrator.data.rows import Readable
from orchestrator.diagnosis import checks as verdicts
from orchestrator.diagnosis.skill.columns import OutputSkill
from orchestrator.diagnosis.skill.scores import Scores
from orchestrator.diagnosis.tracing.probe import BATCH_SIZE, Measurement, Probe
from orchestrator.diagnosis.units import Flow, Layer
from orchestrator.model.outputs import Output
from orchestrator.record.checks import AnyCheck, DeadNeuronsCheck, PredictionVarianceCheck

_FIRST_ROWS = 256
"""Rows to begin with: on so many, nearly every live unit has been active once."""

Gradients = Literal["always", "when_suspicious", "never"]
"""When to measure what needs gradients."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Examination:
    """What was measured, and the verdicts on it."""

    checks: tuple[AnyCheck, ...]
    """`finite`, `dead_neurons` and `prediction_variance`, but for those that are off."""
    layers: tuple[Layer, ...] = ()
    """What was counted at each activation site; empty where there are non-finite values."""
    flow: Flow = Flow(layers=(), outputs=())
    """Which of them feed which, and which make the outputs."""
    columns: tuple[tuple[OutputSkill, ...], ...] = ()
    """What each output is worth, column by column."""
    rows: int = 0
    """Rows that were looked at."""
    complete: bool = True
    """Whether these were all."""
    responding: int | None = None
    """Rows whose output responds to the inputs; None where that was not measured."""
    notes: tuple[str, ...] = ()
    """A sentence for each layer with activations that could not be seen."""


def examine(
    probe: Probe,
    rows: Readable,
    outputs: Sequence[Output],
    limits: Checks,
    *,
    non_finite: Sequence[str] = (),
    untrained: bool = False,
    last: bool = True,
    sampled: bool = False,
    exhaustive: bool = True,
    gradients: Gradients = "never",
    batch_size: int = BATCH_SIZE,
    training_batch_size: int = 32,
) -> Examination:
    """Measure a model over rows, and judge it.

    Args:
        probe: of the model.
        rows: what to run through the model.
        outputs: the model's outputs.
        limits: the checks with their limits; gates are not looked at.
        non_finite: clauses on what is known not to be finite, such as weights.
        untrained: whether this is phase 0, where only a cut fails.
        last: whether this is after the last phase, where the skill is judged too.
        sampled: whether the rows are only some of those that count.
        exhaustive: read to the end even when no further row can bring a unit to life or make the
            prediction constant; the skill is judged only where all rows were read.
        gradients: when to measure blocked units and rows that respond.
        batch_size: rows of one forward pass.
        training_batch_size: rows of a training step, for BatchNorm's batch statistics.

    Returns:
        The counts, the worth of the outputs and the verdicts.
    """
    if non_finite:
        return Examination(checks=not_finite(non_finite, limits))
    dead, variance = limits.dead_neurons, limits.prediction_variance
    scores = Scores(outputs)
    certain = None if exhaustive else scores.certainty(rows, variance)

    def enough(layers: Sequence[Layer]) -> bool:
        alive = dead is None or verdicts.is_certainly_alive(layers, dead)
        return alive and certain is not None and certain()

    found = probe.measure(
        rows,
        batch_size=batch_size,
        gradients=gradients == "always",
        see=scores.see,
        enough=None if certain is None else enough,
    )
    if scores.non_finite():
        return Examination(checks=not_finite(scores.non_finite(), limits))
    last = last and found.complete  # the rows that were not read count for the skill, too
    columns = scores.columns()
    flow = dataclasses.replace(found.flow, names=tuple(output.name for output in outputs))
    batch: Measurement | None = None
    batch_columns: list[list[OutputSkill]] | None = None
    checks = _judge(found, flow, columns, limits, None, None, untrained, last, sampled)
    suspected = probe.has_batch_normalization and (
        any(check.verdict == "fail" for check in checks if check.check == "prediction_variance")
        or (dead is not None and verdicts.needs_batch_statistics(found.layers, dead))
    )
    again = not getattr(rows, "once", False)
    lags = suspected and again
    if suspected and not again:
        note = (
            "the rows can be read only once, so BatchNorm's moving statistics were not compared "
            "with the batch's"
        )
        found = dataclasses.replace(found, notes=(*found.notes, note))
    if lags:
        batch_scores = Scores(outputs)
        batch = probe.measure(
            rows, batch_size=training_batch_size, batch_statistics=True, see=batch_scores.see
        )
        batch_columns = batch_scores.columns()
    suspicious = any(check.verdict in ("warn", "fail") for check in checks)
    if gradients == "when_suspicious" and suspicious and not untrained:
        found = probe.measure(rows, batch_size=batch_size, gradients=True)
    if suspected or found.responding is not None:
        checks = _judge(
            found, flow, columns, limits, batch, batch_columns, untrained, last, sampled
        )
    return Examination(
        checks=checks,
        layers=found.layers,
        flow=flow,
        columns=tuple(tuple(each) for each in columns),
        rows=found.rows,
        complete=found.complete,
        responding=found.responding,
        notes=found.notes,
    )


def why_lost(
    probe: Probe,
    rows: Readable,
    limits: Checks,
    *,
    non_finite: Sequence[str],
    training_batch_size: int,
    see: Callable[[Measurement], None] | None = None,
) -> str | None:
    """Why further training cannot help: weights are not finite, or dead layers cut an output off.

    Of 2,611 networks cut off in this way none ever revived (design, section 4).

    Args:
        probe: of the model.
        rows: all rows that count.
        limits: the checks; one that is off is not asked.
        non_finite: clauses on what is not finite.
        training_batch_size: rows of a training step, for BatchNorm's batch statistics.
        see: called with what the first rows have shown.

    Returns:
        One clause, or None where it may go on.
    """
    if limits.finite is not None and non_finite:
        return non_finite[0]
    if limits.dead_neurons is None:
        return None
    for at_least in (_FIRST_ROWS, None):
        found = probe.measure(rows, at_least=at_least)
        if at_least is not None and see is not None:
            see(found)
        if not verdicts.cut(found.layers, found.flow)[1]:
            return None
        if found.complete:
            break
    judged: Sequence[Layer] = found.layers
    if probe.has_batch_normalization:
        batch = probe.measure(rows, batch_size=training_batch_size, batch_statistics=True)
        judged = [*map(verdicts.livelier, judged, batch.layers)]
    return verdicts.cut_reason(judged, found.flow)


def _judge(
    found: Measurement,
    flow: Flow,
    columns: list[list[OutputSkill]],
    limits: Checks,
    batch: Measurement | None,
    batch_columns: list[list[OutputSkill]] | None,
    untrained: bool,
    last: bool,
    sampled: bool,
) -> tuple[AnyCheck, ...]:
    checks: list[AnyCheck] = [verdicts.finite([])] if limits.finite is not None else []
    exact = found.complete and not sampled
    if limits.dead_neurons is not None:
        checks.append(
            verdicts.dead_neurons(
                found.layers,
                flow,
                limits.dead_neurons,
                skills=[_lowest_skill(each) for each in columns],
                untrained=untrained,
                exact=exact,
                batch_layers=None if batch is None else batch.layers,
                responding=None if found.responding is None else (found.responding, found.rows),
                notes=found.notes,
            )
        )
    if limits.prediction_variance is not None:
        checks.append(
            verdicts.prediction_variance(
                numbered(columns),
                limits.prediction_variance,
                untrained=untrained,
                last=last,
                exact=exact,
                batch_outputs=None if batch_columns is None else numbered(batch_columns),
            )
        )
    return tuple(checks)


def not_finite(found: Sequence[str], limits: Checks) -> tuple[AnyCheck, ...]:
    """The checks of a model with values that are not finite, which hide everything else.

    Args:
        found: a clause for each place with such values.
        limits: the checks; those that are off are left out.
    """
    checks: list[AnyCheck] = [verdicts.finite(found)] if limits.finite is not None else []
    reason = "there are non-finite values"
    if limits.dead_neurons is not None:
        checks.append(verdicts.not_applicable(DeadNeuronsCheck, reason))
    if limits.prediction_variance is not None:
        checks.append(verdicts.not_applicable(PredictionVarianceCheck, reason))
    return tuple(checks)


def non_finite_variables(groups: Sequence[tuple[str, Sequence[Any]]]) -> list[str]:
    """A clause for each variable with values that are not finite.

    Args:
        groups: what kind of variables, with those of the kind.
    """
    found = []
    for what, variables in groups:
        for variable in variables:
            values = np.asarray(keras.ops.convert_to_numpy(variable))
            if values.dtype.kind not in "fV":
                continue
            bad = int(np.count_nonzero(~np.isfinite(values.astype(np.float32))))
            if bad:
                found.append(f"{what} {variable.path} has {bad} of {values.size} values not finite")
    return found


def numbered(found: Sequence[Sequence[OutputSkill]]) -> list[OutputSkill]:
    """The columns of all outputs, numbered over all of them."""
    columns = [column for output in found for column in output]
    return [dataclasses.replace(each, output=index) for index, each in enumerate(columns)]


def _lowest_skill(columns: Sequence[OutputSkill]) -> float | None:
    return min((each.skill for each in columns if each.skill is not None), default=None)
