"""Counting on how many rows each unit is active, in one forward pass over the training rows.

While the model is traced into a graph, every Keras layer that applies an activation reports what
goes into it and what comes out. The counts are then computed inside the same graph as the
predictions: about the cost of a `predict`.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections import Counter, deque
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from orchestrator.measures import INPUT, Flow, Layer
from orchestrator.rows import AnyRows, Tree, leaves, num_rows, transform

BATCH_SIZE = 1024
"""Rows of one forward pass."""
SATURATED = 1e-6
"""Largest |derivative| at which a unit counts as saturated on a row (design, section 4)."""

_EXACT_FLOAT32 = 2**24
"""Up to here float32 counts are exact."""
_SATURATING = frozenset(
    {
        "celu", "elu", "exponential", "gelu", "hard_sigmoid", "hard_silu", "hard_tanh",
        "log_sigmoid", "mish", "selu", "sigmoid", "silu", "softplus", "softsign", "squareplus",
        "tanh", "tanh_shrink",
    }
)  # fmt: skip
_SHAPE_OPERATIONS = frozenset({"Shape", "ShapeN", "Size", "Rank", "ZerosLike", "OnesLike"})
"""Operations whose result does not depend on their input's values."""

Mask = Callable[[tf.Tensor], tf.Tensor]
"""From what goes into an activation, shape (rows, …), to where its derivative is not zero."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Activation:
    """An elementwise activation and its derivative's zeros."""

    name: str
    """Keras's name."""
    active: Mask | None
    """Where the derivative is not zero; None where it never is."""
    saturating: bool = False
    """Whether the derivative only comes near zero."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """What one pass over the rows found."""

    layers: tuple[Layer, ...]
    """The places where an activation is applied, in forward order."""
    flow: Flow
    """How they hang together."""
    predictions: tuple[npt.NDArray[Any], ...]
    """Each of the model's outputs, shape (rows, …), in the order of `rows.leaves`."""
    y: Tree
    """Targets of the same rows."""
    weight: npt.NDArray[Any] | None
    """Weights of the same rows."""


@dataclasses.dataclass(slots=True)
class _Call:
    """One application of an activation while the model is traced."""

    layer: keras.Layer
    activation: Activation
    before: tf.Tensor
    after: tf.Tensor


class Probe:
    """Counts active rows of a model's units; the graph is traced once and then used again.

    Args:
        model: a built model.
    """

    def __init__(self, model: keras.Model) -> None:
        self._model = model
        self._names = dict(_names(model))
        self._graphs: dict[bool, _Graph] = {}

    @property
    def has_batch_normalization(self) -> bool:
        """Whether inference and training mode can differ by BatchNorm's statistics."""
        return any(
            isinstance(layer, keras.layers.BatchNormalization)
            for layer in self._model._flatten_layers()
        )

    def measure(
        self,
        rows: AnyRows,
        *,
        batch_size: int = BATCH_SIZE,
        batch_statistics: bool = False,
        at_least: int | None = None,
    ) -> Measurement:
        """Count over all rows.

        Args:
            rows: what to run through the model.
            batch_size: rows of one forward pass, where the rows leave the choice.
            batch_statistics: use BatchNorm's batch statistics instead of its moving ones.
            at_least: stop after the batch with which so many rows were seen; None for all rows.

        Returns:
            The counts, exact for the rows that were seen, and the predictions.
        """
        found: list[tuple[Any, Tree, Any]] = []
        totals: list[npt.NDArray[np.int64]] = []
        seen = 0
        for x, y, weight in rows.batches(min(batch_size, at_least or batch_size)):
            graph = self._graph(x, batch_statistics)
            predictions, counts = graph.step(transform(tf.constant, x))
            found.append(([prediction.numpy() for prediction in predictions], y, weight))
            arrays = [count.numpy() for count in counts]
            totals = [a + b for a, b in zip(totals, arrays, strict=True)] if totals else arrays
            seen += num_rows(x)
            if at_least is not None and seen >= at_least:
                break
        outputs, targets, weights = zip(*found, strict=True)
        return Measurement(
            layers=graph.layers(totals),
            flow=graph.flow,
            predictions=tuple(np.concatenate(parts) for parts in zip(*outputs, strict=True)),
            y=transform(lambda *parts: np.concatenate(parts), *targets),
            weight=None if weights[0] is None else np.concatenate(weights),
        )

    def _graph(self, x: Tree, batch_statistics: bool) -> _Graph:
        """The traced graph that can count a batch like this one."""
        graph = self._graphs.get(batch_statistics)
        if graph is None or num_rows(x) > graph.batch_size:
            size = max(num_rows(x), BATCH_SIZE)
            graph = _Graph(self._model, self._names, x, size, batch_statistics)
            self._graphs[batch_statistics] = graph
        return graph


class _Graph:
    """A model traced together with the counts of its activations."""

    def __init__(
        self,
        model: keras.Model,
        names: dict[int, str],
        x: Tree,
        batch_size: int,
        batch_statistics: bool,
    ) -> None:
        self.batch_size = batch_size
        self._places: list[list[_Call]] = []
        self._labels: list[str] = []
        self.flow = Flow(layers=(), outputs=())

        def step(inputs: Tree) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
            scope = keras.StatelessScope() if batch_statistics else contextlib.nullcontext()
            with scope, _recorded(model, batch_statistics) as calls:
                outputs = [output for _, output in leaves(model(inputs, training=False))]
            sources = [tensor for _, tensor in leaves(inputs)]
            here = [call for call in calls if call.before.graph is sources[0].graph]
            self._places = _merged(here, model)
            self._labels = _labels([place[0].layer for place in self._places], names)
            self.flow = _trace_flow(sources, outputs, self._places)
            return outputs, [_count(place, batch_size) for place in self._places]

        signature = transform(
            lambda array: tf.TensorSpec((None, *array.shape[1:]), tf.as_dtype(array.dtype)), x
        )
        # As Keras's own training step, without autograph.
        self.step = tf.function(step, input_signature=[signature], autograph=False)

    def layers(self, totals: list[npt.NDArray[np.int64]]) -> tuple[Layer, ...]:
        """The places with their totals; the last entry of each is the number of rows."""
        return tuple(
            Layer(
                name=label,
                activation=place[0].activation.name,
                rows=int(total[-1]),
                active_rows=total[:-1],
                saturating=place[0].activation.saturating,
            )
            for label, place, total in zip(self._labels, self._places, totals, strict=True)
        )


def _count(place: list[_Call], batch_size: int) -> tf.Tensor:
    """Active rows × positions of each unit, then the number of rows × positions; int64."""
    return tf.add_n([_count_call(call, batch_size) for call in place])


def _count_call(call: _Call, batch_size: int) -> tf.Tensor:
    before = call.before
    if before.shape.rank == 1:  # one number a row
        before = before[:, tf.newaxis]
    axis = _unit_axis(call.layer, before.shape.rank)
    if axis != before.shape.rank - 1:
        before = tf.experimental.numpy.moveaxis(before, axis, -1)
    units = before.shape[-1]
    rows = tf.size(before, out_type=tf.int64) // units
    if call.activation.active is None:
        active = tf.fill([units], rows)
    else:
        mask = tf.reshape(call.activation.active(before), [-1, units])
        positions = before.shape[1:-1].num_elements()
        if positions is not None and positions * batch_size <= _EXACT_FLOAT32:
            # A product with ones is several times faster than an integer sum, and exact up to 2^24.
            ones = tf.ones([1, tf.shape(mask)[0]], tf.float32)
            active = tf.cast(tf.matmul(ones, tf.cast(mask, tf.float32))[0], tf.int64)
        else:
            active = tf.reduce_sum(tf.cast(mask, tf.int64), axis=0)
    return tf.concat([active, [rows]], axis=0)


def _unit_axis(layer: keras.Layer, rank: int) -> int:
    return 1 if getattr(layer, "data_format", None) == "channels_first" and rank > 2 else rank - 1


@contextlib.contextmanager
def _recorded(model: keras.Model, batch_statistics: bool) -> Iterator[list[_Call]]:
    """While inside, layers report their activations, and BatchNorm uses the wanted statistics."""
    calls: list[_Call] = []
    replaced: list[tuple[dict[str, Any], str, Any]] = []
    claimed: set[int] = set()

    def replace(layer: keras.Layer, attribute: str, value: Any) -> None:
        # Through __dict__, past Keras's tracking: a built layer refuses new state.
        space = vars(layer)
        replaced.append((space, attribute, space.get(attribute, replaced)))
        space[attribute] = value

    def reporting(
        layer: keras.Layer, activation: Activation, function: Callable[..., Any]
    ) -> Callable[..., Any]:
        def call(inputs: Any, *args: Any, **kwargs: Any) -> Any:
            result = function(inputs, *args, **kwargs)
            calls.append(_Call(layer, activation, inputs, result))
            return result

        return call

    try:
        layers = model._flatten_layers()
        for layer in layers:
            own = vars(layer).get("activation")
            activation = describe(own) if own is not None else None
            if activation is not None and not _is_cell(layer):
                claimed.add(id(own))
                replace(layer, "activation", reporting(layer, activation, own))
        for layer in layers:
            activation = describe(layer) if id(layer) not in claimed else None
            if activation is not None:
                replace(layer, "call", reporting(layer, activation, layer.call))
            elif batch_statistics and isinstance(layer, keras.layers.BatchNormalization):
                replace(layer, "call", _with_batch_statistics(layer.call))
        yield calls
    finally:
        for space, attribute, value in reversed(replaced):
            if value is replaced:
                del space[attribute]
            else:
                space[attribute] = value


def _with_batch_statistics(call: Callable[..., Any]) -> Callable[..., Any]:
    def training_call(inputs: Any, training: Any = None, **kwargs: Any) -> Any:
        return call(inputs, training=True, **kwargs)

    return training_call


def _is_cell(layer: keras.Layer) -> bool:
    """Whether the activation is applied inside a loop, whose tensors cannot be seen outside."""
    kinds = (keras.layers.LSTMCell, keras.layers.GRUCell, keras.layers.SimpleRNNCell)
    return isinstance(layer, (*kinds, keras.layers.RNN))


def describe(activation: Any) -> Activation | None:
    """What is known of an activation.

    Args:
        activation: a function of `keras.activations`, or a Keras layer that applies one.

    Returns:
        Name and zeros of the derivative; None when it is linear, not elementwise or unknown.
    """
    match activation:
        case keras.layers.ReLU():
            return _describe_relu(activation)
        case keras.layers.LeakyReLU():
            never = activation.negative_slope == 0
            return Activation(name="leaky_relu", active=_positive if never else None)
        case keras.layers.PReLU():
            return Activation(name="prelu", active=None)
        case keras.layers.ELU():
            return _saturating("elu", keras.activations.elu)
    name = getattr(activation, "__name__", "")
    known: Callable[[Any], Any] | None = getattr(keras.activations, name, None)
    if known is None or known is not activation:
        return None
    if name == "relu":
        return Activation(name=name, active=_positive)
    if name == "relu6":
        return Activation(name=name, active=lambda z: (z > 0) & (z < 6))
    if name == "leaky_relu":
        return Activation(name=name, active=None)
    return _saturating(name, known) if name in _SATURATING else None


def _positive(z: tf.Tensor) -> tf.Tensor:
    return z > 0


def _describe_relu(layer: keras.layers.ReLU) -> Activation:
    """A ReLU layer in all its forms: slope below the threshold, 1 above it, 0 above the maximum."""
    slope, top, threshold = layer.negative_slope, layer.max_value, layer.threshold
    name = "leaky_relu" if slope else "relu6" if top == 6 else "relu"
    if slope and top is None:
        return Activation(name=name, active=None)

    def active(z: tf.Tensor) -> tf.Tensor:
        mask = tf.ones_like(z, tf.bool) if slope else z > threshold
        return mask if top is None else mask & (z < top)

    return Activation(name=name, active=active)


def _saturating(name: str, function: Callable[[Any], Any]) -> Activation:
    def active(z: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(z)
            value = function(z)
        return tf.abs(tape.gradient(value, z)) > SATURATED

    return Activation(name=name, active=active, saturating=True)


def _merged(calls: list[_Call], model: keras.Model) -> list[list[_Call]]:
    """Calls as places: each call is one, but TimeDistributed's calls, one a time step, are one."""
    repeated = {
        id(inner)
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.TimeDistributed)
        for inner in layer._flatten_layers(include_self=False)
    }
    places: list[list[_Call]] = []
    known: dict[int, list[_Call]] = {}
    for call in calls:
        if id(call.layer) in repeated and id(call.layer) in known:
            known[id(call.layer)].append(call)
            continue
        places.append([call])
        known[id(call.layer)] = places[-1]
    return places


def _labels(layers: list[keras.Layer], names: dict[int, str]) -> list[str]:
    """The layers' names; a layer that is used again gets `:2`, `:3`, … behind its name."""
    seen: Counter[str] = Counter()
    labels = []
    for layer in layers:
        name = names.get(id(layer), layer.name)
        seen[name] += 1
        labels.append(name if seen[name] == 1 else f"{name}:{seen[name]}")
    return labels


def _names(layer: keras.Layer, prefix: str = "") -> Iterator[tuple[int, str]]:
    """The path of every layer inside another, such as `encoder/dense`."""
    for inner in layer._flatten_layers(include_self=False, recursive=False):
        name = f"{prefix}{inner.name}"
        yield id(inner), name
        yield from _names(inner, f"{name}/")


def _trace_flow(
    inputs: list[tf.Tensor], outputs: list[tf.Tensor], places: list[list[_Call]]
) -> Flow:
    """Which places, or the inputs, each place and each output are reached from directly."""
    ends = {call.after.op: index for index, place in enumerate(places) for call in place}
    starts = {tensor.op for tensor in inputs}

    def sources(start: list[tf.Operation]) -> frozenset[int | str]:
        found: set[int | str] = set()
        seen: set[tf.Operation] = set()
        pending = deque(start)
        while pending:
            operation = pending.popleft()
            if operation in seen or operation.type in _SHAPE_OPERATIONS:
                continue
            seen.add(operation)
            if operation in starts:
                found.add(INPUT)
            elif operation in ends:
                found.add(ends[operation])
            else:
                pending.extend(tensor.op for tensor in operation.inputs)
        return frozenset(found)

    layers = tuple(
        # A place is entered through what goes into it, not through itself.
        sources([call.before.op for call in place])
        for place in places
    )
    return Flow(layers=layers, outputs=tuple(sources([output.op]) for output in outputs))
