"""The command `check`; `training` does what comes after its arguments."""

from __future__ import annotations

from pathlib import Path

import click

from orchestrator.cli import options
from orchestrator.training.executors import choice


@click.command()
@click.argument("model", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    required=True,
    help="Rows to look at: .npz with arrays x and y, .npy with inputs, .csv, .parquet or .feather.",
)
@click.option(
    "--target",
    help="What is to be predicted: a column of a table, an array of an .npz (default y), or an "
    ".npy file. Without it only the units are judged.",
)
@click.option(
    "--features", metavar="A,B,…", help="Input columns of a table, in order; default all others."
)
@click.option(
    "--delimiter", default=",", help="What separates the columns of a .csv; default a comma."
)
@click.option(
    "--module",
    "modules",
    multiple=True,
    help="A module of yours that registers the classes that the model needs. May be given more "
    "than once.",
)
@click.option(
    "--gradients",
    is_flag=True,
    help="Find units from which no gradient reaches an output even where no check warns or fails; "
    "about three times the cost.",
)
@click.option("--fast", is_flag=True, help="Stop reading early, and leave the skill aside.")
@options.as_json
@click.option("--quiet", is_flag=True, help="Say nothing on the way.")
@options.debug
def check(
    model: Path,
    data: Path,
    target: str | None,
    features: str | None,
    delimiter: str,
    modules: tuple[str, ...],
    gradients: bool,
    fast: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Diagnose MODEL, a .keras file trained elsewhere, on rows of data.

    Tells which units of which layers are dead and what the predictions are worth. Ends with exit
    code 3 when a check fails.
    """
    choice.start_early()
    # Whoever reads the help does not wait until NumPy and rich are imported.
    from orchestrator.cli import training  # noqa: PLC0415

    return training.check(
        model=model,
        data=data,
        target=target,
        features=() if features is None else tuple(features.split(",")),
        delimiter=delimiter,
        modules=modules,
        exhaustive=not fast,
        gradients=gradients,
        as_json=as_json,
        quiet=quiet,
    )
