"""The commands that look at runs and change nothing in them; none imports TensorFlow."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from orchestrator.display.tables import Column, Row
    from orchestrator.history.query import Query
    from orchestrator.record.journal import Entry
    from orchestrator.record.records import Run

RUNS_DIR = click.option(
    "--runs-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runs"),
    show_default=True,
    help="Folder of all runs.",
)
_FORMATS = (
    click.option("--json", "form", flag_value="json", help="Print one JSON document."),
    click.option("--csv", "form", flag_value="csv", help="Print comma-separated values."),
    click.option("--md", "form", flag_value="md", help="Print Markdown."),
)
DEBUG = click.option("--debug", is_flag=True, help="Show where in the code an error came up.")
STATUSES = ("running", "passed", "exhausted", "invalid", "error", "interrupted")
_CHECKS = ("finite", "dead_neurons", "prediction_variance", "metric", "crashed")


def looking(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every command that prints what it finds in a table."""
    for option in (DEBUG, *reversed(_FORMATS), RUNS_DIR):
        command = option(command)
    return command


@click.command()
@click.option("--status", "statuses", multiple=True, type=click.Choice(STATUSES),
              help="Only runs that ended so; more than once for any of them.")  # fmt: skip
@click.option("--name", help="Only runs with this in their name; * and ? stand for any letters.")
@click.option("--check", "checks", multiple=True, type=click.Choice(_CHECKS),
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
@looking
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
    debug: bool,
) -> int:
    """List the runs: when, how they ended, what failed, what helped, how good they are."""
    from orchestrator.history import query  # noqa: PLC0415

    asked = query.Query(
        statuses=statuses,
        name=name,
        checks=checks,
        since=None if since is None else query.moment(since, datetime.now(UTC)),
        where=[query.condition(text) for text in conditions],
        sort=sort,
        limit=limit,
    )
    with _uncollected():
        return _list(asked, runs_dir, form, cached=not no_cache)


def _list(asked: Query, runs_dir: Path, form: str | None, *, cached: bool) -> int:
    from orchestrator.history import find as histories  # noqa: PLC0415
    from orchestrator.history import listing as overview  # noqa: PLC0415
    from orchestrator.history import query  # noqa: PLC0415

    found = histories.read(runs_dir, cached=cached)
    briefs = query.select(found.runs, asked)
    if form == "json":
        for piece in overview.documents(runs_dir, briefs, found.unreadable):
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
    elif form == "csv":
        write(form, *overview.fields(briefs))
    elif briefs or form is not None:
        names = [condition.name for condition in asked.where] + [asked.sort.removeprefix("-")]
        write(form, *overview.table(briefs, names))
    elif found.runs:
        click.echo(f"none of {len(found.runs)} runs in {runs_dir} is so", err=True)
    else:
        click.echo(f"there are no runs in {runs_dir}; --runs-dir names another folder", err=True)
    for each in found.unreadable:
        warn(f"{runs_dir / each.directory} is not listed: {each.reason}")
    return 0


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Rows by the ten thousand hold no cycles, which a search for them takes long to find out."""
    import gc  # noqa: PLC0415 - help comes without

    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def write(form: str | None, columns: Sequence[Column], rows: Sequence[Row]) -> None:
    """Print rows as CSV, as Markdown or as a table; a long one on a terminal goes to a pager."""
    from orchestrator.display import tables  # noqa: PLC0415

    if form == "csv":
        click.echo(tables.as_csv(columns, rows), nl=False)
        return
    if form == "md":
        click.echo(tables.as_markdown(columns, rows), nl=False)
        return
    terminal = sys.stdout.isatty()
    size = shutil.get_terminal_size()
    color = colored()
    text = tables.as_table(columns, rows, width=size.columns if terminal else None, color=color)
    if terminal and len(rows) >= size.lines:
        click.echo_via_pager(text, color=color)
    else:
        say(text, color=color)


def say(text: str, *, color: bool | None = None) -> None:
    """Print lines for people, in characters that the terminal has."""
    encoding = sys.stdout.encoding or "utf-8"
    if encoding.lower().startswith("utf"):
        click.echo(text, nl=False, color=color)
    else:  # where click would write UTF-8 all the same
        from orchestrator.display import charts  # noqa: PLC0415

        click.echo(charts.in_ascii(text).encode(encoding, "replace"), nl=False)


def colored() -> bool:
    """Whether stdout is to be in colours (https://no-color.org)."""
    if os.environ.get("NO_COLOR"):
        return False
    return sys.stdout.isatty() or bool(os.environ.get("FORCE_COLOR"))


def warn(text: str) -> None:
    """Say on stderr what should be known although nothing failed."""
    from orchestrator.display.text import plain  # noqa: PLC0415 - help comes without

    color = False if os.environ.get("NO_COLOR") else None
    click.secho("warning", fg="yellow", nl=False, err=True, color=color)
    click.echo(f": {plain(text)}", err=True)


@click.command()
@click.argument("run")
@looking
def show(run: str, runs_dir: Path, form: str | None, debug: bool) -> int:
    """Show one run: every attempt, why it failed, what was changed, and whether that helped.

    RUN is a run's name or the beginning of it, its directory, or `latest`; RUN@2 is its second
    attempt in full.
    """
    from orchestrator.display import charts  # noqa: PLC0415
    from orchestrator.history import briefs  # noqa: PLC0415
    from orchestrator.history import find as histories  # noqa: PLC0415
    from orchestrator.history import listing as overview  # noqa: PLC0415
    from orchestrator.history import show as portrait  # noqa: PLC0415
    from orchestrator.record import archive, records, store  # noqa: PLC0415

    directory, number = histories.find_attempt(runs_dir, run)
    record = read(directory)
    if number is not None:
        expect_attempt(record, number, run)
    attempts = [each for each in record.attempts if number in (None, each.attempt)]
    if form == "json":
        found = (
            store.run_record(record)
            if number is None
            else {"schema": records.SCHEMA, "run": record.run, **store.attempt_record(*attempts)}
        )
        click.echo(records.dump(found, indent=1))
        return 0
    if form is not None:
        write(form, *overview.attempts(attempts))
        return 0
    state = None
    if record.status == "running":
        with _named(directory):
            state = briefs.state(record, [entry.event for entry in archive.events(directory)])
    shown = portrait.portrait(
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


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="A B …")
@looking
def compare(runs: Sequence[str], runs_dir: Path, form: str | None, debug: bool) -> int:
    """Put runs, or attempts such as RUN@2, side by side and show only what differs.

    A run stands for its accepted attempt, or else its best, or else its last.
    """
    from orchestrator.history import compare as comparison  # noqa: PLC0415
    from orchestrator.history import find as histories  # noqa: PLC0415
    from orchestrator.record import records  # noqa: PLC0415

    if len(runs) < 2:
        raise click.UsageError(
            "expected two runs or attempts at least", click.get_current_context()
        )
    sides = []
    for text in runs:
        directory, number = histories.find_attempt(runs_dir, text)
        run = read(directory)
        if number is not None:
            expect_attempt(run, number, text)
        sides.append(comparison.side(directory, run, number))
    found = comparison.differences(sides)
    if form == "json":
        click.echo(records.dump(records.jsonable(comparison.document(sides, found)), indent=1))
    elif found or form is not None:
        write(form, *comparison.table(sides, found))
    else:
        click.echo("nothing differs")
    return 0


@click.command()
@click.argument("run")
@click.option("-f", "--follow", is_flag=True, help="Go on until the run ends.")
@looking
def logs(run: str, follow: bool, runs_dir: Path, form: str | None, debug: bool) -> int:
    """Print what happened in a run, event by event, with what its attempts printed."""
    from orchestrator.history import find as histories  # noqa: PLC0415
    from orchestrator.history import logs as journals  # noqa: PLC0415
    from orchestrator.record import archive, records  # noqa: PLC0415

    if follow and form is not None:
        raise click.UsageError(f"--follow prints lines, not {form}", click.get_current_context())
    directory = histories.find_whole(runs_dir, run)
    with _named(directory):
        if form is None:
            # Ctrl-C is how one stops watching.
            with contextlib.suppress(KeyboardInterrupt):
                for line in journals.follow(directory, wait=follow):
                    say(f"{line}\n")
            return 0
        entries = archive.events(directory)
        if form == "json":
            events = [_event(entry) for entry in entries]
            click.echo(records.dump({"schema": records.SCHEMA, "events": events}, indent=1))
        else:
            write(form, *journals.table(entries))
    return 0


def _event(entry: Entry) -> dict[str, Any]:
    from orchestrator.record import journal, records  # noqa: PLC0415

    head = {"time": entry.time, "elapsed": entry.elapsed, "event": journal.name_of(entry.event)}
    return {**head, **records.jsonable(entry.event)}


@contextlib.contextmanager
def _named(directory: Path) -> Iterator[None]:
    """A record that cannot be read is the user's to know, by name."""
    from orchestrator.errors import InvalidError, Problem, RecordError  # noqa: PLC0415

    try:
        yield
    except RecordError as error:
        raise InvalidError([Problem(file=str(directory), message=str(error))]) from error


def read(directory: Path) -> Run:
    """The run that a directory records.

    Raises:
        InvalidError: it cannot be read.
    """
    from orchestrator.record import archive  # noqa: PLC0415

    with _named(directory):
        return archive.read(directory)


def expect_attempt(run: Run, number: int, given: str) -> None:
    """Refuse an attempt that the run does not have."""
    from orchestrator.errors import InvalidError, Problem  # noqa: PLC0415 - help comes without

    if not any(attempt.attempt == number for attempt in run.attempts):
        count = len(run.attempts)
        has = f"it has attempts 1 to {count}" if count > 1 else f"it has {count or 'no'} attempt"
        message = f"there is no attempt {number}; {has}"
        raise InvalidError([Problem(file=given, message=message)])


COMMANDS: Iterable[click.Command] = (history, show, compare, logs)
"""All of them."""
