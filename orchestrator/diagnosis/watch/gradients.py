"""The gradients that a training computes anyway, added up inside its compiled step.

A unit's bias gets the sum of the gradients at its pre-activation over the rows of a batch. It is
exactly zero where nothing has come back to the unit: it is dead, or something behind it lets
nothing through. So it is zero for every dead unit, and not every unit without gradient is dead.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from orchestrator.diagnosis.watch.layers import Watched, find_watched
from orchestrator.model import keras_internals
from orchestrator.model.build import plain_optimizers

_SAMPLE = 2**16
"""Weights of a kernel whose movement is measured: whole rows of it, evenly spaced."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What was added up since the reading before."""

    steps: int
    """How often gradients were applied; steps that a LossScaleOptimizer skips are none."""
    magnitude: npt.NDArray[np.float64]
    """Sum over the steps of the absolute gradient of each unit, shape (units of all layers,)."""
    moved: npt.NDArray[np.float64]
    """How far each layer's kernel has moved, as a share of its norm before, shape (layers,)."""


class GradientWatch:
    """Adds up each unit's gradient inside a model's training step, and reads the sums.

    It changes no bit of the training: the gradients are those that `apply` of the optimizer gets,
    before clipping and accumulation, inside what scales the loss. Its variables belong to neither
    model nor optimizer and are never saved with them.

    Args:
        model: a built and compiled model.
    """

    def __init__(self, model: keras.Model) -> None:
        self._model = model
        self.layers: tuple[Watched, ...] = find_watched(model)
        self._rows = [_sampled_rows(each.kernel) for each in self.layers]
        owners = [each.owners for each in self.layers]
        starts = np.cumsum([0, *(each.units for each in self.layers)])
        self._starts = starts[:-1]
        self._owners = np.concatenate(
            [np.zeros(0, np.int64), *(a + b for a, b in zip(owners, starts[:-1], strict=True))]
        )
        self.units: int = int(starts[-1])
        """Units of all layers."""
        self._trained_by = plain_optimizers(model)
        self._optimizers: list[keras.optimizers.Optimizer] = []
        self._steps: tuple[Any, Any] | None = None
        with model.distribute_strategy.scope():
            # Each replica of a distributed training adds up what its part of the batch has shown.
            self._sums = tf.Variable(
                tf.zeros(len(self._owners) + 1),
                trainable=False,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.SUM,
            )
            self._kernels = tf.Variable(self._sample(), trainable=False)
        self._turn = tf.function(self._read_and_reset, autograph=False)

    @property
    def variables(self) -> list[tf.Variable]:
        """What it keeps between two readings."""
        return [self._sums, self._kernels]

    def fits(self, model: keras.Model) -> bool:
        """Whether it was made of this model as it was compiled last."""
        optimizers = plain_optimizers(model)
        return self._model is model and [*map(id, optimizers)] == [*map(id, self._trained_by)]

    def split(self, values: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        """The values of all units, layer by layer."""
        return np.split(values, self._starts[1:]) if self.layers else []

    def attach(self) -> None:
        """Watch the steps from now on; without effect where it does already."""
        if not self.layers or self._optimizers:
            return
        for optimizer in self._trained_by:
            # Past Keras's tracking of what is set on an optimizer.
            vars(optimizer)["apply"] = self._watched(optimizer, optimizer.apply)
        self._optimizers = self._trained_by
        before = self._model.train_function
        if before is None or self._steps is None or self._steps[0] is not before:
            # What was traced before does not know of it.
            self._model.train_function = None
            self._model.make_train_function()
            self._steps = before, self._model.train_function
        else:
            self._model.train_function = self._steps[1]

    def detach(self) -> None:
        """Leave optimizers and training step as they were; to attach it again traces nothing."""
        for optimizer in self._optimizers:
            vars(optimizer).pop("apply", None)
        self._optimizers = []
        if self._steps is not None and self._model.train_function is self._steps[1]:
            self._model.train_function = self._steps[0]

    def reset(self) -> None:
        """Forget what was added up."""
        if self.layers:
            self._turn()

    def read(self) -> Reading:
        """What was added up since it was read last, or reset; it begins anew."""
        sums, moved, norms = (np.asarray(each, np.float64) for each in self._turn())
        with np.errstate(divide="ignore", invalid="ignore"):
            shares = np.sqrt(moved / norms)
        # Weights that were all zero have moved by nothing that a share could tell.
        return Reading(
            steps=round(sums[-1]),
            magnitude=self._of_units(sums),
            moved=np.where(moved == 0, 0.0, shares),
        )

    def sums(self) -> npt.NDArray[np.float64]:
        """The absolute gradients of each unit that were added up until now, shape (units,)."""
        return self._of_units(self._sums.numpy().astype(np.float64))

    def _of_units(self, sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        found = np.zeros(self.units)
        np.add.at(found, self._owners, sums[:-1])
        return found

    def gradient_norms(self, reading: Reading) -> list[float]:
        """Norm over each layer's units of their mean absolute gradient a step."""
        means = self.split(reading.magnitude / max(reading.steps, 1))
        return [float(np.linalg.norm(each)) for each in means]

    def _watched(
        self, optimizer: keras.optimizers.Optimizer, apply: Callable[..., Any]
    ) -> Callable[..., Any]:
        """An optimizer's `apply` that adds up what it is given."""

        @functools.wraps(apply)
        def watched(grads: Any, *args: Any, **kwargs: Any) -> Any:
            grads = list(grads)
            given = args[0] if args else kwargs.get("trainable_variables")
            variables = keras_internals.trained(optimizer) if given is None else list(given)
            if args and given is not None:
                args = (variables, *args[1:])
            elif given is not None:
                kwargs = {**kwargs, "trainable_variables": variables}
            self._add(optimizer, grads, variables)
            return apply(grads, *args, **kwargs)

        return watched

    def _add(
        self, optimizer: keras.optimizers.Optimizer, grads: Sequence[Any], variables: Sequence[Any]
    ) -> None:
        """Add the gradients of a step to the sums: one concatenation, whatever the layers."""
        key = functools.partial(keras_internals.variable_key, optimizer)
        known = {key(each): grad for each, grad in zip(variables, grads, strict=False)}
        parts = [_values(known.get(key(each.shift)), each) for each in self.layers]
        scale = getattr(optimizer, "loss_scale_factor", None)
        # The loss, and so each gradient, was multiplied by the optimizer's own factor.
        found = tf.abs(tf.concat([*parts, tf.fill([1], scale or 1.0)], 0))
        self._sums.assign_add(found if scale is None else found / scale)

    def _sample(self) -> tf.Tensor:
        """The sampled weights of all kernels."""
        parts = (
            tf.reshape(tf.gather(tf.convert_to_tensor(each.kernel), rows), [-1])
            for each, rows in zip(self.layers, self._rows, strict=True)
        )
        return tf.concat([tf.zeros(0), *(tf.cast(each, tf.float32) for each in parts)], 0)

    def _read_and_reset(self) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        now, before = self._sample(), self._kernels.read_value()
        sizes = [
            len(rows) * math.prod(each.kernel.shape[1:])
            for each, rows in zip(self.layers, self._rows, strict=True)
        ]
        moved = [tf.reduce_sum(each**2) for each in tf.split(now - before, sizes)]
        norms = [tf.reduce_sum(each**2) for each in tf.split(before, sizes)]
        sums = tf.identity(self._sums.read_value())
        self._sums.assign(tf.zeros_like(sums))
        self._kernels.assign(now)
        return sums, tf.stack(moved), tf.stack(norms)


def _sampled_rows(kernel: keras.Variable) -> npt.NDArray[np.int64]:
    """The rows of a kernel whose movement is measured."""
    rows, row = kernel.shape[0], math.prod(kernel.shape[1:])
    count = min(rows, max(1, _SAMPLE // row))
    return np.linspace(0, rows - 1, count).astype(np.int64)


def _values(grad: Any, watched: Watched) -> tf.Tensor:
    """What a layer's gradient says of its units, shape (size,); zeros where it has none."""
    if grad is None:
        return tf.zeros(watched.size)
    if isinstance(grad, tf.IndexedSlices):  # of an Embedding: the rows that were looked up
        grad = grad.values
    grad = tf.cast(grad, tf.float32)
    rank = grad.shape.rank
    if rank > watched.axes:
        grad = tf.reduce_sum(tf.abs(grad), range(rank - watched.axes))
    return tf.reshape(grad, [watched.size])
