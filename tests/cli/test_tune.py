"""`orchestrate tune`, from the command to its files, with real trainings of a tiny network."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.cli.app import execute as orchestrate
from orchestrator.config import load as configs
from orchestrator.record.storage.directory import SearchPaths

RATE = "compile.optimizer.Adam.learning_rate"
Capture = pytest.CaptureFixture[str]


@pytest.mark.slow
@pytest.mark.usefixtures("_in_this_process")
def test_from_the_command_to_a_config_that_runs(
    config_file: Callable[..., Path], runs: Path, capsys: Capture
) -> None:
    tune = {
        "max_trials": 2, "seeds": 1, "fresh_seeds": 1, "objective": "skill",
        "space": {RATE: {"choice": [1e-5, 0.05]}},
    }  # fmt: skip
    path = config_file(
        tune=tune,
        compile={
            "optimizer": {"Adam": {"learning_rate": 1e-5}},
            "loss": "mse",
            "run_eagerly": True,
        },
        restart={"screen_seeds": 1, "max_attempts": 1},
        phases=[{"name": "main", "epochs": 10}],
        batch_size=16,
    )
    folder = ["--runs-dir", str(runs)]
    assert orchestrate(["tune", str(path), *folder]) == 0
    result, progress = capsys.readouterr()
    (directory,) = runs.glob("tune-config-*")
    paths = SearchPaths(directory)

    lines = progress.splitlines()
    assert f"Search {directory.name} in" in progress
    assert (
        "2 trials, each on 1 seed · skill (higher is better) · 1 fresh seed to compare on" in lines
    )
    heading = next(index for index, line in enumerate(lines) if line.startswith("trial"))
    first, second = lines[heading + 1 : heading + 3]
    assert first.split()[0] == "1" and "the config as it is · best so far 1: " in first
    assert second.split()[0] == "2" and "learning_rate 0.05 · best so far 2: " in second
    assert "\nOn fresh seeds\n    1 of 1: the default policy " in progress

    assert "Best: trial 2, score 0." in result
    assert "So few seeds say nothing with 95 % confidence" in result
    assert "From 2 trials with a score it cannot be told which parameter mattered." in result
    assert "\nConfig: " in result and "\nPicture: " in result
    assert result.endswith(
        "\nTrial 2 of 2 trials was best.\n"
        "Recommended: the default policy; the config as it is has it.\n"
    )

    # What has finished is shown, not searched again.
    files = {each: each.stat().st_mtime_ns for each in directory.iterdir()}
    assert orchestrate(["tune", str(directory), *folder]) == 0
    assert capsys.readouterr().out == result
    assert {each: each.stat().st_mtime_ns for each in directory.iterdir()} == files

    assert orchestrate(["show", directory.name, *folder, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["trials"][1]["values"] == {RATE: 0.05}
    assert record["comparison"]["default"]["low"] == "-Infinity"
    run = record["trials"][0]["runs"][0]["run"]
    assert orchestrate(["show", f"tune-config/{run}", *folder]) == 0
    assert "Attempt 1" in capsys.readouterr().out

    ElementTree.parse(paths.picture)
    text = paths.tuned.read_text()
    assert text.startswith(
        "# NOT shown to be better than the default policy, which is recommended."
    )
    given = configs.load(path).model_dump()
    given["compile"]["optimizer"]["Adam"]["learning_rate"] = 0.05
    assert configs.load(paths.tuned).model_dump() == given
    assert orchestrate([str(paths.tuned), *folder, "--json", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "passed"
