"""The command `compare`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from orchestrator.cli import options
from orchestrator.cli.output import print_table
from orchestrator.history.compare import differences, document, read_side, table
from orchestrator.history.find import read_attempt


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="A B …")
@options.of_tables
def compare(runs: Sequence[str], runs_dir: Path, form: str | None) -> int:
    """Put runs, or attempts such as RUN@2, side by side and show only what differs.

    A run stands for its accepted attempt, or else its best, or else its last.
    """
    if len(runs) < 2:
        raise click.UsageError(
            "expected two runs or attempts at least", click.get_current_context()
        )
    sides = [read_side(*read_attempt(runs_dir, text)) for text in runs]
    found = differences(sides)
    if form == "json":
        options.print_json(document(sides, found))
    elif found or form is not None:
        print_table(form, *table(sides, found))
    else:
        click.echo("nothing differs")
    return 0
