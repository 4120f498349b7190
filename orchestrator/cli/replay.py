"""The command `replay`."""

from __future__ import annotations

from pathlib import Path

import click

from orchestrator.cli import options
from orchestrator.cli.output import print_table
from orchestrator.display.live.view import View, stderr
from orchestrator.history.find import read_attempt
from orchestrator.training.interrupts import Interrupts
from orchestrator.training.replay import fidelity
from orchestrator.training.replay.replay import replay_attempt


@click.command()
@click.argument("run", metavar="RUN[@ATTEMPT]")
@click.option(
    "--base",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Where the config's folder is now, from which its paths and callables start.",
)
@click.option("--force", is_flag=True, help="Train on data that is not what it was, too.")
@click.option("--quiet", is_flag=True, help="Say nothing on the way but warnings.")
@options.of_tables
def replay(
    run: str, base: Path | None, force: bool, quiet: bool, runs_dir: Path, form: str | None
) -> int:
    """Train one attempt again from its record, and say whether it arrives at the same bits.

    RUN@2 is the second attempt of a run; RUN alone stands for its accepted attempt, or else its
    best, or else its last. Nothing in the run's directory changes. Ends with exit code 3 when the
    weights, the logged values or the checks of any phase differ from what was recorded.
    """
    directory, record, number = read_attempt(runs_dir, run)
    view = View(stderr(), detail="warnings" if quiet else "all")
    with Interrupts() as interrupts, view:
        found = replay_attempt(
            directory,
            record,
            number,
            base=base,
            force=force,
            announcer=view,
            interrupts=interrupts,
        )
    if form == "json":
        options.print_json(found)
    else:
        print_table(form, *fidelity.table(found))
    if form is None:
        click.echo(f"\n{fidelity.sentence(found)}")
        if found.reason is not None:
            click.echo(f"perhaps because: {found.reason}")
    return 0 if found.same else options.CHECK_FAILED
