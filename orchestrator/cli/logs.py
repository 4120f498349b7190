"""The command `logs`."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import click

from orchestrator.cli import options
from orchestrator.cli.output import print_lines, print_table
from orchestrator.history.find import find_whole_run, naming
from orchestrator.history.logs import follow_run, table
from orchestrator.record.encoding import jsonable
from orchestrator.record.events import Event
from orchestrator.record.records import SCHEMA
from orchestrator.record.storage import archive, journal


@click.command()
@click.argument("run")
@click.option("-f", "--follow", is_flag=True, help="Go on until the run ends.")
@options.of_tables
def logs(run: str, follow: bool, runs_dir: Path, form: str | None) -> int:
    """Print what happened in a run, event by event, with what its attempts printed."""
    if follow and form is not None:
        raise click.UsageError(f"--follow prints lines, not {form}", click.get_current_context())
    directory = find_whole_run(runs_dir, run)
    with naming(directory):
        if form is None:
            # Ctrl-C is how one stops watching.
            with contextlib.suppress(KeyboardInterrupt):
                for line in follow_run(directory, wait=follow):
                    print_lines(f"{line}\n")
            return 0
        entries = archive.events(directory)
        if form == "json":
            events = [_plain(entry) for entry in entries]
            options.print_json({"schema": SCHEMA, "events": events})
        else:
            print_table(form, *table(entries))
    return 0


def _plain(entry: journal.Entry[Event]) -> dict[str, Any]:
    """An entry of the journal in plain values, the names of the event's fields among them."""
    return {"time": entry.time, "elapsed": entry.elapsed, **jsonable(entry.event)}
