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
from typing import Any

import numpy as np
import numpy.typing as npt

from orchestrator import usercode
from orchestrator.config import CallableSource, Config, CsvSource, NpzSource, Split
from orchestrator.errors import InvalidError, Problem, suggestion

Array = npt.NDArray[Any]

_MAX_PROBLEMS = 10
"""Problems named per file; the rest are counted."""


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
        scaled: npt.NDArray[np.float32] = (x.astype(np.float32) - self.mean) / np.sqrt(self.variance)
        return scaled


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
    scaling = standardization(train.x) if config.data.standardize else None
    return Dataset(
        train=_scaled(train, scaling),
        validation=None if held is None else _scaled(held, scaling),
        scaling=scaling,
        fingerprint=digest,
    )


def _check_alike(train: Rows, held: Rows, config: Config) -> None:
    pairs = [
        ("the columns", train.columns, held.columns),
        ("inputs of shape", train.x.shape[1:], held.x.shape[1:]),
        ("targets of shape", train.y.shape[1:], held.y.shape[1:]),
    ]
    for what, expected, received in pairs:
        if expected != received:
            message = f"expected {what} {expected} as in the training data, received {received}"
            raise InvalidError([config.problem(("data", "validation"), message)])


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
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise _invalid(name, f"cannot be read as UTF-8 text: {error}") from error
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=source.delimiter)
    header = next((row for row in reader if row), None)
    if header is None:
        raise _invalid(name, "expected a header line and rows of numbers, received an empty file")
    header = [column.strip() for column in header]
    _check_header(header, source, name)
    table = _parse_fast(text, reader.line_num, source.delimiter, len(header))
    if table is None:
        table = _parse_slowly(reader, header, name)
    if not len(table):
        raise _invalid(name, "expected rows of numbers below the header, received none")
    target = header.index(source.target)
    _check_table(table, header, text, source.delimiter, name)
    inputs = [index for index in range(len(header)) if index != target]
    return Rows(
        x=np.ascontiguousarray(table[:, inputs]),
        y=np.ascontiguousarray(table[:, target]),
        columns=tuple(header[index] for index in inputs),
    )


def _check_header(header: Sequence[str], source: CsvSource, name: str) -> None:
    problems = []
    for index, column in enumerate(header):
        if column in header[:index]:
            problems.append(
                Problem(
                    file=name,
                    line=1,
                    key=column or None,
                    message=f"columns {header.index(column) + 1} and {index + 1} have the same name "
                    f"{column!r}",
                    hint="rename one",
                )
            )
    if source.target not in header:
        hint = suggestion(source.target, header)
        others = [mark for mark in ",;\t|" if mark != source.delimiter and mark in "".join(header)]
        if len(header) == 1 and others:
            hint = f"the columns look separated by {others[0]!r}: set delimiter"
        elif all(_number(column) is not None for column in header):
            hint = "the first line must name the columns, here it has numbers"
        problems.append(
            Problem(
                file=name, line=1, message=f"there is no target column {source.target!r}", hint=hint
            )
        )
    elif len(header) == 1:
        problems.append(
            Problem(file=name, line=1, message="expected input columns beside the target, found none")
        )
    if problems:
        raise InvalidError(problems)


def _parse_fast(
    text: str, skip: int, delimiter: str, columns: int
) -> npt.NDArray[np.float64] | None:
    """The table by NumPy's own parser, or None where it finds anything to object to."""
    lines = itertools.islice(io.StringIO(text, newline=None), skip, None)
    lines = (line for line in lines if not line.isspace())
    try:
        first = next(lines, None)
        if first is None:
            return np.empty((0, columns))
        table: npt.NDArray[np.float64] = np.loadtxt(
            itertools.chain([first], lines),
            delimiter=delimiter,
            comments=None,
            quotechar='"',
            ndmin=2,
        )
    except ValueError:
        return None
    return table if table.shape[1] == columns else None


def _parse_slowly(
    reader: Any, header: Sequence[str], name: str
) -> npt.NDArray[np.float64]:
    """The table value by value, with every problem named."""
    problems: list[Problem] = []
    count = 0
    rows: list[list[float]] = []

    def report(message: str, column: str | None = None, hint: str | None = None) -> None:
        nonlocal count
        count += 1
        if len(problems) < _MAX_PROBLEMS:
            line = reader.line_num
            problems.append(Problem(file=name, line=line, key=column, message=message, hint=hint))

    for row in _numbered(reader):
        if len(row.cells) != len(header):
            report(
                f"row {row.number}: expected {len(header)} values as in the header, "
                f"received {len(row.cells)}"
            )
            continue
        values = []
        for column, cell in zip(header, row.cells, strict=True):
            number = _number(cell)
            if number is None:
                received = f"received {cell.strip()!r}" if cell.strip() else "the value is missing"
                hint = "fill it in or drop the row" if not cell.strip() else None
                report(f"row {row.number}: expected a number, {received}", column, hint)
                number = 0.0
            values.append(number)
        rows.append(values)
    if count > len(problems):
        problems.append(Problem(file=name, message=f"and {count - len(problems)} more like these"))
    if problems:
        raise InvalidError(problems)
    return np.asarray(rows, dtype=np.float64).reshape(-1, len(header))


@dataclasses.dataclass(frozen=True, slots=True)
class _Row:
    number: int
    cells: list[str]


def _numbered(reader: Iterator[list[str]]) -> Iterator[_Row]:
    """Rows that are not blank, counted from 1 below the header."""
    cells = (cells for cells in reader if cells and (len(cells) > 1 or cells[0].strip()))
    return (_Row(number, row) for number, row in enumerate(cells, start=1))


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _check_table(
    table: npt.NDArray[np.float64], header: Sequence[str], text: str, delimiter: str, name: str
) -> None:
    """Refuse NaN and numbers that float32 cannot hold, which is what the model computes in."""
    bad = np.argwhere(~(np.abs(table) <= np.finfo(np.float32).max))
    if not len(bad):
        return
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    next(row for row in reader if row)
    wanted = {int(row) + 1 for row, _ in bad[:_MAX_PROBLEMS]}
    lines = {row.number: reader.line_num for row in _numbered(reader) if row.number in wanted}
    problems = [
        Problem(
            file=name,
            line=lines.get(int(row) + 1),
            key=header[column],
            message=f"row {row + 1}: expected a finite float32 number, received {table[row, column]}",
            hint="fill it in or drop the row",
        )
        for row, column in bad[:_MAX_PROBLEMS]
    ]
    if len(bad) > _MAX_PROBLEMS:
        problems.append(Problem(file=name, message=f"and {len(bad) - _MAX_PROBLEMS} more like these"))
    raise InvalidError(problems)


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
    arrays = {}
    try:
        with np.load(path, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise _invalid(name, "expected an .npz archive of arrays, received a single array")
            problems = [
                Problem(
                    file=name,
                    key=f"{role}: {key}",
                    message=f"there is no array {key!r}",
                    hint=suggestion(key, archive.files),
                )
                for role, key in (("x", source.x), ("y", source.y))
                if key not in archive.files
            ]
            if problems:
                raise InvalidError(problems)
            arrays = {"x": archive[source.x], "y": archive[source.y]}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        summary = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise _invalid(name, f"cannot be read as an .npz archive of numbers: {summary}") from error
    return _checked(arrays["x"], arrays["y"], name, {"x": source.x, "y": source.y})


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
    function = usercode.find(source.callable, config, key=("data", part, "callable"))
    with usercode.blamed(f"the data callable {source.callable}"):
        result = function(**source.kwargs)
    if not isinstance(result, tuple) or len(result) != 2:
        received = type(result).__name__
        if isinstance(result, tuple):
            received = f"a tuple of {len(result)}"
        raise _invalid(source.callable, f"expected to return a tuple (x, y), received {received}")
    with usercode.blamed(f"the data callable {source.callable}"):
        x, y = (np.asarray(part) for part in result)
    return _checked(x, y, source.callable, {"x": "x", "y": "y"})


def _checked(x: Array, y: Array, name: str, names: dict[str, str]) -> Rows:
    problems = []
    for role, array in (("x", x), ("y", y)):
        if array.dtype.kind not in "fiub":
            message = f"expected an array of numbers, received dtype {array.dtype}"
        elif array.ndim == 0:
            message = "expected an array with a row a sample, received a single number"
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
    limit = np.finfo(np.float32).max
    for start in range(0, array.shape[0], 65536):  # in pieces, so that memory stays bounded
        part = array[start : start + 65536]
        bad = np.argwhere(~(np.abs(part) <= limit))
        if len(bad):
            row, *column = (int(index) for index in bad[0])
            place = f", column {', '.join(map(str, column))}" if column else ""
            value = part[tuple(bad[0])]
            return f"row {start + row}{place} (from 0): expected a finite float32 number, received {value}"
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


def _invalid(file: str, message: str) -> InvalidError:
    return InvalidError([Problem(file=file, message=message)])
