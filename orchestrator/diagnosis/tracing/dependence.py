"""Which operations of a TensorFlow graph depend on which."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Container, Sequence
from typing import Any

import tensorflow as tf

_SHAPE_OPERATIONS = frozenset({"Shape", "ShapeN", "Size", "Rank", "ZerosLike", "OnesLike"})
"""Operations whose result does not depend on their input's values."""


@dataclasses.dataclass(frozen=True, slots=True)
class Loop:
    """A loop whose body can be seen."""

    operation: tf.Operation
    """The loop in the graph around it."""
    body: Any
    """The graph of its body: `inputs` and `outputs` are tensors, in the order of those of the
    operation."""


class Dependence:
    """What depends on what in a graph, through the bodies of its loops too.

    Args:
        graph: the graph.
        loops: those with a body that can be seen, however deep.
    """

    def __init__(self, graph: tf.Graph, loops: Sequence[Loop] = ()) -> None:
        self._graph = graph
        self._loops = {loop.operation: loop for loop in loops}
        self._around = {loop.body: loop for loop in loops}
        self._inputs = {
            tensor.op: index for loop in loops for index, tensor in enumerate(loop.body.inputs)
        }
        self._order = {
            operation: index
            for each in self.graphs
            for index, operation in enumerate(each.get_operations())
        }

    @property
    def graphs(self) -> list[tf.Graph]:
        """The graph and the bodies of its loops."""
        return [self._graph, *self._around]

    def has_loop(self, operation: tf.Operation) -> bool:
        """Whether an operation is a loop with a body that can be seen."""
        return operation in self._loops

    def sources(self, tensor: tf.Tensor) -> Sequence[tf.Tensor]:
        """The tensors that one is computed from."""
        operation = tensor.op
        if operation in self._loops:
            return [self._loops[operation].body.outputs[tensor.value_index]]
        if operation in self._inputs:
            # In the first step what the loop begins with, then what the step before has left.
            loop, index = self._around[operation.graph], self._inputs[operation]
            return [loop.operation.inputs[index], loop.body.outputs[index]]
        return list(operation.inputs)

    def ancestors(
        self,
        start: Sequence[tf.Tensor],
        ends: Container[tf.Operation] = (),
        masks: Container[tf.Operation] = (),
    ) -> set[tf.Operation]:
        """The operations whose values the start depends on, up to and including the ends.

        Args:
            start: where to begin.
            ends: where to go no further.
            masks: where not to go at all.
        """
        found: set[tf.Operation] = set()
        seen: set[tuple[tf.Operation, int]] = set()
        pending = deque(start)
        while pending:
            tensor = pending.popleft()
            operation = tensor.op
            # Of a loop, what each output depends on differs.
            key = (operation, tensor.value_index if operation in self._loops else 0)
            if key in seen or operation in masks or operation.type in _SHAPE_OPERATIONS:
                continue
            seen.add(key)
            found.add(operation)
            if operation not in ends:
                pending.extend(self.sources(tensor))
        return found

    def descendants(self, sources: Sequence[tf.Tensor]) -> set[tf.Operation]:
        """The operations that depend on the sources."""
        found = {tensor.op for tensor in sources}
        before = -1
        while len(found) > before:  # once more for what a step of a loop hands to the next
            before = len(found)
            for graph in self.graphs:
                for operation in graph.get_operations():  # as they can be computed
                    inputs = operation.inputs
                    if operation in self._inputs:
                        inputs = self.sources(operation.outputs[0])
                    if any(tensor.op in found for tensor in inputs):
                        found.add(operation)
            if not self._loops:
                break
        return found

    def position(self, operation: tf.Operation) -> tuple[int, ...]:
        """Sorts operations in an order in which they can be computed, those of bodies too."""
        here = self._order[operation]
        if operation.graph in self._around:
            return (*self.position(self._around[operation.graph].operation), here)
        return (here,)

    def next_on_the_way(
        self,
        tensors: Sequence[tf.Tensor],
        outputs: Sequence[tf.Tensor],
        masks: Container[tf.Operation],
    ) -> list[tf.Tensor]:
        """The first floating-point tensors that are computed from others, such as from indices.

        Args:
            tensors: where to start.
            outputs: what the model returns.
            masks: what makes Keras's masks, which are passed over.

        Returns:
            Floating-point tensors that an output depends on.
        """
        on_the_way = self.ancestors(outputs)
        found: list[tf.Tensor] = []
        pending, seen = list(tensors), set()
        while pending:
            for operation in pending.pop().consumers():
                if operation in on_the_way and operation not in seen and operation not in masks:
                    seen.add(operation)
                    for tensor in self._used(operation, outputs, on_the_way):
                        # The first axis of a stack is that of the steps, not of the rows.
                        ends = tensor.dtype.is_floating and operation.type != "TensorListStack"
                        (found if ends else pending).append(tensor)
        return found

    def _used(
        self,
        operation: tf.Operation,
        outputs: Sequence[tf.Tensor],
        on_the_way: Container[tf.Operation],
    ) -> list[tf.Tensor]:
        """What an operation on the way makes; of a loop without what it has counted."""
        return [
            tensor
            for tensor in operation.outputs
            if operation not in self._loops
            or any(tensor is output for output in outputs)
            or any(consumer in on_the_way for consumer in tensor.consumers())
        ]
