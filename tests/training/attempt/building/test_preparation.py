"""What is warned of before a run, in as few lines as there are things to say."""

import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from orchestrator.data.rows import Rows, Tree
from orchestrator.diagnosis.tracing import probe
from orchestrator.errors import InvalidError
from orchestrator.model.build import build_model
from orchestrator.model.outputs import find_outputs
from orchestrator.record.records import Settings
from orchestrator.training.attempt.building import preparation, user_callbacks
from tests import builders
from tests.conftest import MakeConfig

SUFFIX = ": a constant is the best fit"


def model(names: dict[str, int], loss: Any = "mse") -> keras.Model:
    inputs = keras.Input((2,))
    outputs = {name: keras.layers.Dense(width, name=name)(inputs) for name, width in names.items()}
    built = keras.Model(inputs, outputs if len(outputs) > 1 else list(outputs.values())[0])
    built.compile("adam", loss)
    return built


@pytest.mark.parametrize(
    ("y", "warnings"),
    [
        (np.zeros(5), ["the target is 0 on every training row" + SUFFIX]),
        (np.eye(5)[:, :3], []),
        (np.eye(5, 3)[:, [0, 1]] * [1, 0], ["target 1 is 0 on every training row" + SUFFIX]),
        (
            np.eye(5, 4000)[:, ::-1],
            [
                "3,995 of the 4,000 targets are each 0 on every training row, the first of them "
                "target 0: a constant is the best fit to them"
            ],
        ),
        (
            {"a": np.arange(5.0), "b": np.tile([1.0, 2.0], (5, 1))},
            [
                "2 of the 2 targets of output b are each the same on every training row, the first "
                "of them target 0: a constant is the best fit to them"
            ],
        ),
    ],
)
def test_constant_targets_are_one_line_an_output(y: Tree, warnings: list[str]) -> None:
    widths = (
        {name: np.atleast_2d(each.T).shape[0] for name, each in y.items()}
        if isinstance(y, dict)
        else {"out": np.atleast_2d(y.T).shape[0]}
    )
    rows = Rows(x=np.zeros((5, 2), np.float32), y=y)
    found = find_outputs(model(widths), builders.config(), rows)
    assert [*preparation._constant_targets(rows, found)] == warnings


def test_a_loss_of_ones_own_may_not_look_at_its_targets() -> None:
    def margin(_: Any, distance: Any) -> Any:
        return keras.ops.maximum(distance + 1, 0)

    rows = Rows(x=np.zeros((5, 2), np.float32), y=np.zeros(5))
    found = find_outputs(model({"out": 1}, margin), builders.config(), rows)
    assert [*preparation._constant_targets(rows, found)] == []


@pytest.mark.parametrize("name", ["stopped", "Idle"])
def test_a_loss_without_a_gradient_is_a_finding_and_no_fault_of_the_config(
    make_config: MakeConfig, name: str
) -> None:
    """Keras refuses it with "No gradients provided for any variable", which says less."""
    code = """
import keras

L = keras.layers

def stopped():
    stop = L.Lambda(keras.ops.stop_gradient)
    return keras.Sequential([keras.Input((2,)), L.Dense(1), stop])

class Idle(keras.Model):
    def __init__(self):
        super().__init__()
        self.unused = L.Dense(1)

    def call(self, x):
        self.unused(x)
        return x[:, :1] * 2.0
"""
    config = make_config(code, model={"factory": {"callable": f"rows:{name}"}})
    found, *_ = preparation.prepare(config, findings=True).findings  # certain ones first
    assert (found.cause, found.certain) == ("no_effect", True)
    assert preparation.prepare(config).findings == ()


def test_how_far_the_pass_over_the_rows_has_come_is_told(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that is silent for long counts as hung."""
    monkeypatch.setattr(probe, "_REPORT_SECONDS", 0.0)
    told: list[str] = []
    preparation.prepare(make_config(), tell=told.append)
    assert "running every row through the model: 1 of 1 batches" in told


def test_steps_are_traced_once_for_each_of_training_and_validation(
    make_config: MakeConfig,
) -> None:
    """Python calls the loss whenever Keras traces a step, which takes most of a preparation."""
    code = """
import keras

calls = []

def squares(y, predicted):
    calls.append(None)
    return keras.ops.square(predicted - y)

def build():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", squares)
    return model
"""
    config = make_config(
        code,
        model={"factory": {"callable": "rows:build"}},
        compile=None,
        data={"train": {"callable": "rows:line"}, "validation": {"fraction": 0.25}},
    )
    dataset = preparation.load(config)
    model = build_model(config, Settings(seed=0), dataset.train)
    calls = sys.modules["rows"].calls
    built = len(calls)
    preparation.try_step(config, model, dataset)
    assert len(calls) == built + 1  # in a training step: that of validation was built with


def test_functions_of_callbacks_are_given_by_reference(make_config: MakeConfig) -> None:
    code = """
told = []

def rate(epoch):
    return 0.5 ** epoch

def tell(epoch, logs):
    told.append(epoch)
"""
    schedule = {"LearningRateScheduler": {"schedule": "rows:rate"}}
    config = make_config(
        code, fit={"callbacks": [schedule, {"LambdaCallback": {"on_epoch_end": "rows:tell"}}]}
    )
    scheduler, teller = user_callbacks.make(config)
    teller.on_epoch_end(3, {})
    assert (scheduler.schedule(2), sys.modules["rows"].told) == (0.25, [3])
    missing = {"LearningRateScheduler": {"schedule": "rows:rat"}}
    config = make_config(code, fit={"callbacks": [missing]})
    with pytest.raises(InvalidError, match="callbacks.0.schedule: rows has no 'rat'; did you mean"):
        user_callbacks.make(config)


LOGGING = """
import keras

class F1(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        logs["val_f1"] = 0.9
"""
PLATEAU = {"ReduceLROnPlateau": {"monitor": "loss"}}


@pytest.mark.parametrize(
    ("callback", "name", "warned"),
    [
        ("rows:F1", "val_f1", True),
        (PLATEAU, "learning_rate", True),
        (PLATEAU, "val_f1", False),
        ("TerminateOnNaN", "learning_rate", False),
    ],
)
def test_a_gate_on_what_a_callback_may_log_is_a_warning(
    make_config: MakeConfig, callback: Any, name: str, warned: bool
) -> None:
    gate = {"metric": {"name": name, "min": 0.0}}
    config = make_config(LOGGING, fit={"callbacks": [callback]}, checks=gate)
    if warned:
        told = preparation.prepare(config).warnings
        assert any(f"Keras itself logs no {name!r}" in each for each in told)
    else:
        with pytest.raises(InvalidError, match=f"Keras logs no {name!r}"):
            preparation.prepare(config)


SCHEDULE = {"CosineDecay": {"initial_learning_rate": 0.01, "decay_steps": 30}}


def test_callbacks_that_undo_a_resumption_or_set_the_rate_of_a_schedule_are_refused(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    code = """
import keras

class Own(keras.callbacks.BackupAndRestore):
    pass
"""
    backup = {"backup_dir": str(tmp_path / "backup")}
    callbacks = ["TerminateOnNaN", {"BackupAndRestore": backup}, {"rows:Own": backup}, PLATEAU]
    optimizer = {"SGD": {"learning_rate": SCHEDULE}}
    compiled = {"optimizer": optimizer, "loss": "mse"}
    config = make_config(code, fit={"callbacks": callbacks}, compile=compiled)
    with pytest.raises(InvalidError) as caught:
        preparation.prepare(config)
    told = [(each.key, each.message.split()[0]) for each in caught.value.problems]
    assert told == [
        ("fit.callbacks.1", "BackupAndRestore"),
        ("fit.callbacks.2", "Own"),
        ("fit.callbacks.3", "ReduceLROnPlateau"),
    ]
