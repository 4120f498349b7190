"""The loss of one output, evaluated a batch at a time by the function that trains the model."""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from orchestrator.data.rows import number
from orchestrator.model.keras_internals import (
    function_arguments,
    is_of_keras,
    loss_function,
    resolve_loss,
)
from orchestrator.model.losses.returned import Origin, Returned

Array = npt.NDArray[Any]

_BY_ELEMENT = frozenset(
    {
        "binary_crossentropy",
        "binary_focal_crossentropy",
        "hinge",
        "huber",
        "log_cosh",
        "mean_absolute_error",
        "mean_absolute_percentage_error",
        "mean_squared_error",
        "mean_squared_logarithmic_error",
        "poisson",
        "squared_hinge",
    }
)
"""Losses of Keras's that are the mean over an output's columns of a loss that each has."""
_BY_BATCH = frozenset({"circle", "dice", "tversky"})
"""Losses of Keras's that are no mean over rows."""
_FORMULAS = frozenset(
    {
        "binary_crossentropy",
        "categorical_crossentropy",
        "mean_squared_error",
        "sparse_categorical_crossentropy",
    }
)
"""Losses whose best constant is the mean of the targets, or of the classes they stand for."""
AMONG_ROWS = "its loss compares the rows of a batch with each other"
"""Why nothing can be told of the loss of a row that is alone."""
_UNJUDGED = {"circle": AMONG_ROWS, "ctc": "its loss aligns sequences of different lengths"}
"""Losses of Keras's that no constant can be put beside, with the reason."""
_MEANS = ("sum_over_batch_size", "mean")
"""Keras's reductions to the mean over all rows and positions."""


class OutputLoss:
    """What one output is trained on: Keras's loss object, called as Keras calls it.

    Args:
        given: what the model was compiled with for this output: a name, a function or a loss.
        y: targets of a few rows.
        prediction: what the model returned for them.
    """

    def __init__(self, given: Any, y: Any, prediction: Any) -> None:
        self._loss = resolve_loss(given, y, prediction)
        self.name = _name(self._loss)
        arguments = function_arguments(self._loss)
        arguments |= getattr(loss_function(self._loss), "keywords", {})  # of a functools.partial
        last_axis = self.last_axis = arguments.get("axis", -1) == -1
        is_mean = self._loss.reduction in _MEANS
        self.is_keras = _is_keras(self._loss, self.name)
        self.from_logits = bool(
            arguments.get("from_logits", getattr(self._loss, "from_logits", False))
        )
        self.ignored: int | None = arguments.get(
            "ignore_class", getattr(self._loss, "ignore_class", None)
        )
        self.has_formula = (
            self.is_keras
            and self.name in _FORMULAS
            and is_mean
            and last_axis
            and self.ignored is None
            and not arguments.get("label_smoothing", 0)
        )
        """Whether its best constant, and the loss of that, follow from the targets' means."""
        self._by_element = self.is_keras and self.name in _BY_ELEMENT and is_mean and last_axis
        self.by_row: bool | None = None
        """Whether the loss of a batch is the mean of those of its rows; None where only a trial
        can tell."""
        if self.is_keras or not is_mean:
            self.by_row = is_mean and self.ignored is None and self.name not in _BY_BATCH
        self.unjudged = _UNJUDGED.get(self.name) if self.is_keras else None
        """Why no constant can be put beside it, as a clause; None where one may."""
        self.found: dict[Any, Any] = {}
        """What was found out about it and is to be used again, such as its best constants."""
        self._graphs: dict[Any, Callable[..., tf.Tensor]] = {}

    @property
    def function(self) -> keras.Loss:
        """Keras's loss object."""
        return self._loss

    @property
    def looks_at_each(self) -> bool:
        """Whether it is one of Keras's that depends on the prediction of each row that counts."""
        return self.is_keras and self.unjudged is None

    def has_columns(self, returned: Returned) -> bool:
        """Whether each column of the output has a loss of its own, of which Keras logs the mean."""
        return self._by_element and returned.mask is None and _num_columns(returned.value) > 1

    def value(self, returned: Returned, y: tf.Tensor, weight: tf.Tensor | None) -> tf.Tensor:
        """What Keras logs for a batch; to be called while a graph is traced.

        Args:
            returned: what the model returned, of shape (rows, …).
            y: targets, as Keras trains on them.
            weight: weight of each row, or of each position, or None.

        Returns:
            Shape (), or (columns,) where each column has a loss of its own.
        """
        if weight is not None and weight.shape.rank == 1 and returned.value.shape.rank > 2:
            # That of a row is that of all its positions, on whatever axes these are.
            weight = tf.reshape(weight, [-1] + [1] * (returned.value.shape.rank - 2))
        if self.has_columns(returned):
            return self._columns(returned, y, weight)
        # As in Keras: a function's name may begin with what TensorFlow takes within others alone.
        with tf.name_scope("compile_loss"):
            found = self._loss(y, returned.tensor(), weight)
        return tf.cast(tf.reduce_mean(found), tf.float32)

    def _columns(self, returned: Returned, y: tf.Tensor, weight: tf.Tensor | None) -> tf.Tensor:
        """With one more axis, Keras takes the mean over one number instead of the columns."""
        expanded = returned.expanded()
        targets = tf.reshape(tf.cast(y, self._loss.dtype), tf.shape(expanded.value))
        # As Keras does, which loses the logits where that makes another tensor.
        predicted = tf.cast(expanded.tensor(), self._loss.dtype)
        values = tf.convert_to_tensor(self._loss.call(targets, predicted))
        values = tf.reshape(tf.cast(values, tf.float32), tf.shape(returned.value))
        if weight is not None:
            weight = tf.cast(weight, tf.float32)
            while weight.shape.rank < returned.value.shape.rank:
                weight = weight[..., tf.newaxis]
            values *= weight
        return tf.reduce_mean(tf.reshape(values, [-1, _num_columns(returned.value)]), axis=0)

    def evaluate(
        self, returned: Returned, y: Array, weight: Array | None, size: int | None = None
    ) -> Array:
        """What Keras logs for arrays.

        Args:
            returned: what the model returned, eager tensors.
            y: targets.
            weight: weights, or None.
            size: rows of a batch, over which Keras takes the mean; None for all in one.

        Returns:
            Shape (), or (columns,) where each column has a loss of its own.
        """
        rows = len(y)
        size = min(size or rows, rows)
        whole = rows // size * size
        total: Any = 0.0
        for part, batch in ((slice(0, whole), size), (slice(whole, rows), rows - whole)):
            if batch:
                weights = None if weight is None else weight[part]
                of_part = returned if whole == rows else returned.part(part)
                value = self.in_graph(self.value, of_part, y[part], weights, size=batch)
                total = total + value.numpy().astype(np.float64) * len(y[part])
        return np.asarray(total / rows)

    def in_graph(
        self,
        function: Callable[..., tf.Tensor],
        returned: Returned,
        y: Array,
        weight: Array | None,
        *others: tf.Tensor,
        size: int | None = None,
    ) -> tf.Tensor:
        """The value of a function of what was returned, of targets and weights, in a graph.

        Args:
            function: gets tensors; the same one at every call for the same graph.
            returned: eager tensors.
            y: targets.
            weight: weights, or None.
            others: what else it takes, of any sizes but the last one.
            size: rows of the batches over which the mean is taken, a divisor of all rows; None for
                all rows in one.
        """
        given = [*returned.tensors, tf.constant(number(y)), None]
        if weight is not None:
            given[4] = tf.constant(number(weight))
        batches = 0 if size is None or size == len(y) else size
        signature = tuple(
            None if each is None else tf.TensorSpec([None, *each.shape[1:]], each.dtype)
            for each in given
        ) + tuple(
            tf.TensorSpec([None] * (len(each.shape) - 1) + [each.shape[-1]], each.dtype)
            for each in others
        )
        key = (function, returned.origin, signature, batches)
        if key not in self._graphs:
            call = _on_tensors(function, returned.origin)
            call = _over_batches(call, batches) if batches else call
            self._graphs[key] = _traced(call, signature)
        return self._graphs[key](*(each for each in (*given, *others) if each is not None))


def _on_tensors(
    function: Callable[..., tf.Tensor],
    origin: Origin,
) -> Callable[..., tf.Tensor]:
    """A function of what was returned as one of the tensors of that."""

    def call(value: Any, logits: Any, mask: Any, *others: Any) -> tf.Tensor:
        return function(Returned(value, logits, mask, origin), *others)

    return call


def _over_batches(call: Callable[..., tf.Tensor], size: int) -> Callable[..., tf.Tensor]:
    """A function's mean over batches of so many rows."""

    def mean(*given: Any) -> tf.Tensor:
        there = [index for index, each in enumerate(given) if each is not None]

        def of_batch(parts: Sequence[tf.Tensor]) -> tf.Tensor:
            tensors: list[Any] = [None] * len(given)
            for index, part in zip(there, parts, strict=True):
                tensors[index] = part
            return call(*tensors)

        batched = [
            tf.reshape(given[index], tf.concat([[-1, size], tf.shape(given[index])[1:]], axis=0))
            for index in there
        ]
        for index, each in zip(there, batched, strict=True):
            each.set_shape([None, size, *given[index].shape[1:]])
        values = tf.map_fn(of_batch, batched, fn_output_signature=tf.float32)
        return tf.reduce_mean(values, axis=0)

    return mean


def _traced(call: Callable[..., tf.Tensor], signature: Sequence[Any]) -> Callable[..., tf.Tensor]:
    """A graph of a function for the arguments that are there; the others are None."""
    there = [index for index, each in enumerate(signature) if each is not None]

    def present(*tensors: tf.Tensor) -> tf.Tensor:
        given: list[Any] = [None] * len(signature)
        for index, tensor in zip(there, tensors, strict=True):
            given[index] = tensor
        return call(*given)

    function = tf.function(
        present, input_signature=[signature[index] for index in there], autograph=False
    )
    with warnings.catch_warnings():  # Keras has warned of this loss when it was trained on
        warnings.simplefilter("ignore")
        return function.get_concrete_function()  # type: ignore[no-any-return]


def _num_columns(value: Any) -> int:
    return int(value.shape[-1] or 1) if value.shape.rank > 1 else 1


def _is_keras(loss: keras.Loss, name: str) -> bool:
    """Whether it computes what Keras's own loss of that name does."""
    return is_of_keras(loss) and loss_function(loss) is getattr(keras.losses, name, name)


def _name(loss: keras.Loss) -> str:
    """Keras's name of the function, or the user's of function or class."""
    if not is_of_keras(loss):
        return _snake_case(type(loss).__name__)
    wrapped: Any = loss_function(loss)
    function = inspect.unwrap(getattr(wrapped, "func", wrapped))  # of a functools.partial
    name = getattr(function, "__name__", type(function).__name__)
    return "loss" if name == "<lambda>" else str(name)


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
