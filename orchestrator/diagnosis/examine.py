"""A model looked at over rows: its units counted, its predictions scored, the checks taken."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import keras
import numpy as np

from orchestrator.config.sections.checks import Checks
from orchestrator.data.rows import Readable, Tree
from orchestrator.diagnosis.skill.columns import OutputSkill
from orchestrator.diagnosis.skill.learned import Lesson
from orchestrator.diagnosis.skill.scores import Scores
from orchestrator.diagnosis.tracing.probe import BATCH_SIZE, Measurement, Probe, See
from orchestrator.diagnosis.units import NO_FLOW, Flow, Layer, cut, cut_reason, livelier
from orchestrator.diagnosis.verdicts.checks import Evidence, judge
from orchestrator.diagnosis.verdicts.dead_neurons import is_certainly_alive, needs_batch_statistics
from orchestrator.model.losses.returned import Returned
from orchestrator.model.outputs import Output
from orchestrator.record.checks import AnyCheck, LearnedCheck, PredictionVarianceCheck

_FIRST_ROWS = 256
"""Rows to begin with: on so many, nearly every live unit has been active once."""

_FROZEN = "only a warning, for a part of the model is frozen"

_UNSEEN = "the model has no call of its own, so no row can be run through it"

Gradients = Literal["always", "when_suspicious", "never"]
"""When to measure what needs gradients."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Examination:
    """What was measured, and the verdicts on it."""

    checks: tuple[AnyCheck, ...]
    """Those that are on, in the order in which they are recorded."""
    layers: tuple[Layer, ...] = ()
    """What was counted at each activation site; empty where there are non-finite values."""
    flow: Flow = NO_FLOW
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
    known: Evidence,
    *,
    exhaustive: bool = True,
    gradients: Gradients = "never",
    batch_size: int = BATCH_SIZE,
    training_batch_size: int = 32,
    class_weight: Mapping[int, float] | None = None,
) -> Examination:
    """Measure a model over rows, and judge it.

    Args:
        probe: of the model.
        rows: what to run through the model.
        outputs: the model's outputs.
        limits: the checks with their limits.
        known: what is known of the phase and of weights and losses; `exact` says whether the rows
            are all that count. Where something is not finite, nothing is measured.
        exhaustive: read to the end even when no further row can bring a unit to life or make the
            prediction constant; the skill is judged only where all rows were read.
        gradients: when to measure blocked units and rows that respond.
        batch_size: rows of one forward pass.
        training_batch_size: rows of a training step, for BatchNorm's batch statistics, and for a
            loss that is no mean over rows.
        class_weight: weight of every class in the loss that trains; None without.

    Returns:
        The counts, the worth of the outputs and the verdicts.
    """
    if not probe.can_measure:
        known = dataclasses.replace(known, unseen=_UNSEEN)
    if known.non_finite or known.unseen:
        return Examination(checks=judge(known, limits))
    looks = _Looks(probe, outputs, training_batch_size, class_weight)
    scores, lesson = looks.begin(learning=known.last and limits.learned is not None)
    found = probe.measure(
        rows,
        batch_size=whole_batches(batch_size, training_batch_size),
        gradients=gradients == "always",
        see=_both(scores, lesson),
        enough=None if exhaustive else _enough(scores, rows, limits),
    )
    if scores.non_finite():
        non_finite = dataclasses.replace(known, non_finite=scores.non_finite())
        return Examination(checks=judge(non_finite, limits))
    columns = scores.columns(complete=found.complete)
    flow = dataclasses.replace(found.flow, names=tuple(output.name for output in outputs))
    evidence = dataclasses.replace(
        _counted(known, found, known),
        # The rows that were not read count for the skill, too.
        last=known.last and found.complete,
        flow=flow.leaving_out(_constant(columns) if found.complete else ()),
        columns=columns,
        learnt=None if lesson is None else lesson.found(),
        lenient=known.lenient or (_FROZEN if probe.has_frozen_kernels else None),
    )
    checks = judge(evidence, limits)
    suspicious = any(check.verdict in ("warn", "fail") for check in checks)
    if probe.has_batch_normalization and _may_lag(evidence, checks, limits):
        evidence = _with_batch_statistics(evidence, rows, looks)
    if gradients == "when_suspicious" and suspicious and not known.untrained:
        found = probe.measure(rows, batch_size=batch_size, gradients=True)
        evidence = _counted(evidence, found, known)
    return Examination(
        checks=judge(evidence, limits),
        layers=found.layers,
        flow=evidence.flow,
        columns=tuple(tuple(each) for each in evidence.columns),
        rows=found.rows,
        complete=found.complete,
        responding=found.responding,
        notes=tuple(evidence.notes),
    )


def whole_batches(size: int, training_batch_size: int) -> int:
    """The greatest multiple of a training batch up to a size, or the size where there is none."""
    return size // training_batch_size * training_batch_size or size


def _enough(
    scores: Scores, rows: Readable, limits: Checks
) -> Callable[[Sequence[Layer]], bool] | None:
    """Tells whether no further row can change a verdict; None where only the end can tell."""
    dead, certain = limits.dead_neurons, scores.certainty(rows, limits.prediction_variance)
    if certain is None:
        return None

    def enough(layers: Sequence[Layer]) -> bool:
        return (dead is None or is_certainly_alive(layers, dead)) and certain()

    return enough


def _counted(evidence: Evidence, found: Measurement, known: Evidence) -> Evidence:
    """The evidence with what a pass over the rows has counted."""
    responding = None if found.responding is None else (found.responding, found.rows)
    return dataclasses.replace(
        evidence,
        exact=known.exact and found.complete,
        layers=found.layers,
        responding=responding,
        notes=found.notes,
    )


@dataclasses.dataclass(frozen=True, slots=True)
class _Looks:
    """What looks at the predictions of a pass."""

    probe: Probe
    outputs: Sequence[Output]
    batch_size: int
    """Rows of a training step."""
    class_weight: Mapping[int, float] | None

    def begin(self, *, learning: bool) -> tuple[Scores, Lesson | None]:
        """What a pass is seen by; `learning` says whether it is time to ask what was learnt."""
        scores = Scores(self.outputs, self.batch_size, self.class_weight)
        if not learning:
            return scores, None
        obstacle = None
        if self.class_weight is not None:
            obstacle = "classes have weights, and the reference knows none"
        elif self.probe.has_lookups:
            obstacle = "an Embedding or a lookup takes inputs, which are no numbers then"
        return scores, Lesson(self.outputs, obstacle)


def _both(scores: Scores, lesson: Lesson | None) -> See:
    """What shows each batch to both."""

    def see(x: Tree, returned: list[Returned], y: Tree, weight: Any) -> None:
        scores.see(returned, y, weight, x)
        if lesson is not None:
            lesson.see(x, returned, y, weight)

    return see


def _constant(columns: Sequence[Sequence[OutputSkill]]) -> list[int]:
    """Outputs whose targets never vary: a dead network predicts them as well as any."""
    return [
        index
        for index, each in enumerate(columns)
        if each and all(column.varies is False for column in each)
    ]


def _may_lag(evidence: Evidence, checks: Sequence[AnyCheck], limits: Checks) -> bool:
    """Whether a verdict may hang on BatchNorm's moving statistics."""
    dead = limits.dead_neurons
    if dead is not None and needs_batch_statistics(evidence.layers, dead):
        return True
    return any(
        check.verdict == "fail" or (isinstance(check, LearnedCheck) and check.falls_short())
        for check in checks
        if isinstance(check, PredictionVarianceCheck | LearnedCheck)
    )


def _with_batch_statistics(evidence: Evidence, rows: Readable, looks: _Looks) -> Evidence:
    """The evidence with a second pass in which BatchNorm uses the batches' own statistics."""
    if getattr(rows, "once", False):
        note = (
            "the rows can be read only once, so BatchNorm's moving statistics were not compared "
            "with the batch's"
        )
        return dataclasses.replace(evidence, notes=(*evidence.notes, note))
    scores, lesson = looks.begin(learning=evidence.learnt is not None)
    found = looks.probe.measure(
        rows, batch_size=looks.batch_size, batch_statistics=True, see=_both(scores, lesson)
    )
    return dataclasses.replace(
        evidence,
        batch_layers=found.layers,
        batch_columns=scores.columns(),
        batch_learnt=None if lesson is None else lesson.found(),
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
    if limits.dead_neurons is None or not probe.can_measure:
        return None
    for at_least in (_FIRST_ROWS, None):
        found = probe.measure(rows, at_least=at_least)
        if at_least is not None and see is not None:
            see(found)
        if not cut(found.layers, found.flow)[1]:
            return None
        if found.complete:
            break
    judged: Sequence[Layer] = found.layers
    if probe.has_batch_normalization:
        batch = probe.measure(rows, batch_size=training_batch_size, batch_statistics=True)
        judged = [*map(livelier, judged, batch.layers)]
    return cut_reason(judged, found.flow)


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
