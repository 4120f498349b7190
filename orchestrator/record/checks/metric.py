"""Whether the user's own gates hold."""

from __future__ import annotations

from orchestrator.record.checks.check import Check
from orchestrator.record.encoding import Record


class GateValue(Record, kw_only=True):
    """The value of a metric with a gate."""

    name: str
    """Keras's name of the metric."""
    value: float | None = None
    """Its value at the phase's last epoch; None where it was not logged."""


class GateBounds(Record, kw_only=True):
    """What a metric has to keep to."""

    name: str
    """Keras's name of the metric."""
    min: float | None = None
    """Smallest value that passes."""
    max: float | None = None
    """Greatest value that passes."""


class MetricMeasured(Record, kw_only=True, omit_defaults=True):
    """The values of the metrics."""

    gates: tuple[GateValue, ...] = ()
    """One for each gate that was due."""


class MetricLimits(Record, kw_only=True, omit_defaults=True):
    """The bounds of the metrics."""

    gates: tuple[GateBounds, ...] = ()
    """One for each gate that was due."""


class MetricCheck(Check, tag="metric", kw_only=True):
    """Whether logged values keep to the config's gates."""

    measured: MetricMeasured = MetricMeasured()
    """What was measured."""
    limits: MetricLimits = MetricLimits()
    """The limits that the verdict was taken against."""

    def reading(self) -> str:
        """The value of every metric with a gate."""
        values = (
            f"{gate.name} {'not logged' if gate.value is None else f'{gate.value:.4g}'}"
            for gate in self.measured.gates
        )
        return ", ".join(values) or self.reason

    def bounds(self) -> str:
        """What each metric has to keep to."""
        return ", ".join(
            f"{sign} {bound:g}"
            for gate in self.limits.gates
            for sign, bound in ((">=", gate.min), ("<=", gate.max))
            if bound is not None
        )
