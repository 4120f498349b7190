"""Attempts in the caller's own process, for what cannot be sent to another.

A crash, a hang or a lack of memory then ends the run, which a worker would have survived.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from orchestrator.config.schema import Config
from orchestrator.record.events import Event, Sign
from orchestrator.training.attempt.task import Prepared, Task


class Local:
    """Does what `workers.Workers` does, here and now.

    Args:
        interrupted: called with every event; raises `StoppedError` when this process was asked to
            stop.
    """

    def __init__(self, interrupted: Callable[[], None]) -> None:
        self._interrupted = interrupted

    def prepare(self, config: Config, log: Path) -> Prepared:
        """Run `preparation.prepare`; it raises what `Workers.prepare` raises."""
        from orchestrator.training.attempt import preparation  # noqa: PLC0415

        self._interrupted()
        return preparation.prepare(config)

    def train(self, task: Task, take: Callable[[Event | Sign], None]) -> None:
        """Run `training.train`; it raises what `Workers.train` raises."""
        from orchestrator.training.attempt import attempt as training  # noqa: PLC0415

        def emit(event: Event | Sign) -> None:
            self._interrupted()
            take(event)

        log = task.directory / "log.txt"
        log.write_text("This attempt ran in the caller's own process, which has what it printed.\n")
        training.train(task, emit)
