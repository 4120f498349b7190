"""Tables from text files and parquet files: read, checked to the last cell, encoded as arrays.

A column holds numbers or texts. Texts become one column of 0 and 1 for each category that the
training rows have, or class indices where they are the target.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from orchestrator.config.schema import CsvSource, ParquetSource, TableSource
from orchestrator.data.rows import Array, Rows, Tree
from orchestrator.errors import InvalidError, Problem, suggestion

MAX_PROBLEMS = 10
"""Problems named per file; the rest are counted."""

MAX_CATEGORIES = 1000
"""A text column with more categories than this is refused: each would be an input of its own."""

_MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "-", "?"})
"""What people write for a missing value, compared without case."""

_FINITE = "expected a finite float32 number"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """The columns of a file that a config asks for."""

    name: str
    """How the file is called in messages."""
    columns: dict[str, Array]
    """Column by column, shape (rows,): float64, or texts as objects."""
    source: TableSource
    """Which of them are targets, and the like."""
    features: tuple[str, ...]
    """The input columns in order."""
    numbers: npt.NDArray[np.int64]
    """Number of each row in the file, counted from 1."""
    lines: npt.NDArray[np.int64] | None
    """Line of the file on which each row begins; None where no row is to be named by it."""

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.numbers)

    def take(self, indices: Array) -> Table:
        """The rows at the indices."""
        return dataclasses.replace(
            self,
            columns={name: values[indices] for name, values in self.columns.items()},
            numbers=self.numbers[indices],
            lines=None if self.lines is None else self.lines[indices],
        )

    def problem(self, row: int, column: str, message: str, hint: str | None = None) -> Problem:
        """What is wrong with a cell; the row is a position in this table."""
        line = None if self.lines is None else int(self.lines[row])
        message = f"row {self.numbers[row]}: {message}"
        return Problem(file=self.name, line=line, key=column, message=message, hint=hint)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Encoding:
    """How the texts of a table become numbers, learnt from the training rows."""

    categories: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    """Categories of each text column among the inputs, in the order of their columns."""
    classes: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    """Classes of each text target; a class index is a position in them."""


def learn(table: Table) -> Encoding:
    """The categories that the training rows have, sorted.

    Raises:
        InvalidError: a text column has too many of them.
    """
    found = {}
    problems = []
    for name, values in table.columns.items():
        if values.dtype != object:
            continue
        found[name] = tuple(sorted(set(values.tolist())))
        if len(found[name]) > MAX_CATEGORIES:
            message = f"{len(found[name])} different texts in {len(table)} rows are too many"
            hint = "encode the column as numbers, or leave it out with features: [COLUMN, …]"
            problems.append(Problem(file=table.name, key=name, message=message, hint=hint))
    if problems:
        raise InvalidError(problems)
    return Encoding(
        categories={name: found[name] for name in table.features if name in found},
        classes={name: found[name] for name in target_columns(table.source) if name in found},
    )


def encode(table: Table, encoding: Encoding) -> Rows:
    """The table as arrays.

    Args:
        table: training or validation rows.
        encoding: what was learnt from the training rows.

    Returns:
        Inputs of shape (rows, columns), a text column as one column a category; targets of shape
        (rows,), or (rows, targets) for a list of them, or a dict of vectors for named outputs.

    Raises:
        InvalidError: a text that the training rows do not have, or texts where they have numbers.
    """
    problems = list(_other_kinds(table, encoding))
    if problems:
        raise InvalidError(problems)
    parts = []
    for name in table.features:
        values = table.columns[name]
        if name in encoding.categories:
            known = encoding.categories[name]
            codes = _codes(table, name, known, problems)
            values = np.eye(len(known) + 1, len(known), dtype=np.float64)[codes]
        parts.append(values.reshape(len(table), -1))
    targets = {
        name: _codes(table, name, encoding.classes[name], problems)
        if name in encoding.classes
        else table.columns[name]
        for name in target_columns(table.source)
    }
    if problems:
        raise InvalidError([*problems[:MAX_PROBLEMS], *_more(len(problems), table.name)])
    weight = table.source.sample_weight
    return Rows(
        x=np.ascontiguousarray(np.concatenate(parts, axis=1)),
        y=_target_tree(table.source.target, targets),
        weight=None if weight is None else table.columns[weight],
        columns=table.features,
    )


def _other_kinds(table: Table, encoding: Encoding) -> Iterator[Problem]:
    """Columns of numbers where the training rows have texts, and the other way round."""
    for name in (*table.features, *target_columns(table.source)):
        texts = table.columns[name].dtype == object
        if texts == (name in encoding.categories or name in encoding.classes):
            continue
        expected, received = ("numbers", "texts") if texts else ("texts", "numbers")
        message = f"expected {expected} as in the training rows, received {received}"
        hint = None if texts else f"read the column as categories with text: [{name}]"
        yield Problem(file=table.name, key=name, message=message, hint=hint)


def _codes(
    table: Table, name: str, known: Sequence[str], problems: list[Problem]
) -> npt.NDArray[np.int64]:
    """Position of each text among the known ones; one past the last for a text that is not."""
    index = {text: position for position, text in enumerate(known)}
    values = table.columns[name]
    codes = np.fromiter((index.get(text, len(known)) for text in values), np.int64, len(values))
    unseen = np.flatnonzero(codes == len(known))
    for row in unseen[np.unique(values[unseen].astype(str), return_index=True)[1]]:
        message = f"{values[row]!r} is not in the training rows, which have {_listed(known)}"
        hint = "drop the row, or train on such rows too"
        problems.append(table.problem(int(row), name, message, hint))
    return codes


def _listed(texts: Sequence[str]) -> str:
    shown = ", ".join(map(repr, texts[:10]))
    return shown if len(texts) <= 10 else f"{shown} and {len(texts) - 10} more"


def target_columns(source: TableSource) -> tuple[str, ...]:
    """The columns that are predicted."""
    target = source.target
    if isinstance(target, str):
        return (target,)
    return tuple(target.values()) if isinstance(target, Mapping) else tuple(target)


def _target_tree(target: str | list[str] | dict[str, str], columns: Mapping[str, Array]) -> Tree:
    if isinstance(target, str):
        return np.ascontiguousarray(columns[target])
    if isinstance(target, Mapping):
        return {output: np.ascontiguousarray(columns[name]) for output, name in target.items()}
    return np.stack([columns[name] for name in target], axis=1)


# ---------------------------------------------------------------------------- columns


def _check_header(header: Sequence[str], source: TableSource, name: str, line: int | None) -> None:
    """Refuse a header that lacks what the config asks for, or has it twice."""
    problems = []

    def report(message: str, key: str | None = None, hint: str | None = None) -> None:
        problems.append(Problem(file=name, line=line, key=key, message=message, hint=hint))

    for index, column in enumerate(header):
        if column in header[:index]:
            same = f"the same name {column!r}" if column else "no name"
            both = f"columns {header.index(column) + 1} and {index + 1}"
            report(f"{both} have {same}", column or None, "rename one")
    for role, columns in _roles(source):
        for column in columns:
            if column not in header:
                report(f"there is no {role} {column!r}", None, _header_hint(column, header, source))
    for column in set(source.features or ()) & {*target_columns(source), source.sample_weight}:
        report("the column is an input and a target or weight", column, "name it once")
    if not problems and not _features(header, source):
        report("expected input columns beside the target, found none")
    if problems:
        raise InvalidError(problems)


def _roles(source: TableSource) -> Iterator[tuple[str, Sequence[str]]]:
    yield "target column", target_columns(source)
    yield "feature column", source.features or ()
    yield "text column", source.text
    yield "column of sample weights", () if source.sample_weight is None else [source.sample_weight]


def _header_hint(column: str, header: Sequence[str], source: TableSource) -> str:
    if isinstance(source, CsvSource):
        others = [mark for mark in ",;\t|" if mark != source.delimiter and mark in header[0]]
        if len(header) == 1 and others:
            mark = "\\t" if others[0] == "\t" else others[0]
            return f'the columns look separated by {others[0]!r}: add delimiter: "{mark}"'
        if all(_number(name) is not None for name in header):
            return "the first line must name the columns, here it has numbers"
    return suggestion(column, header)


def _features(header: Sequence[str], source: TableSource) -> tuple[str, ...]:
    """The input columns: those that are named, or else all that have no other role."""
    if source.features is not None:
        return tuple(source.features)
    others = {*target_columns(source), source.sample_weight}
    return tuple(_label(header, index) for index, name in enumerate(header) if name not in others)


def _used(header: Sequence[str], source: TableSource) -> dict[str, int]:
    """Every column that is read, with its position."""
    names = {*_features(header, source), *target_columns(source), source.sample_weight}
    labels = [_label(header, index) for index in range(len(header))]
    return {label: index for index, label in enumerate(labels) if label in names}


def _label(header: Sequence[str], index: int) -> str:
    """How a column is called."""
    return header[index] or f"column {index + 1}"


def _finished(table: Table, problems: list[tuple[int, Problem]], count: int) -> Table:
    """The table, if nothing is wrong with it: neither so far nor with its numbers."""
    for name, values in table.columns.items():
        if values.dtype == object:
            continue
        bad = np.flatnonzero(beyond_float32(values))
        count += len(bad)
        for row in map(int, bad[:MAX_PROBLEMS]):
            message = f"{_FINITE}, received {values[row]}"
            hint = (
                "rescale the column" if np.isfinite(values[row]) else "fill it in or drop the row"
            )
            problems.append((int(table.numbers[row]), table.problem(row, name, message, hint)))
    if not problems and table.source.sample_weight is not None:
        problems += _wrong_weights(table, table.source.sample_weight)
        count = len(problems)
    if problems:
        places = {name: place for place, name in enumerate(table.columns)}
        problems.sort(key=lambda item: (item[0], places.get(item[1].key or "", -1)))
        named = [problem for _, problem in problems[:MAX_PROBLEMS]]
        raise InvalidError([*named, *_more(count, table.name)])
    return table


def _wrong_weights(table: Table, name: str) -> Iterator[tuple[int, Problem]]:
    """What is wrong with the sample weights, which are finite by now, with the row's number."""
    values = table.columns[name]
    if values.dtype == object:
        message = "expected numbers as sample weights, received texts"
        yield 0, Problem(file=table.name, key=name, message=message)
        return
    for row in map(int, np.flatnonzero(values < 0)):
        message = f"expected a weight of at least 0, received {values[row]:g}"
        yield int(table.numbers[row]), table.problem(row, name, message)
    if not values.any():
        message = "expected weights above 0, received only zeros"
        yield 0, Problem(file=table.name, key=name, message=message)


def beyond_float32(array: Array) -> npt.NDArray[np.bool_]:
    """Where an array is NaN, infinite or larger than float32, which the model computes in."""
    return ~(np.isfinite(array) & (np.abs(array) <= np.finfo(np.float32).max))


def _more(count: int, name: str) -> list[Problem]:
    """What to say about the problems that are not named."""
    left = count - MAX_PROBLEMS
    return [Problem(file=name, message=f"and {left} more like these")] if left > 0 else []


def invalid(
    file: str, message: str, hint: str | None = None, line: int | None = None
) -> InvalidError:
    """One problem with a file."""
    return InvalidError([Problem(file=file, line=line, message=message, hint=hint)])


# ---------------------------------------------------------------------------- text files


def read_csv(path: Path, source: CsvSource, *, name: str) -> Table:
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


def open_file(path: Path, name: str) -> BinaryIO:
    """Open a file of the user's; that it cannot be opened is a problem."""
    try:
        return path.open("rb")
    except OSError as error:
        raise invalid(name, f"cannot be read: {error.strerror}", "check the path") from error


def _read_text(text: str, source: CsvSource, name: str) -> Table:
    lines = _lines(text, source.delimiter)
    first = next(lines, None)
    if first is None:
        raise invalid(name, "expected a header line and rows of numbers, received an empty file")
    header = [column.strip() for column in first.cells]
    _check_header(header, source, name, first.line)
    used = _used(header, source)
    table = None if source.text else _parse_fast(text, first.last_line, source.delimiter, header)
    cells: Sequence[_Line] = () if table is not None else list(lines)
    count = len(cells) if table is None else len(table)
    if not count:
        raise invalid(name, "expected rows of numbers below the header, received none")
    if table is None:
        return _parse_slowly(cells, header, used, source, name)
    weight = None if source.sample_weight is None else table[:, used[source.sample_weight]]
    bad = beyond_float32(table).any() or (weight is not None and (weight < 0).any())
    return _finished(
        Table(
            name=name,
            columns={label: table[:, index] for label, index in used.items()},
            source=source,
            features=_features(header, source),
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
        features=_features(header, source),
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
                table.problem(row, label, *_bad_cell(cells[row], label, kind)),
            )
            for row in bad
        ]
    return _finished(table, problems, len(problems))


def _column(cells: Sequence[str], *, as_text: bool) -> tuple[Array, list[int]]:
    """The values of a column, and the positions of those that are missing or no numbers."""
    if as_text:  # where the user has said so, "none" and "-" are categories like others
        return np.asarray(cells, dtype=object), [i for i, cell in enumerate(cells) if not cell]
    missing = [row for row, cell in enumerate(cells) if cell.casefold() in _MISSING]
    numbers = [_number(cell) for cell in cells]
    given = [row for row, cell in enumerate(cells) if cell.casefold() not in _MISSING]
    if given and not any(numbers[row] is not None or _meant_as_number(cells[row]) for row in given):
        return np.asarray(cells, dtype=object), missing
    bad = [row for row, number in enumerate(numbers) if number is None]
    return np.asarray([0.0 if number is None else number for number in numbers]), bad


def _wrong_length(row: _Line, number: int, expected: int, name: str) -> Problem:
    message = f"row {number}: expected {expected} values as in the header"
    hint = "a quote may not be closed" if row.last_line > row.line else None
    received = f"received {len(row.cells)}"
    return Problem(file=name, line=row.line, message=f"{message}, {received}", hint=hint)


def _bad_cell(cell: str, column: str, kind: str) -> tuple[str, str]:
    """What is wrong with a cell where a number or a text is expected, and what to do."""
    shown = cell if len(cell) <= 60 else f"{cell[:59]}…"
    received = f"received {shown!r}" if cell else "the value is missing"
    if cell.casefold() in _MISSING:
        hint = "fill it in or drop the row"
    elif _meant_as_number(cell):
        hint = "write decimals with a point, and no other separators or units"
    else:
        hint = f"correct it, or read the column as categories with text: [{column}]"
    return f"expected a {kind}, {received}", hint


_NUMBER_MARKS = re.compile(r"[\s,_'%$€£]")
"""What people write in numbers that Python does not read."""


def _meant_as_number(cell: str) -> bool:
    """Whether a cell is a number in another notation, such as 1,5 or 12%."""
    stripped = _NUMBER_MARKS.sub("", cell)
    return stripped != cell and _number(stripped) is not None


def _number(cell: str) -> float | None:
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


# ---------------------------------------------------------------------------- parquet files


_PANDAS_INDEX = re.compile(r"__index_level_\d+__$")
"""How pandas calls an index that it saves beside the columns."""


def read_parquet(path: Path, source: ParquetSource, *, name: str) -> Table:
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
            _check_header(header, source, name, None)
            used = _used(header, source)
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
        features=_features(header, source),
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
            problem = table.problem(row, label, *_bad_cell("", label, kind))
            problems.append((row + 1, problem))
    return _finished(table, problems, count)


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


def summary(error: Exception) -> str:
    """The first line of what a library says."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
