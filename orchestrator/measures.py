"""What is measured: active rows of layers, how they hang together, what predictions are worth.

Pure NumPy: no model, no file. The formulas are those of the project's design, section 4.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

_Array = npt.NDArray[np.float64]
Kind = Literal["regression", "classification"]
Form = Literal["regression", "binary", "categorical", "sparse"]
"""How targets and predictions of an output are written: binary is one probability a column,
categorical one column a class, sparse a class index."""

INPUT = "input"
"""Name of the model's inputs as a source in `Flow`."""
NEAR_DEAD = 0.001
"""Share of rows under which a unit that is not dead counts as near-dead."""
_EPSILON = 1e-7
"""Probabilities are clipped to this distance from 0 and 1, as Keras clips them
(`keras.config.epsilon`)."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """One place where an activation is applied, and on how many rows its units were active."""

    name: str
    """Readable path of the layer in the model."""
    activation: str
    """Keras's name of the activation."""
    rows: int
    """Rows × positions looked at."""
    active_rows: npt.NDArray[np.int64]
    """Rows × positions on which the unit's derivative was non-zero, shape (units,)."""
    saturating: bool = False
    """The activation has no zero derivative in exact arithmetic; `dead` then means saturated."""

    @property
    def units(self) -> int:
        """Number of units."""
        return int(self.active_rows.size)

    @property
    def dead_units(self) -> npt.NDArray[np.int64]:
        """Indices of the units that were active on no row."""
        return np.flatnonzero(self.active_rows == 0)

    @property
    def dead(self) -> int:
        """Number of dead units; none of a saturating activation counts as dead."""
        return 0 if self.saturating else int(self.dead_units.size)

    @property
    def saturated(self) -> int:
        """Number of saturated units."""
        return int(self.dead_units.size) if self.saturating else 0

    @property
    def dead_fraction(self) -> float:
        """Dead share of the units, 0 to 1."""
        return self.dead / self.units if self.units else 0.0

    @property
    def near_dead(self) -> int:
        """Number of units active on some rows, but on fewer than 0.1% of them."""
        few = (self.active_rows > 0) & (self.active_rows < NEAR_DEAD * self.rows)
        return int(np.count_nonzero(few))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Flow:
    """How layers and outputs hang together: what each one is reached from directly.

    Sources are indices of layers, or `INPUT`.
    """

    layers: tuple[frozenset[int | str], ...]
    """Sources of each layer."""
    outputs: tuple[frozenset[int | str], ...]
    """Sources of each output."""
    names: tuple[str, ...] = ()
    """Keras's names of the outputs, where there are several."""

    def cut_outputs(self, dead: Iterable[int]) -> list[int]:
        """Outputs that no path reaches from the inputs once the dead layers are taken away."""
        dead = frozenset(dead)
        return [
            output
            for output, sources in enumerate(self.outputs)
            if INPUT in self._ancestors(sources, frozenset())
            and INPUT not in self._ancestors(sources, dead)
        ]

    def feeds(self, layer: int) -> list[int]:
        """Outputs that the layer has a path to."""
        return [
            output
            for output, sources in enumerate(self.outputs)
            if layer in self._ancestors(sources, frozenset())
        ]

    def _ancestors(self, sources: frozenset[int | str], blocked: frozenset[int]) -> set[int | str]:
        found: set[int | str] = set()
        stack = list(sources)
        while stack:
            source = stack.pop()
            if source in found or source in blocked:
                continue
            found.add(source)
            if isinstance(source, int):
                stack.extend(self.layers[source])
        return found


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Output:
    """What one output's predictions are worth."""

    output: int
    """Index of the output column, counted over all outputs."""
    name: str = ""
    """Keras's name of the model's output, where it has several."""
    kind: Kind
    """Regression or classification."""
    varies: bool | None
    """Whether the target varies; None without targets."""
    variance_ratio: float | None = None
    """var(prediction) / var(target); regression only."""
    information: float | None = None
    """Mutual information of prediction and row, over the entropy of the classes; classification
    only."""
    skill: float | None = None
    """1 - loss / loss of the best constant."""
    loss: float | None = None
    """Mean squared error, or cross-entropy in nats."""
    constant_loss: float | None = None
    """The same loss of the best constant."""
    constant_class: bool = False
    """Every row gets the same class."""
    distinct: bool = True
    """Not all predictions are equal."""


def measure(
    y: npt.ArrayLike | None,
    prediction: npt.ArrayLike,
    form: Form,
    *,
    from_logits: bool = False,
    weight: npt.ArrayLike | None = None,
) -> list[Output]:
    """What the predictions of one model output are worth, column by column.

    Args:
        y: targets, shape (rows, …); None without targets.
        prediction: predictions, shape (rows, …, columns).
        form: how both are written.
        from_logits: whether predictions are logits rather than probabilities.
        weight: weight of each row in every mean, shape (rows,); None for equal weights. Rows of
            weight 0 are left out.

    Returns:
        One entry a column for regression and binary, one in all for categorical and sparse;
        computed in float64 and in two passes (mean first, then deviations).
    """
    predicted = np.asarray(prediction, dtype=np.float64)
    rows = len(predicted)
    predicted = predicted.reshape(-1, predicted.shape[-1] if predicted.ndim > 1 else 1)
    targets = None if y is None else _distribution(y, form, predicted.shape)
    mean = _Mean(None)
    if weight is not None:
        weights = np.repeat(np.asarray(weight, dtype=np.float64), len(predicted) // rows)
        counted = weights > 0
        predicted = predicted[counted]
        targets = None if targets is None else targets[counted]
        mean = _Mean(weights[counted])
    if form in ("categorical", "sparse"):
        read = _read_logits if from_logits else _read_probabilities
        return [_measure_classes(0, targets, *read(predicted), mean)]
    return [
        _measure_binary(index, _column(targets, index), predicted[:, index], from_logits, mean)
        if form == "binary"
        else _measure_regression(index, _column(targets, index), predicted[:, index], mean)
        for index in range(predicted.shape[1])
    ]


@dataclasses.dataclass(frozen=True, slots=True)
class _Mean:
    """The mean over the rows, each with its weight."""

    weights: _Array | None

    def __call__(self, values: _Array) -> Any:
        """The mean over the first axis."""
        if self.weights is None:
            return values.mean(axis=0)
        return np.average(values, axis=0, weights=self.weights)


def _column(targets: _Array | None, index: int) -> _Array | None:
    return None if targets is None else targets[:, index]


def _measure_regression(index: int, y: _Array | None, predicted: _Array, mean: _Mean) -> Output:
    distinct = _differs(predicted)
    if y is None:
        return Output(output=index, kind="regression", varies=None, distinct=distinct)
    variance = float(mean((y - mean(y)) ** 2))
    if np.ptp(y) == 0 or variance == 0:
        return Output(output=index, kind="regression", varies=False, distinct=distinct)
    predicted_variance = float(mean((predicted - mean(predicted)) ** 2)) if distinct else 0.0
    loss = float(mean((y - predicted) ** 2))
    return Output(
        output=index,
        kind="regression",
        varies=True,
        variance_ratio=predicted_variance / variance,
        skill=1.0 - loss / variance,
        loss=loss,
        constant_loss=variance,
        distinct=distinct,
    )


def _measure_binary(
    index: int, y: _Array | None, predicted: _Array, from_logits: bool, mean: _Mean
) -> Output:
    """One column as the two classes that it stands for."""
    if from_logits:
        read = _read_logits(np.stack([np.zeros_like(predicted), predicted], axis=1))
    else:
        read = _read_probabilities(np.stack([1.0 - predicted, predicted], axis=1))
    classes = None if y is None else np.stack([1.0 - y, y], axis=1)
    return _measure_classes(index, classes, *read, mean)


def _measure_classes(
    index: int, y: _Array | None, probabilities: _Array, logs: _Array, mean: _Mean
) -> Output:
    """What a distribution over classes is worth; all arrays of shape (rows, classes)."""
    distinct = _differs(probabilities)
    if y is None:
        return Output(output=index, kind="classification", varies=None, distinct=distinct)
    entropy = float(_entropy(mean(y)))
    if not np.any(np.ptp(y, axis=0)) or entropy <= 0:
        return Output(output=index, kind="classification", varies=False, distinct=distinct)
    loss = float(-mean(np.sum(y * logs, axis=1)))
    gained = float(_entropy(mean(probabilities)) - mean(_entropy(probabilities)))
    return Output(
        output=index,
        kind="classification",
        varies=True,
        # Rounding can leave a constant prediction with an information of ±1e-16.
        information=max(gained, 0.0) / entropy if distinct else 0.0,
        skill=1.0 - loss / entropy,
        loss=loss,
        constant_loss=entropy,
        constant_class=not np.any(np.ptp(probabilities.argmax(axis=1))),
        distinct=distinct,
    )


def _distribution(y: npt.ArrayLike, form: Form, shape: tuple[int, ...]) -> _Array:
    """The targets in the predictions' shape; class indices as one distribution a row."""
    if form == "sparse":
        return np.eye(shape[1])[np.asarray(y).reshape(-1).astype(np.int64)]
    return np.asarray(y, dtype=np.float64).reshape(shape)


def _differs(predicted: _Array) -> bool:
    """Whether predictions differ between rows; of a single row that cannot be denied."""
    return len(predicted) < 2 or bool(np.any(np.ptp(predicted, axis=0) > 0))


def _entropy(p: _Array) -> _Array:
    """Entropy in nats over the last axis; 0 · log 0 is 0."""
    logs = np.log(p, out=np.zeros_like(p), where=p > 0)
    total: _Array = -np.sum(p * logs, axis=-1)
    return total


def _read_logits(logits: _Array) -> tuple[_Array, _Array]:
    """Probabilities and their logarithms, which are exact where the probabilities round to 0."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return np.exp(logs), logs


def _read_probabilities(p: _Array) -> tuple[_Array, _Array]:
    """Rows that sum to 1, and their clipped logarithms, as Keras's cross-entropy makes them."""
    p = np.clip(p, 0.0, None)
    total = p.sum(axis=1, keepdims=True)
    p = np.divide(p, total, out=np.full_like(p, 1.0 / p.shape[1]), where=total > 0)
    return p, np.log(np.clip(p, _EPSILON, 1.0 - _EPSILON))
