"""All that is looked for after a training; each finder is a function of the subject."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from orchestrator.diagnosis.causes.after.capacity import find_overfitting, find_too_small
from orchestrator.diagnosis.causes.after.dropout import find_drowning_dropout, find_shifting_dropout
from orchestrator.diagnosis.causes.after.gradients import find_vanishing_gradient
from orchestrator.diagnosis.causes.after.network import (
    find_dead_branch,
    find_held_kernels,
    find_initialization,
)
from orchestrator.diagnosis.causes.after.regularisation import (
    find_over_regularised,
)
from orchestrator.diagnosis.causes.after.rows import (
    find_constant_reconstruction,
    find_distant_targets,
    find_row_faults,
    find_unreachable_targets,
)
from orchestrator.diagnosis.causes.after.statistics import (
    find_lagging_statistics,
    find_small_batches,
)
from orchestrator.diagnosis.causes.after.subject import Subject
from orchestrator.diagnosis.causes.after.training import (
    find_no_effect,
    find_oscillating,
    find_rate_too_low,
    find_undertrained,
    find_unusual_rate,
)
from orchestrator.diagnosis.causes.finders import ask
from orchestrator.record.records import CONFIRMED, Finding

FINDERS: tuple[Callable[[Subject], Iterable[Finding]], ...] = (
    find_initialization,
    find_no_effect,
    find_held_kernels,
    find_over_regularised,
    find_dead_branch,
    find_lagging_statistics,
    find_shifting_dropout,
    find_vanishing_gradient,
    find_undertrained,
    find_rate_too_low,
    find_oscillating,
    find_unusual_rate,
    find_too_small,
    find_overfitting,
    find_constant_reconstruction,
    find_distant_targets,
    find_row_faults,
    find_unreachable_targets,
)
"""In the order of telling: each looks only where it is its turn."""


def find_after(subject: Subject, known: Collection[str] = ()) -> tuple[Finding, ...]:
    """All that can be found out about an attempt that failed, or that is warned about.

    Args:
        subject: its network and its training.
        known: names of causes that were found before the training.
    """
    found = ask(FINDERS, subject)
    # Where no gradient outweighs the noise weights hardly move, and the loss falls slowly.
    if {each.cause for each in found} <= {"rate_too_low", "undertrained"}:
        found = [*ask((find_drowning_dropout,), subject), *found]
    # What falls while a penalty shrinks the weights is the penalty.
    if subject.penalised and any(each.cause == "over_regularised" for each in found):
        found = [each for each in found if each.cause != "undertrained"]
    found = found or ask((find_small_batches,), subject)
    # That targets are out of reach is told again with how much they keep the output from, and that
    # of a penalty with what it has left.
    told = frozenset(known) - CONFIRMED - {"unreachable_targets", "over_regularised"}
    if "clipped" in told:  # which is why they have hardly moved
        told |= {"rate_too_low"}
    return tuple(each for each in found if each.certain or each.cause not in told)
