"""Finding every place where a model applies an activation, in the graph that it is traced into.

Composites such as PReLU or `ReLU(threshold=1)` are recognised first, by Keras's own functions that
make them, and claim the operations inside; what is left of the operations that are an activation by
themselves is a bare one, whoever wrote it. The layers around an operation name its place.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import itertools
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf
from keras.src import activations as keras_activations
from keras.src import backend as keras_backend

from orchestrator import activations
from orchestrator.activations import Activation
from orchestrator.measures import INPUT, Flow
from orchestrator.outputs import PASSED_ON
from orchestrator.rows import Tree, leaves

UNROLLED = 256
"""Time steps up to which a recurrent layer is traced step by step, so that its cell is seen."""

_SHAPE_OPERATIONS = frozenset({"Shape", "ShapeN", "Size", "Rank", "ZerosLike", "OnesLike"})
"""Operations whose result does not depend on their input's values."""
_SATURATING = frozenset(
    {
        "celu", "elu", "gelu", "hard_shrink", "hard_sigmoid", "hard_silu", "hard_tanh",
        "log_sigmoid", "selu", "sigmoid", "silu", "soft_shrink", "softplus", "softsign",
        "sparse_plus", "sparse_sigmoid", "squareplus", "tanh", "tanh_shrink", "threshold",
    }
)  # fmt: skip
"""Functions of Keras's backend that are saturating activations."""
_TF_COMPOSITES: dict[str, tuple[str, Callable[..., Any]]] = {
    "gelu": ("gelu", tf.nn.gelu),
    "silu": ("silu", tf.nn.silu),
    "swish": ("silu", tf.nn.swish),
}
"""TensorFlow's own functions that make an activation of several operations, with Keras's names."""
_LOCK = threading.RLock()
"""Listening replaces functions of Keras and TensorFlow for a while: for one thread at a time."""
_GATE_SHIFT = 3.0
"""relu6(x + 3) / 6 is the hard sigmoid of MobileNetV3 and its kin."""

_Stack = tuple[Any, ...]
"""The layers and operations of Keras that are being called, outermost first."""


@dataclasses.dataclass(slots=True)
class Call:
    """One application of an activation."""

    activation: Activation
    before: tf.Tensor
    after: tf.Tensor
    stack: _Stack
    repeated: tuple[int, ...] | None = None
    """Same for the applications of one layer at every time step; None outside of such loops."""


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
    def around(self) -> _Stack:
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
    with _LOCK:
        for inlined in (_as_written, _converted):
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
    recorder = _Recorder(graph)
    scope = keras.StatelessScope() if batch_statistics else contextlib.nullcontext()
    with scope, recorder.listening(model, batch_statistics), inlined:
        outputs = [output for _, output in leaves(model(inputs, training=False))]
    # A model may return what is not a tensor of this graph, such as a constant.
    outputs = [tf.convert_to_tensor(output) for output in outputs]
    sources = [tensor for _, tensor in leaves(inputs)]
    on_the_way = _ancestors([output.op for output in outputs], frozenset())
    calls = [call for call in recorder.calls if call.after.graph is graph]
    hidden = [call for call in recorder.calls if call.after.graph is not graph]
    calls += _bare(recorder.unclaimed)
    order = {operation: index for index, operation in enumerate(graph.get_operations())}
    fed = _descendants(sources, graph)
    calls = [
        call
        for call in calls
        if call.after.op in on_the_way and call.before.op in fed and _has_rows(call)
    ]
    calls.sort(key=lambda call: order[call.after.op])
    for call in calls:
        _recognize_gate(call)
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


class _Recorder:
    """Notes which layers an operation belongs to, and which activations are applied."""

    def __init__(self, graph: tf.Graph) -> None:
        self.calls: list[Call] = []
        self.unclaimed: list[tuple[tf.Operation, _Stack, tuple[int, ...] | None]] = []
        self.returned: dict[int, list[tuple[tf.Tensor, Any]]] = {}
        """What recurrent layers got and returned where their steps are hidden, by identity."""
        self.masks: list[tf.Operation] = []
        """What makes the masks that Keras hands from layer to layer."""
        self._graph = graph
        self._stack: list[Any] = []
        self._repeats: list[_Repetition] = []
        self._loops = itertools.count()
        self._inside = 0
        self._silent = 0
        self._thread = threading.get_ident()

    @contextlib.contextmanager
    def listening(self, model: keras.Model, batch_statistics: bool) -> Iterator[None]:
        """While inside, calls and operations are noted."""
        patches = _Patches()
        try:
            self._listen_to_graph(patches)
            self._listen_to_functions(patches)
            self._listen_to_layers(patches, model, batch_statistics)
            yield
        finally:
            patches.undo()

    @property
    def _here(self) -> bool:
        return threading.get_ident() == self._thread

    def _listen_to_graph(self, patches: _Patches) -> None:
        create = self._graph._create_op_internal

        def created(*args: Any, **kwargs: Any) -> Any:
            operation = create(*args, **kwargs)
            if not self._inside and not self._silent:
                bare = operation.type in activations.BARE
                repeated = self._repetition() if bare else None
                self.unclaimed.append((operation, tuple(self._stack), repeated))
            return operation

        patches.set(self._graph, "_create_op_internal", created)

    def _listen_to_functions(self, patches: _Patches) -> None:
        """Keras's own functions: every activation of Keras ends in one of these."""
        mish = keras_activations.activations.Mish
        known: list[tuple[Any, str, Callable[..., Activation]]] = [
            (keras_backend.nn, "relu", activations.relu),
            (keras_backend.nn, "relu6", functools.partial(activations.relu, max_value=6)),
            (keras_backend.nn, "leaky_relu", activations.leaky_relu),
            (keras_activations.activations.ReLU, "static_call", activations.relu),
            (mish, "static_call", _smooth("mish", mish.static_call)),
            (keras_backend.numpy, "tanh", _smooth("tanh", tf.nn.tanh)),
        ]
        known += [(tf.nn, name, _smooth(*each)) for name, each in _TF_COMPOSITES.items()]
        for name in sorted(_SATURATING):
            function = getattr(keras_backend.nn, name, None)
            if function is not None:
                known.append((keras_backend.nn, name, _smooth(name, function)))
        for owner, name, describe in known:
            function = inspect.getattr_static(owner, name)
            plain = function.__func__ if isinstance(function, staticmethod) else function
            reporting = self._reporting(plain, describe)
            wrapped = staticmethod(reporting) if isinstance(function, staticmethod) else reporting
            patches.set(owner, name, wrapped)

    def _listen_to_layers(
        self, patches: _Patches, model: keras.Model, batch_statistics: bool
    ) -> None:
        patches.set(keras.Operation, "__call__", self._stacking(keras.Operation.__call__))
        steps: dict[int, keras.Layer] = {}
        for layer in model._flatten_layers():
            own = vars(layer).get("activation")
            if isinstance(layer, keras.layers.PReLU):
                patches.set(layer, "call", self._reporting(layer.call, activations.prelu))
            elif own is keras.activations.exponential:
                smooth = _smooth("exponential", own)
                patches.set(layer, "activation", self._reporting(own, smooth))
            for name, held in list(vars(layer).items()):
                for composite in _TF_COMPOSITES.values():
                    if held is composite[1]:
                        patches.set(layer, name, self._reporting(held, _smooth(*composite)))
            if callable(vars(layer).get("recurrent_activation")):
                gate = self._silenced(layer.recurrent_activation)
                patches.set(layer, "recurrent_activation", gate)
            if isinstance(layer, keras.layers.RNN):
                self._open_loop(patches, layer)
            elif isinstance(layer, keras.layers.TimeDistributed):
                patches.set(layer, "call", self._repeating(layer.call))
                steps[id(layer.layer)] = layer.layer
            elif batch_statistics and isinstance(layer, keras.layers.BatchNormalization):
                patches.set(layer, "call", _with_batch_statistics(layer.call))
        for layer in steps.values():  # a TimeDistributed passes by the inner layer's __call__
            step = functools.partial(self._stacking(_call), layer, layer.call)
            patches.set(layer, "call", step)

    def _open_loop(self, patches: _Patches, layer: keras.layers.RNN) -> None:
        """Trace a recurrent layer's steps one by one where their number is known."""
        plain = layer.call
        run = self._repeating(plain)

        def call(sequences: Any, *args: Any, **kwargs: Any) -> Any:
            if not self._here:
                return plain(sequences, *args, **kwargs)
            steps = sequences.shape[1]
            own = _Patches()
            unrolled = steps is not None and steps <= UNROLLED
            if unrolled:
                own.set(layer, "unroll", True)
            try:
                result = run(sequences, *args, **kwargs)
            finally:
                own.undo()
            if not unrolled:
                self.returned.setdefault(id(layer), []).append((sequences, result))
            return result

        patches.set(layer, "call", call)

    def _repeating(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A call that applies the same layers at every time step."""

        def call(*args: Any, **kwargs: Any) -> Any:
            if not self._here:
                return function(*args, **kwargs)
            number = self._repetition() or (next(self._loops),)
            self._repeats.append(_Repetition(number, len(self._stack)))
            try:
                return function(*args, **kwargs)
            finally:
                self._repeats.pop()

        return _like(function, call)

    def _stacking(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(operation: Any, *args: Any, **kwargs: Any) -> Any:
            if not self._here or (self._stack and self._stack[-1] is operation):
                return function(operation, *args, **kwargs)
            self._note_masks(operation, kwargs)
            self._stack.append(operation)
            if self._repeats and len(self._stack) == self._repeats[-1].depth + 1:
                self._repeats[-1].seen.clear()  # the next time step begins
            try:
                return function(operation, *args, **kwargs)
            finally:
                self._stack.pop()

        return functools.wraps(function)(call)

    def _note_masks(self, operation: Any, arguments: Mapping[str, Any]) -> None:
        """Keras hands a layer the masks of its inputs by name.

        A recurrent layer counts its steps by them, and what a layer of the user's own makes of
        something called a mask, nobody knows.
        """
        if not _is_of_keras(operation) or isinstance(operation, _RECURRENT):
            return
        for name, value in arguments.items():
            if name.endswith("mask"):
                for mask in keras.tree.flatten(value):
                    if isinstance(mask, tf.Tensor) and mask.dtype.is_bool and _is_symbolic(mask):
                        self.masks.append(mask.op)

    def _reporting(
        self, function: Callable[..., Any], describe: Callable[..., Activation]
    ) -> Callable[..., Any]:
        """The function, which also notes that an activation was applied."""

        def call(inputs: Any, *args: Any, **kwargs: Any) -> Any:
            if self._inside or not self._here:
                return function(inputs, *args, **kwargs)
            self._inside += 1
            try:
                result = function(inputs, *args, **kwargs)
            finally:
                self._inside -= 1
            if not self._silent and isinstance(result, tf.Tensor) and _is_symbolic(result):
                before = tf.convert_to_tensor(inputs)
                activation = describe(*args, **kwargs)
                self.calls.append(
                    Call(activation, before, result, tuple(self._stack), self._repetition())
                )
            return result

        return _like(function, call)

    def _repetition(self) -> tuple[int, ...] | None:
        """What tells this application from the others of one time step, and not of the next."""
        if not self._repeats:
            return None
        loop, layer = self._repeats[-1], id(self._stack[-1])
        loop.seen[layer] += 1
        return (*loop.number, layer, loop.seen[layer])

    def _silenced(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A gate, which is no unit: it multiplies what the units hand on."""

        def call(*args: Any, **kwargs: Any) -> Any:
            if not self._here:
                return function(*args, **kwargs)
            self._silent += 1
            try:
                return function(*args, **kwargs)
            finally:
                self._silent -= 1

        return _like(function, call)


@dataclasses.dataclass(slots=True)
class _Repetition:
    """A loop over time steps that is traced step by step."""

    number: tuple[int, ...]
    """Which loop it is."""
    depth: int
    """How many layers are around a step."""
    seen: Counter[int] = dataclasses.field(default_factory=Counter)
    """Applications in the present step, by layer."""


class _Patches:
    """Attributes that are replaced for a while."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []

    def set(self, owner: Any, name: str, value: Any) -> None:
        """Replace an attribute of a module or a class, or of a layer or a graph itself."""
        if isinstance(owner, keras.Layer):
            # Through __dict__, past Keras's tracking: a built layer refuses new state.
            space = vars(owner)
            if name in space:
                self._undo.append(functools.partial(space.__setitem__, name, space[name]))
            else:
                self._undo.append(functools.partial(space.__delitem__, name))
            space[name] = value
        elif isinstance(owner, tf.Graph):  # what its class has shows again once it is taken away
            self._undo.append(functools.partial(delattr, owner, name))
            setattr(owner, name, value)
        else:
            before = inspect.getattr_static(owner, name)
            self._undo.append(functools.partial(setattr, owner, name, before))
            setattr(owner, name, value)

    def undo(self) -> None:
        """Put everything back, the last one first."""
        while self._undo:
            self._undo.pop()()


_RECURRENT = (keras.layers.RNN, keras.layers.Bidirectional)


def _is_of_keras(operation: Any) -> bool:
    return type(operation).__module__.startswith("keras.")


def _is_symbolic(tensor: tf.Tensor) -> bool:
    """Whether it is a value of a graph, and not one that is known already."""
    return hasattr(tensor, "graph")


def _call(layer: Any, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return function(*args, **kwargs)


def _like(function: Callable[..., Any], call: Callable[..., Any]) -> Callable[..., Any]:
    with contextlib.suppress(AttributeError, TypeError):
        functools.update_wrapper(call, function)
    return call


def _smooth(name: str, function: Callable[..., Any]) -> Callable[..., Activation]:
    return lambda *args, **kwargs: activations.saturating(
        name, lambda before: function(before, *args, **kwargs)
    )


def _with_batch_statistics(call: Callable[..., Any]) -> Callable[..., Any]:
    def training_call(inputs: Any, training: Any = None, **kwargs: Any) -> Any:
        return call(inputs, training=True, **kwargs)

    return training_call


@contextlib.contextmanager
def _as_written() -> Iterator[None]:
    """Run inner `tf.function`s as plain Python, so that their operations are in this graph."""
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


@contextlib.contextmanager
def _converted() -> Iterator[None]:
    """Run inner `tf.function`s as autograph writes them, for those with loops over tensors."""
    kind, thread = type(tf.function(_as_written)), threading.get_ident()
    plain = kind.__call__

    def call(function: Any, *args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() != thread:
            return plain(function, *args, **kwargs)
        return tf.autograph.to_graph(function.python_function)(*args, **kwargs)

    patches = _Patches()
    patches.set(kind, "__call__", call)
    try:
        yield
    finally:
        patches.undo()


# ------------------------------------------------------------------------------ places


def _bare(operations: Sequence[tuple[tf.Operation, _Stack, Any]]) -> Iterator[Call]:
    """Activations that nobody has reported, such as `tf.nn.relu` in a `call` of the user's own."""
    for operation, stack, repeated in operations:
        if operation.type in ("Erf", "Erfc"):
            found = _gelu(operation)
        elif operation.type == "Sigmoid":
            found = _silu(operation)
        else:
            found = None
        if found is not None:
            yield Call(*found, stack, repeated)
        elif operation.type in activations.BARE:
            before, after = operation.inputs[0], operation.outputs[0]
            yield Call(activations.bare(operation), before, after, stack, repeated)


_Found = tuple[Activation, tf.Tensor, tf.Tensor]


def _silu(sigmoid: tf.Operation) -> _Found | None:
    """The silu that a sigmoid is part of: x · sigmoid(x), or x · sigmoid(1 · x)."""
    inner = sigmoid.inputs[0]
    factors = [inner, *(inner.op.inputs if inner.op.type == "Mul" else ())]
    product = _product(sigmoid.outputs[0], factors)
    if product is None:
        return None
    return (_smooth(*_TF_COMPOSITES["silu"])(), *product)


def _gelu(erf: tf.Operation) -> _Found | None:
    """The gelu that an error function is part of: x / 2 · (1 + erf(x / √2)).

    TensorFlow's own is x / 2 · erfc(-x / √2).
    """
    scaled = erf.inputs[0]
    sources = [scaled]
    while sources[-1].op.type in ("Mul", "RealDiv", "Neg"):
        variable = [each for each in sources[-1].op.inputs if each.op.type not in ("Const", "Cast")]
        if len(variable) != 1:
            break
        sources.append(variable[0])
    sums = [each.outputs[0] for each in erf.outputs[0].consumers() if each.type == "AddV2"]
    sums += [
        half.outputs[0] for total in sums for half in total.consumers()
        if half.type == "Mul" and any(each.op.type == "Const" for each in half.inputs)
    ]  # fmt: skip
    for before in sources:
        halves = [before, *(each.outputs[0] for each in before.consumers() if each.type == "Mul")]
        for factor in (erf.outputs[0], *sums):
            product = _product(factor, halves)
            if product is not None:
                return (_smooth(*_TF_COMPOSITES["gelu"])(), before, product[1])
    return None


def _product(one: tf.Tensor, factors: Sequence[tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor] | None:
    """The first of the factors that a tensor is multiplied with, and the product."""
    for product in one.consumers():
        if product.type == "Mul":
            for factor in factors:
                if any(each is factor for each in product.inputs):
                    return factor, product.outputs[0]
    return None


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
    places: Sequence[Place], model: keras.Model, stacks: Mapping[tf.Operation, _Stack]
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
    call: Call, model: keras.Model, stacks: Mapping[tf.Operation, _Stack]
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
            if getattr(layer, "_trainable_variables", ()):
                return False
        if operation.type in ("Reshape", "Transpose"):  # an axis is another one before it
            return False
        pending.extend(tensor.op for tensor in operation.inputs if tensor.dtype.is_floating)
    return False


_WITH_AXIS = (keras.layers.BatchNormalization, keras.layers.GroupNormalization)
"""Layers whose axis is that of the channels."""


def _path(stack: _Stack, model: keras.Model) -> str:
    """Readable path of a layer in the model, such as `encoder/dense`."""
    return "/".join(each.name for each in _owners(stack, model)) or model.name


def _owners(stack: _Stack, model: keras.Model) -> list[Any]:
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


def _recognize_gate(call: Call) -> None:
    """A relu6 of x + 3, as people write a hard sigmoid out, is that."""
    if call.activation.name != "relu6" or call.before.op.type not in ("AddV2", "Add"):
        return
    for tensor in call.before.op.inputs:
        value = tf.get_static_value(tensor)
        if value is not None and value.size == 1 and float(value.reshape(())) == _GATE_SHIFT:
            call.activation = activations.hard_sigmoid_gate()


def _notes(
    hidden: Sequence[Call],
    operations: Sequence[tuple[tf.Operation, _Stack, Any]],
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
    function = graph._get_function(name)
    if function is None:
        return 0
    count = 0
    for node in function.cached_definition.node_def:
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


# ------------------------------------------------------------------------------ flow


def _descendants(sources: Sequence[tf.Tensor], graph: tf.Graph) -> set[tf.Operation]:
    """The operations that depend on the sources."""
    found = {tensor.op for tensor in sources}
    for operation in graph.get_operations():  # in an order in which they can be computed
        if any(tensor.op in found for tensor in operation.inputs):
            found.add(operation)
    return found


def _ancestors(
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
    """What tensors first turn into, seen through those without gradients, such as indices.

    Args:
        tensors: where to start.
        outputs: what the model returns.
        masks: what makes Keras's masks, which are passed over.

    Returns:
        Floating-point tensors that an output depends on.
    """
    on_the_way = _ancestors([output.op for output in outputs], frozenset())
    found: list[tf.Tensor] = []
    pending, seen = list(tensors), set()
    while pending:
        for operation in pending.pop().consumers():
            if operation in on_the_way and operation not in seen and operation not in masks:
                seen.add(operation)
                for tensor in operation.outputs:
                    (found if tensor.dtype.is_floating else pending).append(tensor)
    return found


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
        for operation in _ancestors(start, ends, masks):
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
