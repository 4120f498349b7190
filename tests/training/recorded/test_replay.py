"""`orchestrate replay`: real attempts, trained a second time."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import filelock
import pytest
import yaml
from msgspec.structs import replace

from orchestrator.cli.app import execute as orchestrate
from orchestrator.config import yaml12
from orchestrator.policy.rule import derive_seed
from orchestrator.record.records import Candidate, Settings
from orchestrator.record.storage import archive
from orchestrator.training.attempt.task import repeat
from tests import builders
from tests.conftest import LINE, LINE_CODE, merged

pytestmark = pytest.mark.usefixtures("_module_in_this_process")
Capture = pytest.CaptureFixture[str]
Edit = Callable[[dict[str, Any]], None]

ROWS = """
import tensorflow as tf

def shuffled():
    x, y = line(256)
    # In another order at every pass, so that a pass more or less changes everything after it.
    return tf.data.Dataset.from_tensor_slices((x, y)).shuffle(256).batch(32)
"""
REPAIRED: dict[str, Any] = {
    "data": {"train": {"callable": "rows:shuffled"}},
    "model": {
        "layers": [
            {"Dense": {"units": 8, "activation": "relu"}},
            {"Dropout": {"rate": 0.1}},
            {"Dense": {"units": 8, "activation": "relu"}},
            {"Dense": {"units": 1}},
        ]
    },
    # A hidden layer dies in the first epochs of the second phase, however the processor rounds: at
    # ten times the rate it did with each of six seeds. One rung caps the rate.
    "seed": 3,
    "compile": {"optimizer": {"Adam": {"learning_rate": 100.0}}, "loss": "mse"},
    "phases": [{"name": "warmup", "epochs": 1, "learning_rate": 1e-3}, {"name": "main",
                                                                        "epochs": 20}],
    "restart": {"policy": [{"remedy": "lower_learning_rate", "factor": 1e-4}]},
}  # fmt: skip
SCREENED: dict[str, Any] = {
    "data": {"train": {"callable": "rows:shuffled"}},
    # Three relu units in a row: born dead with seed 3 and the one that follows it.
    "seed": 3,
    "model": {
        "layers": [
            *[{"Dense": {"units": 1, "activation": "relu", "kernel_initializer": "he_normal"}}] * 3,
            {"Dense": {"units": 1}},
        ]
    },
    "restart": {"max_attempts": 1},
}


def made(root: Path, **changes: Any) -> Path:
    """The directory of a new run, whose config is in a folder of its own."""
    folder = root / "project"
    folder.mkdir()
    (folder / "rows.py").write_text(LINE_CODE + ROWS)
    config = folder / "case.yaml"
    config.write_text(yaml12.dump(merged(LINE, changes)))
    assert orchestrate([str(config), "--quiet", "--runs-dir", str(root / "runs")]) in (0, 3)
    (directory,) = (root / "runs").glob("case-*")
    return directory


@pytest.fixture(scope="module")
def repaired(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose first attempt failed and whose second passed."""
    return made(tmp_path_factory.mktemp("repaired"), **REPAIRED)


@pytest.fixture
def copy(repaired: Path, tmp_path: Path) -> Path:
    """The same run, to be changed."""
    return Path(shutil.copytree(repaired, tmp_path / "runs" / repaired.name))


def edit(directory: Path, change: Edit) -> None:
    path = directory / "run.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def edit_config(directory: Path, change: Mapping[str, Any]) -> None:
    path = directory / "resolved.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | change))


def files(directory: Path) -> dict[str, tuple[int, int]]:
    """Every file and folder, with its size and the time of its last change."""
    return {
        str(path.relative_to(directory)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in [directory, *directory.rglob("*")]
    }


def problem(capsys: Capture, *arguments: str) -> str:
    """What a replay is refused with; nothing is trained."""
    assert orchestrate(["replay", *arguments, "--json", "--quiet"]) == 2
    (found,) = json.loads(capsys.readouterr().out)["problems"]
    return f"{found['file']}: {found['message']}; {found['hint']}"


def test_an_attempt_that_passed_arrives_at_the_same_bits(repaired: Path, capsys: Capture) -> None:
    before = files(repaired)
    capsys.readouterr()
    assert orchestrate(["replay", str(repaired), "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert (found["run"], found["attempt"]) == (repaired.name, 2)  # the accepted one
    assert (found["same"], found["bits"], found["ended"]) == (True, True, True)
    assert [phase["phase"] for phase in found["phases"]] == ["init", "warmup", "main"]
    digests = [phase["weights"]["replayed"] for phase in found["phases"]]
    assert len(set(digests)) == 3
    assert (found["environment"], found["reason"]) == ({}, None)
    assert files(repaired) == before
    # It is told what goes on, and not that the attempt before it failed.
    assert f"Replay of attempt 2 of run {repaired.name}" in err
    assert "main · 20 epochs" in err
    assert "restarting" not in err


def test_an_attempt_that_failed_fails_at_the_same_place(repaired: Path, capsys: Capture) -> None:
    first = archive.read(repaired).attempts[0]
    assert first.status == "failed"
    assert first.phases[-1].epochs < 20  # ended early
    capsys.readouterr()
    run = ["replay", f"{repaired.name}@1", "--runs-dir", str(repaired.parent), "--quiet"]
    assert orchestrate(run) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "attempt 1 arrived at the same bits after each of its 3 phases" in out
    assert out.splitlines()[0].split() == ["phase", "weights", "metrics", "checks"]


def test_an_attempt_with_a_screened_seed_is_screened_again(tmp_path: Path, capsys: Capture) -> None:
    directory = made(tmp_path, **SCREENED)
    (attempt,) = archive.read(directory).attempts
    assert len(attempt.screened) > 1
    capsys.readouterr()
    assert orchestrate(["replay", str(directory), "--quiet", "--csv"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head == "phase,weights,metrics,checks"
    assert lines == [f"{phase},same,same,same" for phase in ("init", "main")]


def test_what_differs_from_the_record_is_found(copy: Path, capsys: Capture) -> None:
    def change(record: dict[str, Any]) -> None:
        last = record["attempts"][0]["phases"][-1]
        last["weights"] = f"sha256:{'0' * 64}"
        last["metrics"]["loss"] += 1.0

    edit(copy, change)
    assert orchestrate(["replay", f"{copy}@1", "--quiet"]) == 3
    out, err = capsys.readouterr()
    assert out.splitlines()[3].split() == ["main", "differ", "1", "differ", "same"]
    assert "attempt 1 differs in phase main: the weights are others; loss " in out
    assert "perhaps because: run.json does not say what the journal says" in out
    (copy / "journal.jsonl").unlink()
    assert orchestrate(["replay", f"{copy}@1", "--quiet"]) == 3
    out = capsys.readouterr().out
    assert "perhaps because: versions, machine, data and commit are as they were" in out


def test_a_record_from_before_the_digests_is_compared_by_its_numbers(
    copy: Path, capsys: Capture
) -> None:
    def change(record: dict[str, Any]) -> None:
        for phase in record["attempts"][0]["phases"]:
            del phase["weights"]

    edit(copy, change)
    assert orchestrate(["replay", f"{copy}@1", "--quiet"]) == 0
    out = capsys.readouterr().out
    assert "attempt 1 gave the same numbers in each of its 3 phases" in out
    assert "bits are not compared" in out


def test_an_interrupted_attempt_is_trained_as_far_as_it_is_recorded(
    copy: Path, capsys: Capture
) -> None:
    def change(record: dict[str, Any]) -> None:
        record["status"] = "interrupted"
        record["accepted_attempt"] = record["best_attempt"] = None
        record["attempts"][1]["status"] = "interrupted"
        del record["attempts"][1]["phases"][2:]

    edit(copy, change)
    assert orchestrate(["replay", str(copy)]) == 0
    out, err = capsys.readouterr()
    assert "attempt 2 arrived at the same bits after each of its 2 phases; it was cut short" in out
    assert "warmup · 1 epoch" in err
    assert "main" not in err


def test_other_data_is_refused_and_may_be_forced(copy: Path, capsys: Capture) -> None:
    moved = copy.parents[1] / "moved"
    moved.mkdir()
    (moved / "rows.py").write_text(LINE_CODE + ROWS.replace("(x, y)", "(x, y + 1)"))
    found = problem(capsys, f"{copy}@1", "--base", str(moved))
    assert "the data is not what the attempt was trained on" in found
    assert "--force trains on it all the same" in found
    arguments = ["replay", f"{copy}@1", "--base", str(moved), "--force", "--quiet", "--json"]
    assert orchestrate(arguments) == 3
    record = json.loads(capsys.readouterr().out)
    assert record["environment"].keys() == {"data", "code.rows.py"}
    assert record["reason"].startswith("data sha256:")
    # The model is built alike, it is the rows that make the difference.
    init, warmup, *_ = record["phases"]
    assert init["weights"]["recorded"] == init["weights"]["replayed"]
    assert warmup["weights"]["recorded"] != warmup["weights"]["replayed"]


def test_a_run_whose_folder_is_gone_asks_for_the_new_one(copy: Path, capsys: Capture) -> None:
    edit_config(copy, {"base": "/gone/project"})
    found = problem(capsys, str(copy))
    assert "the config's folder /gone/project is gone; --base DIR says where it is now" in found


def test_an_attempt_that_does_not_exist_is_refused(copy: Path, capsys: Capture) -> None:
    assert "there is no attempt 7; it has attempts 1 to 2" in problem(capsys, f"{copy}@7")


def test_a_run_in_progress_is_refused(copy: Path, capsys: Capture) -> None:
    with filelock.FileLock(copy / ".lock"):
        assert "the run is in progress" in problem(capsys, f"{copy}@1")


def test_an_attempt_without_a_finished_phase_is_refused(copy: Path, capsys: Capture) -> None:
    def change(record: dict[str, Any]) -> None:
        record["attempts"][1] |= {"status": "crashed", "phases": []}

    edit(copy, change)
    found = problem(capsys, f"{copy}@2")
    assert "attempt 2 crashed before the end of its first phase" in found


def test_a_run_without_attempts_is_refused(copy: Path, capsys: Capture) -> None:
    edit(copy, lambda record: record.update(attempts=[], accepted_attempt=None, best_attempt=None))
    assert "the run ended before its first attempt" in problem(capsys, str(copy))


def test_what_retrain_was_given_is_not_recorded(copy: Path, capsys: Capture) -> None:
    edit_config(copy, {"model": {"given": "program:build"}})
    found = problem(capsys, str(copy))
    assert "what retrain() was given in Python is not in this record; call retrain() again" in found


def test_the_task_is_that_of_the_run() -> None:
    """The candidates of a screened attempt are those that the loop had."""
    first = replace(builders.failed(1), phases=(builders.phase("init"),), settings=Settings(seed=7))
    config = builders.config()
    assert repeat(config, first, (), lambda number: Path(f"{number}")).seeds == (7,)
    screened = replace(
        first,
        attempt=2,
        settings=Settings(seed=derive_seed(7, 3), clip_norm=1.0),
        screened=tuple(Candidate(seed=derive_seed(7, n), reason="dead") for n in (1, 2, 3)),
    )
    task = repeat(config, screened, (first,), lambda number: Path(f"{number}"))
    assert task.settings == Settings(seed=derive_seed(7, 1), clip_norm=1.0)
    assert task.seeds == tuple(derive_seed(7, n) for n in range(1, config.restart.screen_seeds + 1))
