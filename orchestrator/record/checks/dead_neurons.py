"""Whether units can still learn."""

from __future__ import annotations

import math

from msgspec.structs import replace

from orchestrator.record.checks.check import Check
from orchestrator.record.encoding import Record


class LayerUnits(Record, kw_only=True, omit_defaults=True):
    """The units of one place where an activation is applied."""

    layer: str
    """Readable path of the layer in the model."""
    activation: str | None = None
    """Keras's name of the activation."""
    units: int
    """Number of units."""
    rows: int | None = None
    """Rows × positions that were looked at."""
    dead: int
    """Units whose derivative was zero on all of them."""
    near_dead: int | None = None
    """Units that were active on some rows, but on fewer than 0.1% of them."""
    constant: int | None = None
    """Units that were active and had the same value on every row."""
    saturated: int | None = None
    """Units with |derivative| ≤ 1e-6 on every row; for smooth activations only."""
    dead_with_batch_statistics: int | None = None
    """Dead units with BatchNorm's batch statistics, where these were compared."""
    partial: bool = False
    """A loop hides some of the applications, so that nothing is known to be dead."""
    blocked: int | None = None
    """Units that were active, but got no gradient from an output on any row where they were; where
    gradients were measured."""
    blocked_units: tuple[int, ...] | None = None
    """Their indices."""
    dead_units: tuple[int, ...] | None = None
    """Indices of the dead or saturated units; in `checks/*.json` only."""
    silent_after: tuple[int, ...] | None = None
    """The epoch in which each of `dead_units` got its last gradient, counted from 1 over all
    phases; 0 for one that is born dead, or to which nothing has ever come back. In `checks/*.json`
    only."""
    active_rows: tuple[int, ...] | None = None
    """Rows × positions on which each unit was active; in `checks/*.json` only."""

    def counted_dead(self) -> int:
        """Dead units as the verdict counts them: BatchNorm's moving statistics alone kill none."""
        batch = self.dead_with_batch_statistics
        return self.dead if batch is None else min(self.dead, batch)

    def without_units(self) -> LayerUnits:
        """As `run.json` has it."""
        return replace(self, dead_units=None, silent_after=None, active_rows=None)


class DeadNeuronsMeasured(Record, kw_only=True, omit_defaults=True):
    """What `dead_neurons` counted; nothing where it could not be taken."""

    worst_layer: str | None = None
    """The layer with the greatest dead share."""
    dead_fraction: float | None = None
    """Its dead share, 0 to 1."""
    exact: bool | None = None
    """Whether every training row was looked at; else the counts are bounds."""
    layers: tuple[LayerUnits, ...] = ()
    """One for each place where an activation is applied, in forward order."""
    responding_rows: int | None = None
    """Rows on which an output responds to the inputs; where gradients were measured."""
    rows: int | None = None
    """Rows that were looked at; where gradients were measured."""
    notes: tuple[str, ...] = ()
    """What could not be seen."""


class DeadNeuronsLimits(Record, kw_only=True, omit_defaults=True):
    """Shares of a layer's units, 0 to 1."""

    warn_above: float | None = None
    """Dead share above which it warns."""
    fail_above: float | None = None
    """Dead share above which it fails, where an output that the layer feeds has no skill."""


_FEW_LIVE = 0.45
"""Where a row gets through with a probability below this, most networks are dead or have lost rows:
of 1,152 with seven layers of three units, five of two or three of two, 0.07 to 0.38 learn, and with
leaky relu at ten times the rate 0.75 to 0.95. One unit of relu, as an output may be, has 0.5."""


class DeadNeuronsCheck(Check, tag="dead_neurons", kw_only=True):
    """Whether units can still learn."""

    measured: DeadNeuronsMeasured = DeadNeuronsMeasured()
    """What was measured."""
    limits: DeadNeuronsLimits = DeadNeuronsLimits()
    """The limits that the verdict was taken against."""

    def is_deep_and_narrow(self) -> bool:
        """Whether most networks with layers of relu as wide are dead as they are drawn.

        All units of a layer of n are negative for a row with probability 2**-n (Lu, Shin, Su and
        Karniadakis, Dying ReLU and initialization, 2020); of nine layers of two 0.92 are dead by
        this, and 0.91 are. A layer that looks at several positions of a row seldom loses all.
        """
        places = min((each.rows or 0 for each in self.measured.layers), default=0)
        widths = [
            each.units
            for each in self.measured.layers
            if each.activation == "relu" and each.rows in (None, places)
        ]
        return math.prod(1 - 0.5**units for units in widths) < _FEW_LIVE

    def without_units(self) -> DeadNeuronsCheck:
        """As `run.json` has it: without the lists with an entry for each unit."""
        layers = tuple(layer.without_units() for layer in self.measured.layers)
        return replace(self, measured=replace(self.measured, layers=layers))

    def reading(self) -> str:
        """The dead share of the worst layer; for a warning its reason, which may name another."""
        measured = self.measured
        if measured.dead_fraction is None or self.verdict == "warn":
            return self.reason
        sign = "at most " if measured.exact is False else ""
        share = measured.dead_fraction
        if 0 < share < 1:  # not rounded to none or to all
            share = min(max(share, 0.01), 0.99)
        return f"{sign}{share:.0%} of {measured.worst_layer} dead"

    def bounds(self) -> str:
        """Above which dead shares it warns and fails."""
        bounds = (("warn", self.limits.warn_above), ("fail", self.limits.fail_above))
        return ", ".join(f"{word} > {bound:.0%}" for word, bound in bounds if bound is not None)
