"""What is measured: active rows of layers, how they hang together, what predictions are worth.

Pure NumPy: no model, no file. The formulas are those of the project's design, section 4.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from orchestrator.record.records import Form, Kind

_Array = npt.NDArray[np.float64]

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
    constant_units: npt.NDArray[np.int64] = dataclasses.field(
        default_factory=lambda: np.zeros(0, np.int64)
    )
    """Indices of the units that were active on every row and had the same value on all."""
    reached_rows: npt.NDArray[np.int64] | None = None
    """Rows × positions on which the gradient of an output with respect to what goes into the unit
    was not zero, shape (units,); None where it was not asked for."""
    saturating: bool = False
    """The activation has no zero derivative in exact arithmetic; `dead` then means saturated."""
    partial: bool = False
    """A loop hides some of the applications, so that nothing is known to be dead."""

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
        return 0 if self.saturating or self.partial else int(self.dead_units.size)

    @property
    def saturated(self) -> int:
        """Number of saturated units."""
        return int(self.dead_units.size) if self.saturating else 0

    @property
    def dead_fraction(self) -> float:
        """Dead share of the units, 0 to 1."""
        return self.dead / self.units if self.units else 0.0

    @property
    def blocked_units(self) -> npt.NDArray[np.int64] | None:
        """Indices of the units that are active on some rows, but get no gradient on any."""
        if self.reached_rows is None:
            return None
        return np.flatnonzero((self.active_rows > 0) & (self.reached_rows == 0))

    @property
    def near_dead(self) -> int:
        """Number of units active on some rows, but on fewer than 0.1% of them."""
        few = (self.active_rows > 0) & (self.active_rows < self.near_dead_rows)
        return int(np.count_nonzero(few))

    @property
    def near_dead_rows(self) -> float:
        """Rows × positions below which a unit is near-dead."""
        return NEAR_DEAD * self.rows


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
    ends: tuple[int | None, ...] = ()
    """The layer whose activation makes each output; None where none does."""

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
class OutputSkill:
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
) -> list[OutputSkill]:
    """What the predictions of one model output are worth: a `Score` of all rows at once."""
    score = Score(form, from_logits=from_logits)
    score.add(y, prediction, weight)
    return score.outputs()


class Score:
    """What the predictions of one model output are worth, from its rows a batch at a time.

    Computed in float64. Means and squared deviations are taken in two passes over each batch and
    put together by the formula of Chan, Golub and LeVeque (Updating formulae and a pairwise
    algorithm for computing sample variances, 1979), which is as stable as two passes over all rows.

    Args:
        form: how targets and predictions are written.
        from_logits: whether predictions are logits rather than probabilities.
        ignored: class index of the positions that do not count.
    """

    def __init__(
        self, form: Form, *, from_logits: bool = False, ignored: int | None = None
    ) -> None:
        self._form = form
        self._ignored = ignored
        self._from_logits = from_logits
        self._columns: list[_Regression | _Classes] = []

    def add(
        self, y: npt.ArrayLike | None, prediction: npt.ArrayLike, weight: npt.ArrayLike | None
    ) -> None:
        """Add rows.

        Args:
            y: targets, shape (rows, …); None without targets, and then for all rows.
            prediction: predictions, shape (rows, …, columns).
            weight: weight of each row in every mean, shape (rows,), or of each position,
                shape (rows, …); None for equal weights. Those of weight 0 are left out.
        """
        predicted = np.asarray(prediction)
        rows = len(predicted)
        predicted = predicted.reshape(-1, predicted.shape[-1] if predicted.ndim > 1 else 1)
        targets = None
        if y is not None:
            sparse = self._form == "sparse"
            targets = np.asarray(y).reshape((-1,) if sparse else predicted.shape)
        positions = len(predicted) // max(rows, 1)
        weights = None
        if weight is not None:
            weights = np.asarray(weight, dtype=np.float64).reshape(-1)
            weights = np.repeat(weights, positions) if len(weights) == rows else weights
        if targets is not None and self._form == "sparse":
            # A loss of the user's own may leave rows out, as those of class -1.
            counted = (targets >= 0) & (targets < predicted.shape[1]) & (targets != self._ignored)
            if not counted.all():
                weights = counted.astype(np.float64) if weights is None else weights * counted
                targets = np.where(counted, targets, 0)
        for start in range(0, len(predicted), _PIECE):
            part = slice(start, start + _PIECE)
            self._add(
                None if targets is None else targets[part],
                predicted[part].astype(np.float64),
                None if weights is None else weights[part],
            )

    def _add(self, y: _Array | None, predicted: _Array, weights: _Array | None) -> None:
        if y is not None:
            y = _distribution(y, self._form, predicted.shape)
        if weights is None:
            weights = np.ones(len(predicted))
        elif not weights.all():
            counted = weights > 0
            predicted, weights = predicted[counted], weights[counted]
            y = None if y is None else y[counted]
        if self._form in ("categorical", "sparse"):
            columns: list[Any] = [(y, predicted)]
        else:
            columns = [(_column(y, at), predicted[:, at]) for at in range(predicted.shape[1])]
        if not self._columns:
            kind = _Regression if self._form == "regression" else _Classes
            self._columns = [kind() for _ in columns]
        if not len(predicted):
            return
        for column, (targets, values) in zip(self._columns, columns, strict=True):
            if isinstance(column, _Regression):
                column.add(targets, values, weights)
            elif self._form == "binary":
                column.add(*_two_classes(targets, values, self._from_logits), weights)
            else:
                read = _read_logits if self._from_logits else _read_probabilities
                column.add(targets, *read(values), weights)

    def outputs(self) -> list[OutputSkill]:
        """One entry a column for regression and binary, one in all for categorical and sparse."""
        return [column.output(index) for index, column in enumerate(self._columns)]

    def is_certain(self, rows: int, varies: Sequence[float], limits: tuple[float, float]) -> bool:
        """Whether no further row can make the prediction count as constant.

        The squared deviations of all rows are no less than those of some, and so is the number of
        rows times their information (the chain rule of the Jensen-Shannon divergence).

        Args:
            rows: number of all rows × positions, each of weight 1.
            varies: variance of each column's targets over all rows, entropy for a classification;
                empty without targets.
            limits: smallest variance ratio and smallest information.
        """
        spreads = varies or [0.0] * len(self._columns)
        return bool(self._columns) and all(
            column.is_certain(rows, spread, limits)
            for column, spread in zip(self._columns, spreads, strict=True)
        )


_PIECE = 65_536
"""Rows × positions that are scored together."""


class _Extremes:
    """Lowest and highest value of each column so far."""

    def __init__(self) -> None:
        self.low: Any = np.inf
        self.high: Any = -np.inf

    def add(self, values: _Array) -> None:
        self.low = np.minimum(self.low, values.min(axis=0))
        self.high = np.maximum(self.high, values.max(axis=0))

    @property
    def differ(self) -> bool:
        """Whether some column has different values, or one that is not a number."""
        return bool(np.any(~(self.high <= self.low)))


class _Regression:
    """One column of a regression."""

    def __init__(self) -> None:
        self.count = 0
        self.weight = 0.0
        self.means = np.zeros(2)
        self.squares = np.zeros(2)
        self.error = 0.0
        self.without_targets = False
        self.targets, self.predictions = _Extremes(), _Extremes()

    def add(self, y: _Array | None, predicted: _Array, weights: _Array) -> None:
        self.without_targets |= y is None
        both = np.stack([predicted if y is None else y, predicted])
        total = float(weights.sum())
        means = both @ weights / total
        deviations = both - means[:, np.newaxis]
        apart = means - self.means
        whole = self.weight + total
        self.squares += deviations**2 @ weights + apart**2 * (self.weight * total / whole)
        self.means += apart * (total / whole)
        self.weight = whole
        self.count += len(predicted)
        self.error += float((both[0] - both[1]) ** 2 @ weights)
        self.targets.add(both[0])
        self.predictions.add(both[1])

    def output(self, index: int) -> OutputSkill:
        # Of a single row it cannot be denied that it differs.
        distinct = self.count < 2 or self.predictions.differ
        if self.without_targets or not self.count:
            return OutputSkill(output=index, kind="regression", varies=None, distinct=distinct)
        variance, predicted = self.squares / self.weight
        if not self.targets.differ or variance == 0:
            return OutputSkill(output=index, kind="regression", varies=False, distinct=distinct)
        loss = self.error / self.weight
        return OutputSkill(
            output=index,
            kind="regression",
            varies=True,
            variance_ratio=float(predicted / variance) if distinct else 0.0,
            skill=float(1.0 - loss / variance),
            loss=loss,
            constant_loss=float(variance),
            distinct=distinct,
        )

    def is_certain(self, rows: int, variance: float, limits: tuple[float, float]) -> bool:
        if self.without_targets:
            return self.predictions.differ
        return bool(variance > 0 and self.squares[1] / rows / variance >= limits[0])


class _Classes:
    """One distribution over classes."""

    def __init__(self) -> None:
        self.count = 0
        self.weight = 0.0
        self.frequencies: Any = 0.0
        self.mean: Any = 0.0
        self.entropy = 0.0
        self.error = 0.0
        self.without_targets = False
        self.targets, self.predictions, self.chosen = _Extremes(), _Extremes(), _Extremes()

    def add(self, y: _Array | None, probabilities: _Array, logs: _Array, weights: _Array) -> None:
        self.count += len(probabilities)
        self.weight += float(weights.sum())
        self.predictions.add(probabilities)
        self.mean = self.mean + weights @ probabilities
        self.entropy += float(weights @ _entropy(probabilities))
        self.chosen.add(probabilities.argmax(axis=1))
        if y is None:
            self.without_targets = True
            return
        self.targets.add(y)
        self.frequencies = self.frequencies + weights @ y
        self.error -= float(weights @ np.sum(y * logs, axis=1))

    def output(self, index: int) -> OutputSkill:
        distinct = self.count < 2 or self.predictions.differ
        if self.without_targets or not self.count:
            return OutputSkill(output=index, kind="classification", varies=None, distinct=distinct)
        entropy = float(_entropy(self.frequencies / self.weight))
        if not self.targets.differ or entropy <= 0:
            return OutputSkill(output=index, kind="classification", varies=False, distinct=distinct)
        loss = self.error / self.weight
        gained = float(_entropy(self.mean / self.weight)) - self.entropy / self.weight
        return OutputSkill(
            output=index,
            kind="classification",
            varies=True,
            # Rounding can leave a constant prediction with an information of ±1e-16.
            information=max(gained, 0.0) / entropy if distinct else 0.0,
            skill=1.0 - loss / entropy,
            loss=loss,
            constant_loss=entropy,
            constant_class=not self.chosen.differ,
            distinct=distinct,
        )

    def is_certain(self, rows: int, entropy: float, limits: tuple[float, float]) -> bool:
        if self.without_targets:
            return self.predictions.differ
        if entropy <= 0 or not self.chosen.differ:
            return False
        gained = float(_entropy(self.mean / self.weight)) - self.entropy / self.weight
        return gained * self.weight / rows / entropy >= limits[1]


def spread(y: npt.ArrayLike, form: Form, columns: int) -> list[float]:
    """Variance of each column of targets, or entropy of their classes, as in `OutputSkill`.

    Args:
        y: targets of all rows.
        form: how they are written.
        columns: number of columns of the predictions.
    """
    targets = np.asarray(y, dtype=np.float64)
    if form == "sparse":
        _, counts = np.unique(targets, return_counts=True)
        return [float(_entropy(counts / counts.sum()))]
    targets = targets.reshape(-1, columns)
    if form == "regression":
        return [float(each) for each in targets.var(axis=0)]
    means = targets.mean(axis=0)
    if form == "categorical":
        return [float(_entropy(means))]
    return [float(_entropy(np.array([1.0 - mean, mean]))) for mean in means]


def _column(targets: _Array | None, index: int) -> _Array | None:
    return None if targets is None else targets[:, index]


def _two_classes(
    y: _Array | None, predicted: _Array, from_logits: bool
) -> tuple[_Array | None, _Array, _Array]:
    """One column as the two classes that it stands for: targets, probabilities, logarithms."""
    if from_logits:
        read = _read_logits(np.stack([np.zeros_like(predicted), predicted], axis=1))
    else:
        read = _read_probabilities(np.stack([1.0 - predicted, predicted], axis=1))
    return (None if y is None else np.stack([1.0 - y, y], axis=1), *read)


def _distribution(y: npt.ArrayLike, form: Form, shape: tuple[int, ...]) -> _Array:
    """The targets in the predictions' shape; class indices as one distribution a row."""
    if form == "sparse":
        return np.eye(shape[1])[np.asarray(y).reshape(-1).astype(np.int64)]
    return np.asarray(y, dtype=np.float64).reshape(shape)


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
