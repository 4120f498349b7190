"""Small charts and tables of text for a terminal: curves, bars, aligned rows. Pure.

They are drawn in Unicode; `Legible` shows them where the terminal's encoding has only ASCII, and
keeps whatever a config, the rows or a record say from steering the terminal.
"""

from __future__ import annotations

import dataclasses
import math
import os
import sys
from collections.abc import Callable, Sequence

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment
from rich.text import Text

from orchestrator.display.text import in_ascii, printable
from orchestrator.display.widths import crop

SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
"""Frames of a spinner, which turns while something goes on."""

_UNWRAPPED = 1000
"""Width of the console where stdout is a file or a pipe: lines there are not wrapped."""
_LEVELS = "▁▂▃▄▅▆▇█"
_NOT_FINITE = "×"
_LOG_SPAN = 100.0
"""Positive values whose greatest is more than so many times the least get a logarithmic scale."""


def stdout() -> Console:
    """The console for results: in a file or a pipe nothing is wrapped, unless COLUMNS says so."""
    wrapped = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(width=None if wrapped else _UNWRAPPED)


@dataclasses.dataclass(frozen=True, slots=True)
class Legible:
    """A renderable in characters that the terminal shows.

    None of them steers it, and where its encoding has only ASCII, our own pictures are replaced by
    such as are as wide.
    """

    renderable: RenderableType
    """What to show."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render it, with ASCII in place of our own pictures where need be."""
        for segment in console.render(self.renderable, options):
            if segment.control:
                yield segment
                continue
            text = printable(segment.text)
            yield Segment(in_ascii(text) if options.ascii_only else text, segment.style)


@dataclasses.dataclass(frozen=True, slots=True)
class Indented:
    """A renderable some columns to the right, without blanks at the ends of its lines.

    rich's own padding measures a table before it is laid out, and crops it where it was wrong.
    """

    renderable: RenderableType
    """What to show."""
    columns: int
    """How far to the right."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render it in the columns that remain."""
        inner = options.update_width(max(options.max_width - self.columns, 1))
        for line in console.render_lines(self.renderable, inner, pad=False):
            if trimmed := _trimmed(line):
                yield Segment(" " * self.columns)
            yield from trimmed
            yield Segment.line()


@dataclasses.dataclass(frozen=True, slots=True)
class Fitted:
    """A renderable that is made to measure, once the width is known."""

    make: Callable[[int], RenderableType]
    """Makes the renderable for a number of columns."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Make it and render it."""
        yield self.make(options.max_width)


def _trimmed(line: Sequence[Segment]) -> list[Segment]:
    found = list(line)
    while found:
        last = found.pop()
        if text := last.text.rstrip(" "):
            return [*found, Segment(text, last.style, last.control)]
    return found


def is_logarithmic(values: Sequence[float]) -> bool:
    """Whether a curve of these values needs a logarithmic scale."""
    finite = [value for value in values if math.isfinite(value)]
    return bool(finite) and min(finite) > 0 and max(finite) > _LOG_SPAN * min(finite)


def sparkline(
    values: Sequence[float], width: int, planned: int = 0, *, log: bool | None = None
) -> str:
    """A curve one line high.

    Args:
        values: the values in order; one that is not finite is marked by a cross.
        width: columns at most.
        planned: how many values there will be, so that the curve grows instead of shrinking.
        log: use a logarithmic scale, which takes positive values; None where these need one, those
            that are not drawn included.

    Returns:
        A character a value; where that is too wide, a character for as many as it takes, at the
        height of the last of them.
    """
    if width < 1 or not values:
        return ""
    each = -(-max(len(values), planned) // width)
    groups = [values[start : start + each] for start in range(0, len(values), each)]
    shown = [
        next((value for value in group if not math.isfinite(value)), group[-1]) for group in groups
    ]
    if is_logarithmic(values) if log is None else log:
        shown = [math.log(value) if math.isfinite(value) else value for value in shown]
    finite = [value for value in shown if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    return "".join(_level(value, low, high) for value in shown)


def _level(value: float, low: float, high: float) -> str:
    if not math.isfinite(value):
        return _NOT_FINITE
    span = high / 2 - low / 2  # halved, for the difference of two floats can be infinite
    share = (value / 2 - low / 2) / span if span > 0 else 0.0
    return _LEVELS[round(share * (len(_LEVELS) - 1))]


def bar(part: float, whole: float, width: int) -> int:
    """Filled columns of a bar.

    Args:
        part: how much, from 0 to `whole`.
        whole: what fills the bar.
        width: columns of the bar.

    Returns:
        From 0 to `width`; 0 only for nothing, and `width` only for the whole.
    """
    if part <= 0 or whole <= 0 or width < 1:
        return 0
    if part >= whole:
        return width
    return min(max(round(width * part / whole), 1), max(width - 1, 0))


def aligned(rows: Sequence[Sequence[Text]], width: int, *, flexible: int) -> list[Text]:
    """Rows of cells as lines, two spaces between columns.

    Args:
        rows: the cells; every row has as many.
        width: columns at most.
        flexible: index of the column that is cut where a row is too wide.
    """
    if not rows:
        return []
    widths = [max(cell.cell_len for cell in column) for column in zip(*rows, strict=True)]
    others = sum(widths) - widths[flexible] + 2 * (len(widths) - 1)
    widths[flexible] = max(min(widths[flexible], width - others), min(widths[flexible], 6))
    lines = []
    for row in rows:
        line = Text(no_wrap=True, overflow="crop")
        for index, cell in enumerate(row):
            fitted = cell.copy()
            if cell.cell_len > widths[index]:
                fitted = Text(crop(cell.plain, widths[index]), style=cell.style)
            fitted.pad_right(widths[index] - fitted.cell_len)
            line.append_text(fitted).append("  " if index + 1 < len(row) else "")
        line.rstrip()
        lines.append(line if line.cell_len <= width else Text(crop(line.plain, width)))
    return lines
