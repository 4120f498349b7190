"""The remedies of the learning rate: of each its arguments, and what it makes of the settings.

`learning_rate.Rates` is where settings become rates.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from msgspec.structs import replace
from pydantic import BeforeValidator, Field

from orchestrator.config.sections.base import Off, flag
from orchestrator.config.sections.rung import Rung, obstacles
from orchestrator.config.sections.when import When
from orchestrator.errors import short
from orchestrator.record.records import Attempt, Cause, Settings


def _auto_or_share(value: Any) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if value != "auto" and not (number and 0 < value < 1):
        raise ValueError(f"expected auto, or more than 0 and less than 1, received {short(value)}")
    return value


_Share = Annotated[float, Field(gt=0, lt=1)]


class LowerLearningRate(Rung):
    """Cap every learning rate at a fraction of the highest rate of the phase that is to blame."""

    remedy: Literal["lower_learning_rate"] = "lower_learning_rate"
    """The remedy."""
    factor: Annotated[
        Literal["auto"] | float,
        BeforeValidator(_auto_or_share, json_schema_input_type=Literal["auto"] | _Share),
    ] = 0.1
    """The fraction; `auto` means two thirds of the way, on a logarithmic scale, to the highest
    lower rate that an earlier phase of the same attempt survived, or else to the usual rate that
    `unusual_rate` names, but 0.1 at most, and where there is neither."""
    momentum: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Momentum that SGD is given where it has none, where a finding names its usual rate and the
    training starts again: the cap is that rate then, or what the size of the model allows, which
    with a momentum of 0.9 goes as far in a step as ten times that rate does without. null gives
    none."""
    anneal: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of the cap that is left of it in the last epoch of each phase, over whose second half
    it falls, where the training starts again: what is learnt fast at a high rate gets exact at a
    low one. null leaves the cap as it is."""

    def apply(
        self, settings: Settings, attempts: Sequence[Attempt], last: Settings | None
    ) -> Settings | str:
        """A cap on every rate."""
        failed = attempts[-1]
        phase = failed.blamed_phase()
        rate = None if phase is None else failed.learning_rates.get(phase)
        if failed.was_improving() and failed.usual_rate() is None:
            return "the loss was lower at the end than ever before, and is higher at a lower rate"
        if failed.usual_rate() is None and _names(failed, "unusual_rate"):
            return "the rate is far below the usual one"
        if failed.usual_rate() is None and _names(failed, "rate_too_low"):
            return "the weights got too little far, and get less far at a lower rate"
        if failed.began_non_finite():
            return "the loss was no number before the first step, the rate cannot be the cause"
        if rate is None:
            return "the attempt failed before it trained, the rate cannot be the cause"
        if not 0 < rate < math.inf:
            return f"the highest rate of phase {phase} was {rate:g}, which no cap lowers"
        # After its change was taken back and another rung was tried, the phase has run above this
        # rung's last cap, which did not help.
        held = rate <= (failed.settings.learning_rate_cap or 0.0) * ROUNDED
        if last is not None and last.learning_rate_cap is not None and not held:
            rate = min(rate, last.learning_rate_cap)
        factor = _factor(failed, rate) if self.factor == "auto" else self.factor
        return replace(settings, learning_rate_cap=factor * rate, anneal=None)

    def begin(
        self, settings: Settings, attempts: Sequence[Attempt], last: Settings | None
    ) -> Settings:
        """The settings with a cap that falls, and with momentum.

        For momentum a state of an attempt without one has no place.
        Of 47 networks of four kinds at 30 to 600 times SGD's usual rate, two thirds of the way to
        it bring a median skill of 0.67 (three are lost to NaN), and itself with a momentum of 0.9
        0.97 (none is); for 23 it is better so, for none worse.
        """
        failed = attempts[-1]
        if self.anneal is not None:
            settings = replace(settings, anneal=self.anneal)
        usual, cap, sound = failed.usual_rate(), settings.learning_rate_cap, sound_rate(attempts)
        own = "momentum" in failed.obstacles
        if own and cap and usual and sound and sound < usual:  # by the size of the model
            return replace(settings, learning_rate_cap=min(cap, sound))
        if self.momentum is None or own or settings.momentum is not None:
            return settings
        if cap is None or not (usual or (last is not None and last.momentum is not None)):
            return settings
        cap = min(cap, usual or cap, sound or cap)
        return replace(settings, momentum=self.momentum, learning_rate_cap=cap)


ROUNDED = 1 + 1e-6
"""Rates are recorded as Keras has them, in single precision."""
_LEAST_FACTOR = 1e-3
_FACTOR = 0.1
_APART = 2.0
"""A cap so many times the rate of a phase is another phase's, and leaves room for raising it."""
NEAR = 3.0
"""Within so many times a rate that does, another one does mostly; 8 times SGD's 0.01 did not."""


def _factor(attempt: Attempt, failed: float) -> float:
    """From a rate that failed towards the highest rate that the same attempt survived.

    Two thirds of the way on a logarithmic scale: of a shock at rate 5.0 amid 0.001, a cap halfway
    did not always spare the network. A tenth where no phase before had a lower rate. Where a
    finding says that the rate is far above the usual one, at most three times what is known to do.
    """
    blamed = attempt.blamed_phase()
    before = itertools.takewhile(lambda phase: phase.phase != blamed, attempt.phases[1:])
    survived = [attempt.learning_rates.get(phase.phase, math.inf) for phase in before]
    before_it = max((rate for rate in survived if 0 < rate < failed), default=0.0)
    usual = attempt.usual_rate() or 0.0
    lower = before_it or usual
    if not 0 < lower < failed:
        return _FACTOR
    towards = math.pow(lower / failed, 2 / 3)
    if before_it and usual:
        return min(towards, NEAR * max(before_it, usual) / failed, _FACTOR)
    return min(max(towards, _LEAST_FACTOR), _FACTOR)


def _names(attempt: Attempt, cause: Cause) -> bool:
    return any(each.cause == cause for each in attempt.findings)


def _auto_or_multiple(value: Any) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if value != "auto" and not (number and 1 < value < math.inf):
        raise ValueError(f"expected auto, or more than 1, received {short(value)}")
    return value


_Multiple = Annotated[float, Field(gt=1)]


class RaiseLearningRate(Rung):
    """Multiply every learning rate, where the weights have hardly moved."""

    remedy: Literal["raise_learning_rate"] = "raise_learning_rate"
    """The remedy."""
    when: When | None = ["rate_too_low"]
    """Failures that it answers; null means any."""
    raise_rate: Annotated[Literal[False], BeforeValidator(flag, json_schema_input_type=Off)] = False
    """Always false: higher rates are the remedy."""
    factor: Annotated[
        Literal["auto"] | float,
        BeforeValidator(_auto_or_multiple, json_schema_input_type=Literal["auto"] | _Multiple),
    ] = "auto"
    """How many times as high; `auto` means as they are, where a schedule ends long before the
    training, which then takes all of it; else what `rate_too_low`, `undertrained`, `few_steps` or
    `unusual_rate` says, by how far the weights moved and by what is usual, and at first at least up
    to a rate at which most networks train."""
    momentum: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Momentum that SGD is given where it has none and a finding says that it is slow without; the
    rates are then raised less, where `factor` is `auto`; null gives none."""

    def apply(
        self, settings: Settings, attempts: Sequence[Attempt], last: Settings | None
    ) -> Settings | str:
        """Higher rates than those of the attempt that failed."""
        failed = attempts[-1]
        if is_held(attempts):
            return "a remedy has lowered the rates"
        stretch = _stretch(attempts[-1:])
        if stretch is not None and self.factor == "auto":
            return replace(failed.settings, schedule_stretch=stretch)
        factor: float | str = self.factor
        if factor == "auto":
            told = _told(failed)
            if failed.usual_rate() is not None:
                return "the rate is far above the usual one"
            if not told and (self.rewind or self._gathered(settings, failed) is None):
                return "nothing says how far below the right one the rate is"
            factor = max([*told, _to_sound(attempts)] if told else [1.0])
        before = failed.settings.learning_rate_factor or 1.0
        # What was on its way was so with all that the attempt had, also what did not suffice yet.
        raised = replace(failed.settings, learning_rate_factor=before * float(factor))
        cap = raised.learning_rate_cap
        if cap is not None and cap == sound_rate(attempts):
            raised = replace(raised, learning_rate_cap=cap * float(factor))
        return raised

    def begin(
        self, settings: Settings, attempts: Sequence[Attempt], last: Settings | None
    ) -> Settings:
        """The settings with momentum, and rates that are raised as far as goes with it."""
        failed = attempts[-1]
        factor = self._gathered(settings, failed)
        if factor is None:
            return settings
        factor *= failed.settings.learning_rate_factor or 1.0
        raised = None if factor == 1 else factor
        return replace(settings, momentum=self.momentum, learning_rate_factor=raised)

    def _gathered(self, settings: Settings, failed: Attempt) -> float | None:
        """How many times as high rates are to be with momentum; None where there is to be none."""
        if self.momentum is None or "momentum" in failed.obstacles or settings.momentum is not None:
            return None
        if settings.learning_rate_cap is not None:  # found for steps without momentum
            return None
        if self.factor != "auto":
            return float(self.factor)
        if _stretch([failed]) is not None:
            return None
        fixes = (finding.fix for finding in failed.findings if finding.fix is not None)
        return max((each.factor_with_momentum or 0.0 for each in fixes), default=0.0) or None


def _told(failed: Attempt) -> list[float]:
    """How many times as high a rate findings ask for."""
    fixes = (finding.fix for finding in failed.findings if finding.fix is not None)
    return [each.learning_rate_factor for each in fixes if each.learning_rate_factor]


def _stretch(attempts: Sequence[Attempt]) -> float | None:
    """How many times as long findings want the config's schedule; None where none says."""
    told = [
        finding.fix.schedule_stretch
        for attempt in attempts
        for finding in attempt.findings
        if finding.fix is not None and finding.fix.schedule_stretch is not None
    ]
    return told[-1] if told else None


def _to_sound(attempts: Sequence[Attempt]) -> float:
    """How many times as high a sound rate is as the highest that ran; trained weights have none."""
    sound, highest = sound_rate(attempts), max(attempts[-1].learning_rates.values(), default=0.0)
    if sound is None or "fresh_weights" in obstacles(attempts) or not 0 < highest < sound:
        return 1.0
    return float(f"{sound / highest:.3g}")


ANNEAL = 0.1
"""Share of a cap that is left of it in the last epoch of a phase.

A rate that falls in a straight line is as good as or better than other schedules over many tasks
(Defazio et al., Optimal linear decay learning rate schedules and further refinements, 2023); here
it does so where the rate was far above the usual one, in the second half alone, so that what needs
the way gets it.
"""
MOMENTUM = 0.9
"""Momentum that SGD mostly has (Sutskever, Martens, Dahl and Hinton, On the importance of
initialization and momentum in deep learning, 2013)."""
_TOLD = 1.01
"""A factor is told to three digits."""
_CLOSE = 1.5
"""A rate that is so near to another one does as well."""


def sound_rate(attempts: Sequence[Attempt]) -> float | None:
    """A rate at which most networks train with the optimizer; None where none is known."""
    return next((each.sound_rate for each in attempts if each.sound_rate is not None), None)


def planned_rate(attempts: Sequence[Attempt]) -> float | None:
    """The rate of the longest phase, as the config has it; None where that is not known."""
    return next((each.planned_rate for each in attempts if each.planned_rate), None)


def is_held(attempts: Sequence[Attempt]) -> bool:
    """Whether a remedy held the phase to blame below the rate that it would have had.

    A rate that the longest phase was raised to is a cap for other phases alone.

    Args:
        attempts: all so far, the last one with a failure.
    """
    failed = attempts[-1]
    cap = failed.settings.learning_rate_cap
    rate = failed.learning_rates.get(failed.blamed_phase() or "", math.inf)
    if cap is None or cap >= _APART * rate:
        return False
    by = {each.remedy for each in attempts if each.settings.learning_rate_cap == cap}
    raised = cap == sound_rate(attempts) or "raise_learning_rate" in by
    return (
        "lower_learning_rate" in by
        or not raised
        or is_capped(failed.settings, planned_rate(attempts))
    )


def is_capped(settings: Settings, planned: float | None) -> bool:
    """Whether a cap holds the longest phase below the rate that it would have.

    Args:
        settings: of an attempt.
        planned: the highest rate of that phase as the config has it; None where it is not known.
    """
    if settings.learning_rate_cap is None:
        return False
    own = math.inf if planned is None else planned * (settings.learning_rate_factor or 1.0)
    return own > settings.learning_rate_cap * _TOLD


def at_sound_rate(settings: Settings, attempts: Sequence[Attempt]) -> Settings:
    """At a rate at which most networks train, and with momentum for SGD.

    Where none is known, at the one that findings on the last attempt ask for. A schedule that ends
    long before the training takes all of it.
    """
    settings = replace(settings, schedule_stretch=_stretch(attempts) or settings.schedule_stretch)
    sound, failed = sound_rate(attempts), attempts[-1]
    if sound is None:
        told = _told(failed)
        if not told or failed.usual_rate() is not None or is_held(attempts):
            return settings
        before = failed.settings.learning_rate_factor or 1.0
        return replace(settings, learning_rate_factor=before * max(told))
    planned = planned_rate(attempts) or sound
    hindered = "momentum" in obstacles(attempts)
    momentum = settings.momentum if hindered else settings.momentum or MOMENTUM
    factor = sound / planned if planned * _CLOSE < sound else 1.0
    # Another phase, and one that no attempt has come to yet, may have any rate.
    return replace(
        settings,
        momentum=momentum,
        learning_rate_factor=None if factor == 1 else float(f"{factor:.3g}"),
        learning_rate_cap=sound,
        anneal=ANNEAL if planned > sound * _TOLD else None,
    )
