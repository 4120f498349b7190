"""The record of a run that somebody asks for by name."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from orchestrator.errors import InvalidError, Problem, RecordError
from orchestrator.history import find
from orchestrator.record import archive
from orchestrator.record.records import Run


def read_attempt(runs: Path, text: str) -> tuple[Path, Run, int | None]:
    """The run, or the attempt of it, that `RUN` or `RUN@ATTEMPT` stands for.

    Args:
        runs: the folder of all runs.
        text: what was given.

    Returns:
        The run's directory, its record, and the number of the attempt; None for the whole run.

    Raises:
        InvalidError: there is no such run or attempt, or its record cannot be read.
    """
    directory, number = find.find_attempt(runs, text)
    with naming(directory):
        run = archive.read(directory)
    if number is not None and not any(attempt.attempt == number for attempt in run.attempts):
        count = len(run.attempts)
        has = f"it has attempts 1 to {count}" if count > 1 else f"it has {count or 'no'} attempt"
        message = f"there is no attempt {number}; {has}"
        raise InvalidError([Problem(file=text, message=message)])
    return directory, run, number


@contextlib.contextmanager
def naming(directory: Path) -> Iterator[None]:
    """Blame what cannot be read within on the directory, by its name.

    Raises:
        InvalidError: something could not be read.
    """
    try:
        yield
    except RecordError as error:
        raise InvalidError([Problem(file=str(directory), message=str(error))]) from error
