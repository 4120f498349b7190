"""One attempt from start to end, in this process."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from orchestrator.config.schema import Config
from orchestrator.data import load as data
from orchestrator.data.rows import Rows
from orchestrator.errors import InvalidError, UserCodeError
from orchestrator.model import saving
from orchestrator.model.build import build_model
from orchestrator.record.checks import PredictionVarianceCheck
from orchestrator.record.events import (
    CausesFound,
    EpochEnded,
    Event,
    Heartbeat,
    ModelBuilt,
    PhaseEnded,
    PhaseStarted,
    Preview,
    SeedsScreened,
)
from orchestrator.record.records import Phase, Settings
from orchestrator.training.attempt import attempt as training
from orchestrator.training.attempt.building import preparation
from orchestrator.training.attempt.task import Task
from tests.conftest import MakeConfig

Train = Callable[..., list[Event]]


@pytest.fixture
def train(tmp_path: Path) -> Train:
    def run(
        config: Config,
        settings: Settings | None = None,
        name: str = "1",
        seeds: tuple[int, ...] = (),
    ) -> list[Event]:
        directory = tmp_path / name
        directory.mkdir()
        task = Task(
            config=config,
            settings=settings or Settings(seed=config.seed),
            seeds=seeds,
            attempt=1,
            directory=directory,
            fingerprint=None,
        )
        events: list[Any] = []
        training.train(task, events.append)
        return [event for event in events if not isinstance(event, Heartbeat)]

    return run


def phases(events: list[Event]) -> list[Phase]:
    return [event.phase for event in events if isinstance(event, PhaseEnded)]


def verdicts(phase: Phase) -> dict[str, str]:
    return {check.check: check.verdict for check in phase.checks}


DEAD = [
    # Born dead: relu of something below zero on every row.
    {"Dense": {"units": 3, "activation": "relu", "kernel_initializer": "zeros",
               "bias_initializer": {"Constant": {"value": -1.0}}}},
    {"Dense": {"units": 1}},
]  # fmt: skip


def worth(phase: Phase) -> PredictionVarianceCheck:
    """What its predictions are worth."""
    found = phase.find(PredictionVarianceCheck)
    assert found is not None
    return found


def test_the_events_tell_the_attempt_in_order(make_config: MakeConfig, train: Train) -> None:
    config = make_config(
        phases=[{"name": "one", "epochs": 2}, {"name": "two", "epochs": 1, "learning_rate": 0.001}],
        data={"train": {"callable": "rows:line"}, "validation": {"fraction": 0.25}},
        compile={"optimizer": {"Adam": {"learning_rate": 0.25}}, "loss": "mse", "metrics": ["mae"]},
        batch_size=4,
    )
    events = train(config)
    kinds = [ModelBuilt, PhaseEnded, PhaseStarted, EpochEnded, EpochEnded, PhaseEnded]
    assert [type(event) for event in events] == [*kinds, PhaseStarted, EpochEnded, PhaseEnded]
    epochs = [event for event in events if isinstance(event, EpochEnded)]
    assert [(each.phase, each.epoch) for each in epochs] == [("one", 1), ("one", 2), ("two", 3)]
    assert [each.learning_rate for each in epochs] == pytest.approx([0.25, 0.25, 0.001])
    assert epochs[0].metrics.keys() == {"loss", "mae", "val_loss", "val_mae"}
    last = phases(events)[-1]
    assert last.metrics == epochs[-1].metrics
    few = {"learned": "not_applicable"}
    assert verdicts(last) == {check.check: "pass" for check in last.checks} | few
    validation = worth(last).measured.validation[0]
    assert validation.loss == pytest.approx(last.metrics["val_loss"], rel=1e-5)


def test_dead_units_are_previewed_between_checks(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(phases=[{"name": "main", "epochs": 3}])
    settings = Settings(seed=config.seed)
    task = Task(config=config, settings=settings, attempt=1, directory=tmp_path, fingerprint=None)
    events: list[Any] = []
    training.train(task, events.append)
    found = [event for event in events if isinstance(event, Preview)]
    assert len(found) == 2  # after the last epoch comes the check
    assert found[0].rows == 64
    assert [layer.units for layer in found[0].layers] == [4]


def test_the_same_task_gives_the_same_numbers(make_config: MakeConfig, train: Train) -> None:
    dropout = [{"Dense": {"units": 4, "activation": "relu"}}, {"Dropout": {"rate": 0.5}}]
    config = make_config(
        model={"layers": [*dropout, {"Dense": {"units": 1}}]}, phases=[{"name": "a", "epochs": 3}]
    )
    first, again = (phases(train(config, name=name))[-1] for name in ("1", "2"))
    assert first.metrics == again.metrics
    assert first.weights == again.weights
    other = phases(train(config, Settings(seed=1), name="3"))[-1]
    assert other.metrics != first.metrics
    assert other.weights != first.weights


def test_the_weights_at_the_end_of_each_phase_are_told_by_their_digest(
    make_config: MakeConfig, train: Train, tmp_path: Path
) -> None:
    config = make_config(phases=[{"name": "one", "epochs": 1}, {"name": "two", "epochs": 1}])
    found = phases(train(config))
    fresh = build_model(config, Settings(seed=config.seed), data.load(config).train)
    saved = keras.models.load_model(tmp_path / "1" / "checkpoint.keras")
    assert found[0].weights == saving.digest(fresh.get_weights())
    assert found[-1].weights == saving.digest(saved.get_weights())
    assert len({phase.weights for phase in found}) == 3


@pytest.mark.parametrize("until", ["init", "one"])
def test_an_attempt_may_end_before_its_last_phase(
    make_config: MakeConfig, tmp_path: Path, until: str
) -> None:
    config = make_config(phases=[{"name": "one", "epochs": 1}, {"name": "two", "epochs": 1}])
    events: list[Any] = []
    task = Task(
        config=config,
        settings=Settings(seed=config.seed),
        attempt=1,
        directory=tmp_path,
        fingerprint=None,
        until=until,
    )
    training.train(task, events.append)
    assert phases(events)[-1].phase == until
    assert not (tmp_path / ".model.keras").exists()


def test_the_rows_to_check_are_drawn_once(
    make_config: MakeConfig, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    take = Rows.take

    def counted(rows: Rows, chosen: Any) -> Rows:
        drawn.append(chosen)
        return take(rows, chosen)

    monkeypatch.setattr(Rows, "take", counted)
    config = make_config(
        phases=[{"name": "one", "epochs": 3}, {"name": "two", "epochs": 3}],
        checks={"dead_neurons": {"rows": 20}},
    )
    train(config, seeds=(7, 8))  # screened, looked at after epochs, and checked after phases
    (chosen,) = drawn
    assert len(set(chosen.tolist())) == 20


def test_every_row_is_trained_on_once_an_epoch(make_config: MakeConfig, train: Train) -> None:
    code = """
import keras, json, pathlib
class Seen(keras.Model):
    def train_step(self, data):
        import tensorflow as tf
        tf.py_function(lambda x: seen.extend(x.numpy().ravel().tolist()), [data[0]], [])
        return super().train_step(data)
seen = []
def build():
    inputs = keras.Input((1,))
    return Seen(inputs, keras.layers.Dense(1)(inputs))
def numbers():
    return np.arange(37.0).reshape(37, 1), np.arange(37.0)
"""
    config = make_config(
        code,
        data={"train": {"callable": "rows:numbers"}},
        model={"factory": {"callable": "rows:build"}},
        compile={"optimizer": {"SGD": {"learning_rate": 1e-6}}, "loss": "mse"},
        batch_size=8,
        phases=[{"name": "a", "epochs": 2}],
        checks={"prediction_variance": "off"},
    )
    train(config)
    import rows  # type: ignore[import-not-found]  # written by the fixture

    one, two = np.array(rows.seen).reshape(2, 37).tolist()
    assert sorted(one) == sorted(two) == list(range(37))
    assert one != two


def test_a_network_born_dead_is_never_trained(make_config: MakeConfig, train: Train) -> None:
    events = train(make_config(model={"layers": DEAD}, phases=[{"name": "main", "epochs": 20}]))
    (init,) = phases(events)
    assert init.phase == "init"
    assert verdicts(init) == {
        "finite": "pass", "findings": "pass", "dead_neurons": "fail", "prediction_variance": "warn",
    }  # fmt: skip
    assert "layer dense" in init.checks[2].reason
    assert "3 of 3 units" in init.checks[2].reason
    assert [type(event) for event in events] == [ModelBuilt, PhaseEnded, CausesFound]


def test_an_attempt_that_dies_is_ended_at_the_end_of_the_epoch(
    make_config: MakeConfig, train: Train
) -> None:
    # With inputs near 0 the biases decide, and the first step takes them far below 0.
    code = "def up():\n    x, _ = line()\n    return x / 100, x[:, 0] - 100\n"
    config = make_config(
        code,
        data={"train": {"callable": "rows:up"}},
        model={
            "layers": [
                {"Dense": {"units": 2, "activation": "relu", "bias_initializer": "ones"}},
                {"Dense": {"units": 1, "kernel_initializer": "ones"}},
            ]
        },
        compile={"optimizer": {"SGD": {"learning_rate": 0.1}}, "loss": "mse"},
        phases=[{"name": "a", "epochs": 50}],
    )
    last = phases(train(config))[-1]
    assert last.epochs == 1
    assert verdicts(last)["dead_neurons"] == "fail"
    assert verdicts(last)["prediction_variance"] == "fail"


def test_nan_behind_relu_is_found_in_the_weights(make_config: MakeConfig, train: Train) -> None:
    """Relu maps NaN to 0 on a CPU, so that losses and predictions stay finite."""
    code = """
import keras
def poison():
    class Poison(keras.callbacks.Callback):
        def on_train_end(self, logs=None):
            kernel, bias = self.model.layers[0].get_weights()
            self.model.layers[0].set_weights([kernel * np.nan, bias])
    return Poison()
"""
    last = phases(train(make_config(code, fit={"callbacks": ["rows:poison"]})))[-1]
    assert verdicts(last) == {
        "finite": "fail",
        "dead_neurons": "not_applicable",
        "prediction_variance": "not_applicable",
        "learned": "not_applicable",
    }
    assert "kernel has 8 of 8 values not finite" in last.checks[0].reason


def test_no_callback_decides_on_the_epoch_that_a_training_begins_with(
    make_config: MakeConfig, train: Train
) -> None:
    code = """
import keras
class Ahead(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        self.model._initial_epoch = 1
"""
    phases = [{"name": "main", "epochs": 2}]
    events = train(make_config(code, fit={"callbacks": ["rows:Ahead"]}, phases=phases))
    assert [event.epoch for event in events if isinstance(event, EpochEnded)] == [1, 2]


def test_a_loss_that_overflows_ends_the_attempt(make_config: MakeConfig, train: Train) -> None:
    config = make_config(
        data={"train": {"callable": "rows:line", "kwargs": {"slope": 1e6}}},
        compile={"optimizer": {"SGD": {"learning_rate": 1e6}}, "loss": "mse"},
        model={"layers": [{"Dense": {"units": 1}}]},
        phases=[{"name": "a", "epochs": 50}],
    )
    last = phases(train(config))[-1]
    assert verdicts(last)["finite"] == "fail"
    assert last.epochs < 5


def test_batch_normalisation_that_lags_is_a_warning_until_it_is_settled(
    make_config: MakeConfig, train: Train
) -> None:
    code = "def far():\n    x, y = line()\n    return x + 1000.0, y\n"
    config = make_config(
        code,
        data={"train": {"callable": "rows:far"}},
        model={
            "layers": [
                # Moving statistics that never move: in inference every unit sees about -1000.
                {"Dense": {"units": 4, "kernel_initializer": "ones"}},
                {"BatchNormalization": {"momentum": 1.0, "gamma_initializer": "ones",
                                        "beta_initializer": "zeros"}},
                {"Rescaling": {"scale": -1.0}},
                {"ReLU": {}},
                {"Dense": {"units": 1}},
            ]
        },
        phases=[{"name": "one", "epochs": 1}, {"name": "two", "epochs": 1}],
    )  # fmt: skip
    events = train(config)
    found = [verdicts(phase) for phase in phases(events)]
    assert [each["dead_neurons"] for each in found] == ["warn", "warn", "pass"]
    assert [each["prediction_variance"] for each in found[:2]] == ["warn", "warn"]
    *_, before, last = phases(events)
    assert "moving" in before.checks[1].reason
    assert worth(before).reason.endswith("BatchNorm's moving ones lag")
    assert last.settled
    assert worth(last).verdict != "fail"


def test_a_gate_that_no_metric_feeds_is_refused(make_config: MakeConfig) -> None:
    config = make_config(checks={"metric": {"name": "val_loss", "max": 1.0}})
    with pytest.raises(InvalidError, match=r"Keras logs no 'val_loss'; add data\.validation"):
        preparation.prepare(config)


def test_preparing_tells_shapes_and_places(make_config: MakeConfig) -> None:
    found = preparation.prepare(
        make_config(data={"train": {"callable": "rows:line"}, "validation": {"fraction": 0.25}})
    )
    assert (found.rows, found.validation_rows, found.input_shape) == (48, 16, (2,))
    assert found.parameters == 2 * 4 + 4 + 4 + 1
    assert len(found.layers) == 1
    assert found.warnings == ()


def test_a_model_that_does_not_survive_saving_is_a_warning(
    make_config: MakeConfig, train: Train, tmp_path: Path
) -> None:
    code = """
import keras
class Scale(keras.layers.Layer):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor
    def call(self, inputs):
        return inputs * self.factor
def build():
    inputs = keras.Input((2,))
    hidden = keras.layers.Dense(4, activation="relu")(Scale(2.0)(inputs))
    return keras.Model(inputs, keras.layers.Dense(1)(hidden))
"""
    config = make_config(code, model={"factory": {"callable": "rows:build"}})
    (warning,) = preparation.prepare(config).warnings
    assert "class Scale lacks the decorator keras.saving.register_keras_serializable()" in warning
    assert "**kwargs in __init__" in warning
    assert phases(train(config))[-1].failure() is None


@pytest.mark.parametrize("raised", ["RuntimeError", "KeyboardInterrupt"])
def test_users_code_that_raises_while_training_is_named(
    make_config: MakeConfig, train: Train, monkeypatch: pytest.MonkeyPatch, raised: str
) -> None:
    code = f"""
import keras
def broken():
    class Broken(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise {raised}("no disk")
    return Broken()
"""
    monkeypatch.setattr(signal, "getsignal", lambda number: signal.SIG_IGN)  # as in a worker
    config = make_config(code, fit={"callbacks": ["rows:broken"]})
    with pytest.raises(UserCodeError, match=rf"{raised}: no disk \(.*rows\.py:\d+"):
        train(config)


def test_classification_with_logits_and_class_weights(
    make_config: MakeConfig, train: Train
) -> None:
    config = make_config(
        data={
            "train": {"callable": "rows:signs"},
            "validation": {"callable": "rows:signs"},
            "standardize": True,
        },
        model={"layers": [{"Dense": {"units": 8, "activation": "relu"}}, {"Dense": {"units": 2}}]},
        compile={
            "optimizer": {"Adam": {"learning_rate": 0.05}},
            "loss": {"SparseCategoricalCrossentropy": {"from_logits": True}},
            "metrics": ["accuracy"],
        },
        phases=[{"name": "a", "epochs": 10}],
        fit={"class_weight": {0: 1.0, 1: 2.0}},
    )
    last = phases(train(config))[-1]
    (output,) = worth(last).measured.outputs
    assert output.kind == "classification"
    assert output.skill > 0.5
    assert last.metrics["accuracy"] > 0.9
    # Keras leaves the class weights out of the validation loss; the skill is the same with them.
    (held,) = worth(last).measured.validation
    assert held.loss == pytest.approx(last.metrics["val_loss"], rel=1e-4)
    assert (held.constant_loss, held.skill) == (None, pytest.approx(output.skill))


def test_the_result_takes_raw_inputs(make_config: MakeConfig, train: Train, tmp_path: Path) -> None:
    config = make_config(data={"train": {"callable": "rows:line"}, "standardize": True})
    last = phases(train(config))[-1]
    loaded = keras.models.load_model(tmp_path / "1" / ".model.keras")
    rows = data.read(config, "train")
    loss = float(np.mean((loaded.predict(rows.x, verbose=0)[:, 0] - rows.y) ** 2))
    assert loss == pytest.approx(worth(last).measured.outputs[0].loss, rel=1e-5)
    assert int(loaded.optimizer.iterations) == 2  # 64 rows in batches of 32, one epoch


def test_a_sample_of_the_rows_is_marked_as_inexact(make_config: MakeConfig, train: Train) -> None:
    last = phases(train(make_config(checks={"dead_neurons": {"rows": 10}})))[-1]
    measured = last.checks[1].measured
    assert measured.exact is False
    assert measured.layers[0].rows == 10


def test_changed_data_is_refused(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config()
    task = Task(
        config=config,
        settings=Settings(seed=0),
        attempt=1,
        directory=tmp_path,
        fingerprint="sha256:other",
    )
    with pytest.raises(InvalidError, match="the data is not what it was when the run began"):
        training.train(task, [].append)


SOFTMAX: dict[str, Any] = {
    "data": {"train": {"callable": "rows:signs"}},
    "model": {"layers": [{"Dense": {"units": 2, "activation": "softmax"}}]},
    "compile": {"loss": "sparse_categorical_crossentropy"},
}


def test_a_metric_of_several_values_is_logged_by_number(
    make_config: MakeConfig, train: Train
) -> None:
    code = "def hot():\n    x, y = line()\n    return x, np.stack([y > 0, y <= 0], axis=1)\n"
    config = make_config(
        code,
        data={"train": {"callable": "rows:hot"}},
        model=SOFTMAX["model"],
        compile={"loss": "categorical_crossentropy", "metrics": ["F1Score"]},
        checks={"metric": {"name": "f1_score_1", "min": 0.0}},
    )
    preparation.prepare(config)
    last = phases(train(config))[-1]
    assert {"f1_score_0", "f1_score_1"} <= last.metrics.keys()


def test_classes_without_a_weight_count_once(make_config: MakeConfig, train: Train) -> None:
    last = phases(train(make_config(**SOFTMAX, fit={"class_weight": {0: 5.0}})))[-1]
    assert last.epochs == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"fit": {"class_weight": {0: 2.0}}},
            "class weights need one output with a classification",
        ),
        ({**SOFTMAX, "fit": {"class_weight": {2: 2.0}}}, "expected classes from 0 to 1"),
        (
            {"fit": {"callbacks": ["rows:line"]}},
            "expected a Keras callback or what returns one, received tuple",
        ),
    ],
)
def test_what_fit_cannot_take_is_refused_before_the_run(
    make_config: MakeConfig, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidError, match=message):
        preparation.prepare(make_config(**changes))


def test_labels_of_validation_rows_are_checked_too(make_config: MakeConfig) -> None:
    code = "def more():\n    x, y = signs()\n    return x, y + 1\n"
    validation = {"train": {"callable": "rows:signs"}, "validation": {"callable": "rows:more"}}
    with pytest.raises(InvalidError, match="class indices from 0 to 1 for 2 units, received 2"):
        preparation.prepare(make_config(code, **{**SOFTMAX, "data": validation}))


def test_an_index_that_one_late_row_has_is_found_before_the_run(make_config: MakeConfig) -> None:
    code = "def words():\n    x = np.arange(64)[:, None] % 9\n    return x, x[:, 0] * 1.0\n"
    embedding = {"Embedding": {"input_dim": 8, "output_dim": 2}}
    config = make_config(
        code,
        data={"train": {"callable": "rows:words"}},
        model={"layers": [embedding, {"Flatten": {}}, {"Dense": {"units": 1}}]},
    )
    with pytest.raises(InvalidError, match=r"does not take every row: .*= 8 is not in \[0, 8\)"):
        preparation.prepare(config)


def test_one_number_a_row_may_come_from_an_activation(
    make_config: MakeConfig, train: Train
) -> None:
    config = make_config(
        model={
            "layers": [
                {"Dense": {"units": 1}},
                {"Reshape": {"target_shape": []}},
                {"Activation": {"activation": "tanh"}},
            ]
        }
    )
    assert phases(train(config))[-1].checks[1].measured.layers[0].units == 1


# -------------------------------------------------------------------- screening and remedies


NARROW = [
    *[{"Dense": {"units": 1, "activation": "relu", "kernel_initializer": "he_normal"}}] * 3,
    {"Dense": {"units": 1}},
]
"""Three relu units in a row: born dead with most seeds."""


def is_born_dead(config: Config, seed: int) -> bool:
    """Whether the last hidden unit of `NARROW` is 0 on every row, by NumPy."""
    rows = data.load(config).train
    value = rows.x
    for layer in build_model(config, Settings(seed=seed), rows).layers[:-1]:
        value = np.maximum(value @ layer.get_weights()[0], 0)
    return not value.any()


def test_the_first_seed_with_a_living_network_trains(make_config: MakeConfig, train: Train) -> None:
    config = make_config(model={"layers": NARROW})
    dead: list[bool] = []
    while True not in dead or False not in dead[dead.index(True) :]:
        dead.append(is_born_dead(config, len(dead)))
    first = dead.index(True)
    alive = dead.index(False, first)

    screened, *events = train(config, Settings(seed=first), seeds=tuple(range(first, 30)))

    assert isinstance(screened, SeedsScreened)
    assert screened.seed == alive
    assert [each.seed for each in screened.candidates] == list(range(first, alive + 1))
    assert [each.reason is None for each in screened.candidates] == [
        not each for each in dead[first : alive + 1]
    ]
    assert "nothing gets through to the output" in str(screened.candidates[0].reason)
    alone = train(config, Settings(seed=alive), "alone")
    assert [phase.metrics for phase in phases(events)] == [phase.metrics for phase in phases(alone)]
    assert [phase.weights for phase in phases(events)] == [phase.weights for phase in phases(alone)]


def test_a_healthy_network_is_the_first_candidate(make_config: MakeConfig, train: Train) -> None:
    screened = train(make_config(), seeds=(7, 8, 9))[0]
    assert isinstance(screened, SeedsScreened)
    assert [(each.seed, each.reason) for each in screened.candidates] == [(7, None)]


def test_what_killed_it_is_told_and_reinitialize_repairs_it(
    make_config: MakeConfig, train: Train
) -> None:
    config = make_config(model={"layers": DEAD}, phases=[{"name": "main", "epochs": 8}])
    *_, found = train(config, seeds=tuple(range(20)))
    assert isinstance(found, CausesFound)
    assert [each.cause for each in found.findings] == ["initialization"]

    repaired = train(config, Settings(seed=7, initializer="he_normal"), "2")
    assert [phase.failure() for phase in phases(repaired)] == [None, None]


@pytest.mark.parametrize(
    ("rate", "settings", "lowered"),
    [
        (0.01, Settings(seed=7, learning_rate_cap=1e-6), True),
        # A rate that is raised to a cap for other phases is not lowered.
        (1e-8, Settings(seed=7, learning_rate_factor=100.0, learning_rate_cap=1e-6), False),
    ],
)
def test_a_rate_is_only_told_to_be_lowered_where_a_remedy_has_lowered_it(
    make_config: MakeConfig, train: Train, rate: float, settings: Settings, lowered: bool
) -> None:
    phase = {"name": "main", "epochs": 8, "learning_rate": rate}
    events = train(make_config(phases=[phase]), settings)
    found = [each for event in events if isinstance(event, CausesFound) for each in event.findings]
    (told,) = [each.reason for each in found if each.cause == "rate_too_low"]
    assert ("to which a remedy has lowered them" in told) is lowered


def test_the_loss_of_the_first_step_and_the_highest_of_an_epoch_are_kept(
    make_config: MakeConfig, train: Train
) -> None:
    config = make_config(
        phases=[{"name": "main", "epochs": 4}], batch_size=64, checks={"prediction_variance": "off"}
    )
    events = train(config)
    losses = [event.metrics["loss"] for event in events if isinstance(event, EpochEnded)]
    init, main = phases(events)
    assert (init.first_loss, init.highest_loss) == (None, None)
    # One step is an epoch here, whose loss is that of the untrained network.
    assert main.first_loss == pytest.approx(losses[0])
    assert main.highest_loss == max(losses)


def test_a_loss_that_is_not_finite_is_the_highest(make_config: MakeConfig, train: Train) -> None:
    config = make_config(
        compile={"optimizer": {"SGD": {"learning_rate": 1e18}}, "loss": "mse"},
        phases=[{"name": "main", "epochs": 3}],
    )
    highest = phases(train(config))[-1].highest_loss
    assert highest is not None
    assert not highest < 1e18


def test_a_schedule_that_ended_too_soon_takes_more_steps(
    make_config: MakeConfig, train: Train
) -> None:
    decay = {"CosineDecay": {"initial_learning_rate": 0.01, "decay_steps": 1}}
    config = make_config(
        compile={"optimizer": {"Adam": {"learning_rate": decay}}, "loss": "mse"},
        phases=[{"name": "main", "epochs": 4}],
        batch_size=64,  # one step is an epoch
    )
    for stretch, rates in ((None, [0.01, 0, 0, 0]), (4.0, [0.01] * 4)):
        events = train(config, Settings(seed=7, schedule_stretch=stretch), str(stretch))
        found = [event.learning_rate for event in events if isinstance(event, EpochEnded)]
        assert found == pytest.approx(rates)
        told = [each.cause for event in events if isinstance(event, CausesFound)
                for each in event.findings if each.found == "before"]  # fmt: skip
        assert ("no_effect" in told) is (stretch is None)


def test_clipped_gradients_stay_clipped_in_plain_keras(
    make_config: MakeConfig, train: Train, tmp_path: Path
) -> None:
    config = make_config(compile={"optimizer": {"SGD": {"learning_rate": 1.0}}, "loss": "mse"})
    train(config, Settings(seed=7, clip_norm=0.125))
    loaded = keras.models.load_model(tmp_path / "1" / ".model.keras")
    assert loaded.optimizer.global_clipnorm == 0.125


def test_of_several_inputs_a_remedy_leaves_what_is_looked_up(
    make_config: MakeConfig, train: Train
) -> None:
    code = """
import keras
import numpy as np
def rows():
    draw = np.random.default_rng(0)
    ids = draw.integers(0, 9, (64, 1)).astype("float32")
    return (ids, draw.uniform(0, 9e3, (64, 2)).astype("float32")), ids[:, 0]
def build():
    ids, numbers = keras.Input((1,)), keras.Input((2,))
    known = keras.layers.Flatten()(keras.layers.Embedding(9, 2)(ids))
    joined = keras.layers.Concatenate()([known, numbers])
    return keras.Model([ids, numbers], keras.layers.Dense(1)(joined))
"""
    config = make_config(
        code,
        data={"train": {"callable": "rows:rows"}},
        model={"factory": {"callable": "rows:build"}},
    )
    settings = Settings(seed=7, standardize="inputs and targets")
    events, again = train(config, settings), train(config, settings, "2")
    (built,) = (each for each in events if isinstance(each, ModelBuilt))
    assert built.standardization["inputs"].keys() == {"1"}
    assert phases(events)[-1].weights == phases(again)[-1].weights  # replay gives the same bits


FAR = """
import numpy as np

def far():
    x = np.random.default_rng(0).uniform(-1, 1, (400, 2))
    return x * [1e4, 1.0] + [0.0, 300.0], 10_000 + np.abs(x).sum(axis=1)
"""


def test_a_remedy_standardises_inside_the_model(
    make_config: MakeConfig, train: Train, tmp_path: Path
) -> None:
    (tmp_path / "distant.py").write_text(FAR)
    config = make_config(
        data={"train": {"callable": "distant:far"}},
        model={"layers": [{"Dense": {"units": 16, "activation": "relu"}}, {"Dense": {"units": 1}}]},
        compile={"optimizer": {"Adam": {"learning_rate": 0.02}}, "loss": "mse", "metrics": ["mae"]},
        phases=[{"name": "main", "epochs": 30}],
    )
    settings = Settings(seed=7, standardize="inputs and targets")
    events, again = train(config, settings), train(config, settings, "2")
    last = phases(events)[-1]
    assert last.weights == phases(again)[-1].weights  # replay gives the same bits
    skill = worth(last).measured.outputs[0].skill
    assert skill is not None and skill > 0.9
    loaded = keras.models.load_model(tmp_path / "1" / ".model.keras")
    rows = data.read(config, "train")
    error = loaded.predict(rows.x, verbose=0)[:, 0] - rows.y
    assert last.metrics["loss"] < 0.05  # in the units of the rows
    assert float(np.mean(error**2)) == pytest.approx(worth(last).measured.outputs[0].loss, rel=0.02)
    (built,) = (each for each in events if isinstance(each, ModelBuilt))
    assert built.standardization["targets"][""]["mean"] == [pytest.approx(rows.y.mean())]
    assert built.standardization["inputs"][""]["mean"] == pytest.approx(rows.x.mean(0), rel=1e-4)
