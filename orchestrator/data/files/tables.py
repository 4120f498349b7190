"""Tables, whatever file they come from: which of their columns are read, and what is in them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from orchestrator.config.sections.data import CsvSource, TableSource
from orchestrator.data.arrays import FLOAT32_MAX, beyond_float32
from orchestrator.data.files import cells
from orchestrator.data.rows import Array
from orchestrator.errors import InvalidError, Problem, suggestion

MAX_PROBLEMS = 10
"""Problems named per file; the rest are counted."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Texts:
    """A column of texts."""

    codes: npt.NDArray[np.int32]
    """Position of each row's text in `texts`, shape (rows,)."""
    texts: tuple[str, ...]
    """The different texts of the file, in the order in which they appear in it."""


Column = Array | Texts
"""float64 of shape (rows,), or texts."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """The columns of a file that a config asks for."""

    name: str
    """How the file is called in messages."""
    columns: dict[str, Column]
    """Column by column, with all rows of the file."""
    source: TableSource
    """Which of them are targets, and the like."""
    features: tuple[str, ...]
    """The input columns in order."""
    lines: Callable[[], Array] | None = None
    """Reads the file again for the lines on which its rows begin; None where it has no lines."""
    order: npt.NDArray[np.int64] | None = None
    """Positions in the file of the rows that are meant; None for all of them."""

    def __len__(self) -> int:
        """Number of rows."""
        if self.order is not None:
            return len(self.order)
        first = next(iter(self.columns.values()))
        return len(first.codes if isinstance(first, Texts) else first)

    def take(self, indices: Array) -> Table:
        """The rows at the indices."""
        order = indices if self.order is None else self.order[indices]
        return dataclasses.replace(self, order=order)

    def values(self, label: str) -> Array:
        """The numbers of a column, or the codes of its texts, for the rows that are meant."""
        column = self.columns[label]
        values: Array = column.codes if isinstance(column, Texts) else column
        return values if self.order is None else values[self.order]

    def texts(self, label: str) -> tuple[str, ...]:
        """What the codes of a column are positions in; nothing for numbers."""
        column = self.columns[label]
        return column.texts if isinstance(column, Texts) else ()

    def problem(self, row: int, column: str, message: str, hint: str | None = None) -> Problem:
        """What is wrong with a cell; the row is a position in this table."""
        place = row if self.order is None else int(self.order[row])
        line = None if self.lines is None else int(self.lines()[place])
        message = f"row {place + 1}: {message}"
        return Problem(file=self.name, line=line, key=column, message=message, hint=hint)


@dataclasses.dataclass(frozen=True, slots=True)
class _Finding:
    """What is wrong with a cell, or with a row."""

    number: int
    """The row's number in the file, counted from 1; 0 for the column as a whole."""
    label: str | None
    message: str
    hint: str | None


class _Growing:
    """A vector that grows block by block where it is, so that it is never there twice."""

    def __init__(self) -> None:
        self._values: Array = np.empty(0)
        self._length = 0

    def append(self, block: Array) -> None:
        """Add the values of a block."""
        if not self._length:
            self._values = np.empty(len(block), block.dtype)
        end = self._length + len(block)
        if end > len(self._values):
            self._values.resize(end + end // 8, refcheck=False)  # nobody else has it yet
        self._values[self._length : end] = block
        self._length = end

    def finish(self) -> Array:
        """All values."""
        self._values.resize(self._length, refcheck=False)
        return self._values


class Gathering:
    """The columns of a table while they are read block by block, and what is wrong in them.

    Args:
        header: the names of all columns of the file.
        source: which of them are asked for.
        name: how to call the file in messages.
        line: line of the header, where there are lines.
        lines: as `Table` has it.

    Raises:
        InvalidError: the header lacks what the config asks for, or has it twice.
    """

    def __init__(
        self,
        header: Sequence[str],
        source: TableSource,
        name: str,
        *,
        line: int | None = None,
        lines: Callable[[], Array] | None = None,
    ) -> None:
        _check_header(header, source, name, line)
        self.header = header
        """The names of all columns, some of which may be empty."""
        self.used = _used_columns(header, source)
        """Every column that is read, with its position in the file."""
        self.rows = 0
        """Rows in the blocks so far."""
        self._features = _input_columns(header, source)
        self._source = source
        self._name = name
        self._lines = lines
        self._values = {label: _Growing() for label in self.used}
        self._texts: dict[str, dict[str, int]] = {}
        self._places = {label: place for place, label in enumerate(self.used)}
        self._findings: list[_Finding] = []
        self._count = 0

    def add_numbers(self, label: str, values: npt.NDArray[np.float64]) -> None:
        """Add a block of a column of numbers."""
        self._values[label].append(values)
        if len(values) and not np.abs(values).max() <= FLOAT32_MAX:
            bad = np.flatnonzero(beyond_float32(values))
            self.report(label, bad, lambda row: _describe_beyond(values[row]))

    def add_texts(self, label: str, codes: Array, texts: Sequence[str]) -> None:
        """Add a block of a column of texts: positions in the different ones of the block."""
        known = self._texts.setdefault(label, {})
        places = [known.setdefault(text, len(known)) for text in texts]
        self._values[label].append(np.asarray(places, np.int32)[codes])

    def report(
        self, label: str | None, rows: Array, describe: Callable[[int], tuple[str, str | None]]
    ) -> None:
        """Note what is wrong with cells of the present block.

        Args:
            label: their column; None where whole rows are wrong.
            rows: positions of their rows in the block.
            describe: says of one of them what is wrong, and what to do.
        """
        self._count += len(rows)
        self._findings += [
            _Finding(self.rows + row + 1, label, *describe(row))
            for row in map(int, rows[:MAX_PROBLEMS])
        ]

    def report_column(self, label: str, message: str, hint: str | None) -> None:
        """Note what is wrong with a column as a whole."""
        self._count += 1
        self._findings.append(_Finding(0, label, message, hint))

    def end_block(self, rows: int) -> None:
        """Go on to the next block, after one of so many rows."""
        self.rows += rows
        self._findings.sort(key=lambda each: (each.number, self._places.get(each.label or "", -1)))
        del self._findings[MAX_PROBLEMS:]

    def finish(self) -> Table:
        """The whole table.

        Raises:
            InvalidError: something is wrong with it.
        """
        self._raise()
        columns: dict[str, Column] = {}
        for label in self.used:
            values = self._values[label].finish()
            texts = self._texts.get(label)
            columns[label] = values if texts is None else Texts(values, tuple(texts))
        if self._source.sample_weight is not None:
            self._check_weights(self._source.sample_weight, columns)
            self._raise()
        return Table(
            name=self._name,
            columns=columns,
            source=self._source,
            features=self._features,
            lines=self._lines,
        )

    def _check_weights(self, label: str, columns: Mapping[str, Column]) -> None:
        values = columns[label]
        self.rows = 0
        if isinstance(values, Texts):
            self.report_column(label, "expected numbers as sample weights, received texts", None)
        elif not values.any():
            self.report_column(label, "expected weights above 0, received only zeros", None)
        else:
            self.report(
                label,
                np.flatnonzero(values < 0),
                lambda row: (f"expected a weight of at least 0, received {values[row]:g}", None),
            )

    def _raise(self) -> None:
        """Raise what was found."""
        if not self._count:
            return
        self.end_block(0)
        lines = None
        if self._lines is not None and any(each.number for each in self._findings):
            lines = self._lines()
        problems = []
        for each in self._findings:
            line = None if lines is None or not each.number else int(lines[each.number - 1])
            message = f"row {each.number}: {each.message}" if each.number else each.message
            problems.append(
                Problem(file=self._name, line=line, key=each.label, message=message, hint=each.hint)
            )
        raise InvalidError([*problems, *more(self._count, self._name)])


def _describe_beyond(value: float) -> tuple[str, str]:
    """What is wrong with a number that float32 cannot hold."""
    hint = "rescale the column" if np.isfinite(value) else "fill it in or drop the row"
    return f"expected a finite float32 number, received {value}", hint


def more(count: int, name: str) -> list[Problem]:
    """What to say about the problems that are not named."""
    left = count - MAX_PROBLEMS
    return [Problem(file=name, message=f"and {left} more like these")] if left > 0 else []


def target_columns(source: TableSource) -> tuple[str, ...]:
    """The columns that are predicted."""
    target = source.target
    if isinstance(target, str):
        return (target,)
    return tuple(target.values()) if isinstance(target, Mapping) else tuple(target)


def _check_header(header: Sequence[str], source: TableSource, name: str, line: int | None) -> None:
    """Refuse a header that lacks what the config asks for, or has it twice."""
    problems = []

    def report(message: str, key: str | None = None, hint: str | None = None) -> None:
        problems.append(Problem(file=name, line=line, key=key, message=message, hint=hint))

    places: dict[str, int] = {}
    for index, column in enumerate(header):
        if (first := places.setdefault(column, index)) != index:
            same = f"the same name {column!r}" if column else "no name"
            both = f"columns {first + 1} and {index + 1}"
            report(f"{both} have {same}", column or None, "rename one")
    lacking: set[str] = set()
    for role, columns in _roles(source):
        for column in columns:
            if not column:
                report(f"there is no {role} without a name", None, "give the column a name")
            elif column not in places and column not in lacking:
                lacking.add(column)  # a column may have several roles
                report(f"there is no {role} {column!r}", None, _header_hint(column, header, source))
    for column in set(source.features or ()) & {*target_columns(source), source.sample_weight}:
        report("the column is an input and a target or weight", column, "name it once")
    if source.group in (source.features or ()):
        message = "the column tells the groups that validation holds back, and cannot be an input"
        report(message, source.group, "leave it out of features")
    if not problems and not _input_columns(header, source):
        report("expected input columns beside the target, found none")
    if problems:
        raise InvalidError(problems)


def _roles(source: TableSource) -> Iterator[tuple[str, Sequence[str]]]:
    yield "target column", target_columns(source)
    yield "feature column", source.features or ()
    yield "text column", source.text
    yield "column of sample weights", () if source.sample_weight is None else [source.sample_weight]
    yield "column of groups", () if source.group is None else [source.group]


def _header_hint(column: str, header: Sequence[str], source: TableSource) -> str:
    if isinstance(source, CsvSource):
        others = [mark for mark in ",;\t|" if mark != source.delimiter and mark in header[0]]
        if len(header) == 1 and others:
            mark = "\\t" if others[0] == "\t" else others[0]
            return f'the columns look separated by {others[0]!r}: add delimiter: "{mark}"'
        if all(cells.number(name) is not None for name in header):
            return "the first line must name the columns, here it has numbers"
    return suggestion(column, header)


def _input_columns(header: Sequence[str], source: TableSource) -> tuple[str, ...]:
    """The input columns: those that are named, or else all that have no other role."""
    if source.features is not None:
        return tuple(source.features)
    others = {*target_columns(source), source.sample_weight, source.group}
    return tuple(_label(header, index) for index, name in enumerate(header) if name not in others)


def _used_columns(header: Sequence[str], source: TableSource) -> dict[str, int]:
    """Every column that is read, with its position."""
    roles = {*target_columns(source), source.sample_weight, source.group}
    names = {*_input_columns(header, source), *roles}
    labels = [_label(header, index) for index in range(len(header))]
    return {label: index for index, label in enumerate(labels) if label in names}


def _label(header: Sequence[str], index: int) -> str:
    """How a column is called."""
    return header[index] or f"column {index + 1}"
