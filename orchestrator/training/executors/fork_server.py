"""Work in processes of its own, forked from a server that has imported TensorFlow once.

A fresh process starts in milliseconds instead of the seconds of an import, and this one outlives a
worker that is killed, runs out of memory or hangs. TensorFlow is never imported here: the code
below the line "in the worker" runs on the other side.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import multiprocessing.connection
import os
import pickle
import signal
import sys
import threading
import time
import traceback
import types
from collections.abc import Callable, Iterator
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

from orchestrator.config.backend import check_backend
from orchestrator.display.silence import silence
from orchestrator.errors import NotSentError, StoppedError, WorkerError
from orchestrator.training.executors.executor import (
    Died,
    Emit,
    Ending,
    Finished,
    Raised,
    Result,
    Work,
    explain,
    perform,
)

_POLL_SECONDS = 0.2
"""How soon a request to stop is noticed."""
_GRACE_SECONDS = 5.0
"""How long the exit code of a worker that is gone may take to arrive."""
_STARTING = threading.Lock()
"""Held while a worker is started, for what several threads would change at once."""


class ForkServer:
    """The executor that forks a process for each piece of work.

    Args:
        interrupted: called several times a second; raises `StoppedError` when this process was
            asked to stop.
    """

    def __init__(self, interrupted: Callable[[], None]) -> None:
        self._interrupted = interrupted

    def start(self) -> None:
        """Have the server begin to import TensorFlow, and return at once.

        Raises:
            InvalidError: another backend of Keras is asked for, which would not be used.
        """
        self._context  # noqa: B018 - made once, by the first who needs it

    def run(self, work: Work[Result], take: Emit) -> Ending[Result]:
        """Do a piece of work; see `Executor.run`."""
        try:
            sent = pickle.dumps(work)
        except StoppedError:  # raised by a signal, wherever this process was
            raise
        except Exception as error:  # noqa: BLE001 - a class of the user's may raise anything
            return Raised(NotSentError(f"{type(error).__name__}: {error}"))
        ours, theirs = multiprocessing.Pipe()
        # No daemon, which may have no processes of its own, as a PyDataset's workers are; it ends
        # with this process all the same, whose end it waits for.
        process = self._context.Process(  # type: ignore[attr-defined]
            target=_serve, args=(theirs, work.log, sent)
        )
        with ours, theirs:
            with _without_main():
                if self._context.get_start_method() == "forkserver":
                    _expect_server()
                process.start()
            theirs.close()
            try:
                while True:
                    message = self._receive(process, ours, work.patience)
                    if isinstance(message, Finished | Raised | Died):
                        return message
                    take(message)
            finally:
                _end(process)

    @functools.cached_property
    def _context(self) -> BaseContext:
        return _start_server()

    def _receive(self, process: Any, ours: Connection, patience: float) -> Any:
        """The next report, or how the work ended."""
        start = time.monotonic()
        while True:
            ready = multiprocessing.connection.wait([ours, process.sentinel], _POLL_SECONDS)
            self._interrupted()
            if ours in ready:
                try:
                    return ours.recv()
                except (EOFError, OSError):  # killed between two messages, or in the midst of one
                    return _death(process)
            if ready:
                return _death(process)
            if time.monotonic() - start > patience:
                return Died("hung", f"the worker made no progress for {patience:g} seconds")


def _death(process: Any) -> Died:
    process.join(_GRACE_SECONDS)
    code = process.exitcode
    if code is not None and code < 0:
        name = _signal_name(-code)
        hint = ", perhaps for want of memory" if name == "SIGKILL" else ""
        return Died("killed", f"the worker was killed by {name}{hint}")
    return Died("exited", f"the worker ended with exit code {code} and no result")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # one of the real-time signals, of which only the first and last have names
        return f"signal {number}"


def _end(process: Any) -> None:
    """Kill a worker together with the processes that it has started."""
    with contextlib.suppress(ProcessLookupError, AttributeError):  # not yet a group, or no POSIX
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.join()
    process.close()


def stop() -> None:
    """End the server that workers are forked from, and wait until it is gone.

    For a process that is about to end itself. A server starts again with the next piece of work.
    """
    server = forkserver._forkserver
    pid = server._forkserver_pid  # type: ignore[attr-defined]
    if pid is not None:
        # With TensorFlow imported an exit of its own would take seconds.
        os.kill(pid, signal.SIGKILL)
    resource_tracker._resource_tracker._stop()  # type: ignore[attr-defined]
    server._stop()  # type: ignore[attr-defined]


def _start_server() -> BaseContext:
    """The context that starts workers; its server begins to import TensorFlow at once.

    Raises:
        InvalidError: another backend of Keras is asked for, which would not be used.
    """
    check_backend()
    if sys.platform != "linux":
        # TensorFlow does not survive a fork elsewhere.
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tensorflow", "keras"])
    _expect_server()
    return context


def _expect_server() -> None:
    """Start the server where there is none, as at first or where it was killed.

    multiprocessing would start it again too, but with another environment and with its chatter.
    """
    pid = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    if pid is not None:
        with contextlib.suppress(ChildProcessError):
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                return
    with _quiet():
        forkserver.ensure_running()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Start the server with what it needs in its environment, and its chatter in nobody's way."""
    before = os.environ.get("KERAS_BACKEND")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    try:
        with silence():
            yield
    finally:
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
    with _STARTING:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = types.ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main


# ---------------------------------------------------------------------------- in the worker


def _serve(connection: Connection, log: Path, sent: bytes) -> None:
    """Do the work and report over the connection; everything printed goes to the log."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "setsid"):
        # Ctrl-C in the terminal is for the supervisor alone, and what the work starts is a group.
        os.setsid()
    # What the user's code starts, such as a PyDataset's workers, starts as it does elsewhere.
    multiprocessing.set_start_method(None, force=True)
    _redirect(log)
    lock = threading.Lock()

    def send(message: Any) -> None:
        with lock:
            connection.send(message)

    owner_gone = threading.Thread(target=_await_end, args=(connection,), daemon=True)
    owner_gone.start()
    ending = _perform(sent, send)
    if isinstance(ending, Raised):
        with contextlib.suppress(OSError):  # the log may be on the disk that is full
            traceback.print_exception(ending.error)
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        send(ending)
    except BrokenPipeError:
        pass
    except Exception as error:  # noqa: BLE001 - whatever a class of the user's raises
        reason = f"the result cannot be sent: {type(error).__name__}: {error}"
        send(Raised(WorkerError(reason)))
    owner_gone.join()  # the supervisor kills this process and those that it has started


def _perform(sent: bytes, send: Callable[[Any], None]) -> Finished[Any] | Raised:
    try:
        work: Work[Any] = pickle.loads(sent)
    except Exception as error:  # noqa: BLE001 - whatever a class of the user's raises
        return Raised(NotSentError(f"{type(error).__name__}: {error}"))
    try:
        return perform(work, send)
    except BaseException as error:  # noqa: BLE001 - no signal, but the like of asyncio's CancelledError
        return Raised(explain(error))


def _redirect(log: Path) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def _await_end(connection: Connection) -> None:
    """End this process and those that it has started when its supervisor is gone."""
    with contextlib.suppress(EOFError, OSError):
        connection.recv()
    if hasattr(os, "killpg"):
        os.killpg(0, signal.SIGKILL)
    os._exit(75)
