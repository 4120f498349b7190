"""An attempt that goes on from where another one ended, for real."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.cli.app import execute as orchestrate
from orchestrator.record.checks import DeadNeuronsCheck
from orchestrator.record.records import Run, Start
from orchestrator.record.storage import archive
from tests.conftest import LINE, LINE_CODE

pytestmark = pytest.mark.usefixtures("_module_in_this_process")
Capture = pytest.CaptureFixture[str]

CODE = """
import keras

def build():
    bias = [0.0, 0.0] + 6 * [-50.0]
    return keras.Sequential([
        keras.Input((2,)),
        keras.layers.Dense(8, "relu", bias_initializer=lambda shape, dtype: bias, name="first"),
        keras.layers.Dropout(0.1),
        keras.layers.Dense(1),
    ])
"""
"""A network of which six of eight units are born dead."""

SHORT: dict[str, Any] = {
    **LINE,
    "model": {"factory": {"callable": "rows:build"}},
    "compile": {**LINE["compile"], "run_eagerly": True},
    "checks": {"metric": {"name": "loss", "max": 1e-9}},
    "phases": [{"name": "before", "epochs": 2}, {"name": "main", "epochs": 3}],
    "restart": {
        "screen_seeds": 1,
        "policy": [{"remedy": "train_longer", "when": None}, {"remedy": "revive", "when": None}],
    },
}


def _run(folder: Path, name: str, **changes: Any) -> Path:
    (folder / "rows.py").write_text(LINE_CODE + CODE)
    (folder / f"{name}.yaml").write_text(yaml.safe_dump({**SHORT, **changes}))
    command = [str(folder / f"{name}.yaml"), "--runs-dir", str(folder / "runs"), "--quiet"]
    assert orchestrate(command) == 3
    (directory,) = (folder / "runs").glob(f"{name}-*")
    return directory


@pytest.fixture(scope="module")
def longer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that trains longer, and then revives what is dead."""
    return _run(tmp_path_factory.mktemp("longer"), "short")


def _epochs(directory: Path, attempt: int) -> list[dict[str, str]]:
    with (directory / f"attempts/{attempt:03d}/epochs.csv").open() as file:
        return [*csv.DictReader(file)]


def _weights(run: Run, attempt: int) -> list[str | None]:
    return [phase.weights for phase in run.attempts[attempt - 1].phases]


def test_each_goes_on_from_where_the_one_before_ended(longer: Path) -> None:
    first, second, third = archive.read(longer).attempts
    assert second.start == Start(attempt=1, epoch=5)
    assert third.start == Start(attempt=2, epoch=8, revive=True)
    assert [each.settings.more_epochs for each in (first, second, third)] == [None, 3, 9]
    assert [each.trained for each in (first, second, third)] == [5, 3, 6]
    assert [each.epochs for each in third.phases] == [0, 2, 12]
    assert [int(row["epoch"]) for row in _epochs(longer, 3)] == [*range(1, 15)]
    assert _epochs(longer, 3)[:8] == _epochs(longer, 2)


def test_it_is_the_training_of_a_config_with_so_many_epochs(longer: Path, tmp_path: Path) -> None:
    phases = [SHORT["phases"][0], {"name": "main", "epochs": 6}]
    plain = archive.read(_run(tmp_path, "plain", phases=phases, restart={"policy": []}))
    assert _weights(plain, 1)[-1] == _weights(archive.read(longer), 2)[-1]


@pytest.mark.parametrize("decays", [False, True])
def test_epochs_beyond_those_of_a_rate_that_fell_are_at_its_end(
    decays: bool, tmp_path: Path
) -> None:
    policy = [
        {"remedy": "lower_learning_rate", "when": None, "anneal": 0.1, "keep": True},
        {"remedy": "train_longer", "when": None},
    ]
    last: dict[str, Any] = {"name": "main", "epochs": 4}
    slowly = {"initial_learning_rate": 1e-5, "decay_steps": 1000, "decay_rate": 0.99}
    rate = {"ExponentialDecay": slowly} if decays else 1e-5
    compiled = {**SHORT["compile"], "optimizer": {"SGD": {"learning_rate": rate}}}
    rising = {"metric": {"name": "loss", "max": 1e-9}, "findings": "off"}
    restart = {"policy": policy}
    directory = _run(
        tmp_path, "fallen", phases=[last], checks=rising, restart=restart, compile=compiled
    )
    first, second, third = archive.read(directory).attempts
    assert (second.settings.anneal, third.settings.more_epochs) == (0.1, 4)
    rates = [float(each["learning_rate"]) for each in _epochs(directory, 3)]
    cap = first.learning_rates["main"] / 10
    assert rates == pytest.approx([cap, cap, 0.55 * cap, *[0.1 * cap] * 5])


def test_dead_units_get_fresh_weights(longer: Path) -> None:
    run = archive.read(longer)
    checks = [each.phases[-1].find(DeadNeuronsCheck) for each in run.attempts]
    dead = [None if check is None else check.measured.layers[0].dead for check in checks]
    assert dead == [6, 6, 0]
    (told,) = (each for each in run.warnings if "fresh weights" in each)
    seed = run.attempts[2].settings.seed
    assert told == f"6 dead units got fresh weights, drawn with seed {seed}: 6 of first"


def test_what_is_gone_is_trained_again_to_the_same_bits(
    longer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert not [*longer.glob("attempts/*/.snapshot-*")]
    assert orchestrate(["replay", f"{longer}@3", "--json", "--quiet"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["attempt"], found["same"], found["bits"]) == (3, True, True)
    # Killed when attempt 3 had begun, and had built nothing.
    directory = Path(shutil.copytree(longer, tmp_path / "runs" / longer.name))
    lines = (directory / "journal.jsonl").read_bytes().splitlines(keepends=True)
    started = [index for index, line in enumerate(lines) if b'"attempt_started"' in line]
    (directory / "journal.jsonl").write_bytes(b"".join(lines[: started[2] + 1]))
    base = ["--base", str(longer.parent.parent)]
    assert orchestrate(["resume", str(directory), *base, "--quiet"]) == 3
    assert _weights(archive.read(directory), 3) == _weights(archive.read(longer), 3)
