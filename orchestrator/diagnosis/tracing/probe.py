"""Counting on how many rows each unit is active, in one forward pass over the training rows.

The counts are computed inside the same graph as the predictions: about the cost of a `predict`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from orchestrator.data.rows import Readable, Tree, leaves, num_rows, transform
from orchestrator.diagnosis.tracing import sites
from orchestrator.diagnosis.tracing.dependence import next_on_the_way
from orchestrator.diagnosis.tracing.listener import Call
from orchestrator.diagnosis.tracing.sites import Place
from orchestrator.diagnosis.units import Flow, Layer
from orchestrator.model.keras_internals import all_layers

BATCH_SIZE = 1024
"""Rows of one forward pass."""

_SHAPES = 16
"""Lengths of sequences that each have a graph of their own, with the steps of recurrent layers."""
_LEAST_FACTOR = 2**11
_EXACT_FLOAT32 = 2**24
"""Up to here float32 counts are exact."""

See = Callable[[list[npt.NDArray[Any]], Tree, Any], None]
"""Gets each batch's predictions, in the order of `rows.leaves`, its targets and its weights."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """What one pass over the rows found."""

    layers: tuple[Layer, ...]
    """The places where an activation is applied, in forward order."""
    flow: Flow
    """How they hang together."""
    rows: int
    """How many rows were seen."""
    complete: bool
    """Whether these were all."""
    responding: int | None = None
    """Rows whose output responds to the inputs; None without gradients."""
    notes: tuple[str, ...] = ()
    """What the graph hides."""


class Probe:
    """Counts active rows of a model's units; the graph is traced once and then used again.

    Args:
        model: a built model.
    """

    def __init__(self, model: keras.Model) -> None:
        self._model = model
        self._unrolls = any(isinstance(layer, keras.layers.RNN) for layer in all_layers(model))
        self._graphs: dict[tuple[bool, bool], dict[_Shapes, _Graph]] = {}

    @property
    def has_batch_normalization(self) -> bool:
        """Whether inference and training mode can differ by BatchNorm's statistics."""
        return any(
            isinstance(layer, keras.layers.BatchNormalization) for layer in all_layers(self._model)
        )

    def measure(
        self,
        rows: Readable,
        *,
        batch_size: int = BATCH_SIZE,
        batch_statistics: bool = False,
        gradients: bool = False,
        at_least: int | None = None,
        see: See | None = None,
        enough: Callable[[tuple[Layer, ...]], bool] | None = None,
    ) -> Measurement:
        """Count over all rows, a batch at a time.

        Args:
            rows: what to run through the model.
            batch_size: rows of one forward pass, where the rows leave the choice.
            batch_statistics: use BatchNorm's batch statistics instead of its moving ones.
            gradients: count the rows on which an output's gradient gets through each unit, too.
            at_least: stop after the batch with which so many rows were seen; None for all rows.
            see: gets what every batch predicts.
            enough: stop after the batch with whose counts this is true.

        Returns:
            The counts, exact for the rows that were seen.
        """
        seen = 0
        tally: _Tally | None = None
        complete = True
        for x, y, weight in rows.batches(min(batch_size, at_least or batch_size)):
            if not complete:
                break
            graph = self._graph(x, batch_statistics, gradients)
            tally = tally or _Tally(graph)
            predictions = tally.add(graph, x)
            if see is not None:
                see(predictions, y, weight)
            seen += num_rows(x)
            stop = at_least is not None and seen >= at_least
            stop = stop or (enough is not None and enough(tally.layers()))
            complete = not stop or seen >= len(rows)
            if stop:
                break
        if tally is None:
            raise ValueError("Expected at least one row. Received: none")
        return Measurement(
            layers=tally.layers(),
            flow=tally.first.flow,
            rows=seen,
            complete=complete,
            responding=tally.responding if gradients else None,
            notes=tally.notes,
        )

    def hidden_relu(self, rows: Readable) -> list[tuple[str, Sequence[Any]]]:
        """Where relu, with a bound or without, is applied and does not make an output.

        Args:
            rows: rows of the model.

        Returns:
            Name of each place, and the layers and operations of Keras around it, outermost first.
        """
        graph = self._graph(rows.first(1)[0], batch_statistics=False, gradients=False)
        return [
            (place.name, place.around)
            for index, place in enumerate(graph.places)
            if place.activation.name in ("relu", "relu6") and index not in graph.flow.ends
        ]

    def _graph(self, x: Tree, batch_statistics: bool, gradients: bool) -> _Graph:
        """The traced graph that can count a batch like this one."""
        known = self._graphs.setdefault((batch_statistics, gradients), {})
        shapes: _Shapes = tuple(array.shape[1:] for _, array in leaves(x))
        if shapes not in known and len(known) >= (_SHAPES if self._unrolls else 1):
            shapes = _common([*known, shapes])
        graph = known.get(shapes)
        if graph is None or num_rows(x) > graph.batch_size:
            size = max(num_rows(x), BATCH_SIZE)
            graph = _Graph(self._model, x, shapes, size, batch_statistics, gradients)
            known[shapes] = graph
        return graph


_Shapes = tuple[tuple[int | None, ...], ...]
"""Shape of one row of every input."""


def _common(shapes: Sequence[_Shapes]) -> _Shapes:
    """The shapes with None for sizes that differ."""
    return tuple(
        tuple(sizes[0] if len(set(sizes)) == 1 else None for sizes in zip(*each, strict=True))
        for each in zip(*shapes, strict=True)
    )


class _Tally:
    """What was counted so far, place by place of the first batch's graph."""

    def __init__(self, first: _Graph) -> None:
        self.first = first
        self.responding = 0
        self._notes = dict.fromkeys(first.notes)
        self._partial = [place.partial for place in first.places]
        self._active: list[npt.NDArray[np.int64]] = []
        self._reached: list[npt.NDArray[np.int64]] = []
        self._constant: list[npt.NDArray[Any]] = []
        self._first: list[npt.NDArray[Any]] = []

    @property
    def notes(self) -> tuple[str, ...]:
        """What the graphs hide."""
        return tuple(self._notes)

    def add(self, graph: _Graph, x: Tree) -> list[npt.NDArray[Any]]:
        """Count one batch; returns what it predicts."""
        # A unit that was seen to vary needs no second look.
        look = not self._active or any(flags.any() for flags in self._constant)
        predictions, active, extremes, reached, responding = graph.step(
            transform(tf.constant, x), tf.constant(bool(look))
        )
        found = (
            [each.numpy() for each in active],
            [each.numpy() for each in extremes] if look else [],
            [each.numpy() for each in reached],
        )
        if graph is not self.first:
            found = self._matched(graph, *found)
        self._add(*found)
        self.responding += int(responding)
        return [prediction.numpy() for prediction in predictions]

    def _matched(
        self, graph: _Graph, counts: _Arrays, extremes: _Arrays, reached: _Arrays
    ) -> tuple[_Arrays, _Arrays, _Arrays]:
        """What another graph has counted, in the order of the first; nothing where it hides it."""
        self._notes |= dict.fromkeys(graph.notes)
        order = {
            (place.name, place.activation.name, counts[index].size): index
            for index, place in enumerate(graph.places)
        }
        at = [
            order.get((place.name, place.activation.name, before.size))
            for place, before in zip(self.first.places, self._active, strict=True)
        ]
        self._partial = [
            partial or index is None or graph.places[index].partial
            for partial, index in zip(self._partial, at, strict=True)
        ]
        counts = [
            counts[index] if index is not None else np.zeros_like(before)
            for index, before in zip(at, self._active, strict=True)
        ]
        if reached:
            reached = [
                reached[index] if index is not None else np.zeros_like(before)
                for index, before in zip(at, self._reached, strict=True)
            ]
        if extremes:
            extremes = [
                extremes[index] if index is not None else np.stack([before, before])
                for index, before in zip(at, self._first, strict=True)
            ]
        return counts, extremes, reached

    def _add(self, counts: _Arrays, extremes: _Arrays, reached: _Arrays) -> None:
        if not self._active:
            self._active = counts
            self._first = [low for low, _ in extremes]
            self._constant = [low == high for low, high in extremes]
            self._reached = reached
        else:
            self._active = [a + b for a, b in zip(self._active, counts, strict=True)]
            self._reached = [a + b for a, b in zip(self._reached, reached, strict=True)]
            for index, (low, high) in enumerate(extremes):
                same = (low == high) & (low == self._first[index])
                self._constant[index] = self._constant[index] & same
        for index, total in enumerate(self._active):
            # What is active on some rows and not on others varies; what is dead has its own name.
            self._constant[index] = self._constant[index] & (total[:-1] == total[-1])

    def layers(self) -> tuple[Layer, ...]:
        """The places with their totals; the last entry of each is the number of rows."""
        return tuple(
            Layer(
                name=place.name,
                activation=place.activation.name,
                rows=int(total[-1]),
                active_rows=total[:-1],
                constant_units=np.flatnonzero(self._constant[index]),
                reached_rows=self._reached[index] if self._reached else None,
                saturating=place.activation.saturating,
                partial=self._partial[index],
            )
            for index, (place, total) in enumerate(
                zip(self.first.places, self._active, strict=True)
            )
        )


_Arrays = list[npt.NDArray[Any]]


class _Graph:
    """A model traced together with the counts of its activations."""

    def __init__(
        self,
        model: keras.Model,
        x: Tree,
        shapes: _Shapes,
        batch_size: int,
        batch_statistics: bool,
        gradients: bool,
    ) -> None:
        self.batch_size = batch_size
        self.places: list[Place] = []
        self.flow = Flow(layers=(), outputs=())
        self.notes: list[str] = []

        def step(inputs: Tree, look: tf.Tensor) -> tuple[Any, ...]:
            found = sites.trace(model, inputs, batch_statistics=batch_statistics)
            self.places, self.flow, self.notes = found.places, found.flow, found.notes
            active = [_count(place, batch_size) for place in found.places]
            extremes = tf.cond(
                look,
                lambda: [_extremes(place) for place in found.places],
                lambda: [tf.zeros([2, 0], _dtype(place)) for place in found.places],
            ) if found.places else []  # fmt: skip
            reached: list[tf.Tensor] = []
            responding: Any = tf.constant(0, tf.int64)
            if gradients:
                sources = [tensor for _, tensor in leaves(inputs)]
                reached, responding = _reach(found, sources)
            return found.outputs, active, extremes, reached, responding

        sizes = iter(shapes)
        signature = transform(
            lambda array: tf.TensorSpec((None, *next(sizes)), tf.as_dtype(array.dtype)), x
        )
        # As Keras's own training step, without autograph. A function that is traced once and for
        # all runs as a graph even where the user has all functions run eagerly.
        function = tf.function(
            step, input_signature=[signature, tf.TensorSpec((), tf.bool)], autograph=False
        )
        self.step = function.get_concrete_function()


def _count(place: Place, batch_size: int) -> tf.Tensor:
    """Active rows × positions of each unit, then the number of rows × positions; int64."""
    return tf.add_n([_count_call(call, place, batch_size) for call in place.calls])


def _count_call(call: Call, place: Place, batch_size: int) -> tf.Tensor:
    after = _units_last(call.after, place)
    units = tf.shape(after, tf.int64)[-1]
    rows = tf.size(after, out_type=tf.int64) // units
    if call.activation.active is None:
        return tf.concat([tf.fill([units], rows), [rows]], axis=0)
    mask = call.activation.active(_units_last(call.before, place), after)
    mask = tf.reshape(mask, [-1, tf.shape(after)[-1]])
    positions = after.shape[1:-1].num_elements()
    if positions is not None and positions * batch_size <= _EXACT_FLOAT32:
        # A product with ones is several times faster than an integer sum, and exact up to 2^24.
        ones = tf.ones([1, tf.shape(mask)[0]], tf.float32)
        active = tf.cast(tf.matmul(ones, tf.cast(mask, tf.float32))[0], tf.int64)
    else:
        active = tf.reduce_sum(tf.cast(mask, tf.int64), axis=0)
    return tf.concat([active, [rows]], axis=0)


def _units_last(tensor: tf.Tensor, place: Place) -> tf.Tensor:
    """The tensor with the units on the last axis, of rank 2 at least."""
    if tensor.shape.rank == 1:  # one number a row
        return tensor[:, tf.newaxis]
    if place.channels_first and tensor.shape.rank > 2:
        return tf.experimental.numpy.moveaxis(tensor, 1, -1)
    return tensor


def _dtype(place: Place) -> tf.DType:
    return place.calls[0].after.dtype


def _extremes(place: Place) -> tf.Tensor:
    """Lowest and highest value of each unit, shape (2, units)."""
    flat = []
    for call in place.calls:
        after = _units_last(call.after, place)
        flat.append(tf.reshape(after, [-1, after.shape[-1] or tf.shape(after)[-1]]))
    every = flat[0] if len(flat) == 1 else tf.concat(flat, axis=0)
    return tf.stack([tf.reduce_min(every, axis=0), tf.reduce_max(every, axis=0)])


def _reach(found: sites.Trace, sources: list[tf.Tensor]) -> tuple[list[tf.Tensor], tf.Tensor]:
    """On how many rows a gradient gets from an output through each unit, and to an input.

    All output columns are taken at once, each times a number of its own, so that gradients that are
    not zero hardly ever add up to zero. The numbers have few bits: where paths cancel exactly, they
    do so still.
    """
    generator = np.random.default_rng(0)
    total: Any = 0.0
    for output in found.outputs:
        if not output.dtype.is_floating:
            continue
        shape = [size or 1 for size in output.shape[1:]]
        factors = generator.integers(_LEAST_FACTOR, 2 * _LEAST_FACTOR, shape) / _LEAST_FACTOR
        factors *= generator.choice([-1.0, 1.0], shape)
        total += tf.reduce_sum(tf.cast(output, tf.float32) * tf.constant(factors, tf.float32))
    tensors = [call.after for place in found.places for call in place.calls]
    gradients = iter(tf.gradients(total, tensors, unconnected_gradients="zero"))
    reached = []
    for place in found.places:
        counts = []
        for call in place.calls:
            gradient = _units_last(tf.convert_to_tensor(next(gradients)), place)
            through = gradient != 0
            if call.activation.active is not None:  # past the unit, to what goes into it
                after = _units_last(call.after, place)
                through &= call.activation.active(_units_last(call.before, place), after)
            flat = tf.reshape(through, [-1, tf.shape(gradient)[-1]])
            counts.append(tf.reduce_sum(tf.cast(flat, tf.int64), axis=0))
        reached.append(tf.add_n(counts))
    responds = [
        tf.reduce_any(tf.reshape(gradient, [tf.shape(gradient)[0], -1]) != 0, axis=1)
        for gradient in _input_gradients(total, sources, found)
    ]
    if not responds:
        return reached, tf.constant(0, tf.int64)
    return reached, tf.reduce_sum(tf.cast(tf.reduce_any(tf.stack(responds), axis=0), tf.int64))


def _input_gradients(
    total: tf.Tensor, sources: list[tf.Tensor], trace: sites.Trace
) -> list[tf.Tensor]:
    """Gradients of the inputs; where one has none, such as an index, of what it turns into."""
    found: list[tf.Tensor] = []
    while sources:
        floating = [tensor for tensor in sources if tensor.dtype.is_floating]
        gradients = tf.gradients(total, floating) if floating else []
        without = [tensor for tensor in sources if not tensor.dtype.is_floating]
        for tensor, gradient in zip(floating, gradients, strict=True):
            if gradient is None:
                without.append(tensor)
            else:
                found.append(tf.convert_to_tensor(gradient))
        sources = next_on_the_way(without, trace.outputs, trace.masks)
    return found
