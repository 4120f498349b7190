"""What commands print for people and for spreadsheets: tables, lines, warnings."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence

import click

from orchestrator.display.tables import Column, Row, as_csv, as_markdown, as_table
from orchestrator.display.text import in_ascii, plain, printable


def print_table(form: str | None, columns: Sequence[Column], rows: Sequence[Row]) -> None:
    """Print rows as a table; a long one on a terminal goes to a pager.

    Args:
        form: "csv" or "md" for programs; None for people.
        columns: the columns.
        rows: the rows; each has a cell a column.
    """
    if form == "csv":
        text = as_csv(columns, rows)
        # A program gets the values as they are, a terminal none that it would obey.
        click.echo(printable(text) if sys.stdout.isatty() else text, nl=False)
        return
    if form == "md":
        click.echo(as_markdown(columns, rows), nl=False)
        return
    terminal = sys.stdout.isatty()
    size = shutil.get_terminal_size()
    color = _is_colored()
    text = as_table(columns, rows, width=size.columns if terminal else None, color=color)
    if terminal and len(rows) >= size.lines:
        # Asked to find out, click has `less` show the colours, and leaves them out where another
        # pager, or the user's own options, would show their codes.
        click.echo_via_pager(_legible(text), color=None if color else False)
    else:
        print_lines(text, color=color)


def print_lines(text: str, *, color: bool | None = None) -> None:
    """Print lines for people, in characters that the terminal has.

    Args:
        text: the lines, each with its end.
        color: whether ANSI colours in it are kept; None leaves that to click.
    """
    if _has_unicode():
        click.echo(text, nl=False, color=color)
    else:  # where click would write UTF-8 all the same
        click.echo(_legible(text).encode(sys.stdout.encoding, "replace"), nl=False)


def _legible(text: str) -> str:
    """The text in characters that stdout has, as far as they are our own."""
    return text if _has_unicode() else in_ascii(text)


def _has_unicode() -> bool:
    return (sys.stdout.encoding or "utf-8").lower().startswith("utf")


def _is_colored() -> bool:
    """Whether stdout is to be in colours (https://no-color.org)."""
    if os.environ.get("NO_COLOR"):
        return False
    return sys.stdout.isatty() or bool(os.environ.get("FORCE_COLOR"))


def warn(text: str) -> None:
    """Say on stderr what should be known although nothing failed."""
    color = False if os.environ.get("NO_COLOR") else None
    click.secho("warning", fg="yellow", nl=False, err=True, color=color)
    click.echo(f": {plain(text)}", err=True)
