"""Tables in parquet and feather files, and what Arrow's columns are to us."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow
from pyarrow import ipc, parquet, types

from orchestrator.config.sections.data import FeatherSource, ParquetSource, TableSource
from orchestrator.data.arrays import invalid, summary
from orchestrator.data.files import cells
from orchestrator.data.files.opening import open_file
from orchestrator.data.files.tables import Gathering, Table
from orchestrator.data.rows import Array

_PANDAS_INDEX = re.compile(r"__index_level_\d+__$")
"""How pandas calls an index that it saves beside the columns."""

_BLOCK_ROWS = 65_536
"""Rows of a parquet file that are read together."""

_DAMAGED = (pyarrow.ArrowException, OSError, UnicodeDecodeError, MemoryError)
"""What Arrow raises of a damaged file; one that has a length wrong may ask for any memory."""


def read_parquet(path: Path, source: ParquetSource, *, name: str) -> Table:
    """Read a table from a parquet file.

    Args:
        path: the file.
        source: its columns.
        name: how to call the file in messages.

    Returns:
        The columns that the source asks for.

    Raises:
        InvalidError: the file is not parquet, an unknown column, a missing value, a type that is
            neither number nor text, or a number that is not finite.
    """
    with open_file(path, name) as file:
        try:
            opened = parquet.ParquetFile(file)
            schema = opened.schema_arrow
            gathering = Gathering(_header(schema), source, name)
            used = [gathering.header[index] for index in gathering.used.values()]
            blocks = opened.iter_batches(_BLOCK_ROWS, columns=used)
            return _gather(gathering, schema, blocks, source, name)
        except _DAMAGED as error:
            message = f"cannot be read as a parquet file: {summary(error)}"
            raise invalid(name, message) from error


def read_feather(path: Path, source: FeatherSource, *, name: str) -> Table:
    """Read a table from a feather file, which is an Arrow IPC file.

    Args:
        path: the file.
        source: its columns.
        name: how to call the file in messages.

    Returns:
        The columns that the source asks for.

    Raises:
        InvalidError: as `read_parquet`.
    """
    with open_file(path, name) as file:
        try:
            schema, blocks = _open_feather(file, name)
            gathering = Gathering(_header(schema), source, name)
            return _gather(gathering, schema, blocks, source, name)
        except _DAMAGED as error:
            message = f"cannot be read as a feather file: {summary(error)}"
            raise invalid(name, message) from error


def _open_feather(file: Any, name: str) -> tuple[pyarrow.Schema, Iterable[pyarrow.RecordBatch]]:
    """The blocks of an Arrow IPC file, or of a stream that was saved."""
    magic = file.read(6)
    file.seek(0)
    if magic != b"ARROW1":
        if not magic.startswith(b"\xff\xff\xff\xff"):
            received = "version 1 of it" if magic.startswith(b"FEA1") else "another kind of file"
            message = f"expected a feather file of version 2, received {received}"
            raise invalid(name, message, "save it with pyarrow.feather.write_feather")
        stream = ipc.open_stream(file)
        return stream.schema, stream
    opened = ipc.open_file(file)
    blocks = (opened.get_batch(index) for index in range(opened.num_record_batches))
    return opened.schema, blocks


def _header(schema: pyarrow.Schema) -> list[str]:
    return [name for name in schema.names if not _PANDAS_INDEX.match(name)]


def _gather(
    gathering: Gathering,
    schema: pyarrow.Schema,
    blocks: Iterable[pyarrow.RecordBatch],
    source: TableSource,
    name: str,
) -> Table:
    """The columns that are used, and what is missing in them."""
    readable = {}
    for label, index in gathering.used.items():
        column = gathering.header[index]
        received = schema.field(column).type
        kind = _value_type(received)
        if _is_text(kind) or _is_number(kind):
            readable[label] = column
            continue
        message = f"expected numbers or texts, received the type {received}"
        hint = "convert the column, or leave it out with features:"
        gathering.report_column(label, message, hint)
    for block in blocks:
        for label, column in readable.items():
            values = block.column(column)
            values.validate(full=True)  # a damaged one can end the process where it is looked at
            add(gathering, label, values, as_text=label in source.text)
        gathering.end_block(block.num_rows)
    if not gathering.rows:
        raise invalid(name, "expected rows, received none")
    return gathering.finish()


def add(gathering: Gathering, label: str, values: pyarrow.Array, *, as_text: bool) -> None:
    """Add a block of a column, as float64 or as texts; what is missing in it is reported.

    Args:
        gathering: the table.
        label: name of the column.
        values: numbers or texts.
        as_text: whether numbers are to be texts.
    """
    kind = _value_type(values.type)
    texts = _is_text(kind) or as_text
    if values.null_count:
        missing = np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))
        named = "text" if texts else "number"
        gathering.report(label, missing, lambda row: cells.describe_bad("", label, named))
    if not texts:
        gathering.add_numbers(label, _numbers(values))
        return
    gathering.add_texts(label, *codes(values.cast(pyarrow.string())))


def codes(values: pyarrow.Array) -> tuple[npt.NDArray[np.int32], Sequence[str]]:
    """Texts as positions in the different ones of them; what is missing counts as an empty one."""
    if values.null_count:
        values = values.fill_null("")
    coded = values.dictionary_encode()
    return as_numpy(coded.indices), coded.dictionary.to_pylist()


def _value_type(kind: pyarrow.DataType) -> pyarrow.DataType:
    """The type of what a column holds, whether each value is written out or has a number."""
    return kind.value_type if types.is_dictionary(kind) else kind


def _is_text(kind: pyarrow.DataType) -> bool:
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _is_number(kind: pyarrow.DataType) -> bool:
    return bool(
        types.is_integer(kind)
        or types.is_floating(kind)
        or types.is_boolean(kind)
        or types.is_decimal(kind)
    )


def _numbers(values: pyarrow.Array) -> Array:
    """Numbers as float64; what is missing becomes 0."""
    if types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if types.is_boolean(values.type):
        values = values.cast(pyarrow.int8())
    # Not safe, or whole numbers beyond 53 bits would be refused rather than rounded.
    values = values.cast(pyarrow.float64(), safe=False)
    if values.null_count:
        values = values.fill_null(0.0)
    return as_numpy(values)


def as_numpy(values: pyarrow.Array) -> Array:
    """Numbers of which none is missing, where they are.

    Arrow's own `to_numpy` imports pandas where there is one, which takes longer than the reading.
    """
    array: Array = np.from_dlpack(values)
    return array
