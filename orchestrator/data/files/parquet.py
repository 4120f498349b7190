"""Tables in parquet files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.config.schema import ParquetSource
from orchestrator.data.arrays import invalid, summary
from orchestrator.data.files.opening import open_file
from orchestrator.data.files.tables import (
    MAX_PROBLEMS,
    Table,
    bad_cell,
    check_header,
    finished,
    input_columns,
    used_columns,
)
from orchestrator.data.rows import Array
from orchestrator.errors import Problem

_PANDAS_INDEX = re.compile(r"__index_level_\d+__$")
"""How pandas calls an index that it saves beside the columns."""


def read(path: Path, source: ParquetSource, *, name: str) -> Table:
    """Read a table from a parquet file.

    Args:
        path: the file.
        source: its columns.
        name: how to call the file in messages.

    Returns:
        The columns that the source asks for.

    Raises:
        InvalidError: pyarrow is not installed, the file is not parquet, an unknown column, a
            missing value, a type that is neither number nor text, or a number that is not finite.
    """
    try:
        import pyarrow  # noqa: PLC0415 - an extra
        import pyarrow.parquet as parquet  # noqa: PLC0415
    except ImportError as error:
        hint = "install it with: pip install 'orchestrator[parquet]'"
        raise invalid(name, "reading parquet files needs pyarrow", hint) from error
    with open_file(path, name) as file:
        try:
            opened = parquet.ParquetFile(file)
            header = [name for name in opened.schema_arrow.names if not _PANDAS_INDEX.match(name)]
            check_header(header, source, name, None)
            used = used_columns(header, source)
            content = opened.read(columns=list(used))
        except (pyarrow.ArrowException, OSError) as error:
            message = f"cannot be read as a parquet file: {summary(error)}"
            raise invalid(name, message) from error
    if not content.num_rows:
        raise invalid(name, "expected rows, received none")
    table = Table(
        name=name,
        columns={},
        source=source,
        features=input_columns(header, source),
        numbers=np.arange(1, content.num_rows + 1),
        lines=None,
    )
    problems: list[tuple[int, Problem]] = []
    count = 0
    for label in used:
        values = content.column(label)
        found = _from_arrow(values, as_text=label in source.text)
        if found is None:
            message = f"expected numbers or texts, received the type {values.type}"
            hint = "convert the column, or leave it out with features:"
            problems.append((0, Problem(file=name, key=label, message=message, hint=hint)))
            count += 1
            continue
        table.columns[label] = found
        missing = np.flatnonzero(values.is_null().to_numpy())
        count += len(missing)
        for row in map(int, missing[:MAX_PROBLEMS]):
            kind = "text" if found.dtype == object else "number"
            problem = table.problem(row, label, *bad_cell("", label, kind))
            problems.append((row + 1, problem))
    return finished(table, problems, count)


def _from_arrow(values: Any, *, as_text: bool) -> Array | None:
    """A column as float64, or as texts; None for what is neither. Missing values become 0."""
    import pyarrow  # noqa: PLC0415
    from pyarrow import types  # noqa: PLC0415

    kind = values.type
    if types.is_dictionary(kind):
        values = values.cast(kind.value_type)
        kind = values.type
    texts = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    numeric = (
        types.is_integer(kind)
        or types.is_floating(kind)
        or types.is_boolean(kind)
        or types.is_decimal(kind)
    )
    if as_text and numeric:
        values, texts = values.cast(pyarrow.string()), True
    if texts:
        return np.asarray(["" if text is None else text for text in values.to_pylist()], object)
    if not numeric:
        return None
    if types.is_boolean(kind):
        values = values.cast(pyarrow.int8())
    # Not safe, or whole numbers beyond 53 bits would be refused rather than rounded.
    array: Array = values.cast(pyarrow.float64(), safe=False).fill_null(0.0).to_numpy()
    return np.array(array)
