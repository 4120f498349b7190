"""Rows of values as a table for people, as CSV, or as Markdown."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from rich.cells import cell_len, set_cell_size

from orchestrator.charts import crop
from orchestrator.texts import clean

Format = Literal["table", "json", "csv", "md"]
"""How results are written."""

Style = Literal["green", "yellow", "red", "cyan", "dim", "bold"]
_CODES: dict[Style, str] = {
    "green": "32", "yellow": "33", "red": "31", "cyan": "36", "dim": "2", "bold": "1"
}  # fmt: skip
_GAP = "  "
_LEAST = 10
"""Columns that a flexible column keeps."""


class Cell(NamedTuple):
    """A value, and how people see it."""

    value: Any
    """For programs: a text, a number or None."""
    text: str | None = None
    """For people; by default the value."""
    style: Style | None = None
    """Its colour on a terminal."""

    @property
    def shown(self) -> str:
        """What people see, on one line."""
        if self.text is None and self.value is None:
            return ""
        text = str(self.value) if self.text is None else self.text
        return text if text.isascii() and text.isprintable() else clean(text)


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """A column of a table."""

    name: str
    """The heading for people and for programs alike."""
    right: bool = False
    """Numbers stand to the right."""
    flexible: bool = False
    """Whether it gives way where the table is too wide."""
    optional: int = 0
    """Where that is not enough, the greatest of these is left out; 0 stays."""


Row = Sequence[Cell]


def as_csv(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """Comma-separated values (RFC 4180, but for line ends), with a line of names."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(column.name for column in columns)
    writer.writerows([cell.value for cell in row] for row in rows)
    return text.getvalue()


def as_markdown(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """A table of GitHub's Markdown."""
    rule = ("---:" if column.right else "---" for column in columns)
    lines = [_pipes(column.name for column in columns), _pipes(rule)]
    lines += [_pipes(_escaped(cell.shown) for cell in row) for row in rows]
    return "\n".join(lines) + "\n"


def as_table(
    columns: Sequence[Column], rows: Sequence[Row], *, width: int | None, color: bool
) -> str:
    """Aligned columns for people.

    Made for tens of thousands of rows, of which rich would make a page a second.

    Args:
        columns: the columns.
        rows: the rows; each has a cell a column.
        width: columns of the terminal; None for as many as it takes.
        color: use ANSI colours.

    Returns:
        Lines, each with its end.
    """
    texts = [
        [column.name, *(row[index].shown for row in rows)] for index, column in enumerate(columns)
    ]
    widths = [max(map(_length, column)) for column in texts]
    shown = list(range(len(columns))) if width is None else _fit(widths, columns, width)
    cells = []
    for index in shown:
        column = _aligned(texts[index], widths[index], right=columns[index].right)
        if color:
            styles: list[Style | None] = ["bold", *(row[index].style for row in rows)]
            column = list(map(_painted, column, styles))
        cells.append(column)
    lines = map(_GAP.join, zip(*cells, strict=True))
    return "".join(f"{line if color else line.rstrip()}\n" for line in lines)


def _length(text: str) -> int:
    return len(text) if text.isascii() else cell_len(text)


def _aligned(texts: Sequence[str], width: int, *, right: bool) -> list[str]:
    """The texts of a column, each exactly as wide; the first is the heading."""
    found = []
    for number, text in enumerate(texts):
        space = width - _length(text)
        if space < 0:
            # Headings, such as runs' names, differ at their ends.
            text = set_cell_size(crop(text, width, left=not number), width)
        elif right:
            text = " " * space + text
        else:
            text += " " * space
        found.append(text)
    return found


def _fit(widths: list[int], columns: Sequence[Column], width: int) -> list[int]:
    """Narrow the flexible columns and leave out the optional ones; those that are shown."""
    shown = list(range(len(columns)))

    def excess() -> int:
        return sum(widths[index] for index in shown) + len(_GAP) * (len(shown) - 1) - width

    flexible = [index for index in shown if columns[index].flexible]
    spare = sum(max(widths[index] - _LEAST, 0) for index in flexible)
    while excess() > spare and any(columns[index].optional for index in shown):
        shown.remove(max(shown, key=lambda index: columns[index].optional))
    while excess() > 0 and any(widths[index] > _LEAST for index in flexible):
        widths[max(flexible, key=lambda index: widths[index])] -= 1
    return shown


def _painted(text: str, style: Style | None) -> str:
    return text if style is None else f"\x1b[{_CODES[style]}m{text}\x1b[0m"


def _pipes(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|")
