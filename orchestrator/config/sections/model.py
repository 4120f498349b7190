"""The model, and what it is compiled with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pydantic
from pydantic import ConfigDict, Discriminator, Field
from pydantic.json_schema import SkipJsonSchema

from orchestrator.config.sections.base import (
    REFERENCE,
    AutoFlag,
    Flag,
    ModuleName,
    OneOf,
    PositiveInt,
    Reference,
    Section,
    list_tag,
    shape_tag,
)
from orchestrator.errors import short


def _name_or_one_key(schema: dict[str, Any]) -> None:
    for key in ("type", "properties", "required", "additionalProperties"):
        del schema[key]
    arguments = {"type": ["object", "null"]}
    one_key = {"minProperties": 1, "maxProperties": 1, "additionalProperties": arguments}
    schema["anyOf"] = [{"type": "string"}, {"type": "object", **one_key}]


class Named(Section):
    """A Keras object by its name and arguments: `mse`, or `{Adam: {learning_rate: 0.01}}`.

    The name may be that of a function or class of the user's, `package.module:name`.
    """

    model_config = ConfigDict(json_schema_extra=_name_or_one_key)

    name: str
    """Keras's own name, or the reference of what is the user's."""
    arguments: dict[str, Any] = {}
    """Keras's own arguments."""
    given: Annotated[str | None, SkipJsonSchema()] = None
    """What an object was that `retrain` was given in Python: a record, which no command can make
    again."""

    @pydantic.model_validator(mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value}
        if is_given(value):
            return {"name": "given", **value}
        if isinstance(value, Mapping) and len(value) == 1:
            ((name, arguments),) = value.items()
            if isinstance(name, str) and (arguments is None or isinstance(arguments, Mapping)):
                return {"name": name, "arguments": dict(arguments or {})}
        raise ValueError(
            "expected a name, or one name with its arguments as {Name: {argument: value}}, "
            f"received {short(value)}"
        )

    @pydantic.model_serializer
    def _write(self) -> Any:
        if self.given is not None:
            return {"given": self.given}
        return {self.name: self.arguments} if self.arguments else self.name


def is_given(value: Any) -> bool:
    """Whether a value stands for an object that `retrain` was given in Python."""
    return (
        isinstance(value, Mapping) and set(value) == {"given"} and isinstance(value["given"], str)
    )


def _losses_tag(value: Any) -> str:
    """Like `shape_tag`, but `{Huber: {delta: 2}}` is one loss with its arguments.

    `{price: {Huber: {delta: 2}}}` is that of an output again: no argument is called like a class.
    """
    if isinstance(value, Mapping) and len(value) == 1:
        (inner,) = value.values()
        one = inner is None or (isinstance(inner, Mapping) and not _is_object(inner))
        if is_given(value) or one:
            return "<one>"
    return shape_tag(value)


def _is_object(value: Mapping[Any, Any]) -> bool:
    """Whether it can only be an object with its arguments, or stands for one."""
    if is_given(value):
        return True
    if len(value) != 1:
        return False
    ((name, arguments),) = value.items()
    called = isinstance(name, str) and re.match(rf"[A-Z]\w*$|{REFERENCE}", name) is not None
    return called and (arguments is None or isinstance(arguments, Mapping))


class Factory(Section):
    """A function of the user's that returns a built `keras.Model`."""

    callable: Reference
    """The function; it is called for every attempt, after the seeds are set."""
    kwargs: dict[str, Any] = {}
    """Its keyword arguments."""
    hyperparameters: dict[str, Any] = {}
    """Values of KerasTuner's hyperparameters, where it takes `hp` or is a `HyperModel`; for the
    others their defaults are taken."""


_LAYERS = [{"Dense": {"units": 64, "activation": "relu"}}, "Flatten", {"Dense": {"units": 1}}]


class LayersModel(Section):
    """A sequential model, layer by layer."""

    layers: Annotated[list[Named], Field(min_length=1, examples=[_LAYERS])]
    """Keras layers in order, each by its name and arguments."""


class FactoryModel(Section):
    """A model that the user's own code builds."""

    factory: Factory
    """The function that builds it."""


class FileModel(Section):
    """A model in a `.keras` file."""

    file: str
    """Path of the file."""
    initial_weights: Literal["file", "fresh"] = "file"
    """What every attempt starts from: the file's weights, or fresh ones."""
    modules: list[ModuleName] = []
    """Modules that register the model's own classes, imported before the file is loaded."""


class GivenModel(Section):
    """A function that `retrain` was given in Python: a record, which no command can call again."""

    given: str
    """What it was."""
    hyperparameters: dict[str, Any] = {}
    """As a factory's."""


Model = Annotated[
    Annotated[LayersModel, pydantic.Tag("<layers>")]
    | Annotated[FactoryModel, pydantic.Tag("<factory>")]
    | Annotated[FileModel, pydantic.Tag("<file>")]
    | SkipJsonSchema[Annotated[GivenModel, pydantic.Tag("<given>")]],
    OneOf(("layers", "factory", "file")),
]


Losses = Annotated[
    Annotated[Named, pydantic.Tag("<one>")]
    | Annotated[list[Named | None], Field(min_length=1), pydantic.Tag("<each>")]
    | Annotated[dict[str, Named | None], Field(min_length=1), pydantic.Tag("<by_name>")],
    Discriminator(_losses_tag),
]
"""A loss; for a model with several outputs a list of one each, or `{output name: loss}`, with null
for an output that none trains."""
Metrics = Annotated[
    Annotated[list[Named], pydantic.Tag("<each>")]
    | Annotated[dict[str, list[Named]], pydantic.Tag("<by_name>")],
    Discriminator(list_tag),
]
"""Metrics; for a model with several outputs `{output name: [metric, …]}`."""


Weights = Annotated[
    Annotated[list[float], pydantic.Tag("<each>")]
    | Annotated[dict[str, float], pydantic.Tag("<by_name>")],
    Discriminator(list_tag),
]


class Compile(Section):
    """What `model.compile` gets."""

    optimizer: Named = Named.model_validate("adam")
    """Keras optimizer; its learning rate may be a schedule."""
    loss: Losses | None = None
    """Keras loss; a list or `{output name: loss}` for a model with several outputs, with null for
    an output that none trains; left out where the model computes its own."""
    loss_weights: Weights | None = None
    """Weight of each output's loss in the sum."""
    metrics: Metrics = []
    """Keras metrics; `{output name: [metric, …]}` for a model with several outputs."""
    weighted_metrics: Metrics = []
    """Keras metrics that respect sample and class weights."""
    jit_compile: AutoFlag = "auto"
    """Compile the training step with XLA; auto leaves it to Keras."""
    run_eagerly: Flag = False
    """Run every step as plain Python, for a model or loss that cannot be made a graph; slow."""
    steps_per_execution: PositiveInt = 1
    """Steps that Keras takes in one call, which is faster where steps are short."""
    auto_scale_loss: Flag = True
    """Scale the loss for a model in mixed precision of float16, as Keras does."""
