"""The files of a run directory that follow from its journal.

`run.json`, `attempt.json` and the checks are replaced by one rename each, `epochs.csv` grows by a
row an epoch.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from orchestrator.record.encoding import document
from orchestrator.record.events import EpochEnded
from orchestrator.record.records import Attempt, Run
from orchestrator.record.storage.directory import AttemptPaths, Paths, append, read_file, write
from orchestrator.record.storage.journal import Told


def make_directories(paths: AttemptPaths) -> None:
    """Make the directories of an attempt where they are missing, but not the run's own."""
    for path in (paths.root.parent, paths.root, paths.evidence):
        path.mkdir(exist_ok=True)


def append_epoch(paths: AttemptPaths, event: EpochEnded) -> None:
    """Add a row; a column that is new to the file is added to all of them, empty before."""
    row = _row(event)
    content = read_file(paths.epochs) if paths.epochs.exists() else b""
    # What comes after the last whole line has been left by a killed process.
    whole = content[: content.rfind(b"\n") + 1]
    text = io.StringIO(whole.decode(), newline="")
    columns = next(csv.reader(text), [])
    if whole == content and row.keys() <= set(columns):
        append(paths.epochs, _lines(columns, [row]))
        return
    text.seek(0)
    write(paths.epochs, _table([*csv.DictReader(text), row]), sync=False)


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
    make_directories(paths)
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
    columns = list({name: None for row in rows for name in row})
    return _lines(columns, [dict(zip(columns, columns, strict=True)), *rows])


def _lines(columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> bytes:
    text = io.StringIO(newline="")
    csv.DictWriter(text, columns).writerows(rows)
    return text.getvalue().encode()
