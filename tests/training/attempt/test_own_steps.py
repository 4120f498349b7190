"""Models that train in a way of their own: taken as Keras takes them, checked, and saved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from orchestrator.errors import InvalidError, UserCodeError
from orchestrator.record.checks import DeadNeuronsCheck, PredictionVarianceCheck
from orchestrator.record.events import CausesFound, EpochEnded, PhaseEnded
from orchestrator.record.records import Settings
from orchestrator.record.storage.directory import AttemptPaths
from orchestrator.training.attempt import attempt as training
from orchestrator.training.attempt.building import preparation
from orchestrator.training.attempt.task import Task
from tests.conftest import MakeConfig

CODE = '''
import keras
import tensorflow as tf

L, ops = keras.layers, keras.ops
register = keras.saving.register_keras_serializable("own")

def bumps(count=256):
    """Rows with one bump each, at a place that is all there is to say of a row."""
    places = np.random.default_rng(0).uniform(size=(count, 1))
    x = np.exp(-(((np.linspace(0, 1, 8) - places) / 0.2) ** 2)).astype("float32")
    return x, x

def alone(count=256):
    return bumps(count)[0], None

def pairs(count=256):
    """An anchor, one like it, and one unlike it; the targets say nothing."""
    rng = np.random.default_rng(0)
    anchor = rng.normal(size=(count, 4)).astype("float32")
    alike = anchor + 0.1 * rng.normal(size=(count, 4)).astype("float32")
    return (anchor, alike, np.roll(anchor, 1, axis=0)), np.zeros(count)

def two(count=256):
    x, y = line(count)
    return x, {"price": np.abs(y)}

class Autoencoder(keras.Model):
    """Variational, over two models, with no call of its own, as keras.io has it."""

    def __init__(self, beta):
        super().__init__()
        x = keras.Input((8,))
        hidden = L.Dense(16, activation="relu")(x)
        self.encoder = keras.Model(x, [L.Dense(2)(hidden), L.Dense(2)(hidden)])
        code = keras.Input((2,))
        hidden = L.Dense(16, activation="relu")(code)
        self.decoder = keras.Model(code, L.Dense(8, activation="sigmoid")(hidden))
        self.beta, self.total = beta, keras.metrics.Mean(name="loss")
        self.draws = keras.random.SeedGenerator(1)

    @property
    def metrics(self):
        return [self.total]

    def loss_of(self, x):
        x = x[0] if isinstance(x, tuple) else x
        mean, log = self.encoder(x)
        noise = keras.random.normal(ops.shape(mean), seed=self.draws)
        far = ops.mean(ops.sum(ops.square(x - self.decoder(mean + ops.exp(log / 2) * noise)), 1))
        return far - self.beta / 2 * ops.mean(ops.sum(1 + log - ops.square(mean) - ops.exp(log), 1))

    def train_step(self, data):
        with tf.GradientTape() as tape:
            loss = self.loss_of(data)
        self.optimizer.apply_gradients(
            zip(tape.gradient(loss, self.trainable_weights), self.trainable_weights)
        )
        self.total.update_state(loss)
        return {"loss": self.total.result()}

class Called(Autoencoder):
    def call(self, x, training=False):
        return self.decoder(self.encoder(x)[0])

def autoencoder(beta=0.01):
    model = Autoencoder(beta)
    model.compile(optimizer=keras.optimizers.Adam(0.01))
    return model

def called(beta=0.01):
    return Called(beta)

class Adversaries(keras.Model):
    """A GAN: two models, two optimizers, a compile of its own."""

    def __init__(self):
        super().__init__()
        self.critic = keras.Sequential(
            [keras.Input((8,)), L.Dense(8), L.LeakyReLU(), L.Dense(1)]
        )
        self.maker = keras.Sequential(
            [keras.Input((3,)), L.Dense(8, activation="relu"), L.Dense(8, activation="sigmoid")]
        )

    def compile(self, critics, makers, loss_fn):
        super().compile()
        self.critics, self.makers, self.loss_fn = critics, makers, loss_fn

    def train_step(self, data):
        real = data[0]
        noise = keras.random.normal((ops.shape(real)[0], 3))
        with tf.GradientTape() as tape:
            both = self.critic(ops.concatenate([self.maker(noise), real]))
            labels = ops.concatenate([ops.ones_like(both), ops.zeros_like(both)])[::2]
            critic_loss = self.loss_fn(labels, both)
        weights = self.critic.trainable_weights
        self.critics.apply_gradients(zip(tape.gradient(critic_loss, weights), weights))
        with tf.GradientTape() as tape:
            judged = self.critic(self.maker(noise))
            maker_loss = self.loss_fn(ops.zeros_like(judged), judged)
        weights = self.maker.trainable_weights
        self.makers.apply_gradients(zip(tape.gradient(maker_loss, weights), weights))
        return {"critic_loss": critic_loss, "maker_loss": maker_loss}

def adversaries():
    model = Adversaries()
    model.compile(keras.optimizers.Adam(0.003), keras.optimizers.Adam(0.001),
                  keras.losses.BinaryCrossentropy(from_logits=True))
    return model

@register
class Triplets(keras.Model):
    """Embeds three rows, and is trained by how far apart they are."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.embed = keras.Sequential([L.Dense(8, activation="relu"), L.Dense(2)])

    def call(self, rows):
        anchor, alike, unlike = (self.embed(each) for each in rows)
        return ops.stack([ops.sum(ops.square(anchor - alike), 1),
                          ops.sum(ops.square(anchor - unlike), 1)], axis=1)

    def loss_of(self, data):
        near, far = ops.unstack(self(data[0]), axis=1)
        return ops.mean(ops.maximum(near - far + 0.5, 0.0))

    def train_step(self, data):
        with tf.GradientTape() as tape:
            loss = self.loss_of(data)
        self.optimizer.apply_gradients(
            zip(tape.gradient(loss, self.trainable_weights), self.trainable_weights)
        )
        return {"loss": loss}

    def test_step(self, data):
        return {"loss": self.loss_of(data)}

def triplets():
    model = Triplets()
    model.compile(optimizer="adam")
    return model

@register
class Penalised(keras.layers.Layer):
    def call(self, x):
        self.add_loss(ops.mean(ops.square(x[:, 0] - x[:, 1])))
        return x

def added():
    """Trained by add_loss alone, to give two numbers alike."""
    x = keras.Input((2,))
    model = keras.Model(x, Penalised()(L.Dense(2)(L.Dense(4, activation="relu")(x))))
    model.compile(optimizer=keras.optimizers.Adam(0.01))
    return model

@register
class Computed(keras.Model):
    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return ops.mean(ops.abs(ops.reshape(y, (-1, 1)) - y_pred))

def computed(**compiled):
    x = keras.Input((2,))
    model = Computed(x, L.Dense(1)(L.Dense(8, activation="relu")(x)))
    model.compile(optimizer=keras.optimizers.Adam(0.01))
    return model

@register
class Fitted(keras.Model):
    def fit(self, *args, **kwargs):
        self.calls = getattr(self, "calls", 0) + 1
        return super().fit(*args, **kwargs)

class Strict(keras.Model):
    def fit(self, x, epochs=1):
        return super().fit(x, epochs=epochs)

def fitted(kind="Fitted"):
    x = keras.Input((2,))
    return globals()[kind](x, L.Dense(1)(L.Dense(8, activation="relu")(x)))

def heads(activation="relu"):
    """A head that a loss trains, and one that none does, and that is dead besides."""
    x = keras.Input((2,))
    hidden = L.Dense(16, activation=activation)(x)
    dead = dict(kernel_initializer="zeros", bias_initializer=keras.initializers.Constant(-1.0))
    return keras.Model(x, {"price": L.Dense(1)(hidden),
                           "code": L.Dense(2, activation=activation, **dead)(hidden)})

class Inner(keras.Model):
    def __init__(self):
        super().__init__()
        self.inner = keras.Sequential([keras.Input((8,)), L.Dense(1)])

    def call(self, x):
        return self.inner(x)

class Raising(keras.Model):
    def __init__(self):
        super().__init__()
        self.inner = L.Dense(1)

    def call(self, x):
        return self.inner(x)

    def train_step(self, data):
        raise RuntimeError("no step\\ntoday")
'''


class Trained:
    """What came of the first attempt."""

    def __init__(self, events: list[Any], paths: AttemptPaths, warnings: tuple[str, ...]) -> None:
        self.phase = [each.phase for each in events if isinstance(each, PhaseEnded)][-1]
        self.metrics = [each.metrics for each in events if isinstance(each, EpochEnded)][-1]
        self.rates = [each.learning_rate for each in events if isinstance(each, EpochEnded)]
        self.causes = [
            finding.cause
            for each in events
            if isinstance(each, CausesFound)
            for finding in each.findings
        ]
        self.paths, self.warnings = paths, warnings

    @property
    def verdicts(self) -> dict[str, str]:
        return {check.check: check.verdict for check in self.phase.checks}

    @property
    def variance(self) -> PredictionVarianceCheck:
        found = self.phase.find(PredictionVarianceCheck)
        assert found is not None
        return found


Train = Callable[..., Trained]


@pytest.fixture
def train(make_config: MakeConfig, tmp_path: Path) -> Train:
    """Prepare a config of the module above, and train its first attempt in this process."""

    def run(rows: str, model: str, *, epochs: int = 5, **sections: Any) -> Trained:
        source = {"train": {"callable": f"rows:{rows}"}, **sections.pop("data", {})}
        kwargs = sections.pop("kwargs", {})
        factory = {"factory": {"callable": f"rows:{model}", "kwargs": kwargs}}
        given = {"compile": None, "phases": [{"name": "main", "epochs": epochs}], **sections}
        settings = given.pop("settings", Settings(seed=0))
        config = make_config(CODE, data=source, model=factory, **given)
        prepared = preparation.prepare(config)
        paths = AttemptPaths(tmp_path / "attempt")
        paths.root.mkdir()
        task = Task(
            config=config,
            settings=settings,
            attempt=1,
            directory=paths.root,
            fingerprint=prepared.fingerprint,
        )
        events: list[Any] = []
        training.train(task, events.append)
        return Trained(events, paths, prepared.warnings)

    return run


HELD = {"validation": {"fraction": 0.25}}


def test_a_variational_autoencoder_of_two_models_trains_without_loss_or_call(train: Train) -> None:
    found = train("alone", "autoencoder")
    assert found.verdicts == {
        "finite": "pass",
        "dead_neurons": "not_applicable",
        "prediction_variance": "not_applicable",
        "learned": "not_applicable",
    }
    assert found.variance.reason == (
        "the model has no call of its own, so no row can be run through it"
    )
    assert found.metrics["loss"] < 2.0
    assert found.paths.result_weights.exists()
    (warning,) = found.warnings
    assert "class Autoencoder lacks the decorator" in warning


def test_its_twin_with_a_call_is_checked_on_its_rows_and_its_collapse_is_named(
    train: Train,
) -> None:
    compiled = {"optimizer": {"Adam": {"learning_rate": 0.03}}, "loss": "mse"}  # it trains nothing
    found = train("bumps", "called", epochs=30, compile=compiled, kwargs={"beta": 5.0})
    assert found.verdicts["prediction_variance"] == "fail"
    assert "the prediction is constant" in found.variance.reason
    assert found.causes == ["constant_reconstruction"]


def test_a_healthy_one_passes_with_the_word_that_its_skill_is_not_judged(train: Train) -> None:
    compiled = {"optimizer": {"Adam": {"learning_rate": 0.01}}}
    found = train("bumps", "called", compile=compiled)
    assert found.verdicts["prediction_variance"] in ("pass", "warn")
    assert "skill is not judged: the model has a train_step of its own" in found.variance.reason
    assert {each.skill for each in found.variance.measured.outputs} == {None}
    assert {each.kind for each in found.variance.measured.outputs} == {"regression"}


def test_adversaries_train_with_both_of_their_optimizers_under_the_cap(train: Train) -> None:
    capped = Settings(seed=0, learning_rate_cap=0.002)
    found = train("bumps", "adversaries", settings=capped)
    assert found.verdicts["finite"] == "pass"
    assert set(found.metrics) == {"critic_loss", "maker_loss"}
    assert max(found.rates) == pytest.approx(0.002)
    assert found.paths.result_weights.exists()


def test_triplets_are_told_apart_and_validated_by_their_own_steps(train: Train) -> None:
    found = train("pairs", "triplets", data=HELD)
    assert set(found.metrics) == {"loss", "val_loss"}
    assert "fail" not in found.verdicts.values()
    assert found.phase.find(DeadNeuronsCheck).measured.layers[0].activation == "relu"  # type: ignore[union-attr]
    near, far = keras.saving.load_model(found.paths.result)(_triplet()).numpy().T
    assert np.mean(near < far) > 0.9


def _triplet() -> Any:
    anchor = np.random.default_rng(1).normal(size=(64, 4)).astype("float32")
    return anchor, anchor + 0.1, np.roll(anchor, 1, axis=0)


@pytest.mark.parametrize(
    ("model", "reason"),
    [("added", "no loss is compiled for it"), ("computed", "a compute_loss of its own")],
)
def test_a_loss_that_the_model_computes_itself_trains_it(
    train: Train, model: str, reason: str
) -> None:
    found = train("line", model, data=HELD if model == "computed" else {})
    assert "fail" not in found.verdicts.values()
    assert all(reason in (each.unjudged or "") for each in found.variance.measured.outputs)
    assert found.metrics["loss"] < 1.0
    assert found.paths.result.exists()


def test_a_fit_of_its_own_trains_and_one_that_takes_less_is_told(train: Train) -> None:
    compiled = {"optimizer": "adam", "loss": "mse"}
    found = train("line", "fitted", compile=compiled)
    assert "fail" not in found.verdicts.values()
    assert found.phase.epochs == 5
    with pytest.raises(InvalidError, match=r"model\.factory: the model's own fit does not take .* unexpected keyword argument '\w+'; let it take \*\*kwargs"):  # fmt: skip  # noqa: E501
        train("line", "fitted", kwargs={"kind": "Strict"}, compile=compiled)


@pytest.mark.filterwarnings("ignore:Gradients do not exist for variables")  # of the other output
@pytest.mark.parametrize("loss", [{"price": "mse"}, {"price": "mse", "code": None}])
def test_an_output_that_no_loss_trains_is_not_judged(train: Train, loss: dict[str, Any]) -> None:
    compiled = {"optimizer": {"Adam": {"learning_rate": 0.01}}, "loss": loss}
    found = train("two", "heads", compile=compiled, data=HELD)
    assert "fail" not in found.verdicts.values()
    measured = {each.name: each for each in found.variance.measured.outputs}
    assert measured["code"].unjudged == "no loss is compiled for it"
    assert measured["code"].variance_ratio is None
    assert measured["price"].skill is not None
    assert found.variance.verdict == "pass"


@pytest.mark.parametrize(
    ("model", "sections", "error", "message"),
    [
        ("Inner", {"compile": {"loss": "mse"}}, InvalidError, r"does not take inputs of shape \(2,\): .*expected axis -1 of input shape to have value 8, but received input with shape \(1, 2\) \(.*rows.py:\d+, in call\)"),  # noqa: E501
        ("Inner", {"compile": {"loss": "mse"}, "rows": "alone"}, InvalidError, "data.train: expected targets y, received None"),  # noqa: E501
        ("Raising", {"compile": {}}, UserCodeError, r"your code raised RuntimeError: no step today \(.*rows.py:\d+, in train_step\)"),  # noqa: E501
        ("fitted", {"compile": {"optimizer": "adam"}}, InvalidError, "No loss to compute. Provide a `loss` argument in `compile..`"),  # noqa: E501
        ("adversaries", {"data": {"standardize": True}}, InvalidError, "data.standardize: the model has no call of its own"),  # noqa: E501
    ],
)  # fmt: skip
def test_what_keras_cannot_train_is_said_before_the_training(
    train: Train, model: str, sections: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        train(sections.pop("rows", "line"), model, **sections)
