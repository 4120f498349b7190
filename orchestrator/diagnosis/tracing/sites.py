"""Finding every place where a model applies an activation, in the graph that it is traced into.

Composites such as PReLU or `ReLU(threshold=1)` are recognised first, by Keras's own functions that
make them, and claim the operations inside; what is left of the operations that are an activation by
themselves is a bare one, whoever wrote it. The layers around an operation name its place.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from orchestrator.data.rows import Tree, leaves
from orchestrator.diagnosis.tracing import patterns
from orchestrator.diagnosis.tracing.activations import Activation
from orchestrator.diagnosis.tracing.dependence import ancestors, descendants
from orchestrator.diagnosis.tracing.listener import (
    LOCK,
    Call,
    Listener,
    Stack,
    as_written,
    converted,
)
from orchestrator.diagnosis.units import INPUT, Flow
from orchestrator.model.keras_internals import function_nodes, own_variables
from orchestrator.model.outputs import PASSED_ON


@dataclasses.dataclass(slots=True)
class Place:
    """Where an activation is applied: once, or once for every time step."""

    name: str
    """Readable path of the layer."""
    calls: list[Call]
    partial: bool = False
    """Whether a loop hides some of the applications."""

    @property
    def activation(self) -> Activation:
        """What is applied."""
        return self.calls[0].activation

    @property
    def around(self) -> Stack:
        """The layers and operations of Keras around it, outermost first."""
        return self.calls[0].stack

    channels_first: bool = False
    """Whether the units are on axis 1 instead of the last."""


@dataclasses.dataclass(slots=True)
class Trace:
    """A model in a graph."""

    outputs: list[tf.Tensor]
    """What the model returns, in the order of `rows.leaves`."""
    places: list[Place]
    """Where activations are applied, in forward order."""
    flow: Flow
    """How they hang together."""
    notes: list[str]
    """A sentence for each place that the graph hides."""
    masks: frozenset[tf.Operation]
    """What makes Keras's masks: they leave rows out, and no value gets through them."""


def trace(model: keras.Model, inputs: Tree, *, batch_statistics: bool = False) -> Trace:
    """Call the model and find its activations; to be called while a graph is traced.

    Args:
        model: a built model.
        inputs: symbolic inputs, in the structure that the model takes.
        batch_statistics: use BatchNorm's batch statistics instead of its moving ones.

    Returns:
        The outputs with the places on the way to them.
    """
    with LOCK:
        for inlined in (as_written, converted):
            try:
                return _traced(model, inputs, batch_statistics, inlined())
            except Exception:  # noqa: BLE001 - some inner tf.functions need autograph
                continue
        return _traced(model, inputs, batch_statistics, contextlib.nullcontext())


def _traced(
    model: keras.Model,
    inputs: Tree,
    batch_statistics: bool,
    inlined: contextlib.AbstractContextManager[None],
) -> Trace:
    graph = tf.compat.v1.get_default_graph()
    recorder = Listener(graph)
    scope = keras.StatelessScope() if batch_statistics else contextlib.nullcontext()
    with scope, recorder.listening(model, batch_statistics), inlined:
        outputs = [output for _, output in leaves(model(inputs, training=False))]
    # A model may return what is not a tensor of this graph, such as a constant.
    outputs = [tf.convert_to_tensor(output) for output in outputs]
    sources = [tensor for _, tensor in leaves(inputs)]
    on_the_way = ancestors([output.op for output in outputs], frozenset())
    calls = [call for call in recorder.calls if call.after.graph is graph]
    hidden = [call for call in recorder.calls if call.after.graph is not graph]
    calls += patterns.bare(recorder.unclaimed)
    order = {operation: index for index, operation in enumerate(graph.get_operations())}
    fed = descendants(sources, graph)
    calls = [
        call
        for call in calls
        if call.after.op in on_the_way and call.before.op in fed and _has_rows(call)
    ]
    calls.sort(key=lambda call: order[call.after.op])
    for call in calls:
        patterns.recognize_gate(call)
    places = _places(calls, model)
    _name(places, model, {operation: stack for operation, stack, _ in recorder.unclaimed})
    notes = _notes(hidden, recorder.unclaimed, on_the_way, model)
    places += _returned(hidden, recorder.returned, model, graph, on_the_way, places)
    places.sort(key=lambda place: order.get(place.calls[0].after.op, len(order)))
    masks = frozenset(recorder.masks)
    return Trace(
        outputs=outputs,
        places=places,
        flow=_flow(sources, outputs, places, masks),
        notes=notes,
        masks=masks,
    )


def _has_rows(call: Call) -> bool:
    """Whether there is a value for every row, not one for the batch or for the weights."""
    shape = call.after.shape
    return shape.rank is None or shape.rank > 1 or (shape.rank == 1 and shape[0] is None)


def _places(calls: Sequence[Call], model: keras.Model) -> list[Place]:
    """Each call is a place; the calls of one layer at every time step are one."""
    places: list[Place] = []
    known: dict[tuple[int, ...], Place] = {}
    for call in calls:
        if call.repeated is not None and call.repeated in known:
            known[call.repeated].calls.append(call)
            continue
        places.append(Place(name="", calls=[call]))
        if call.repeated is not None:
            known[call.repeated] = places[-1]
    return places


def _name(
    places: Sequence[Place], model: keras.Model, stacks: Mapping[tf.Operation, Stack]
) -> None:
    """Name the places by their layers; one that is used again gets `:2`, `:3`, … behind it."""
    seen: Counter[str] = Counter()
    for place in places:
        stack = place.calls[0].stack
        name = _path(stack, model)
        place.channels_first = _is_channels_first(place.calls[0], model, stacks)
        seen[name] += 1
        place.name = name if seen[name] == 1 else f"{name}:{seen[name]}"


def _is_channels_first(
    call: Call, model: keras.Model, stacks: Mapping[tf.Operation, Stack]
) -> bool:
    """Whether the units are on axis 1, by the layer itself or by what its values come from."""
    if (call.after.shape.rank or 0) < 3:
        return False
    pending, seen = deque([call.after.op]), set()
    while pending:
        operation = pending.popleft()
        if operation in seen:
            continue
        seen.add(operation)
        for layer in _owners(stacks.get(operation, call.stack), model)[-1:]:
            known = getattr(layer, "data_format", None)
            if known is not None:
                return bool(known == "channels_first")
            if isinstance(layer, _WITH_AXIS):
                return bool(layer.axis == 1)
            if own_variables(layer):
                return False
        if operation.type in ("Reshape", "Transpose"):  # an axis is another one before it
            return False
        pending.extend(tensor.op for tensor in operation.inputs if tensor.dtype.is_floating)
    return False


_WITH_AXIS = (keras.layers.BatchNormalization, keras.layers.GroupNormalization)
"""Layers whose axis is that of the channels."""


def _path(stack: Stack, model: keras.Model) -> str:
    """Readable path of a layer in the model, such as `encoder/dense`."""
    return "/".join(each.name for each in _owners(stack, model)) or model.name


def _owners(stack: Stack, model: keras.Model) -> list[Any]:
    """The layers around a place, without the model itself and without the parts of a layer."""
    inner = list(stack[1:] if stack and stack[0] is model else stack)
    # A Dense's own activation layer and an LSTM's own cell are part of it, not layers inside it.
    while len(inner) > 1 and _is_part(inner[-1], inner[-2]):
        inner.pop()
    return inner


def _is_part(layer: Any, owner: Any) -> bool:
    own_cell = isinstance(owner, keras.layers.LSTM | keras.layers.GRU | keras.layers.SimpleRNN)
    if vars(owner).get("activation") is layer:
        return True
    return own_cell and owner.cell is layer


def _notes(
    hidden: Sequence[Call],
    operations: Sequence[tuple[tf.Operation, Stack, Any]],
    on_the_way: set[tf.Operation],
    model: keras.Model,
) -> list[str]:
    """What loops and branches hide."""
    found: Counter[str] = Counter()
    for call in hidden:
        found[_path(call.stack, model)] += 1
    for operation, stack, _ in operations:
        if operation in on_the_way:
            count = sum(_bare_inside(operation.graph, name) for name in _bodies(operation))
            if count:
                found.setdefault(_path(stack, model), count)
    return [
        f"{name}: a loop or branch hides {count} activation{'s' * (count > 1)} from the graph"
        for name, count in found.items()
    ]


def _bodies(operation: tf.Operation) -> Iterator[str]:
    """Names of the functions that an operation calls."""
    for attribute in ("body", "then_branch", "else_branch", "f"):
        with contextlib.suppress(ValueError):
            value = operation.get_attr(attribute)
            if hasattr(value, "name"):
                yield value.name


def _bare_inside(graph: tf.Graph, name: str) -> int:
    """Number of activations in a function of a graph, and in those that it calls."""
    count = 0
    for node in function_nodes(graph, name):
        count += node.op in ("Relu", "Relu6", "LeakyRelu", "Elu", "Selu")
        for attribute in ("body", "then_branch", "else_branch", "f"):
            if attribute in node.attr and node.attr[attribute].func.name:
                count += _bare_inside(graph, node.attr[attribute].func.name)
    return count


def _returned(
    hidden: Sequence[Call],
    returned: dict[int, list[tuple[tf.Tensor, Any]]],
    model: keras.Model,
    graph: tf.Graph,
    on_the_way: set[tf.Operation],
    known: Sequence[Place],
) -> list[Place]:
    """What recurrent layers with a hidden loop return, where relu shows in it.

    relu(z) is positive where its derivative is not zero, and what a relu cell returns is relu(z),
    in an LSTM or a GRU times a positive gate or with a part of the state before.
    """
    places: list[Place] = []
    done: set[int] = set()
    names = {place.name for place in known}
    for call in hidden:
        for layer in call.stack:
            name = call.activation.name
            if id(layer) not in returned or id(layer) in done or name not in ("relu", "relu6"):
                continue
            done.add(id(layer))
            stack = call.stack[: call.stack.index(layer) + 1]
            path = _path(stack, model)
            seen = Activation(name=name, active=lambda _, after: after > 0)
            for before, result in returned[id(layer)]:
                after = result[0] if isinstance(result, list | tuple) else result
                if after.graph is graph and after.op in on_the_way:
                    free = (f"{path}:{number}" for number in itertools.count(2))
                    again = path if path not in names else next(n for n in free if n not in names)
                    names.add(again)
                    calls = [Call(seen, before, after, stack)]
                    places.append(Place(name=again, calls=calls, partial=True))
    return places


def _flow(
    inputs: Sequence[tf.Tensor],
    outputs: Sequence[tf.Tensor],
    places: Sequence[Place],
    masks: frozenset[tf.Operation],
) -> Flow:
    """Which places, or the inputs, each place and each output are reached from directly."""
    ends = {call.after.op: index for index, place in enumerate(places) for call in place.calls}
    starts = {tensor.op for tensor in inputs}

    def sources(start: Sequence[tf.Operation]) -> frozenset[int | str]:
        found: set[int | str] = set()
        for operation in ancestors(start, ends, masks):
            if operation in starts:
                found.add(INPUT)
            elif operation in ends:
                found.add(ends[operation])
        return frozenset(found)

    def end(output: tf.Tensor) -> int | None:
        operation = output.op
        while operation not in ends and operation.type in PASSED_ON:
            operation = operation.inputs[0].op
        return ends.get(operation)

    return Flow(
        # A place is entered through what goes into it, not through itself.
        layers=tuple(sources([call.before.op for call in place.calls]) for place in places),
        outputs=tuple(sources([output.op]) for output in outputs),
        ends=tuple(map(end, outputs)),
    )
