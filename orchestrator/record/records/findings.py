"""The causes that evidence points to, and what would do instead."""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec.structs import force_setattr

from orchestrator.record.encoding import Record

Cause = Literal[
    "one_unit_softmax",
    "unreachable_targets",
    "loss_mismatch",
    "wrong_labels",
    "broadcast_shapes",
    "undefined_loss",
    "no_effect",
    "lost_signal",
    "held_at_zero",
    "initialization",
    "fixed_seed",
    "unscaled_inputs",
    "distant_targets",
    "constant_columns",
    "missing_values",
    "unrelated_targets",
    "unusual_start",
    "unusual_rate",
    "clipped",
    "slow_statistics",
    "small_batches",
    "heavy_dropout",
    "few_steps",
    "undertrained",
    "rate_too_low",
    "vanishing_gradient",
    "oscillating",
    "lagging_statistics",
    "over_regularised",
    "too_small",
    "overfitting",
    "dead_branch",
    "constant_reconstruction",
]
"""What a finding may point to; the README says of each how it is found and what to do."""

CONFIRMED: frozenset[Cause] = frozenset(
    {"distant_targets", "unscaled_inputs", "heavy_dropout", "small_batches"}
)
"""Causes that are suspected before a training, and for which its failure is the evidence: a network
may well cope with them, and so a policy goes by what was found after."""


class Fix(Record, kw_only=True):
    """What a remedy writes instead, `fix_output` or `raise_learning_rate`."""

    output: str = ""
    """Name of the output; empty where there is one."""
    activation: str | None = None
    """Keras's name of the activation that is to make it; None for the one that it has."""
    loss: str | None = None
    """Keras's name of its loss; None for the one that it has."""
    standardize: bool = False
    """Whether its targets are to be standardised, too."""
    standardize_inputs: bool = False
    """Whether the inputs are to be standardised with the targets: as they are, a fresh network
    gives many standard deviations of these."""

    learning_rate_factor: float | None = None
    """How many times as high the learning rates are to be; None where they are not at fault."""
    factor_with_momentum: float | None = None
    """The same where SGD is given momentum, too; None where that is of no help."""
    usual_rate: float | None = None
    """The optimizer's usual rate, where the highest one is far above it; None where it is not."""

    schedule_stretch: float | None = None
    """How many times as many steps the config's schedule is to take, which ends long before the
    training; None where none does."""

    @property
    def told(self) -> str:
        """What is to be written for the output, as in a config; empty for another fix."""
        lines = {"activation": self.activation, "loss": self.loss}
        return " and ".join(f"{key}: {value}" for key, value in lines.items() if value)


class Finding(Record, kw_only=True):
    """A cause that the evidence points to."""

    cause: Cause
    """Name of the cause."""
    reason: str
    """One clause for people: what was seen, and why it matters."""
    advice: str = ""
    """One clause for people: what to write instead. Empty in older records, whose reason ends with
    it."""
    certain: bool = False
    """Whether no training could succeed: no reachable prediction beats the best constant, or
    training can have no effect."""
    found: Literal["before", "after"] = "after"
    """Whether it was found before the training, or from what the training has shown."""
    key: str | None = None
    """Where the config says what is at fault, such as `model.layers.1.Dense.activation`; None where
    it is in the rows or in the user's code."""
    line: int | None = None
    """Line of that key in `config.yaml`; None where it is not written there."""
    fix: Fix | None = None
    """What would do of an output that cannot; None where that is not known."""
    final: bool | msgspec.UnsetType = msgspec.UNSET
    """Name of `certain` in older records; not written any more."""

    @property
    def told(self) -> str:
        """What was seen and what to do about it, in one sentence."""
        return f"{self.reason}: {self.advice}" if self.advice else self.reason

    def __post_init__(self) -> None:
        """Read an older record."""
        if self.final is not msgspec.UNSET:
            force_setattr(self, "certain", self.final)
            force_setattr(self, "final", msgspec.UNSET)
