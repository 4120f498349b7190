"""The files of a run directory that follow from its journal.

`run.json`, `attempt.json` and the checks are replaced by one rename each, `epochs.csv` grows by a
row an epoch.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from orchestrator.record.directory import AttemptPaths, Paths, read_file, write
from orchestrator.record.encoding import document
from orchestrator.record.events import EpochEnded
from orchestrator.record.journal import Told
from orchestrator.record.records import Attempt, Run


def append_epoch(paths: AttemptPaths, event: EpochEnded) -> None:
    """Add a row; a column that is new to the file is added to all of them, empty before."""
    row = _row(event)
    _cut_torn_row(paths.epochs)
    with paths.epochs.open("a+", newline="", encoding="utf-8") as file:
        file.seek(0)
        columns = next(csv.reader(file), [])
        if row.keys() <= set(columns):
            file.seek(0, os.SEEK_END)
            csv.DictWriter(file, columns).writerow(row)
            return
        file.seek(0)
        rows = [*csv.DictReader(file), row]
    write(paths.epochs, _table(rows), sync=False)


def restore(paths: Paths, run: Run, told: dict[int, Told]) -> None:
    """Write again what is missing or other than the journal tells.

    Args:
        paths: the names of the run's files.
        run: the run that follows from its journal.
        told: what the journal tells of its attempts.
    """
    _restore(paths.record, document(run))
    for attempt in run.attempts:
        restore_attempt(paths.attempt(attempt.attempt), attempt, told.get(attempt.attempt, Told()))


def restore_attempt(paths: AttemptPaths, attempt: Attempt, told: Told) -> None:
    """Write again what is missing or other than the journal tells of an attempt.

    Args:
        paths: the names of its files.
        attempt: the attempt.
        told: what the journal tells of it.
    """
    checks = {paths.checks(index, phase.phase): phase for index, phase in enumerate(told.phases)}
    paths.evidence.mkdir(parents=True, exist_ok=True)
    for path in paths.evidence.iterdir():
        if path not in checks:  # a phase that is trained again, or half of a file
            path.unlink()
    for path, phase in checks.items():
        _restore(path, document(phase))
    if told.epochs:
        _restore(paths.epochs, _table(map(_row, told.epochs)))
    else:
        paths.epochs.unlink(missing_ok=True)
    _restore(paths.record, document(attempt))


def _restore(path: Path, content: bytes) -> None:
    try:
        if read_file(path) == content:
            return
    except OSError:
        pass
    write(path, content)


def _row(event: EpochEnded) -> dict[str, Any]:
    own = {"phase": event.phase, "epoch": event.epoch, "learning_rate": event.learning_rate}
    return {**own, **{name: value for name, value in event.metrics.items() if name not in own}}


def _table(rows: Iterable[dict[str, Any]]) -> bytes:
    """The rows under all of their columns."""
    rows = list(rows)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, {name: None for row in rows for name in row})
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _cut_torn_row(path: Path) -> None:
    """Take away the end of a file after its last whole line, which a killed process has left."""
    with path.open("ab+") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 1, 0))
        if file.read() in (b"", b"\n"):
            return
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
