"""A run whose dropout is switched off, for real: recorded, told, saved and replayed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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
    x = np.random.default_rng(0).normal(size=(800, 3)).astype("float32")
    return x, np.abs(x).sum(axis=1)
"""
HE = {"kernel_initializer": "he_normal"}
DROPPED: dict[str, Any] = {
    "data": {"train": {"callable": "wide:make"}},
    "model": {"layers": [*[{"Dense": {"units": 64, "activation": "relu", **HE}},
                           {"Dropout": {"rate": 0.3}}] * 4, {"Dense": {"units": 1}}]},
    "compile": {"optimizer": {"SGD": {"learning_rate": 0.01, "momentum": 0.9}}, "loss": "huber"},
    "batch_size": 50,
    "phases": [{"name": "main", "epochs": 20}],
}  # fmt: skip


def test_it_is_told_recorded_saved_and_replayed(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wide.py").write_text(ROWS)
    directory = recorded_run(tmp_path, "dropped", DROPPED)
    told = capsys.readouterr().out.replace("\n", " ")
    run = archive.read(directory)
    first, *_, last = run.attempts
    assert run.status == "passed"
    assert first.findings[0].cause == "heavy_dropout"
    assert (run.attempts[1].remedy, last.settings.dropout_cap) == ("lower_dropout", 0.0)
    assert "its Dropout layers leave out nothing" in " ".join(told.split())
    assert "lower_dropout" in told  # how much is told of it hangs on the width
    model = keras.models.load_model(directory / "model.keras")
    assert [each.rate for each in model.layers if hasattr(each, "rate")] == [0.0] * 4
    assert orchestrate(["show", str(directory)]) == 0
    assert orchestrate(["replay", str(directory), "--json", "--quiet"]) == 0
    out = capsys.readouterr().out
    assert json.loads(out[out.index("\n{") :] if "\n{" in out else out)["bits"]
