"""The remedies: of each its arguments, and what it makes of the settings.

`model.build` is where settings become a model, `learning_rate.Rates` where they become rates. What
a change is called stands with the field of `Settings` that holds it.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import pydantic
from msgspec.structs import replace
from pydantic import BeforeValidator, Discriminator, Field

from orchestrator.config.sections.base import (
    Flag,
    Off,
    PositiveFloat,
    PositiveInt,
    flag,
)
from orchestrator.config.sections.rates import LowerLearningRate, RaiseLearningRate, at_sound_rate
from orchestrator.config.sections.rung import Rung, obstacles
from orchestrator.config.sections.scales import OUT_OF_SCALE, FixOutput, Standardize, standardized
from orchestrator.config.sections.when import When
from orchestrator.errors import short, suggestion
from orchestrator.record.checks import DeadNeuronsCheck, LearnedCheck
from orchestrator.record.records import Attempt, Settings


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
        return replace(settings, more_epochs=(failed.settings.more_epochs or 0) + more)


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
        if settings.negative_slope is not None and settings.negative_slope >= self.negative_slope:
            return f"the slope is {settings.negative_slope} already"
        return replace(settings, negative_slope=self.negative_slope)


class Reinitialize(Rung):
    """Put another initializer on the kernels of hidden layers, and zeros on their biases."""

    remedy: Literal["reinitialize"] = "reinitialize"
    """The remedy."""
    initializer: Annotated[str, Field(min_length=1)] = "he_normal"
    """Keras's name of the initializer."""
    rewind: Annotated[Literal[False], BeforeValidator(flag, json_schema_input_type=Off)] = False
    """Always false: a rewind brings the weights of the failed attempt back."""

    def apply(
        self, settings: Settings, attempts: Sequence[Attempt], last: Settings | None
    ) -> Settings | str:
        """Another initializer on hidden kernels, zeros on hidden biases."""
        if settings.initializer == self.initializer:
            return f"the initializer is {self.initializer} already"
        return replace(settings, initializer=self.initializer)


class ClipGradients(Rung):
    """Scale the gradients of a step down where their norm is above a bound.

    A bound of the config's own stays, unless `clipped` says that it is so low that nothing moves.
    """

    remedy: Literal["clip_gradients"] = "clip_gradients"
    """The remedy."""
    norm: PositiveFloat = 1.0
    """Bound on the norm of all gradients taken together, Keras's `global_clipnorm`."""

    def apply(
        self, settings: Settings, attempts: Sequence[Attempt], last: Settings | None
    ) -> Settings | str:
        """A bound on the norm of the gradients."""
        own = obstacles(attempts).get("clipping")
        if own is not None and not _is_clipped(attempts[-1:]):
            return own
        if settings.clip_norm is not None and settings.clip_norm <= self.norm:
            return f"the norm is clipped to {settings.clip_norm:g} already"
        return replace(settings, clip_norm=self.norm)


def _is_clipped(attempts: Sequence[Attempt]) -> bool:
    """Whether findings say that the config's own bound on gradients keeps weights from moving."""
    return any(each.cause == "clipped" for attempt in attempts for each in attempt.findings)


class LowerDropout(Rung):
    """Let no Dropout layer leave more out than a share, by default nothing."""

    remedy: Literal["lower_dropout"] = "lower_dropout"
    """The remedy."""
    rate: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The highest share that a Dropout layer leaves out; 0 switches all of them off."""
    when: When | None = ["heavy_dropout"]
    """Failures that it answers; null means any."""

    def apply(
        self, settings: Settings, attempts: Sequence[Attempt], last: Settings | None
    ) -> Settings | str:
        """A bound on every rate of dropout."""
        if settings.dropout_cap is not None and settings.dropout_cap <= self.rate:
            return f"dropout is at most {settings.dropout_cap:g} already"
        return replace(settings, dropout_cap=self.rate)


USUAL_PENALTY = 1e-4
"""Strength of a regularizer that seldom holds a network back, as of ImageNet's ResNets (He, Zhang,
Ren and Sun, Deep residual learning for image recognition, 2016)."""


class LowerPenalty(Rung):
    """Let no penalty on weights be stronger than what seldom holds a network back."""

    remedy: Literal["lower_penalty"] = "lower_penalty"
    """The remedy."""
    strength: PositiveFloat = USUAL_PENALTY
    """The highest strength of a regularizer, such as `l2`, and of an optimizer's decay."""
    when: When | None = ["over_regularised"]
    """Failures that it answers; null means any."""

    def apply(
        self, settings: Settings, attempts: Sequence[Attempt], last: Settings | None
    ) -> Settings | str:
        """A bound on the strength of every penalty."""
        if settings.penalty_cap is not None and settings.penalty_cap <= self.strength:
            return f"penalties are at most {settings.penalty_cap:g} already"
        return replace(settings, penalty_cap=self.strength)


_USUAL_SLOPE = 0.3
"""Keras's own for leaky relu.

Of 256 networks with nine layers of two units on |x|, Adam at 0.01 for 30 epochs, 0.94 learn with
it, and 0.86 with a slope of 0.2; on a sum of two |x| 0.73 and 0.68 learn half of it.
"""
_NARROW, _FEW = 32, 12
"""Units of a layer, and layers, up to which weights are orthogonal: the few units of such a layer
keep rows apart, which drawn ones may all send to one place (Saxe, McClelland and Ganguli, Exact
solutions to the nonlinear dynamics of learning in deep linear neural networks, 2014).

Of the networks above 0.98 and 0.90 learn so, instead of by `he_normal`; of seven wider shapes, up
to ten layers of 16 and six of 32, none learns less. But behind each layer of leaky relu what comes
through is a quarter smaller: with 20 layers they learn more slowly, with 32 not at all.
"""


def _usual_initializer(attempts: Sequence[Attempt]) -> str:
    """Keras's name of what hidden kernels are drawn by."""
    found = [check for each in attempts for phase in each.phases[:1]
             if (check := phase.find(DeadNeuronsCheck)) is not None]  # fmt: skip
    layers = found[-1].measured.layers if found else ()
    narrow = 0 < len(layers) <= _FEW and all(each.units <= _NARROW for each in layers)
    return "orthogonal" if narrow else Reinitialize().initializer


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

        At its second use they are the same, from another seed: not after a training that was on its
        way when it ended, or that has passed its checks, and was only to learn more. Of ten such
        networks eight learnt less from another seed, and two a share of 0.05 more. But with layers
        so narrow that a seed decides, of which 98% learn with them, what has learnt little was
        unlucky.
        """
        before, hindered = attempts[-1].settings, obstacles(attempts)
        parts = [part for part in OUT_OF_SCALE if part in (before.standardize or "")
                 or f"standardize {part}" not in hindered]  # fmt: skip
        usual = replace(
            settings,
            clip_norm=ClipGradients().norm if _is_clipped(attempts) else None,
            dropout_cap=before.dropout_cap,
            penalty_cap=before.penalty_cap,
            output_activation=before.output_activation,
            output_loss=before.output_loss,
            standardize=standardized(parts),
        )
        if "fresh_weights" not in hindered:
            usual = at_sound_rate(usual, attempts)
            if "leaky_relu" not in hindered:
                usual = replace(usual, negative_slope=_USUAL_SLOPE)
            if "reinitialize" not in hindered:
                usual = replace(usual, initializer=_usual_initializer(attempts))
        same = [
            usual == replace(each.settings, seed=usual.seed) for each in (attempts[0], attempts[-1])
        ]
        if any(same):
            if "new_seed" in hindered:
                return hindered["new_seed"]
            if last is None:
                return "the model is at usual settings, as far as it can carry them"
        if same[-1] and not _is_unlucky(attempts):
            if any(each.cause == "undertrained" for each in attempts[-1].findings):
                return "it was on its way with them, and no seed brings it much further"
            if _is_short(attempts[-1]):
                return "its checks passed with them, and another seed seldom learns more"
        return usual


def _is_unlucky(attempts: Sequence[Attempt]) -> bool:
    """Whether the last attempt has learnt little where most networks as the first one are dead."""
    learned = attempts[-1].phases[-1].find(LearnedCheck) if attempts[-1].phases else None
    first = attempts[0].phases[0].find(DeadNeuronsCheck) if attempts[0].phases else None
    narrow = first is not None and first.is_deep_and_narrow()
    return narrow and learned is not None and learned.is_behind()


def _is_short(attempt: Attempt) -> bool:
    """Whether it has passed its checks, and failed for having learnt less than a restart is for."""
    failed = attempt.failure is not None and attempt.failure.check == "learned"
    return failed and attempt.phases[-1].failure() is None


AnyRemedy = (
    Annotated[NewSeed, pydantic.Tag("<new_seed>")]
    | Annotated[LowerLearningRate, pydantic.Tag("<lower_learning_rate>")]
    | Annotated[LeakyRelu, pydantic.Tag("<leaky_relu>")]
    | Annotated[Reinitialize, pydantic.Tag("<reinitialize>")]
    | Annotated[ClipGradients, pydantic.Tag("<clip_gradients>")]
    | Annotated[LowerDropout, pydantic.Tag("<lower_dropout>")]
    | Annotated[LowerPenalty, pydantic.Tag("<lower_penalty>")]
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
