"""A training step that is tried and not taken: its loss, and whether that moves any weight."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from orchestrator.data.rows import Batch, leaves, num_rows, trained_on, transform
from orchestrator.diagnosis.tracing.calls.listener import LOCK, as_written
from orchestrator.model import keras_internals

_LAST = 2
"""Weights in front of the output that are asked first: most often they have a gradient, and the way
back through the rest of a deep network is not taken."""

_SCALES = ("gamma", "scale")
"""Names that Keras gives to weights that are factors."""

Reach = Literal["some", "zero", "none"]
"""Whether a loss moves a weight: some have a gradient that is not zero, all that there are is zero,
or the loss does not depend on any of them."""
_Array = npt.NDArray[Any]
T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """What a step would have been."""

    batch: Batch
    """Its rows."""
    loss: float
    """As Keras trains on it: with regularisation and what layers add."""
    predictions: tuple[_Array, ...]
    """What the model returned in training mode, one array for each output."""
    reach: Reach
    """Whether the loss moves a weight; `none` where there is none to move."""

    @property
    def rows(self) -> int:
        """Number of rows."""
        return num_rows(self.batch[0])


def try_step(model: keras.Model, batch: Batch, weights: Sequence[_Array] | None = None) -> Trial:
    """Compute a loss and its gradient as Keras's own training step does, and change nothing.

    Args:
        model: built and compiled, without a `train_step` of its own.
        batch: rows that are ready for the model.
        weights: values to try in place of the trainable weights.
    """
    x, y, weight = trained_on(batch)
    y = transform(tf.constant, y) if leaves(y) else None
    weight = None if weight is None else tf.constant(weight)
    variables = model.trainable_variables
    tensors = [tf.convert_to_tensor(each) for each in weights or (v.value for v in variables)]

    def run(wanted: slice) -> tuple[Any, list[Any], list[Any]]:
        # Moving statistics and the states of random generators go into the scope, and end with it.
        scope = keras.StatelessScope([*zip(variables, tensors, strict=True)], collect_losses=True)
        with scope, tf.GradientTape() as tape:
            tape.watch(tensors)
            returned = model(x, training=True)
            loss = keras_internals.compute_loss(model, x, y, returned, weight)
        return loss, [each for _, each in leaves(returned)], tape.gradient(loss, tensors[wanted])

    # A loop in Python costs more than tracing it.
    loops = any(isinstance(each, keras.layers.RNN) for each in keras_internals.all_layers(model))
    call = _in_graph if loops else _as_it_is
    for run_it, wanted in (
        (call, slice(-_LAST, None)),
        (call, slice(None)),
        (_as_written, slice(None)),
    ):
        with warnings.catch_warnings():  # Keras says it again when it trains
            warnings.simplefilter("ignore")
            loss, returned, gradients = run_it(functools.partial(run, wanted))
        if reach_of(gradients) == "some":
            break
    return Trial(
        batch=batch,
        loss=float(loss),
        predictions=tuple(keras.ops.convert_to_numpy(each) for each in returned),
        reach=reach_of(gradients),
    )


def _as_it_is(function: Callable[[], T]) -> T:
    return function()


def _in_graph(function: Callable[[], T]) -> T:
    found: T = tf.function(function, autograph=False)()
    return found


def _as_written(function: Callable[[], T]) -> T:
    """What a function returns with inner `tf.function`s as plain Python.

    Traced before for the same shapes, they read the model's variables whatever is in their place.
    """
    with LOCK, as_written():
        return function()


def reach_of(gradients: Sequence[Any]) -> Reach:
    """Whether any of some eager gradients is there, and not zero."""
    known = [gradient for gradient in gradients if gradient is not None]
    if not known:
        return "none"
    moved = any(bool(tf.reduce_any(tf.convert_to_tensor(each) != 0)) for each in known)
    return "some" if moved else "zero"


def draw_weights(model: keras.Model, seed: int) -> list[_Array]:
    """Other values of the trainable weights, of a usual size, for what holds whatever they are.

    Kernels are normal with variance 2 / (inputs + outputs) (Glorot and Bengio, 2010), biases are
    around 0 and scales around 1.
    """
    draw = np.random.default_rng(seed)
    found = []
    for variable in model.trainable_variables:
        shape = tuple(variable.shape)
        values = draw.normal(size=shape)
        if len(shape) > 1:
            values *= np.sqrt(2 / (np.prod(shape[:-1]) + shape[-1]))
        else:
            values = 0.3 * values + (variable.name in _SCALES)
        found.append(values.astype(np.float32))
    return found


def predict_with(model: keras.Model, x: Any, weights: Sequence[_Array]) -> tuple[_Array, ...]:
    """What a model would predict with other trainable weights, one array for each output."""
    with keras.StatelessScope([*zip(model.trainable_variables, weights, strict=True)]):
        returned = _as_written(functools.partial(model, x, training=False))
    return tuple(keras.ops.convert_to_numpy(each) for _, each in leaves(returned))
