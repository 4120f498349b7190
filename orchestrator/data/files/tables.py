"""Tables, whatever file they come from: their columns checked to the last cell, encoded as arrays.

A column holds numbers or texts. Texts become one column of 0 and 1 for each category that the
training rows have, or class indices where they are the target.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from orchestrator.config.schema import CsvSource, TableSource
from orchestrator.data.arrays import beyond_float32
from orchestrator.data.rows import Array, Rows, Tree
from orchestrator.errors import InvalidError, Problem, suggestion

MAX_PROBLEMS = 10
"""Problems named per file; the rest are counted."""

MAX_CATEGORIES = 1000
"""A text column with more categories than this is refused: each would be an input of its own."""

MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "-", "?"})
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


def check_header(header: Sequence[str], source: TableSource, name: str, line: int | None) -> None:
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
    if not problems and not input_columns(header, source):
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
        if all(number(name) is not None for name in header):
            return "the first line must name the columns, here it has numbers"
    return suggestion(column, header)


def input_columns(header: Sequence[str], source: TableSource) -> tuple[str, ...]:
    """The input columns: those that are named, or else all that have no other role."""
    if source.features is not None:
        return tuple(source.features)
    others = {*target_columns(source), source.sample_weight}
    return tuple(_label(header, index) for index, name in enumerate(header) if name not in others)


def used_columns(header: Sequence[str], source: TableSource) -> dict[str, int]:
    """Every column that is read, with its position."""
    names = {*input_columns(header, source), *target_columns(source), source.sample_weight}
    labels = [_label(header, index) for index in range(len(header))]
    return {label: index for index, label in enumerate(labels) if label in names}


def _label(header: Sequence[str], index: int) -> str:
    """How a column is called."""
    return header[index] or f"column {index + 1}"


def finished(table: Table, problems: list[tuple[int, Problem]], count: int) -> Table:
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


def _more(count: int, name: str) -> list[Problem]:
    """What to say about the problems that are not named."""
    left = count - MAX_PROBLEMS
    return [Problem(file=name, message=f"and {left} more like these")] if left > 0 else []


def bad_cell(cell: str, column: str, kind: str) -> tuple[str, str]:
    """What is wrong with a cell where a number or a text is expected, and what to do."""
    shown = cell if len(cell) <= 60 else f"{cell[:59]}…"
    received = f"received {shown!r}" if cell else "the value is missing"
    if cell.casefold() in MISSING:
        hint = "fill it in or drop the row"
    elif meant_as_number(cell):
        hint = "write decimals with a point, and no other separators or units"
    else:
        hint = f"correct it, or read the column as categories with text: [{column}]"
    return f"expected a {kind}, {received}", hint


_NUMBER_MARKS = re.compile(r"[\s,_'%$€£]")
"""What people write in numbers that Python does not read."""


def meant_as_number(cell: str) -> bool:
    """Whether a cell is a number in another notation, such as 1,5 or 12%."""
    stripped = _NUMBER_MARKS.sub("", cell)
    return stripped != cell and number(stripped) is not None


def number(cell: str) -> float | None:
    """The number that a cell holds; None where it holds none."""
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None
