"""Rows from files and callables: read, checked to the last value, split and standardised.

Only callables can bring TensorFlow in; tables and archives are read with NumPy alone, so that what
is wrong with them is said before TensorFlow is imported.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import itertools
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from orchestrator import usercode
from orchestrator.errors import InvalidError, Problem, suggestion
from orchestrator.schema import CallableSource, Config, CsvSource, NpzSource, Split

Array = npt.NDArray[Any]

_MAX_PROBLEMS = 10
"""Problems named per file; the rest are counted."""

_KERAS_EPSILON = 1e-7
"""`keras.config.epsilon()`: `Normalization` divides by no less than this."""

_MISSING = frozenset({"", "na", "n/a", "null", "none", "-", "?"})
"""What people write for a missing value, compared without case."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """Inputs and targets of the same rows."""

    x: Array
    """Inputs, shape (rows, …)."""
    y: Array
    """Targets, shape (rows,) or (rows, …)."""
    columns: tuple[str, ...] = ()
    """Names of the input columns; empty for arrays."""

    def __len__(self) -> int:
        """Number of rows."""
        return int(self.x.shape[0])

    def take(self, indices: Array) -> Rows:
        """The rows at the indices."""
        return dataclasses.replace(self, x=self.x[indices], y=self.y[indices])


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Scaling:
    """Shift and scale of each input column, as `keras.layers.Normalization` applies them."""

    mean: npt.NDArray[np.float32]
    """Mean over the training rows, shape (columns,)."""
    variance: npt.NDArray[np.float32]
    """Variance over the training rows, 1 where a column is constant; shape (columns,)."""

    def apply(self, x: Array) -> npt.NDArray[np.float32]:
        """Standardise in float32, in the layer's own order of operations.

        Args:
            x: raw inputs, shape (rows, …, columns).

        Returns:
            Standardised inputs of the same shape.
        """
        deviation = np.maximum(np.sqrt(self.variance), np.float32(_KERAS_EPSILON))
        scaled = (x.astype(np.float32) - self.mean) / deviation
        return scaled.astype(np.float32, copy=False)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """What an attempt trains on."""

    train: Rows
    """Training rows, standardised where the config says so."""
    validation: Rows | None
    """Rows that are never trained on, treated alike."""
    scaling: Scaling | None
    """The standardisation, or None."""
    fingerprint: str
    """Hash of the raw arrays."""


def load(config: Config) -> Dataset:
    """Read, check, split and standardise the rows of a config.

    Args:
        config: the config.

    Returns:
        The dataset; the same one for every attempt of a run.

    Raises:
        InvalidError: the data is at fault; names file, row and column.
        UserCodeError: a data callable raised.
    """
    train = read(config, "train")
    validation = config.data.validation
    held: Rows | None = None
    if isinstance(validation, Split):
        if len(train) < 2:
            message = f"expected at least 2 rows to split, received {len(train)}"
            raise InvalidError([config.problem(("data", "validation", "fraction"), message)])
        train, held = split(train, validation.fraction, config.seed)
    elif validation is not None:
        held = read(config, "validation")
        _check_alike(train, held, config)
    digest = fingerprint([train, held] if held is not None else [train])
    scaling = _scaling(train, config) if config.data.standardize else None
    return Dataset(
        train=_scaled(train, scaling),
        validation=None if held is None else _scaled(held, scaling),
        scaling=scaling,
        fingerprint=digest,
    )


def _check_alike(train: Rows, held: Rows, config: Config) -> None:
    pairs = [
        ("the columns", ", ".join(train.columns), ", ".join(held.columns)),
        ("inputs of shape", train.x.shape[1:], held.x.shape[1:]),
        ("targets of shape", train.y.shape[1:], held.y.shape[1:]),
    ]
    for what, expected, received in pairs:
        if expected != received:
            message = f"expected {what} {expected} as in the training data, received {received}"
            raise InvalidError([config.problem(("data", "validation"), message)])


def _scaling(train: Rows, config: Config) -> Scaling:
    """The standardisation, refused for columns that float32 cannot standardise."""
    scaling = standardization(train.x)
    deviation = np.sqrt(scaling.variance)
    bad = np.flatnonzero(~(np.isfinite(deviation) & (deviation >= _KERAS_EPSILON)))
    problems = []
    for column in map(int, bad[:_MAX_PROBLEMS]):
        name = train.columns[column] if train.columns else f"{column} (from 0)"
        size = "far" if np.isinf(deviation[column]) else "little"
        message = f"column {name} varies too {size} to be standardised in float32"
        hint = "give the column in another unit"
        problems.append(config.problem(("data", "standardize"), message, hint))
    if problems:
        raise InvalidError(problems)
    return scaling


def read(config: Config, part: str) -> Rows:
    """Read one source of a config and check every value of it.

    Args:
        config: the config.
        part: `train` or `validation`.

    Returns:
        Rows with finite numbers only.

    Raises:
        InvalidError: the data is at fault.
        UserCodeError: the callable raised.
    """
    source = getattr(config.data, part)
    match source:
        case CsvSource():
            return read_csv(config.path(source.csv), source, name=source.csv)
        case NpzSource():
            return read_npz(config.path(source.npz), source, name=source.npz)
        case CallableSource():
            return read_callable(source, config, part)
    raise TypeError(f"Expected a source with rows of its own. Received: {source!r}")


def has_user_code(config: Config) -> bool:
    """Whether reading the data runs a callable of the user's."""
    return isinstance(config.data.train, CallableSource) or isinstance(
        config.data.validation, CallableSource
    )


def read_csv(path: Path, source: CsvSource, *, name: str) -> Rows:
    """Read a table of numbers.

    Args:
        path: the file.
        source: its target and delimiter.
        name: how to call the file in messages.

    Returns:
        Inputs in the columns' order, shape (rows, columns), float64, and targets, shape (rows,).

    Raises:
        InvalidError: an empty file, duplicate headers, an unknown target, a ragged row, a missing
            value, text or a non-finite number; with file, line and column.
    """
    with _open(path, name) as file:
        content = file.read()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        message = f"expected UTF-8 text, received the byte 0x{content[error.start]:02x}"
        raise _invalid(name, message, "save the table as UTF-8", line) from error
    try:
        return _read_table(text, source, name)
    except csv.Error as error:
        hint = "a quote may not be closed"
        raise _invalid(name, f"cannot be read as a table: {error}", hint) from error


def _open(path: Path, name: str) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise _invalid(name, f"cannot be read: {error.strerror}", "check the path") from error


def _read_table(text: str, source: CsvSource, name: str) -> Rows:
    lines = _lines(text, source.delimiter)
    first = next(lines, None)
    if first is None:
        raise _invalid(name, "expected a header line and rows of numbers, received an empty file")
    header = [column.strip() for column in first.cells]
    _check_header(header, source, name, first.line)
    table = _parse_fast(text, first.last_line, source.delimiter, len(header))
    if table is None:
        table = _parse_slowly(lines, header, name)
    if not len(table):
        raise _invalid(name, "expected rows of numbers below the header, received none")
    _check_table(table, header, _lines(text, source.delimiter), name)
    target = header.index(source.target)
    inputs = [index for index in range(len(header)) if index != target]
    return Rows(
        x=np.ascontiguousarray(table[:, inputs]),
        y=np.ascontiguousarray(table[:, target]),
        columns=tuple(_label(header, index) for index in inputs),
    )


@dataclasses.dataclass(frozen=True, slots=True)
class _Line:
    number: int
    """0 for the header, then counted from 1."""
    line: int
    """Line of the file on which it begins."""
    last_line: int
    """Line on which it ends, where a quoted cell holds line breaks."""
    cells: list[str]


def _lines(text: str, delimiter: str) -> Iterator[_Line]:
    """The header and the rows of a table, without blank lines."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    number = 0
    begin = 1
    for cells in reader:
        if len(cells) > 1 or (cells and cells[0].strip()):
            yield _Line(number, begin, reader.line_num, cells)
            number += 1
        begin = reader.line_num + 1


def _label(header: Sequence[str], index: int) -> str:
    """How a column is called."""
    return header[index] or f"column {index + 1}"


def _check_header(header: Sequence[str], source: CsvSource, name: str, line: int) -> None:
    problems = []

    def report(message: str, key: str | None = None, hint: str | None = None) -> None:
        problems.append(Problem(file=name, line=line, key=key, message=message, hint=hint))

    for index, column in enumerate(header):
        if column in header[:index]:
            same = f"the same name {column!r}" if column else "no name"
            both = f"columns {header.index(column) + 1} and {index + 1}"
            report(f"{both} have {same}", column or None, "rename one")
    target = source.target
    if target not in header:
        report(f"there is no target column {target!r}", None, _target_hint(header, source))
    elif len(header) == 1:
        report("expected input columns beside the target, found none")
    if problems:
        raise InvalidError(problems)


def _target_hint(header: Sequence[str], source: CsvSource) -> str:
    others = [mark for mark in ",;\t|" if mark != source.delimiter and mark in header[0]]
    if len(header) == 1 and others:
        mark = "\\t" if others[0] == "\t" else others[0]
        return f'the columns look separated by {others[0]!r}: add delimiter: "{mark}"'
    if all(_number(column) is not None for column in header):
        return "the first line must name the columns, here it has numbers"
    return suggestion(source.target, header)


def _parse_fast(
    text: str, skip: int, delimiter: str, columns: int
) -> npt.NDArray[np.float64] | None:
    """The table by NumPy's own parser, or None where it finds anything to object to."""
    below = itertools.islice(io.StringIO(text, newline=None), skip, None)
    rows = (row for row in below if delimiter in row or not row.isspace())
    first = next(rows, None)
    if first is None:
        return np.empty((0, columns))
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
    return table if table.shape[1] == columns else None


def _parse_slowly(
    lines: Iterator[_Line], header: Sequence[str], name: str
) -> npt.NDArray[np.float64]:
    """The table value by value, with every problem named."""
    problems: list[Problem] = []
    count = 0
    rows: list[list[float]] = []
    for row in lines:
        values = [_number(cell) for cell in row.cells]
        found = []
        if len(values) != len(header):
            found.append(_wrong_length(row, len(header), name))
        else:
            found += [
                _not_a_number(row, index, _label(header, index), name)
                for index, number in enumerate(values)
                if number is None
            ]
        count += len(found)
        problems += found[: _MAX_PROBLEMS - len(problems)]
        if not found:
            rows.append([number for number in values if number is not None])
    if problems:
        raise InvalidError([*problems, *_more(count, name)])
    return np.asarray(rows, dtype=np.float64).reshape(-1, len(header))


def _wrong_length(row: _Line, expected: int, name: str) -> Problem:
    message = f"row {row.number}: expected {expected} values as in the header"
    hint = "a quote may not be closed" if row.last_line > row.line else None
    received = f"received {len(row.cells)}"
    return Problem(file=name, line=row.line, message=f"{message}, {received}", hint=hint)


def _not_a_number(row: _Line, index: int, column: str, name: str) -> Problem:
    cell = row.cells[index].strip()
    shown = cell if len(cell) <= 60 else f"{cell[:59]}…"
    received = f"received {shown!r}" if cell else "the value is missing"
    if cell.casefold() in _MISSING:
        hint = "fill it in or drop the row"
    elif _number(cell.replace(",", ".")) is not None:
        hint = "write decimals with a point, and no other separators"
    else:
        hint = "drop the column or encode it as numbers"
    message = f"row {row.number}: expected a number, {received}"
    return Problem(file=name, line=row.line, key=column, message=message, hint=hint)


def _more(count: int, name: str) -> list[Problem]:
    """What to say about the problems that are not named."""
    left = count - _MAX_PROBLEMS
    return [Problem(file=name, message=f"and {left} more like these")] if left > 0 else []


def _number(cell: str) -> float | None:
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


def _check_table(
    table: npt.NDArray[np.float64], header: Sequence[str], lines: Iterator[_Line], name: str
) -> None:
    """Refuse what float32 cannot hold, which is what the model computes in."""
    bad = np.argwhere(_beyond_float32(table))
    if not len(bad):
        return
    wanted = {int(row) + 1 for row, _ in bad[:_MAX_PROBLEMS]}
    places = {row.number: row.line for row in lines if row.number in wanted}
    problems = [
        Problem(
            file=name,
            line=places[int(row) + 1],
            key=_label(header, int(column)),
            message=f"row {row + 1}: {_FINITE}, received {table[row, column]}",
            hint=_value_hint(table[row, column]),
        )
        for row, column in bad[:_MAX_PROBLEMS]
    ]
    raise InvalidError([*problems, *_more(len(bad), name)])


_FINITE = "expected a finite float32 number"


def _beyond_float32(array: Array) -> npt.NDArray[np.bool_]:
    """Where an array is NaN, infinite or larger than float32 can hold."""
    return ~(np.isfinite(array) & (np.abs(array) <= np.finfo(np.float32).max))


def _value_hint(value: Any) -> str:
    return "rescale the column" if np.isfinite(value) else "fill it in or drop the row"


def read_npz(path: Path, source: NpzSource, *, name: str) -> Rows:
    """Read two arrays of a NumPy archive, without unpickling anything.

    Args:
        path: the file.
        source: the arrays' names.
        name: how to call the file in messages.

    Returns:
        The rows.

    Raises:
        InvalidError: not an archive, an unknown array, arrays that do not fit or are not finite.
    """
    names = {"x": source.x, "y": source.y}
    with _open(path, name) as file:
        if not zipfile.is_zipfile(file):
            message = "expected an .npz archive, received another kind of file, or a part of one"
            raise _invalid(name, message, "save it with numpy.savez")
        file.seek(0)
        try:
            with np.load(file, allow_pickle=False) as archive:
                arrays = {role: _member(archive, key, name) for role, key in names.items()}
        except Exception as error:
            # What a damaged archive raises has no common base: zipfile, zlib, NumPy have their own.
            message = f"cannot be read as an .npz archive: {_summary(error)}"
            raise _invalid(name, message) from error
    problems = [array for array in arrays.values() if isinstance(array, Problem)]
    if problems:
        raise InvalidError(problems)
    return _checked(arrays["x"], arrays["y"], name, names)


def _member(archive: Any, key: str, name: str) -> Any:
    """An array of the archive, or the problem with it."""
    if key not in archive.files:
        message, hint = f"there is no array {key!r}", suggestion(key, archive.files)
        return Problem(file=name, key=key, message=message, hint=hint)
    try:
        return np.asarray(archive[key])
    except Exception as error:  # noqa: BLE001 - as above; the other array may be damaged too
        if "allow_pickle" in str(error):
            message, hint = "expected an array of numbers, received Python objects", "set its dtype"
            return Problem(file=name, key=key, message=message, hint=hint)
        return Problem(file=name, key=key, message=f"cannot be read: {_summary(error)}")


def _summary(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def read_callable(source: CallableSource, config: Config, part: str) -> Rows:
    """Call the user's function and check what it returns.

    Args:
        source: the function and its arguments.
        config: the config.
        part: `train` or `validation`.

    Returns:
        The rows.

    Raises:
        InvalidError: there is no such function, or it returns anything but two arrays that fit.
        UserCodeError: it raised.
    """
    key = ("data", part)
    function = usercode.find(source.callable, config, key=(*key, "callable"))
    usercode.check_arguments(function, source.kwargs, config, key=(*key, "kwargs"))
    with usercode.blamed(f"the data callable {source.callable}"):
        result = function(**source.kwargs)
    name = source.callable
    if not isinstance(result, tuple) or len(result) != 2:
        received = type(result).__name__
        if isinstance(result, tuple):
            received = f"a tuple of {len(result)}"
        raise _invalid(name, f"expected it to return a tuple (x, y), received {received}")
    arrays = []
    for role, value in zip("xy", result, strict=True):
        try:
            arrays.append(np.asarray(value))
        except Exception as error:
            message = f"{role}: expected an array of numbers, received {type(value).__name__}"
            raise _invalid(name, f"{message}: {_summary(error)}") from error
    return _checked(arrays[0], arrays[1], name, {"x": "x", "y": "y"})


def _checked(x: Array, y: Array, name: str, names: dict[str, str]) -> Rows:
    problems = []
    # Keras and NumPy calculate with numbers, not with truth values.
    x, y = (array.astype(np.float32) if array.dtype.kind == "b" else array for array in (x, y))
    for role, array in (("x", x), ("y", y)):
        if array.dtype.kind not in "fiu":
            message = f"expected an array of numbers, received dtype {array.dtype}"
        elif array.ndim == 0:
            message = "expected one row per sample, received a single number"
        elif array.shape[0] == 0 or array.size == 0:
            message = f"expected at least one row, received shape {array.shape}"
        else:
            message = _non_finite(array)
        if message:
            problems.append(Problem(file=name, key=names[role], message=message))
    if x.ndim and y.ndim and x.shape[0] != y.shape[0]:
        problems.append(
            Problem(
                file=name,
                message=f"expected as many targets as inputs, received {x.shape[0]} rows of "
                f"{names['x']} and {y.shape[0]} of {names['y']}",
            )
        )
    if problems:
        raise InvalidError(problems)
    return Rows(x=x[:, np.newaxis] if x.ndim == 1 else x, y=y)


def _non_finite(array: Array) -> str:
    """A clause on the first value that float32 cannot hold, or an empty text."""
    if array.dtype.kind != "f":
        return ""
    for start in range(0, array.shape[0], 65536):  # in pieces, so that memory stays bounded
        part = array[start : start + 65536]
        bad = np.argwhere(_beyond_float32(part))
        if len(bad):
            row, *column = (int(index) for index in bad[0])
            place = f", column {', '.join(map(str, column))}" if column else ""
            return f"row {start + row}{place} (from 0): {_FINITE}, received {part[tuple(bad[0])]}"
    return ""


def split(rows: Rows, fraction: float, seed: int) -> tuple[Rows, Rows]:
    """Hold back a share of the rows, drawn once from the run's seed.

    Args:
        rows: all rows.
        fraction: share to hold back, between 0 and 1.
        seed: the run's seed.

    Returns:
        Training rows and validation rows, at least one of each where there are two.
    """
    count = len(rows)
    held = min(max(round(count * fraction), 1), count - 1)
    order = np.random.default_rng(seed).permutation(count)
    return rows.take(np.sort(order[held:])), rows.take(np.sort(order[:held]))


def standardization(x: Array) -> Scaling:
    """Mean and variance of each column over all rows and positions.

    Args:
        x: training inputs, shape (rows, …, columns).

    Returns:
        The scaling. A column is constant, and keeps variance 1, when its variance is below the
        rounding error of its mean (the bound of scikit-learn's `_is_constant_feature`).
    """
    # The saved model takes float32, so the statistics are those of the float32 values.
    values = x.astype(np.float32).astype(np.float64).reshape(-1, x.shape[-1])
    mean = values.mean(axis=0)
    variance = np.mean((values - mean) ** 2, axis=0)
    epsilon = np.finfo(np.float64).eps
    bound = len(values) * epsilon * variance + (len(values) * mean * epsilon) ** 2
    variance = np.where(variance <= bound, 1.0, variance)
    with np.errstate(over="ignore", under="ignore"):  # the caller looks at what came out
        return Scaling(mean=mean.astype(np.float32), variance=variance.astype(np.float32))


def _scaled(rows: Rows, scaling: Scaling | None) -> Rows:
    y = rows.y.astype(np.float32) if rows.y.dtype.kind == "f" else rows.y
    if scaling is not None:
        return dataclasses.replace(rows, x=scaling.apply(rows.x), y=y)
    x = rows.x.astype(np.float32) if rows.x.dtype.kind == "f" else rows.x
    return dataclasses.replace(rows, x=x, y=y)


def fingerprint(parts: Sequence[Rows]) -> str:
    """SHA-256 over shapes, types and values.

    Args:
        parts: the rows before standardisation.

    Returns:
        `sha256:` and 64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for part in parts:
        for array in (part.x, part.y):
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
    return f"sha256:{digest.hexdigest()}"


def _invalid(
    file: str, message: str, hint: str | None = None, line: int | None = None
) -> InvalidError:
    return InvalidError([Problem(file=file, line=line, message=message, hint=hint)])
