"""The command `tune`."""

from __future__ import annotations

from pathlib import Path

import click

from orchestrator.cli import options


@click.command()
@click.argument("target", metavar="CONFIG", type=click.Path(path_type=Path))
@options.runs_dir
@click.option(
    "--jobs", type=click.IntRange(min=1), default=1, show_default=True, metavar="N",
    help="How many runs are trained at a time.",
)  # fmt: skip
@click.option(
    "--resume", is_flag=True, help="Go on with the newest search of CONFIG that was interrupted."
)
@click.option(
    "--fresh", is_flag=True, help="Train every run, also where the same one is recorded already."
)
@options.of_configs
def tune(
    target: Path,
    runs_dir: Path,
    jobs: int,
    resume: bool,
    fresh: bool,
    overrides: tuple[str, ...],
    as_json: bool,
    quiet: bool,
) -> int:
    """Search the restart policy, or any key of CONFIG, for the best with KerasTuner.

    What is searched, and what for, the config says under `tune:`. Instead of a CONFIG, the
    directory of a search that was interrupted goes on with it.
    """
    # Whoever has an error in the config does not wait until NumPy and rich are imported.
    from orchestrator.tuning import plan  # noqa: PLC0415

    config, resumed = plan.find(target, overrides, resume=resume, runs_dir=runs_dir)
    plan.plan_search(config)
    from orchestrator.cli import tuning  # noqa: PLC0415

    return tuning.tune(
        config,
        resumed,
        runs_dir=runs_dir,
        jobs=jobs,
        fresh=fresh,
        as_json=as_json,
        quiet=quiet,
    )
