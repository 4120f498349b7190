from __future__ import annotations

import contextlib
import csv
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import filelock
import pytest

from orchestrator.errors import RecordError
from orchestrator.record.encoding import jsonable
from orchestrator.record.events import (
    AttemptEnded,
    AttemptResumed,
    AttemptStarted,
    EpochEnded,
    Event,
    ModelBuilt,
    PhaseEnded,
    PhaseStarted,
    RunEnded,
    Warned,
)
from orchestrator.record.records import Failure, Inputs, Settings
from orchestrator.record.storage import archive, store
from orchestrator.record.storage.journal import read, replay
from orchestrator.record.storage.store import Store
from tests import builders


def _create(runs: Path, **changes: Any) -> Store:
    arguments: dict[str, Any] = {
        "name": "case",
        "config": b"a: 1  # as given\n",
        "resolved": "a: 1\nb: 2\n",
        "environment": {"argv": ["x"]},
        "inputs": Inputs(columns=("p", "q")),
        "fingerprint": "f00d",
    }
    return store.create(runs, **(arguments | changes))


@pytest.fixture
def made() -> Iterator[Store]:
    with (
        tempfile.TemporaryDirectory(dir=builders.MEMORY) as folder,
        _create(Path(folder, "runs")) as opened,
    ):
        yield opened


def _started(number: int) -> AttemptStarted:
    settings = Settings(seed=number)
    return AttemptStarted(
        attempt=number, settings=settings, remedy=None, cause=None, changed={}, passed_over=()
    )


def _epoch(epoch: int, phase: str = "warmup", **metrics: float) -> EpochEnded:
    return EpochEnded(attempt=1, phase=phase, epoch=epoch, learning_rate=0.1, metrics=metrics)


FAILURE = Failure(check="dead_neurons", phase="main", reason="dead")
SCRIPT: list[Event] = [
    Warned(message="odd"),
    _started(1),
    ModelBuilt(attempt=1, parameters=3, obstacles={}),
    PhaseEnded(attempt=1, phase=builders.phase("init")),
    PhaseStarted(attempt=1, phase="warmup", epochs=2, learning_rate=0.1),
    _epoch(1, loss=2.0),
    _epoch(2, loss=float("nan")),
    PhaseEnded(attempt=1, phase=builders.phase("warmup", builders.check("fail"))),
    AttemptEnded(attempt=1, status="failed", failure=FAILURE, seconds=1.0),
    _started(2),
    AttemptEnded(attempt=2, status="passed", failure=None, seconds=1.0),
    RunEnded(status="passed", accepted_attempt=2, best_attempt=2, conclusion="good", exit_code=0),
]


def _json(path: Path) -> Any:
    return json.loads(path.read_text())


def _names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


# ------------------------------------------------------------------------------- create


def test_a_run_directory_has_its_files_and_its_first_event(made: Store) -> None:
    root = made.paths.root
    assert _names(root) == sorted(
        [".lock", "config.yaml", "environment.json", "journal.jsonl", "resolved.yaml", "run.json"]
    )
    assert (root / "config.yaml").read_bytes() == b"a: 1  # as given\n"
    assert (root / "resolved.yaml").read_text() == "a: 1\nb: 2\n"
    assert _json(root / "environment.json") == {"argv": ["x"]}
    assert _json(root / "run.json") == jsonable(replay(read(root / "journal.jsonl")))
    assert _json(root / "run.json")["inputs"] == {
        "columns": ["p", "q"],
        "categories": {},
        "standardization": {},
    }


def test_the_name_says_what_when_and_which(made: Store) -> None:
    name = made.paths.root.name
    assert re.fullmatch(r"case-\d{8}-\d{6}-[0-9a-f]{4}", name)
    assert made.run.run == name


def test_nothing_but_the_run_stays_in_the_folder(made: Store) -> None:
    assert _names(made.paths.root.parent) == [made.paths.root.name]


def test_two_runs_at_once_are_two(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(lambda _: _create(tmp_path), range(4)))
    names = {each.paths.root.name for each in opened}
    assert len(names) == 4
    assert set(_names(tmp_path)) == names


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"resolved": 3}, AttributeError, "encode"),
        ({"environment": {"x": object()}}, TypeError, "expected a value that JSON has"),
        ({"inputs": object()}, TypeError, "expected a value that JSON has"),
    ],
)
def test_a_failure_in_the_middle_leaves_nothing(
    tmp_path: Path, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        _create(tmp_path, **changes)
    assert _names(tmp_path) == []


def test_arguments_that_are_not_utf8_are_recorded(tmp_path: Path) -> None:
    argv = [b"caf\xe9.yaml".decode(errors="surrogateescape")]
    with _create(tmp_path, environment={"argv": argv}) as made:
        assert _json(made.paths.environment) == {"argv": argv}


# ------------------------------------------------------------------------------- the lock


def _locked_elsewhere(path: Path) -> bool:
    """Whether another process cannot have the lock."""
    code = (
        "import sys, filelock\n"
        "try:\n"
        "    filelock.FileLock(sys.argv[1]).acquire(timeout=0)\n"
        "except filelock.Timeout:\n"
        "    sys.exit(9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert done.returncode in (0, 9)
    return done.returncode == 9


def test_the_lock_is_held_while_the_run_goes_on_and_given_up_after(tmp_path: Path) -> None:
    with _create(tmp_path) as made:
        lock = made.paths.root / ".lock"
        assert _locked_elsewhere(lock)
        with pytest.raises(filelock.Timeout, match="could not be acquired"):
            filelock.FileLock(lock).acquire(timeout=0)
        before = _names(made.paths.root)
    assert not _locked_elsewhere(lock)
    assert _names(made.paths.root) == before
    with filelock.FileLock(lock).acquire(timeout=0) as again:
        assert again.is_locked


def test_the_lock_is_given_up_when_the_run_raises(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="on the way"), _create(tmp_path) as made:
        raise RuntimeError("on the way")
    with filelock.FileLock(made.paths.lock).acquire(timeout=0) as again:
        assert again.is_locked


# ------------------------------------------------------------------------------- record


def test_run_json_follows_from_the_journal_after_every_event(
    made: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.record.storage.store._RECORD_SECONDS", 0.0)
    for event in SCRIPT:
        run = made.record(event)
        replayed = jsonable(replay(read(made.paths.journal)))
        assert _json(made.paths.record) == replayed, event
        assert jsonable(run) == replayed, event


def test_epochs_alone_write_run_json_once_in_a_while_and_a_phase_at_once(made: Store) -> None:
    made.record(_started(1))
    written = made.paths.record.read_bytes()
    for number in (1, 2, 3):
        made.record(_epoch(number, loss=2.0))
        assert made.paths.record.read_bytes() == written
    run = made.record(PhaseEnded(attempt=1, phase=builders.phase("warmup")))
    assert _json(made.paths.record) == jsonable(run)
    assert run.attempts[0].learning_rates == {"warmup": 0.1}


def _play(made: Store) -> None:
    for event in SCRIPT:
        made.record(event)


def test_attempts_have_their_record_epochs_and_checks(made: Store) -> None:
    _play(made)
    root = made.paths.root / "attempts"
    assert _names(root) == ["001", "002"]
    assert _names(root / "001") == ["attempt.json", "checks", "epochs.csv"]
    assert _names(root / "001" / "checks") == ["00-init.json", "01-warmup.json"]
    assert _json(root / "001" / "attempt.json") == _json(made.paths.record)["attempts"][0]
    assert _json(root / "002" / "attempt.json")["status"] == "passed"


def test_lists_of_units_stand_in_the_checks_and_nowhere_else(made: Store) -> None:
    _play(made)
    attempt = made.paths.root / "attempts" / "001"
    evidence = _json(attempt / "checks" / "01-warmup.json")
    assert evidence["checks"][0]["measured"]["layers"][0]["dead_units"] == [3]
    for path in (made.paths.record, attempt / "attempt.json"):
        assert "dead_units" not in path.read_text()
        assert '"dead": 1' in path.read_text()


def test_no_temporary_file_stays(made: Store) -> None:
    _play(made)
    hidden = [path.name for path in made.paths.root.rglob(".*")]
    assert hidden == [".lock"]


def _rows(made: Store) -> list[dict[str, str]]:
    with (made.paths.root / "attempts" / "001" / "epochs.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_epoch_is_a_row_with_its_metrics(made: Store) -> None:
    _play(made)
    assert _rows(made) == [
        {"phase": "warmup", "epoch": "1", "learning_rate": "0.1", "loss": "2.0"},
        {"phase": "warmup", "epoch": "2", "learning_rate": "0.1", "loss": "nan"},
    ]


def test_a_metric_that_comes_later_or_goes_away_leaves_empty_cells(made: Store) -> None:
    for event in (
        _started(1),
        _epoch(1, loss=2.0),
        _epoch(2, "main", loss=1.0, mae=0.5),
        _epoch(3, "main", mae=0.25),
    ):
        made.record(event)
    rows = _rows(made)
    assert [list(row) for row in rows] == [["phase", "epoch", "learning_rate", "loss", "mae"]] * 3
    assert [(row["epoch"], row["loss"], row["mae"]) for row in rows] == [
        ("1", "2.0", ""),
        ("2", "1.0", "0.5"),
        ("3", "", "0.25"),
    ]


def test_a_row_is_appended_and_the_rows_before_stay_as_they_are(made: Store) -> None:
    made.record(_started(1))
    made.record(_epoch(1, loss=2.0))
    path = made.paths.attempt(1).epochs
    before, inode = path.read_bytes(), path.stat().st_ino
    made.record(_epoch(2, loss=1.0))
    assert path.read_bytes() == before + b"warmup,2,0.1,1.0\r\n"
    assert path.stat().st_ino == inode


@pytest.mark.parametrize("left", [5, 40, 49])
def test_a_row_that_a_killed_process_has_left_half_written_is_cut_off(
    made: Store, left: int
) -> None:
    made.record(_started(1))
    made.record(_epoch(1, loss=2.0))
    path = made.paths.attempt(1).epochs
    content = path.read_bytes()
    assert left < len(content)
    path.write_bytes(content[:left])
    made.record(_epoch(2, loss=1.0))
    rows = {row["epoch"]: row["loss"] for row in _rows(made)}
    assert rows == {"2": "1.0"}


def test_a_metric_named_like_a_column_of_ours_does_not_replace_it(made: Store) -> None:
    # Keras's ReduceLROnPlateau logs a learning_rate of its own.
    made.record(_started(1))
    metrics = {"loss": 2.0, "learning_rate": 9.0, "epoch": 8.0}
    made.record(EpochEnded(attempt=1, phase="warmup", epoch=1, learning_rate=0.1, metrics=metrics))
    assert _rows(made) == [{"phase": "warmup", "epoch": "1", "learning_rate": "0.1", "loss": "2.0"}]


def test_the_attempts_directory_is_made_once(made: Store) -> None:
    first = made.attempt_directory(3)
    assert first == made.paths.root / "attempts" / "003"
    assert made.attempt_directory(3) == first
    assert _names(first) == ["checks"]


def test_time_goes_on_from_the_start_of_the_run(made: Store) -> None:
    run = made.record(Warned(message="x"))
    assert 0 <= run.seconds <= made.elapsed + 0.0005 < 60  # recorded to the millisecond


def test_an_event_that_cannot_be_written_did_not_happen(made: Store) -> None:
    before = made.run
    with _unwritable(made.paths.journal), pytest.raises(OSError, match=r"journal\.jsonl"):
        made.record(Warned(message="x"))
    assert made.run == before
    assert made.record(Warned(message="y")).warnings == ("y",)


@contextlib.contextmanager
def _unwritable(path: Path) -> Iterator[None]:
    """Put the file away and a folder in its place, which even root cannot write to."""
    aside = path.with_name("aside")
    path.rename(aside)
    path.mkdir()
    try:
        yield
    finally:
        path.rmdir()
        aside.rename(path)


# ------------------------------------------------------------------------------- reopen


def _derived(root: Path) -> dict[str, bytes]:
    """Content of what follows from the journal."""
    paths = [root / "run.json", *(path for path in root.glob("attempts/**/*") if path.is_file())]
    return {str(path.relative_to(root)): path.read_bytes() for path in paths}


def test_a_run_goes_on_where_its_journal_ends(
    made: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for event in SCRIPT[:6]:
        made.record(event)
    before = made.run
    with pytest.raises(RecordError, match=rf"is in progress: process {os.getpid()} on "):
        store.reopen(made.paths.root)
    made.__exit__()
    whole = made.paths.journal.read_bytes()
    made.paths.journal.write_bytes(whole + b'{"crc":"00')  # a line that a kill has torn
    monkeypatch.chdir(made.paths.root.parent)
    with store.reopen(Path(made.paths.root.name)) as again:
        monkeypatch.chdir(tmp_path)  # as the user's code may
        assert made.paths.journal.read_bytes() == whole  # nothing is recorded by that alone
        assert (again.run, again.fingerprint) == (before, "f00d")
        assert before.seconds <= again.elapsed < before.seconds + 60
        for event in SCRIPT[6:]:
            again.record(event)
        assert archive.read(made.paths.root).status == "passed"
        assert [row["epoch"] for row in _rows(made)] == ["1", "2"]
    with pytest.raises(RecordError, match=r"journal\.jsonl is missing, which tells how far"):
        store.reopen(made.paths.root.parent)


def test_what_follows_from_the_journal_is_written_again(made: Store) -> None:
    _play(made)
    made.__exit__()
    root = made.paths.root
    expected = _derived(root)
    attempt = made.paths.attempt(1)
    made.paths.record.write_text("{")
    attempt.record.unlink()
    attempt.checks(0, "init").write_text("{}")
    (attempt.evidence / "02-gone.json").write_text("{}")
    (attempt.evidence / ".01-warmup.json.new").write_text("half")
    attempt.epochs.write_bytes(attempt.epochs.read_bytes() + b"warmup,2,0.1,1.0\r\nwarm")
    (root / "attempts" / "002" / "attempt.json").unlink()
    (root / "attempts" / "002" / "checks").rmdir()
    with store.reopen(root):
        assert _derived(root) == expected
        assert (root / "attempts" / "002" / "checks").is_dir()


def test_epochs_and_phases_that_are_trained_again_are_told_once(made: Store) -> None:
    for event in (
        *SCRIPT[:6],
        _epoch(2, loss=1.5, mae=0.5),
        PhaseEnded(attempt=1, phase=builders.phase("warmup")),
        _epoch(3, "main", loss=1.0),
        AttemptResumed(attempt=1, restarts=1, phases=1, epoch=1),
    ):
        made.record(event)
    root = made.paths.root
    assert [row["epoch"] for row in _rows(made)] == ["1"]
    assert list(_rows(made)[0]) == ["phase", "epoch", "learning_rate", "loss"]
    assert _names(made.paths.attempt(1).evidence) == ["00-init.json"]
    assert [phase["phase"] for phase in _json(root / "run.json")["attempts"][0]["phases"]] == [
        "init"
    ]
    assert [epoch.epoch for epoch in archive.epochs(root)[1]] == [1]
    made.record(_epoch(2, loss=1.25))
    assert [row["loss"] for row in _rows(made)] == ["2.0", "1.25"]
    assert [epoch.metrics["loss"] for epoch in archive.epochs(root)[1]] == [2.0, 1.25]
    made.record(AttemptResumed(attempt=1, restarts=2, phases=0, epoch=0))
    assert _names(made.paths.attempt(1).root) == ["attempt.json", "checks"]
    assert archive.epochs(root) == {}


# ------------------------------------------------------------------------------- models


def _fill(made: Store) -> None:
    _play(made)
    for number in (1, 2):
        folder = made.attempt_directory(number)
        (folder / "checkpoint.keras").write_text(f"checkpoint {number}")
        (folder / "checkpoint.weights.h5").write_text(f"weights {number}")
        (folder / ".model.keras").write_text(f"model {number}")


def test_the_accepted_model_moves_to_the_run(made: Store) -> None:
    _fill(made)
    path = made.accept(2)
    assert path == made.paths.root / "model.keras"
    assert path.read_text() == "model 2"
    assert not (made.paths.root / "attempts" / "002" / ".model.keras").exists()


def test_a_model_of_weights_only_is_accepted_too(made: Store) -> None:
    _play(made)
    (made.attempt_directory(2) / ".model.weights.h5").write_text("weights")
    assert made.accept(2) == made.paths.root / "model.weights.h5"
    assert (made.paths.root / "model.weights.h5").read_text() == "weights"
    assert not (made.paths.root / "model.keras").exists()


def test_only_the_checkpoints_that_are_kept_stay(made: Store) -> None:
    _fill(made)
    made.discard_checkpoints(keep=[1])
    root = made.paths.root / "attempts"
    assert _names(root / "001") == [
        "attempt.json",
        "checkpoint.keras",
        "checkpoint.weights.h5",
        "checks",
        "epochs.csv",
    ]
    assert _names(root / "002") == ["attempt.json", "checks"]
