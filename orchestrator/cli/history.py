"""The command `history`."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from orchestrator.cli import options
from orchestrator.cli.output import print_table, warn
from orchestrator.history import listing, query
from orchestrator.history.find import read_history
from orchestrator.history.query import Query
from orchestrator.record.checks import NAMES

_FAILURES = (*NAMES, "crashed")
"""What an attempt can fail by."""


@click.command()
@click.option("--status", "statuses", multiple=True, type=click.Choice(options.STATUSES),
              help="Only runs that ended so; more than once for any of them.")  # fmt: skip
@click.option("--name", help="Only runs with this in their name; * and ? stand for any letters.")
@click.option("--check", "checks", multiple=True, type=click.Choice(_FAILURES),
              help="Only runs with an attempt that failed this check.")  # fmt: skip
@click.option("--since", metavar="TIME", help="Only runs begun since: 2d, 12h, 2026-11-23, …")
@click.option("--where", "conditions", multiple=True, metavar="BOUND",
              help="Only runs whose number is so, as in 'val_loss<20' or 'attempts>1': a metric, "
              "skill, attempts, seconds or screened_seeds.")  # fmt: skip
@click.option("--sort", default="-started", show_default=True, metavar="KEY",
              help="Sort by a metric, skill, attempts, seconds, started, run, name or status; with "
              "a minus in front, the greatest first.")  # fmt: skip
@click.option("--limit", type=click.IntRange(min=1), help="So many at most.")
@click.option("--no-cache", is_flag=True, help="Read every record anew.")
@options.of_tables
def history(
    statuses: Sequence[str],
    name: str | None,
    checks: Sequence[str],
    since: str | None,
    conditions: Sequence[str],
    sort: str,
    limit: int | None,
    no_cache: bool,
    runs_dir: Path,
    form: str | None,
) -> int:
    """List the runs: when, how they ended, what failed, what helped, how good they are."""
    asked = Query(
        statuses=statuses,
        name=name,
        checks=checks,
        since=None if since is None else query.moment(since, datetime.now(UTC)),
        where=[query.condition(text) for text in conditions],
        sort=sort,
        limit=limit,
    )
    with _uncollected():
        _list(asked, runs_dir, form, cached=not no_cache)
    return 0


def _list(asked: Query, runs_dir: Path, form: str | None, *, cached: bool) -> None:
    found = read_history(runs_dir, cached=cached)
    briefs = query.select(found.runs, asked)
    if form == "json":
        for piece in listing.documents(runs_dir, briefs, found.unreadable):
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
    elif form == "csv":
        print_table(form, *listing.fields(briefs))
    elif briefs or form is not None:
        names = [condition.name for condition in asked.where] + [asked.sort.removeprefix("-")]
        print_table(form, *listing.table(briefs, names))
    elif found.runs:
        click.echo(f"none of {len(found.runs)} runs in {runs_dir} is so", err=True)
    else:
        click.echo(f"there are no runs in {runs_dir}; --runs-dir names another folder", err=True)
    for each in found.unreadable:
        warn(f"{runs_dir / each.directory} is not listed: {each.reason}")


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Make no search for reference cycles: rows by the ten thousand hold none, and it takes long.

    The collector is as it was afterwards.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
