"""The commands that move runs into the trash; neither imports TensorFlow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from orchestrator.cli.history import STATUSES, looking, write

_DRY_RUN = click.option("--dry-run", is_flag=True, help="Say what would be moved; move nothing.")


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN …")
@_DRY_RUN
@looking
def rm(runs: Sequence[str], dry_run: bool, runs_dir: Path, form: str | None, debug: bool) -> int:
    """Move runs into the trash, the folder .trash beside them.

    Move one back to have it again; delete the folder to free the space.
    """
    from orchestrator.history import find as histories  # noqa: PLC0415

    # Whoever misspells a name here is not told another that they might take without a look.
    directories = [histories.find_whole(runs_dir, text, suggest=False) for text in runs]
    return _discard(directories, form, dry_run=dry_run)


@click.command()
@click.option("--keep", type=click.IntRange(min=0), required=True, metavar="N",
              help="How many of the newest stay.")  # fmt: skip
@click.option("--name", help="Only runs with this in their name; * and ? stand for any letters.")
@click.option("--status", "statuses", multiple=True, type=click.Choice(STATUSES),
              help="Only runs that ended so; more than once for any of them.")  # fmt: skip
@_DRY_RUN
@looking
def prune(
    keep: int,
    name: str | None,
    statuses: Sequence[str],
    dry_run: bool,
    runs_dir: Path,
    form: str | None,
    debug: bool,
) -> int:
    """Move all but the newest runs into the trash; never one in progress or unreadable."""
    from orchestrator.history import find as histories  # noqa: PLC0415
    from orchestrator.history import query  # noqa: PLC0415

    asked = query.Query(name=name, statuses=statuses)
    found = query.select(histories.read(runs_dir).runs, asked)
    old = [runs_dir / brief.run for brief in found[keep:] if brief.status != "running"]
    return _discard(old, form, dry_run=dry_run)


def _discard(directories: Sequence[Path], form: str | None, *, dry_run: bool) -> int:
    """Move runs into the trash and say so."""
    from orchestrator.display.tables import Cell, Column  # noqa: PLC0415
    from orchestrator.history import trash  # noqa: PLC0415
    from orchestrator.record import archive, records  # noqa: PLC0415

    places = list(dict.fromkeys(map(trash.place, directories)))
    for place in places:
        trash.expect_idle(place)
    # The target of a link keeps its bytes.
    sizes = [0 if each.is_symlink() else sum(archive.sizes(each).values()) for each in places]
    targets = [None] * len(places) if dry_run else list(map(str, trash.discard(places)))
    moved = list(zip([each.name for each in places], sizes, targets, strict=True))
    if form == "json":
        runs = [{"run": run, "bytes": size, "moved_to": target} for run, size, target in moved]
        click.echo(records.dump({"schema": 1, "dry_run": dry_run, "runs": runs}, indent=1))
        return 0
    if form is not None:
        columns = (Column("run"), Column("bytes", right=True), Column("moved_to"))
        write(form, columns, [tuple(map(Cell, row)) for row in moved])
        return 0
    from rich.filesize import decimal  # noqa: PLC0415

    for run, size, _ in moved:
        click.echo(f"{'would move' if dry_run else 'moved'} {run} ({decimal(size)})")
    total = f"{len(moved)} run{'s' * (len(moved) != 1)}, {decimal(sum(row[1] for row in moved))}"
    where = ", ".join(dict.fromkeys(str(Path(target).parent) for target in targets if target))
    if not moved:
        click.echo("there is nothing to move")
    elif dry_run:
        click.echo(f"{total} in all; nothing was moved")
    else:
        click.echo(f"{total} in all, now in {where}: move one back to have it again")
    return 0


COMMANDS: Iterable[click.Command] = (rm, prune)
"""All of them."""
