"""The best constant under a loss, found numerically: what a prediction is worth is measured by it.

A constant is one number for each column of the output, the same for every row and position, and
made by the output's own activation where that has a range. It is looked for on a sample of rows,
first among constants that are near at hand (means and quantiles of the targets), then downhill from
the best of these by the signs of the gradient (Riedmiller and Braun, A direct adaptive method for
faster backpropagation learning: the RPROP algorithm, 1993), which asks neither for a scale nor for
a smooth or convex loss.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from orchestrator.model.losses.output_loss import Array, OutputLoss
from orchestrator.model.losses.returned import Origin, Returned

_SAMPLE = 2048
"""Rows × positions on which the constant is looked for."""
_SAMPLE_NUMBERS = 131_072
"""Numbers that the predictions of these are at most."""
_FREE_ROWS = 128
"""Rows that get a prediction each, to see how low a loss can be."""
_STEPS = 60
"""Steps downhill; each coordinate's own step is halved where it has gone too far."""
_EDGE = 1e-6
"""How near to the end of its range an activation is taken at first."""
_NEGLIGIBLE = 1e-6
"""Share of a loss that counts as nothing."""
_PARTS = 512
"""Batches, about, for which a constant's loss is taken where it is none over rows."""
_OUTER = (0.05, 0.95)
"""Shares of the targets beyond which they may be outliers."""
_NEAR = 0.05
"""Share of the way from the lowest loss to the constant's that may be left at the targets."""
_MOST = 0.5
"""Share of the targets that are the best constant itself, from which on it is what they are."""

_Z = Callable[[tf.Tensor], tf.Tensor]
_ACTIVATIONS: dict[str, tuple[_Z, Callable[[Array], Array]]] = {
    "Relu": (tf.abs, np.abs),
    "Sigmoid": (tf.sigmoid, lambda p: np.log(p) - np.log1p(-p)),
    "Softmax": (tf.nn.softmax, np.log),
    "Softplus": (tf.nn.softplus, lambda p: np.log(np.expm1(p))),
    "Tanh": (tf.tanh, np.arctanh),
}
"""Activations with a range, by the operation that makes the output, each with its inverse."""
_RANGES = {
    "Sigmoid": (_EDGE, 1 - _EDGE),
    "Softmax": (_EDGE, 1.0),
    "Softplus": (_EDGE, 80.0),
    "Tanh": (_EDGE - 1, 1 - _EDGE),
}
_OVERLAPS = frozenset({"dice", "tversky"})
"""Losses that compare sets: beyond 0 to 1 they have no meaning, and no lowest value."""
_SATURATED = frozenset({"cosine_similarity", "poisson"})
"""Losses of Keras's that are lowest where the prediction is the target, and there not 0."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """The targets of some rows, and what the loss needs beside them."""

    y: Array
    """Targets, shape (rows, …)."""
    weight: Array | None
    """Weights as Keras trains with them."""
    mask: Array | None
    """Keras's mask of the predictions, or None."""
    shape: tuple[int, ...]
    """Shape of the predictions, (rows, …)."""

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.shape[0]

    def part(self, rows: slice) -> Batch:
        """Some of its rows."""
        return Batch(
            y=self.y[rows],
            weight=None if self.weight is None else self.weight[rows],
            mask=None if self.mask is None else self.mask[rows],
            shape=(len(self.y[rows]), *self.shape[1:]),
        )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Constant:
    """The best constant of an output."""

    loss: Array
    """Its loss over all rows, shape () or (columns,)."""
    lowest: Array | None = None
    """Loss of the targets themselves, for losses that are not 0 there; of the same shape."""
    usual: Array | None = None
    """Whether it is what most of the targets are themselves, shape () or (columns,)."""
    comparable: bool = True
    """Whether the targets themselves are the best prediction, so that the spread of predictions can
    be put beside theirs: not so of distances, scores, and parameters on another scale."""
    unjudged: str | None = None
    """Why nothing can be measured by it, as a clause."""


def find_constant(
    loss: OutputLoss, batches: Sequence[Batch], origin: Origin, form: str, size: int | None
) -> Constant:
    """The best constant under a loss.

    Args:
        loss: of the output.
        batches: targets of all rows, or of some that are spread over them.
        origin: how the output is made.
        form: how the targets are written, see `record.checks.Form`.
        size: rows for which the loss is taken at once; None where that makes no difference.

    Returns:
        Its loss.
    """
    if all(float(np.ptp(batch.y)) == 0 for batch in batches) and len({*_firsts(batches)}) == 1:
        return Constant(loss=np.asarray(np.nan), unjudged="its targets are all the same")
    if loss.name in _OVERLAPS and origin.end not in _ACTIVATIONS:
        origin = Origin(end="Sigmoid")
    sample = _sample(batches)
    search = loss.found.setdefault(origin, _Search(loss, origin))
    try:
        best = search.descend(search.nearest(_candidates(sample, origin.end, form), sample), sample)
    except _NoConstantError:
        nothing = np.asarray(np.nan)
        reason = "its loss has no value for a constant prediction"
        return Constant(loss=nothing, comparable=loss.is_keras, unjudged=reason)
    figure = _over(batches, size, lambda batch: search.value(best, batch, size))
    if loss.is_keras and loss.name in _SATURATED:
        lowest = _over(batches, size, lambda batch: _saturated(loss, batch, size))
        return Constant(loss=figure, lowest=lowest, usual=search.usual(best, sample))
    if loss.is_keras:
        return Constant(loss=figure, usual=search.usual(best, sample))
    few = sample.part(slice(0, None, max(sample.rows // _FREE_ROWS, 1)))
    free = search.lowest(best, few)
    comparable = _is_least(loss, few, free, float(search.value(best, few).mean()))
    if free < -_NEGLIGIBLE * float(np.abs(figure).max()):
        reason = "its loss can be negative, so that no share of it is a skill"
        return Constant(loss=figure, comparable=comparable, unjudged=reason)
    return Constant(loss=figure, comparable=comparable, usual=search.usual(best, sample))


class _NoConstantError(Exception):
    """No constant has a finite loss."""


class _Search:
    """Looks for constants under a loss, in terms of what goes into the output's activation."""

    def __init__(self, loss: OutputLoss, origin: Origin) -> None:
        self._loss = loss
        self._origin = origin
        self._through = _ACTIVATIONS.get(origin.end, (tf.identity, np.asarray))[0]

    def _made(self, z: tf.Tensor, mask: Any) -> Returned:
        """What a model would have returned."""
        return Returned(self._through(z), z if self._origin.found else None, mask, self._origin)

    def _descended(
        self, like: Returned, y: tf.Tensor, weight: tf.Tensor | None, z: tf.Tensor, step: tf.Tensor
    ) -> tf.Tensor:
        """The lowest point on the way downhill from z; to be called while a graph is traced."""

        def loss_of(z: tf.Tensor) -> tf.Tensor:
            z = tf.ensure_shape(tf.broadcast_to(z, tf.shape(like.value)), like.value.shape)
            return self._loss.value(self._made(z, like.mask), y, weight)

        def move(z: Any, step: Any, sign: Any, best: Any, low: Any) -> tuple[Any, ...]:
            with tf.GradientTape() as tape:
                tape.watch(z)
                value = loss_of(z)
            gradient = tape.gradient(value, z)
            better = value < low
            best, low = tf.where(better, z, best), tf.where(better, value, low)
            if gradient is None:
                return z, step, sign, best, low
            # Where there is no gradient, back to where there was one, with half the step.
            usable = tf.math.is_finite(gradient)
            now = tf.where(usable, tf.sign(gradient), 0.0)
            turned = tf.where(now * sign > 0, 1.2, tf.where(now * sign < 0, 0.5, 1.0))
            step *= tf.where(usable, turned, 0.5)
            return tf.where(usable, z - now * step, best), step, now, best, low

        first = loss_of(z)
        found = tf.while_loop(
            lambda *_: True,
            move,
            (z, step, tf.zeros_like(z), z, tf.fill(tf.shape(first), np.float32(np.inf))),
            maximum_iterations=_STEPS,
        )
        return found[3]

    def value(self, z: Array, batch: Batch, size: int | None = None) -> Array:
        """Loss of a constant for a batch."""
        spread = tf.constant(np.broadcast_to(z, batch.shape), tf.float32)
        mask = None if batch.mask is None else tf.constant(batch.mask)
        return self._loss.evaluate(self._made(spread, mask), batch.y, batch.weight, size)

    def nearest(self, candidates: Sequence[Array], sample: Batch) -> Array:
        """The best of some constants, column by column where each has a loss of its own."""
        values = np.stack([self.value(z, sample) for z in candidates])
        values = np.where(np.isfinite(values), values, np.inf)
        if not np.isfinite(values.min(axis=0)).all():
            raise _NoConstantError
        chosen = np.stack(candidates)[values.argmin(axis=0)]
        return np.diagonal(chosen).copy() if values.ndim > 1 else chosen

    def descend(self, z: Array, sample: Batch) -> Array:
        """The lowest constant on the way downhill, of the same shape."""
        z = z.reshape((1,) * (len(sample.shape) - z.ndim) + z.shape)
        spread = float(np.std(sample.y, dtype=np.float64))
        step = 0.3 if self._origin.end in _RANGES else 0.1 * spread or 0.1
        like = tf.zeros(sample.shape)
        mask = None if sample.mask is None else tf.constant(sample.mask)
        found = self._loss.in_graph(
            self._descended,
            Returned(like, like if self._origin.found else None, mask, self._origin),
            sample.y,
            sample.weight,
            tf.constant(z, tf.float32),
            tf.fill(z.shape, step),
        )
        return found.numpy()  # type: ignore[no-any-return]

    def lowest(self, z: Array, few: Batch) -> float:
        """The lowest loss on the way downhill where every row may have its own prediction."""
        free = self.descend(np.array(np.broadcast_to(z, few.shape)), few)
        return float(self.value(free, few).mean())

    def usual(self, z: Array, sample: Batch) -> Array | None:
        """Whether most targets are the constant, for each column; None where they do not match.

        Two values stand for classes, of which the rare one is what is to be found.
        """
        if sample.y.size != int(np.prod(sample.shape)):
            return None
        constant = self._through(tf.constant(z, tf.float32)).numpy().reshape(-1)
        targets = sample.y.reshape(-1, constant.size)
        near = 1e-3 * np.sqrt(usual_variance(targets)) + 1e-12
        most = np.mean(np.abs(targets - constant) <= near, axis=0) >= _MOST
        amounts = [len(np.unique(column)) > 2 for column in targets.T]
        return np.asarray(most & amounts)


def usual_variance(y: Array) -> npt.NDArray[np.float64]:
    """Variance of each column of targets without their outliers, as robust losses see them.

    The outer twentieths are moved to where they begin (Winsor's mean, in Dixon, Simplified
    estimation from censored normal samples, 1960); where nothing is left, as of a column with
    fewer values that are not 0, it is the variance of all.

    Args:
        y: shape (rows, columns).
    """
    low, high = np.quantile(y, _OUTER, axis=0)
    clipped = np.clip(y, low, high).var(axis=0, dtype=np.float64)
    variances: npt.NDArray[np.float64] = np.where(clipped > 0, clipped, np.var(y, axis=0))
    return variances


def _is_least(loss: OutputLoss, few: Batch, free: float, constant: float) -> bool:
    """Whether no other predictions have a lower loss than the targets themselves.

    Args:
        loss: one of the user's own.
        few: some rows.
        free: the lowest loss that was found for them.
        constant: the loss of the best constant for them.
    """
    if few.y.size != int(np.prod(few.shape)):
        return True  # class indices, or targets that nothing is put beside
    own = float(_saturated(loss, few, None).mean())
    return own <= free + _NEAR * abs(constant - free)


def _sample(batches: Sequence[Batch]) -> Batch:
    """Some rows that are spread over all batches, as one batch."""
    shapes = {batch.shape[1:] for batch in batches}
    if len(shapes) > 1:  # sequences of different lengths do not go together
        batches = [max(batches, key=lambda batch: batch.rows)]
    total = sum(batch.rows for batch in batches)
    each = max(int(np.prod(batches[0].shape[1:-1])), 1)
    numbers = max(int(np.prod(batches[0].shape[1:])), 1)
    wanted = max(min(_SAMPLE // each, _SAMPLE_NUMBERS // numbers), 16)
    step = max(-(-total // wanted), 1)
    parts, skip = [], 0
    for batch in batches:
        part = batch.part(slice(skip, None, step))
        skip = (skip - batch.rows) % step
        parts += [part] if part.rows else []
    first = parts[0]
    return Batch(
        y=np.concatenate([part.y for part in parts]),
        weight=None if first.weight is None else _joined([part.weight for part in parts]),
        mask=None if first.mask is None else _joined([part.mask for part in parts]),
        shape=(sum(part.rows for part in parts), *first.shape[1:]),
    )


def _firsts(batches: Sequence[Batch]) -> list[float]:
    return [float(batch.y.reshape(-1)[0]) for batch in batches]


def _joined(arrays: Sequence[Array | None]) -> Array:
    return np.concatenate([each for each in arrays if each is not None])


def _candidates(sample: Batch, end: str, form: str) -> list[Array]:
    """Constants that are near at hand, as what goes into the activation, shape (columns,) each."""
    columns = sample.shape[-1] if len(sample.shape) > 1 else 1
    found = [np.full(columns, value) for value in (0.0, 0.5, 1.0, -1.0)]
    weights = _position_weights(sample)
    if form == "sparse":
        labels = sample.y.reshape(-1).astype(np.int64)
        known = (labels >= 0) & (labels < columns)
        counts = np.bincount(labels[known], weights[known], minlength=columns)
        found.append(counts / max(counts.sum(), _EDGE))
    else:
        matching = int(np.prod(sample.y.shape)) == int(np.prod(sample.shape))
        y = sample.y.reshape(-1, columns if matching else 1).astype(np.float64)
        total = max(float(weights.sum()), _EDGE)
        found.append(np.broadcast_to(weights @ y / total if matching else y.mean(axis=0), columns))
        for quantile in np.quantile(y, (0, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 1), axis=0):
            found.append(np.broadcast_to(quantile, columns))
    low, high = _RANGES.get(end, (-np.inf, np.inf))
    inverse = _ACTIVATIONS.get(end, (None, np.asarray))[1]
    return [inverse(np.clip(each, low, high)).astype(np.float32) for each in found]


def _position_weights(sample: Batch) -> npt.NDArray[np.float64]:
    """Weight of each row × position, shape (rows × positions,)."""
    positions = int(np.prod(sample.shape[:-1])) if len(sample.shape) > 1 else sample.rows
    weights = np.ones(positions)
    for given in (sample.weight, sample.mask):
        if given is not None:
            flat = np.asarray(given, dtype=np.float64).reshape(-1)
            weights = weights * np.repeat(flat, positions // len(flat))
    return weights


def _saturated(loss: OutputLoss, batch: Batch, size: int | None) -> Array:
    """Loss of the targets themselves as the prediction."""
    value = tf.constant(batch.y.reshape(batch.shape), tf.float32)
    mask = None if batch.mask is None else tf.constant(batch.mask)
    return loss.evaluate(Returned(value, None, mask), batch.y, batch.weight, size)


def _over(batches: Sequence[Batch], size: int | None, value: Callable[[Batch], Array]) -> Array:
    """Mean over the batches by their rows, as `keras.metrics.Mean` takes it."""
    most = max(_PARTS * (size or np.inf), 1)
    rows = sum(batch.rows for batch in batches)
    total: Any = 0.0
    counted = 0
    for batch in batches[:: max(round(rows / most), 1)]:
        total = total + value(batch) * batch.rows
        counted += batch.rows
    return np.asarray(total / counted)
