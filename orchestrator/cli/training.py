"""What the commands do that need a model, once their arguments and config are known to be right."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Group, RenderableType
from rich.text import Text

from orchestrator.cli.options import CHECK_FAILED, detail, print_json
from orchestrator.cli.output import print_table
from orchestrator.config.schema import Config
from orchestrator.diagnosis.health import Examinee
from orchestrator.display import charts, results, words
from orchestrator.display.charts import Legible
from orchestrator.display.live.view import View, stderr
from orchestrator.display.text import clean
from orchestrator.history.find import naming, read_attempt
from orchestrator.record.encoding import jsonable
from orchestrator.record.records import Run
from orchestrator.record.storage import archive
from orchestrator.training import launch
from orchestrator.training.attempt.task import Prepared
from orchestrator.training.interrupts import Interrupts
from orchestrator.training.recorded import fidelity
from orchestrator.training.recorded.replay import replay_attempt
from orchestrator.training.recorded.resume import resume as resume_run
from orchestrator.training.recorded.unfinished import in_progress, taking_up


def run(config: Config, *, runs_dir: Path, as_json: bool, quiet: bool) -> int:
    """Take a config to a finished run, and print its result.

    Returns:
        The exit code.
    """
    view = View(stderr(), detail=detail(as_json=as_json, quiet=quiet))
    with Interrupts() as interrupts, view:
        record, directory = launch.launch(
            config, runs_dir=runs_dir, announcer=view, interrupts=interrupts
        )
    return _print_run(record, directory, as_json=as_json, quiet=quiet)


def resume_or_run(config: Config, *, runs_dir: Path, as_json: bool, quiet: bool) -> int:
    """Take the newest run of a config that was interrupted, or else a new one, to its end.

    Returns:
        The exit code.
    """
    with taking_up(runs_dir, config) as directory:
        if directory is not None:
            return resume(directory, base=None, force=False, as_json=as_json, quiet=quiet)
        if not (as_json and quiet):
            where = words.relative(runs_dir)
            click.echo(f"no run of {config.name} in {where} is unfinished, one begins", err=True)
        return run(config, runs_dir=runs_dir, as_json=as_json, quiet=quiet)


def resume(directory: Path, *, base: Path | None, force: bool, as_json: bool, quiet: bool) -> int:
    """Take an interrupted run to its end, and print its result; of a finished run, that alone.

    Returns:
        The exit code.
    """
    with naming(directory):
        record = archive.read(directory)
    if record.status == "running":
        raise in_progress(directory)
    if record.status == "interrupted":
        view = View(stderr(), detail=detail(as_json=as_json, quiet=quiet))
        with Interrupts() as interrupts, view, naming(directory):
            record = resume_run(
                directory, base=base, force=force, announcer=view, interrupts=interrupts
            )
    return _print_run(record, directory, as_json=as_json, quiet=quiet)


def _print_run(record: Run, directory: Path, *, as_json: bool, quiet: bool) -> int:
    """Print the result of a run, and return its exit code."""
    if as_json:
        print_json(record)
    # With --json stdout is the record's alone.
    if not (as_json and quiet):
        (stderr() if as_json else charts.stdout()).print(
            results.summarize_run(record, directory), highlight=False
        )
    return record.exit_code or 0


def validate(config: Config, *, as_json: bool, quiet: bool) -> int:
    """Build what a config asks for, and print what was found.

    Returns:
        The exit code.
    """
    view = View(stderr(), detail=detail(as_json=as_json, quiet=quiet))
    with Interrupts() as interrupts, view:
        prepared = launch.validate(config, announcer=view, interrupts=interrupts)
    hopeless = any(finding.certain for finding in prepared.findings)
    if as_json:
        status = "failed" if hopeless else "valid"
        print_json({"schema": 1, "status": status, **jsonable(prepared)})
    else:
        charts.stdout().print(validated(config.name, prepared), highlight=False)
    return CHECK_FAILED if hopeless else 0


def check(*, as_json: bool, quiet: bool, **examined: Any) -> int:
    """Diagnose a model trained elsewhere, and print what was found.

    Args:
        as_json: print one JSON document.
        quiet: say nothing on the way.
        **examined: the fields of `Examinee`.

    Returns:
        The exit code.
    """
    examinee = Examinee(**examined)
    view = View(stderr(), detail="warnings" if quiet else "all")
    with Interrupts() as interrupts, view:
        health = launch.check(examinee, announcer=view, interrupts=interrupts)
    failed = health.failure is not None
    if as_json:
        status = "failed" if failed else "passed"
        head = {"schema": 1, "status": status}
        files = {"model": str(examinee.model), "data": str(examinee.data)}
        print_json({**head, **files, **health.record(), "summary": health.summary()})
    else:
        charts.stdout().print(results.describe_health(health), highlight=False)
    return CHECK_FAILED if failed else 0


def replay(
    run: str, *, runs_dir: Path, base: Path | None, force: bool, form: str | None, quiet: bool
) -> int:
    """Train one attempt again, and print how far it agrees with its record.

    Returns:
        The exit code.
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
        print_json(found)
    else:
        print_table(form, *fidelity.table(found))
    if form is None:
        click.echo(f"\n{clean(fidelity.sentence(found))}")
        if found.reason is not None:
            click.echo(f"perhaps because: {clean(found.reason)}")
    return 0 if found.same else CHECK_FAILED


def validated(name: str, found: Prepared) -> RenderableType:
    """What `validate` found.

    Args:
        name: the config's name.
        found: data and model, built and fitted together.
    """
    shape = _shape(found.input_shape)
    held = f", {found.validation_rows} held back for validation" if found.validation_rows else ""
    watched = ", ".join(found.layers) or "none"
    hopeless = any(finding.certain for finding in found.findings)
    verdict = (" cannot succeed", "red") if hopeless else " is valid"
    lines = [
        Text.assemble((name, "bold"), verdict),
        Text(f"Data: {found.rows} training rows of {shape}{held}"),
        Text(f"Model: {found.parameters} weights; activations are watched in: {clean(watched)}"),
        *(
            Text.assemble(("warning", "yellow"), f": {clean(warning)}")
            for warning in found.warnings
        ),
        *(Text(words.finding_line(finding)) for finding in found.findings),
    ]
    return Legible(Group(*lines))


def _shape(shape: Any) -> str:
    """Shape of a row, or of each of several inputs."""
    if isinstance(shape, Mapping):
        return ", ".join(f"{name}: {_shape(each)}" for name, each in shape.items())
    if any(isinstance(each, tuple) for each in shape):
        return ", ".join(map(_shape, shape))
    return " × ".join(map(str, shape))
