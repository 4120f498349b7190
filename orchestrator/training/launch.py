"""From a config to a finished run: checks, worker processes, run directory, loop."""

from __future__ import annotations

import contextlib
import signal
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from orchestrator.config import load as configs
from orchestrator.config.schema import Config
from orchestrator.data import cache
from orchestrator.data import load as data
from orchestrator.data.cache import Stored
from orchestrator.diagnosis.health import Examinee, Health
from orchestrator.display import words
from orchestrator.display.live.view import View, stderr
from orchestrator.errors import (
    InvalidError,
    Problem,
    StoppedError,
    UserCodeError,
    is_disk_full,
    unwritable,
)
from orchestrator.record import environment
from orchestrator.record.encoding import jsonable
from orchestrator.record.events import Doing, Event, Heartbeat, ReadingProgress, Warned
from orchestrator.record.records import Inputs, Run
from orchestrator.record.storage import store
from orchestrator.training import loop
from orchestrator.training.attempt.task import Prepared
from orchestrator.training.executors import choice
from orchestrator.training.executors.executor import (
    Died,
    Ending,
    Executor,
    Finished,
    Raised,
    Result,
    Work,
    result_of,
)
from orchestrator.training.interrupts import Interrupts
from orchestrator.training.loop import Watcher
from orchestrator.training.recorded.user_files import digests
from orchestrator.training.work import CheckWork, PrepareWork, ReadWork

_STARTS = 3
"""So often is a worker started that prepares a run and is killed; for want of memory it may be so
every time."""


def run(
    config: Path | str,
    *,
    overrides: Iterable[str] = (),
    runs_dir: Path | str = "runs",
    quiet: bool = False,
) -> dict[str, Any]:
    """Take a config to a healthy model, as `orchestrate CONFIG` does.

    Attempts train in processes of their own; this one never imports TensorFlow.

    Args:
        config: the YAML file.
        overrides: `a.b=c` assignments laid over it.
        runs_dir: folder of all runs.
        quiet: no progress on stderr, only warnings.

    Returns:
        The run's record, the same as `run.json`.

    Raises:
        InvalidError: the config or the data is at fault; nothing was written.
        KeyboardInterrupt: Ctrl-C; what was recorded until then stays.
        SystemExit: SIGTERM or SIGHUP; likewise.

    Examples:
        The first attempt is not accurate enough for the config's own check; another seed is.

        >>> from orchestrator import run
        >>> record = run("configs/gate.yaml", quiet=True)
        >>> [(attempt["remedy"], attempt["status"]) for attempt in record["attempts"]]
        [(None, 'failed'), ('new_seed', 'passed')]
        >>> record["status"]
        'passed'
    """
    loaded = configs.load(config, overrides)
    record, _ = launch_from_python(loaded, runs_dir=Path(runs_dir), quiet=quiet)
    found: dict[str, Any] = jsonable(record)
    return found


def launch_from_python(
    config: Config, *, runs_dir: Path, quiet: bool, local: str | None = None
) -> tuple[Run, Path]:
    """`launch` for a program that is interrupted as Python programs are.

    Args:
        config: the config.
        runs_dir: folder of all runs.
        quiet: no progress on stderr.
        local: as `launch` takes it.

    Returns:
        The run and its directory.

    Raises:
        KeyboardInterrupt: Ctrl-C; what was recorded until then stays.
        SystemExit: SIGTERM or SIGHUP; likewise.
    """
    view = View(stderr(), detail="warnings" if quiet else "all")
    with Interrupts() as interrupts, view:
        try:
            return launch(
                config, runs_dir=runs_dir, announcer=view, interrupts=interrupts, local=local
            )
        finally:
            if interrupts.received == signal.SIGINT:
                raise KeyboardInterrupt
            if interrupts.received is not None:
                raise SystemExit(128 + interrupts.received)


class Announcer(Watcher, Protocol):
    """A watcher that also tells what happens before the first attempt."""

    def say(self, text: str) -> None:
        """Tell what is going on."""

    def read(self, progress: ReadingProgress) -> None:
        """Tell how far the reading of rows has come."""

    def begin(
        self,
        directory: Path,
        config: Config,
        *,
        replayed: int | None = None,
        resumed: Run | None = None,
    ) -> None:
        """Tell where the run is recorded, and what it or the replay of an attempt goes through."""


def validate(config: Config, *, announcer: Announcer, interrupts: Interrupts) -> Prepared:
    """Build and shape-check what a config asks for; write and train nothing.

    Args:
        config: the config.
        announcer: told what goes on.
        interrupts: entered by the caller.

    Returns:
        What was found.

    Raises:
        InvalidError: the config or the data is at fault.
        UserCodeError: the user's own code raised.
        StoppedError: Ctrl-C or its like.
    """
    with cache.folder(Path(tempfile.gettempdir())) as folder:
        return prepare(config, folder, announcer=announcer, interrupts=interrupts)[0]


def prepare(
    config: Config, folder: Path, *, announcer: Announcer, interrupts: Interrupts
) -> tuple[Prepared, Stored | None]:
    """`validate`, with the data left in a folder for those who train.

    Args:
        config: the config.
        folder: gets the data.
        announcer: told what goes on.
        interrupts: entered by the caller.

    Returns:
        What was found, and where the data is; None where it is a stream.

    Raises:
        InvalidError: as `validate`, like the others that it raises.
    """
    executor = choice.choose_executor(interrupts)
    _say_reading(config, announcer)
    stored = read(config, folder)
    announcer.say("importing TensorFlow")
    work = PrepareWork(config=config, folder=folder, stored=stored, findings=True)
    return result_of(_prepare(work, config, executor, announcer))


def fetch(config: Config, folder: Path, executor: Executor, announcer: Announcer) -> Stored:
    """Read the data of a run that goes on.

    Args:
        config: the config.
        folder: gets the data.
        executor: reads it where that takes code of the user's.
        announcer: told how far it has come.

    Returns:
        Where it is.

    Raises:
        InvalidError: as `validate`, like the others that it raises.
    """
    _say_reading(config, announcer)
    stored = read(config, folder)
    announcer.say("importing TensorFlow")
    if stored is None:
        work = ReadWork(config=config, folder=folder)
        stored = result_of(_prepare(work, config, executor, announcer))
    return stored


def _prepare(
    work: Work[Result], config: Config, executor: Executor, announcer: Announcer
) -> Ending[Result]:
    """Have the data read, and perhaps the model built, and tell how far that has come.

    A worker that was killed is started again, as that of an attempt is.

    Raises:
        InvalidError: the rows did not come.
    """
    awaited: ReadingProgress | None = None

    def take(report: Event | Heartbeat) -> None:
        nonlocal awaited
        if isinstance(report, ReadingProgress):
            awaited = None if report.done else report
            announcer.read(report)
        elif isinstance(report, Doing):
            announcer.say(words.doing(report))

    for _ in range(_STARTS):
        ending = executor.run(work, take)
        if not isinstance(ending, Died) or ending.how != "killed":
            break
    if isinstance(ending, Died) and ending.how == "hung" and awaited is not None:
        raise InvalidError([config.problem(("data",), *words.stalled(awaited, work.patience))])
    return ending


def check(examinee: Examinee, *, announcer: Announcer, interrupts: Interrupts) -> Health:
    """Diagnose a model trained elsewhere.

    Args:
        examinee: the model and the rows.
        announcer: told what goes on.
        interrupts: entered by the caller.

    Returns:
        What was found.

    Raises:
        InvalidError: a file is at fault, or they do not fit.
        UserCodeError: the model's own code raised.
        StoppedError: Ctrl-C or its like.
        WorkerDiedError: the worker was killed, perhaps for want of memory.
    """

    def take(report: Event | Heartbeat) -> None:
        if isinstance(report, Doing):
            announcer.say(words.doing(report))

    announcer.say("importing TensorFlow")
    return result_of(choice.choose_executor(interrupts).run(CheckWork(examinee=examinee), take))


def launch(
    config: Config,
    *,
    runs_dir: Path,
    announcer: Announcer,
    interrupts: Interrupts,
    local: str | None = None,
) -> tuple[Run, Path]:
    """Take a config to a finished run.

    Args:
        config: the config.
        runs_dir: folder of all runs.
        announcer: shown what happens.
        interrupts: entered by the caller.
        local: why the attempts train in this process; None for processes of their own.

    Returns:
        The run and its directory.

    Raises:
        InvalidError: the config or the data is at fault; nothing was written.
        StoppedError: Ctrl-C or its like before the run began; nothing was written.
        NotSentError: what `retrain` was given cannot be made in a worker; nothing was written.
        WorkerError: our own code raised before the run began.
    """
    with contextlib.ExitStack() as stack:
        runs_dir = runs_dir.absolute()  # the user's code may go to another folder
        with writing_to(runs_dir):
            folder = stack.enter_context(cache.folder(runs_dir))
        executor = choice.choose_executor(interrupts, local)
        _say_reading(config, announcer)
        stored = read(config, folder)
        if local is None:
            announcer.say("importing TensorFlow")
        notes = () if local is None else (f"the attempts train in this process: {local}",)
        work = PrepareWork(config=config, folder=folder, stored=stored)
        return launch_on(work, executor, runs_dir, announcer, interrupts, notes=notes)


def launch_on(
    work: PrepareWork,
    executor: Executor,
    runs_dir: Path,
    announcer: Announcer,
    interrupts: Interrupts,
    *,
    prepared: Prepared | None = None,
    notes: Sequence[str] = (),
) -> tuple[Run, Path]:
    """Take a config whose data was read to a finished run, on an executor that is there.

    Args:
        work: builds data and model before the run begins.
        executor: does the work.
        runs_dir: folder of all runs.
        announcer: shown what happens.
        interrupts: entered by the caller.
        prepared: what the work would find; None to do it.
        notes: warnings to begin the record with.

    Returns:
        The run and its directory.

    Raises:
        InvalidError: as `launch`, like the others that it raises.
    """
    config, stored = work.config, work.stored
    if prepared is None:
        match _prepare(work, config, executor, announcer):
            case Finished(found):
                prepared, stored = found
            case Died() | Raised(UserCodeError()):
                pass  # the first attempt meets the same, and records it
            case Raised(error):
                raise error
    # From here on a signal is answered by the loop, which records it.
    interrupts.patient = True
    interrupts.check()
    warnings = [*notes, *(() if prepared is None else prepared.warnings)]
    with _create_store(config, runs_dir, prepared, warnings) as made:
        announcer.begin(made.paths.root, config)
        for warning in warnings:
            announcer.show(Warned(message=warning), made.run)
        run = loop.execute(config, made, executor, announcer, stored)
    return run, made.paths.root


def _create_store(
    config: Config, runs_dir: Path, prepared: Prepared | None, warnings: Sequence[str]
) -> store.Store:
    fingerprint = None if prepared is None else prepared.fingerprint
    with writing_to(runs_dir):
        return store.create(
            runs_dir,
            name=config.name,
            config=config.source,
            resolved=config.dump(),
            environment=environment.describe(Path(config.base), fingerprint, digests(config)),
            inputs=Inputs() if prepared is None else prepared.inputs,
            fingerprint=fingerprint,
            warnings=warnings,
        )


@contextlib.contextmanager
def writing_to(runs_dir: Path) -> Iterator[None]:
    """Say what it means that nothing can be written there."""
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            told = unwritable(error, folder=str(runs_dir))
            raise StoppedError(f"{told}, and do it again") from error
        message = f"no run can be written there: {error.strerror}"
        problem = Problem(
            file=words.relative(runs_dir), message=message, hint="choose another --runs-dir"
        )
        raise InvalidError([problem]) from error


def _say_reading(config: Config, announcer: Announcer) -> None:
    """Tell that rows are read, where this process does."""
    if not data.has_user_code(config):
        announcer.say("reading rows")


def read(config: Config, folder: Path) -> Stored | None:
    """Read the data, so that what is wrong with a file is said without waiting for TensorFlow.

    Args:
        config: the config.
        folder: gets the data.

    Returns:
        Where it is; None where only a worker can read it.
    """
    if data.has_user_code(config):
        return None
    found = data.load_lazily(config)
    with writing_to(folder.parent):
        return cache.save(found, folder)
