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
from orchestrator.display.text import legible_json, plain
from orchestrator.history import listing, query
from orchestrator.history.find import History, read_history
from orchestrator.history.query import Query
from orchestrator.record.checks import NAMES

_FAILURES = (*NAMES, "crashed")
"""What an attempt can fail by."""


@click.command()
@click.option("--status", "statuses", multiple=True, type=click.Choice(options.SEARCH_STATUSES),
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
@click.option("--searches", is_flag=True, help="List the searches of `tune` alone.")
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
    searches: bool,
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
        found = read_history(runs_dir, cached=not no_cache)
        runs = () if searches else query.select(found.runs, asked)
        _list(History(runs, found.unreadable, query.select_searches(found.searches, asked)),
              asked, runs_dir, form, searches=searches, known=found)  # fmt: skip
    return 0


def _list(
    found: History,
    asked: Query,
    runs_dir: Path,
    form: str | None,
    *,
    searches: bool,
    known: History,
) -> None:
    if form == "json":
        for piece in listing.documents(runs_dir, found.runs, found.unreadable, found.searches):
            sys.stdout.buffer.write(legible_json(piece))
        sys.stdout.buffer.flush()
    elif form == "csv":
        whole = listing.searches(found.searches) if searches else listing.fields(found.runs)
        print_table(form, *whole)
    else:
        _show(found, asked, runs_dir, form, searches=searches, known=known)
    for each in found.unreadable:
        warn(f"{runs_dir / each.directory} is not listed: {each.reason}")


def _show(
    found: History,
    asked: Query,
    runs_dir: Path,
    form: str | None,
    *,
    searches: bool,
    known: History,
) -> None:
    """The tables of runs and of searches, or why there is none."""
    what = "searches" if searches else "runs"
    if found.runs or (form is not None and not searches):
        names = [condition.name for condition in asked.where] + [asked.sort.removeprefix("-")]
        print_table(form, *listing.table(found.runs, names))
    if found.searches or (form is not None and searches):
        if found.runs:
            click.echo()
        print_table(form, *listing.searches(found.searches))
    if form is not None or found.runs or found.searches:
        return
    count = len(known.searches) if searches else len(known.runs)
    if count:
        click.echo(plain(f"none of {count} {what} in {runs_dir} is so"), err=True)
    else:
        where = "--runs-dir names another folder"
        click.echo(plain(f"there are no {what} in {runs_dir}; {where}"), err=True)


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
