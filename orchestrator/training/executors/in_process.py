"""Work in the caller's own process, for what cannot be sent to another.

A crash, a hang or a lack of memory then ends the run, which a process of its own would have kept
from it.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable

from orchestrator.record.events import Event, Heartbeat
from orchestrator.training.executors.executor import Emit, Ending, Result, Work, perform

_NOTE = "This ran in the caller's own process, which has what it printed.\n"


class InProcess:
    """The executor that does the work here and now.

    Args:
        interrupted: called with every report; raises `StoppedError` when this process was asked to
            stop.
    """

    def __init__(self, interrupted: Callable[[], None]) -> None:
        self._interrupted = interrupted

    def run(self, work: Work[Result], take: Emit) -> Ending[Result]:
        """Do a piece of work; see `Executor.run`. Nobody notices when it hangs."""
        raised: list[BaseException] = []

        def emit(report: Event | Heartbeat) -> None:
            try:
                self._interrupted()
                take(report)
            except BaseException as error:
                raised.append(error)
                raise

        self._interrupted()
        work.log.write_text(_NOTE)

        def trace(error: BaseException) -> None:
            if not raised:
                with work.log.open("a") as log:
                    traceback.print_exception(error, file=log)

        ending = perform(work, emit, trace)
        if raised:  # by the caller, not by the work through which it passed
            raise raised[0]
        return ending
