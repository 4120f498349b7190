"""A run whose penalty on weights is lowered, for real: recorded, told, saved and replayed."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import pytest

from orchestrator.cli.app import execute as orchestrate
from orchestrator.record.storage import archive
from tests.conftest import recorded_run

pytestmark = pytest.mark.usefixtures("_module_in_this_process")
Capture = pytest.CaptureFixture[str]

ROWS = """
import numpy as np

def make():
    x = np.random.default_rng(0).normal(size=(400, 3)).astype("float32")
    return x, np.abs(x).sum(axis=1)
"""


def test_it_is_told_recorded_saved_and_replayed(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "held.py").write_text(ROWS)
    held = {"units": 32, "activation": "relu", "kernel_regularizer": {"L2": {"l2": 1.0}}}
    config = {
        "data": {"train": {"callable": "held:make"}},
        "model": {"layers": [{"Dense": held}, {"Dense": held}, {"Dense": {"units": 1}}]},
        "compile": {"optimizer": {"Adam": {"learning_rate": 0.01}}, "loss": "mse"},
        "phases": [{"name": "main", "epochs": 12}],
    }
    directory = recorded_run(tmp_path, "held", config)
    told = " ".join(capsys.readouterr().out.split())
    run = archive.read(directory)
    first, *_, last = run.attempts
    assert run.status == "passed"
    assert "over_regularised" in [each.cause for each in first.findings]
    assert (run.attempts[1].remedy, last.settings.penalty_cap) == ("lower_penalty", 1e-4)
    assert "its penalties on weights are at most 0.0001" in told
    first_skill, last_skill = first.skill(), last.skill()
    assert first_skill is not None and last_skill is not None
    assert first_skill < 0.5 < 0.9 < last_skill
    model = keras.models.load_model(directory / "model.keras")
    strengths = [each.kernel.regularizer.get_config()["l2"] for each in model.layers[:2]]
    assert strengths == pytest.approx([1e-4] * 2)
    assert orchestrate(["replay", str(directory), "--json", "--quiet"]) == 0
    out = capsys.readouterr().out
    assert json.loads(out[out.index("{") :])["bits"]
