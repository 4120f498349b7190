"""Which executors there are: nothing else knows."""

from __future__ import annotations

from orchestrator.training.executors.executor import Executor
from orchestrator.training.executors.fork_server import ForkServer
from orchestrator.training.executors.in_process import InProcess
from orchestrator.training.interrupts import Interrupts


def start_early() -> None:
    """Have TensorFlow imported for the workers to come, while this process imports what it needs.

    Raises:
        InvalidError: another backend of Keras is asked for.
    """
    ForkServer(lambda: None).start()


def choose_executor(interrupts: Interrupts, local: str | None = None) -> Executor:
    """What does the work.

    Args:
        interrupts: entered by the caller.
        local: why it is to be done in this process; None for processes of their own, whose server
            begins to import TensorFlow while this process goes on.

    Raises:
        InvalidError: another backend of Keras is asked for.
    """
    if local is not None:
        return InProcess(interrupts.check)
    server = ForkServer(interrupts.check)
    server.start()
    return server
