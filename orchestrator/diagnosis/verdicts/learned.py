"""The check of what was learnt: the network's skill held against that of the reference.

Pure: no model, no file. The definitions are those of the project's design, section 4.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from orchestrator.config.sections.checks import Learned
from orchestrator.diagnosis.skill.learned import Learnt
from orchestrator.record.checks import (
    NO_SKILL,
    LearnedCheck,
    LearnedLimits,
    LearnedMeasured,
    OutputShare,
    Verdict,
)
from orchestrator.record.records import DECLINE

_LITTLE = 0.5
"""Share below which it is called little."""
_ORDER: tuple[Verdict, ...] = ("fail", "warn", "pass", "not_applicable")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Earlier:
    """What the outputs were worth after an earlier phase, measured on every row."""

    phase: str
    """Its name."""
    skills: tuple[float | None, ...]
    """Skill of each column of the outputs, under the loss that trains."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Course:
    """How the training of an attempt went until now."""

    losses: tuple[float, ...] = ()
    """Keras's loss: of the first step, if that is known, and then of every epoch. What regularizers
    of weights add to it is left out, for it falls whatever becomes of the predictions."""
    epochs: int = 0
    """How many epochs those are."""
    earlier: tuple[Earlier, ...] = ()
    """The phases before this one."""

    @property
    def slope(self) -> float | None:
        """Change of the loss an epoch, over the last quarter of the epochs.

        None where it has been lower before: it goes up and down, and a slope says nothing.
        """
        span = math.ceil(self.epochs / 4)
        if not 0 < span < len(self.losses) or not self.losses[-1] <= min(self.losses):
            return None
        return (self.losses[-1] - self.losses[-1 - span]) / span

    def reaches(self, factor: float) -> bool:
        """Whether as many epochs again, at this slope, bring the loss down to a share of itself."""
        slope = self.slope
        if slope is None or not self.losses[-1] > 0:
            return False
        return self.losses[-1] + slope * self.epochs <= factor * self.losses[-1]


def learned(
    found: Sequence[Learnt],
    limits: Learned,
    *,
    skills: Sequence[float | None] = (),
    course: Course = Course(),
    lenient: str | None = None,
    batch: Sequence[Learnt] | None = None,
) -> LearnedCheck:
    """The verdict on what was learnt.

    Args:
        found: what each output has learnt.
        limits: the config's limits.
        skills: skill of each column of the outputs, under the loss that trains.
        course: how the training went.
        lenient: why nothing fails, as a clause; None where it may.
        batch: what each output has learnt with BatchNorm's batch statistics, where that was needed.

    Returns:
        The worst verdict over the outputs, with the reason of the first that has it.
    """
    judged = [_judge(each, limits, course) for each in found]
    verdicts: list[tuple[Verdict, str]] = [
        (verdict, f"output {each.name}: {reason}" if each.name else reason)
        for each, (verdict, reason) in zip(found, judged, strict=True)
    ]
    lively = [None] * len(found) if batch is None else [each.share for each in batch]
    for index, better in enumerate(lively):
        verdict, reason = verdicts[index]
        if verdict == "fail" and better is not None and better >= limits.fail_below:
            verdicts[index] = (verdict, f"{reason}; {_lag(better)}")
    decline = _decline(skills, course.earlier)
    if decline is not None:
        verdicts.insert(0, ("fail", decline))
    none: tuple[Verdict, str] = ("not_applicable", "the model has no output")
    verdict, reason = min(verdicts, key=lambda each: _ORDER.index(each[0]), default=none)
    if verdict == "fail" and lenient is not None:
        verdict, reason = "warn", f"{reason}; {lenient}"
    return LearnedCheck(
        verdict=verdict,
        reason=reason,
        measured=LearnedMeasured(
            outputs=tuple(map(_recorded, found, lively)),
            epochs=course.epochs or None,
            loss=course.losses[-1] if course.epochs else None,
            slope=course.slope,
            lenient=lenient,
        ),
        limits=LearnedLimits(fail_below=limits.fail_below, warn_below=limits.warn_below),
    )


def _lag(share: float) -> str:
    return f"with the batch's statistics the share is {share:.2g}: BatchNorm's moving ones lag"


def _judge(learnt: Learnt, limits: Learned, course: Course) -> tuple[Verdict, str]:
    share, skill, reference = learnt.share, learnt.skill, learnt.reference
    if share is None or skill is None or reference is None:
        return "not_applicable", learnt.unjudged or "it was not measured"
    shown = (
        f"skill {skill:.3g} where the reference has {reference:.3g} on held-back rows: "
        f"a share of {share:.2g}"
    )
    if not share < limits.warn_below:
        return "pass", f"{shown} (limit {limits.fail_below:g})"
    if not share < limits.fail_below:
        return "warn", f"{shown} (limit {limits.warn_below:g}): more can be learnt"
    shown += f" (limit {limits.fail_below:g})"
    if skill < NO_SKILL:
        return "fail", f"{shown}: nothing was learnt of what there is to learn"
    factor = (1 - limits.fail_below * reference) / (1 - skill)
    if course.reaches(factor):
        return "warn", f"{shown}: undertrained, the loss is still falling"
    if not share < _LITTLE:
        return "fail", f"{shown}: more can be learnt"
    return "fail", f"{shown}: little was learnt of what there is to learn"


def _decline(skills: Sequence[float | None], earlier: Sequence[Earlier]) -> str | None:
    """Where an output was much better after an earlier phase."""
    lost = [
        (before - now, before, now, each.phase)
        for each in earlier
        for now, before in zip(skills, each.skills, strict=False)
        if now is not None and before is not None and before - now > DECLINE
    ]
    if not lost:
        return None
    _, before, now, phase = max(lost)
    return (
        f"skill {now:.3g}, which was {before:.3g} after phase {phase}: what came after that has "
        "damaged the network"
    )


def _recorded(learnt: Learnt, with_batch_statistics: float | None) -> OutputShare:
    return OutputShare(
        output=learnt.output,
        name=learnt.name or None,
        share=learnt.share,
        share_at_most=None if learnt.share is None else learnt.share_at_most,
        skill=learnt.skill,
        reference=learnt.reference,
        linear=learnt.linear,
        by_absolute_error=learnt.by_absolute_error,
        share_with_batch_statistics=with_batch_statistics,
        unjudged=learnt.unjudged,
    )
