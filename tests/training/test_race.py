"""A race for real, cut and killed, and what the loop makes of one whose workers it only hears."""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.app import execute as orchestrate
from orchestrator.policy import race
from orchestrator.record.events import AttemptStarted, Event, Heartbeat, RacerEnded
from orchestrator.record.records import Run
from orchestrator.record.storage import archive
from orchestrator.training.attempt import snapshots
from orchestrator.training.attempt.snapshots import Snapshot
from tests.conftest import LINE, recorded_run

pytestmark = pytest.mark.usefixtures("_module_in_this_process")
Capture = pytest.CaptureFixture[str]

RACED: dict[str, Any] = {
    **LINE,
    "model": {
        "layers": [
            {"Dense": {"units": 8, "activation": "relu"}},
            {"Dropout": {"rate": 0.1}},
            {"Dense": {"units": 1}},
        ]
    },
    "compile": {**LINE["compile"], "run_eagerly": True},
    "phases": [{"name": "first", "epochs": 1}, {"name": "main", "epochs": 11}],
    # Noise of Dropout keeps every network from that: each attempt fails at its end.
    "checks": {"prediction_variance": {"min_skill": 0.99999}},
    "restart": {"max_attempts": 2, "policy": ["new_seed", "leaky_relu"]},
}


@pytest.fixture(scope="module")
def raced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose second attempt is the best of a race."""
    return recorded_run(tmp_path_factory.mktemp("raced"), "raced", RACED, exit_code=3)


def _told(run: Run) -> tuple[Any, ...]:
    second = run.attempts[1]
    return second.raced, second.settings, [(each.weights, each.metrics) for each in second.phases]


def _epochs(directory: Path) -> list[dict[str, str]]:
    with (directory / "attempts/002/epochs.csv").open() as file:
        return [*csv.DictReader(file)]


def test_the_best_goes_on_and_the_others_are_in_the_record(raced: Path) -> None:
    run = archive.read(raced)
    first, second = run.attempts
    assert [each.epochs for each in second.raced] == [1] * 3  # a quarter of 12
    assert [each.remedy for each in second.raced[:2]] == ["new_seed", "leaky_relu"]
    place = race.best(second.raced)
    winner = second.raced[place]
    assert [each.reason is None for each in second.raced].index(True) == place
    assert (second.settings, second.remedy, second.rung) == (
        winner.settings,
        winner.remedy,
        winner.rung,
    )
    losses = [each.loss for each in second.raced]
    assert winner.loss == min(each for each in losses if each is not None)
    # Its first epoch, with which a phase ends, is that of the race.
    assert float(_epochs(raced)[0]["loss"]) == winner.loss
    assert [phase.phase for phase in second.phases] == ["init", "first", "main"]
    assert (second.restarts, len(_epochs(raced)), second.trained) == (0, 12, 14)
    assert run.race == ()
    looked_at = [len(attempt.screened) for attempt in run.attempts]
    losers = [each.screened for each in second.raced if each.reason is not None]
    assert run.screened_seeds == sum(looked_at) + sum(losers)  # each once
    assert not (raced / ".race").exists()


def test_it_is_trained_again_from_its_beginning_to_the_same_bits(
    raced: Path, capsys: Capture
) -> None:
    assert orchestrate(["replay", f"{raced}@2", "--json", "--quiet"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["attempt"], found["same"], found["bits"]) == (2, True, True)


@pytest.mark.parametrize("after", ["racer_ended", "attempt_started"])
def test_a_race_that_was_cut_short_comes_to_the_same(
    raced: Path, tmp_path: Path, after: str
) -> None:
    directory = Path(shutil.copytree(raced, tmp_path / "runs" / raced.name))
    lines = (directory / "journal.jsonl").read_bytes().splitlines(keepends=True)
    begins = [i for i, line in enumerate(lines) if f'"event":"{after}"'.encode() in line]
    # Killed when two had raced, or when the best of all was known and had told nothing yet.
    (directory / "journal.jsonl").write_bytes(b"".join(lines[: begins[1] + 1]))
    (directory / "run.json").unlink()
    if after == "racer_ended":
        shutil.rmtree(directory / "attempts/002")
    (directory / ".race/004").mkdir(parents=True)
    base = ["--base", str(raced.parent.parent)]
    assert orchestrate(["resume", str(directory), *base, "--quiet"]) == 3
    assert b"run_resumed" in (directory / "journal.jsonl").read_bytes()
    assert _told(archive.read(directory)) == _told(archive.read(raced))
    assert _epochs(directory) == _epochs(raced)
    assert not (directory / ".race").exists()


def test_a_race_that_a_full_disk_cuts_short_comes_to_the_same(
    raced: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = snapshots.write

    def full(snapshot: Snapshot, directory: Path) -> Path:
        if directory.parent.name == ".race" and directory.name == "001":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(snapshot, directory)

    runs = tmp_path / "runs"
    with monkeypatch.context() as patched:
        patched.setattr(snapshots, "write", full)
        config = raced.parent.parent / "raced.yaml"
        assert orchestrate([str(config), "--runs-dir", str(runs), "--quiet"]) == 75
    (directory,) = runs.iterdir()
    run = archive.read(directory)
    assert (run.status, len(run.attempts), len(run.race)) == ("interrupted", 1, 1)
    assert orchestrate(["resume", str(directory), "--quiet"]) == 3
    assert _told(archive.read(directory)) == _told(archive.read(raced))
    assert _epochs(directory) == _epochs(raced)


def test_all_of_it_is_told(raced: Path, capsys: Capture) -> None:
    assert orchestrate(["show", str(raced)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.count("for 1 epoch: loss") == 3
    assert shown.count("; goes on") == 1
    assert orchestrate(["logs", str(raced)]) == 0
    assert ", the best of 3 that raced" in capsys.readouterr().out


def test_the_record_knows_what_has_raced_before_the_attempt_begins(raced: Path) -> None:
    events: list[Event | Heartbeat] = [each.event for each in archive.events(raced)]
    kinds = [type(each) for each in events]
    last = len(kinds) - 1 - kinds[::-1].index(AttemptStarted)
    assert kinds[last - 3 : last] == [RacerEnded] * 3


FACTORY = """
import pathlib

import keras


def build():
    with pathlib.Path(__file__).with_name("built").open("a+") as file:
        file.write(".")
        built = file.tell()
    if built > 4:  # tried, attempt 1, and two that race
        raise RuntimeError("no more models today")
    hidden = keras.layers.Dense(8, activation="relu")
    return keras.Sequential([keras.Input((2,)), hidden, keras.layers.Dense(1)])
"""


def test_a_model_that_raises_in_a_race_is_a_crashed_attempt_with_its_log(
    config_file: Callable[..., Path], tmp_path: Path, capsys: Capture
) -> None:
    changes = {**RACED, "model": {"factory": {"callable": "rows:build"}}}
    path = config_file(FACTORY, **changes)
    runs = tmp_path / "runs"
    assert orchestrate([str(path), "--runs-dir", str(runs), "--quiet"]) == 4
    assert capsys.readouterr().err.count("no more models today") == 1
    (directory,) = runs.iterdir()
    run = archive.read(directory)
    assert [attempt.status for attempt in run.attempts] == ["failed", "crashed"]
    assert run.attempts[1].remedy == "new_seed"
    assert "RuntimeError: no more models today" in (directory / "attempts/002/log.txt").read_text()
    assert not (directory / ".race").exists()


@pytest.fixture(autouse=True)
def _in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    yield
