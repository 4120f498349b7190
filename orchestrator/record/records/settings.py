"""What may differ between attempts, and what an attempt goes on from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypedDict

from msgspec import Meta

from orchestrator.record.encoding import Record

Standardized = Literal["inputs", "targets", "inputs and targets"]
"""What the remedy `standardize` has scaled."""

Change = TypedDict(
    "Change",
    {
        "from": Annotated[Any, Meta(description="Value in the attempt before.")],
        "to": Annotated[Any, Meta(description="Value in this attempt.")],
    },
)
"""A setting that differs from the attempt before."""


class Settings(Record, kw_only=True):
    """What may differ between attempts."""

    WORDS: ClassVar[Mapping[str, tuple[str, str]]] = {
        "learning_rate_cap": ("learning rate at most {}", "rate ≤ {}"),
        "anneal": ("falling to {} of that", "→ × {}"),
        "learning_rate_factor": ("learning rates times {}", "rate × {}"),
        "schedule_stretch": ("schedules {} times as long", "schedule × {}"),
        "momentum": ("momentum {}", "momentum {}"),
        "more_epochs": ("{} more epochs of the last phase", "+ {} epochs"),
        "negative_slope": ("leaky relu with slope {}", "slope {}"),
        "initializer": ("initializer {} and zero biases", "{}"),
        "dropout_cap": ("dropout at most {}", "dropout ≤ {}"),
        "penalty_cap": ("penalties on weights at most {}", "penalty ≤ {}"),
        "clip_norm": ("gradients clipped to norm {}", "norm ≤ {}"),
        "standardize": ("{} standardised", "{} scaled"),
        "output_activation": ("activation: {} for the output", "activation: {}"),
        "output_loss": ("loss: {}", "loss: {}"),
        "seed": ("seed {}", "seed {}"),
    }
    """What a change of each is called, in full and on a narrow line, in the order of telling."""

    seed: int
    """Seed given to `keras.utils.set_random_seed` before the model is built."""
    learning_rate_cap: float | None = None
    """Every learning rate is min(rate, cap); None leaves the rates alone."""
    anneal: float | None = None
    """Share of the cap that is left of it in the last of a phase's epochs that the config gives it,
    over whose second half it falls evenly; None leaves the cap as it is."""
    learning_rate_factor: float | None = None
    """Every learning rate, schedules included, is multiplied by it before it is capped; None leaves
    the rates alone."""
    schedule_stretch: float | None = None
    """Every schedule of the optimizer's takes so many times as many steps; None leaves it as it is.
    """
    momentum: float | None = None
    """Momentum of Keras's SGD; None keeps the optimizer's own."""
    more_epochs: int | None = None
    """Epochs that the last phase has beyond those of the config; None for none."""
    negative_slope: float | None = None
    """Slope of the leaky relu that replaces hidden relu units; None keeps relu."""
    initializer: str | None = None
    """Name of the initializer put on hidden kernels, with zeros on hidden biases; None keeps the
    model's own."""
    dropout_cap: float | None = None
    """Every Dropout layer has min(its rate, this); None leaves the rates alone."""
    penalty_cap: float | None = None
    """Every strength of a regularizer, and every decay of an optimizer, is min(it, this); None
    leaves them alone."""
    clip_norm: float | None = None
    """Norm that the gradients of a step, all taken together, are clipped to, in place of a bound of
    the optimizer's own; None keeps the optimizer's own way."""
    standardize: Standardized | None = None
    """What is shifted and scaled inside the model, by mean and standard deviation over the training
    rows, so that it takes inputs and gives predictions in the units of the rows; None leaves what
    the config says."""
    output_activation: dict[str, str] | None = None
    """Keras's name of the activation that makes an output, by the output's name, which is empty
    where there is one; None keeps the model's own."""
    output_loss: dict[str, str] | None = None
    """Keras's name of the loss of an output, by its name likewise; None keeps the config's."""

    def changes(self, before: Settings) -> dict[str, Change]:
        """What differs from another attempt's settings, as `{name: {"from", "to"}}`."""
        return {
            name: {"from": getattr(before, name), "to": getattr(self, name)}
            for name in self.__struct_fields__
            if getattr(before, name) != getattr(self, name)
        }


class Start(Record, kw_only=True, omit_defaults=True):
    """The state of an earlier attempt that an attempt goes on from."""

    attempt: Annotated[int, Meta(ge=1)]
    """Number of that attempt, which has trained the epoch itself."""
    epoch: Annotated[int, Meta(ge=1)]
    """Its epochs, over all phases, after whose end the attempt goes on."""
    revive: bool = False
    """Whether its dead units get fresh weights first."""
