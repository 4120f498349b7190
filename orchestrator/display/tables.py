"""Rows of values as a table for people, as CSV, or as Markdown."""

from __future__ import annotations

import csv
import dataclasses
import io
import re
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from rich.cells import cell_len

from orchestrator.display.text import clean
from orchestrator.display.widths import crop, squeeze

Style = Literal["green", "yellow", "red", "cyan", "dim", "bold"]
_CODES: dict[Style, str] = {
    "green": "32", "yellow": "33", "red": "31", "cyan": "36", "dim": "2", "bold": "1"
}  # fmt: skip
_GAP = "  "
_MARKUP = re.compile(r"[\\|*`]|(?<![^\W_])_|_(?![^\W_])")
"""What GitHub takes for markup; an underscore only where it is not within a word."""
_FEWEST = 6
"""Width that every column that may be cut keeps, however narrow the terminal is."""


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
        """The text for people, on one line."""
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
    least: int = 0
    """Width to which it may be cut where the table is too wide; 0 if it may not be cut."""
    optional: int = 0
    """Where cutting is not enough, columns are left out, the greatest number first; 0 never."""
    middle: bool = False
    """Whether its texts differ at both ends, and are cut in their middle."""

    @property
    def heading(self) -> str:
        """The name on one line."""
        return clean(self.name)


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
    lines = [_pipes(_escaped(column.heading) for column in columns), _pipes(rule)]
    lines += [_pipes(_escaped(cell.shown) for cell in row) for row in rows]
    return "\n".join(lines) + "\n"


def as_table(
    columns: Sequence[Column], rows: Sequence[Row], *, width: int | None, color: bool
) -> str:
    """Aligned columns for people.

    Written for tens of thousands of rows, for which rich's own tables are far too slow.

    Args:
        columns: the columns.
        rows: the rows; each has a cell a column.
        width: columns of the terminal; None for as many as it takes.
        color: use ANSI colours.

    Returns:
        Lines, each with its end.
    """
    texts = [
        [column.heading, *[row[index].shown for row in rows]]
        for index, column in enumerate(columns)
    ]
    lengths = [
        [len(text) if text.isascii() else cell_len(text) for text in column] for column in texts
    ]
    widths = list(map(max, lengths))
    shown = list(range(len(columns))) if width is None else _fit(widths, columns, width)
    cells = []
    for index in shown:
        column = _aligned(texts[index], lengths[index], widths[index], columns[index])
        if color:
            styles: list[Style | None] = ["bold", *(row[index].style for row in rows)]
            column = list(map(_painted, column, styles))
        cells.append(column)
    lines = map(_GAP.join, zip(*cells, strict=True))
    return "".join([f"{line if color else line.rstrip()}\n" for line in lines])


def _aligned(texts: Sequence[str], lengths: Sequence[int], width: int, column: Column) -> list[str]:
    """The texts of a column, each exactly as wide; the first is the heading."""
    found = []
    for number, (text, length) in enumerate(zip(texts, lengths, strict=True)):
        if length > width:
            # Headings can be names of runs, which differ at both ends.
            short = column.middle or not number
            text = squeeze(text, width) if short else crop(text, width)
            length = cell_len(text)
        blanks = " " * (width - length)
        found.append(blanks + text if column.right else text + blanks)
    return found


def _fit(widths: list[int], columns: Sequence[Column], width: int) -> list[int]:
    """Narrow `widths` of the columns that may be cut until all fit; the indices that are shown."""
    shown = list(range(len(columns)))
    flexible = [index for index, column in enumerate(columns) if column.least]

    def excess() -> int:
        return sum(widths[index] for index in shown) + len(_GAP) * (len(shown) - 1) - width

    def spare() -> int:
        return sum(max(widths[index] - columns[index].least, 0) for index in flexible)

    while excess() > spare() and any(columns[index].optional for index in shown):
        left_out = max(shown, key=lambda index: columns[index].optional)
        shown.remove(left_out)
        flexible = [index for index in flexible if index != left_out]
    least = {index: columns[index].least for index in flexible}
    if excess() > spare():
        least = dict.fromkeys(flexible, _FEWEST)
    # The first column says what a row is about, so it is cut last.
    for group in (flexible[1:], flexible[:1]) if 0 in least else (flexible,):
        while excess() > 0 and any(widths[index] > least[index] for index in group):
            able = (index for index in group if widths[index] > least[index])
            widths[max(able, key=lambda index: widths[index])] -= 1
    return shown


def _painted(text: str, style: Style | None) -> str:
    return text if style is None else f"\x1b[{_CODES[style]}m{text}\x1b[0m"


def _pipes(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    """The text as Markdown that shows it; what looks like a tag would be left out."""
    return _MARKUP.sub(r"\\\g<0>", text).replace("&", "&amp;").replace("<", "&lt;")
