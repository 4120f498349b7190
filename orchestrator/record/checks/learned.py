"""Whether it has learnt what there is to learn."""

from __future__ import annotations

from orchestrator.record.checks.check import Check, is_below
from orchestrator.record.encoding import Record

NO_SKILL = 0.01
"""Skill below which nothing was learnt (design, section 4)."""


class OutputShare(Record, kw_only=True, omit_defaults=True):
    """What one output has learnt of what there is to learn, on the training rows."""

    output: int
    """Number of the output, counted from 0."""
    name: str | None = None
    """Keras's name of it, where the model has several."""
    share: float | None = None
    """`skill` over `reference`; None where the check is not applicable to this output."""
    share_at_most: float | None = None
    """The most that the share may be at 99%, by the scatter of the rows that it was measured on."""
    skill: float | None = None
    """The network's skill: 1 - squared error / variance, for classes of the probabilities."""
    reference: float | None = None
    """The same of ridge regression over the inputs and random relu features, on held-back rows."""
    linear: float | None = None
    """The same of ridge regression over the inputs alone."""
    by_absolute_error: bool = False
    """Whether both skills are those of the absolute error, which trains it, beside the median."""
    share_with_batch_statistics: float | None = None
    """The share with BatchNorm's batch statistics, where these were compared."""
    unjudged: str | None = None
    """Why it is not applicable, as a clause; None where it is."""


class LearnedMeasured(Record, kw_only=True, omit_defaults=True):
    """What `learned` measured."""

    outputs: tuple[OutputShare, ...] = ()
    """One for each output of the model."""
    epochs: int | None = None
    """Epochs that were trained."""
    loss: float | None = None
    """Keras's loss of the last of them, without what regularizers of weights add to it."""
    slope: float | None = None
    """Change of the loss an epoch, over the last quarter of the epochs; None where it has been
    lower before."""

    lenient: str | None = None
    """Why an output that has learnt little is no failure, as a clause; None where it is."""


class LearnedLimits(Record, kw_only=True, omit_defaults=True):
    """Shares of the reference's skill."""

    fail_below: float | None = None
    """Share below which it fails."""
    warn_below: float | None = None
    """Share below which it warns."""


class LearnedCheck(Check, tag="learned", kw_only=True):
    """Whether the network has learnt what there is to learn; after the last phase."""

    measured: LearnedMeasured = LearnedMeasured()
    """What was measured."""
    limits: LearnedLimits = LearnedLimits()
    """The limits that the verdict was taken against."""

    def share(self) -> float | None:
        """Lowest share over the outputs; None where it is applicable to none."""
        shares = [each.share for each in self.measured.outputs if each.share is not None]
        return min(shares, default=None)

    def falls_short(self) -> bool:
        """Whether less was learnt than a share that passes, and it is a warning all the same."""
        share, limits = self.share(), self.limits
        return (
            self.verdict == "warn"
            and self.measured.lenient is None
            and share is not None
            and is_below(share, limits.warn_below)
        )

    def surely_falls_short(self) -> bool:
        """Whether it falls short by more than the scatter of the rows may make of enough.

        Of a class of few rows a share tells little: of fourteen rows in a thousand one of 0.42 may
        be more than 0.8, and trainings with the greater one were no better on other rows.
        """
        return self.falls_short() and self._is_surely_below(self.limits.warn_below)

    def is_surely_behind(self) -> bool:
        """Whether it is behind by more than that."""
        return self.is_behind() and self._is_surely_below(self.limits.fail_below)

    def _is_surely_below(self, limit: float | None) -> bool:
        return any(
            each.share is not None
            and is_below(each.share if each.share_at_most is None else each.share_at_most, limit)
            for each in self.measured.outputs
        )

    def is_behind(self) -> bool:
        """Whether less was learnt than a share that does not fail, whatever the verdict."""
        share = self.share()
        return share is not None and is_below(share, self.limits.fail_below)

    def was_falling(self) -> bool:
        """Whether the loss still fell by a tenth in the last quarter of the epochs."""
        epochs, loss, slope = self.measured.epochs, self.measured.loss, self.measured.slope
        if epochs is None or loss is None or slope is None:
            return False
        fallen = -slope * -(-epochs // 4)
        return fallen > 0.1 * abs(loss + fallen)

    def reading(self) -> str:
        """The share of every output."""
        told = []
        for each in self.measured.outputs:
            if each.share is not None:
                named = f"output {each.name}: " if each.name else ""
                told.append(
                    f"{named}share {each.share:.3g}: skill {each.skill:.3g} of {each.reference:.3g}"
                )
        return "; ".join(told) or self.reason

    def bounds(self) -> str:
        """Below which shares it warns and fails."""
        bounds = (("warn", self.limits.warn_below), ("fail", self.limits.fail_below))
        return ", ".join(f"{word} < {bound:g}" for word, bound in bounds if bound is not None)
