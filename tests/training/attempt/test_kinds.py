"""Every kind of data and model, from the config to a saved model that takes the raw rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest

from orchestrator.record.checks import OutputWorth, PredictionVarianceCheck
from orchestrator.record.events import EpochEnded, PhaseEnded
from orchestrator.record.records import Phase, Settings
from orchestrator.record.storage.directory import AttemptPaths
from orchestrator.training.attempt import attempt as training
from orchestrator.training.attempt.building import preparation
from orchestrator.training.attempt.task import Prepared, Task
from tests.conftest import MakeConfig

CODE = '''
import keras

X, Y = line(90)
X = X.astype("float32")
BOTH = {"price": Y, "kind": (Y > 0).astype(int)}

def dataset(count=90):
    import tensorflow as tf
    return tf.data.Dataset.from_tensor_slices((X[:count], Y[:count])).shuffle(count).batch(32)

def generator():
    for start in range(0, 90, 30):
        part = slice(start, start + 30)
        yield X[part], Y[part], np.ones(30)

def named():
    return {"a": X, "b": X[:, :1]}, BOTH, np.ones(90)

def positional():
    return (X, X[:, :1]), Y

def one_to_two():
    return X, BOTH

def build_named(activation="relu"):
    a, b = keras.Input((2,), name="a"), keras.Input((1,), name="b")
    hidden = keras.layers.Dense(8, activation=activation)(keras.layers.Concatenate()([a, b]))
    price = keras.layers.Dense(1, name="price")(hidden)
    kind = keras.layers.Dense(2, activation="softmax", name="kind")(hidden)
    return keras.Model({"a": a, "b": b}, [price, kind])

def build_positional():
    a, b = keras.Input((2,)), keras.Input((1,))
    hidden = keras.layers.Dense(8, activation="relu")(keras.layers.Concatenate()([a, b]))
    return keras.Model([a, b], keras.layers.Dense(1)(hidden))

def build_compiled():
    model = build_named()
    model.compile("adam", loss={"price": "mse", "kind": "sparse_categorical_crossentropy"},
                  metrics={"kind": ["accuracy"]})
    return model

@keras.saving.register_keras_serializable()
class Own(keras.Model):
    """A step of its own, which counts its calls."""

    def __init__(self, width=8, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.hidden = keras.layers.Dense(width, activation="relu")
        self.head = keras.layers.Dense(1)
        self.steps = self.add_weight(name="steps", initializer="zeros", trainable=False)

    def call(self, x):
        return self.head(self.hidden(x))

    def get_config(self):
        return {**super().get_config(), "width": self.width}

    def train_step(self, data):
        self.steps.assign_add(1.0)
        return super().train_step(data)

def build_own(width):
    model = Own(width)
    model.compile(optimizer=keras.optimizers.Adam(0.01), loss="mse")
    return model

class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        part = slice(30 * index, 30 * index + 30)
        return X[part], Y[part]

def frames():
    import pandas as pd
    return pd.DataFrame(X, columns=["a", "b"]), pd.Series(Y)

def forever():
    while True:
        yield from generator()

TEXTS = np.array(["a good film", "bad", "very good", "a very bad film"] * 20, object)

def texts():
    return TEXTS, np.array([1, 0, 1, 0] * 20)

def build_texts():
    words = keras.layers.TextVectorization(output_mode="multi_hot")
    words.adapt(TEXTS)
    given = keras.Input((), dtype="string")
    known = keras.layers.StringLookup(vocabulary=["bad"])(given)
    known = keras.layers.Embedding(2, 2)(known)
    hashed = keras.layers.Embedding(8, 2)(keras.layers.Hashing(8)(given))
    x = keras.layers.Concatenate()([words(given), known, hashed])
    hidden = keras.layers.Dense(8, activation="relu")(x)
    return keras.Model(given, keras.layers.Dense(1, activation="sigmoid")(hidden))

def build_mixed():
    keras.mixed_precision.set_global_policy("mixed_float16")
    hidden = keras.layers.Dense(8, activation="relu")
    return keras.Sequential([keras.Input((2,)), hidden, keras.layers.Dense(1)])

class Two(keras.Model):
    """Outputs by name; nothing that Keras could load it by."""

    def __init__(self):
        super().__init__()
        self.hidden = keras.layers.Dense(8, activation="relu")
        self.price = keras.layers.Dense(1)
        self.kind = keras.layers.Dense(2, activation="softmax")

    def call(self, x):
        hidden = self.hidden(x)
        return {"price": self.price(hidden), "kind": self.kind(hidden)}
'''
"""The user's module, with rows and models of every kind."""


def write_table(path: Path) -> None:
    """A table with texts among the features, a text target, numbers to predict, and weights."""
    random = np.random.default_rng(0)
    lines = ["a;color;floor;y;half;sign;w"]
    for row in range(90):
        a = random.normal()
        color, sign = ("red", "blue", "green")[row % 3], ("neg", "pos")[a > 0]
        lines.append(f"{a:.3f};{color};{row % 5};{2 * a:.3f};{a / 2:.3f};{sign};{1 + row % 2}")
    path.write_text("\n".join(lines))


HELD_BACK = {"fraction": 0.2}
RELU = {"Dense": {"units": 8, "activation": "relu"}}
ONE = {"layers": [RELU, {"Dense": {"units": 1}}]}
TWO_CLASSES = {"layers": [RELU, {"Dense": {"units": 2, "activation": "softmax"}}]}
CROSS_ENTROPY = {"loss": "sparse_categorical_crossentropy"}
TWO_LOSSES = {
    "loss": {"price": "mse", "kind": "sparse_categorical_crossentropy"},
    "loss_weights": {"price": 1.0, "kind": 0.5},
    "metrics": {"kind": ["accuracy"]},
}


@dataclasses.dataclass
class Trained:
    """What came of the first attempt of a config."""

    prepared: Prepared
    phase: Phase
    metrics: dict[str, float]
    paths: AttemptPaths

    @property
    def outputs(self) -> tuple[OutputWorth, ...]:
        """What was measured of each output."""
        check = self.phase.find(PredictionVarianceCheck)
        assert check is not None
        return check.measured.outputs

    @property
    def model(self) -> keras.Model:
        return keras.saving.load_model(self.paths.result)


Train = Callable[..., Trained]


@pytest.fixture
def train(make_config: MakeConfig, tmp_path: Path) -> Train:
    """Prepare a run of a config with the module above, and train its first attempt."""

    def run(source: dict[str, Any], model: dict[str, Any], **sections: Any) -> Trained:
        data = {"train": source, **sections.pop("data", {})}
        sections = {"phases": [{"name": "main", "epochs": 20}], **sections}
        config = make_config(CODE, data=data, model=model, **sections)
        prepared = preparation.prepare(config)
        paths = AttemptPaths(tmp_path / "attempt")
        paths.root.mkdir()
        task = Task(
            config=config,
            settings=Settings(seed=0),
            attempt=1,
            directory=paths.root,
            fingerprint=prepared.fingerprint,
        )
        events: list[Any] = []
        training.train(task, events.append)
        phase = [each.phase for each in events if isinstance(each, PhaseEnded)][-1]
        assert all(check.verdict in ("pass", "warn", "not_applicable") for check in phase.checks)
        epoch = [each for each in events if isinstance(each, EpochEnded)][-1]
        return Trained(prepared, phase, dict(epoch.metrics), paths)

    return run


def given(name: str) -> dict[str, str]:
    return {"callable": f"rows:{name}"}


def built(name: str, **kwargs: Any) -> dict[str, Any]:
    return {"factory": {**given(name), "kwargs": kwargs}}


def test_a_parquet_table_with_texts_features_and_weights(train: Train, tmp_path: Path) -> None:
    write_table(tmp_path / "t.csv")
    semicolons = pyarrow.csv.ParseOptions(delimiter=";")
    read = pyarrow.csv.read_csv(tmp_path / "t.csv", parse_options=semicolons)
    pyarrow.parquet.write_table(read, tmp_path / "t.parquet")
    source = {"features": ["a", "color", "floor"], "text": ["floor"], "sample_weight": "w"}
    trained = train(
        {"parquet": "t.parquet", "target": "y", **source},
        ONE,
        data={"validation": HELD_BACK, "standardize": True},
    )
    assert dict(trained.prepared.inputs.categories) == {
        "color": ("blue", "green", "red"),
        "floor": ("0", "1", "2", "3", "4"),
    }
    assert set(trained.metrics) == {"loss", "val_loss"}
    assert [output.kind for output in trained.outputs] == ["regression"]
    raw = np.zeros((3, 9), np.float32)
    assert trained.model.predict(raw, verbose=0).shape == (3, 1)


def test_text_targets_of_a_table_with_class_weights(train: Train, tmp_path: Path) -> None:
    write_table(tmp_path / "t.csv")
    trained = train(
        {"csv": "t.csv", "target": "sign", "features": ["a"], "delimiter": ";"},
        TWO_CLASSES,
        compile=CROSS_ENTROPY,
        fit={"class_weight": {1: 2.0}},
    )
    assert dict(trained.prepared.inputs.categories) == {"sign": ("neg", "pos")}
    assert [output.kind for output in trained.outputs] == ["classification"]


def test_two_target_columns_for_two_units(train: Train, tmp_path: Path) -> None:
    write_table(tmp_path / "t.csv")
    two = {"layers": [RELU, {"Dense": {"units": 2}}]}
    source = {"csv": "t.csv", "target": ["y", "half"], "features": ["a"], "delimiter": ";"}
    assert train(source, two).model.output_shape == (None, 2)


def test_arrays_mapped_from_files(train: Train, tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(90, 2))
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", x.sum(axis=1))
    source = {"npy": "x.npy", "y": "y.npy"}
    trained = train(source, ONE, data={"validation": HELD_BACK, "standardize": True})
    assert (trained.prepared.rows, trained.prepared.validation_rows) == (72, 18)
    assert isinstance(trained.model.layers[1], keras.layers.Normalization)


def test_a_dataset_with_a_dataset_held_back(train: Train) -> None:
    held = {**given("dataset"), "kwargs": {"count": 40}}
    trained = train(given("dataset"), ONE, data={"validation": held, "standardize": True})
    assert (trained.prepared.rows, trained.prepared.validation_rows) == (90, 40)


def test_a_generator_with_weights(train: Train) -> None:
    trained = train(given("generator"), ONE, data={"standardize": True})
    assert trained.prepared.rows == 90


@pytest.mark.parametrize("name", ["Batches", "forever", "frames"])
def test_a_py_dataset_a_generator_without_an_end_and_frames(train: Train, name: str) -> None:
    steps = {"steps_per_epoch": 3} if name == "forever" else {}
    trained = train({**given(name), **steps}, ONE, phases=[{"name": "main", "epochs": 2}])
    assert trained.prepared.rows == 90
    told = [each for each in trained.prepared.warnings if "only from an attempt's start" in each]
    assert len(told) == len(steps)


def test_texts_of_a_model_that_takes_texts(train: Train) -> None:
    compiled = {"optimizer": {"Adam": {"learning_rate": 0.03}}, "loss": "binary_crossentropy"}
    held = {"validation": {**HELD_BACK, "stratify": True}}
    trained = train(given("texts"), built("build_texts"), compile=compiled, data=held)
    (output,) = trained.outputs
    assert output.skill is not None
    assert output.skill > 0.5
    texts = np.array(["a good film", "bad"], object)
    prediction = trained.model.predict(keras.ops.convert_to_tensor(texts), verbose=0)
    assert prediction[0, 0] > 0.5 > prediction[1, 0]


def test_mixed_precision_that_the_factory_switches_on(train: Train) -> None:
    inner = {"Adam": {"learning_rate": 0.03}}
    compiled = {"optimizer": {"LossScaleOptimizer": {"inner_optimizer": inner}}, "loss": "mse"}
    trained = train(given("line"), built("build_mixed"), compile=compiled)
    assert keras.config.dtype_policy().name == "float32"
    model = trained.model
    assert model.layers[0].compute_dtype == "float16"
    assert model.predict(np.zeros((1, 2)), verbose=0).dtype == np.float16
    (output,) = trained.outputs
    assert output.skill is not None
    assert output.skill > 0.3


def test_inputs_and_targets_by_name_of_a_factory_that_compiles(train: Train) -> None:
    data = {"validation": HELD_BACK, "standardize": True}
    trained = train(given("named"), built("build_compiled"), compile=None, data=data)
    assert {"price_loss", "kind_loss", "kind_accuracy", "val_loss"} <= set(trained.metrics)
    kinds = [(output.name, output.kind) for output in trained.outputs]
    assert kinds == [("price", "regression"), ("kind", "classification")]
    assert set(trained.prepared.inputs.standardization) == {"a", "b"}
    assert trained.model.compiled
    raw = {"a": np.zeros((3, 2)), "b": np.zeros((3, 1))}
    assert [len(each) for each in trained.model.predict(raw, verbose=0)] == [3, 3]


def test_inputs_by_position(train: Train) -> None:
    trained = train(given("positional"), built("build_positional"), data={"standardize": True})
    assert len(trained.model.inputs) == 2


def test_a_class_of_the_users_own_with_its_own_step(train: Train) -> None:
    trained = train(
        given("line"), built("build_own", width=5), compile=None, data={"standardize": True}
    )
    inner = trained.model.layers[-1]
    assert (type(inner).__name__, inner.width, float(inner.steps)) == ("Own", 5, 40.0)


def test_outputs_by_name_of_a_class_that_keras_cannot_load(train: Train) -> None:
    trained = train(given("one_to_two"), built("Two"), compile=TWO_LOSSES)
    (warning,) = trained.prepared.warnings
    assert "class Two lacks the decorator" in warning
    assert trained.paths.result_weights.exists()
    assert not trained.paths.result.exists()
    assert {each.name for each in trained.outputs} == {"price", "kind"}
