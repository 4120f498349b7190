"""What a model returns for one output, with all that Keras's losses look at beside the values."""

from __future__ import annotations

import dataclasses
from typing import Any

import tensorflow as tf

from orchestrator.model import keras_internals

PASSED_ON = frozenset(
    {"Cast", "Identity", "IdentityN", "Reshape", "Squeeze", "ExpandDims", "Transpose"}
)
"""TensorFlow's operations that leave values as they are."""
_FROM_LOGITS = {"Softmax": tf.nn.softmax, "Sigmoid": tf.nn.sigmoid}
"""Operations behind whose results Keras's cross-entropies look for the logits."""


@dataclasses.dataclass(frozen=True, slots=True)
class Origin:
    """How an output is made."""

    end: str = ""
    """TensorFlow's name of the operation that makes its values."""
    found: str = ""
    """Where Keras's cross-entropies find its logits: `attached` to the tensor; the name of the
    operation, where that makes the tensor itself; empty where they take the values as they are."""


@dataclasses.dataclass(frozen=True, slots=True)
class Returned:
    """One output for one batch."""

    value: Any
    """The prediction, a tensor of shape (rows, …)."""
    logits: Any = None
    """The logits that Keras's cross-entropies go back to, of the same shape, or None."""
    mask: Any = None
    """Keras's mask of the prediction: what counts in the loss; None where all does."""
    origin: Origin = Origin()
    """How it is made."""

    @classmethod
    def of(cls, output: tf.Tensor) -> Returned:
        """From the tensor that a model has returned in the graph that is being traced."""
        origin, logits = Origin(end=end_of(output)), keras_internals.attached_logits(output)
        if logits is not None:
            origin = dataclasses.replace(origin, found="attached")
        elif output.op.type in _FROM_LOGITS:
            logits = output.op.inputs[0]
            origin = dataclasses.replace(origin, found=output.op.type)
        return cls(output, logits, keras_internals.attached_mask(output), origin)

    def part(self, rows: slice) -> Returned:
        """Some rows of it."""
        value, logits, mask = (None if each is None else each[rows] for each in self.tensors)
        return Returned(value, logits, mask, self.origin)

    @property
    def tensors(self) -> tuple[Any, Any, Any]:
        """Value, logits and mask."""
        return self.value, self.logits, self.mask

    def tensor(self) -> tf.Tensor:
        """The prediction as Keras's losses know it, to be called while a graph is traced."""
        if self.origin.found in _FROM_LOGITS:
            found = _FROM_LOGITS[self.origin.found](self.logits)
        else:
            found = tf.identity(self.value)
        keras_internals.attach(
            found, self.logits if self.origin.found == "attached" else None, self.mask
        )
        return found

    def expanded(self) -> Returned:
        """With another axis of size 1 behind the last one, and without its mask."""
        logits = None if self.logits is None else self.logits[..., tf.newaxis]
        # A softmax over a single number would be another one.
        origin = self.origin
        if origin.found == "Softmax":
            origin, logits = dataclasses.replace(origin, found=""), None
        return Returned(self.value[..., tf.newaxis], logits, None, origin)


def end_of(output: tf.Tensor) -> str:
    """TensorFlow's name of the operation that makes an output, in the graph of the model."""
    operation = output.op
    while operation.type in PASSED_ON:
        operation = operation.inputs[0].op
    return str(operation.type)
