"""An attempt whose SGD gathers momentum, for real: recorded, told, replayed and resumed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import keras
import pytest

from orchestrator.cli.app import execute as orchestrate
from orchestrator.record.storage import archive
from tests.conftest import LINE, recorded_run

pytestmark = pytest.mark.usefixtures("_module_in_this_process")
Capture = pytest.CaptureFixture[str]

FAST: dict[str, Any] = {
    **LINE,
    "compile": {"optimizer": {"SGD": {"learning_rate": 5.0}}, "loss": "mse"},
    "batch_size": 8,
    "phases": [{"name": "main", "epochs": 6}],
}


@pytest.fixture(scope="module")
def fast(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose second attempt is at the usual rate with momentum."""
    return recorded_run(tmp_path_factory.mktemp("fast"), "fast", FAST)


def test_it_is_recorded_and_told_and_in_the_saved_model(fast: Path) -> None:
    run = archive.read(fast)
    first, second = run.attempts
    assert first.failure is not None and first.failure.check == "finite"
    assert (second.settings.learning_rate_cap, second.settings.momentum) == (0.01, 0.9)
    assert second.settings.anneal == 0.1
    assert second.remedy == "lower_learning_rate"
    assert {
        "SGD had a momentum of 0.9, and none in the config: write it there",
        "phase main ran at a rate of at most 0.01, which in its second half fell to 0.001, instead "
        "of 5: write a schedule that falls so",
    } <= {*run.warnings}
    model = keras.models.load_model(fast / "model.keras")
    assert (type(model.optimizer), model.optimizer.momentum) == (keras.optimizers.SGD, 0.9)
    assert int(model.optimizer.iterations) == 6 * 8


def test_its_rate_falls_in_the_second_half(fast: Path) -> None:
    rates = [each.learning_rate for each in archive.epochs(fast)[2]]
    assert rates == pytest.approx([0.01, 0.01, 0.01, 0.007, 0.004, 0.001])


def test_it_replays_to_the_same_bits(fast: Path, capsys: Capture) -> None:
    assert orchestrate(["replay", f"{fast}", "--json", "--quiet"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["attempt"], found["same"], found["bits"]) == (2, True, True)


def test_it_resumes_to_the_same_bits(fast: Path, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(fast, tmp_path / "runs" / fast.name))
    lines = (directory / "journal.jsonl").read_bytes().splitlines(keepends=True)
    second = next(i for i, line in enumerate(lines) if b"attempt_started" in line and i > 5)
    (directory / "journal.jsonl").write_bytes(b"".join(lines[: second + 1]))
    (directory / "run.json").unlink()
    base = ["--base", str(fast.parent.parent)]
    assert orchestrate(["resume", str(directory), *base, "--quiet"]) == 0
    weights = [
        [phase.weights for phase in archive.read(each).attempts[1].phases]
        for each in (directory, fast)
    ]
    assert weights[0] == weights[1]


def test_a_schedule_goes_with_it(tmp_path: Path) -> None:
    decay = {"CosineDecay": {"initial_learning_rate": 5.0, "decay_steps": 48}}
    compiled = {"optimizer": {"SGD": {"learning_rate": decay}}, "loss": "mse"}
    directory = recorded_run(tmp_path, "decaying", {**FAST, "compile": compiled})
    run = archive.read(directory)
    second = run.attempts[1]
    assert (run.status, second.settings.momentum) == ("passed", 0.9)
    assert second.learning_rates["main"] <= 0.01
    model = keras.models.load_model(directory / "model.keras")
    assert isinstance(model.optimizer.get_config()["learning_rate"], dict)
