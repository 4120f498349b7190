"""An attempt notes when its units fell silent or its weights were lost, also after a restart."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config.schema import Config
from orchestrator.record.checks import DeadNeuronsCheck, FiniteCheck
from orchestrator.record.events import PhaseEnded, Warned
from orchestrator.record.records import Phase, Settings
from orchestrator.record.storage.directory import AttemptPaths
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


def _task(config: Config, directory: Path, *, seed: int = 0) -> Task:
    return Task(
        config=config,
        settings=Settings(seed=seed),
        attempt=1,
        directory=directory,
        fingerprint=None,
    )


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
    task = _task(config, tmp_path / "one")
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


_OUTLIER = """
def outlier():
    x, y = line(1200)
    x[637] = 1e30
    return x, y

def batches():
    x, y = outlier()
    for row in range(0, 1200, 2):
        yield x[row:row + 2], y[row:row + 2]
"""


@pytest.mark.parametrize(
    ("live", "execution", "batch"), [(False, 1, 2), (False, 8, 2), (False, 1, 48), (True, 1, 2)]
)
def test_an_attempt_ends_soon_after_its_weights_are_lost_and_names_the_rows(
    make_config: MakeConfig, tmp_path: Path, live: bool, execution: int, batch: int
) -> None:
    """One row of 1,200 breaks them, and the epoch has many steps, or few."""
    config = make_config(
        _OUTLIER,
        data={"train": {"callable": "rows:batches" if live else "rows:outlier"}},
        model={"layers": [*_LAYERS[:2], {"Dropout": {"rate": 0.5}}, _LAYERS[2]]},
        batch_size=batch,
        compile={
            "optimizer": {"Adam": {"learning_rate": 0.01}},
            "loss": "mse",
            "steps_per_execution": execution,
        },
        phases=[{"name": "main", "epochs": 4}],
        checks={"findings": "off"},
    )
    task = _task(config, tmp_path, seed=1)
    last = _train(task)[-1]
    assert (last.phase, last.epochs) == ("main", 1)
    failure, check = last.failure(), last.find(FiniteCheck)
    assert failure is not None and failure.check == "finite"
    assert check is not None and check.measured.broken is not None
    broken = check.measured.broken
    assert failure.reason.endswith(f", {broken.told}")
    if live:  # its batches do not come again
        assert (broken.first, broken.last, broken.rows) == (257, 320, ())
        assert broken.told == "since one of the steps 257 to 320 of epoch 1"
        return
    assert broken.last == broken.first + execution - 1
    assert len(broken.rows) == execution * batch
    assert 637 in broken.rows
    place = broken.rows.index(637)
    rows = ", ".join(map(str, broken.rows[:5]))
    assert f"of epoch 1, on training rows {rows}" in broken.told
    assert place // batch < execution


_KILLER = """
import keras

class Killer(keras.callbacks.Callback):
    def __init__(self, value):
        super().__init__()
        self.value = value

    def on_train_batch_end(self, batch, logs=None):
        if batch + 1 == 150:
            self.model.layers[0].bias.assign([self.value] * 8)
"""


def test_an_epoch_ends_where_its_layers_have_died(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(
        _KILLER,
        data={"train": {"callable": "rows:line", "kwargs": {"count": 1000}}},
        model={"layers": _LAYERS},
        batch_size=1,
        compile={"optimizer": {"SGD": {"learning_rate": 0.01}}, "loss": "mse"},
        phases=[{"name": "main", "epochs": 1}],
        fit={"callbacks": [{"rows:Killer": {"value": -1e6}}]},
    )
    task = _task(config, tmp_path)
    events: list[Any] = []
    training.train(task, events.append)
    last = [event.phase for event in events if isinstance(event, PhaseEnded)][-1]
    failure = last.failure()
    assert failure is not None and failure.check == "dead_neurons"
    # The run of steps in which they died has had gradients before; the next has none.
    (told,) = [event.message for event in events if isinstance(event, Warned)]
    assert re.fullmatch(
        r"nothing has come back to dense(_\d+)? in steps 193 to 256 of epoch 1, which ends there: "
        r"layer .* is entirely dead .*",
        told,
    )


def test_weights_that_a_callback_has_broken_stay_broken(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    """The steps that are trained again do not repeat it, so that only the run of steps is known."""
    config = make_config(
        _KILLER,
        data={"train": {"callable": "rows:line", "kwargs": {"count": 300}}},
        model={"layers": _LAYERS},
        batch_size=1,
        phases=[{"name": "main", "epochs": 1}],
        fit={"callbacks": [{"rows:Killer": {"value": math.nan}}]},
    )
    task = _task(config, tmp_path)
    last = _train(task)[-1]
    failure, check = last.failure(), last.find(FiniteCheck)
    assert failure is not None and failure.check == "finite"
    assert check is not None and check.measured.broken is not None
    assert (check.measured.broken.first, check.measured.broken.last) == (129, 192)
    assert check.measured.broken.rows == ()
