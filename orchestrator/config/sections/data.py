"""Where the rows come from: tables, arrays, functions of the user's."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self

import pydantic
from pydantic import AfterValidator, Discriminator, Field
from pydantic.json_schema import SkipJsonSchema

from orchestrator.config.sections.base import (
    AutoFlag,
    Delimiter,
    Flag,
    OneOf,
    PositiveInt,
    Reference,
    Section,
    shape_tag,
)
from orchestrator.errors import short


def _one_each(value: list[str]) -> list[str]:
    twice = [name for index, name in enumerate(value) if name in value[:index]]
    if twice:
        raise ValueError(f"expected each column once, received {short(twice[0])} twice")
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
    Discriminator(shape_tag),
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

    _group: str | None = pydantic.PrivateAttr(default=None)

    @property
    def group(self) -> str | None:
        """Column by which rows are held back, which is no input."""
        return self._group

    def grouped_by(self, column: str | None) -> Self:
        """The same table with the column by which rows are held back."""
        changed = self.model_copy()
        changed._group = column
        return changed


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
    a `tf.data.Dataset`, a `keras.utils.PyDataset`, or from a generator.
    """

    callable: Reference
    """The function."""
    kwargs: dict[str, Any] = {}
    """Its keyword arguments."""
    steps_per_epoch: PositiveInt | None = None
    """Batches of an epoch, which goes on where the one before has stopped; for a generator or a
    dataset without an end. null means that a pass is an epoch."""


class GivenSource(Section):
    """Rows that `retrain` was given in Python: a record, which no command can read again."""

    given: str
    """What they were."""
    steps_per_epoch: PositiveInt | None = None
    """Batches of an epoch, as `CallableSource` has it."""


class Split(Section):
    """Hold back a share of the training rows."""

    fraction: Annotated[float, Field(gt=0, lt=1)]
    """Share of the rows, shuffled once from the run's seed."""
    stratify: Flag = False
    """Hold back the same share of each class."""
    group: str | None = None
    """Column of a table whose rows of one value stay together; it is no input then."""
    last: Flag = False
    """Hold back the last rows, for rows in the order of time."""

    @pydantic.model_validator(mode="after")
    def _one_way(self) -> Split:
        ways = [name for name in ("stratify", "group", "last") if getattr(self, name)]
        if len(ways) > 1:
            raise ValueError(
                f"expected one of stratify, group and last, received {' and '.join(ways)}"
            )
        return self


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
Source = Annotated[_SourceTypes, OneOf((*SOURCES,))]
Validation = Annotated[
    _SourceTypes | Annotated[Split, pydantic.Tag("<fraction>")],
    OneOf(("fraction", *SOURCES)),
]


class Data(Section):
    """Where the rows come from."""

    train: Source
    """The training data."""
    validation: Validation | None = None
    """Rows that are never trained on: a share of the training data, or a second source."""
    standardize: AutoFlag = "auto"
    """Shift and scale each input column to mean 0 and variance 1 over the training rows; `auto`
    does so where a failure has shown that inputs out of scale are at fault, by a remedy."""
