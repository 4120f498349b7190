"""The command `check`."""

from __future__ import annotations

from pathlib import Path

import click

from orchestrator.cli import options
from orchestrator.diagnosis.health import Examinee
from orchestrator.display import charts, results
from orchestrator.display.live.view import View, stderr
from orchestrator.training import launch
from orchestrator.training.interrupts import Interrupts


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
    examinee = Examinee(
        model=model,
        data=data,
        target=target,
        features=() if features is None else tuple(features.split(",")),
        delimiter=delimiter,
        modules=modules,
        exhaustive=not fast,
        gradients=gradients,
    )
    view = View(stderr(), detail="warnings" if quiet else "all")
    with Interrupts() as interrupts, view:
        health = launch.check(examinee, announcer=view, interrupts=interrupts)
    failed = health.failure is not None
    if as_json:
        status = "failed" if failed else "passed"
        head = {"schema": 1, "status": status, "model": str(model), "data": str(data)}
        options.print_json({**head, **health.record(), "summary": health.summary()})
    else:
        charts.stdout().print(results.describe_health(health), highlight=False)
    return options.CHECK_FAILED if failed else 0
