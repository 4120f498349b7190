"""The activation sites of a model: every place where it applies an activation, found in its graph.

README.md in this folder says how they are found, and what cannot be seen.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from orchestrator.data.rows import Tree, leaves
from orchestrator.diagnosis.tracing.calls import patterns
from orchestrator.diagnosis.tracing.calls.activations import Activation
from orchestrator.diagnosis.tracing.calls.call import Call, Stack
from orchestrator.diagnosis.tracing.calls.listener import LOCK, Listener, as_written, converted
from orchestrator.diagnosis.tracing.calls.loops import Loops
from orchestrator.diagnosis.tracing.dependence import Dependence
from orchestrator.diagnosis.tracing.naming import is_channels_first, path
from orchestrator.diagnosis.units import INPUT, Flow
from orchestrator.model.keras_internals import function_nodes
from orchestrator.model.losses.returned import PASSED_ON


@dataclasses.dataclass(slots=True)
class Site:
    """One place where an activation is applied: by one call, or by one call for each time step."""

    name: str
    """Readable path of the layer."""
    calls: list[Call]

    @property
    def activation(self) -> Activation:
        """What is applied."""
        return self.calls[0].activation

    @property
    def around(self) -> Stack:
        """The layers and operations of Keras around it, outermost first."""
        return self.calls[0].stack


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
    dependence: Dependence
    """What depends on what in the graph."""
    reads: dict[str, tuple[Any, ...]]
    """Handles of the variables from which each site's values are computed, back to the sites
    before, the nearest first."""


def trace(
    model: keras.Model,
    inputs: Tree,
    *,
    batch_size: int,
    batch_statistics: bool = False,
    gradients: bool = False,
) -> Trace:
    """Call the model and find its activations; to be called while a graph is traced.

    Args:
        model: a built model.
        inputs: symbolic inputs, in the structure that the model takes.
        batch_size: rows of a batch at most.
        batch_statistics: use BatchNorm's batch statistics instead of its moving ones.
        gradients: prepare loops for the gradients of what is inside them.

    Returns:
        The outputs, and the activation sites that they depend on.
    """
    look = functools.partial(_traced, model, inputs, batch_size, batch_statistics, gradients)
    with LOCK:
        for inlined, into_loops in _WAYS:
            try:
                return look(inlined(), into_loops)
            except Exception:  # noqa: BLE001 - some inner tf.functions need autograph
                continue
        return look(contextlib.nullcontext(), into_loops=False)


_Inlined = contextlib.AbstractContextManager[None]
_WAYS: tuple[tuple[Callable[[], _Inlined], bool], ...]
_WAYS = ((as_written, True), (converted, True), (as_written, False))
"""How inner `tf.function`s are run, and whether loops are looked into: the first that goes."""


def _traced(
    model: keras.Model,
    inputs: Tree,
    batch_size: int,
    batch_statistics: bool,
    gradients: bool,
    inlined: _Inlined,
    into_loops: bool,
) -> Trace:
    graph = tf.compat.v1.get_default_graph()
    listener = Listener(graph)
    loops = Loops(model, listener, batch_size, gradients)
    counting = loops.counting() if into_loops else contextlib.nullcontext()
    scope = keras.StatelessScope() if batch_statistics else contextlib.nullcontext()
    with scope, listener.listening(model, batch_statistics), counting, inlined:
        outputs = [output for _, output in leaves(model(inputs, training=False))]
    # A model may return what is not a tensor of this graph, such as a constant.
    outputs = [tf.convert_to_tensor(output) for output in outputs]
    sources = [tensor for _, tensor in leaves(inputs)]
    dependence = Dependence(graph, loops.found)
    needed = dependence.ancestors(outputs)
    fed = dependence.descendants(sources)
    calls = [
        call
        for call in patterns.applied(listener.calls, listener.unclaimed, graph)
        if call.after.op in needed and call.before.op in fed and _has_rows(call)
    ]
    calls.sort(key=lambda call: dependence.position(call.after.op))
    stacks = {operation: stack for operation, stack, _ in listener.unclaimed}
    for call in calls:
        if call.tally is None:
            call.channels_first = is_channels_first(call, model, stacks)
    sites = _sites(calls)
    _name(sites, model)
    masks = frozenset(listener.masks)
    return Trace(
        outputs=outputs,
        sites=sites,
        flow=_flow(sources, outputs, sites, masks, dependence),
        notes=_notes(listener, needed, dependence, model),
        masks=masks,
        dependence=dependence,
        reads=_reads(graph, sites, masks, dependence),
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


def _name(sites: Sequence[Site], model: keras.Model) -> None:
    """Name sites by the layers around them; a further site of a layer ends in `:2`."""
    seen: Counter[str] = Counter()
    for site in sites:
        name = path(site.around, model)
        seen[name] += 1
        site.name = name if seen[name] == 1 else f"{name}:{seen[name]}"


def _notes(
    listener: Listener, needed: set[tf.Operation], dependence: Dependence, model: keras.Model
) -> list[str]:
    """A sentence for each layer with activations inside a loop or branch that cannot be seen."""
    found: Counter[str] = Counter()
    for call in listener.calls:
        if call.counted.graph not in dependence.graphs:
            found[path(call.stack, model)] += 1
    for operation, stack, _ in listener.unclaimed:
        if operation in needed and not dependence.has_loop(operation):
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


def _reads(
    graph: tf.Graph,
    sites: Sequence[Site],
    masks: frozenset[tf.Operation],
    dependence: Dependence,
) -> dict[str, tuple[Any, ...]]:
    """Which variables are read for each site, see `Trace`."""
    handles = {inner.op: outer for outer, inner in getattr(graph, "captures", ())}
    ends = {call.after.op for site in sites for call in site.calls}
    found = {}
    for site in sites:
        between = dependence.ancestors([call.before for call in site.calls], ends, masks)
        readers = sorted(between - ends, key=dependence.position, reverse=True)
        found[site.name] = tuple(
            handles[tensor.op]
            for operation in readers
            for tensor in operation.inputs
            if tensor.op in handles and tensor.dtype == tf.resource
        )
    return found


def _flow(
    inputs: Sequence[tf.Tensor],
    outputs: Sequence[tf.Tensor],
    sites: Sequence[Site],
    masks: frozenset[tf.Operation],
    dependence: Dependence,
) -> Flow:
    """From which sites, or from the inputs, each site and each output is reached directly."""
    ends = {call.after.op: index for index, site in enumerate(sites) for call in site.calls}
    starts = {tensor.op for tensor in inputs}

    def sources(start: Sequence[tf.Tensor]) -> frozenset[int | str]:
        found: set[int | str] = set()
        for operation in dependence.ancestors(start, ends, masks):
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
        layers=tuple(sources([call.before for call in site.calls]) for site in sites),
        outputs=tuple(sources([output]) for output in outputs),
        ends=tuple(map(end, outputs)),
    )
