"""`retrain` from a program: in processes of its own, and in the caller's where it must be."""

import json
import threading
from pathlib import Path
from typing import Any

import cloudpickle
import keras
import numpy as np
import pytest
import tensorflow as tf

import orchestrator
from orchestrator.config import given
from orchestrator.config import load as configs
from orchestrator.data.rows import Rows
from orchestrator.errors import InvalidError, NotSentError
from orchestrator.model.build import build_model
from orchestrator.record.records import Settings
from orchestrator.training import retrain as retraining
from orchestrator.training.retraining import pickling

X = np.random.default_rng(0).normal(size=(96, 2))
Y = 3.0 * X.sum(axis=1)
PHASES = [{"name": "main", "epochs": 3}]
COMPILE = {"optimizer": {"Adam": {"learning_rate": 0.03}}, "loss": "mse"}


def network(activation: Any = "relu") -> keras.Model:
    hidden = keras.layers.Dense(8, activation=activation)
    return keras.Sequential([keras.Input((2,)), hidden, keras.layers.Dense(1)])


def test_a_closure_trains_in_a_process_of_its_own(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    width = 6

    def closure(activation: Any = "relu") -> keras.Model:
        print("built in a worker")  # noqa: T201 - goes to the attempt's log
        hidden = keras.layers.Dense(
            width,
            activation=activation,
            # Born dead with relu: below zero on every row.
            kernel_initializer="zeros",
            bias_initializer=keras.initializers.Constant(-1.0),
        )
        return keras.Sequential([keras.Input((2,)), hidden, keras.layers.Dense(1)])

    compiled = {"optimizer": keras.optimizers.Adam(0.03), "loss": keras.losses.Huber(delta=2.0)}
    model, record = orchestrator.retrain(
        closure,
        X * 100 + 7,
        Y,
        phases=PHASES,
        compile=compiled,
        restart={"policy": ["leaky_relu"]},
        validation=0.25,
        standardize=True,
        runs_dir=tmp_path,
        quiet=True,
    )
    (directory,) = tmp_path.iterdir()
    assert record == json.loads((directory / "run.json").read_text())
    assert record["status"] == "passed"
    assert [attempt["remedy"] for attempt in record["attempts"]] == [None, "leaky_relu"]
    assert record["attempts"][0]["failure"]["phase"] == "init"
    assert "built in a worker" in (directory / "attempts" / "001" / "log.txt").read_text()
    assert "built in a worker" not in capfd.readouterr().out

    assert model.layers[-1].layers[-2].activation is keras.activations.leaky_relu
    resolved = (directory / "resolved.yaml").read_text()
    assert "delta: 2.0" in resolved  # which Keras's own config of Huber leaves out
    mean = np.asarray(record["inputs"]["standardization"][""]["mean"])
    np.testing.assert_allclose(mean, (X * 100 + 7).mean(axis=0), atol=10)
    assert np.ptp(model.predict(X * 100 + 7, verbose=0)) > 0

    with pytest.raises(InvalidError, match="model.given: what retrain.. was given in Python is"):
        configs.load(directory / "resolved.yaml")


def test_what_cannot_be_sent_trains_here_with_a_note(tmp_path: Path) -> None:
    lock = threading.Lock()
    threads = []

    def closure() -> keras.Model:
        with lock:
            threads.append(threading.current_thread())
            return network()

    model, record = orchestrator.retrain(
        closure, {"": X}[""], Y, phases=PHASES, compile=COMPILE, runs_dir=tmp_path, quiet=True
    )
    assert record["status"] == "passed"
    (warning,) = record["warnings"]
    assert warning.startswith("the attempts train in this process: TypeError: cannot pickle")
    assert set(threads) == {threading.main_thread()}
    (directory,) = tmp_path.iterdir()
    np.testing.assert_array_equal(
        model.predict(X, verbose=0),
        keras.saving.load_model(directory / "model.keras").predict(X, verbose=0),
    )


def test_a_model_that_keras_cannot_load_comes_back_by_its_weights(tmp_path: Path) -> None:
    class Plain(keras.Model):
        """Not registered, and without get_config."""

        def __init__(self, width: int) -> None:
            super().__init__()
            self.hidden = keras.layers.Dense(width, activation="relu")
            self.head = keras.layers.Dense(1)

        def call(self, inputs: Any) -> Any:
            return self.head(self.hidden(inputs))

    lock = threading.Lock()

    def closure() -> keras.Model:
        with lock:
            return Plain(8)

    model, record = orchestrator.retrain(
        closure,
        X * 50,
        Y,
        phases=PHASES,
        compile=COMPILE,
        standardize=True,
        runs_dir=tmp_path,
        quiet=True,
    )
    (directory,) = tmp_path.iterdir()
    assert (directory / "model.weights.h5").exists()
    assert not (directory / "model.keras").exists()
    assert any("class Plain lacks" in warning for warning in record["warnings"])
    loss = float(np.mean((model.predict(X * 50, verbose=0)[:, 0] - Y) ** 2))
    checks = {each["check"]: each for each in record["attempts"][0]["phases"][-1]["checks"]}
    measured = checks["prediction_variance"]["measured"]["outputs"][0]
    assert loss == pytest.approx(measured["loss"], rel=1e-4)


def test_no_model_when_no_attempt_passes(tmp_path: Path) -> None:
    lock = threading.Lock()

    def dead() -> keras.Model:
        with lock:
            zeros = {"kernel_initializer": "zeros", "bias_initializer": "zeros"}
            hidden = keras.layers.Dense(3, activation="relu", **zeros)
            return keras.Sequential([keras.Input((2,)), hidden, keras.layers.Dense(1)])

    model, record = orchestrator.retrain(
        dead,
        X,
        Y,
        phases=PHASES,
        compile=COMPILE,
        restart={"policy": [], "max_attempts": 1},
        runs_dir=tmp_path,
        quiet=True,
    )
    assert model is None
    assert record["status"] == "exhausted"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"phases": [{"name": "main", "epoch": 3}]},
         r"retrain\(…\): phases.0.epoch: unknown key 'epoch'; did you mean 'epochs'"),
        ({"batch_siz": 3}, "unknown key 'batch_siz'; did you mean 'batch_size'"),
        ({"y": None}, "expected targets y, received None"),
        ({"compile": {"loss": threading.Lock()}}, "compile.loss: lock cannot be copied for each"),
        ({"validation": 2.0}, "data.validation.fraction: expected less than 1"),
        ({"validation": X}, "validation: expected a share of the rows, .* received ndarray"),
        ({"validation": (X, Y, Y, Y)}, "validation: expected a share .* received a tuple of 4"),
        ({"validation": {"fraction": 0.5, "group": [1, 2]}},
         r"validation.group: expected the group of each of 96 rows, received shape \(2,\)"),
        ({"validation": {"fraction": 0.5, "group": np.zeros(96)}},
         "validation.group: all rows have the value 0.0, which cannot be parted"),
        ({"validation": {"fraction": 0.5, "stratify": True}}, "received numbers that are not"),
        ({"phases": ["main"]}, "phases.0: expected a mapping of keys, received 'main'"),
        ({"fit": {"shuffle": X}}, "fit.shuffle: unknown key 'shuffle'"),
        ({"y": np.array([1, None] * 48)}, "train: y: expected .* received NoneType in row 1"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_told_like_a_configs(
    tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    wanted = {"y": Y, "phases": PHASES, "compile": COMPILE, **arguments}
    with pytest.raises(InvalidError, match=message):
        orchestrator.retrain(network, X, runs_dir=tmp_path, **wanted)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("build", "received"),
    [
        (keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]), "a model, Sequential"),
        ({"layers": []}, "dict"),
    ],
)
def test_a_model_in_place_of_what_builds_one_is_refused(
    tmp_path: Path, build: Any, received: str
) -> None:
    message = rf"build: expected a function that builds the model, received {received}; .*lambda: "
    with pytest.raises(InvalidError, match=message):
        orchestrator.retrain(build, X, Y, phases=PHASES, compile=COMPILE, runs_dir=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("_in_this_process")
@pytest.mark.parametrize(
    "validation",
    [
        np.float32(0.25),
        [X.tolist(), np.ma.masked_array(Y)],
        tf.data.Dataset.from_tensor_slices((X, Y)).batch(8),
        {"fraction": 0.25, "group": np.arange(96) // 8},
        {"fraction": 0.25, "last": True},
    ],
)
def test_arguments_come_from_numpy_and_rows_in_the_forms_of_keras(
    tmp_path: Path, validation: Any
) -> None:
    phases = [{"name": "main", "epochs": np.int64(1)}]
    _, record = orchestrator.retrain(
        network, X, Y, phases=phases, compile={**COMPILE, "run_eagerly": True},
        validation=validation, seed=np.int64(3),
        restart={"policy": [], "max_attempts": 1}, runs_dir=tmp_path, quiet=True,
    )  # fmt: skip
    (attempt,) = record["attempts"]
    assert attempt["settings"]["seed"] == 3
    assert "val_loss" in attempt["phases"][-1]["metrics"]


class Seen(keras.callbacks.Callback):  # type: ignore[misc]
    """Counts its epochs, as an object that two attempts share would over both."""

    def __init__(self) -> None:
        super().__init__()
        self.epochs = 0

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.epochs += 1
        assert logs is not None
        logs["seen"] = self.epochs


@pytest.mark.parametrize("local", [False, True])
def test_objects_and_functions_train_and_no_attempt_sees_the_state_of_another(
    tmp_path: Path, local: bool
) -> None:
    lock = threading.Lock()

    def build() -> keras.Model:
        return network() if local and lock else network()

    def error(y: Any, p: Any) -> Any:
        return keras.ops.mean(keras.ops.square(keras.ops.reshape(y, (-1, 1)) - p))

    schedule = keras.optimizers.schedules.ExponentialDecay(0.03, np.int64(100), np.float64(0.9))
    _, record = orchestrator.retrain(
        build if local else network,
        X,
        Y,
        phases=PHASES,
        compile={
            "optimizer": keras.optimizers.Adam(schedule),
            "loss": error,
            "metrics": [keras.metrics.RootMeanSquaredError(name="off"), lambda y, p: abs(p)],
        },
        fit={"callbacks": Seen()},
        checks={"metric": {"name": "loss", "max": -1}},
        restart={"max_attempts": 2, "policy": ["new_seed"]},
        runs_dir=tmp_path,
        quiet=True,
    )
    assert len(record["attempts"]) == 2
    for attempt in record["attempts"]:
        metrics = attempt["phases"][-1]["metrics"]
        assert metrics["seen"] == 3
        assert {"off", "lambda"} < set(metrics)
    (directory,) = tmp_path.iterdir()
    resolved = (directory / "resolved.yaml").read_text()
    assert "decay_steps: 100" in resolved
    assert "given: tests.training.test_retrain.Seen()" in resolved
    assert "<locals>.error" in resolved
    assert any("train in this process" in each for each in record["warnings"]) is local


def test_arrays_are_sent_through_files_and_mapped_ones_stay_where_they_are(tmp_path: Path) -> None:
    np.save(tmp_path / "big.npy", X)
    mapped = np.load(tmp_path / "big.npy", mmap_mode="r")
    whole = given.Given(build=network, train=({"a": X, "b": mapped}, Y, None), validation=None)
    folder = tmp_path / "sent"
    folder.mkdir()
    sent = given.send(whole, folder, cloudpickle.dumps)
    x, y, weight = sent.rows("train")
    np.testing.assert_array_equal(x["a"], X)
    np.testing.assert_array_equal(x["b"], X)
    np.testing.assert_array_equal(y, Y)
    assert weight is None
    assert isinstance(x["b"], np.memmap)
    assert Path(x["b"].filename) == tmp_path / "big.npy"
    assert len(list(folder.iterdir())) == 2

    part = given.Given(build=network, train=(mapped[10:20], Y[10:20], None), validation=None)
    x, _, _ = given.send(part, folder, cloudpickle.dumps).rows("train")
    np.testing.assert_array_equal(x, X[10:20])


def test_a_function_that_cannot_be_made_again_is_not_sent(tmp_path: Path) -> None:
    broken = given.Sent(function=b"not a pickle", parts={}, objects={})
    with pytest.raises(NotSentError, match="UnpicklingError"):
        broken.build  # noqa: B018 - reading it raises


@pytest.mark.usefixtures("_in_this_process")
def test_a_model_that_needs_no_targets_trains_without(tmp_path: Path) -> None:
    class Alike(keras.Model):  # type: ignore[misc]
        """Its two outputs are to be alike."""

        def __init__(self) -> None:
            super().__init__()
            self.both = keras.layers.Dense(2)

        def call(self, x: Any) -> Any:
            found = self.both(x)
            self.add_loss(keras.ops.mean(keras.ops.square(found[:, 0] - found[:, 1])))
            return found

    model, record = orchestrator.retrain(
        Alike,
        X,
        phases=PHASES,
        compile={"optimizer": keras.optimizers.Adam(0.1)},
        runs_dir=tmp_path,
        quiet=True,
    )
    assert record["status"] == "passed"
    assert np.abs(np.diff(model.predict(X, verbose=0))).mean() < 1.0


def test_parts_that_train_on_inputs_alone_come_back_by_their_weights(tmp_path: Path) -> None:
    class Parts(keras.Model):  # type: ignore[misc]
        """No call, and steps that take the rows as Keras gives them: an array, and no tuple."""

        def __init__(self) -> None:
            super().__init__()
            self.coder = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])

        def away(self, data: Any) -> Any:
            return keras.ops.mean(keras.ops.square(self.coder(data) - data))

        def train_step(self, data: Any) -> dict[str, Any]:
            with tf.GradientTape() as tape:
                loss = self.away(data)
            weights = self.coder.trainable_weights
            self.optimizer.apply(tape.gradient(loss, weights), weights)
            return {"away": loss}

        def test_step(self, data: Any) -> dict[str, Any]:
            return {"away": self.away(data)}

    lock = threading.Lock()

    def build() -> keras.Model:
        with lock:  # which keeps it in this process, where no warm-up is waited for
            model = Parts()
            model.compile(keras.optimizers.Adam(0.1))
            return model

    model, record = orchestrator.retrain(
        build, X, phases=PHASES, validation=0.25, runs_dir=tmp_path, quiet=True
    )
    assert record["status"] == "passed"
    (directory,) = tmp_path.iterdir()
    assert (directory / "model.weights.h5").exists()
    assert set(model.history.history) == {"away", "val_away"}
    told = model.evaluate(X, verbose=0, return_dict=True)
    assert told["away"] < model.history.history["away"][0]  # it is as it was trained


@pytest.mark.filterwarnings("ignore:Gradients do not exist")  # as Keras says of the other
def test_a_loss_that_no_graph_can_hold_trains_one_of_two_outputs(tmp_path: Path) -> None:
    def seen(y: Any, prediction: Any) -> Any:
        assert np.isfinite(y.numpy()).all()  # which the tensor of a graph has not
        return keras.ops.mean(keras.ops.square(prediction - y), axis=-1)

    lock = threading.Lock()

    def build() -> keras.Model:
        with lock:  # which keeps it in this process
            inputs = keras.Input((2,))
            return keras.Model(inputs, [keras.layers.Dense(1, name=name)(inputs) for name in "ab"])

    switches = {"run_eagerly": True, "steps_per_execution": np.int64(1), "auto_scale_loss": False}
    model, record = orchestrator.retrain(
        build, X, [Y[:, None], None], phases=PHASES, validation=0.25,
        compile={**COMPILE, "loss": [seen, None], "metrics": {"a": "mae", "b": None}, **switches},
        restart={"max_attempts": 1, "policy": []}, runs_dir=tmp_path, quiet=True,
    )  # fmt: skip
    assert record["status"] == "passed"
    assert model.run_eagerly
    assert {"loss", "a_mae", "val_a_mae"} <= set(model.history.history)


def test_the_model_comes_back_compiled_and_with_its_history_as_fit_leaves_it(
    tmp_path: Path,
) -> None:
    model, record = orchestrator.retrain(
        network,
        X,
        Y,
        phases=[{"name": "one", "epochs": 2}, {"name": "two", "epochs": 1}],
        compile={
            "optimizer": keras.optimizers.Adam(0.1),
            "loss": lambda y, p: keras.ops.mean(keras.ops.square(p - y)),
            "metrics": ["mae"],
        },
        validation=0.25,
        runs_dir=tmp_path,
        quiet=True,
    )
    assert isinstance(model.history, keras.callbacks.History)
    assert model.history.epoch == [0, 1, 2]
    assert set(model.history.history) == {"loss", "mae", "val_loss", "val_mae"}
    assert model.history.params["epochs"] == 3
    last = record["attempts"][-1]["phases"][-1]["metrics"]
    assert {name: values[-1] for name, values in model.history.history.items()} == last
    # A lambda is in no file of Keras's: the model is, and comes back compiled with it.
    (directory,) = tmp_path.iterdir()
    assert (directory / "model.keras").exists()
    (warning, *_) = record["warnings"]
    assert "loads the model without what it was compiled with" in warning
    loss, _ = model.evaluate(X[:, :], Y, verbose=0)
    assert 0 < loss < 20
    assert model.fit(X, Y, epochs=1, verbose=0).epoch == [0]


class Halves(keras.utils.PyDataset):  # type: ignore[misc]
    """Two batches, made by processes of its own."""

    def __init__(self) -> None:
        super().__init__(workers=2, use_multiprocessing=True)

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Any:
        return X[index::2], Y[index::2]


def endless() -> Any:
    while True:
        yield X[:48], Y[:48]
        yield X[48:], Y[48:]


@pytest.mark.filterwarnings("ignore:Model doesn't support `jit_compile=True`")  # in this process
@pytest.mark.parametrize("rows", [Halves(), endless])
def test_batches_train_in_a_process_of_their_own(tmp_path: Path, rows: Any) -> None:
    """The second with XLA, which Keras leaves out where operations are deterministic."""
    steps = {"steps_per_epoch": 2} if rows is endless else {}
    compiled = {**COMPILE, "jit_compile": bool(steps)}
    model, record = orchestrator.retrain(
        network, rows, phases=[{"name": "main", "epochs": 30}], compile=compiled,
        restart={"policy": []}, runs_dir=tmp_path, quiet=True, **steps,
    )  # fmt: skip
    assert record["status"] == "passed"
    assert not any("in this process" in each for each in record["warnings"])
    (log,) = tmp_path.glob("*/attempts/001/log.txt")
    assert "jit_compile=False" not in log.read_text()
    health = orchestrator.diagnose(model, rows, **steps)
    assert health.rows == 96
    with pytest.raises(InvalidError, match="the batches bring their own targets"):
        orchestrator.retrain(network, rows, Y, phases=PHASES, runs_dir=tmp_path)


def test_an_iterator_trains_here_on_the_rows_that_it_gives(tmp_path: Path) -> None:
    batches = ((X[start : start + 32], Y[start : start + 32]) for start in (0, 32, 64))
    _, record = orchestrator.retrain(
        network, batches, phases=PHASES, compile=COMPILE,
        restart={"policy": [], "max_attempts": 1}, runs_dir=tmp_path, quiet=True,
    )  # fmt: skip
    assert "cannot pickle 'generator' object" in record["warnings"][0]
    assert record["attempts"][0]["phases"][-1]["epochs"] == 3


def test_what_a_function_holds_on_to_draws_nothing_from_the_seed(tmp_path: Path) -> None:
    teacher = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])

    def student() -> keras.Model:
        assert teacher.built
        return network()

    config, here = retraining.describe(
        student, X, Y, validation=None, sample_weight=None, standardize=False,
        sections={"phases": PHASES, "compile": COMPILE},
    )  # fmt: skip
    sent = given.send(here, tmp_path, pickling.dumps)
    rows = Rows(x=X, y=Y)
    one, other = (
        build_model(config.with_given(each), Settings(seed=7), rows).get_weights()
        for each in (here, sent)
    )
    np.testing.assert_array_equal(one[0], other[0])
