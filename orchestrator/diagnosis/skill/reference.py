"""What there is to learn: closed-form models of the same rows, judged on rows held back from them.

Ridge regression over the standardised inputs and random relu features (Rahimi and Recht, Random
features for large-scale kernel machines, 2007). Pure NumPy: no model, no file. All is computed from
the products of the columns with each other, one matrix for each part of the rows, so that neither a
further penalty nor another part held back costs another pass over the rows.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

LEAST_ROWS = 300
"""Below, noise can look like something to learn: of 30 rows in 11% of seeds (design, section 4)."""
MOST_ROWS = 10_000
"""Rows that are looked at."""
_MOST_NUMBERS = 8_000_000
"""Numbers that are looked at: of very wide rows fewer."""
MOST_COLUMNS = 300
"""Input columns that are taken as they are; more are projected to so many."""
MOST_TARGETS = 50
"""Target columns, or classes, that are looked at: those that vary the most."""
FEATURES = 256
"""Random relu features."""
_SURE = 2.326
"""Standard errors within which a mean is, on one side, at 99%."""
_PARTS = 5
"""Parts of the rows: one is held back, one chooses the penalty, the others are fitted."""
_MANY = 2_000
"""Of so many rows a fifth tells enough; of fewer, each fifth is held back in turn."""
_PENALTIES = (1e-3, 1e-1, 10.0)
"""Penalties that are tried, for a row, where every feature has variance 1."""

_Array = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Reference:
    """What closed-form models have learnt, on rows that they were not fitted to."""

    skill: float
    """1 - squared error / variance of the linear or the curved model, whichever was the better one
    within the rows that it was fitted to."""
    linear: float
    """The same of the linear model, over the inputs alone."""
    curved: float
    """The same of the curved model, over the inputs and the relu features."""
    rows: npt.NDArray[np.intp]
    """Places of the rows that they were judged on, in ascending order."""
    targets: npt.NDArray[np.intp]
    """Places of the target columns that they were judged on, in ascending order."""

    predicted: npt.NDArray[np.float32]
    """What the model that was chosen predicts there, shape (rows, targets)."""

    def compare(
        self, predicted: npt.NDArray[Any], y: npt.NDArray[Any], *, absolute: bool = False
    ) -> Compared:
        """Other predictions of the same rows beside those of the reference, by one measure.

        Args:
            predicted: predictions for all rows, shape (rows, columns).
            y: the targets that the reference was fitted to, of the same shape.
            absolute: measure by the absolute error and the median, not by the squared error and the
                mean.
        """
        places = np.ix_(self.rows, self.targets)
        wanted = np.asarray(y[places], np.float64)

        def cost(values: npt.NDArray[Any]) -> _Array:
            away = wanted - values
            return np.asarray((np.abs(away) if absolute else away**2).sum(axis=1), np.float64)

        middle = np.median(wanted, axis=0) if absolute else wanted.mean(axis=0)
        constant = cost(middle)
        own, other = (constant - cost(each) for each in (predicted[places], self.predicted))
        return Compared(own=own, other=other, constant=float(constant.sum()))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Compared:
    """What a prediction and the reference save of the best constant's error, row by row."""

    own: _Array
    """Of the prediction, shape (rows,)."""
    other: _Array
    """Of the reference, on the same rows."""
    constant: float
    """Error of the best constant, over all of these rows."""

    @property
    def skills(self) -> tuple[float, float]:
        """1 - error / that of the constant, of the prediction and of the reference."""
        if not self.constant > 0:
            return math.nan, math.nan
        return float(self.own.sum()) / self.constant, float(self.other.sum()) / self.constant

    @property
    def share_at_most(self) -> float:
        """The most that the share may be at 99%, were the rows drawn again.

        The upper end of Fieller's interval for a ratio of two means over the same rows (Some
        problems in interval estimation, 1954). Unlike the standard error of the ratio it knows how
        uncertain the reference's own skill is: of classes of fourteen rows in a thousand 5% lay
        further than 2.326 such errors below what they came from, and 1% outside of the interval.
        Infinite where that skill may be nothing.
        """
        own, other = float(self.own.mean()), float(self.other.mean())
        (own_var, both), (_, other_var) = _SURE**2 * np.cov(self.own, self.other) / len(self.own)
        other_low = other**2 - other_var
        if not (other > 0 and other_low > 0):
            return math.inf
        middle = own * other - both
        root = max(middle**2 - other_low * (own**2 - own_var), 0.0)
        return float((middle + math.sqrt(root)) / other_low)


def fit_reference(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> Reference | None:
    """Fit the reference to rows, and judge it on those held back.

    The same rows in the same order give the same reference. At most `MOST_ROWS` are looked at,
    drawn from all over them, for first rows are often sorted.

    Args:
        x: inputs as numbers, shape (rows, columns).
        y: targets as numbers, classes one-hot, shape (rows, columns).

    Returns:
        What was learnt; None below `LEAST_ROWS` rows, or where the targets do not vary.
    """
    if len(x) < LEAST_ROWS:
        return None
    generator = np.random.default_rng(0)
    most = min(MOST_ROWS, max(_MOST_NUMBERS // x.shape[1], LEAST_ROWS))
    order = generator.permutation(len(x))[:most]
    spreads = np.asarray(y[order], np.float64).var(axis=0)
    targets = np.sort(np.argsort(-spreads, kind="stable")[:MOST_TARGETS])
    total = float(spreads[targets].sum())
    if not total > 0:
        return None
    wanted = np.asarray(y[np.ix_(order, targets)], np.float64)
    mean, scale = wanted.mean(axis=0), math.sqrt(total)
    wanted = (wanted - mean) / scale
    inputs = _projected(_standardized(x[order].astype(np.float32)), generator)
    columns = np.concatenate([_with_one(inputs), _relu_features(inputs, generator)], axis=1)
    bounds = [len(order) * part // _PARTS for part in range(_PARTS + 1)]
    parts = [
        _Products.of(columns[start:end], wanted[start:end])
        for start, end in zip(bounds, bounds[1:], strict=False)
    ]
    count = 1 if len(order) >= _MANY else _PARTS
    widths = (1 + inputs.shape[1], columns.shape[1])
    fits = [_fit(parts, held, widths) for held in range(count)]
    errors = np.sum([fit[0] for fit in fits], axis=0)
    around = sum(parts[held].around_mean() for held in range(count))
    if not around > 0:
        return None
    chosen, linear, curved = (1.0 - errors / around).tolist()
    predicted = np.concatenate(
        [
            columns[bounds[held] : bounds[held + 1], : len(weights)] @ weights
            for held, (_, weights) in enumerate(fits)
        ]
    )
    ascending = np.argsort(order[: bounds[count]])
    return Reference(
        skill=chosen, linear=linear, curved=curved,
        rows=order[ascending],
        targets=targets,
        predicted=(predicted[ascending] * scale + mean).astype(np.float32),
    )  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Products:
    """All that a regression needs to know of some rows."""

    columns: _Array
    """Sums over the rows of the columns' products with each other; the first column is 1."""
    targets: _Array
    """Sums over the rows of the products of columns and targets."""
    squares: float
    """Sum of the squared targets."""

    @classmethod
    def of(cls, columns: npt.NDArray[np.float32], y: _Array) -> _Products:
        """Of columns of shape (rows, columns), and targets of shape (rows, targets)."""
        return cls(
            (columns.T @ columns).astype(np.float64),
            (columns.T @ y.astype(np.float32)).astype(np.float64),
            float((y**2).sum()),
        )

    @classmethod
    def joined(cls, parts: Sequence[_Products]) -> _Products:
        """Of the rows of several parts."""
        return cls(
            np.sum([part.columns for part in parts], axis=0),
            np.sum([part.targets for part in parts], axis=0),
            sum(part.squares for part in parts),
        )

    @property
    def rows(self) -> float:
        """Number of rows."""
        return float(self.columns[0, 0])

    def around_mean(self) -> float:
        """Squared error of the mean of these rows."""
        return self.squares - float((self.targets[0] ** 2).sum()) / self.rows

    def weights(self, width: int, penalty: float) -> _Array:
        """Those of the ridge regression over the first columns; the constant has no penalty."""
        ridge = np.full(width, penalty * self.rows)
        ridge[0] = 0.0
        left = self.columns[:width, :width] + np.diag(ridge)
        return np.asarray(np.linalg.solve(left, self.targets[:width]), np.float64)

    def error(self, weights: _Array) -> float:
        """Squared error of a regression on these rows."""
        width = len(weights)
        inner = 2.0 * self.targets[:width] - self.columns[:width, :width] @ weights
        return self.squares - float((weights * inner).sum())


def _fit(
    parts: Sequence[_Products], held: int, widths: tuple[int, int]
) -> tuple[list[float], _Array]:
    """Errors on the part held back of the chosen, the linear and the curved model; its weights.

    Models and penalties are chosen on one of the other parts, fitted to what is left, and then
    fitted to all but the part held back.
    """
    choosing = parts[(held + 1) % len(parts)]
    others = [part for part in parts if part is not parts[held]]
    fitted = _Products.joined([part for part in others if part is not choosing])
    whole = _Products.joined(others)
    least, errors, found = [], [], []
    for width in widths:
        error, penalty = min(
            (choosing.error(fitted.weights(width, penalty)), penalty) for penalty in _PENALTIES
        )
        least.append(error)
        found.append(whole.weights(width, penalty))
        errors.append(parts[held].error(found[-1]))
    best = least.index(min(least))
    return [errors[best], *errors], found[best]


def _standardized(x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The columns with mean 0 and variance 1, changed in place; constant ones are 0."""
    for _ in range(2):  # of values that are far from 0 the first mean is not exact
        x -= x.mean(axis=0)
    deviation = np.sqrt(np.einsum("ij,ij->j", x, x) / len(x))
    x /= np.where(deviation > 0, deviation, 1)
    return x


def _projected(
    x: npt.NDArray[np.float32], generator: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Standardised columns, where there are more than `MOST_COLUMNS`, as so many.

    Each is added, with a random sign, to one of so many sums, neighbours to different ones: that
    keeps distances as other random projections do, at the price of reading the columns once
    (Charikar, Chen and Farach-Colton, Finding frequent items in data streams, 2002).
    """
    width = x.shape[1]
    if width <= MOST_COLUMNS:
        return x
    signs = generator.choice(np.array([-1, 1], np.float32), width)
    sums = np.zeros((len(x), MOST_COLUMNS), np.float32)
    for start in range(0, width, MOST_COLUMNS):
        part = slice(start, start + MOST_COLUMNS)
        sums[:, : len(signs[part])] += x[:, part] * signs[part]
    return _standardized(sums)


def _with_one(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The columns behind one that is 1 everywhere."""
    return np.concatenate([np.ones((len(values), 1), np.float32), values], axis=1)


def _relu_features(
    x: npt.NDArray[np.float32], generator: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Relu units with weights that are drawn and never trained, standardised."""
    width = x.shape[1]
    weights = generator.normal(size=(width, FEATURES)) / math.sqrt(width)
    biases = generator.normal(size=FEATURES)
    values = np.maximum(x @ weights.astype(np.float32) + biases.astype(np.float32), 0.0)
    return _standardized(values)
