"""An attempt notes when its units fell silent or its weights were lost, also after a restart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.record.checks import DeadNeuronsCheck
from orchestrator.record.directory import AttemptPaths
from orchestrator.record.events import PhaseEnded, Warned
from orchestrator.record.records import Phase, Settings
from orchestrator.training.attempt import attempt as training
from orchestrator.training.attempt.task import Begun, Task
from tests.conftest import MakeConfig

_LAYERS = [
    {"Dense": {"units": 8}},
    {"Activation": {"activation": "relu"}},
    {"Dense": {"units": 1}},
]
_PHASES = [
    {"name": "calm", "epochs": 2},
    {"name": "shock", "epochs": 3, "learning_rate": 2.0},
]


def _train(task: Task) -> list[Phase]:
    events: list[Any] = []
    training.train(task, events.append)
    return [event.phase for event in events if isinstance(event, PhaseEnded)]


def test_the_record_says_when_the_units_fell_silent(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config(
        model={"layers": _LAYERS},
        compile={"optimizer": {"Adam": {"learning_rate": 0.01}}, "loss": "mse"},
        phases=_PHASES,
        checkpoint_seconds=0,
    )
    task = Task(
        config=config,
        settings=Settings(seed=0),
        attempt=1,
        directory=tmp_path / "one",
        fingerprint=None,
    )
    task.directory.mkdir()
    init, calm, shock = _train(task)
    assert init.lost is None
    assert calm.lost is None
    assert shock.lost is not None
    assert (shock.lost.layer, shock.lost.units) == ("activation", 8)
    assert shock.lost.epoch > 2  # in the phase whose rate kills
    assert (shock.lost.learning_rate, shock.lost.first) == (2.0, shock.lost.epoch == 3)
    assert (shock.lost.moved or 0.0) > 0.1
    found = shock.find(DeadNeuronsCheck)
    assert found is not None
    (layer,) = found.measured.layers
    assert layer.silent_after is not None
    assert len(layer.silent_after) == layer.dead >= 3
    assert layer.silent_after.count(shock.lost.epoch) == shock.lost.lost
    # From a snapshot in the middle it comes to the same record.
    place, _ = AttemptPaths(task.directory).snapshots()[-1]
    begun = Begun(restarts=1, place=place, phases=(init, calm)[: place.phases])
    *_, again = _train(
        Task(
            config=config,
            settings=Settings(seed=0),
            attempt=1,
            directory=task.directory,
            fingerprint=None,
            begun=begun,
        )
    )
    assert (again.lost, again.weights) == (shock.lost, shock.weights)
    assert again.find(DeadNeuronsCheck) == found


@pytest.mark.parametrize("live", [False, True])
def test_an_attempt_ends_soon_after_its_weights_are_lost(
    make_config: MakeConfig, tmp_path: Path, live: bool
) -> None:
    code = """
def batches():
    x, y = line(200)
    for row in range(200):
        yield x[row:row + 1], y[row:row + 1]
"""
    rows = {"callable": "rows:batches"}
    whole = {"callable": "rows:line", "kwargs": {"count": 200}}
    config = make_config(
        code,
        data={"train": rows if live else whole},
        batch_size=1,
        compile={"optimizer": {"SGD": {"learning_rate": 1e20}}, "loss": "mse"},
        phases=[{"name": "main", "epochs": 4}],
    )
    task = Task(
        config=config,
        settings=Settings(seed=0),
        attempt=1,
        directory=tmp_path,
        fingerprint=None,
    )
    events: list[Any] = []
    training.train(task, events.append)
    last = [event.phase for event in events if isinstance(event, PhaseEnded)][-1]
    assert (last.phase, last.epochs) == ("main", 1)
    failure = last.failure()
    assert failure is not None
    assert failure.check == "finite"
    told = [event.message for event in events if isinstance(event, Warned)]
    assert "a weight has turned NaN or infinite between steps 1 and 64 of epoch 1" in told[-1]
