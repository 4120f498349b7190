"""All that is looked for before a training; each finder is a function of the subject."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from orchestrator.diagnosis.causes.before.outputs.broadcast import find_broadcast_shapes
from orchestrator.diagnosis.causes.before.outputs.effect import find_no_effect
from orchestrator.diagnosis.causes.before.outputs.held import find_held_at_zero
from orchestrator.diagnosis.causes.before.outputs.labels import find_wrong_labels
from orchestrator.diagnosis.causes.before.outputs.losses import find_loss_mismatch
from orchestrator.diagnosis.causes.before.outputs.one_unit import find_one_unit_softmax
from orchestrator.diagnosis.causes.before.outputs.reach import find_unreachable_targets
from orchestrator.diagnosis.causes.before.outputs.start import find_unusual_start
from orchestrator.diagnosis.causes.before.outputs.undefined import find_undefined_loss
from orchestrator.diagnosis.causes.before.rows import (
    find_columns,
    find_distant_targets,
    find_unscaled_inputs,
)
from orchestrator.diagnosis.causes.before.signal.batches import find_small_batches
from orchestrator.diagnosis.causes.before.signal.dropout import find_heavy_dropout
from orchestrator.diagnosis.causes.before.signal.lost import find_lost_signal
from orchestrator.diagnosis.causes.before.signal.penalty import find_strong_penalty
from orchestrator.diagnosis.causes.before.signal.statistics import find_slow_statistics
from orchestrator.diagnosis.causes.before.steps import find_planned_faults
from orchestrator.diagnosis.causes.before.subject import Subject
from orchestrator.diagnosis.causes.finders import ask
from orchestrator.record.records import Finding

FINDERS: tuple[Callable[[Subject], Iterable[Finding]], ...] = (
    find_one_unit_softmax,
    find_unreachable_targets,
    find_held_at_zero,
    find_loss_mismatch,
    find_wrong_labels,
    find_broadcast_shapes,
    find_no_effect,
    find_undefined_loss,
    find_unusual_start,
    find_unscaled_inputs,
    find_distant_targets,
    find_columns,
    find_lost_signal,
    find_heavy_dropout,
    find_strong_penalty,
    find_slow_statistics,
    find_small_batches,
    find_planned_faults,
)
"""In the order of telling: what is certain first is not theirs to see to."""

_SIGN = "unusual_start"
"""A sign of something, told where nothing says of what."""


def find_before(subject: Subject, ignored: Collection[str] = ()) -> tuple[Finding, ...]:
    """All that can be found out before a training.

    Args:
        subject: the model, its rows, and what is planned.
        ignored: names of causes that are not to be told of.

    Returns:
        The findings, certain ones first.
    """
    found = ask(FINDERS, subject)
    if any(finding.cause != _SIGN for finding in found):
        found = [finding for finding in found if finding.cause != _SIGN]
    told = [finding for finding in found if finding.cause not in ignored]
    return tuple(sorted(told, key=lambda finding: not finding.certain))
