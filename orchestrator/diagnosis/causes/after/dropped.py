"""What dropout makes of predictions: skill with it and without, and how far it scatters them."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from orchestrator.data.rows import AnyRows, transform
from orchestrator.diagnosis.skill.scores import Scores
from orchestrator.model.keras_internals import all_layers, global_generator
from orchestrator.model.layers import drops
from orchestrator.model.losses.returned import Returned
from orchestrator.model.outputs import Output

Array = npt.NDArray[np.float64]
Predict = Callable[[Any], list[npt.NDArray[Any]]]

PASSES = 16
"""Predictions with dropout of which the mean is taken: of a network of which 0.8 of the units are
left in it is as good as that of many."""
_ROWS = 512
"""Rows that tell what dropout makes of the predictions."""
_ROUNDING = 1e-5
"""Share of a prediction's size by which it differs by rounding alone."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Dropped:
    """What dropout makes of one column of an output."""

    output: int
    """Number of the output, counted from 0."""
    name: str
    """Its name, as in `Output`; empty where there is one."""
    without: float
    """Skill without dropout, as in inference."""
    by: float
    """Skill of the mean prediction with dropout, as in training."""
    noise: float
    """Variance of a prediction over what is left out, as a multiple of its variance over the rows;
    infinite where the rows are all alike. Of a class, that of all classes."""


def dropping(model: keras.Model) -> list[keras.Layer]:
    """The layers that leave units out in training."""
    return [each for each in all_layers(model) if drops(each)]


def measure(
    model: keras.Model,
    rows: AnyRows,
    outputs: Sequence[Output],
    *,
    batch_size: int,
    class_weight: Mapping[int, float] | None = None,
) -> tuple[Dropped, ...]:
    """What dropout makes of each output, on rows from all over the data.

    The model is as it was afterwards, with all that it draws and counts.

    Args:
        model: a built model.
        rows: the training rows.
        outputs: its outputs.
        batch_size: rows of a training step.
        class_weight: weight of every class in training; None without.

    Returns:
        What it makes of each column that has a skill; nothing without dropout, nor where training
        without it differs from inference, as by another noise.
    """
    size = min(batch_size, len(rows), _ROWS)
    places = np.arange(len(rows))
    if len(rows) > _ROWS:
        places = np.sort(np.random.default_rng(0).choice(places, _ROWS, replace=False))
    batches = [places[at : at + size] for at in range(0, len(places) - size + 1, size)]
    if not dropping(model) or not batches:
        return ()
    plain, dropped = (Scores(outputs, batch_size, class_weight) for _ in range(2))
    scatter = [_Scatter() for _ in outputs]
    with _restored(model):
        infer, train = _graph(model, training=False), _graph(model, training=True)
        first = transform(tf.convert_to_tensor, rows.batch(batches[0])[0])
        inferred = infer(first)
        with _without_dropout(model):
            if not all(map(_alike, inferred, _graph(model, training=True)(first))):
                return ()
        for chosen in batches:
            x, y, weight = rows.batch(chosen)
            x = transform(tf.convert_to_tensor, x)
            plain.see([Returned(tf.constant(each)) for each in infer(x)], y, weight)
            means = []
            for each, (mean, variance) in zip(scatter, _repeat(train, x), strict=True):
                each.see(mean, variance)
                means.append(Returned(tf.constant(mean.astype(np.float32))))
            dropped.see(means, y, weight)
    return tuple(_columns(outputs, plain, dropped, scatter))


def _columns(
    outputs: Sequence[Output], plain: Scores, dropped: Scores, scatter: Sequence[_Scatter]
) -> Iterator[Dropped]:
    looked = zip(outputs, plain.columns(), dropped.columns(), scatter, strict=True)
    for number, (output, without, by, each) in enumerate(looked):
        noises = each.noises(len(without))
        for old, new, noise in zip(without, by, noises, strict=True):
            if old.skill is not None and new.skill is not None:
                yield Dropped(
                    output=number, name=output.name, without=old.skill, by=new.skill, noise=noise
                )


def _graph(model: keras.Model, *, training: bool) -> Predict:
    """Predictions of every output; in a graph, where a recurrent layer's steps cost far less."""
    call = tf.function(
        lambda inputs: keras.tree.flatten(model(inputs, training=training)), autograph=False
    )
    return lambda inputs: [each.numpy() for each in call(inputs)]


def _repeat(predict: Predict, inputs: Any) -> list[tuple[Array, Array]]:
    """Mean and variance of the predictions of some rows over several passes (Welford, 1962)."""
    found: list[tuple[Array, Array]] = []
    for count in range(1, PASSES + 1):
        seen = [np.asarray(each, dtype=np.float64) for each in predict(inputs)]
        found = found or [(np.zeros_like(each), np.zeros_like(each)) for each in seen]
        for (mean, squares), each in zip(found, seen, strict=True):
            off = each - mean
            mean += off / count
            squares += off * (each - mean)
    return [(mean, squares / (PASSES - 1)) for mean, squares in found]


class _Scatter:
    """How an output's predictions differ over the rows, and for the same row over passes."""

    def __init__(self) -> None:
        self._rows = 0
        self._noise: Array | float = 0.0
        self._sum: Array | float = 0.0
        self._squares: Array | float = 0.0

    def see(self, mean: Array, variance: Array) -> None:
        """Take in a batch: the mean prediction of each row over passes, and its variance."""
        self._rows += len(mean)
        self._noise = self._noise + variance.sum(axis=0)
        self._sum = self._sum + mean.sum(axis=0)
        self._squares = self._squares + np.square(mean).sum(axis=0)

    def noises(self, columns: int) -> list[float]:
        """Variance over passes as a multiple of that over rows, for each of so many columns."""
        noise, mean = np.atleast_1d(self._noise / self._rows), np.atleast_1d(self._sum / self._rows)
        over_rows = np.atleast_1d(self._squares / self._rows) - np.square(mean)
        rounding = np.square(_ROUNDING * mean)
        # The mean of so many passes still has a part of the noise.
        signal = np.maximum(over_rows - noise / PASSES, 0.0)
        signal, noise = (np.where(each > rounding, each, 0.0) for each in (signal, noise))
        places = tuple(range(noise.ndim - 1))
        noise, signal = noise.sum(axis=places), signal.sum(axis=places)
        if len(noise) != columns:
            return [_times(noise.sum(), signal.sum())] * columns
        return list(map(_times, noise, signal))


def _times(noise: float, signal: float) -> float:
    if not noise > 0:
        return 0.0
    return float(noise / signal) if signal > 0 else math.inf


def _alike(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> bool:
    return np.allclose(one, other, rtol=1e-3, atol=1e-3 * float(np.abs(one).max(initial=0.0)))


@contextlib.contextmanager
def _without_dropout(model: keras.Model) -> Iterator[None]:
    """No Dropout layer leaves anything out in what is traced here."""
    layers = dropping(model)
    rates = [each.rate for each in layers]
    try:
        for layer in layers:
            layer.rate = 0.0
        yield
    finally:
        for layer, rate in zip(layers, rates, strict=True):
            layer.rate = rate


@contextlib.contextmanager
def _restored(model: keras.Model) -> Iterator[None]:
    """Put back what a forward pass changes: of the model, and the generator of unseeded layers."""
    generator = global_generator()
    variables = [*model.variables, *([] if generator is None else [generator.state])]
    kept = [keras.ops.convert_to_numpy(each) for each in variables]
    try:
        yield
    finally:
        for variable, value in zip(variables, kept, strict=True):
            variable.assign(value)
