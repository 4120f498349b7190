"""The shipped configs: all load, and the main one tells its story."""

import json
from pathlib import Path

import pytest

from orchestrator import config as configs

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_config_loads(path: Path) -> None:
    assert configs.load(path).name == path.stem.replace("model", "airfoil")


def test_the_main_config_dies_and_is_repaired() -> None:
    """The run that the README's first command made; `.ci/run` makes it before the tests."""
    runs = sorted(ROOT.glob("runs/airfoil-*/run.json"))
    if not runs:
        pytest.skip("the README's first command has not been run in this folder")
    record = json.loads(runs[-1].read_text())
    first, second = record["attempts"]
    assert (first["status"], first["failure"]["check"]) == ("failed", "dead_neurons")
    assert "entirely dead" in first["failure"]["reason"]
    assert second["remedy"] == "lower_learning_rate"
    measured = second["phases"][-1]["checks"][-1]["measured"]
    assert measured["outputs"][0]["skill"] > 0.5
    assert measured["validation"][0]["skill"] > 0.5
    assert record["inputs"]["columns"][0] == "frequency_hz"
    assert (runs[-1].parent / "model.keras").exists()
