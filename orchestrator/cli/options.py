"""What several commands share: their options, how they print JSON, and an exit code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

import click

from orchestrator.display.text import legible_json
from orchestrator.record.encoding import dump, jsonable

_Command = TypeVar("_Command", bound=Callable[..., Any])

CHECK_FAILED = 3
"""Exit code where a check of the model failed, or `replay` found a difference."""
STATUSES = ("running", "passed", "exhausted", "invalid", "error", "interrupted")
"""What `--status` takes."""
SEARCH_STATUSES = (*STATUSES, "finished")
"""What it takes where searches are listed, too."""

runs_dir = click.option(
    "--runs-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runs"),
    show_default=True,
    help="Folder of all runs.",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
quiet = click.option(
    "--quiet",
    is_flag=True,
    help="One line an attempt or trial, without the live view; with --json only warnings.",
)
base = click.option(
    "--base",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Where the config's folder is now, from which its paths and callables start.",
)
debug = click.option(
    "--debug",
    is_flag=True,
    # The function that catches errors looks for the flag itself, since a usage error has no values.
    expose_value=False,
    help="Show where in the code an error came up.",
)


def together(*options: Callable[[_Command], _Command]) -> Callable[[_Command], _Command]:
    """Several options as one decorator; the help lists them in this order."""

    def decorate(command: _Command) -> _Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


of_configs = together(
    click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help="Lay a value over the config, as in compile.optimizer.Adam.learning_rate=1e-3. "
        "List indices count from 0. May be given more than once.",
    ),
    as_json,
    quiet,
    debug,
)
"""The options of every command that reads a config."""

of_runs = together(as_json, quiet, debug)
"""The options of a command that goes on with a run."""

of_tables = together(
    runs_dir,
    click.option("--json", "form", flag_value="json", help="Print one JSON document."),
    click.option("--csv", "form", flag_value="csv", help="Print comma-separated values."),
    click.option("--md", "form", flag_value="md", help="Print Markdown."),
    debug,
)
"""The options of every command that prints what it finds in recorded runs as a table."""


def detail(*, as_json: bool, quiet: bool) -> Literal["all", "attempts", "warnings"]:
    """How much to show on the way; a program that reads JSON needs no line an attempt."""
    if not quiet:
        return "all"
    return "warnings" if as_json else "attempts"


def print_json(value: Any) -> None:
    """Print a value, records included, as one JSON document."""
    click.echo(legible_json(dump(jsonable(value), indent=1)))
