"""The command `show`."""

from __future__ import annotations

from pathlib import Path

import click

from orchestrator.cli import options
from orchestrator.cli.output import print_table
from orchestrator.display import charts
from orchestrator.display.search.result import describe_search
from orchestrator.history import listing
from orchestrator.history.briefs import activity
from orchestrator.history.find import find_search, naming, read_attempt
from orchestrator.history.show import describe_run
from orchestrator.record.encoding import jsonable
from orchestrator.record.records import SCHEMA
from orchestrator.record.search import read as read_search
from orchestrator.record.storage import archive


@click.command()
@click.argument("run")
@options.of_tables
def show(run: str, runs_dir: Path, form: str | None) -> int:
    """Show one run: every attempt, why it failed, what was changed, and whether that helped.

    RUN is a run's name or the beginning of it, its directory, or `latest`; RUN@2 is its second
    attempt in full. A search of `tune` goes by its name likewise, and a run within it by
    SEARCH/runs/RUN; `latest` is whichever began last.
    """
    search = find_search(runs_dir, run)
    if search is not None:
        return _show_search(search, form)
    directory, record, number = read_attempt(runs_dir, run)
    attempts = [each for each in record.attempts if number in (None, each.attempt)]
    if form == "json":
        options.print_json(
            record
            if number is None
            else {"schema": SCHEMA, "run": record.run, **jsonable(*attempts)}
        )
        return 0
    if form is not None:
        print_table(form, *listing.attempts(attempts))
        return 0
    state = None
    if record.status == "running":
        with naming(directory):
            state = activity(entry.event for entry in archive.events(directory))
    shown = describe_run(
        record,
        directory,
        epochs=archive.epochs(directory),
        sizes=archive.sizes(directory),
        environment=archive.environment(directory),
        attempt=number,
        state=state,
    )
    charts.stdout().print(shown, highlight=False)
    return 0


def _show_search(directory: Path, form: str | None) -> int:
    with naming(directory):
        search = read_search(directory)
    if form == "json":
        options.print_json(search)
    elif form is not None:
        print_table(form, *listing.trials(search))
    else:
        charts.stdout().print(describe_search(search, directory), highlight=False)
    return 0
