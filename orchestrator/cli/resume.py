"""The command `resume`; `training` does what comes after its arguments."""

from __future__ import annotations

from pathlib import Path

import click

from orchestrator.cli import options


@click.command()
@click.argument("run", metavar="RUN")
@options.runs_dir
@options.base
@click.option("--force", is_flag=True, help="Go on with data or code that is not what it was, too.")
@options.of_runs
def resume(
    run: str, runs_dir: Path, base: Path | None, force: bool, as_json: bool, quiet: bool
) -> int:
    """Go on with an interrupted run, to the same bits as if it had not been interrupted.

    RUN is the run's name, the beginning of it, `latest`, or its directory. A run that has ended is
    printed as it ended, with its exit code; nothing changes then.
    """
    # Whoever has misspelt a name does not wait until NumPy and rich are imported.
    from orchestrator.history.find import find_whole_run  # noqa: PLC0415

    directory = find_whole_run(runs_dir, run)
    from orchestrator.cli import training  # noqa: PLC0415

    return training.resume(directory, base=base, force=force, as_json=as_json, quiet=quiet)
