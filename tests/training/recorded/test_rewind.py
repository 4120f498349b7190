"""An attempt that goes on from a healthy epoch of another, for real."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.app import execute as orchestrate
from orchestrator.record.records import Run, Start
from orchestrator.record.storage import archive
from tests import events
from tests.conftest import LINE, recorded_run

pytestmark = pytest.mark.usefixtures("_module_in_this_process")
Capture = pytest.CaptureFixture[str]

SHOCKED: dict[str, Any] = {
    **LINE,
    "tensorboard": True,
    "model": {
        "layers": [
            {"Dense": {"units": 8, "activation": "relu"}},
            {"Dropout": {"rate": 0.1}},
            {"Dense": {"units": 8, "activation": "relu"}},
            {"Dense": {"units": 1}},
        ]
    },
    "phases": [
        {"name": "before", "epochs": 8},
        {"name": "shock", "epochs": 2, "learning_rate": 100.0},
        {"name": "after", "epochs": 4},
    ],
    "restart": {
        "policy": [{"remedy": "lower_learning_rate", "factor": "auto", "rewind": True}],
    },
}


@pytest.fixture(scope="module")
def shocked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose second attempt goes back to before the shock."""
    return recorded_run(tmp_path_factory.mktemp("shocked"), "shocked", SHOCKED)


def _epochs(directory: Path, attempt: int) -> list[dict[str, str]]:
    with (directory / f"attempts/{attempt:03d}/epochs.csv").open() as file:
        return [*csv.DictReader(file)]


def _weights(run: Run) -> list[str | None]:
    return [phase.weights for phase in run.attempts[1].phases]


def test_tensorboard_shows_each_attempt_under_its_remedy(shocked: Path) -> None:
    """The second goes on from a state of the first, and writes nothing into its files."""
    run = archive.read(shocked)
    assert run.attempts[1].start is not None
    begins = (0, run.attempts[1].start.epoch)
    folders = sorted((shocked / "attempts").glob("*/tensorboard/*"))
    assert [folder.name for folder in folders] == ["as_configured", "lower_learning_rate"]
    for folder, attempt, first in zip(folders, run.attempts, begins, strict=True):
        planned = sum(phase.epochs for phase in attempt.phases)
        for name, tag in (("train", "epoch_loss"), ("", "dead_share/dense")):
            steps = [step for step, _ in events.scalars(folder / name)[tag]]
            assert steps == [*range(first, planned)]


def test_it_goes_back_to_before_the_shock(shocked: Path) -> None:
    run = archive.read(shocked)
    first, second = run.attempts
    assert first.failure is not None
    assert first.failure.phase in ("shock", "after")  # which of them hangs on the processor
    assert second.start is not None
    assert second.start.attempt == 1
    assert 5 <= second.start.epoch <= 8  # that of the lowest loss
    assert second.trained == 14 - second.start.epoch
    assert [phase.phase for phase in second.phases] == ["init", "before", "shock", "after"]
    assert second.phases[0] == first.phases[0]
    # Its files tell all of its epochs, those that it shares among them.
    shared = _epochs(shocked, 1)[: second.start.epoch]
    found = _epochs(shocked, 2)
    assert found[: second.start.epoch] == shared
    assert [int(row["epoch"]) for row in found] == [*range(1, 15)]
    assert len(sorted((shocked / "attempts/002/checks").iterdir())) == 4
    assert any("phase shock ran at a rate of at most" in each for each in run.warnings)


def test_a_state_that_is_gone_is_trained_again_to_the_same_bits(
    shocked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    before = sorted(shocked.rglob("*"))
    monkeypatch.chdir(tmp_path)
    assert not [*shocked.glob("attempts/*/.snapshot-*")]
    assert orchestrate(["replay", f"{shocked}", "--json", "--quiet"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["attempt"], found["same"], found["bits"]) == (2, True, True)
    # What leads there writes nothing, neither here nor in the run.
    assert [*tmp_path.iterdir()] == []
    assert sorted(shocked.rglob("*")) == before


def test_it_resumes_from_where_it_began(shocked: Path, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(shocked, tmp_path / "runs" / shocked.name))
    lines = (directory / "journal.jsonl").read_bytes().splitlines(keepends=True)
    second = next(i for i, line in enumerate(lines) if b"attempt_started" in line and i > 5)
    # Killed when attempt 2 had begun, and had built nothing.
    (directory / "journal.jsonl").write_bytes(b"".join(lines[: second + 1]))
    (directory / "run.json").unlink()
    base = ["--base", str(shocked.parent.parent)]
    assert orchestrate(["resume", str(directory), *base, "--quiet"]) == 0
    assert b"run_resumed" in (directory / "journal.jsonl").read_bytes()
    run, whole = archive.read(directory), archive.read(shocked)
    assert _weights(run) == _weights(whole)
    assert run.attempts[1].start == whole.attempts[1].start != Start(attempt=2, epoch=1)
    assert _epochs(directory, 2) == _epochs(shocked, 2)
