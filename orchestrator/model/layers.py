"""The layers of a model: which ones make its output, and which Keras itself can rebuild."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from orchestrator.data.rows import Tree, transform
from orchestrator.model import keras_internals


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """One call of a layer, or of a function of Keras that is applied as such."""

    layer: keras.Operation
    around: Sequence[keras.Operation]
    """The layers inside whose calls it is, outermost first."""
    inputs: Sequence[Any]
    """The tensors that it was given."""
    outputs: Sequence[Any]
    """The tensors that it has returned."""


@contextlib.contextmanager
def seeing_calls(see: Callable[[Call], None]) -> Iterator[None]:
    """Call a function with every call of a layer that is made inside, inner ones first."""
    original = keras.Operation.__call__
    around: list[keras.Operation] = []

    def call(layer: keras.Operation, *args: Any, **kwargs: Any) -> Any:
        around.append(layer)
        try:
            result = original(layer, *args, **kwargs)
        finally:
            around.pop()
        given = [each for each in keras.tree.flatten((args, kwargs)) if hasattr(each, "shape")]
        see(Call(layer, tuple(around), given, keras.tree.flatten(result)))
        return result

    keras.Operation.__call__ = call
    try:
        yield
    finally:
        keras.Operation.__call__ = original


def infer(model: keras.Model, x: Tree, then: Callable[[Any], Any] = lambda outputs: outputs) -> Any:
    """What a model returns for rows in inference.

    Where it has recurrent layers they are run in a graph, whose steps cost a hundredth of those of
    a loop in Python.

    Args:
        model: a model that can be called.
        x: rows.
        then: is called with what the model has returned, inside the graph.
    """

    def run(rows: Tree) -> Any:
        return then(model(rows, training=False))

    if any(isinstance(each, keras.layers.RNN) for each in keras_internals.all_layers(model)):
        rows = transform(tf.convert_to_tensor, x)
        return tf.function(run, autograph=False).get_concrete_function(rows)(rows)
    return run(x)


def first_call(model: keras.Model, x: Tree, wanted: Callable[[Call], bool]) -> Call | None:
    """The first call of a layer that is wanted, when rows are run through a model in inference.

    The pass ends there; so it is found early that the first layers are as they should be.

    Args:
        model: a model of any class.
        x: rows.
        wanted: whether a call is meant.

    Returns:
        None where there is none, or where the model cannot be called.
    """
    found: list[Call] = []

    def see(call: Call) -> None:
        if wanted(call):
            found.append(call)
            raise _FoundError

    if not is_callable(model):
        return None
    with contextlib.suppress(_FoundError), seeing_calls(see):
        model(x, training=False)
    return next(iter(found), None)


class _FoundError(Exception):
    """Ends a forward pass."""


def is_callable(model: keras.Model) -> bool:
    """Whether rows can be run through the model: a GAN may be a `train_step` over its parts."""
    return type(model).call is not keras.Model.call


def count_parameters(model: keras.Model) -> int:
    """Number of weights; Keras counts those of a model only that was called."""
    return sum(math.prod(variable.shape) for variable in model.weights)


def output_layers(model: keras.Model) -> list[keras.Operation]:
    """The layers whose activation is the model's output: never changed by a remedy.

    Layers at the end that compute nothing, such as Flatten, are looked through to the one before.

    Args:
        model: a sequential or functional model.

    Returns:
        The layers, and functions of Keras that are applied as such; empty for a subclassed model.
    """
    return [layer for found in output_chains(model) for layer in found]


def output_chains(
    model: keras.Model, passes: Callable[[Any], bool] | None = None
) -> list[list[keras.Operation]]:
    """The layers of `output_layers` for each output, from the end to the one that makes it.

    Args:
        model: a sequential or functional model.
        passes: which layers without weights are looked through; None for those that are linear.

    Returns:
        A list for each of the model's outputs, in their order; none for a subclassed model.
    """
    return _chains(model, passes or is_linear) if is_plain(model) else []


def _chains(model: keras.Model, passes: Callable[[Any], bool]) -> list[list[keras.Operation]]:
    return [_chain(each, passes) for each in keras.tree.flatten(model.outputs)]


def _chain(output: Any, passes: Callable[[Any], bool]) -> list[keras.Operation]:
    """The layers from an output back to the first with weights, or that does not pass."""
    found: list[keras.Operation] = []
    pending = [output]
    while pending:
        origin = keras_internals.origin(pending.pop())
        if origin is None:
            continue
        layer, inputs = origin
        if is_plain(layer):
            pending.extend(keras.tree.flatten(layer.outputs))
            continue
        found.append(layer)
        if not getattr(layer, "weights", ()) and len(inputs) == 1 and passes(layer):
            pending.extend(inputs)
    return found


def last_layers(model: keras.Model, x: Tree) -> list[keras.Operation]:
    """The layers that make the output, those with weights among them, of a model of any class.

    Args:
        model: a built model.
        x: a few rows, with which such a model is called.

    Returns:
        The layers from what the model returns back to the last ones with weights; of a model of the
        user's own class those that return it, or else the last one with weights; those of its parts
        where the model itself cannot be called.
    """
    if is_plain(model):
        return [layer for found in _chains(model, lambda _: True) for layer in found]
    if not is_callable(model):
        return [layer for part in model.layers if is_plain(part) for layer in last_layers(part, x)]
    made: dict[int, keras.Operation] = {}
    kept = []  # so that no identity is given away twice

    def see(call: Call) -> None:
        for tensor in call.outputs:
            kept.append(tensor)
            made.setdefault(id(tensor), call.layer)

    with seeing_calls(see):
        outputs = keras.tree.flatten(model(x, training=False))
    returning = (made.get(id(output)) for output in outputs)
    found = [layer for layer in returning if layer is not None and layer is not model]
    if any(getattr(layer, "weights", ()) for layer in found):
        return found
    own = [layer for layer in made.values() if keras_internals.own_variables(layer)]
    return [*found, *(layer for layer in own[-1:] if layer is not model)]


def parts(layer: keras.Operation) -> list[keras.Operation]:
    """The layer and those inside it."""
    return keras_internals.all_layers(layer) if isinstance(layer, keras.Layer) else [layer]


def operations(model: keras.Model) -> Iterator[keras.Operation]:
    """The layers of a functional model, and what is applied in it as a function, nested ones too.

    Those of a sequential one that are functional models; none of a class of the user's own.
    """
    for each in getattr(model, "operations", model.layers):
        yield each
        if is_plain(each):
            yield from operations(each)


def is_plain(model: Any) -> bool:
    """Whether `keras.models.clone_model` rebuilds the model without losing the user's own code."""
    functional = keras_internals.is_functional(model)
    return (type(model) is keras.Sequential or functional) and bool(model.built)


NORMALIZING = (
    keras.layers.BatchNormalization,
    keras.layers.GroupNormalization,
    keras.layers.LayerNormalization,
    keras.layers.RMSNormalization,
    keras.layers.UnitNormalization,
)
"""Layers behind which the scale of all that came before them is gone, wherever they are.

What scales by fixed numbers, such as Rescaling, is seen by what comes out of it.
"""


POOLING = (
    keras.layers.AveragePooling1D,
    keras.layers.AveragePooling2D,
    keras.layers.AveragePooling3D,
    keras.layers.GlobalAveragePooling1D,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalAveragePooling3D,
    keras.layers.GlobalMaxPooling1D,
    keras.layers.GlobalMaxPooling2D,
    keras.layers.GlobalMaxPooling3D,
    keras.layers.MaxPooling1D,
    keras.layers.MaxPooling2D,
    keras.layers.MaxPooling3D,
)
"""Layers that take a mean or the greatest of neighbours, each unit by itself."""
_PASSING = (
    keras.layers.ActivityRegularization,
    keras.layers.Cropping1D,
    keras.layers.Cropping2D,
    keras.layers.Cropping3D,
    keras.layers.Flatten,
    keras.layers.GaussianNoise,
    keras.layers.Identity,
    keras.layers.Permute,
    keras.layers.RepeatVector,
    keras.layers.Rescaling,
    keras.layers.Reshape,
    keras.layers.UpSampling1D,
    keras.layers.UpSampling2D,
    keras.layers.UpSampling3D,
    *POOLING,
    *keras_internals.MOVING_OPERATIONS,
)
"""What hands on the values that it is given, or means or multiples of them."""


def is_linear(layer: Any) -> bool:
    """Whether a layer or function applies no activation.

    Of what has no weights only that is known which is Keras's own: a Softmax, a Lambda or a
    function may do anything.
    """
    own = vars(layer).get("activation")
    weights: Sequence[Any] = getattr(layer, "weights", ())
    if own is not None or weights:
        return own in (None, keras.activations.linear) and not is_activation(layer)
    return isinstance(layer, _PASSING) or is_dropout(layer)


def normalizes(model: keras.Model) -> bool:
    """Whether any of a model's layers normalises what comes through it."""
    return any(isinstance(each, NORMALIZING) for each in keras_internals.all_layers(model))


def is_dropout(layer: Any) -> bool:
    """Whether the layer leaves a share of its inputs out, or blurs them, in training alone."""
    kinds = (
        keras.layers.AlphaDropout,
        keras.layers.Dropout,
        keras.layers.GaussianDropout,
        keras.layers.SpatialDropout1D,
        keras.layers.SpatialDropout2D,
        keras.layers.SpatialDropout3D,
    )
    return isinstance(layer, kinds)


def drops(layer: Any) -> bool:
    """Whether the layer leaves anything out in training, by the rate that it has."""
    return is_dropout(layer) and layer.rate > 0


def is_activation(layer: Any) -> bool:
    """Whether the layer only applies an activation."""
    kinds = (keras.layers.ReLU, keras.layers.LeakyReLU, keras.layers.PReLU, keras.layers.ELU)
    return isinstance(layer, kinds)


def plain_variables(model: keras.Model) -> list[tf.Variable]:
    """TensorFlow's own variables that layers hold as attributes, of which Keras tracks none.

    Those that TensorFlow's generators draw with are among them.

    Args:
        model: a built model.

    Returns:
        Those that NumPy can hold, in the order of the layers.
    """
    held = (each for layer in keras_internals.all_layers(model) for each in vars(layer).values())
    states = (each.state if isinstance(each, tf.random.Generator) else each for each in held)
    found = (each for each in states if isinstance(each, tf.Variable))
    return [each for each in found if each.dtype.is_numpy_compatible and each.dtype != tf.string]


@contextlib.contextmanager
def undrawn(model: keras.Model) -> Iterator[None]:
    """Undo what is drawn inside from a model's generators, and from Keras's global one.

    What its layers change of TensorFlow's variables that they hold is undone with that.
    """
    before = keras_internals.global_generator()
    generators = keras_internals.seed_generators(model)
    kept = [each.state for each in (*generators, *([] if before is None else [before]))]
    kept += plain_variables(model)
    states = [(each, np.array(each.numpy())) for each in kept]
    try:
        yield
    finally:
        for each, state in states:
            each.assign(state)
        made = keras_internals.global_generator()
        if before is None and made is not None:
            made.state.assign([made.seed, 0])  # as it was made
