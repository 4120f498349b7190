"""The worker's side of the fork server: does one piece of work, and never outlives its supervisor.

The supervisor ends it, whatever it does, and with it all that it has started, which is one group of
processes. Where the supervisor dies itself the kernel does so, for nobody else held the other end
of a pipe.
"""

from __future__ import annotations

import contextlib
import faulthandler
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from orchestrator.errors import NotSentError, WorkerError, describe_error
from orchestrator.training.executors.executor import Ending, Raised, Work, blame, perform


def serve(
    reports: Connection,
    leash: Connection,
    log: Path,
    sent: bytes,
    environment: Mapping[str, str | None],
) -> None:
    """Do the work and report; everything printed goes to the log.

    Args:
        reports: gets what the work reports, and last how it ended.
        leash: the end for reading of a pipe to which the supervisor writes nothing.
        log: gets what is printed.
        sent: the work, pickled.
        environment: variables of the supervisor, None for those that only the server has.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "setsid"):
        # Ctrl-C in the terminal is for the supervisor alone, and what the work starts is a group.
        os.setsid()
    _tie(leash)
    set_environment(environment)
    # What the user's code starts, such as a PyDataset's workers, starts as it does elsewhere.
    multiprocessing.set_start_method(None, force=True)
    _redirect(log)
    lock = threading.Lock()

    def send(message: Any) -> None:
        with lock:
            reports.send(message)

    ending = _perform(sent, send)
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        send(ending)
    except BrokenPipeError:
        pass
    except Exception as error:  # noqa: BLE001 - whatever a class of the user's raises
        reason = f"the result cannot be sent: {type(error).__name__}: {error}"
        send(Raised(WorkerError(reason)))
    threading.Event().wait()  # the supervisor kills this process and those that it has started


def set_environment(variables: Mapping[str, str | None]) -> None:
    """Set variables of the environment, and remove those that are None."""
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _tie(leash: Connection) -> None:
    """End with the supervisor, however that dies: nobody else holds the pipe's other end.

    The kernel itself sends SIGKILL to the group when that end is closed, also while C code holds
    Python's lock or the group is stopped; see F_SETSIG in fcntl(2). Unlike PR_SET_PDEATHSIG this
    asks neither which thread of the supervisor it was that started the worker, nor for the server
    between the two.
    """
    if sys.platform == "linux":
        import fcntl  # noqa: PLC0415 - there is none on Windows

        descriptor = leash.fileno()
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(descriptor, fcntl.F_SETOWN, -os.getpgrp())
        flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_ASYNC)
    if leash.poll(0):  # it was closed before the kernel was asked
        _end()
    # Where the kernel does nothing of the kind.
    threading.Thread(target=_await_end, args=(leash,), daemon=True).start()


def _await_end(leash: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        leash.recv()
    _end()


def _end() -> None:
    """End this process and those that it has started."""
    if hasattr(os, "killpg"):
        os.killpg(0, signal.SIGKILL)
    os._exit(75)


def _perform(sent: bytes, send: Callable[[Any], None]) -> Ending[Any]:
    trace = traceback.print_exception
    try:
        work: Work[Any] = pickle.loads(sent)
    except Exception as error:  # noqa: BLE001 - whatever a class of the user's raises
        unsent = NotSentError(f"{type(error).__name__}: {describe_error(error)}")
        unsent.__cause__ = error
        return blame(unsent, trace)
    try:
        return perform(work, send, trace)
    except BaseException as error:  # noqa: BLE001 - no signal, but the like of asyncio's CancelledError
        return blame(error, trace)


def _redirect(log: Path) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    # The log says in which line of Python a fault happened, and on this signal where it hangs.
    faulthandler.enable(2)
    if hasattr(signal, "SIGUSR2"):
        faulthandler.register(signal.SIGUSR2, 2)
