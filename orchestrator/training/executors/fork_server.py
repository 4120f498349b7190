"""Processes that run TensorFlow, forked from a server that has imported it once.

A fresh attempt starts in milliseconds instead of the seconds of an import, and this process
outlives one that is killed, runs out of memory or hangs. TensorFlow is never imported here: the
code below the line "in the worker" runs on the other side.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
import traceback
import types
from collections.abc import Callable, Iterator
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

from orchestrator.config.schema import Config
from orchestrator.diagnosis.health import Examinee, Health
from orchestrator.errors import (
    InvalidError,
    NotSentError,
    OrchestratorError,
    StoppedError,
    UserCodeError,
    WorkerDiedError,
    WorkerError,
    is_disk_full,
)
from orchestrator.record.events import Event, Sign
from orchestrator.training.attempt.task import Prepared, Task

_POLL_SECONDS = 0.2
"""How soon a request to stop is noticed."""
_GRACE_SECONDS = 5.0
"""How long a worker that has said its last word may take to exit."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Done:
    """The worker's last word: what it returned."""

    result: Any


@dataclasses.dataclass(frozen=True, slots=True)
class _Raised:
    """The worker's last word: what it raised."""

    error: OrchestratorError


class Workers:
    """Starts workers and passes on what they report.

    Args:
        interrupted: called several times a second; raises `StoppedError` when this process was
            asked to stop, and the worker is killed.
    """

    def __init__(self, interrupted: Callable[[], None]) -> None:
        self._interrupted = interrupted
        self._context = _start_server()

    def prepare(self, config: Config, log: Path) -> Prepared:
        """Run `preparation.prepare` in a worker.

        Args:
            config: the config.
            log: file that gets what the worker prints.

        Returns:
            What is known once data and model were built.

        Raises:
            InvalidError: the config or the data is at fault.
            UserCodeError: the user's own code raised.
            WorkerDiedError: the worker was killed or hangs.
            WorkerError: our own code raised.
            StoppedError: this process was asked to stop.
        """
        *_, last = self._messages(_prepare, config, log, config.stall_timeout)
        result: Prepared = last.result
        return result

    def check(self, examinee: Examinee, log: Path) -> Health:
        """Run `checkup.check` in a worker.

        Args:
            examinee: the model and the rows.
            log: file that gets what the worker prints.

        Returns:
            What was found.

        Raises:
            InvalidError: a file is at fault, or they do not fit.
            UserCodeError: the model's own code raised.
            WorkerDiedError: the worker was killed.
            WorkerError: our own code raised.
            StoppedError: this process was asked to stop.
        """
        *_, last = self._messages(_check, examinee, log, math.inf)
        result: Health = last.result
        return result

    def train(self, task: Task, take: Callable[[Event | Sign], None]) -> None:
        """Run `training.train` in a worker.

        Args:
            task: the attempt.
            take: gets the events, as they come.

        Raises:
            InvalidError: the data changed since the run began.
            UserCodeError: the user's own code raised.
            WorkerDiedError: the worker was killed or hangs.
            WorkerError: our own code raised.
            StoppedError: this process was asked to stop.
        """
        log = task.directory / "log.txt"
        for message in self._messages(_train, task, log, task.config.stall_timeout):
            if not isinstance(message, _Done):
                take(message)

    def _messages(
        self, work: Callable[..., Any], argument: Any, log: Path, patience: float
    ) -> Iterator[Any]:
        """What a worker sends; the last is `_Done`."""
        ours, theirs = self._context.Pipe()
        process = self._context.Process(  # type: ignore[attr-defined]
            target=_work, args=(theirs, log, work, argument), daemon=True
        )
        with _without_main():
            process.start()
        theirs.close()
        said_last_word = False
        try:
            for message in self._listen(process, ours, patience):
                said_last_word = isinstance(message, _Done | _Raised)
                if isinstance(message, _Raised):
                    raise message.error
                yield message
        finally:
            process.join(_GRACE_SECONDS if said_last_word else 0)
            process.kill()
            process.join()
            process.close()
            ours.close()

    def _listen(self, process: Any, ours: Connection, patience: float) -> Iterator[Any]:
        heard = time.monotonic()
        while True:
            ready = multiprocessing.connection.wait([ours, process.sentinel], _POLL_SECONDS)
            self._interrupted()
            if ours in ready:
                try:
                    message = ours.recv()
                except (EOFError, OSError):  # killed between two messages, or in the midst of one
                    raise _death(process) from None
                heard = time.monotonic()
                yield message
                if isinstance(message, _Done | _Raised):
                    return
            elif ready:
                raise _death(process)
            elif time.monotonic() - heard > patience:
                raise WorkerDiedError(f"the worker made no progress for {patience:g} seconds")


def _death(process: Any) -> WorkerDiedError:
    process.join(_GRACE_SECONDS)
    code = process.exitcode
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        hint = ", perhaps for want of memory" if name == "SIGKILL" else ""
        return WorkerDiedError(f"the worker was killed by {name}{hint}")
    return WorkerDiedError(f"the worker ended with exit code {code} and no result")


def _start_server() -> BaseContext:
    """The context that starts workers; its server begins to import TensorFlow at once."""
    if sys.platform != "linux":
        # TensorFlow does not survive a fork elsewhere.
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tensorflow", "keras"])
    with _quiet():
        forkserver.ensure_running()
    return context


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Start the server with what it needs in its environment, and its chatter in nobody's way."""
    before = os.environ.get("KERAS_BACKEND")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    saved = os.dup(1), os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(null, 1)
        os.dup2(null, 2)
        yield
    finally:
        for number, copy in zip((1, 2), saved, strict=True):
            os.dup2(copy, number)
            os.close(copy)
        os.close(null)
        if before is None:
            del os.environ["KERAS_BACKEND"]
        else:
            os.environ["KERAS_BACKEND"] = before


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Start a worker that does not import the caller's script a second time.

    multiprocessing would run it again in every worker, unless it is guarded; a script that only
    says `orchestrator.run(…)` is not.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


# ---------------------------------------------------------------------------- in the worker


def _work(connection: Connection, log: Path, work: Callable[..., Any], argument: Any) -> None:
    """Run the work, reporting over the connection; everything printed goes to the log."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "setsid"):
        os.setsid()  # Ctrl-C in the terminal is for the supervisor alone
    _redirect(log)
    lock = threading.Lock()

    def send(message: Any) -> None:
        with lock:
            connection.send(message)

    threading.Thread(target=_exit_with_owner, args=(connection,), daemon=True).start()
    try:
        last: _Done | _Raised = _Done(work(argument, send))
    except (InvalidError, UserCodeError, NotSentError) as error:
        traceback.print_exc()
        last = _Raised(error)
    except BaseException as error:  # noqa: BLE001 - everything must reach the supervisor
        last = _Raised(_translated(error))
        with contextlib.suppress(OSError):  # the log may be on the disk that is full
            traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    with contextlib.suppress(BrokenPipeError):
        send(last)
    os._exit(0)  # TensorFlow's threads may take long to end


def _translated(error: BaseException) -> OrchestratorError:
    if isinstance(error, OSError) and is_disk_full(error):
        return StoppedError(f"the disk is full: {error}")
    lines = [line for line in str(error).splitlines() if line.strip()]
    if lines[1:] and lines[0].startswith("Graph execution error"):
        del lines[0]
    return WorkerError(": ".join([type(error).__name__, *lines[:1]]))


def _redirect(log: Path) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def _exit_with_owner(connection: Connection) -> None:
    """End this process when its supervisor is gone, however that ended."""
    with contextlib.suppress(EOFError, OSError):
        connection.recv()
    os._exit(75)


def _prepare(config: Config, send: Callable[[Any], None]) -> Prepared:
    from orchestrator.training.attempt import preparation  # noqa: PLC0415

    return preparation.prepare(config)


def _check(examinee: Examinee, send: Callable[[Any], None]) -> Health:
    from orchestrator.diagnosis import checkup  # noqa: PLC0415

    return checkup.check(examinee)


def _train(task: Task, send: Callable[[Any], None]) -> None:
    from orchestrator.training.attempt import attempt as training  # noqa: PLC0415

    training.train(task, send)
