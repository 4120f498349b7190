"""BatchNorm's moving statistics, brought to where they belong."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from orchestrator.data.rows import Rows
from orchestrator.diagnosis.examine import Examination
from orchestrator.record.events import PhaseEnded, Warned
from orchestrator.record.records import Phase, Settings
from orchestrator.training.attempt import attempt as training
from orchestrator.training.attempt.checking import moving_statistics
from orchestrator.training.attempt.task import Task
from tests import builders
from tests.conftest import MakeConfig

layers = keras.layers

ROWS = """
import numpy as np

def far(count=64):
    x = np.random.default_rng(0).normal(60, 10, (count, 2))
    return x, x[:, 0] - 60
"""


def network() -> keras.Model:
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            layers.Input((2,)),
            layers.BatchNormalization(),
            layers.Dropout(0.5),
            layers.Dense(3),
            layers.BatchNormalization(),
        ]
    )


def passed(model: keras.Model, rows: Rows) -> list[np.ndarray]:
    norms = [model.layers[0], model.layers[3]]
    moving_statistics.pass_rows(model, norms, rows, 8, seed=3)
    assert [each.momentum for each in norms] == [0.99, 0.99]
    return [each.numpy() for each in model.variables]


def test_a_pass_settles_the_moving_statistics_and_changes_nothing_else() -> None:
    x = np.random.default_rng(0).normal(60, 10, (24, 2)).astype(np.float32)
    rows, model = Rows(x=x, y=np.zeros(24)), network()
    before = {each.path: each.numpy() for each in model.variables}
    assert any("seed_generator" in path for path in before)
    first = passed(model, rows)
    assert model.layers[0].moving_mean.numpy() == pytest.approx(x.mean(axis=0), rel=1e-5)
    for variable in model.variables:
        if "moving" not in variable.path:
            assert np.array_equal(variable.numpy(), before[variable.path])
    # To the same bits again, as a run that is resumed or replayed needs it.
    for one, other in zip(first, passed(network(), rows), strict=True):
        assert np.array_equal(one, other)


def test_rows_beyond_the_last_whole_batch_are_left_out() -> None:
    x = np.random.default_rng(0).normal(60, 10, (9, 2)).astype(np.float32)
    model = network()
    passed(model, Rows(x=x, y=np.zeros(9)))
    one_less = [np.delete(x, row, axis=0).mean(axis=0) for row in range(9)]
    assert any(np.allclose(model.layers[0].moving_mean.numpy(), each) for each in one_less)


def test_a_pass_that_takes_long_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that is silent for long counts as hung."""
    monkeypatch.setattr(moving_statistics, "_REPORT_SECONDS", 0.0)
    told: list[str] = []
    model, rows = network(), Rows(x=np.ones((24, 2), np.float32), y=np.zeros(24))
    moving_statistics.pass_rows(model, [model.layers[0]], rows, 8, 3, told.append)
    assert told == ["1 batches", "2 batches", "3 batches"]


def trained(make_config: MakeConfig, tmp_path: Path, **more: Any) -> tuple[Phase, list[Any]]:
    (tmp_path / "far_rows.py").write_text(ROWS)
    norm = {"BatchNormalization": {"momentum": 0.999}}
    config = make_config(
        data={"train": {"callable": "far_rows:far"}},
        model={"layers": [norm, {"Dense": {"units": 1}}]},
        compile={"optimizer": {"Adam": {"learning_rate": 0.3}}, "loss": "mse"},
        batch_size=8,
        phases=[{"name": "main", "epochs": 20}],
        **more,
    )
    directory = tmp_path / "attempt"
    directory.mkdir()
    events: list[Any] = []
    settings = Settings(seed=config.seed)
    task = Task(config=config, settings=settings, attempt=1, directory=directory, fingerprint=None)
    training.train(task, events.append)
    return [event.phase for event in events if isinstance(event, PhaseEnded)][-1], events


def test_an_attempt_whose_statistics_lag_goes_on_with_settled_ones(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    phase, events = trained(make_config, tmp_path)
    assert (phase.settled, phase.failure()) == (True, None)
    skill = phase.skill()
    assert skill is not None
    assert skill > 0.9
    (told,) = [event.message for event in events if isinstance(event, Warned)]
    assert "were settled by a forward pass over the training rows" in told
    assert "write a lower momentum, or train for more steps" in told


def test_statistics_that_are_not_alone_to_blame_are_left_as_they_are(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    gate = {"metric": {"name": "loss", "max": 1e-12}}
    phase, events = trained(make_config, tmp_path, checks=gate)
    skill = phase.skill()
    assert skill is not None
    assert (phase.settled, skill < 0.9) == (False, True)
    assert not [event for event in events if isinstance(event, Warned)]


@pytest.mark.parametrize(
    ("verdict", "share", "batch", "lags"),
    [
        ("warn", 0.67, 0.94, True),
        ("pass", 0.9, 0.94, False),
        ("warn", 0.9, 0.94, False),
        # Little is lost by them, with which it would pass, or would not.
        ("warn", 0.76, 0.82, True),
        ("warn", 0.74, 0.79, False),
        ("fail", 0.45, 0.6, False),
    ],
)
def test_what_falls_short_by_lagging_statistics_is_settled_too(
    verdict: str, share: float, batch: float, lags: bool
) -> None:
    worth = {"output": 0, "skill": share, "skill_with_batch_statistics": batch}
    learnt = {"output": 0, "share": share, "skill": share, "reference": 1.0}
    checks = (
        builders.made("prediction_variance", measured={"outputs": [worth]}),
        builders.made(
            "learned",
            verdict=verdict,
            measured={"outputs": [learnt]},
            limits={"fail_below": 0.5, "warn_below": 0.8},
        ),
    )
    assert moving_statistics.lag(Examination(checks=checks)) == ((share, batch) if lags else None)
