"""Where work is done: the one seam between the loop and the place that trains.

An executor starts a piece of work, hands over what it reports and says how it ended. Who uses one
knows this page only; another place for work, such as a cluster, is one more class of that shape.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Generic, Literal, Protocol, TypeVar

from orchestrator.errors import (
    InvalidError,
    NotSentError,
    OrchestratorError,
    StoppedError,
    UserCodeError,
    WorkerDiedError,
    WorkerError,
    describe_error,
    unwritable,
)
from orchestrator.record.events import Event, Heartbeat
from orchestrator.training.executors import memory

_TENSORFLOW_MEMORY = "ResourceExhaustedError"
"""What TensorFlow raises where Python raises MemoryError; it is not imported here."""

Emit = Callable[[Event | Heartbeat], None]
"""Takes what happens, as it happens."""

Trace = Callable[[BaseException], None]
"""Takes an error whose traceback is to be read later."""

Result = TypeVar("Result", covariant=True)


class Work(Protocol[Result]):
    """A piece of work: data that can be pickled, and what is to be done with it."""

    @property
    def log(self) -> Path:
        """File that gets what the work prints."""

    @property
    def patience(self) -> float:
        """Seconds without a report after which the work counts as hung; may be infinite."""

    def do(self, emit: Emit) -> Result:
        """Do the work; what only it needs, such as TensorFlow, is imported in here.

        Args:
            emit: gets the reports.
        """


@dataclasses.dataclass(frozen=True, slots=True)
class Finished(Generic[Result]):
    """The work was done."""

    result: Result
    """What it returned."""


@dataclasses.dataclass(frozen=True, slots=True)
class Raised:
    """The work raised."""

    error: OrchestratorError
    """`UserCodeError` for the user's own code, `InvalidError` for the config or the data,
    `NotSentError` for what cannot reach the executor, `StoppedError` for a full disk, and
    `WorkerError` for everything else, which is our own fault."""


@dataclasses.dataclass(frozen=True, slots=True)
class Died:
    """The process that did the work is gone, and there is no result."""

    how: Literal["killed", "exited", "hung"]
    """By a signal, by an exit of its own or for want of memory, or by the executor when its
    patience was over."""
    reason: str
    """A sentence with the signal and the memory it had reached, the exit code or the seconds."""


Ending = Finished[Result] | Raised | Died
"""How a piece of work ended."""


class Executor(Protocol):
    """A place where work is done, one piece at a time."""

    def run(self, work: Work[Result], take: Emit) -> Ending[Result]:
        """Do a piece of work; nothing of it is left when this returns or raises.

        Args:
            work: what to do.
            take: gets the reports in this process, in order. What it raises ends the work and
                comes out here.

        Returns:
            How it ended.

        Raises:
            StoppedError: this process was asked to stop.
        """


def perform(work: Work[Result], emit: Emit, trace: Trace) -> Ending[Result]:
    """Do a piece of work in this very process, and say how it ended.

    Args:
        work: what to do.
        emit: gets the reports.
        trace: gets what the work raised, for its log.
    """
    try:
        return Finished(work.do(emit))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it is, it is told
        return blame(error, trace)


def blame(error: BaseException, trace: Trace) -> Raised | Died:
    """How work ended that has raised; where memory was wanting it died, as if it were killed."""
    explained = explain(error)
    with contextlib.suppress(OSError):  # the log may be on the disk that is full
        trace(explained)
    if isinstance(explained, WorkerDiedError):
        return Died("exited", str(explained))
    return Raised(explained)


def result_of(ending: Ending[Result]) -> Result:
    """The result of work with which nothing else will do.

    Raises:
        OrchestratorError: the error that the work raised, or `WorkerDiedError`.
    """
    match ending:
        case Finished(result):
            return result
        case Raised(error):
            raise error
        case Died(reason=reason):
            raise WorkerDiedError(reason)


def explain(error: BaseException) -> OrchestratorError:
    """The error that work has raised as one of ours, with what was raised as its cause."""
    if isinstance(error, InvalidError | UserCodeError | NotSentError | StoppedError):
        return error
    explained: OrchestratorError
    name, said = type(error).__name__, describe_error(error)
    if isinstance(error, OSError) and (told := unwritable(error)) is not None:
        explained = StoppedError(told)
    elif isinstance(error, MemoryError) or name == _TENSORFLOW_MEMORY:
        explained = WorkerDiedError(memory.exhausted("" if said == name else said))
    else:
        explained = WorkerError(said if said.startswith(name) else f"{name}: {said}")
    explained.__cause__ = error
    return explained
