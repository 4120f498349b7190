"""The shipped configs: all load, and the main one tells its story."""

import json
from pathlib import Path

import pytest

from orchestrator import config as configs
from orchestrator.cli import _run as orchestrate

FOLDER = Path(__file__).parents[1] / "configs"
FILES = sorted(FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_config_loads(path: Path) -> None:
    assert configs.load(path).name == path.stem.replace("model", "airfoil")


@pytest.mark.slow
def test_the_main_config_dies_and_is_repaired(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(FOLDER / "model.yaml"), "--runs-dir", str(tmp_path / "runs"), "--json"]
    assert orchestrate(arguments) == 0
    record = json.loads(capsys.readouterr().out)
    first, second = record["attempts"]
    assert (first["status"], first["failure"]["check"]) == ("failed", "dead_neurons")
    assert "entirely dead" in first["failure"]["reason"]
    assert second["remedy"] == "lower_learning_rate"
    measured = second["phases"][-1]["checks"][-1]["measured"]
    assert measured["outputs"][0]["skill"] > 0.5
    assert measured["validation"][0]["skill"] > 0.5
    assert record["inputs"]["columns"][0] == "frequency_hz"
