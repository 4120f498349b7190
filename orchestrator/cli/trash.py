"""The commands `rm` and `prune`, which move runs into the trash."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
from rich.filesize import decimal

from orchestrator.cli import options
from orchestrator.cli.output import print_table
from orchestrator.display.tables import Cell, Column
from orchestrator.display.text import plain
from orchestrator.history import query, trash
from orchestrator.history.find import find_whole_run, read_history
from orchestrator.record.storage import archive

_DRY_RUN = click.option("--dry-run", is_flag=True, help="Say what would be moved; move nothing.")


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN …")
@_DRY_RUN
@options.of_tables
def rm(runs: Sequence[str], dry_run: bool, runs_dir: Path, form: str | None) -> int:
    """Move runs into the trash, the folder .trash beside them.

    A search goes with all of its runs. Move one back to have it again; delete the folder to free
    the space.
    """
    # Whoever misspells a name here is not told another that they might take without a look.
    directories = [find_whole_run(runs_dir, text, suggest=False, searches=True) for text in runs]
    return _discard(directories, form, dry_run=dry_run)


@click.command()
@click.option("--keep", type=click.IntRange(min=0), required=True, metavar="N",
              help="How many of the newest stay.")  # fmt: skip
@click.option("--name", help="Only runs with this in their name; * and ? stand for any letters.")
@click.option("--status", "statuses", multiple=True, type=click.Choice(options.STATUSES),
              help="Only runs that ended so; more than once for any of them.")  # fmt: skip
@_DRY_RUN
@options.of_tables
def prune(
    keep: int,
    name: str | None,
    statuses: Sequence[str],
    dry_run: bool,
    runs_dir: Path,
    form: str | None,
) -> int:
    """Move all but the newest runs into the trash; never one in progress or unreadable.

    Searches and the runs within them stay; `orchestrate rm` moves them.
    """
    asked = query.Query(name=name, statuses=statuses)
    found = query.select(read_history(runs_dir).runs, asked)
    old = (runs_dir / brief.run for brief in found[keep:])
    idle = [directory for directory in old if not archive.is_owned(directory)]
    return _discard(idle, form, dry_run=dry_run)


def _discard(directories: Sequence[Path], form: str | None, *, dry_run: bool) -> int:
    """Move runs into the trash and say so."""
    places = list(dict.fromkeys(map(trash.canonical_path, directories)))
    for place in places:
        trash.expect_idle(place)
    # The target of a link keeps its bytes.
    sizes = [0 if each.is_symlink() else sum(archive.sizes(each).values()) for each in places]
    targets = [None] * len(places) if dry_run else list(map(str, trash.move_to_trash(places)))
    moved = list(zip([each.name for each in places], sizes, targets, strict=True))
    if form == "json":
        runs = [{"run": run, "bytes": size, "moved_to": target} for run, size, target in moved]
        options.print_json({"schema": 1, "dry_run": dry_run, "runs": runs})
        return 0
    if form is not None:
        columns = (Column("run"), Column("bytes", right=True), Column("moved_to"))
        print_table(form, columns, [tuple(map(Cell, row)) for row in moved])
        return 0

    for run, size, _ in moved:
        done = "would move" if dry_run else "moved"
        click.echo(plain(f"{done} {run} ({decimal(size)})"))
    total = f"{len(moved)} run{'s' * (len(moved) != 1)}, {decimal(sum(row[1] for row in moved))}"
    where = ", ".join(dict.fromkeys(str(Path(target).parent) for target in targets if target))
    if not moved:
        click.echo("there is nothing to move")
    elif dry_run:
        click.echo(f"{total} in all; nothing was moved")
    else:
        click.echo(plain(f"{total} in all, now in {where}: move one back to have it again"))
    return 0
