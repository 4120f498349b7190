"""The weights behind the moving averages that an optimizer ends a training with (`use_ema`)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from orchestrator.model.build import plain_optimizers

Values = list[np.ndarray[Any, Any]]


class Averages:
    """Has phases be one training, where each `fit` ends by putting averages in the weights' place.

    The checks after a phase, and what is saved, have the averages, as in Keras.

    Args:
        model: compiled.
    """

    def __init__(self, model: keras.Model) -> None:
        self._model = model
        self._replaced: tuple[Values, Values] | None = None

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """While inside, a `fit` may end: note what it ends with, and what was there before."""
        optimizer = self._model.optimizer
        if not any(each.use_ema for each in plain_optimizers(self._model)) or optimizer is None:
            yield
            return
        finalize = optimizer.finalize_variable_values

        def noting(weights: Sequence[keras.Variable]) -> None:
            before = self._values()
            finalize(weights)
            self._replaced = before, self._values()

        own = vars(optimizer)
        own["finalize_variable_values"] = noting
        try:
            yield
        finally:
            del own["finalize_variable_values"]

    def put_back(self) -> None:
        """Put back the weights that the averages have replaced, unless a callback has done so."""
        replaced, self._replaced = self._replaced, None
        if replaced is None:
            return
        before, averages = replaced
        pairs = zip(self._values(), averages, strict=True)
        if all(np.array_equal(value, average, equal_nan=True) for value, average in pairs):
            for weight, value in zip(self._model.trainable_weights, before, strict=True):
                weight.assign(value)

    def _values(self) -> Values:
        return [np.array(each.numpy()) for each in self._model.trainable_weights]
