"""The remedies: of each its arguments, and what it makes of the settings.

`model.build` is where settings become a model, `learning_rate.Rates` where they become rates. What
a change is called stands with the field of `Settings` that holds it.
"""

from __future__ import annotations

import itertools
import math
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import pydantic
from msgspec.structs import replace
from pydantic import BeforeValidator, ConfigDict, Discriminator, Field

from orchestrator.config.sections.base import (
    Flag,
    Off,
    PositiveFloat,
    PositiveInt,
    Section,
    Word,
    flag,
)
from orchestrator.config.sections.when import When
from orchestrator.errors import short, suggestion
from orchestrator.record.checks import DeadNeuronsCheck
from orchestrator.record.records import Attempt, Cause, Settings, Standardized


def _flag_or_only(value: Any) -> Any:
    value = flag(value)
    if value != "only" and not isinstance(value, bool):
        raise ValueError(f"expected true, false or only, received {short(value)}")
    return value


class Rung(Section):
    """One line of the policy: a remedy, and when it is tried.

    Each remedy's `apply` returns the settings after it, the seed aside, or why it cannot be
    applied. It is given the settings to change, all attempts so far, of which the last one has
    failed, and the settings of the last attempt that this rung led to, None for none.
    """

    model_config = ConfigDict(json_schema_extra={"required": ["remedy"]})

    goes_on: ClassVar[bool] = False
    """Whether it goes on from where the failed attempt ended."""

    remedy: str
    """The remedy."""
    times: PositiveInt = 1
    """How often it may be used."""
    when: When | None = None
    """Failures that it answers; null means any."""
    keep: Flag = False
    """Keep its change when the next attempt fails by the same check."""
    keep_seed: Flag = False
    """Do not draw a new seed for the next attempt."""
    raise_rate: Flag = False
    """Also take the higher rate that findings name, where the network is too deep and narrow, or
    the rate far below the usual one."""
    cap_rate: Flag = False
    """Also cap the rate near the usual one, where findings say that it is far above it."""
    rewind: Annotated[
        bool | Literal["only"],
        BeforeValidator(_flag_or_only, json_schema_input_type=bool | Word | Literal["only"]),
    ] = False
    """Go on from the newest epoch at which the failed attempt was healthy, where there is one;
    `only` means that the line is left out where there is none."""

    def begin(
        self, settings: Settings, attempts: Sequence[Attempt], last: Settings | None
    ) -> Settings:
        """The settings after `apply` of an attempt that trains from the beginning.

        One that goes on from a state of the failed attempt cannot have all that this may have.

        Args:
            settings: those that `apply` has made.
            attempts: all so far; the last one has failed.
            last: of the last attempt that this rung led to.
        """
        return settings


class NewSeed(Rung):
    """Train again from another seed."""

    remedy: Literal["new_seed"] = "new_seed"
    """The remedy."""
    keep_seed: Annotated[Literal[False], BeforeValidator(flag, json_schema_input_type=Off)] = False
    """Always false: the new seed is the remedy."""

    def apply(
        self, settings: Settings, attempts: Sequence[Attempt], last: Settings | None
    ) -> Settings | str:
        """The same settings; every restart draws a new seed."""
        return settings


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
    `unusual_rate` names, and 0.1 where there is neither."""
    momentum: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Momentum that SGD is given where it has none, where a finding names its usual rate and the
    training starts again: the cap is that rate then, which with a momentum of 0.9 goes as far in a
    step as ten times that rate does without. null gives none."""

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
        if rate is None:
            return "the attempt failed before it trained, the rate cannot be the cause"
        if not 0 < rate < math.inf:
            return f"the highest rate of phase {phase} was {rate:g}, which no cap lowers"
        # After its change was taken back and another rung was tried, the phase has run above this
        # rung's last cap, which did not help.
        held = rate <= (failed.settings.learning_rate_cap or 0.0) * _ROUNDED
        if last is not None and last.learning_rate_cap is not None and not held:
            rate = min(rate, last.learning_rate_cap)
        factor = _factor(failed) if self.factor == "auto" else self.factor
        return replace(settings, learning_rate_cap=factor * rate)

    def begin(
        self, settings: Settings, attempts: Sequence[Attempt], last: Settings | None
    ) -> Settings:
        """The settings with momentum, for which a state of an attempt without one has no place.

        Of 47 networks of four kinds at 30 to 600 times SGD's usual rate, two thirds of the way to
        it bring a median skill of 0.67 (three are lost to NaN), and itself with a momentum of 0.9
        0.97 (none is); for 23 it is better so, for none worse.
        """
        failed = attempts[-1]
        if self.momentum is None or "momentum" in failed.obstacles or settings.momentum is not None:
            return settings
        usual, cap = failed.usual_rate(), settings.learning_rate_cap
        if cap is None or not (usual or (last is not None and last.momentum is not None)):
            return settings
        return replace(settings, momentum=self.momentum, learning_rate_cap=min(cap, usual or cap))


_ROUNDED = 1 + 1e-6
"""Rates are recorded as Keras has them, in single precision."""
_LEAST_FACTOR = 1e-3
_FACTOR = 0.1
_APART = 2.0
"""A cap so many times the rate of a phase is another phase's, and leaves room for raising it."""
NEAR = 3.0
"""Within so many times a rate that does, another one does mostly; 8 times SGD's 0.01 did not."""


def _factor(attempt: Attempt) -> float:
    """From the rate that failed towards the highest rate that the same attempt survived.

    Two thirds of the way on a logarithmic scale: of a shock at rate 5.0 amid 0.001, a cap halfway
    did not always spare the network. A tenth where no phase before had a lower rate. Where a
    finding says that the rate is far above the usual one, at most three times what is known to do.
    """
    blamed = attempt.blamed_phase()
    failed = attempt.learning_rates.get(blamed or "")
    before = itertools.takewhile(lambda phase: phase.phase != blamed, attempt.phases[1:])
    survived = [attempt.learning_rates.get(phase.phase, math.inf) for phase in before]
    if failed is None or not 0 < failed < math.inf:
        return _FACTOR
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
    """How many times as high; `auto` means what `rate_too_low`, `undertrained`, `few_steps` or
    `unusual_rate` says, by how far the weights moved and by what is usual."""
    momentum: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Momentum that SGD is given where it has none and a finding says that it is slow without; the
    rates are then raised less, where `factor` is `auto`; null gives none."""

    def apply(
        self, settings: Settings, attempts: Sequence[Attempt], last: Settings | None
    ) -> Settings | str:
        """Higher rates than those of the attempt that failed."""
        failed = attempts[-1]
        cap = failed.settings.learning_rate_cap
        rate = failed.learning_rates.get(failed.blamed_phase() or "", math.inf)
        if cap is not None and cap < _APART * rate:
            return "a remedy has lowered the rates"
        factor: float | str = self.factor
        if factor == "auto":
            fixes = (finding.fix for finding in failed.findings if finding.fix is not None)
            told = [each.learning_rate_factor for each in fixes if each.learning_rate_factor]
            if failed.usual_rate() is not None:
                return "the rate is far above the usual one"
            if not told and (self.rewind or self._gathered(settings, failed) is None):
                return "nothing says how far below the right one the rate is"
            factor = max(told, default=1.0)
        before = failed.settings.learning_rate_factor or 1.0
        # What was on its way was so with all that the attempt had, also what did not suffice yet.
        return replace(failed.settings, learning_rate_factor=before * float(factor))

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
        fixes = (finding.fix for finding in failed.findings if finding.fix is not None)
        return max((each.factor_with_momentum or 0.0 for each in fixes), default=0.0) or None


class _GoesOn(Rung):
    """A remedy that goes on from where the failed attempt ended, with more epochs."""

    goes_on: ClassVar[bool] = True

    factor: Annotated[float, Field(gt=1, allow_inf_nan=False)] = 2.0
    """How many times as many epochs the last phase is to have as it had in that attempt."""
    more_epochs: PositiveInt | None = None
    """How many more epochs it is to have, whatever the factor; null means that the factor says."""

    def _lengthen(self, settings: Settings, failed: Attempt) -> Settings | str:
        check = None if failed.failure is None else failed.failure.check
        if check not in _OF_WORTH or not failed.phases:
            return f"more epochs do not answer a failure of {check}"
        trained = failed.phases[-1].epochs
        more = self.more_epochs or max(round((self.factor - 1) * trained), 1)
        return replace(settings, more_epochs=(settings.more_epochs or 0) + more)


_OF_WORTH = ("prediction_variance", "learned", "metric")
"""Checks that fail where the predictions are worth too little."""


class TrainLonger(_GoesOn):
    """Go on from where the failed attempt ended, with more epochs of the last phase.

    With the same seed, which is kept by default, that is the training of a config with so many
    epochs.
    """

    remedy: Literal["train_longer"] = "train_longer"
    """The remedy."""
    when: When | None = ["undertrained"]
    """Failures that it answers; null means any that a longer training may mend."""
    keep_seed: Flag = True
    """Do not draw a new seed, which would be another order of the rows."""

    def apply(
        self, settings: Settings, attempts: Sequence[Attempt], last: Settings | None
    ) -> Settings | str:
        """More epochs of the last phase."""
        failed = attempts[-1]
        return self._lengthen(settings, failed)


class Revive(_GoesOn):
    """Go on from where the failed attempt ended, with fresh weights for its dead units.

    The prediction is the same at that moment; what the fresh units learn takes more epochs of the
    last phase.
    """

    remedy: Literal["revive"] = "revive"
    """The remedy."""
    when: When | None = ["crippled"]
    """Failures that it answers; null means any of a network with many dead units."""

    def apply(
        self, settings: Settings, attempts: Sequence[Attempt], last: Settings | None
    ) -> Settings | str:
        """More epochs of the last phase, where many units are dead."""
        failed = attempts[-1]
        changed = self._lengthen(settings, failed)
        if isinstance(changed, str):
            return changed
        check = failed.phases[-1].find(DeadNeuronsCheck)
        layers = () if check is None else check.measured.layers
        units, dead = sum(each.units for each in layers), sum(each.dead for each in layers)
        if not dead or dead < _MANY * units:
            return f"{dead} of {units} units are dead, too few to be the cause"
        return changed


_MANY = 0.25
"""Share of all units that are dead where a network is crippled by that: after a shock half are, and
of healthy networks a fifth may be."""


class LeakyRelu(Rung):
    """Replace every hidden relu by leaky relu."""

    remedy: Literal["leaky_relu"] = "leaky_relu"
    """The remedy."""
    negative_slope: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Slope below zero. At 0.01 a deep narrow net can still collapse; at 0.2 none did."""

    def apply(
        self, settings: Settings, attempts: Sequence[Attempt], last: Settings | None
    ) -> Settings | str:
        """Leaky relu in every hidden place of relu."""
        if settings.negative_slope == self.negative_slope:
            return f"the slope is {self.negative_slope} already"
        return replace(settings, negative_slope=self.negative_slope)


class Reinitialize(Rung):
    """Put another initializer on the kernels of hidden layers, and zeros on their biases."""

    remedy: Literal["reinitialize"] = "reinitialize"
    """The remedy."""
    initializer: Annotated[str, Field(min_length=1)] = "he_normal"
    """Keras's name of the initializer."""

    def apply(
        self, settings: Settings, attempts: Sequence[Attempt], last: Settings | None
    ) -> Settings | str:
        """Another initializer on hidden kernels, zeros on hidden biases."""
        if settings.initializer == self.initializer:
            return f"the initializer is {self.initializer} already"
        return replace(settings, initializer=self.initializer)


class ClipGradients(Rung):
    """Scale the gradients of a step down where their norm is above a bound."""

    remedy: Literal["clip_gradients"] = "clip_gradients"
    """The remedy."""
    norm: PositiveFloat = 1.0
    """Bound on the norm of all gradients taken together, Keras's `global_clipnorm`."""

    def apply(
        self, settings: Settings, attempts: Sequence[Attempt], last: Settings | None
    ) -> Settings | str:
        """A bound on the norm of the gradients."""
        if settings.clip_norm is not None and settings.clip_norm <= self.norm:
            return f"the norm is clipped to {settings.clip_norm:g} already"
        return replace(settings, clip_norm=self.norm)


class Standardize(Rung):
    """Shift and scale the inputs, or the targets of a regression, that findings name."""

    remedy: Literal["standardize"] = "standardize"
    """The remedy."""
    times: PositiveInt = 2
    """How often it may be used: of the targets it may only show once the inputs are scaled."""
    when: When | None = ["unscaled_inputs", "distant_targets"]
    """Failures that it answers; null means any, and what no finding names is left as it is."""
    keep: Flag = True
    """Keep its change when the next attempt fails by the same check: other settings do no better on
    rows out of scale."""

    def apply(
        self, settings: Settings, attempts: Sequence[Attempt], last: Settings | None
    ) -> Settings | str:
        """Inputs and targets out of scale are standardised inside the model."""
        failed = attempts[-1]
        causes = {finding.cause for finding in failed.findings}
        before, parts, reasons = settings.standardize or "", list[str](), list[str]()
        for part, cause in _OUT_OF_SCALE.items():
            obstacle = failed.obstacles.get(f"standardize {part}")
            if part in before or (cause in causes and obstacle is None):
                parts.append(part)
            elif cause in causes and obstacle is not None:
                reasons.append(obstacle)
        if parts and " and ".join(parts) != before:
            return replace(settings, standardize=_STANDARDIZED[tuple(parts)])
        if reasons:
            return "; ".join(reasons)
        if parts:
            return f"the {before} are standardised already"
        return "no finding says that inputs or targets are out of scale"


_OUT_OF_SCALE: Mapping[str, Cause] = {"inputs": "unscaled_inputs", "targets": "distant_targets"}
"""The cause that says of each that it is out of scale."""
_STANDARDIZED: Mapping[tuple[str, ...], Standardized] = {
    ("inputs",): "inputs",
    ("targets",): "targets",
    ("inputs", "targets"): "inputs and targets",
}


class FixOutput(Rung):
    """Put the activation on an output, or the loss, that a certain finding asks for."""

    remedy: Literal["fix_output"] = "fix_output"
    """The remedy."""
    when: When | None = ["one_unit_softmax", "unreachable_targets", "loss_mismatch"]
    """Failures that it answers; null means any other failure of a training."""

    def apply(
        self, settings: Settings, attempts: Sequence[Attempt], last: Settings | None
    ) -> Settings | str:
        """What findings say has to make an output, and to train it."""
        failed = attempts[-1]
        fixes = [finding.fix for finding in failed.findings if finding.fix is not None]
        fixes = [each for each in fixes if each.told]
        if not fixes:
            return "what to write instead depends on what is meant, so that it is left to you"
        activations = {each.output: each.activation for each in fixes if each.activation}
        losses = {each.output: each.loss for each in fixes if each.loss}
        standardize = settings.standardize
        if any(each.standardize for each in fixes) and "targets" not in (standardize or ""):
            parts = ("targets",) if standardize is None else ("inputs", "targets")
            standardize = _STANDARDIZED[parts]
        changed = replace(
            settings,
            output_activation={**(settings.output_activation or {}), **activations} or None,
            output_loss={**(settings.output_loss or {}), **losses} or None,
        )
        if changed == settings:
            return "the output is changed already"
        return replace(changed, standardize=standardize)


class UsualSettings(Rung):
    """Take all at once what is known to train most networks.

    That is a usual rate, momentum, fresh initial weights, leaky relu, and inputs and targets that
    are standardised, each where the model can carry it. For what fails by several faults, and for
    what fails by one that nothing names.
    """

    remedy: Literal["usual_settings"] = "usual_settings"
    """The remedy."""
    rewind: Annotated[Literal[False], BeforeValidator(flag, json_schema_input_type=Off)] = False
    """Always false: it is another network."""
    raise_rate: Annotated[Literal[False], BeforeValidator(flag, json_schema_input_type=Off)] = False
    """Always false: it has a rate of its own."""
    cap_rate: Annotated[Literal[False], BeforeValidator(flag, json_schema_input_type=Off)] = False
    """Always false, likewise."""

    def apply(
        self, settings: Settings, attempts: Sequence[Attempt], last: Settings | None
    ) -> Settings | str:
        """Usual settings throughout; what was made of the output stays.

        At its second use they are the same, from another seed.
        """
        before, hindered = attempts[-1].settings, obstacles(attempts)
        parts = [part for part in _OUT_OF_SCALE if part in (before.standardize or "")
                 or f"standardize {part}" not in hindered]  # fmt: skip
        usual = replace(
            settings,
            clip_norm=None,
            output_activation=before.output_activation,
            output_loss=before.output_loss,
            standardize=_STANDARDIZED[tuple(parts)] if parts else None,
        )
        if "fresh_weights" not in hindered:
            usual = _at_sound_rate(usual, attempts)
            if "leaky_relu" not in hindered:
                usual = replace(usual, negative_slope=LeakyRelu().negative_slope)
            if "reinitialize" not in hindered:
                usual = replace(usual, initializer=Reinitialize().initializer)
            if "momentum" not in hindered:
                usual = replace(usual, momentum=_MOMENTUM)
        if usual == before and "new_seed" in hindered:
            return hindered["new_seed"]
        return usual


_MOMENTUM = 0.9
_CLOSE = 1.5
"""A rate that is so near to another one does as well."""


def _at_sound_rate(settings: Settings, attempts: Sequence[Attempt]) -> Settings:
    """At a rate at which most networks train with this optimizer, where one is known."""
    sound = next((each.sound_rate for each in attempts if each.sound_rate is not None), None)
    if sound is None:
        return settings
    planned = next((each.planned_rate for each in attempts if each.planned_rate), sound)
    factor = sound / planned if planned * _CLOSE < sound else 1.0
    # Another phase, and one that no attempt has come to yet, may have any rate.
    return replace(
        settings,
        learning_rate_factor=None if factor == 1 else float(f"{factor:.3g}"),
        learning_rate_cap=sound,
    )


def obstacles(attempts: Sequence[Attempt]) -> dict[str, str]:
    """Remedies that the model cannot carry, as the first attempts found them.

    A model that a remedy has changed has nothing to say against that remedy any more.

    Args:
        attempts: all so far.
    """
    found: dict[str, str] = {}
    for attempt in attempts:
        found = {**attempt.obstacles, **found}
    return found


AnyRemedy = (
    Annotated[NewSeed, pydantic.Tag("<new_seed>")]
    | Annotated[LowerLearningRate, pydantic.Tag("<lower_learning_rate>")]
    | Annotated[LeakyRelu, pydantic.Tag("<leaky_relu>")]
    | Annotated[Reinitialize, pydantic.Tag("<reinitialize>")]
    | Annotated[ClipGradients, pydantic.Tag("<clip_gradients>")]
    | Annotated[Standardize, pydantic.Tag("<standardize>")]
    | Annotated[FixOutput, pydantic.Tag("<fix_output>")]
    | Annotated[RaiseLearningRate, pydantic.Tag("<raise_learning_rate>")]
    | Annotated[TrainLonger, pydantic.Tag("<train_longer>")]
    | Annotated[Revive, pydantic.Tag("<revive>")]
    | Annotated[UsualSettings, pydantic.Tag("<usual_settings>")]
)
"""All of them; everything else that goes over the remedies follows from this."""

TAGGED: dict[str, type[Rung]] = {
    tag.tag: kind for kind, tag in map(typing.get_args, typing.get_args(AnyRemedy))
}
"""The remedies by the tags that pydantic puts into locations."""
REMEDIES: tuple[str, ...] = tuple(tag.strip("<>") for tag in TAGGED)
"""Their names, in no order."""

RemedyName = Annotated[str, Field(json_schema_extra={"enum": list(REMEDIES)})]


def rung_tag(value: Any) -> str | None:
    """The tag of a rung, None where it names no remedy."""
    remedy = value.get("remedy") if isinstance(value, Mapping) else getattr(value, "remedy", None)
    return f"<{remedy}>" if remedy in REMEDIES else None


def rung_by_name(value: Any) -> Any:
    """`- new_seed` is short for `- {remedy: new_seed}`."""
    value = {"remedy": value} if isinstance(value, str) else value
    if isinstance(value, Mapping) and "remedy" in value and value["remedy"] not in REMEDIES:
        raise ValueError(
            f"unknown remedy {short(value['remedy'])}; {suggestion(str(value['remedy']), REMEDIES)}"
        )
    return value


EXPECTED = f"{{remedy: NAME}} with one of {', '.join(REMEDIES)}"
_Tagged = Annotated[
    AnyRemedy,
    Discriminator(rung_tag, custom_error_type="rung", custom_error_message=EXPECTED),
]
AnyRung = Annotated[
    _Tagged, BeforeValidator(rung_by_name, json_schema_input_type=_Tagged | RemedyName)
]
"""A line of the policy that is one remedy."""
