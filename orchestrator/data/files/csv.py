"""Tables in text files: read by Arrow, and by Python where Arrow finds anything to object to.

Arrow reads block after block. Where it objects to one, the rows of that block are read as text, so
that the cell is found and named; and what only Arrow does not take, such as a line of blanks, is
read all the same.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import dataclasses
import functools
import io
import itertools
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow
from pyarrow import csv as arrow_csv

from orchestrator.config.sections.data import CsvSource
from orchestrator.data.arrays import invalid
from orchestrator.data.files import arrow, cells
from orchestrator.data.files.opening import open_file
from orchestrator.data.files.tables import Gathering, Table
from orchestrator.errors import InvalidError

_BLOCK_BYTES = 2**22
"""Size of what Arrow reads at a time."""
_BLOCK_ROWS = 10_000
"""Rows that are read as text where Arrow objects to one; twice as many each time."""
_FIRST_ROWS = 100
"""Rows that are looked at at least for what the columns hold."""


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
    open_file(path, name).close()
    with _reported(path, name):
        return _read(path, source, name)


@contextlib.contextmanager
def _reported(path: Path, name: str) -> Iterator[None]:
    """That the file cannot be read as text is a problem, whenever it is read."""
    try:
        yield
    except UnicodeDecodeError:
        raise _not_unicode(path, name) from None
    except csv.Error as error:
        hint = "a quote may not be closed"
        raise invalid(name, f"cannot be read as a table: {error}", hint) from error
    except OSError as error:
        raise invalid(name, f"cannot be read: {error.strerror}", "check the path") from error


def _not_unicode(path: Path, name: str) -> InvalidError:
    """What to say of a file that is not UTF-8, with the line."""
    content = path.read_bytes()
    try:
        content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        message = f"expected UTF-8 text, received the byte 0x{content[error.start]:02x}"
        return invalid(name, message, "save the table as UTF-8", line)
    return invalid(name, "the file has changed while it was read")


def _read(path: Path, source: CsvSource, name: str) -> Table:
    with contextlib.closing(_rows(path, source.delimiter)) as rows:
        first = next(rows, None)
        if first is None:
            message = "expected a header line and rows of numbers, received an empty file"
            raise invalid(name, message)
        reader = _Reader(path, source, name, first)
        kinds = reader.guess(rows)
    while True:
        try:
            return reader.read(kinds)
        except _NumberAmongTextsError as error:
            kinds = {**kinds, error.args[0]: "number"}


class _NumberAmongTextsError(Exception):
    """A column has a number, so that its texts are wrong."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Row:
    cells: list[str]
    line: int
    """Line of the file on which it begins."""
    last_line: int
    """Line on which it ends, where a quoted cell holds line breaks."""
    end: int
    """Bytes of the file up to its end."""


def _rows(path: Path, delimiter: str, after: _Row | None = None) -> Generator[_Row]:
    """The header and the rows of a table, without blank lines."""
    with path.open("rb") as file:
        end = len(codecs.BOM_UTF8) if file.read(3) == codecs.BOM_UTF8 else 0
        before = 0
        if after is not None:
            end, before = after.end, after.last_line
        file.seek(end)
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")

        def counted() -> Iterator[str]:
            nonlocal end
            for line in text:
                end += len(line.encode())
                yield line

        reader = csv.reader(counted(), delimiter=delimiter)
        begin = before + 1
        for found in reader:
            last = before + reader.line_num
            if len(found) > 1 or (found and found[0].strip()):
                yield _Row(found, begin, last, end)
            begin = last + 1


class _Reader:
    """Reads one file.

    Args:
        path: the file.
        source: its columns and delimiter.
        name: how to call the file in messages.
        header: its first row.
    """

    def __init__(self, path: Path, source: CsvSource, name: str, header: _Row) -> None:
        self._path = path
        self._source = source
        self._name = name
        self._header = header
        self._names = [column.strip() for column in header.cells]
        self._used = self._gathering().used

    def _gathering(self) -> Gathering:
        return Gathering(
            self._names, self._source, self._name, line=self._header.line, lines=self._lines
        )

    @functools.cached_property
    def _all_lines(self) -> npt.NDArray[np.int64]:
        reported = _reported(self._path, self._name)
        with reported, contextlib.closing(self._rows(self._header)) as rows:
            return np.asarray([row.line for row in rows], np.int64)

    def _rows(self, after: _Row) -> Generator[_Row]:
        return _rows(self._path, self._source.delimiter, after)

    def _lines(self) -> npt.NDArray[np.int64]:
        """Line of each row; who reads the file once more does so only to name them."""
        return self._all_lines

    def guess(self, rows: Iterator[_Row]) -> dict[str, str]:
        """What each column seems to hold, from the first values that it has."""
        kinds = dict.fromkeys(self._used, "")
        for count, row in enumerate(rows):
            if count >= _FIRST_ROWS and all(kinds.values()):
                break
            if len(row.cells) != len(self._names):
                continue
            for label, index in self._used.items():
                cell = row.cells[index].strip()
                if label in self._source.text:
                    kinds[label] = "text"
                elif kinds[label] != "number" and not cells.is_missing(cell):
                    kinds[label] = "number" if cells.is_meant_as_number(cell) else "text"
        return {label: kind or "number" for label, kind in kinds.items()}

    def read(self, kinds: Mapping[str, str]) -> Table:
        """Read the columns as what they seem to hold.

        Raises:
            _NumberAmongTextsError: one that seemed to hold texts does not.
        """
        gathering = self._gathering()
        place, count = self._header, _BLOCK_ROWS
        while True:
            taken = self._read_blocks(gathering, place, kinds)
            if taken is None:
                break
            with contextlib.closing(self._rows(place)) as rows:
                block = list(itertools.islice(rows, taken, taken + count))
            if not block:
                break
            self._add_rows(gathering, block, kinds)
            place, count = block[-1], 2 * count
        if not gathering.rows:
            message = "expected rows of numbers below the header, received none"
            raise invalid(self._name, message)
        return gathering.finish()

    def _read_blocks(
        self, gathering: Gathering, place: _Row, kinds: Mapping[str, str]
    ) -> int | None:
        """Add what Arrow reads from a place on.

        Returns:
            The number of rows before the block to which it objects; None at the end of the file.
        """
        taken = 0
        if len(self._names) == 1 or not self._source.delimiter.isascii():
            return taken  # a blank line would be a row, and a delimiter has one byte
        try:
            with pyarrow.OSFile(str(self._path)) as file:
                file.seek(place.end)
                if file.read(3) == codecs.BOM_UTF8:
                    return taken  # Arrow would take it for the start of a file, and leave it out
                file.seek(place.end)
                for block in arrow_csv.open_csv(file, *self._options(kinds)):
                    for index, label in enumerate(self._used):
                        self._add_column(gathering, label, block.column(index), kinds[label])
                    gathering.end_block(block.num_rows)
                    taken += block.num_rows
        except pyarrow.ArrowInvalid:
            return taken
        return None

    def _options(self, kinds: Mapping[str, str]) -> tuple[object, object, object]:
        used = {str(index): label for label, index in self._used.items()}
        types = {"number": pyarrow.float64(), "text": pyarrow.string()}
        return (
            arrow_csv.ReadOptions(
                column_names=[str(index) for index in range(len(self._names))],
                block_size=_BLOCK_BYTES,
            ),
            arrow_csv.ParseOptions(delimiter=self._source.delimiter, newlines_in_values=True),
            arrow_csv.ConvertOptions(
                include_columns=list(used),
                column_types={index: types[kinds[label]] for index, label in used.items()},
                null_values=[],
            ),
        )

    def _add_column(
        self, gathering: Gathering, label: str, values: pyarrow.Array, kind: str
    ) -> None:
        if kind == "number":
            gathering.add_numbers(label, arrow.as_numpy(values))
        else:
            self._add_texts(gathering, label, *arrow.codes(values))

    def _add_rows(
        self, gathering: Gathering, block: Sequence[_Row], kinds: Mapping[str, str]
    ) -> None:
        """Add rows as text, column by column, with every problem named."""
        lengths = np.asarray([len(row.cells) for row in block])
        ragged = np.flatnonzero(lengths != len(self._names))
        gathering.report(None, ragged, lambda row: self._describe_ragged(block[row]))
        whole = np.flatnonzero(lengths == len(self._names))
        for label, index in self._used.items():
            found = [block[row].cells[index].strip() for row in whole.tolist()]
            if kinds[label] == "text":
                self._add_texts(gathering, label, *_coded(found), whole)
            else:
                self._add_numbers(gathering, label, found, whole)
        gathering.end_block(len(block))

    def _add_numbers(
        self, gathering: Gathering, label: str, found: Sequence[str], rows: npt.NDArray[np.intp]
    ) -> None:
        """Add cells that are to hold numbers; `rows` are their places in the block."""
        numbers = [cells.number(cell) for cell in found]
        bad = {int(rows[i]): found[i] for i, value in enumerate(numbers) if value is None}
        gathering.report(
            label,
            np.asarray(list(bad), np.intp),
            lambda row: cells.describe_bad(bad[row], label, "number"),
        )
        values = np.zeros(int(rows[-1]) + 1 if len(rows) else 0)
        values[rows] = [0.0 if value is None else value for value in numbers]
        gathering.add_numbers(label, values)

    def _add_texts(
        self,
        gathering: Gathering,
        label: str,
        codes: npt.NDArray[np.int32],
        texts: Sequence[str],
        rows: npt.NDArray[np.intp] | None = None,
    ) -> None:
        """Add cells that are to hold texts; `rows` are their places in the block."""
        if max(map(len, texts), default=0) > csv.field_size_limit():
            # Arrow takes them, but so long a text is the rows between two stray quotes.
            raise csv.Error(f"field larger than field limit ({csv.field_size_limit()})")
        stripped = [text.strip() for text in texts]
        declared = label in self._source.text
        if not declared and any(
            cells.is_meant_as_number(text) for text in stripped if not cells.is_missing(text)
        ):
            raise _NumberAmongTextsError(label)
        # Where the user has said so, "none" and "-" are categories like others.
        missing = [text == "" if declared else cells.is_missing(text) for text in stripped]
        if any(missing):
            found = np.flatnonzero(np.asarray(missing)[codes])
            bad = {int(i if rows is None else rows[i]): stripped[codes[i]] for i in found}
            gathering.report(
                label,
                np.asarray(list(bad), np.intp),
                lambda row: cells.describe_bad(bad[row], label, "text"),
            )
        gathering.add_texts(label, codes, stripped)

    def _describe_ragged(self, row: _Row) -> tuple[str, str | None]:
        message = f"expected {len(self._names)} values as in the header"
        hint = "a quote may not be closed" if row.last_line > row.line else None
        return f"{message}, received {len(row.cells)}", hint


def _coded(found: Sequence[str]) -> tuple[npt.NDArray[np.int32], list[str]]:
    """Texts as positions in the different ones of them."""
    index: dict[str, int] = {}
    codes = [index.setdefault(cell, len(index)) for cell in found]
    return np.asarray(codes, np.int32), list(index)
