"""The attempts of a run, each a training under one set of settings."""

from __future__ import annotations

import math
from typing import Literal

from orchestrator.record.encoding import Record
from orchestrator.record.records.candidates import Candidate, Racer
from orchestrator.record.records.failures import Failure
from orchestrator.record.records.findings import Finding
from orchestrator.record.records.phases import INIT, Phase, finished
from orchestrator.record.records.settings import Change, Settings, Start

DECLINE = 0.2
"""Skill that is lost between two phases without notice (design, section 4)."""

DIVERGED = 3.0
"""An epoch's loss this many times that of the untrained network means that steps were too large: a
network that dies for want of luck goes to the loss of a constant, which is less."""

NEAR_USUAL = 10.0
"""Up to so many times its usual rate an optimizer is at a usual one still."""

AttemptStatus = Literal["running", "passed", "failed", "crashed", "interrupted"]

Standardization = dict[str, dict[str, dict[str, list[float]]]]
"""Mean and variance of each column, under `inputs` by the path of the input, under `targets` by the
name of the output."""


class Attempt(Record, kw_only=True):
    """One training under one set of settings."""

    attempt: int
    """Number, counted from 1."""
    status: AttemptStatus
    """How it ended, or `running`."""
    remedy: str | None = None
    """The remedy that led to it; None for the first."""
    rung: str | None = None
    """Key of the rung that led to it in the resolved config, such as `restart.policy.3.rungs.0`;
    None for the first, and in a record that is older than it."""
    start: Start | None = None
    """What it goes on from; None where it trains from the beginning. The phases and epochs before
    that are listed in it as those of the other attempt."""
    cause: Failure | None = None
    """The failure of the attempt before, which the remedy answers."""
    changed: dict[str, Change] = {}
    """Settings that differ from the attempt before: `{name: {"from", "to"}}`."""
    passed_over: tuple[str, ...] = ()
    """Rungs of the policy that could not be applied, each with its reason."""
    obstacles: dict[str, str] = {}
    """Remedies that its model cannot carry, each with the reason and the way out."""
    standardization: Standardization = {}
    """What a remedy has standardised inside its model."""
    sound_rate: float | None = None
    """A learning rate at which most networks train with its optimizer; None where none is known."""
    planned_rate: float | None = None
    """The highest rate of its longest phase, as the config has it; None where that is not known."""
    restarts: int = 0
    """How often its worker was started again."""
    settings: Settings
    """The settings."""
    failure: Failure | None = None
    """Why it failed or crashed."""
    screened: tuple[Candidate, ...] = ()
    """The candidate seeds that were looked at before it trained, in order; with none, or where all
    were rejected, it has the first one."""
    raced: tuple[Racer, ...] = ()
    """What was tried for a few epochs before it, in order: it goes on from the one that has no
    `reason`, and the others are no attempts."""
    findings: tuple[Finding, ...] = ()
    """What it points to: first what was found before its training, then what its failure shows."""
    learning_rates: dict[str, float] = {}
    """Highest learning rate of each phase so far."""
    phases: tuple[Phase, ...] = ()
    """Finished phases in order, `init` first."""
    seconds: float = 0.0
    """Wall-clock time."""

    def blamed_phase(self) -> str | None:
        """Name of the phase whose steps a failure comes from; None where it never trained.

        That is the first one after which much of the skill that was there before had gone, and
        otherwise the one that failed: a phase at a usual rate often fails by what one at too high
        a rate has left to it. Where findings say that a rate was far above the usual one, it is the
        phase that had it.
        """
        skills: list[float] = []
        for phase in self.phases[1:]:
            skill = phase.skill()
            if skill is not None and max(skills, default=skill) - skill > DECLINE:
                return phase.phase
            if skill is not None:
                skills.append(skill)
        failed = None if self.failure is None else self.failure.phase
        usual, rate = self.usual_rate(), self.learning_rates.get(failed or "")
        if usual is not None and rate is not None and rate <= NEAR_USUAL * usual:
            return max(self.learning_rates, key=lambda phase: self.learning_rates[phase])
        return failed

    @property
    def trained(self) -> int:
        """Epochs that it has trained itself in its finished phases, and the losers of its race."""
        before = 0 if self.start is None else self.start.epoch
        raced = sum(each.epochs for each in self.raced if each.reason is not None)
        return max(sum(phase.epochs for phase in self.phases) - before, 0) + raced

    def finished(self, epoch: int) -> int:
        """How many of its phases, `init` among them, were finished at an epoch's end.

        Args:
            epoch: its number, counted from 1 over all phases. Where a phase ends with it, that one
                is not finished: its checks come after.
        """
        return finished(self.phases, epoch)

    def was_improving(self) -> bool:
        """Whether it failed for having learnt too little, with its lowest loss at its end."""
        if self.failure is None or self.failure.check != "learned" or not self.phases:
            return False
        last = self.phases[-1]
        final = last.metrics.get("loss")
        if self.diverged():  # what falls back to where it began is not on its way
            return False
        if final is None or last.lowest_loss is None:
            return False
        # The last epoch of a phase that has failed is not among those of the lowest loss.
        counted = last.failure() is None
        return final < last.lowest_loss or (counted and final == last.lowest_loss)

    def usual_rate(self) -> float | None:
        """The optimizer's usual rate, where findings say that the highest one is far above it."""
        fixes = [each.fix for each in self.findings if each.cause == "unusual_rate" and each.fix]
        named = [each.usual_rate for each in fixes if each.usual_rate is not None]
        # Records of before have it as a share of the highest rate.
        highest = max(self.learning_rates.values(), default=0.0)
        factors = [each.learning_rate_factor for each in fixes if each.usual_rate is None]
        shares = [each * highest for each in factors if each is not None and each < 1]
        return min(named + shares, default=None)

    def began_non_finite(self) -> bool:
        """Whether the loss of its first step was NaN or infinite, before any weight changed."""
        first = next((each.first_loss for each in self.phases if each.first_loss is not None), 0.0)
        return not math.isfinite(first)

    def diverged(self) -> bool:
        """Whether its last trained phase had an epoch with a loss far above the untrained one."""
        trained = [phase for phase in self.phases if phase.highest_loss is not None]
        if not trained:
            return False
        first, highest = trained[0].first_loss, trained[-1].highest_loss
        if first is None or highest is None:
            return False
        if first <= 0:  # a loss that goes below zero has no measure
            return not math.isfinite(highest)
        return not highest <= DIVERGED * first

    def told_findings(self) -> tuple[Finding, ...]:
        """What it points to, each once: training confirms what was suspected, or says more."""
        seen = {
            (each.cause, each.key) for each in self.findings if each.found == "after" and each.key
        }
        told = [
            each for each in self.findings
            if each.found == "after" or (each.cause, each.key) not in seen
        ]  # fmt: skip
        return tuple({each.told: each for each in reversed(told)}.values())[::-1]

    def skill(self) -> float | None:
        """Lowest skill over the outputs after its last phase; None where it never trained."""
        if not self.phases or self.phases[-1].phase == INIT:
            return None
        return self.phases[-1].skill()
