"""The standardisation of inputs, from the training rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from orchestrator.config.schema import Config
from orchestrator.data.rows import AnyRows, Array, Columns, Rows, Scaling, is_text, leaves
from orchestrator.errors import InvalidError

_MAX_PROBLEMS = 10
"""Columns named that cannot be standardised."""

_KERAS_EPSILON = 1e-7
"""`keras.config.epsilon()`: `Normalization` divides by no less than this."""


def scalings(train: AnyRows, config: Config) -> dict[str, Scaling]:
    """The standardisation, refused for texts and for columns that float32 cannot standardise."""
    if all(is_text(array) for _, array in leaves(train.first(1)[0])):
        message = "the inputs are texts, which have no mean"
        raise InvalidError([config.problem(("data", "standardize"), message, "leave it out")])
    found = statistics(train)
    names: list[str] = []
    if isinstance(train, Rows) and isinstance(train.x, Columns):
        names = np.repeat(train.columns, train.x.widths).tolist()  # a text has several columns
    problems = []
    for path, scaling in found.items():
        deviation = np.sqrt(scaling.variance)
        bad = np.flatnonzero(~_is_feasible(scaling))
        for column in map(int, bad):
            name = names[column] if names else f"{column} (from 0)"
            of_input = f" of input {path}" if path else ""
            size = "far" if np.isinf(deviation[column]) else "little"
            message = f"column {name}{of_input} varies too {size} to be standardised in float32"
            hint = "give the column in another unit"
            problems.append(config.problem(("data", "standardize"), message, hint))
    if problems:
        raise InvalidError(problems[:_MAX_PROBLEMS])
    return found


def _is_feasible(scaling: Scaling) -> npt.NDArray[np.bool_]:
    """Of each column, whether float32 can standardise it."""
    deviation = np.sqrt(scaling.variance)
    found: npt.NDArray[np.bool_] = np.isfinite(deviation) & (deviation >= _KERAS_EPSILON)
    return found


def feasible(scaling: Scaling) -> Scaling:
    """A scaling that leaves columns as they are that float32 cannot standardise."""
    is_feasible = _is_feasible(scaling)
    return Scaling(
        mean=np.where(is_feasible, scaling.mean, np.float32(0)),
        variance=np.where(is_feasible, scaling.variance, np.float32(1)),
    )


def statistics(rows: AnyRows) -> dict[str, Scaling]:
    """Mean and variance of each column over all rows and positions, in two passes.

    Args:
        rows: the training rows.

    Returns:
        The scaling of every input; where there are several, of those that are not whole numbers,
        which are indices as a rule. A column is constant, and keeps variance 1, when its variance
        is below the rounding error of its mean (the bound of scikit-learn's
        `_is_constant_feature`).
    """
    x, _, _ = next(iter(rows.raw(1)))
    several = len(leaves(x)) > 1
    paths = [path for path, array in leaves(x) if array.dtype.kind == "f" or not several]
    means = _means(rows, paths, lambda path, values: values)
    variances = _means(rows, paths, lambda path, values: (values - means[path][0]) ** 2)
    scalings = {}
    for path in paths:
        (mean, count), (variance, _) = means[path], variances[path]
        epsilon = np.finfo(np.float64).eps
        bound = count * epsilon * variance + (count * mean * epsilon) ** 2
        with np.errstate(over="ignore", under="ignore"):  # the caller looks at what came out
            varying = np.where(variance <= bound, 1.0, variance).astype(np.float32)
            scalings[path] = Scaling(mean=mean.astype(np.float32), variance=varying)
    return scalings


def _means(
    rows: AnyRows, paths: Sequence[str], function: Callable[[str, Array], Array]
) -> dict[str, tuple[npt.NDArray[np.float64], int]]:
    """Mean of a function of the values of each column, and over how many values."""
    sums: dict[str, tuple[Any, int]] = dict.fromkeys(paths, (0.0, 0))
    for x, _, _ in rows.raw():
        for path, array in leaves(x):
            if path in sums:
                # The saved model takes float32, so the statistics are those of float32 values.
                values = array.astype(np.float32, copy=False).astype(np.float64)
                values = values.reshape(-1, array.shape[-1])
                total, count = sums[path]
                total = total + function(path, values).sum(axis=0)
                sums[path] = (total, count + len(values))
    return {path: (total / count, count) for path, (total, count) in sums.items()}
