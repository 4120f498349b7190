"""The activation sites of a model: every place where it applies an activation, found in its graph.

README.md in this folder says how they are found, and what cannot be seen.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections import Counter
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
from orchestrator.diagnosis.tracing.naming import is_channels_first, path
from orchestrator.diagnosis.units import INPUT, Flow
from orchestrator.model.keras_internals import function_nodes
from orchestrator.model.outputs import PASSED_ON


@dataclasses.dataclass(slots=True)
class Site:
    """One place where an activation is applied: by one call, or by one call for each time step."""

    name: str
    """Readable path of the layer."""
    calls: list[Call]
    partial: bool = False
    """Whether a loop hides some of the calls, so that a unit without activity may yet be alive."""

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
    sites: list[Site]
    """Where activations are applied, in forward order."""
    flow: Flow
    """Which of them feed which, and which make the outputs."""
    notes: list[str]
    """A sentence for each layer whose activations the graph hides."""
    masks: frozenset[tf.Operation]
    """The operations that compute Keras's masks: they leave rows out, and hand on no value."""


def trace(model: keras.Model, inputs: Tree, *, batch_statistics: bool = False) -> Trace:
    """Call the model and find its activations; to be called while a graph is traced.

    Args:
        model: a built model.
        inputs: symbolic inputs, in the structure that the model takes.
        batch_statistics: use BatchNorm's batch statistics instead of its moving ones.

    Returns:
        The outputs, and the activation sites that they depend on.
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
    listener = Listener(graph)
    scope = keras.StatelessScope() if batch_statistics else contextlib.nullcontext()
    with scope, listener.listening(model, batch_statistics), inlined:
        outputs = [output for _, output in leaves(model(inputs, training=False))]
    # A model may return what is not a tensor of this graph, such as a constant.
    outputs = [tf.convert_to_tensor(output) for output in outputs]
    sources = [tensor for _, tensor in leaves(inputs)]
    needed = ancestors([output.op for output in outputs], frozenset())
    calls = [call for call in listener.calls if call.after.graph is graph]
    hidden = [call for call in listener.calls if call.after.graph is not graph]
    calls += patterns.bare(listener.unclaimed)
    order = {operation: index for index, operation in enumerate(graph.get_operations())}
    fed = descendants(sources, graph)
    calls = [
        call
        for call in calls
        if call.after.op in needed and call.before.op in fed and _has_rows(call)
    ]
    calls.sort(key=lambda call: order[call.after.op])
    for call in calls:
        patterns.recognize_gate(call)
    sites = _sites(calls)
    _name(sites, model, {operation: stack for operation, stack, _ in listener.unclaimed})
    notes = _notes(hidden, listener.unclaimed, needed, model)
    sites += _returned(hidden, listener.returned, model, graph, needed, sites)
    sites.sort(key=lambda site: order.get(site.calls[0].after.op, len(order)))
    masks = frozenset(listener.masks)
    return Trace(
        outputs=outputs,
        sites=sites,
        flow=_flow(sources, outputs, sites, masks),
        notes=notes,
        masks=masks,
    )


def _has_rows(call: Call) -> bool:
    """Whether there is a value for every row, not one for the batch or for the weights."""
    shape = call.after.shape
    return shape.rank is None or shape.rank > 1 or (shape.rank == 1 and shape[0] is None)


def _sites(calls: Sequence[Call]) -> list[Site]:
    """One site for each call; the calls of a layer at all time steps are one site."""
    sites: list[Site] = []
    known: dict[tuple[int, ...], Site] = {}
    for call in calls:
        if call.repeated is not None and call.repeated in known:
            known[call.repeated].calls.append(call)
            continue
        sites.append(Site(name="", calls=[call]))
        if call.repeated is not None:
            known[call.repeated] = sites[-1]
    return sites


def _name(sites: Sequence[Site], model: keras.Model, stacks: Mapping[tf.Operation, Stack]) -> None:
    """Name sites by the layers around them; a further site of a layer ends in `:2`."""
    seen: Counter[str] = Counter()
    for site in sites:
        stack = site.calls[0].stack
        name = path(stack, model)
        site.channels_first = is_channels_first(site.calls[0], model, stacks)
        seen[name] += 1
        site.name = name if seen[name] == 1 else f"{name}:{seen[name]}"


def _notes(
    hidden: Sequence[Call],
    operations: Sequence[tuple[tf.Operation, Stack, Any]],
    needed: set[tf.Operation],
    model: keras.Model,
) -> list[str]:
    """A sentence for each layer with activations inside a loop or branch of the graph."""
    found: Counter[str] = Counter()
    for call in hidden:
        found[path(call.stack, model)] += 1
    for operation, stack, _ in operations:
        if operation in needed:
            count = sum(_bare_inside(operation.graph, name) for name in _bodies(operation))
            if count:
                found.setdefault(path(stack, model), count)
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
    needed: set[tf.Operation],
    known: Sequence[Site],
) -> list[Site]:
    """Sites of recurrent layers whose loop is hidden, told by what they return.

    relu(z) is positive where its derivative is not zero, and what a relu cell returns is relu(z),
    in an LSTM or a GRU times a positive gate or with a part of the state before.
    """
    sites: list[Site] = []
    done: set[int] = set()
    names = {site.name for site in known}
    for call in hidden:
        for layer in call.stack:
            name = call.activation.name
            if id(layer) not in returned or id(layer) in done or name not in ("relu", "relu6"):
                continue
            done.add(id(layer))
            stack = call.stack[: call.stack.index(layer) + 1]
            first = path(stack, model)
            seen = Activation(name=name, active=lambda _, after: after > 0)
            for before, result in returned[id(layer)]:
                after = result[0] if isinstance(result, list | tuple) else result
                if after.graph is graph and after.op in needed:
                    free = (f"{first}:{number}" for number in itertools.count(2))
                    again = first if first not in names else next(n for n in free if n not in names)
                    names.add(again)
                    calls = [Call(seen, before, after, stack)]
                    sites.append(Site(name=again, calls=calls, partial=True))
    return sites


def _flow(
    inputs: Sequence[tf.Tensor],
    outputs: Sequence[tf.Tensor],
    sites: Sequence[Site],
    masks: frozenset[tf.Operation],
) -> Flow:
    """From which sites, or from the inputs, each site and each output is reached directly."""
    ends = {call.after.op: index for index, site in enumerate(sites) for call in site.calls}
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
        # A site is reached through what goes into it, not through itself.
        layers=tuple(sources([call.before.op for call in site.calls]) for site in sites),
        outputs=tuple(sources([output.op]) for output in outputs),
        ends=tuple(map(end, outputs)),
    )
