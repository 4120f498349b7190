"""Objects of Python's: made plain or kept for every attempt, or refused in a sentence."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml

from orchestrator.config import yaml12
from orchestrator.config.given import Given
from orchestrator.config.sections.model import Named
from orchestrator.errors import InvalidError
from orchestrator.model import objects
from orchestrator.training.retraining.plain import Plain, describe
from tests import builders

K, ops, schedules = keras, keras.ops, keras.optimizers.schedules
KEYS = {
    "optimizer": (("compile", "optimizer"), keras.optimizers),
    "loss": (("compile", "loss"), keras.losses),
    "metric": (("compile", "metrics", 0), keras.metrics),
    "callback": (("fit", "callbacks", 0), keras.callbacks),
}
Y, P = np.array([[0.0], [1.0]], "float32"), np.array([[0.25], [0.5]], "float32")


class OwnLoss(keras.losses.Loss):  # type: ignore[misc]
    def __init__(self, power: float = 2.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.power = power

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return ops.mean(ops.abs(y_true - y_pred) ** self.power, axis=-1)


class OwnMetric(keras.metrics.Metric):  # type: ignore[misc]
    def __init__(self, name: str = "own", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.total = self.add_weight(name="total", shape=(), initializer="zeros")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        self.total.assign_add(ops.sum(y_pred))

    def result(self) -> Any:
        return self.total


class OwnOptimizer(keras.optimizers.SGD):  # type: ignore[misc]
    def __init__(self, learning_rate: Any = 0.5, spice: int = 1, **kwargs: Any) -> None:
        super().__init__(learning_rate, **kwargs)
        self.spice = spice


class OwnSchedule(schedules.LearningRateSchedule):  # type: ignore[misc]
    def __init__(self, rate: float = 0.25) -> None:
        self.rate = rate

    def __call__(self, step: Any) -> Any:
        return ops.convert_to_tensor(self.rate)


class OwnCallback(keras.callbacks.Callback):  # type: ignore[misc]
    def __init__(self, limit: int = 3) -> None:
        super().__init__()
        self.limit, self.seen = limit, []


def own_loss(y_true: Any, y_pred: Any, scale: float = 1.0) -> Any:
    return scale * ops.mean(ops.abs(y_true - y_pred))


def make_loss() -> Any:
    return OwnLoss(3.0)


def make_optimizer(rate: float = 0.5) -> Any:
    return keras.optimizers.SGD(rate)


def make_callback() -> Any:
    return keras.callbacks.TerminateOnNaN()


def closed(scale: float) -> Callable[..., Any]:
    return lambda y_true, y_pred: own_loss(y_true, y_pred, scale)


def built_optimizer() -> Any:
    optimizer = keras.optimizers.Adam(0.01)
    optimizer.build([keras.Variable(np.zeros(3))])
    optimizer.apply([ops.ones(3)])
    return optimizer


def used_callback() -> Any:
    callback = keras.callbacks.EarlyStopping(monitor="loss", patience=2)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    callback.set_model(model)
    return callback


f64, f32, i64 = np.float64, np.float32, np.int64
GIVEN = "{given: "
MATRIX: list[tuple[str, Callable[[], Any], str]] = [
    # Optimizers: names, classes, instances with numbers of any kind, functions, one's own.
    ("optimizer", lambda: "adam", "adam"),
    ("optimizer", lambda: {"Adam": {"learning_rate": f64(0.01)}}, "Adam: {learning_rate: 0.01}"),
    ("optimizer", lambda: {"SGD": {"nesterov": np.True_, "momentum": f32(0.5)}}, "momentum: 0.5"),
    ("optimizer", lambda: K.optimizers.Adam, "Adam"),
    ("optimizer", lambda: K.optimizers.Adam(), "Adam"),
    ("optimizer", lambda: K.optimizers.Adam(0.01), "Adam: {learning_rate: 0.01}"),
    ("optimizer", lambda: K.optimizers.Adam(f64(0.003)), "Adam: {learning_rate: 0.003}"),
    ("optimizer", lambda: {"Adam": {"learning_rate": f32(0.5)}}, "Adam: {learning_rate: 0.5}"),
    ("optimizer", lambda: {"SGD": {"learning_rate": tf.constant(0.5)}}, "learning_rate: 0.5"),
    ("optimizer", lambda: K.optimizers.SGD(0.5, momentum=f64(0.9)), "momentum: 0.9"),
    ("optimizer", lambda: K.optimizers.AdamW(0.01, weight_decay=f64(0.1)), "weight_decay: 0.1"),
    ("optimizer", lambda: K.optimizers.Adam(clipnorm=f64(1.0)), "Adam: {clipnorm: 1.0}"),
    ("optimizer", lambda: K.optimizers.Adam(schedules.ExponentialDecay(0.01, i64(10), f64(0.9))), "decay_steps: 10"),  # noqa: E501
    ("optimizer", lambda: K.optimizers.Adam(schedules.PiecewiseConstantDecay([5], [0.1, 0.01])), "boundaries: [5]"),  # noqa: E501
    ("optimizer", lambda: K.optimizers.Adam(OwnSchedule(0.25)), "learning_rate: {given: "),
    ("optimizer", lambda: K.optimizers.SGD(lambda: 0.25), "learning_rate: {given: "),
    ("optimizer", lambda: {"class_name": "Adam", "config": {"learning_rate": f64(0.01)}}, "Adam: {learning_rate: 0.01}"),  # noqa: E501
    ("optimizer", lambda: K.optimizers.serialize(K.optimizers.SGD(schedules.ExponentialDecay(0.01, 10, 0.9))), "ExponentialDecay: {initial_learning_rate: 0.01"),  # noqa: E501
    ("loss", lambda: {"class_name": "Huber", "config": {"delta": f32(2.0)}}, "Huber: {delta: 2.0}"),
    ("optimizer", lambda: {"SGD": {"learning_rate": OwnSchedule}}, "learning_rate: {given: "),
    ("optimizer", built_optimizer, "Adam: {learning_rate: 0.01}"),
    ("optimizer", lambda: K.optimizers.LossScaleOptimizer(K.optimizers.Adam(0.5)), GIVEN),
    ("optimizer", lambda: OwnOptimizer(0.25, spice=4), "OwnOptimizer(spice=4)"),
    ("optimizer", lambda: OwnOptimizer, "class tests.training.retraining.test_plain.OwnOptimizer"),
    ("optimizer", lambda: make_optimizer, "function tests.training.retraining.test_plain.make_opt"),
    ("optimizer", lambda: lambda: K.optimizers.Adam(0.5), "<lambda>"),
    ("optimizer", lambda: functools.partial(make_optimizer, 0.25), "make_optimizer with 0.25"),
    ("optimizer", lambda: functools.partial(K.optimizers.Adam, 0.25), "with 0.25"),
    # Losses.
    ("loss", lambda: "mse", "mse"),
    ("loss", lambda: K.losses.MeanSquaredError, "MeanSquaredError"),
    ("loss", lambda: K.losses.MeanSquaredError(), "MeanSquaredError"),
    ("loss", lambda: K.losses.Huber(delta=f64(2.0)), "Huber: {delta: 2.0}"),
    ("loss", lambda: K.losses.BinaryFocalCrossentropy(alpha=f64(0.3)), "alpha: 0.3"),
    ("loss", lambda: K.losses.BinaryCrossentropy(from_logits=np.True_), "from_logits: true"),
    ("loss", lambda: K.losses.BinaryCrossentropy(label_smoothing=f32(0.5)), "label_smoothing: 0.5"),
    ("loss", lambda: K.losses.mean_absolute_error, "mean_absolute_error"),
    ("loss", lambda: own_loss, "function tests.training.retraining.test_plain.own_loss"),
    ("loss", lambda: lambda t, p: ops.mean((t - p) ** 2), "<lambda>"),
    ("loss", lambda: closed(2.0), "closed.<locals>.<lambda>"),
    ("loss", lambda: functools.partial(own_loss, scale=f64(2.0)), "own_loss with scale="),
    ("loss", lambda: OwnLoss(f64(3.0)), "OwnLoss(power=3.0"),
    ("loss", lambda: OwnLoss, "class tests.training.retraining.test_plain.OwnLoss"),
    ("loss", lambda: make_loss, "function tests.training.retraining.test_plain.make_loss"),
    ("loss", lambda: OwnLoss(2.0).__call__, "Loss.__call__"),
    # Metrics.
    ("metric", lambda: "accuracy", "accuracy"),
    ("metric", lambda: "AUC", "AUC"),
    ("metric", lambda: K.metrics.AUC, "AUC"),
    ("metric", lambda: K.metrics.AUC(name="auc"), "AUC: {name: auc}"),
    ("metric", lambda: K.metrics.AUC(num_thresholds=i64(20), curve="PR", name="a"), "curve: PR"),
    ("metric", lambda: K.metrics.AUC(thresholds=[0.25, f64(0.5)], name="a"), "thresholds: [0.25"),
    ("metric", lambda: K.metrics.Precision(thresholds=f64(0.5), name="p"), "thresholds: 0.5"),
    ("metric", lambda: K.metrics.PrecisionAtRecall(f64(0.5), name="p"), "recall: 0.5"),
    ("metric", lambda: K.metrics.F1Score(threshold=f64(0.5), name="f"), "threshold: 0.5"),
    ("metric", lambda: K.metrics.MeanIoU(num_classes=i64(2), name="m"), "num_classes: 2"),
    ("metric", lambda: K.metrics.mean_squared_error, "mean_squared_error"),
    ("metric", lambda: K.metrics.MeanMetricWrapper(own_loss, name="w", scale=2.0), GIVEN),
    ("metric", lambda: K.metrics.MeanMetricWrapper(lambda t, p: p, name="w"), GIVEN),
    ("metric", lambda: own_loss, "own_loss"),
    ("metric", lambda: lambda t, p: ops.mean(p), "<lambda>"),
    ("metric", lambda: functools.partial(own_loss, scale=2.0), "own_loss with scale=2.0"),
    ("metric", lambda: OwnMetric(), "OwnMetric(name='own')"),
    ("metric", lambda: OwnMetric, "class tests.training.retraining.test_plain.OwnMetric"),
    ("metric", lambda: lambda: OwnMetric("made"), "<lambda>"),
    # Callbacks.
    ("callback", lambda: "TerminateOnNaN", "TerminateOnNaN"),
    ("callback", lambda: {"EarlyStopping": {"patience": i64(3)}}, "EarlyStopping: {patience: 3}"),
    ("callback", lambda: K.callbacks.TerminateOnNaN, "TerminateOnNaN"),
    ("callback", lambda: K.callbacks.EarlyStopping("loss", patience=2), "keras.callbacks.EarlyStopping(monitor='loss'"),  # noqa: E501
    ("callback", used_callback, "patience=2"),
    ("callback", lambda: K.callbacks.LambdaCallback(on_epoch_end=lambda *a: None), GIVEN),
    ("callback", lambda: K.callbacks.LearningRateScheduler(lambda e: 0.1), GIVEN),
    ("callback", lambda: K.callbacks.ReduceLROnPlateau(factor=f64(0.5)), "factor=0.5"),
    ("callback", lambda: OwnCallback(5), "OwnCallback(limit=5)"),
    ("callback", lambda: OwnCallback, "class tests.training.retraining.test_plain.OwnCallback"),
    ("callback", lambda: make_callback, "function tests.training.retraining.test_plain.make_call"),
    ("callback", lambda: lambda: OwnCallback(7), "<lambda>"),
    ("callback", lambda: functools.partial(OwnCallback, 7), "OwnCallback with 7"),
]  # fmt: skip


def attempts(role: str, value: Any) -> tuple[str, list[Any]]:
    """What the record says, and what two attempts are given."""
    key, home = KEYS[role]
    plain = Plain()
    written = plain.of(value, key)
    text = yaml12.dump(written)
    assert yaml.safe_load(text) == written
    rows = np.zeros((1, 1))
    given = Given(build=len, train=(rows, rows, None), validation=None, objects=plain.kept)
    config = builders.config().with_given(given)
    named = Named.model_validate(written)
    place = (*key, named.name) if named.arguments else key
    shown = " ".join(text.split()).replace("''", "'")
    return shown, [objects.make(home, named, place, config) for _ in range(2)]


def use(role: str, found: Any) -> float:
    """Use an object as Keras does."""
    if role == "optimizer":
        optimizer = keras.optimizers.get(found)
        weights = keras.Variable(np.ones(3, "float32"))
        optimizer.build([weights])
        optimizer.apply([ops.ones(3)])
        return float(weights.numpy()[0])
    if role == "loss":
        return float(np.mean(keras.losses.get(found)(Y, P)))
    if role == "callback":
        assert isinstance(
            found if not isinstance(found, str) else getattr(keras.callbacks, found)(),
            keras.callbacks.Callback,
        )
        return 0.0
    if found == "accuracy":  # which Keras makes when it knows the shapes
        return 0.0
    metric = keras.metrics.get(found)
    if isinstance(metric, keras.metrics.Metric):
        metric.update_state(Y, P)
        return float(np.mean(metric.result()))
    return float(np.mean(metric(Y, P)))


@pytest.mark.filterwarnings("ignore:The object being serialized includes a `lambda`")
@pytest.mark.parametrize(("role", "make", "text"), MATRIX)
def test_objects_are_plain_or_kept_and_every_attempt_gets_its_own(
    role: str, make: Callable[[], Any], text: str
) -> None:
    value = make()
    written, (first, second) = attempts(role, value)
    assert text in written
    assert "0x" not in written
    result = use(role, first)
    assert use(role, second) == result  # nothing of the first has come to the second
    if not isinstance(first, str) and not callable(value):
        assert first is not second
        assert first is not value


def test_the_matrix_is_large() -> None:
    assert len(MATRIX) >= 70


def test_state_is_copied_as_it_was_given_and_never_shared() -> None:
    callback = OwnCallback()
    callback.seen.append("before")
    _, (first, second) = attempts("callback", callback)
    first.seen.append("first")
    assert (second.seen, callback.seen) == (["before"], ["before"])


def test_an_optimizer_that_was_built_starts_without_state() -> None:
    _, (first, _) = attempts("optimizer", built_optimizer())
    assert int(first.iterations) == 0
    assert not first.built


def test_a_function_goes_to_another_process_with_what_it_closes_over() -> None:
    plain = Plain()
    plain.of(closed(2.0), ("compile", "loss"))
    from orchestrator.training.retraining import pickling

    (kept,) = plain.kept.values()
    assert float(cloudpickle.loads(pickling.dumps(kept))(Y, P)) == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (("compile", "loss"), type("Held", (), {"lock": threading.Lock()}), None),
        (("compile", "loss"), threading.Lock(), "compile.loss: lock cannot be copied for each attempt: TypeError: cannot pickle '_thread.lock' object; give a function that returns one"),  # noqa: E501
        (("checks", "metric"), own_loss, r"checks.metric: expected what a config can hold, received <function own_loss"),  # noqa: E501
        (("compile", "loss_weights"), np.zeros(2000), "compile.loss_weights: expected"),
        (("fit", "callbacks", 0), "__main__:nothing", "fit.callbacks.0: the script that runs has no 'nothing'; give the function itself"),  # noqa: E501
    ],
)  # fmt: skip
def test_what_can_neither_be_written_nor_sent_is_refused_in_a_sentence(
    key: Any, value: Any, message: str | None
) -> None:
    plain = Plain()
    if message is None:
        assert plain.of(value, key) == {"given": describe(value)}
        return
    with pytest.raises(InvalidError, match=message):
        plain.of(value, key)


@pytest.mark.parametrize(
    ("role", "value", "message"),
    [
        ("optimizer", own_loss, "compile.optimizer: expected a Keras optimizer or what returns one, received function"),  # noqa: E501
        ("optimizer", make_callback, "compile.optimizer: expected a Keras optimizer or what returns one, received TerminateOnNaN"),  # noqa: E501
        ("callback", "Terminate", "fit.callbacks.0: Keras has no callback 'Terminate'; did you mean 'TerminateOnNaN'"),  # noqa: E501
        ("callback", OwnLoss(), "fit.callbacks.0: expected a Keras callback or what returns one, received OwnLoss"),  # noqa: E501
        ("loss", "nowhere:loss", "compile.loss: there is no module 'nowhere'"),
    ],
)  # fmt: skip
def test_what_is_no_such_object_is_refused_in_a_sentence(
    role: str, value: Any, message: str
) -> None:
    with pytest.raises(InvalidError, match=message):
        attempts(role, value)


def test_numbers_of_numpy_are_numbers_anywhere() -> None:
    plain = Plain()
    written = plain.of(
        {
            "class_weight": {i64(0): f64(1.0), 1: f32(2.5)},
            "weights": np.array([1.0, 0.5]),
            "rate": tf.constant(0.5),
            "path": Path("a"),
            "texts": (np.str_("a"), "b"),
            "flag": np.False_,
            "range": range(2),
        },
        ("fit",),
    )
    assert written == {
        "class_weight": {0: 1.0, 1: 2.5},
        "weights": [1.0, 0.5],
        "rate": 0.5,
        "path": "a",
        "texts": ["a", "b"],
        "flag": False,
        "range": [0, 1],
    }
    assert yaml.safe_load(yaml12.dump(written)) == written
    assert plain.kept == {}
