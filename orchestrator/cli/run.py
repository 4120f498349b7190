"""The commands `run` and `validate`, which read a config; `training` does what comes after that."""

from __future__ import annotations

from pathlib import Path

import click

from orchestrator.cli import options
from orchestrator.config.load import load
from orchestrator.training.executors import choice

_config = click.argument("config", type=click.Path(path_type=Path))


@click.command()
@_config
@options.runs_dir
@click.option(
    "--resume",
    is_flag=True,
    help="Go on with the newest run of CONFIG that was interrupted, or begin one.",
)
@options.of_configs
def run(
    config: Path,
    runs_dir: Path,
    resume: bool,
    overrides: tuple[str, ...],
    as_json: bool,
    quiet: bool,
) -> int:
    """Take CONFIG to a healthy model; the main job."""
    loaded = load(config, overrides)
    choice.start_early()
    # Whoever has an error in the config does not wait until NumPy and rich are imported.
    from orchestrator.cli import training  # noqa: PLC0415

    begin = training.resume_or_run if resume else training.run
    return begin(loaded, runs_dir=runs_dir, as_json=as_json, quiet=quiet)


@click.command()
@_config
@options.of_configs
def validate(config: Path, overrides: tuple[str, ...], as_json: bool, quiet: bool) -> int:
    """Build data and model of CONFIG and fit their shapes together; train and write nothing."""
    loaded = load(config, overrides)
    if loaded.tune.space:
        from orchestrator.tuning import plan  # noqa: PLC0415 - as in `run`

        plan.plan_search(loaded)
    choice.start_early()
    from orchestrator.cli import training  # noqa: PLC0415 - as in `run`

    return training.validate(loaded, as_json=as_json, quiet=quiet)
