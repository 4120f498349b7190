"""Whether a training can succeed at all."""

from __future__ import annotations

from orchestrator.record.checks.check import Check, NoLimits
from orchestrator.record.encoding import Record


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
