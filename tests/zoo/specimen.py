"""What a model of the zoo is: its rows, how it is built, when it is healthy, how it is broken."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import numpy.typing as npt

import orchestrator
from orchestrator.diagnosis.health import Health
from orchestrator.model.keras_internals import all_layers

Array = npt.NDArray[Any]
Rows = tuple[Any, Any, Array | None]
"""Inputs, targets and the weight of each row."""
Twin = Literal["constant", "dead", "nan"]

FAILS: Mapping[Twin, str] = {
    "constant": "prediction_variance", "dead": "dead_neurons", "nan": "finite",
}  # fmt: skip
"""The check by which each kind of broken model must fail."""
RUN_FAILS: Mapping[Twin, str] = {**FAILS, "constant": "findings"}
"""The same in a run, which sees before the training that the head is frozen at zero."""
NEW = 1000
"""Seed of the rows that no model has trained on."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Specimen:
    """A healthy model that a careless check takes for a broken one."""

    name: str
    rows: Callable[[int], Rows]
    """Rows that are drawn from a seed."""
    build: Callable[..., keras.Model]
    """Gives the compiled model; takes `activation`."""
    epochs: int
    measure: Callable[[keras.Model, Any, Any], float]
    """The yardstick in plain Keras: what a trained model reaches on rows that it has not seen."""
    yardstick: str
    """What `measure` gives, in words."""
    least: float
    """A model that reaches this is healthy."""
    class_weight: Mapping[int, float] | None = None
    twins: tuple[Twin, ...] = ("constant", "dead", "nan")
    """How it can be broken: a model without an activation cannot have a dead layer."""

    def fresh(self) -> keras.Model:
        """The model before its training."""
        keras.utils.set_random_seed(0)
        return self.build()

    def fit(self, fresh: keras.Model | None = None) -> keras.Model:
        """The model, trained as plain Keras trains it."""
        model = self.fresh() if fresh is None else fresh
        x, y, weight = self.rows(0)
        model.fit(
            x, y, sample_weight=weight, epochs=self.epochs, batch_size=32, verbose=0,
            class_weight=self.class_weight,
        )  # fmt: skip
        return model

    def diagnose(self, model: keras.Model) -> Health:
        """What is found on the rows that it was trained on, weighted as in the training."""
        x, y, weight = self.rows(0)
        if self.class_weight is not None:
            weight = np.array([self.class_weight[int(each)] for each in np.ravel(y)], "float32")
        return orchestrator.diagnose(model, x, y, sample_weight=weight)

    def retrain(self, twin: Twin | None = None, *, runs_dir: Path) -> tuple[Any, dict[str, Any]]:
        """A whole run of it, or of a broken twin, which has one attempt."""
        x, y, weight = self.rows(0)
        return orchestrator.retrain(
            self.build if twin is None else functools.partial(self.broken, twin),
            x,
            y,
            sample_weight=weight,
            phases=[{"name": "main", "epochs": self.epochs}],
            restart={"max_attempts": 1 if twin else 2},
            fit={"class_weight": self.class_weight},
            name=self.name,
            runs_dir=runs_dir,
            quiet=True,
        )

    def worth(self, model: keras.Model) -> float:
        """How it does on rows that it has not seen, by its own yardstick."""
        x, y, _ = self.rows(NEW)
        return float(self.measure(model, x, y))

    def broken(self, twin: Twin, activation: Any = "relu") -> keras.Model:
        """The same model, broken before it trains, in a way that no training mends."""
        model = self.build(activation)
        x, _, _ = self.rows(0)
        model(keras.tree.map_structure(lambda array: array[:2], x))  # makes its weights
        break_(model, twin)
        return model


def break_(model: keras.Model, twin: Twin) -> None:
    """Break a model that has its weights."""
    layers = {layer.name: layer for layer in all_layers(model)}
    if twin == "dead":
        # Below zero on every row, where relu has no gradient.
        hidden = layers["hidden"]
        hidden.bias.assign(np.full(hidden.bias.shape, -1000.0))
    elif twin == "constant":
        head = layers["head"]
        head.kernel.assign(np.zeros(head.kernel.shape))
        head.trainable = False
    else:
        bad = np.array(layers["head"].kernel)
        bad.flat[0] = np.nan
        layers["head"].kernel.assign(bad)


def auc(wanted: Array, got: Array) -> float:
    """Share of the pairs of a positive and a negative row that are in the right order."""
    wanted, got = np.ravel(wanted) > 0.5, np.ravel(got)
    ranks = np.argsort(np.argsort(got)) + 1.0
    positives = int(wanted.sum())
    below = ranks[wanted].sum() - positives * (positives + 1) / 2
    return float(below / (positives * (len(got) - positives)))


def r2(wanted: Array, got: Array) -> float:
    """1 - squared error / variance, over all columns together."""
    wanted, got = (np.asarray(each, np.float64).reshape(len(each), -1) for each in (wanted, got))
    return float(1 - ((wanted - got) ** 2).sum() / ((wanted - wanted.mean(axis=0)) ** 2).sum())


def correlation(wanted: Array, got: Array) -> float:
    """Pearson's correlation."""
    return float(np.corrcoef(np.ravel(wanted), np.ravel(got))[0, 1])


def predict(model: keras.Model, x: Any) -> Any:
    """What it predicts, without the graph that `model.predict` would trace first."""
    return keras.tree.map_structure(np.asarray, model(x, training=False))


def normal(seed: int, rows: int, columns: int = 6) -> tuple[np.random.Generator, Array]:
    """A generator, and inputs that are standard normal."""
    draw = np.random.default_rng(seed)
    return draw, draw.normal(size=(rows, columns)).astype("float32")


def stack(
    columns: int, units: int, last: Any = None, activation: Any = "relu", width: int = 24
) -> keras.Sequential:
    """Two hidden layers and a head."""
    return keras.Sequential([
        keras.Input((columns,)),
        keras.layers.Dense(width, activation=activation),
        keras.layers.Dense(width, activation=activation, name="hidden"),
        keras.layers.Dense(units, activation=last, name="head"),
    ])  # fmt: skip


def compiled(model: keras.Model, loss: Any, rate: float = 0.005, **others: Any) -> keras.Model:
    """The model, compiled with Adam."""
    model.compile(optimizer=keras.optimizers.Adam(rate), loss=loss, **others)
    return model
