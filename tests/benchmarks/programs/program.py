"""What a program is, and what is common to those of this benchmark."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import keras
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
End = Literal["repairable", "healthy", "hopeless"]
"""What must become of it: hopeless is what no restart can mend, and what is said within seconds."""
Half = Literal["tuned", "held_out"]

L = keras.layers
RATE = keras.optimizers


@dataclasses.dataclass(frozen=True)
class Program:
    """A network, its rows, and how well it has learnt them."""

    build: Callable[[], keras.Model]
    """Makes the compiled network."""
    x: Any
    """Inputs, as `fit` takes them."""
    y: Any
    """Targets."""
    epochs: int
    batch_size: int = 32
    score: Callable[[Any, Any], float] | None = None
    """Of targets and predictions, 1 at best and 0 for a constant; None for `explained`."""

    def judge(self, model: keras.Model) -> float:
        """The score of a trained network."""
        predicted = model.predict(self.x, verbose=0)
        return float((self.score or explained)(self.y, predicted))


Make = Callable[[bool], Program]
"""Makes a program: as people write it, or where True as they would be told to."""


@dataclasses.dataclass(frozen=True)
class Listed:
    """A program of the list."""

    name: str
    make: Make
    end: End
    half: Half


ALL: dict[str, Listed] = {}


def listed(end: End, half: Half) -> Callable[[Make], Make]:
    """Put a function that makes a program on the list, under its name."""

    def enlist(make: Make) -> Make:
        name = make.__name__
        ALL[name] = Listed(name, make, end, half)
        return make

    return enlist


def explained(y: Any, predicted: Any) -> float:
    """Share of the targets' variance that is explained; of several outputs the least."""
    if isinstance(y, dict):
        return min(explained(y[key], predicted[key]) for key in y)
    y = np.asarray(y, float).reshape(len(y), -1)
    left = np.asarray(predicted, float).reshape(len(y), -1) - y
    return float(1 - (left**2).sum() / ((y - y.mean(0)) ** 2).sum())


def classified(y: Any, predicted: Any) -> float:
    """How far the share of right classes goes beyond that of the most frequent class."""
    y = np.asarray(y)
    y = y.argmax(-1) if y.ndim > 1 and y.shape[-1] > 1 else y.reshape(-1)
    predicted = np.asarray(predicted)
    if predicted.ndim > 1 and predicted.shape[-1] > 1:
        chosen = predicted.argmax(-1)
    else:
        chosen = predicted.reshape(-1) > 0.5
    most = max(np.mean(y == each) for each in np.unique(y))
    return float((np.mean(chosen == y) - most) / (1 - most))


def scaled(values: Array) -> Array:
    """Columns with a mean of 0 and a standard deviation of 1."""
    found: Array = (values - values.mean(0)) / (values.std(0) + 1e-9)
    return found.astype("float32")


def network(shape: tuple[int | None, ...], *layers: keras.layers.Layer) -> keras.Sequential:
    """Layers in a row behind an input."""
    return keras.Sequential([keras.Input(shape), *layers])


def dense(*widths: int, activation: str = "relu", **options: Any) -> list[keras.layers.Layer]:
    """Hidden layers."""
    return [L.Dense(width, activation=activation, **options) for width in widths]


def compiled(model: keras.Model, optimizer: Any, loss: Any, **options: Any) -> keras.Model:
    """The model, compiled."""
    model.compile(optimizer=optimizer, loss=loss, **options)
    return model


def bent(count: int = 600, columns: int = 8, seed: int = 0) -> tuple[Array, Array]:
    """Rows with a target that bends: inputs (count, columns), targets (count,), as float32."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(count, columns)).astype("float32")
    y = np.sin(x[:, 0]) + x[:, 1] * x[:, 2] + 0.5 * x[:, 3] + 0.1 * random.normal(size=count)
    return x, y.astype("float32")


def groups(count: int, classes: int, columns: int, seed: int, apart: float) -> tuple[Array, Array]:
    """Groups of points: inputs (count, columns), class indices (count,)."""
    random = np.random.default_rng(seed)
    middles = random.normal(size=(classes, columns)) * apart
    y = random.integers(0, classes, count)
    return (middles[y] + random.normal(size=(count, columns))).astype("float32"), y


def pictures(count: int, classes: int, seed: int, side: int = 12) -> tuple[Array, Array]:
    """Blurred bars on a dark ground: bytes (count, side, side, 1), class indices (count,)."""
    random = np.random.default_rng(seed)
    y = random.integers(0, classes, count)
    x = np.zeros((count, side, side, 1))
    across = np.arange(side)
    for row, kind in enumerate(y):
        at = 2 + kind * (side - 4) / max(classes - 1, 1) + random.normal() * 0.4
        bar = np.exp(-((across - at) ** 2) / 2)
        x[row, :, :, 0] = bar[None, :] if random.random() < 0.5 else bar[None, :] ** 2
    return np.clip(x * 220 + random.normal(size=x.shape) * 12, 0, 255).astype("uint8"), y


def build(
    x: Array, layers: list[keras.layers.Layer], optimizer: keras.optimizers.Optimizer, loss: Any
) -> Callable[[], keras.Model]:
    """Makes a network of such layers, new ones each time, with such an optimizer, compiled."""
    shape = x.shape[1:]
    given = [(type(each), each.get_config()) for each in layers]
    kind, config = type(optimizer), optimizer.get_config()

    def make() -> keras.Model:
        model = network(shape, *(layer.from_config(options) for layer, options in given))
        return compiled(model, kind.from_config(config), loss)

    return make
