"""The loss of one output over all rows, as Keras logs it, beside that of the best constant."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

from orchestrator.errors import describe_error
from orchestrator.model.losses.constants import Batch, Constant, find_constant, usual_variance
from orchestrator.model.losses.output_loss import AMONG_ROWS, OutputLoss
from orchestrator.model.losses.returned import Origin, Returned
from orchestrator.model.losses.trial import has_single_rows, is_by_row
from orchestrator.record.checks import Form

_NUMBERS = 2**21
"""Targets and weights that are kept at most; of more, every other batch is let go."""

_Array = npt.NDArray[Any]


class LossMeter:
    """Takes the mean over the batches as `keras.metrics.Mean` does, and keeps their targets.

    Args:
        loss: of the output.
        form: how its targets are written.
        batch_size: rows for which Keras takes a loss at once, where that makes a difference.
    """

    def __init__(self, loss: OutputLoss, form: Form, batch_size: int) -> None:
        self._loss = loss
        self._form = form
        self._batch_size = batch_size
        self._total: Any = 0.0
        self._rows = 0
        self._kept: list[Batch] = []
        self._numbers = 0
        self._stride = 1
        self._seen = 0
        self.unjudged = loss.unjudged
        """Why nothing can be put beside the loss, as a clause; None where something may."""
        self.failed = False
        """Whether the loss cannot be computed."""
        self.origin = Origin()
        self.masked = False

    def add(self, returned: Returned, y: _Array, weight: _Array | None) -> None:
        """Add a batch.

        Args:
            returned: what the model returned, eager tensors.
            y: its targets.
            weight: weight of each row or position, or None.
        """
        if not len(y) or self.failed:
            return
        self.origin = returned.origin
        self.masked |= returned.mask is not None
        try:
            self._evaluate(returned, y, weight)
        except Exception as error:  # noqa: BLE001 - the loss of a model that is only looked at
            self.failed = True
            self.unjudged = f"its loss fails on these targets: {describe_error(error)}"
            return
        self._keep(returned, y, weight)

    def _evaluate(self, returned: Returned, y: _Array, weight: _Array | None) -> None:
        if self._loss.by_row is None:
            self._loss.by_row = is_by_row(self._loss, returned, y, weight)
        if not self._rows and not self._loss.by_row and not self._loss.is_keras:
            alone = has_single_rows(self._loss, returned, y, weight)
            self.unjudged = None if alone else AMONG_ROWS
        self._total = self._total + self._loss.evaluate(returned, y, weight, self._size) * len(y)
        self._rows += len(y)

    @property
    def figure(self) -> _Array:
        """The loss, shape () or (columns,)."""
        return np.asarray(self._total / max(self._rows, 1))

    def constant(self) -> Constant:
        """The best constant; found once for the same targets."""
        if self.unjudged is not None:
            return Constant(
                loss=np.asarray(np.nan), comparable=self._loss.is_keras, unjudged=self.unjudged
            )
        key = self._digest()
        if key not in self._loss.found:
            self._loss.found[key] = find_constant(
                self._loss, self._kept, self.origin, self._form, self._size
            )
        found: Constant = self._loss.found[key]
        return found

    def usual_variance(self, columns: int) -> _Array | None:
        """Variance of each column of targets without their outliers; None where they do not match.

        Args:
            columns: number of columns of the predictions.
        """
        if any(batch.y.size != np.prod(batch.shape) for batch in self._kept):
            return None
        counted = [
            batch.y if batch.weight is None or batch.weight.ndim > 1 else batch.y[batch.weight > 0]
            for batch in self._kept
        ]
        y = np.concatenate([targets.reshape(-1, columns) for targets in counted])
        return usual_variance(y) if len(y) else None

    @property
    def _size(self) -> int | None:
        """Rows for which a loss is taken at once; None where that makes no difference."""
        return None if self._loss.by_row and not self.masked else self._batch_size

    def _keep(self, returned: Returned, y: _Array, weight: _Array | None) -> None:
        """Keep the targets of every so many batches."""
        self._seen += 1
        if (self._seen - 1) % self._stride:
            return
        batch = Batch(
            y=np.array(y),
            weight=None if weight is None else np.array(weight),
            mask=None if returned.mask is None else returned.mask.numpy(),
            shape=tuple(returned.value.shape),
        )
        each = batch.y.size // batch.rows
        batch = batch.part(slice(0, max(_NUMBERS // 2 // max(each, 1), 1)))
        self._kept.append(batch)
        self._numbers += batch.y.size
        while self._numbers > _NUMBERS and len(self._kept) > 1:
            self._kept = self._kept[::2]
            self._stride *= 2
            self._numbers = sum(batch.y.size for batch in self._kept)

    def _digest(self) -> bytes:
        digest = hashlib.blake2b(f"{self.origin}{self._form}{self._size}".encode())
        for batch in self._kept:
            digest.update(str(batch.shape).encode())
            for array in (batch.y, batch.weight, batch.mask):
                if array is not None:
                    digest.update(np.ascontiguousarray(array).data)
        return digest.digest()
