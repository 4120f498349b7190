"""Work in processes of its own, forked from a server that has imported all they need once.

A fresh process starts in milliseconds instead of the seconds of an import, and this one outlives a
worker that is killed, runs out of memory or hangs. TensorFlow is never imported here; what runs on
the other side is `worker`.
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
import types
from collections.abc import Callable, Iterator
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from typing import Any

from orchestrator.config.backend import check_backend
from orchestrator.display.silence import silence
from orchestrator.errors import NotSentError, StoppedError
from orchestrator.training.executors import worker
from orchestrator.training.executors.death import Watch
from orchestrator.training.executors.executor import (
    Died,
    Emit,
    Ending,
    Finished,
    Raised,
    Result,
    Work,
)

_POLL_SECONDS = 0.2
"""How soon a request to stop is noticed."""
_GRACE_SECONDS = 5.0
"""How long the exit code of a worker that is gone may take to arrive."""
_DYING_SECONDS = 1.0
"""How long the kernel may take to bury the server."""
_STARTING = threading.Lock()
"""Held while a worker is started, for what several threads would change at once."""
_PRELOADED = (
    "orchestrator.config.load",  # before TensorFlow: Pydantic looks through all modules there are
    "tensorflow",
    "keras",
    "orchestrator.training.attempt.attempt",
)
"""What the server imports for all workers. None of it executes an operation of TensorFlow, after
which a forked process would hang."""
_BACKEND = {"KERAS_BACKEND": "tensorflow"}
"""What workers have in their environment whatever this process has."""
_PATHS = ("PYTHONPATH", "PYTHONSAFEPATH")
"""Variables by which the server finds the modules that this process would find, and no others."""
_begun_with: set[str] = set()
"""Names in the environment that the server was started with."""


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
        reports, theirs = multiprocessing.Pipe(duplex=False)
        leash, ours = multiprocessing.Pipe(duplex=False)
        with reports, theirs, leash, ours:
            with _without_main():
                if self._context.get_start_method() == "forkserver":
                    _expect_server()
                # No daemon, which may have no processes of its own, as a PyDataset's workers are;
                # the leash ends it with this process all the same.
                process = self._context.Process(  # type: ignore[attr-defined]
                    target=worker.serve, args=(theirs, leash, work.log, sent, _environment())
                )
                process.start()
            theirs.close()
            leash.close()
            watch = Watch(process.pid)
            try:
                while True:
                    message = self._receive(process, reports, watch, work.patience)
                    if isinstance(message, Finished | Raised | Died):
                        return message
                    take(message)
            finally:
                _end(process)

    @functools.cached_property
    def _context(self) -> BaseContext:
        return _start_server()

    def _receive(self, process: Any, reports: Connection, watch: Watch, patience: float) -> Any:
        """The next report, or how the work ended."""
        start = time.monotonic()
        while True:
            ready = multiprocessing.connection.wait([reports, process.sentinel], _POLL_SECONDS)
            watch.look()
            self._interrupted()
            if reports in ready:
                try:
                    return reports.recv()
                except (EOFError, OSError):  # killed between two messages, or in the midst of one
                    return self._death(process, watch)
            if ready:
                return self._death(process, watch)
            if time.monotonic() - start > patience:
                return watch.hung(patience)

    def _death(self, process: Any, watch: Watch) -> Died:
        process.join(_GRACE_SECONDS)
        # multiprocessing says 255 where nobody is left who could tell how the worker ended, or if.
        if process.exitcode == 255 and _server_dies():
            return Died("killed", "the process that workers are forked from was killed")
        return watch.ended(process.exitcode)


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
    context.set_forkserver_preload([*_PRELOADED])
    _expect_server()
    return context


def _expect_server() -> None:
    """Start the server where there is none, as at first or where it was killed.

    multiprocessing would start it again too, but with another environment and with its chatter.
    """
    if not _server_lives():
        with _quiet():
            forkserver.ensure_running()


def _environment() -> dict[str, str | None]:
    """The environment of this process for a worker, with None for what is not there any more.

    What the server's imports have put into its own, its workers keep.
    """
    gone = dict.fromkeys({*_PATHS, *_begun_with} - {*os.environ})
    return {**gone, **os.environ, **_BACKEND}


def _server_lives() -> bool:
    pid = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    if pid is None:
        return False
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except ChildProcessError:
        return False


def _server_dies() -> bool:
    """Whether the server is gone, or goes: its pipes are closed before it is dead."""
    if forkserver._forkserver._forkserver_pid is None:  # type: ignore[attr-defined]
        return False  # there never was one
    deadline = time.monotonic() + _DYING_SECONDS
    while _server_lives():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Start the server with what it needs in its environment, and its chatter in nobody's way.

    multiprocessing does not tell it where modules are, and it would look for them in the current
    folder first, where the user's are.
    """
    paths = os.pathsep.join(each or os.getcwd() for each in sys.path)
    changed = {**_BACKEND, "PYTHONPATH": paths, "PYTHONSAFEPATH": "1"}
    _begun_with.clear()
    _begun_with.update(os.environ)
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        with silence():
            yield
    finally:
        worker.set_environment(before)


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
