"""How and why an attempt failed, and when its units were lost."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from orchestrator.record.encoding import Record

FailureKind = Literal[
    "non_finite",
    "dead_at_init",
    "always_dead_at_init",
    "often_dead_at_init",
    "diverged",
    "died",
    "constant",
    "worse_than_baseline",
    "undertrained",
    "crippled",
    "metric",
    "crashed",
]
"""How an attempt failed:

- `non_finite`: weights, losses or predictions are not finite;
- `dead_at_init`: dead units cut the output off before any training, or it is not finite then;
- `always_dead_at_init`, beside it: so they do with every seed that was screened, or every seed
  gives the same network;
- `diverged`: failed by another check than `finite` and `metric` after the loss had shot up, or dead
  or constant in a phase at a rate far above that of a healthy one before, so that a step was too
  large; or much of the skill that it had after an earlier phase is lost;
- `died`: dead without that, or no row's output responds to the inputs any more;
- `constant`: constant, although units are alive and the output responds;
- `often_dead_at_init`, beside these two and the next three: five seeds or more had to be screened
  until one was alive, or most networks with layers as narrow are dead;
- `worse_than_baseline`: the prediction varies, and is worse than the best constant;
- `undertrained`: so it is, or it has learnt too little, and the loss was still falling at the end;
- `crippled`: alive, and it has learnt too little of what there is to learn;
- `metric`: a gate was missed;
- `crashed`: the worker was killed.
"""

_RAISED = 1.2
"""A learning rate that is so many times the one before has risen."""

_FAR = 0.5
"""Share of their norm by which weights have moved far in an epoch."""


class UnitsLost(Record, kw_only=True):
    """The epoch in which most units of a layer fell silent that ended dead."""

    layer: str
    """Readable path of the layer in the model."""
    units: int
    """Number of its units."""
    lost: int
    """How many of them got their last gradient in this epoch."""
    alive: int
    """How many got one in it at all."""
    epoch: Annotated[int, Meta(ge=1)]
    """Number of the epoch, counted from 1 over all phases."""
    learning_rate: float
    """Highest rate of the epoch."""
    rate_before: float | None = None
    """Highest rate of the epoch before; None for the first."""
    loss_before: float | None = None
    """Loss of the epoch before; None for the first."""
    first: bool = False
    """Whether the epoch was the first of its phase."""
    gradient_norm: float | None = None
    """Norm over the units of all layers of their mean absolute gradient a step, before clipping."""
    moved_layer: str | None = None
    """The layer whose kernel moved most in the epoch, as a share of its norm before."""
    moved: float | None = None
    """That share."""

    @property
    def is_most(self) -> bool:
        """Whether that was half or more of those that were alive."""
        return 2 * self.lost >= self.alive

    @property
    def told(self) -> str:
        """Where and when, with what is known of the epoch, in one clause."""
        last = "the last " if self.lost == self.alive < self.units else ""
        units = f"{last}{self.lost} of {self.units} units"
        lost = f"layer {self.layer} lost {units} in epoch {self.epoch}"
        rate = f"{self.learning_rate:.3g}"
        if self.rate_before is not None and self.learning_rate > _RAISED * self.rate_before:
            after = ", right after the phase's" if self.first else ", as the"
            return f"{lost}{after} learning rate rose to {rate}"
        if self.moved is not None and self.moved_layer is not None and self.moved >= _FAR:
            share = f"{self.moved:.0f} times" if self.moved >= 2 else f"{self.moved:.0%} of"
            far = f"the weights of {self.moved_layer} moved by {share} their norm"
            return f"{lost}, in which {far} at learning rate {rate}"
        return f"{lost}, at learning rate {rate}"


class Failure(Record, kw_only=True):
    """Why an attempt did not pass."""

    check: str
    """Name of the first failing check, or `crashed`."""
    phase: str | None
    """Phase in which it failed; None when a worker died before its first phase."""
    reason: str
    """The check's reason, or what ended the worker."""
    lost: UnitsLost | None = None
    """When a layer lost most of its units, where the check has to do with that."""
