"""The command line: the only place that catches the error tree and turns it into exit codes."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import click

from orchestrator.cli import history, trash
from orchestrator.errors import (
    InvalidError,
    OrchestratorError,
    Problem,
    StoppedError,
    UserCodeError,
    closest,
    is_disk_full,
)
from orchestrator.record import records
from orchestrator.training.interrupts import Interrupts

_INTERNAL, _USAGE, _CHECK_FAILED, _USER_CODE, _INTERRUPTED = 1, 2, 3, 4, 75


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code.

    Args:
        arguments: the arguments after the program's name; default `sys.argv`.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    # Output is for people; a terminal that cannot show a character must not end a run.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    sys.exit(_run(given))


def _run(given: list[str]) -> int:
    """Run a command; every expected failure becomes one message and an exit code."""
    report = _Report(as_json="--json" in given, debug="--debug" in given)
    try:
        code = cli.main(_with_command(given), prog_name="orchestrate", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help() if error.ctx else "")
        return _USAGE
    except click.UsageError as error:
        where = f"try: {error.ctx.command_path} --help" if error.ctx else None
        message = error.format_message()
        hint = _command_hint(given) or where
        return report.problems([Problem(file="command line", message=message, hint=hint)], _USAGE)
    except InvalidError as error:
        return report.problems(_hinted(error.problems, given), _USAGE, error)
    except UserCodeError as error:
        return report.message(str(error), _USER_CODE, error)
    except (StoppedError, click.Abort, KeyboardInterrupt) as error:
        return report.message(str(error) or "interrupted", _INTERRUPTED, error)
    except (BrokenPipeError, SystemExit):  # which is what click makes of it
        _abandon_stdout()
        # Who has seen enough of a list may leave; how a run ended is not told by leaving.
        return 0 if given and given[0] in _LOOKING else _INTERNAL
    except OrchestratorError as error:
        return report.message(str(error), _INTERNAL, error)
    except Exception as error:  # noqa: BLE001 - the last net, so that nobody sees a traceback
        if isinstance(error, OSError) and is_disk_full(error):
            return report.message(
                f"{error.strerror}: free some, and do it again", _INTERRUPTED, error
            )
        text = f"internal error: {type(error).__name__}: {error}"
        return report.message(f"{text}; --debug shows where", _INTERNAL, error)


class _Report:
    """Prints failures, for people on stderr or as the one JSON document on stdout."""

    def __init__(self, *, as_json: bool, debug: bool) -> None:
        self._as_json = as_json
        self._debug = debug

    def problems(
        self, problems: Sequence[Problem], code: int, error: Exception | None = None
    ) -> int:
        """Report what is wrong with the command, the config or the data."""
        self._trace(error)
        if self._as_json:
            _print_failure("invalid", problems)
        for problem in problems:
            _complain([str(problem)])
        return code

    def message(self, text: str, code: int, error: Exception | BaseException) -> int:
        """Report anything else that ended the command."""
        self._trace(error)
        if self._as_json:
            status = "interrupted" if code == _INTERRUPTED else "error"
            _print_failure(status, [Problem(file="", message=text)])
        _complain(text.splitlines())
        return code

    def _trace(self, error: BaseException | None) -> None:
        if self._debug and error is not None:
            traceback.print_exception(error)


def _complain(lines: Iterable[str]) -> None:
    from orchestrator.display.text import plain  # noqa: PLC0415 - help comes without

    click.secho("error", fg="red", bold=True, nl=False, err=True, color=_color())
    text = "\n".join(map(plain, lines))
    click.echo(f": {text}", err=True)


def _color() -> bool | None:
    """No colour where NO_COLOR says so (https://no-color.org), else click's own choice."""
    return False if os.environ.get("NO_COLOR") else None


def _print_failure(status: str, problems: Sequence[Problem]) -> None:
    fields = ("file", "line", "key", "message", "hint")
    found = [{name: getattr(problem, name) for name in fields} for problem in problems]
    try:
        _print_json({"schema": 1, "status": status, "attempts": [], "problems": found})
    except OSError:  # which may be the very failure
        _abandon_stdout()


def _abandon_stdout() -> None:
    """Let nothing be written at the exit to where nothing can be written."""
    with contextlib.suppress(OSError):  # a test's has no descriptor
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print_json(value: Any) -> None:
    click.echo(records.dump(value, indent=1))


def _with_command(given: list[str]) -> list[str]:
    """`orchestrate CONFIG` is `orchestrate run CONFIG`."""
    if not given or given[0] in cli.commands or given[0] in ("--help", "-h", "--version"):
        return given
    return ["run", *given]


def _hinted(problems: Sequence[Problem], given: list[str]) -> Sequence[Problem]:
    """With the command that is meant, where a misspelt one was taken for a config."""
    word = given[0]
    hint = None if Path(word).suffix or os.sep in word else _command_hint(given)
    return [
        dataclasses.replace(each, hint=hint) if hint and each.file == word else each
        for each in problems
    ]


def _command_hint(given: list[str]) -> str | None:
    """What to say when the first word looks like a misspelt command."""
    if not given or given[0] in cli.commands or Path(given[0]).exists():
        return None
    match = closest(given[0], list(cli.commands))
    return f"did you mean the command {match!r}?" if match else None


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 passed, 1 internal error, 2 usage, config or data at fault, "
    "3 no attempt passed, `check` found a failure or `replay` a difference, 4 your own code "
    "raised, 75 interrupted.",
)
@click.version_option(package_name="orchestrator", message="%(prog)s %(version)s")
def cli() -> None:
    """Train a Keras model until its checks pass.

    `orchestrate CONFIG` trains the model of a YAML config in phases, checks it after each for dead
    units and a constant prediction, and starts again with what the restart policy says when a check
    fails. It is short for `orchestrate run CONFIG`.
    """


_CONFIG_OPTIONS = (
    click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help="Lay a value over the config, as in compile.optimizer.Adam.learning_rate=1e-3. "
        "List indices count from 0. May be given more than once.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout."),
    click.option(
        "--quiet",
        is_flag=True,
        help="One line an attempt instead of the live view; with --json only warnings.",
    ),
    click.option("--debug", is_flag=True, help="Show where in the code an error came up."),
)


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every command that reads a config."""
    for option in reversed(_CONFIG_OPTIONS):
        command = option(command)
    return command


def _detail(*, as_json: bool, quiet: bool) -> Literal["all", "attempts", "warnings"]:
    """How much to show on the way; a program that reads JSON needs no line an attempt."""
    if not quiet:
        return "all"
    return "warnings" if as_json else "attempts"


@cli.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "--runs-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runs"),
    show_default=True,
    help="Folder of all runs.",
)
@_options
def run(
    config: Path,
    runs_dir: Path,
    overrides: tuple[str, ...],
    as_json: bool,
    quiet: bool,
    debug: bool,
) -> int:
    """Take CONFIG to a healthy model; the main job."""
    from orchestrator.config import load as configs  # noqa: PLC0415

    loaded = configs.load(config, overrides)
    # NumPy and rich are for those who got this far; help and config errors come without.
    from orchestrator.display import charts, words  # noqa: PLC0415
    from orchestrator.display.live import view  # noqa: PLC0415
    from orchestrator.record import store  # noqa: PLC0415
    from orchestrator.training import launch as launcher  # noqa: PLC0415

    console = view.stderr()
    detail = _detail(as_json=as_json, quiet=quiet)
    with Interrupts() as interrupts, view.View(console, detail=detail) as shown:
        record, directory = launcher.launch(
            loaded, runs_dir=runs_dir, announcer=shown, interrupts=interrupts
        )
    if as_json:
        _print_json(store.run_record(record))
    # With --json stdout is the record's alone.
    if not (as_json and quiet):
        (console if as_json else charts.stdout()).print(
            words.result(record, directory), highlight=False
        )
    return record.exit_code or 0


@cli.command()
@click.argument("config", type=click.Path(path_type=Path))
@_options
def validate(
    config: Path, overrides: tuple[str, ...], as_json: bool, quiet: bool, debug: bool
) -> int:
    """Build data and model of CONFIG and fit their shapes together; train and write nothing."""
    from orchestrator.config import load as configs  # noqa: PLC0415

    loaded = configs.load(config, overrides)
    from orchestrator.cli.validate import validated  # noqa: PLC0415
    from orchestrator.display import charts  # noqa: PLC0415
    from orchestrator.display.live import view  # noqa: PLC0415
    from orchestrator.training import launch as launcher  # noqa: PLC0415

    detail = _detail(as_json=as_json, quiet=quiet)
    with Interrupts() as interrupts, view.View(view.stderr(), detail=detail) as shown:
        prepared = launcher.validate(loaded, announcer=shown, interrupts=interrupts)
    if as_json:
        _print_json({"schema": 1, "status": "valid", **records.jsonable(prepared)})
    else:
        charts.stdout().print(validated(loaded.name, prepared), highlight=False)
    return 0


@cli.command()
@click.argument("model", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    required=True,
    help="Rows to look at: .npz with arrays x and y, .npy with inputs, .csv or .parquet.",
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
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
@click.option("--quiet", is_flag=True, help="Say nothing on the way.")
@click.option("--debug", is_flag=True, help="Show where in the code an error came up.")
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
    debug: bool,
) -> int:
    """Diagnose MODEL, a .keras file trained elsewhere, on rows of data.

    Tells which units of which layers are dead and what the predictions are worth. Ends with exit
    code 3 when a check fails.
    """
    from orchestrator.diagnosis.health import Examinee  # noqa: PLC0415
    from orchestrator.display import charts, words  # noqa: PLC0415
    from orchestrator.display.live import view  # noqa: PLC0415
    from orchestrator.training import launch as launcher  # noqa: PLC0415

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
    detail = _detail(as_json=True, quiet=quiet)
    with Interrupts() as interrupts, view.View(view.stderr(), detail=detail) as shown:
        health = launcher.check(examinee, announcer=shown, interrupts=interrupts)
    failed = health.failure is not None
    if as_json:
        status = "failed" if failed else "passed"
        head = {"schema": 1, "status": status, "model": str(model), "data": str(data)}
        _print_json({**head, **health.record(), "summary": health.summary()})
    else:
        charts.stdout().print(words.health(health), highlight=False)
    return _CHECK_FAILED if failed else 0


@cli.command()
@click.argument("run", metavar="RUN[@ATTEMPT]")
@click.option(
    "--base",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Where the config's folder is now, from which its paths and callables start.",
)
@click.option("--force", is_flag=True, help="Train on data that is not what it was, too.")
@click.option("--quiet", is_flag=True, help="Say nothing on the way but warnings.")
@history.looking
def replay(
    run: str,
    base: Path | None,
    force: bool,
    quiet: bool,
    runs_dir: Path,
    form: str | None,
    debug: bool,
) -> int:
    """Train one attempt again from its record, and say whether it arrives at the same bits.

    RUN@2 is the second attempt of a run; RUN alone stands for its accepted attempt, or else its
    best, or else its last. Nothing in the run's directory changes. Ends with exit code 3 when the
    weights, the logged values or the checks of any phase differ from what was recorded.
    """
    # Help comes without these.
    from orchestrator.display.live import view  # noqa: PLC0415
    from orchestrator.history import find as histories  # noqa: PLC0415
    from orchestrator.training.replay import fidelity  # noqa: PLC0415
    from orchestrator.training.replay import replay as replays  # noqa: PLC0415

    directory, number = histories.find_attempt(runs_dir, run)
    record = history.read(directory)
    if number is not None:
        history.expect_attempt(record, number, run)
    detail = _detail(as_json=True, quiet=quiet)
    with Interrupts() as interrupts, view.View(view.stderr(), detail=detail) as shown:
        found = replays.replay(
            directory,
            record,
            number,
            base=base,
            force=force,
            announcer=shown,
            interrupts=interrupts,
        )
    if form == "json":
        _print_json(records.jsonable(found))
        return 0 if found.same else _CHECK_FAILED
    history.write(form, *fidelity.table(found))
    if form is None:
        click.echo(f"\n{fidelity.sentence(found)}")
        if found.reason is not None:
            click.echo(f"perhaps because: {found.reason}")
    return 0 if found.same else _CHECK_FAILED


@cli.command()
@click.argument("what", type=click.Choice(["config", "record"]), default="config")
@click.option("--json", "as_json", is_flag=True, help="Makes no difference: it is JSON always.")
@click.option("--debug", is_flag=True, help="Show where in the code an error came up.")
def schema(what: str, as_json: bool, debug: bool) -> int:
    r"""Print the JSON schema of configs, with which editors complete them, or of records.

    Save it beside the configs as orchestrate.schema.json, and put this line on top of each:

    \b
    # yaml-language-server: $schema=orchestrate.schema.json
    """
    from orchestrator.config import json_schema  # noqa: PLC0415

    _print_json(json_schema.json_schema() if what == "config" else json_schema.record_schema())
    return 0


for _command in (*history.COMMANDS, *trash.COMMANDS):
    cli.add_command(_command)
_LOOKING = tuple(command.name for command in (*history.COMMANDS, *trash.COMMANDS))
"""Commands that end with 0 whatever they have shown."""
