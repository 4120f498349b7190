"""Which operations of a TensorFlow graph depend on which."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import tensorflow as tf

_SHAPE_OPERATIONS = frozenset({"Shape", "ShapeN", "Size", "Rank", "ZerosLike", "OnesLike"})
"""Operations whose result does not depend on their input's values."""


def descendants(sources: Sequence[tf.Tensor], graph: tf.Graph) -> set[tf.Operation]:
    """The operations that depend on the sources."""
    found = {tensor.op for tensor in sources}
    for operation in graph.get_operations():  # in an order in which they can be computed
        if any(tensor.op in found for tensor in operation.inputs):
            found.add(operation)
    return found


def ancestors(
    start: Sequence[tf.Operation],
    ends: frozenset[tf.Operation] | dict[tf.Operation, int],
    masks: frozenset[tf.Operation] = frozenset(),
) -> set[tf.Operation]:
    """The operations whose values the start depends on, up to and including the ends.

    Args:
        start: where to begin.
        ends: where to go no further.
        masks: where not to go at all.
    """
    seen: set[tf.Operation] = set()
    pending = deque(start)
    while pending:
        operation = pending.popleft()
        if operation in seen or operation in masks or operation.type in _SHAPE_OPERATIONS:
            continue
        seen.add(operation)
        if operation not in ends:
            pending.extend(tensor.op for tensor in operation.inputs)
    return seen


def next_on_the_way(
    tensors: Sequence[tf.Tensor], outputs: Sequence[tf.Tensor], masks: frozenset[tf.Operation]
) -> list[tf.Tensor]:
    """The first floating-point tensors that are computed from others, such as from indices.

    Args:
        tensors: where to start.
        outputs: what the model returns.
        masks: what makes Keras's masks, which are passed over.

    Returns:
        Floating-point tensors that an output depends on.
    """
    on_the_way = ancestors([output.op for output in outputs], frozenset())
    found: list[tf.Tensor] = []
    pending, seen = list(tensors), set()
    while pending:
        for operation in pending.pop().consumers():
            if operation in on_the_way and operation not in seen and operation not in masks:
                seen.add(operation)
                for tensor in operation.outputs:
                    (found if tensor.dtype.is_floating else pending).append(tensor)
    return found
