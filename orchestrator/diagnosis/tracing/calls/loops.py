"""Loops in a graph whose bodies are looked into: how the cells of recurrent layers are counted.

A loop keeps what its body computes to itself, so the counting is done inside: beside its own
variables the loop carries, for each application of an activation in its body, the counts so far.
What the body applies is found by tracing it once before, in a graph that is thrown away.

With gradients, each application hands on a token beside its value. Forward, a token is zeros and
stays so. Backward, each step adds to the token's gradient the rows on which the gradient of the
value is not zero; so what arrives at the token before the first step is their number.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from orchestrator.diagnosis.tracing.calls import patterns
from orchestrator.diagnosis.tracing.calls.call import (
    Call,
    Tally,
    active_mask,
    count_active,
    count_reached,
    find_extremes,
    units_last,
)
from orchestrator.diagnosis.tracing.calls.listener import Listener
from orchestrator.diagnosis.tracing.dependence import Loop
from orchestrator.diagnosis.tracing.naming import is_channels_first
from orchestrator.model.keras_internals import Replacements, replace_input, scratch_graph


class Loops:
    """Counts in the bodies of the loops that a model's call makes.

    Args:
        model: the model that is called.
        listener: notes what the bodies apply.
        batch_size: rows of a batch at most.
        gradients: hand tokens through the loops.
    """

    def __init__(
        self, model: keras.Model, listener: Listener, batch_size: int, gradients: bool
    ) -> None:
        self.found: list[Loop] = []
        """The loops that count."""
        self._model = model
        self._listener = listener
        self._batch_size = batch_size
        self._gradients = gradients

    @contextlib.contextmanager
    def counting(self) -> Iterator[None]:
        """While inside, loops count."""
        plain = tf.while_loop

        def loop(cond: Any, body: Any, loop_vars: Any, *args: Any, **kwargs: Any) -> Any:
            # Keras names the arguments behind these.
            if args or not self._listener.hears or not isinstance(loop_vars, list | tuple):
                return plain(cond, body, loop_vars, *args, **kwargs)
            return self._counted(functools.partial(plain, **kwargs), cond, body, loop_vars)

        patches = Replacements()
        patches.set(tf, "while_loop", loop)
        try:
            yield
        finally:
            patches.undo()

    def _counted(self, plain: _Loop, cond: Any, body: Any, variables: Any) -> Any:
        """The loop, which carries the counts of what its body applies."""
        carried = self._look(plain, cond, body, variables)
        if not carried:
            return plain(cond, body, variables)
        calls: list[Call] = []
        graphs: list[tf.Graph] = []

        def step(variables: Any, tallies: Any) -> Any:
            graphs[:] = [tf.compat.v1.get_default_graph()]
            with self._listener.inside(graphs[0]) as before:
                result = body(*variables)
            calls[:] = self._take(graphs[0], *before)
            if [(each.units, each.dtype) for each in map(_Start.of, calls)] != [
                (each.units, each.dtype) for each in carried
            ]:
                raise ValueError("Expected a loop's body to apply the same at every look.")
            with self._listener.silence():
                return self._carried(calls, result, tallies)

        with self._listener.silence():
            begin = [start.values(self._gradients) for start in carried]
        if "shape_invariants" in plain.keywords:
            shapes = tf.nest.map_structure(lambda each: each.shape, begin)
            plain = functools.partial(
                plain, shape_invariants=(plain.keywords["shape_invariants"], shapes)
            )
        result, ends = plain(lambda variables, _: cond(*variables), step, (variables, begin))
        self.found.append(Loop(operation=ends[0][0].op, body=graphs[0]))
        for call, start, end in zip(calls, begin, ends, strict=True):
            token = (start[3], end[3]) if self._gradients else None
            tally = Tally(active=end[0], extremes=(end[1], end[2]), token=token)
            self._listener.calls.append(dataclasses.replace(call, tally=tally))
        return result

    def _look(self, plain: _Loop, cond: Any, body: Any, variables: Any) -> list[_Start]:
        """What to carry for each application in the body, by a trace that is thrown away."""
        found: list[Call] = []

        def look(*variables: Any) -> Any:
            graph = tf.compat.v1.get_default_graph()
            with self._listener.inside(graph) as before:
                result = body(*variables)
            found[:] = self._take(graph, *before)
            del self._listener.calls[before[0] :], self._listener.unclaimed[before[1] :]
            return result

        known = len(self.found)
        with scratch_graph().as_default():
            plain(cond, look, variables)
        del self.found[known:]
        starts = [*map(_Start.of, found)]
        return [] if any(start.units is None for start in starts) else starts

    def _take(self, graph: tf.Graph, calls: int, unclaimed: int) -> list[Call]:
        """The applications in a body, taken from those that were noted since."""
        listener = self._listener
        found = patterns.applied(listener.calls[calls:], listener.unclaimed[unclaimed:], graph)
        listener.calls[calls:] = [
            call for call in listener.calls[calls:] if call.counted.graph is not graph
        ]
        stacks = {operation: stack for operation, stack, _ in listener.unclaimed}
        for call in found:
            call.channels_first = is_channels_first(call, self._model, stacks)
        return found

    def _carried(self, calls: Sequence[Call], result: Any, tallies: Any) -> Any:
        """What a step hands to the next: the body's result, and the counts with its own."""
        ends = []
        for call, (active, low, high, *token) in zip(calls, tallies, strict=True):
            uses = _uses(call.after)
            lowest, highest = map(tf.stop_gradient, find_extremes(call))
            end = [
                active + count_active(call, self._batch_size),
                tf.stop_gradient(tf.minimum(low, lowest)),
                tf.stop_gradient(tf.maximum(high, highest)),
            ]
            if token and call.tally is not None and call.tally.token is not None:
                inner, behind = call.tally.token
                _replace(token[0], _uses(inner))
                end.append(behind)
            elif token:
                after, handed = _hand_on(call, token[0])
                _replace(after, uses)
                result = tf.nest.map_structure(
                    lambda each, old=call.after, new=after: new if each is old else each, result
                )
                end.append(handed)
            ends.append(end)
        return result, ends


_Loop = functools.partial[Any]
"""`tf.while_loop` with the options of a call."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Start:
    """What is carried for one application."""

    units: int | None
    dtype: tf.DType

    @classmethod
    def of(cls, call: Call) -> _Start:
        """For an application in a body."""
        if call.tally is not None:
            low = call.tally.extremes[0]
            return cls(low.shape[0], low.dtype)
        shape = units_last(call.after, call).shape
        return cls(shape[-1] if shape.rank else None, call.after.dtype)

    def values(self, gradients: bool) -> list[tf.Tensor]:
        """Active rows and all rows, lowest and highest value, and a token."""
        found = [
            tf.zeros([(self.units or 0) + 1], tf.int64),
            tf.fill([self.units], tf.constant(self.dtype.max, self.dtype)),
            tf.fill([self.units], tf.constant(self.dtype.min, self.dtype)),
        ]
        return [*found, tf.zeros([self.units], tf.float64)] if gradients else found


def _uses(tensor: tf.Tensor) -> list[tuple[tf.Operation, int]]:
    """The operations that a tensor goes into, each with the place."""
    return [
        (operation, index)
        for operation in tensor.consumers()
        for index, each in enumerate(operation.inputs)
        if each is tensor
    ]


def _replace(tensor: tf.Tensor, uses: Sequence[tuple[tf.Operation, int]]) -> None:
    for operation, index in uses:
        replace_input(operation, index, tensor)


def _hand_on(call: Call, token: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Value and token, unchanged; backward the rows that the gradient reaches are added."""
    mask = active_mask(call)

    def hand_on(value: tf.Tensor, token: tf.Tensor) -> Any:
        def backward(of_value: tf.Tensor, of_token: tf.Tensor) -> Any:
            reached = count_reached(call, of_value, mask)
            return of_value, of_token + tf.cast(reached, tf.float64)

        return (tf.identity(value), tf.identity(token)), backward

    after, handed = tf.custom_gradient(hand_on)(call.after, token)
    return after, handed
