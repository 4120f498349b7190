"""Listening to Keras and TensorFlow while a model is called in a graph.

Keras's own functions that make an activation are noted, and claim the operations inside; of all
other operations it is noted which layers they belong to.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import tensorflow as tf

from orchestrator.diagnosis.tracing.calls import activations
from orchestrator.diagnosis.tracing.calls.activations import Activation
from orchestrator.diagnosis.tracing.calls.call import Call, Stack
from orchestrator.model import keras_internals
from orchestrator.model.keras_internals import (
    BACKEND_NN,
    BACKEND_NUMPY,
    ActivationMish,
    ActivationReLU,
    Replacements,
)

_SATURATING = frozenset(
    {
        "celu", "elu", "gelu", "hard_shrink", "hard_sigmoid", "hard_silu", "hard_tanh",
        "log_sigmoid", "selu", "sigmoid", "silu", "soft_shrink", "softplus", "softsign",
        "sparse_plus", "sparse_sigmoid", "squareplus", "tanh", "tanh_shrink", "threshold",
    }
)  # fmt: skip
"""Functions of Keras's backend that are saturating activations."""
COMPOSITES: dict[str, tuple[str, Callable[..., Any]]] = {
    "gelu": ("gelu", tf.nn.gelu),
    "silu": ("silu", tf.nn.silu),
    "swish": ("silu", tf.nn.swish),
}
"""TensorFlow's own functions that make an activation of several operations, with Keras's names."""
LOCK = threading.RLock()
"""Listening replaces functions of Keras and TensorFlow for a while: for one thread at a time."""


class Listener:
    """Notes which layers an operation belongs to, and which activations are applied."""

    def __init__(self, graph: tf.Graph) -> None:
        self.calls: list[Call] = []
        self.unclaimed: list[tuple[tf.Operation, Stack, tuple[int, ...] | None]] = []
        self.masks: list[tf.Operation] = []
        """The operations that compute the masks which Keras hands from layer to layer."""
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
        patches = Replacements()
        try:
            self._listen_to_graph(patches, self._graph)
            self._listen_to_functions(patches)
            self._listen_to_layers(patches, model, batch_statistics)
            yield
        finally:
            patches.undo()

    @property
    def hears(self) -> bool:
        """Whether what is called now is noted."""
        return self._here and not self._inside and not self._silent

    @contextlib.contextmanager
    def silence(self) -> Iterator[None]:
        """While inside, nothing is noted."""
        self._silent += 1
        try:
            yield
        finally:
            self._silent -= 1

    @contextlib.contextmanager
    def inside(self, graph: tf.Graph) -> Iterator[tuple[int, int]]:
        """While inside, the operations of another graph are noted, such as those of a loop's body.

        Yields:
            How many calls and how many unclaimed operations were noted before.
        """
        patches = Replacements()
        self._listen_to_graph(patches, graph)
        try:
            yield len(self.calls), len(self.unclaimed)
        finally:
            patches.undo()

    @property
    def _here(self) -> bool:
        return threading.get_ident() == self._thread

    def _listen_to_graph(self, patches: Replacements, graph: tf.Graph) -> None:
        def see(operation: tf.Operation) -> None:
            if not self._inside and not self._silent:
                bare = operation.type in activations.BARE
                repeated = self._repetition() if bare else None
                self.unclaimed.append((operation, tuple(self._stack), repeated))

        patches.created_operations(graph, see)

    def _listen_to_functions(self, patches: Replacements) -> None:
        """Keras's own functions: every activation of Keras ends in one of these."""
        known: list[tuple[Any, str, Callable[..., Activation]]] = [
            (BACKEND_NN, "relu", activations.relu),
            (BACKEND_NN, "relu6", functools.partial(activations.relu, max_value=6)),
            (BACKEND_NN, "leaky_relu", activations.leaky_relu),
            (ActivationReLU, "static_call", activations.relu),
            (ActivationMish, "static_call", smooth("mish", ActivationMish.static_call)),
            (BACKEND_NUMPY, "tanh", smooth("tanh", tf.nn.tanh)),
        ]
        known += [(tf.nn, name, smooth(*each)) for name, each in COMPOSITES.items()]
        for name in sorted(_SATURATING):
            function = getattr(BACKEND_NN, name, None)
            if function is not None:
                known.append((BACKEND_NN, name, smooth(name, function)))
        for owner, name, describe in known:
            function = inspect.getattr_static(owner, name)
            plain = function.__func__ if isinstance(function, staticmethod) else function
            reporting = self._reporting(plain, describe)
            wrapped = staticmethod(reporting) if isinstance(function, staticmethod) else reporting
            patches.set(owner, name, wrapped)

    def _listen_to_layers(
        self, patches: Replacements, model: keras.Model, batch_statistics: bool
    ) -> None:
        patches.set(keras.Operation, "__call__", self._stacking(keras.Operation.__call__))
        steps: dict[int, keras.Layer] = {}
        for layer in keras_internals.all_layers(model):
            own = vars(layer).get("activation")
            if isinstance(layer, keras.layers.PReLU):
                patches.set(layer, "call", self._reporting(layer.call, activations.prelu))
            elif own is keras.activations.exponential:
                describe = smooth("exponential", own)
                patches.set(layer, "activation", self._reporting(own, describe))
            for name, held in list(vars(layer).items()):
                for composite in COMPOSITES.values():
                    if held is composite[1]:
                        patches.set(layer, name, self._reporting(held, smooth(*composite)))
            if callable(vars(layer).get("recurrent_activation")):
                gate = self._silenced(layer.recurrent_activation)
                patches.set(layer, "recurrent_activation", gate)
            if isinstance(layer, keras.layers.RNN):
                patches.set(layer, "call", self._repeating(layer.call))
                if hasattr(layer, "use_cudnn"):  # one operation, in which no step can be seen
                    patches.set(layer, "use_cudnn", False)
            elif isinstance(layer, keras.layers.TimeDistributed):
                patches.set(layer, "call", self._repeating(layer.call))
                steps[id(layer.layer)] = layer.layer
            elif batch_statistics and isinstance(layer, keras.layers.BatchNormalization):
                patches.set(layer, "call", _with_batch_statistics(layer.call))
        for layer in steps.values():  # a TimeDistributed passes by the inner layer's __call__
            step = functools.partial(self._stacking(_call), layer, layer.call)
            patches.set(layer, "call", step)

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

        The masks of recurrent layers are left out, for they decide which steps count. So are those
        of the user's own layers, which may put them to any use.
        """
        if not keras_internals.is_of_keras(operation) or isinstance(operation, _RECURRENT):
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
        """A key that no other call of the same time step has, and that recurs at the next."""
        if not self._repeats:
            return None
        loop, layer = self._repeats[-1], id(self._stack[-1])
        loop.seen[layer] += 1
        return (*loop.number, layer, loop.seen[layer])

    def _silenced(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A gate, unheard: it is no unit, but a factor of what the units hand on."""

        def call(*args: Any, **kwargs: Any) -> Any:
            if not self._here:
                return function(*args, **kwargs)
            with self.silence():
                return function(*args, **kwargs)

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


_RECURRENT = (keras.layers.RNN, keras.layers.Bidirectional)


def _is_symbolic(tensor: tf.Tensor) -> bool:
    """Whether it is a value of a graph, and not one that is known already."""
    return hasattr(tensor, "graph")


def _call(layer: Any, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return function(*args, **kwargs)


def _like(function: Callable[..., Any], call: Callable[..., Any]) -> Callable[..., Any]:
    with contextlib.suppress(AttributeError, TypeError):
        functools.update_wrapper(call, function)
    return call


def smooth(name: str, function: Callable[..., Any]) -> Callable[..., Activation]:
    """What describes a saturating activation, given the arguments that it was called with."""
    return lambda *args, **kwargs: activations.saturating(
        name, lambda before: function(before, *args, **kwargs)
    )


def _with_batch_statistics(call: Callable[..., Any]) -> Callable[..., Any]:
    def training_call(inputs: Any, training: Any = None, **kwargs: Any) -> Any:
        return call(inputs, training=True, **kwargs)

    return training_call


@contextlib.contextmanager
def as_written() -> Iterator[None]:
    """Run inner `tf.function`s as plain Python, so that their operations are in this graph."""
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


@contextlib.contextmanager
def converted() -> Iterator[None]:
    """Run inner `tf.function`s as autograph writes them, for those with loops over tensors."""
    thread = threading.get_ident()

    def wrap(plain: Callable[..., Any]) -> Callable[..., Any]:
        def call(function: Any, *args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() != thread:
                return plain(function, *args, **kwargs)
            return tf.autograph.to_graph(function.python_function)(*args, **kwargs)

        return call

    patches = Replacements()
    patches.function_calls(wrap)
    try:
        yield
    finally:
        patches.undo()
