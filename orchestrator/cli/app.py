"""The command line: its commands, and the only place that turns errors into exit codes."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import click

from orchestrator.cli.options import print_json
from orchestrator.display.text import plain, printable
from orchestrator.errors import (
    InvalidError,
    OrchestratorError,
    Problem,
    StoppedError,
    UserCodeError,
    closest,
    unwritable,
)
from orchestrator.training.interrupts import SIGNALS

_INTERNAL, _USAGE, _USER_CODE, _INTERRUPTED = 1, 2, 4, 75


class Entry(NamedTuple):
    """A command in the list of commands."""

    module: str
    """The module of `orchestrator.cli` that has it."""
    help: str
    """The first sentence of its help."""


COMMANDS: Mapping[str, Entry] = {
    "run": Entry("run", "Take CONFIG to a healthy model; the main job."),
    "resume": Entry(
        "resume",
        "Go on with an interrupted run, to the same bits as if it had not been interrupted.",
    ),
    "validate": Entry(
        "run",
        "Build data and model of CONFIG and fit their shapes together; train and write nothing.",
    ),
    "check": Entry("check", "Diagnose MODEL, a .keras file trained elsewhere, on rows of data."),
    "tune": Entry(
        "tune",
        "Search the restart policy, or any key of CONFIG, for the best with KerasTuner.",
    ),
    "replay": Entry(
        "replay",
        "Train one attempt again from its record, and say whether it arrives at the same bits.",
    ),
    "schema": Entry(
        "schema",
        "Print the JSON schema of configs, with which editors complete them, or of records.",
    ),
    "history": Entry(
        "history",
        "List the runs: when, how they ended, what failed, what helped, how good they are.",
    ),
    "show": Entry(
        "show",
        "Show one run: every attempt, why it failed, what was changed, and whether that helped.",
    ),
    "compare": Entry(
        "compare",
        "Put runs, or attempts such as RUN@2, side by side and show only what differs.",
    ),
    "logs": Entry(
        "logs",
        "Print what happened in a run, event by event, with what its attempts printed.",
    ),
    "rm": Entry("trash", "Move runs into the trash, the folder .trash beside them."),
    "prune": Entry(
        "trash",
        "Move all but the newest runs into the trash; never one in progress or unreadable.",
    ),
}
"""All commands. Each module imports what its commands need; it is imported when one is called."""

_LOOKING = ("history", "show", "compare", "logs", "rm", "prune")
"""Commands whose exit code is 0 whatever they print, so also when the reader leaves early."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code.

    Args:
        arguments: the arguments after the program's name; default `sys.argv`.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    # A character that the terminal cannot show must not end a run.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        code = execute(given)
    except KeyboardInterrupt:  # once more, while the first one was answered
        code = _INTERRUPTED
    finally:
        for name in SIGNALS:  # nor do further ones keep this process from ending those it started
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), signal.SIG_IGN)
        # Who never imported it has started no process.
        fork_server = sys.modules.get("orchestrator.training.executors.fork_server")
        if fork_server is not None:
            fork_server.stop()
    sys.exit(code)


def execute(given: list[str]) -> int:
    """Run a command; every failure becomes one message and an exit code.

    Args:
        given: the arguments after the program's name.

    Returns:
        The exit code.
    """
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
    except (BrokenPipeError, SystemExit):  # click exits when the pipe behind stdout is closed
        _abandon_stdout()
        # Whoever has seen enough of a list may close it; of other commands the code tells how a run
        # ended, which nobody has been told.
        return 0 if given and given[0] in _LOOKING else _INTERNAL
    except OrchestratorError as error:
        return report.message(str(error), _INTERNAL, error)
    except Exception as error:  # noqa: BLE001 - the last net, so that nobody sees a traceback
        if isinstance(error, OSError) and (told := unwritable(error)) is not None:
            return report.message(f"{told}, and do it again", _INTERRUPTED, error)
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
            told = "".join(traceback.format_exception(error))
            click.echo(printable(told), nl=False, err=True)


def _complain(lines: Iterable[str]) -> None:
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
        print_json({"schema": 1, "status": status, "attempts": [], "problems": found})
    except OSError:  # writing to stdout may be what has failed
        _abandon_stdout()


def _abandon_stdout() -> None:
    """Send the rest of stdout nowhere, so that flushing it at the exit does not fail again."""
    with contextlib.suppress(OSError):  # in tests stdout has no descriptor
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _with_command(given: list[str]) -> list[str]:
    """`orchestrate CONFIG` is `orchestrate run CONFIG`."""
    if not given or given[0] in COMMANDS or given[0] in ("--help", "-h", "--version"):
        return given
    return ["run", *given]


def _hinted(problems: Sequence[Problem], given: list[str]) -> Sequence[Problem]:
    """The problems, with a hint at the command where a misspelt one was taken for a config."""
    word = given[0]
    hint = None if Path(word).suffix or os.sep in word else _command_hint(given)
    return [
        dataclasses.replace(each, hint=hint) if hint and each.file == word else each
        for each in problems
    ]


def _command_hint(given: list[str]) -> str | None:
    """What to say when the first word looks like a misspelt command."""
    if not given or given[0] in COMMANDS or os.path.exists(given[0]):
        return None
    match = closest(given[0], list(COMMANDS))
    return f"did you mean the command {match!r}?" if match else None


class _Group(click.Group):
    """A group that imports a command when it is called, and lists the commands without that."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the commands, sorted."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name; None where there is none."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"orchestrator.cli.{COMMANDS[cmd_name].module}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of the commands as click does, with stand-ins that have only a help."""
        listed = [click.Command(name, help=entry.help) for name, entry in COMMANDS.items()]
        click.Group(commands=listed).format_commands(ctx, formatter)


@click.group(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 passed, 1 internal error, 2 usage, config or data at fault, "
    "3 no attempt passed, `check` found a failure, `replay` a difference or `validate` that no "
    "training can succeed, 4 your own code raised, 75 interrupted: `orchestrate resume RUN` goes "
    "on.",
)
@click.version_option(package_name="orchestrator", message="%(prog)s %(version)s")
def cli() -> None:
    """Train a Keras model until its checks pass.

    `orchestrate CONFIG` trains the model of a YAML config in phases, checks it after each for dead
    units and a constant prediction, and starts again with what the restart policy says when a check
    fails. It is short for `orchestrate run CONFIG`.
    """
