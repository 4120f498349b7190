"""What one output's predictions are worth, from its rows a batch at a time.

Pure NumPy: no model, no file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from orchestrator.diagnosis.skill.columns import (
    ClassColumn,
    OutputSkill,
    RegressionColumn,
    distribution,
    read_logits,
    read_probabilities,
    two_classes,
)
from orchestrator.record.checks import Form

_Array = npt.NDArray[np.float64]
_PIECE = 65_536
"""Rows × positions that are scored together."""


class Score:
    """What the predictions of one model output are worth, from its rows a batch at a time.

    Computed in float64. Means and squared deviations are taken in two passes over each batch and
    put together by the formula of Chan, Golub and LeVeque (Updating formulae and a pairwise
    algorithm for computing sample variances, 1979), which is as stable as two passes over all rows.

    Args:
        form: how targets and predictions are written.
        from_logits: whether predictions are logits rather than probabilities.
        ignored: class index of the positions that do not count.
        directions: look at the direction of each row's prediction and targets alone, as a loss does
            that their lengths do not matter to.
    """

    def __init__(
        self,
        form: Form,
        *,
        from_logits: bool = False,
        ignored: int | None = None,
        directions: bool = False,
    ) -> None:
        self._form = form
        self._ignored = ignored
        self._from_logits = from_logits
        self.directions = directions
        self._columns: list[RegressionColumn | ClassColumn] = []
        self._positions = 0

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
        self._positions += len(predicted)
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
            y = distribution(y, self._form, predicted.shape)
        if weights is None:
            weights = np.ones(len(predicted))
        elif not weights.all():
            counted = weights > 0
            predicted, weights = predicted[counted], weights[counted]
            y = None if y is None else y[counted]
        if self.directions:
            predicted = _unit(predicted)
            y = None if y is None else _unit(y)
        if self._form in ("categorical", "sparse"):
            columns: list[Any] = [(y, predicted)]
        else:
            columns = [(_column(y, at), predicted[:, at]) for at in range(predicted.shape[1])]
        if not self._columns:
            kind = RegressionColumn if self._form == "regression" else ClassColumn
            self._columns = [kind() for _ in columns]
        if not len(predicted):
            return
        for column, (targets, values) in zip(self._columns, columns, strict=True):
            if isinstance(column, RegressionColumn):
                column.add(targets, values, weights)
            elif self._form == "binary":
                column.add(*two_classes(targets, values, self._from_logits), weights)
            else:
                read = read_logits if self._from_logits else read_probabilities
                column.add(targets, *read(values), weights)

    def outputs(self) -> list[OutputSkill]:
        """One entry a column for regression and binary, one in all for categorical and sparse."""
        return [column.output(index) for index, column in enumerate(self._columns)]

    def mean_weight(self) -> float:
        """Mean weight of all rows × positions, of those of weight 0, too."""
        return self._columns[0].weight / self._positions if self._positions else 1.0

    def is_certain(self, rows: float, varies: Sequence[float], limits: tuple[float, float]) -> bool:
        """Whether no further row can make the prediction count as constant.

        The squared deviations of all rows are no less than those of some, and so is the number of
        rows times their information (the chain rule of the Jensen-Shannon divergence).

        Args:
            rows: weight of all rows × positions; 1 for each where they have none.
            varies: variance of each column's targets over all rows, entropy for a classification;
                empty without targets.
            limits: smallest variance ratio and smallest information.
        """
        spreads = varies or [0.0] * len(self._columns)
        return bool(self._columns) and all(
            column.is_certain(rows, spread, limits)
            for column, spread in zip(self._columns, spreads, strict=True)
        )


def _column(targets: _Array | None, index: int) -> _Array | None:
    return None if targets is None else targets[:, index]


def _unit(values: _Array) -> _Array:
    """Rows of length 1."""
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    found: _Array = np.divide(values, lengths, out=np.zeros_like(values), where=lengths > 0)
    return found
