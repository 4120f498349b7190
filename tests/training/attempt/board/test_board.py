"""What TensorBoard is given of an attempt agrees with its record."""

import itertools
import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from tensorboard.plugins.hparams import api_pb2

from orchestrator.data import load as data
from orchestrator.record.checks import DeadNeuronsCheck, PredictionVarianceCheck
from orchestrator.record.events import EpochEnded, PhaseEnded
from orchestrator.record.records import Settings
from orchestrator.record.storage.directory import Place
from orchestrator.training.attempt import attempt as training
from orchestrator.training.attempt.task import Begun, Task
from tests import events
from tests.conftest import MakeConfig

CAPPED = Settings(seed=3, learning_rate_cap=0.05)
CONFIG: dict[str, Any] = {
    "tensorboard": True,
    "data": {"train": {"callable": "rows:line"}, "validation": {"fraction": 0.25}},
    "model": {
        "layers": [{"Dense": {"units": 8, "activation": "relu"}}, {"Dense": {"units": 1}}],
    },
    "phases": [{"name": "one", "epochs": 2}, {"name": "two", "epochs": 2}],
    "checkpoint_seconds": 0,
}


def task(config: Any, directory: Path, begun: Begun | None = None) -> Task:
    return Task(
        config=config,
        settings=CAPPED,
        attempt=2,
        remedy="lower_learning_rate",
        directory=directory,
        fingerprint=None,
        begun=begun,
    )


def test_the_files_say_what_the_record_says(make_config: MakeConfig, tmp_path: Path) -> None:
    config, told = make_config(**CONFIG), list[Any]()
    training.train(task(config, tmp_path), told.append)
    epochs = [each for each in told if isinstance(each, EpochEnded)]
    phases = [each.phase for each in told if isinstance(each, PhaseEnded)]
    board = tmp_path / "tensorboard" / "lower_learning_rate"

    for folder, name in (("train", "loss"), ("validation", "val_loss")):
        found = events.scalars(board / folder)["epoch_loss"]
        assert found == [(e, pytest.approx(each.metrics[name])) for e, each in enumerate(epochs)]
    histograms = events.tags(events.read(board / "train"), "histograms")
    weights = {tuple(tag.split("/")[1:3]) for tag in histograms}
    assert weights == {*itertools.product(("dense", "dense_1"), ("kernel", "bias"))}

    found = events.scalars(board)
    dead, worth = phases[-1].find(DeadNeuronsCheck), phases[-1].find(PredictionVarianceCheck)
    assert dead is not None
    assert worth is not None
    (layer,) = dead.measured.layers
    share = pytest.approx(layer.dead / layer.units)
    assert [step for step, _ in found["dead_share/dense"]] == [0, 1, 2, 3]
    assert found["dead_share/dense"][-1] == (3, share)
    for name in ("silent_units", "gradient_norm", "update_ratio"):
        assert [step for step, _ in found[f"{name}/dense_1"]] == [0, 1, 2, 3]
    assert found["silent_units/dense_1"][-1] == (3, 0.0)
    assert [step for step, _ in found["checks/skill"]] == [1, 3]
    assert found["checks/skill"][-1] == (3, pytest.approx(worth.measured.outputs[0].skill))
    assert found["checks/dead_share"][-1] == (3, share)

    texts = events.texts(board)
    assert [*texts] == ["verdicts/00-init", "verdicts/01-one", "verdicts/02-two"]
    for check in phases[-1].checks:
        ((step, text),) = texts["verdicts/02-two"]
        assert step == 3
        assert f"| {check.check} | **{check.verdict}** | {check.reason} |" in text

    told = events.hyperparameters(board)
    start = told["_hparams_/session_start_info"].session_start_info
    assert start.group_name == "002-lower_learning_rate"
    assert start.hparams["remedy"].string_value == "lower_learning_rate"
    assert start.hparams["change"].string_value == "learning rate at most 0.05"
    assert start.hparams["learning_rate_cap"].number_value == 0.05
    assert start.hparams["seed"].string_value == "3"
    ended = told["_hparams_/session_end_info"].session_end_info
    assert ended.status == api_pb2.STATUS_SUCCESS
    for metric in told["_hparams_/experiment"].experiment.metric_infos:
        assert metric.name.tag in events.scalars(board / metric.name.group)

    # Pre-activations of the network as it was saved, on the rows that it trained on.
    model = keras.models.load_model(tmp_path / "checkpoint.keras")
    rows = data.load(config).train
    kernel, bias = model.layers[0].get_weights()
    before = rows.first(len(rows))[0] @ kernel + bias
    assert found["pre_activation_lowest/dense"][-1] == (3, pytest.approx(before.min(), rel=1e-5))
    assert found["pre_activation_highest/dense"][-1] == (3, pytest.approx(before.max(), rel=1e-5))
    assert np.mean((before <= 0).all(axis=0)) == share


def test_an_attempt_that_goes_on_writes_every_point_once(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    config, told = make_config(**CONFIG), list[Any]()
    whole = tmp_path / "whole"
    whole.mkdir()
    training.train(task(config, whole), told.append)
    phases = [each.phase for each in told if isinstance(each, PhaseEnded)]
    before = _points(whole)
    for finished, epoch in ((1, 1), (2, 2), (0, 0)):
        directory = Path(shutil.copytree(whole, tmp_path / f"{finished}"))
        begun = Begun(restarts=1, place=Place(finished, epoch), phases=tuple(phases[:finished]))
        if epoch == 0:
            for path in directory.glob(".snapshot-*"):
                path.unlink()
        training.train(task(config, directory, begun), told.append)
        assert _points(directory) == before, (finished, epoch)


def _points(directory: Path) -> list[Any]:
    """All scalars and texts of its files."""
    board = directory / "tensorboard" / "lower_learning_rate"
    return [
        (events.scalars(board / name), events.texts(board / name))
        for name in ("", "train", "validation")
    ]


def test_nothing_is_written_where_it_is_not_asked_for(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    training.train(task(make_config(), tmp_path), [].append)
    assert not (tmp_path / "tensorboard").exists()
