"""Searches whose processes are killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestrator.record import search as records
from orchestrator.record.storage import archive
from orchestrator.tuning import plan
from tests.tuning.small import TUNE, outcomes, search, write

KILLER = """
import os
import pathlib
import signal

def killer():
    class Killer(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            try:
                pathlib.Path(__file__).with_name("killed").touch(exist_ok=False)
            except FileExistsError:
                return
            os.kill(os.getpid(), signal.SIGKILL)

    return Killer()
"""


def test_the_run_of_a_killed_worker_is_started_again(tmp_path: Path) -> None:
    config = write(
        tmp_path, KILLER,
        fit={"callbacks": ["rows:killer"]},
        tune={**TUNE, "max_trials": 1},
    )  # fmt: skip
    found, directory = search(config, tmp_path / "runs", jobs=2)
    assert (tmp_path / "killed").exists()
    (trial,) = found.trials
    assert sorted(run.run or "" for run in trial.runs) == sorted(
        f"runs/{path.name}" for path in (directory / "runs").iterdir()
    )
    for run in trial.runs:
        attempts = archive.read(directory / str(run.run)).attempts
        assert run.attempts == len(attempts)
        assert not {"crashed", "interrupted"} & {attempt.status for attempt in attempts}


@pytest.mark.slow
@pytest.mark.usefixtures("_in_this_process")
def test_a_search_that_was_killed_goes_on(tmp_path: Path) -> None:
    config = write(tmp_path, tune={**TUNE, "max_trials": 2})
    command = ["-m", "orchestrator", "tune", "line.yaml", "--quiet", "--jobs", "2"]
    with subprocess.Popen([sys.executable, *command], cwd=tmp_path) as process:
        runs = tmp_path / "runs"
        deadline = time.monotonic() + 200
        while len(list(runs.glob("tune-*/runs/*"))) < 3 and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    (directory,) = runs.glob("tune-*")
    killed = records.read(directory)
    assert killed.status == "interrupted"
    before = outcomes(killed)
    made = {run.run for trial in killed.trials for run in trial.runs}
    assert made
    _, resumed = plan.find(tmp_path / "line.yaml", (), resume=True, runs_dir=runs)
    assert resumed == directory
    found, _ = search(config, runs, resumed=resumed)
    assert found.status == "finished"
    assert [trial.trial for trial in found.trials] == [1, 2]
    ended = [each for each in before if each[1] != "running"]
    assert outcomes(found)[: len(ended)] == ended
    taken = [run.run for trial in found.trials for run in trial.runs]
    assert made <= set(taken)
    assert len(set(taken)) == len(taken)
