"""The config's schema: what each key means, its type, its default and its bounds.

`config.load` makes a `Config` of a file; everything else gets it from there. Where a file may hold
more than a `Config` does, `json_schema_input_type` and `json_schema_extra` tell `editors`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import pydantic
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Discriminator, Field
from pydantic.json_schema import SkipJsonSchema

from orchestrator.config import document
from orchestrator.config.document import Document, Key
from orchestrator.config.sections.base import (
    Delimiter,
    FileName,
    Flag,
    Fraction,
    ModuleName,
    Off,
    PositiveFloat,
    PositiveInt,
    Reference,
    Section,
    Word,
    flag,
)
from orchestrator.config.sections.restart import Restart
from orchestrator.errors import Problem, short

if TYPE_CHECKING:
    from orchestrator.config.given import Given, Sent


def _or_null(section: type[Section]) -> BeforeValidator:
    """`checks:` with nothing behind it means the defaults."""
    return BeforeValidator(
        lambda value: {} if value is None else value, json_schema_input_type=section | None
    )


def _name_or_one_key(schema: dict[str, Any]) -> None:
    for key in ("type", "properties", "required", "additionalProperties"):
        del schema[key]
    arguments = {"type": ["object", "null"]}
    one_key = {"minProperties": 1, "maxProperties": 1, "additionalProperties": arguments}
    schema["anyOf"] = [{"type": "string"}, {"type": "object", **one_key}]


class Named(Section):
    """A Keras object by its name and arguments: `mse`, or `{Adam: {learning_rate: 0.01}}`."""

    model_config = ConfigDict(json_schema_extra=_name_or_one_key)

    name: str
    """Keras's own name."""
    arguments: dict[str, Any] = {}
    """Keras's own arguments."""

    @pydantic.model_validator(mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value}
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
        return {self.name: self.arguments} if self.arguments else self.name


def _shape_tag(value: Any) -> str:
    """Whether there is one for all outputs, a list of one each, or one each by name."""
    if isinstance(value, Mapping):
        return "<by_name>"
    return "<each>" if isinstance(value, list) else "<one>"


def _list_tag(value: Any) -> str:
    """Like `_shape_tag` where one is a list already."""
    return "<by_name>" if isinstance(value, Mapping) else "<each>"


def _losses_tag(value: Any) -> str:
    """Like `_shape_tag`, but `{Huber: {delta: 2}}` is one loss with its arguments."""
    if isinstance(value, Mapping) and len(value) == 1:
        (inner,) = value.values()
        if inner is None or isinstance(inner, Mapping):
            return "<one>"
    return _shape_tag(value)


def _one_each(value: list[str]) -> list[str]:
    twice = [name for index, name in enumerate(value) if name in value[:index]]
    if twice:
        raise ValueError(f"expected each column once, received {twice[0]!r} twice")
    return value


ColumnNames = Annotated[
    list[str],
    Field(min_length=1, json_schema_extra={"uniqueItems": True}),
    AfterValidator(_one_each),
]


Targets = Annotated[
    Annotated[str, pydantic.Tag("<one>")]
    | Annotated[ColumnNames, pydantic.Tag("<each>")]
    | Annotated[dict[str, str], Field(min_length=1), pydantic.Tag("<by_name>")],
    Discriminator(_shape_tag),
]


class TableSource(Section):
    """What is read from a table, whatever its file; its columns hold numbers or texts."""

    SUFFIXES: ClassVar[tuple[str, ...]] = ()
    """How names of such files end."""

    target: Targets
    """Column to predict; a list of them for an output of several columns, or
    `{output name: column}` for a model with several outputs."""
    features: ColumnNames | None = None
    """Input columns, in this order; null means all that are neither target nor sample weight."""
    text: list[str] = []
    """Columns that are read as categories although they look like numbers."""
    sample_weight: str | None = None
    """Column with the weight of each row in the loss."""


class CsvSource(TableSource):
    """A table in a text file; the first line names the columns."""

    SUFFIXES: ClassVar = (".csv", ".tsv", ".txt")

    csv: str
    """Path of the file."""
    delimiter: Delimiter = ","
    """What separates the columns."""


class ParquetSource(TableSource):
    """A table in a parquet file."""

    SUFFIXES: ClassVar = (".parquet", ".pq")

    parquet: str
    """Path of the file."""


class FeatherSource(TableSource):
    """A table in a feather file, which is an Arrow IPC file."""

    SUFFIXES: ClassVar = (".feather", ".arrow")

    feather: str
    """Path of the file."""


class NpzSource(Section):
    """Arrays of a NumPy archive."""

    npz: str
    """Path of the file."""
    x: str = "x"
    """Name of the inputs' array, shape (rows, …)."""
    y: str = "y"
    """Name of the targets' array, shape (rows,) or (rows, columns)."""
    sample_weight: str | None = None
    """Name of the array with the weight of each row in the loss, shape (rows,)."""


class NpySource(Section):
    """Arrays in files of their own; the inputs are mapped, and may be larger than memory."""

    npy: str
    """Path of the inputs, shape (rows, …)."""
    y: str
    """Path of the targets, shape (rows,) or (rows, columns)."""
    sample_weight: str | None = None
    """Path of the weight of each row in the loss, shape (rows,)."""


class CallableSource(Section):
    """A function of the user's that returns `(x, y)`, `(x, y, sample_weight)` or batches of them.

    x and y are arrays, or dicts or tuples of arrays for several inputs or outputs. Batches come as
    a `tf.data.Dataset` or from a generator.
    """

    callable: Reference
    """The function."""
    kwargs: dict[str, Any] = {}
    """Its keyword arguments."""


class GivenSource(Section):
    """Rows that `retrain` was given in Python: a record, which no command can read again."""

    given: str
    """What they were."""


class Split(Section):
    """Hold back a share of the training rows."""

    fraction: Annotated[float, Field(gt=0, lt=1)]
    """Share of the rows, shuffled once from the run's seed."""


ONE_OF = "expected a mapping with exactly one of the keys "


def _one_of(*keys: str) -> Discriminator:
    """Tell the classes of a union apart by which key is there."""

    def tag(value: Any) -> str | None:
        names = value if isinstance(value, Mapping) else getattr(type(value), "model_fields", ())
        found = [key for key in (*keys, "given") if key in names]
        return f"<{found[0]}>" if len(found) == 1 else None

    expected = f"{ONE_OF}{', '.join(keys)}"
    return Discriminator(tag, custom_error_type="one_of", custom_error_message=expected)


_SourceTypes = (
    Annotated[CsvSource, pydantic.Tag("<csv>")]
    | Annotated[ParquetSource, pydantic.Tag("<parquet>")]
    | Annotated[FeatherSource, pydantic.Tag("<feather>")]
    | Annotated[NpzSource, pydantic.Tag("<npz>")]
    | Annotated[NpySource, pydantic.Tag("<npy>")]
    | Annotated[CallableSource, pydantic.Tag("<callable>")]
    | SkipJsonSchema[Annotated[GivenSource, pydantic.Tag("<given>")]]
)
TABLES: dict[str, type[TableSource]] = {
    "csv": CsvSource,
    "parquet": ParquetSource,
    "feather": FeatherSource,
}
"""The kinds of files that hold tables, by the key that names the file."""
FILES: dict[str, type[Section]] = {**TABLES, "npz": NpzSource, "npy": NpySource}
"""The kinds of files that hold rows, by the key that names the file."""
SOURCES: dict[str, type[Section]] = {**FILES, "callable": CallableSource}
"""What a config may read rows from, by the key that tells it apart."""
Source = Annotated[_SourceTypes, _one_of(*SOURCES)]
Validation = Annotated[
    _SourceTypes | Annotated[Split, pydantic.Tag("<fraction>")],
    _one_of("fraction", *SOURCES),
]


class Data(Section):
    """Where the rows come from."""

    train: Source
    """The training data."""
    validation: Validation | None = None
    """Rows that are never trained on: a share of the training data, or a second source."""
    standardize: Flag = False
    """Shift and scale each input column to mean 0 and variance 1 over the training rows."""


class Factory(Section):
    """A function of the user's that returns a built `keras.Model`."""

    callable: Reference
    """The function; it is called for every attempt, after the seeds are set."""
    kwargs: dict[str, Any] = {}
    """Its keyword arguments."""


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


Model = Annotated[
    Annotated[LayersModel, pydantic.Tag("<layers>")]
    | Annotated[FactoryModel, pydantic.Tag("<factory>")]
    | Annotated[FileModel, pydantic.Tag("<file>")]
    | SkipJsonSchema[Annotated[GivenModel, pydantic.Tag("<given>")]],
    _one_of("layers", "factory", "file"),
]


Losses = Annotated[
    Annotated[Named, pydantic.Tag("<one>")]
    | Annotated[list[Named], Field(min_length=1), pydantic.Tag("<each>")]
    | Annotated[dict[str, Named], Field(min_length=1), pydantic.Tag("<by_name>")],
    Discriminator(_losses_tag),
]
"""A loss; for a model with several outputs a list of one each, or `{output name: loss}`."""
Metrics = Annotated[
    Annotated[list[Named], pydantic.Tag("<each>")]
    | Annotated[dict[str, list[Named]], pydantic.Tag("<by_name>")],
    Discriminator(_list_tag),
]
"""Metrics; for a model with several outputs `{output name: [metric, …]}`."""


Weights = Annotated[
    Annotated[list[float], pydantic.Tag("<each>")]
    | Annotated[dict[str, float], pydantic.Tag("<by_name>")],
    Discriminator(_list_tag),
]


class Compile(Section):
    """What `model.compile` gets."""

    optimizer: Named = Named.model_validate("adam")
    """Keras optimizer; its learning rate may be a schedule."""
    loss: Losses
    """Keras loss; a list or `{output name: loss}` for a model with several outputs."""
    loss_weights: Weights | None = None
    """Weight of each output's loss in the sum."""
    metrics: Metrics = []
    """Keras metrics; `{output name: [metric, …]}` for a model with several outputs."""
    weighted_metrics: Metrics = []
    """Keras metrics that respect sample and class weights."""


class PhasePlan(Section):
    """Consecutive epochs that end in checks."""

    name: FileName
    """Name in the records."""
    epochs: PositiveInt
    """How many."""
    learning_rate: PositiveFloat | None = None
    """Rate of this phase; null means the optimizer's own rate or schedule."""


class Finite(Section):
    """Weights, optimizer state, losses and predictions are finite. It has no limits."""


def _all_or_count(value: Any) -> Any:
    if value != "all" and (type(value) is not int or value < 1):
        raise ValueError(f"expected all, or a number of rows from 1, received {short(value)}")
    return value


class DeadNeurons(Section):
    """Units whose activation has derivative zero on every training row."""

    warn_above: Fraction = 0.5
    """Dead share of a layer above which the check warns."""
    fail_above: Fraction = 0.9
    """Dead share above which it fails, if an output that the layer feeds has no skill."""
    rows: Annotated[
        Literal["all"] | int,
        BeforeValidator(_all_or_count, json_schema_input_type=Literal["all"] | PositiveInt),
    ] = "all"
    """How many training rows to look at."""

    @pydantic.model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.warn_above > self.fail_above:
            raise ValueError(
                f"expected warn_above <= fail_above, received {self.warn_above} > {self.fail_above}"
            )
        return self


class PredictionVariance(Section):
    """The prediction varies with the input."""

    min_ratio: Annotated[float, Field(ge=0)] = 1e-4
    """Least variance of the prediction over variance of the target (regression)."""
    min_information: Annotated[float, Field(ge=0)] = 1e-4
    """Least information of the prediction over entropy of the classes (classification)."""
    min_skill: Annotated[float, Field(lt=1)] = -0.1
    """Least skill after the last phase; 0 is the best constant, 1 is perfect."""
    kind: Literal["regression", "classification"] | None = None
    """Kind of the outputs; null means by the loss, or else by the output activation."""


class Gate(Section):
    """A bound on a logged value."""

    name: str
    """Name of the value in Keras's logs, such as val_loss."""
    min: float | None = None
    """Least value that passes."""
    max: float | None = None
    """Greatest value that passes."""
    phases: Annotated[list[str], Field(min_length=1)] | None = None
    """Phases after which it is taken; null means the last."""

    @pydantic.model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("expected min or max, received neither")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"expected min <= max, received {self.min} > {self.max}")
        return self


def _switch(value: Any) -> Any:
    """`off` and false switch a check off; nothing behind the colon means its defaults."""
    if value is None:
        return {}
    return None if flag(value) is False else value


def _write_switch(value: Any, handler: pydantic.SerializerFunctionWrapHandler) -> Any:
    return "off" if value is None else handler(value)


def _switched(check: type[Section]) -> tuple[object, ...]:
    """What makes `check | None` a check that `off` switches off."""
    read = BeforeValidator(_switch, json_schema_input_type=check | Off | None)
    return read, pydantic.WrapSerializer(_write_switch)


def _as_list(value: Any) -> Any:
    value = _switch(value)
    return [] if value is None or value == {} else [value] if isinstance(value, Mapping) else value


class Checks(Section):
    """The checks after every phase; each is merged into its defaults, `off` switches it off."""

    finite: Annotated[Finite | None, *_switched(Finite)] = Finite()
    """Everything is finite."""
    dead_neurons: Annotated[DeadNeurons | None, *_switched(DeadNeurons)] = DeadNeurons()
    """Units are alive."""
    prediction_variance: Annotated[PredictionVariance | None, *_switched(PredictionVariance)] = (
        PredictionVariance()
    )
    """The prediction is not constant."""
    metric: Annotated[
        list[Gate], BeforeValidator(_as_list, json_schema_input_type=list[Gate] | Gate | Off | None)
    ] = []
    """Bounds on logged values: one gate or a list."""


CLASS = "^[0-9]{1,9}$"
_ByClass = Annotated[
    dict[Annotated[str, Field(pattern=CLASS)], PositiveFloat],
    Field(json_schema_extra={"additionalProperties": False}),
]


class Fit(Section):
    """What else `model.fit` gets."""

    class_weight: Annotated[
        dict[int, PositiveFloat] | None,
        BeforeValidator(_whole_keys, json_schema_input_type=_ByClass | None),
    ] = None
    """Weight of each class in the loss."""
    callbacks: list[Reference] = []
    """Functions that return a Keras callback."""


def _auto_or_flag(value: Any) -> Any:
    value = flag(value)
    if value != "auto" and not isinstance(value, bool):
        raise ValueError(f"expected auto, true or false, received {short(value)}")
    return value


def _only_version(value: Any) -> Any:
    if type(value) is not int or value != 1:
        raise ValueError(f"expected 1, the only version there is, received {short(value)}")
    return value


def _whole_keys(value: Any) -> Any:
    """Take the classes 0, 1, … also as text, which is how `--set` and JSON write keys."""
    if not isinstance(value, Mapping):
        return value
    return {
        int(key) if isinstance(key, str) and re.fullmatch(CLASS, key) else key: weight
        for key, weight in value.items()
    }


class Config(Section):
    """A whole config, with every default filled in."""

    # `config.check` fills in the others.
    model_config = ConfigDict(json_schema_extra={"required": ["data", "model", "phases"]})

    version: Annotated[
        Literal[1], BeforeValidator(_only_version, json_schema_input_type=Literal[1])
    ] = 1
    """Version of the config's shape."""
    name: FileName
    """Name of the run; default the file's stem."""
    base: str
    """Folder that relative paths and callables start from; default the config's own."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of attempt 1; later seeds derive from it."""
    data: Data
    """The data."""
    model: Model
    """The model: exactly one of layers, factory and file."""
    compile: Compile | None = None
    """What `model.compile` gets; null where the factory or file gives a compiled model."""
    batch_size: PositiveInt = 32
    """Rows of a training step."""
    phases: Annotated[list[PhasePlan], Field(min_length=1)]
    """The phases, in order; together they are one training."""
    checks: Annotated[Checks, _or_null(Checks)] = Checks()
    """The checks after every phase."""
    restart: Annotated[Restart, _or_null(Restart)] = Restart()
    """What to do when an attempt fails."""
    deterministic: Annotated[
        Literal["auto"] | bool,
        BeforeValidator(_auto_or_flag, json_schema_input_type=Literal["auto"] | bool | Word),
    ] = "auto"
    """Make TensorFlow's operations deterministic; auto means on a machine without GPU."""
    tensorboard: Flag = False
    """Write TensorBoard files with each attempt."""
    keep: Literal["accepted", "all"] = "accepted"
    """Which attempts' checkpoints stay after the run."""
    stall_timeout: PositiveFloat = 600.0
    """Seconds without progress after which a worker counts as hung."""
    fit: Annotated[Fit, _or_null(Fit)] = Fit()
    """What else `model.fit` gets."""

    _written: Document | None = pydantic.PrivateAttr(default=None)
    _given: Any = pydantic.PrivateAttr(default=None)

    @property
    def given(self) -> Given | Sent:
        """What `retrain` was given in Python."""
        if self._given is None:
            raise ValueError("Expected a config of retrain's. Received: one of a file")
        given: Given | Sent = self._given
        return given

    def with_given(self, given: Given | Sent) -> Config:
        """The config with what `retrain` was given in Python."""
        changed = self.model_copy()
        changed._given = given
        return changed

    def problem(self, key: Key, message: str, hint: str | None = None) -> Problem:
        """A problem at a key of this config, with its file and line where they are known."""
        if self._written is not None:
            return self._written.problem(key, message, hint)
        name = ".".join(map(str, key))
        return Problem(file=self.name, key=name, message=message, hint=hint)

    @property
    def source(self) -> bytes:
        """The file as given; what `dump` writes for a config that came from no file."""
        return self.dump().encode() if self._written is None else self._written.source

    def path(self, written: str) -> Path:
        """A path of the config, seen from its base folder."""
        return resolve(self.base, written)

    def dump(self) -> str:
        """The config as YAML that `load` reads back to a config of the same values."""
        return document.dump(self.model_dump())


def resolve(base: Path | str, written: str) -> Path:
    """A path of a config, seen from its base folder."""
    # Not Path.expanduser, which raises for an unknown user and only looks at the first part.
    return Path(base, os.path.expanduser(written))
