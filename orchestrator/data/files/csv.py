"""Tables in text files."""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from orchestrator.config.schema import CsvSource
from orchestrator.data.arrays import beyond_float32, invalid
from orchestrator.data.files.opening import open_file
from orchestrator.data.files.tables import (
    MISSING,
    Table,
    bad_cell,
    check_header,
    finished,
    input_columns,
    meant_as_number,
    number,
    used_columns,
)
from orchestrator.data.rows import Array
from orchestrator.errors import Problem


def read(path: Path, source: CsvSource, *, name: str) -> Table:
    """Read a table from a text file.

    Args:
        path: the file.
        source: its columns and delimiter.
        name: how to call the file in messages.

    Returns:
        The columns that the source asks for.

    Raises:
        InvalidError: an empty file, duplicate headers, an unknown column, a ragged row, a missing
            value, a text among numbers or a number that is not finite; with file, line and column.
    """
    with open_file(path, name) as file:
        content = file.read()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        message = f"expected UTF-8 text, received the byte 0x{content[error.start]:02x}"
        raise invalid(name, message, "save the table as UTF-8", line) from error
    try:
        return _read_text(text, source, name)
    except csv.Error as error:
        hint = "a quote may not be closed"
        raise invalid(name, f"cannot be read as a table: {error}", hint) from error


def _read_text(text: str, source: CsvSource, name: str) -> Table:
    lines = _lines(text, source.delimiter)
    first = next(lines, None)
    if first is None:
        raise invalid(name, "expected a header line and rows of numbers, received an empty file")
    header = [column.strip() for column in first.cells]
    check_header(header, source, name, first.line)
    used = used_columns(header, source)
    table = None if source.text else _parse_fast(text, first.last_line, source.delimiter, header)
    cells: Sequence[_Line] = () if table is not None else list(lines)
    count = len(cells) if table is None else len(table)
    if not count:
        raise invalid(name, "expected rows of numbers below the header, received none")
    if table is None:
        return _parse_slowly(cells, header, used, source, name)
    weight = None if source.sample_weight is None else table[:, used[source.sample_weight]]
    bad = beyond_float32(table).any() or (weight is not None and (weight < 0).any())
    return finished(
        Table(
            name=name,
            columns={label: table[:, index] for label, index in used.items()},
            source=source,
            features=input_columns(header, source),
            numbers=np.arange(1, count + 1),
            # Who reads the lines once more does so only to name them.
            lines=np.asarray([line.line for line in lines], np.int64) if bad else None,
        ),
        [],
        0,
    )


@dataclasses.dataclass(frozen=True, slots=True)
class _Line:
    line: int
    """Line of the file on which it begins."""
    last_line: int
    """Line on which it ends, where a quoted cell holds line breaks."""
    cells: list[str]


def _lines(text: str, delimiter: str) -> Iterator[_Line]:
    """The header and the rows of a table, without blank lines."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    begin = 1
    for cells in reader:
        if len(cells) > 1 or (cells and cells[0].strip()):
            yield _Line(begin, reader.line_num, cells)
        begin = reader.line_num + 1


def _parse_fast(
    text: str, skip: int, delimiter: str, header: Sequence[str]
) -> npt.NDArray[np.float64] | None:
    """A table of numbers by NumPy's own parser, or None where it finds anything to object to."""
    below = itertools.islice(io.StringIO(text, newline=None), skip, None)
    rows = (row for row in below if delimiter in row or not row.isspace())
    first = next(rows, None)
    if first is None:
        return np.empty((0, len(header)))
    try:
        table: npt.NDArray[np.float64] = np.loadtxt(
            itertools.chain([first], rows),
            delimiter=delimiter,
            comments=None,
            quotechar='"',
            ndmin=2,
        )
    except ValueError:
        return None
    return table if table.shape[1] == len(header) else None


def _parse_slowly(
    rows: Sequence[_Line],
    header: Sequence[str],
    used: Mapping[str, int],
    source: CsvSource,
    name: str,
) -> Table:
    """The table column by column, with every problem named."""
    whole = [index for index, row in enumerate(rows) if len(row.cells) == len(header)]
    problems = [
        (number, _wrong_length(row, number, len(header), name))
        for number, row in enumerate(rows, start=1)
        if len(row.cells) != len(header)
    ]
    table = Table(
        name=name,
        columns={},
        source=source,
        features=input_columns(header, source),
        numbers=np.asarray(whole, np.int64) + 1,
        lines=np.asarray([rows[index].line for index in whole], np.int64),
    )
    for label, index in used.items():
        cells = [rows[row].cells[index].strip() for row in whole]
        values, bad = _column(cells, as_text=label in source.text)
        table.columns[label] = values
        kind = "text" if values.dtype == object else "number"
        problems += [
            (
                int(table.numbers[row]),
                table.problem(row, label, *bad_cell(cells[row], label, kind)),
            )
            for row in bad
        ]
    return finished(table, problems, len(problems))


def _column(cells: Sequence[str], *, as_text: bool) -> tuple[Array, list[int]]:
    """The values of a column, and the positions of those that are missing or no numbers."""
    if as_text:  # where the user has said so, "none" and "-" are categories like others
        return np.asarray(cells, dtype=object), [i for i, cell in enumerate(cells) if not cell]
    missing = [row for row, cell in enumerate(cells) if cell.casefold() in MISSING]
    numbers = [number(cell) for cell in cells]
    given = [row for row, cell in enumerate(cells) if cell.casefold() not in MISSING]
    if given and not any(numbers[row] is not None or meant_as_number(cells[row]) for row in given):
        return np.asarray(cells, dtype=object), missing
    bad = [row for row, number in enumerate(numbers) if number is None]
    return np.asarray([0.0 if number is None else number for number in numbers]), bad


def _wrong_length(row: _Line, number: int, expected: int, name: str) -> Problem:
    message = f"row {number}: expected {expected} values as in the header"
    hint = "a quote may not be closed" if row.last_line > row.line else None
    received = f"received {len(row.cells)}"
    return Problem(file=name, line=row.line, message=f"{message}, {received}", hint=hint)
