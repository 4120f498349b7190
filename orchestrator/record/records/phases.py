"""The phases of an attempt, with their checks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Annotated, TypeVar

from msgspec import Meta
from msgspec.structs import replace

from orchestrator.record.checks import AnyCheck, Check, LearnedCheck, PredictionVarianceCheck
from orchestrator.record.encoding import Record
from orchestrator.record.records.failures import Failure, UnitsLost

INIT = "init"
"""Name of phase 0, which has no epochs."""

FILE_NAME = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$"
"""Pattern of a text that can be part of a file's name, and leads into no other folder."""

_OF_UNITS = ("dead_neurons", "prediction_variance", "learned")
"""Checks that dead units may make fail."""

C = TypeVar("C", bound=Check)


class Phase(Record, kw_only=True):
    """One finished phase of an attempt."""

    phase: Annotated[str, Meta(pattern=FILE_NAME)]
    """Name of the phase; part of a file's name."""
    epochs: int
    """Epochs trained in it; fewer than planned when the attempt was stopped early."""
    seconds: float
    """Training and checks together."""
    metrics: dict[str, float]
    """Keras's logged values at the phase's last epoch."""
    first_loss: float | None = None
    """Keras's loss of the first step, before its weights were changed. With `steps_per_execution`
    the mean of so many steps, and None where that is not finite."""
    highest_loss: float | None = None
    """Highest loss of an epoch."""
    lowest_loss: float | None = None
    """Lowest loss of an epoch, over all phases until then; where the phase has failed, its last
    epoch does not count."""
    lowest_epoch: int | None = None
    """The epoch with that loss, the newest of equals, counted from 1 over all phases."""
    weights: str | None = None
    """Digest of all weights at its end, `sha256:` and 64 hexadecimal digits; None in a record that
    is older than it."""
    lost: UnitsLost | None = None
    """The largest loss of units in an epoch, over all phases until then; where the phase has
    failed, after the epoch with the lowest loss if there is one. None where none was lost, or in a
    record that is older than it."""
    settled: bool = False
    """Whether BatchNorm's moving statistics were settled by forward passes before its checks."""
    checks: tuple[AnyCheck, ...]
    """Verdicts in the order of the checks."""

    def failure(self) -> Failure | None:
        """The first failing check, or None."""
        for check in self.checks:
            if check.verdict == "fail":
                lost = self.lost if check.check in _OF_UNITS else None
                return Failure(
                    check=check.check,
                    phase=self.phase,
                    reason=check.reason,
                    lost=lost if lost is not None and lost.is_most else None,
                )
        return None

    def find(self, kind: type[C]) -> C | None:
        """The check of a kind; None where it was not taken."""
        return next((check for check in self.checks if isinstance(check, kind)), None)

    def skill(self) -> float | None:
        """Lowest skill over the outputs; None where there is none, or one that is not finite.

        Columns of one kind, as pixels are, count all together.
        """
        check = self.find(PredictionVarianceCheck)
        outputs = () if check is None else check.measured.outputs
        known = (output.output_skill() for output in outputs)
        skills = [skill for skill in known if skill is not None]
        return min(skills) if skills and all(map(math.isfinite, skills)) else None

    def share(self) -> float | None:
        """Lowest share of the reference's skill, over the outputs; None where there is none."""
        check = self.find(LearnedCheck)
        return None if check is None else check.share()

    def without_units(self) -> Phase:
        """As `run.json` has it: without the lists with an entry for each unit."""
        return replace(self, checks=tuple(check.without_units() for check in self.checks))


def finished(phases: Sequence[Phase], epoch: int) -> int:
    """See `Attempt.finished`."""
    return sum(end < epoch for end in itertools.accumulate(phase.epochs for phase in phases))
