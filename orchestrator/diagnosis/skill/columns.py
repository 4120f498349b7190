"""What one column of predictions is worth, compared with the best constant.

Pure NumPy: no model, no file. The formulas are those of the project's design, section 4.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from orchestrator.record.checks import NO_SKILL, Form, Kind

_Array = npt.NDArray[np.float64]

_EPSILON = 1e-7
"""Probabilities are clipped to this distance from 0 and 1, as Keras clips them
(`keras.config.epsilon`)."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class OutputSkill:
    """What one output's predictions are worth."""

    output: int
    """Index of the output column, counted over all outputs."""
    name: str = ""
    """Keras's name of the model's output, where it has several."""
    column: int | None = None
    """Number of the column in the output, where that has several."""
    kind: Kind
    """Regression or classification."""
    varies: bool | None
    """Whether the target varies; None without targets that the prediction can be put beside."""
    variance_ratio: float | None = None
    """var(prediction) / var(target); regression only. Under a loss other than squared error the
    target's is that without its outliers, see `model.losses.constants.usual_variance`."""
    information: float | None = None
    """Mutual information of prediction and row, over the entropy of the classes; classification
    only."""
    skill: float | None = None
    """1 - loss / loss of the best constant."""
    function: str = ""
    """Name of the loss: Keras's, or that of the user's function."""
    loss: float | None = None
    """The loss, as Keras logs it: of the column, where each has its own, or else of the output."""
    constant_loss: float | None = None
    """The same loss of the best constant."""
    lowest_loss: float | None = None
    """The same loss of the targets themselves, where that is not 0: the skill is counted from it.
    """
    by_spread: bool = True
    """Whether the loss is one, squared error or cross-entropy, under which predictions have no
    skill without a spread like that of the targets."""
    usual: bool = False
    """Most of the targets are the best constant itself."""
    constant_class: bool = False
    """Every row gets the same class."""
    distinct: bool = True
    """Not all predictions are equal."""
    unjudged: str | None = None
    """Why the skill is not judged, as a clause; None where it is."""
    trained: bool = True
    """Whether a loss trains it."""
    least: float = 0.0
    """Mean entropy of the targets themselves, where they are shares of two classes, such as pixels:
    no cross-entropy is below it."""
    whole: float | None = None
    """Skill of all columns of its output together, where these are of one kind, see `together`."""
    average: float | None = None
    """What a constant loses on a column of its output on average, where these are of one kind."""
    blind: bool = False
    """Whether its output is to be its own input, and says nothing of it."""

    @property
    def of_output(self) -> float | None:
        """What its output is worth: as a whole, or where a column stands for itself its skill."""
        return self.skill if self.whole is None else self.whole


MANY = 8
"""An output of more columns has columns of one kind, as pixels and labels are, of which some may
hardly vary. Fewer may each be something of their own, such as a price beside an area."""


def together(columns: Sequence[OutputSkill], *, repeats: bool) -> list[OutputSkill]:
    """The columns of one output, with what they are worth together where they are of one kind.

    The loss of an output is the mean over its columns, so that training has no reason to spend
    anything on a pixel that is lit in one row of a thousand, and its skill may be far below 0 at an
    error of no importance.

    Args:
        columns: what each is worth.
        repeats: whether the output is to be its own input. Then its columns are of one kind however
            few they are, and there is something to learn of them: where they have no skill together
            nothing of the input has come through, on whatever scale the predictions vary.
    """
    if len(columns) < 2 or not (repeats or len(columns) > MANY):
        return [*columns]
    known = [
        (each.loss, each.constant_loss, each.least)
        for each in columns
        if each.skill is not None and each.loss is not None and each.constant_loss is not None
    ]
    if not known or any(each.lowest_loss for each in columns):
        return [*columns]
    lost, constant, least = (float(sum(each)) for each in zip(*known, strict=True))
    blind = repeats and constant - lost < NO_SKILL * (constant - least)
    return [
        dataclasses.replace(
            each, whole=1 - lost / constant, average=constant / len(known), blind=blind
        )
        for each in columns
    ]


def numbered(found: Sequence[Sequence[OutputSkill]]) -> list[OutputSkill]:
    """The columns of all outputs, numbered over all of them and within their own."""
    columns = [
        dataclasses.replace(each, column=index if len(output) > 1 else None)
        for output in found
        for index, each in enumerate(output)
    ]
    return [dataclasses.replace(each, output=index) for index, each in enumerate(columns)]


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


class RegressionColumn:
    """One column of a regression, from its rows a batch at a time."""

    def __init__(self) -> None:
        self.count = 0
        self.weight = 0.0
        self.means = np.zeros(2)
        self.squares = np.zeros(2)
        self.error = 0.0
        self.without_targets = False
        self.targets, self.predictions = _Extremes(), _Extremes()

    def add(self, y: _Array | None, predicted: _Array, weights: _Array) -> None:
        """Add rows: targets, predictions and weights above 0, each of shape (rows,)."""
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
        """What it is worth, as the column of that index."""
        # A single row cannot be called constant.
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

    def is_certain(self, rows: float, variance: float, limits: tuple[float, float]) -> bool:
        """Whether no further row can make it count as constant, see `Score.is_certain`."""
        if self.without_targets:
            return self.predictions.differ
        return bool(variance > 0 and self.squares[1] / rows / variance >= limits[0])


class ClassColumn:
    """One distribution over classes, from its rows a batch at a time."""

    def __init__(self) -> None:
        self.count = 0
        self.weight = 0.0
        self.frequencies: Any = 0.0
        self.mean: Any = 0.0
        self.entropy = 0.0
        self.error = 0.0
        self.least = 0.0
        self.without_targets = False
        self.targets, self.predictions, self.chosen = _Extremes(), _Extremes(), _Extremes()

    def add(self, y: _Array | None, probabilities: _Array, logs: _Array, weights: _Array) -> None:
        """Add rows: targets, probabilities and their logarithms, each of shape (rows, classes)."""
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
        self.least += float(weights @ _entropy(y))

    def output(self, index: int) -> OutputSkill:
        """What it is worth, as the column of that index."""
        distinct = self.count < 2 or self.predictions.differ
        if self.without_targets or not self.count:
            return OutputSkill(output=index, kind="classification", varies=None, distinct=distinct)
        frequencies = self.frequencies / self.weight
        entropy = float(_entropy(_shares(frequencies)))
        if not self.targets.differ or entropy <= 0:
            return OutputSkill(output=index, kind="classification", varies=False, distinct=distinct)
        loss = self.error / self.weight
        # Predictions sum to 1 and targets, such as several labels a row, may not: the best constant
        # is the shares of the classes, and the loss counts each as often as it is a target.
        constant = entropy * float(frequencies.sum())
        gained = float(_entropy(self.mean / self.weight)) - self.entropy / self.weight
        return OutputSkill(
            output=index,
            kind="classification",
            varies=True,
            # Rounding can leave a constant prediction with an information of ±1e-16.
            # A prediction can be surer, and its classes more even, than the targets are.
            information=min(max(gained, 0.0) / entropy, 1.0) if distinct else 0.0,
            skill=1.0 - loss / constant,
            loss=loss,
            constant_loss=constant,
            constant_class=not self.chosen.differ,
            distinct=distinct,
            least=self.least / self.weight,
        )

    def is_certain(self, rows: float, entropy: float, limits: tuple[float, float]) -> bool:
        """Whether no further row can make it count as constant, see `Score.is_certain`."""
        if self.without_targets:
            return self.predictions.differ
        if entropy <= 0 or not self.chosen.differ:
            return False
        gained = float(_entropy(self.mean / self.weight)) - self.entropy / self.weight
        return gained * self.weight / rows / entropy >= limits[1]


def spread(
    y: npt.ArrayLike, form: Form, columns: int, weights: _Array | None = None
) -> list[float]:
    """Variance of each column of targets, or entropy of their classes' shares.

    Args:
        y: targets of all rows.
        form: how they are written.
        columns: number of columns of the predictions.
        weights: weight of each row × position, or None.
    """
    targets = np.asarray(y, dtype=np.float64)
    if form == "sparse":
        _, classes = np.unique(targets, return_inverse=True)
        counts = np.bincount(classes.reshape(-1), weights)
        return [float(_entropy(counts / counts.sum()))]
    targets = targets.reshape(-1, columns)
    means = np.average(targets, axis=0, weights=weights)
    if form == "regression":
        return [float(each) for each in np.average((targets - means) ** 2, axis=0, weights=weights)]
    if form == "categorical":
        return [float(_entropy(_shares(means)))]
    return [float(_entropy(np.array([1.0 - mean, mean]))) for mean in means]


def two_classes(
    y: _Array | None, predicted: _Array, from_logits: bool
) -> tuple[_Array | None, _Array, _Array]:
    """One column as the two classes that it stands for: targets, probabilities, logarithms."""
    if from_logits:
        read = read_logits(np.stack([np.zeros_like(predicted), predicted], axis=1))
    else:
        read = read_probabilities(np.stack([1.0 - predicted, predicted], axis=1))
    return (None if y is None else np.stack([1.0 - y, y], axis=1), *read)


def distribution(y: npt.ArrayLike, form: Form, shape: tuple[int, ...]) -> _Array:
    """The targets in the predictions' shape; class indices as one distribution a row."""
    if form == "sparse":
        return np.eye(shape[1])[np.asarray(y).reshape(-1).astype(np.int64)]
    return np.asarray(y, dtype=np.float64).reshape(shape)


def _entropy(p: _Array) -> _Array:
    """Entropy in nats over the last axis; 0 · log 0 is 0."""
    logs = np.log(p, out=np.zeros_like(p), where=p > 0)
    total: _Array = -np.sum(p * logs, axis=-1)
    return total


def _shares(frequencies: _Array) -> _Array:
    """The frequencies of classes, made to sum to 1."""
    total = frequencies.sum()
    return frequencies / total if total > 0 else frequencies


def read_logits(logits: _Array) -> tuple[_Array, _Array]:
    """Probabilities and their logarithms, which are exact where the probabilities round to 0."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return np.exp(logs), logs


def read_probabilities(p: _Array) -> tuple[_Array, _Array]:
    """Rows that sum to 1, and their clipped logarithms, as Keras's cross-entropy makes them."""
    p = np.clip(p, 0.0, None)
    total = p.sum(axis=1, keepdims=True)
    p = np.divide(p, total, out=np.full_like(p, 1.0 / p.shape[1]), where=total > 0)
    return p, np.log(np.clip(p, _EPSILON, 1.0 - _EPSILON))
