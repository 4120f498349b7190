"""Whether everything is finite, and since when not."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from orchestrator.record.checks.check import Check, NoLimits
from orchestrator.record.encoding import Record

_SHOWN_ROWS = 5
"""So many rows of a batch are told."""


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
