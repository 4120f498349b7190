"""The command `replay`; `training` does what comes after its arguments."""

from __future__ import annotations

from pathlib import Path

import click

from orchestrator.cli import options


@click.command()
@click.argument("run", metavar="RUN[@ATTEMPT]")
@options.base
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
    from orchestrator.cli import training  # noqa: PLC0415 - as in `check`

    return training.replay(run, runs_dir=runs_dir, base=base, force=force, form=form, quiet=quiet)
