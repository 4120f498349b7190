"""The layers of a model: which ones make its output, and which Keras itself can rebuild."""

from __future__ import annotations

import math
from typing import Any

import keras

from orchestrator.data.rows import Tree
from orchestrator.model import keras_internals


def is_callable(model: keras.Model) -> bool:
    """Whether rows can be run through the model: a GAN may be a `train_step` over its parts."""
    return type(model).call is not keras.Model.call


def count_parameters(model: keras.Model) -> int:
    """Number of weights; Keras counts those of a model only that was called."""
    return sum(math.prod(variable.shape) for variable in model.weights)


def output_layers(model: keras.Model) -> list[keras.Operation]:
    """The layers whose activation is the model's output: never changed by a remedy.

    Layers without weights at the end, such as Flatten, are looked through to the one before.

    Args:
        model: a sequential or functional model.

    Returns:
        The layers, and functions of Keras that are applied as such; empty for a subclassed model.
    """
    found: list[keras.Operation] = []
    pending = list(keras.tree.flatten(model.outputs)) if is_plain(model) else []
    while pending:
        origin = keras_internals.origin(pending.pop())
        if origin is None:
            continue
        layer, inputs = origin
        if is_plain(layer):
            pending.extend(keras.tree.flatten(layer.outputs))
            continue
        found.append(layer)
        linear = vars(layer).get("activation") in (None, keras.activations.linear)
        if (
            not getattr(layer, "weights", ())
            and len(inputs) == 1
            and linear
            and not is_activation(layer)
        ):
            pending.extend(inputs)
    return found


def last_layers(model: keras.Model, x: Tree) -> list[keras.Operation]:
    """`output_layers`, of a model of the user's own class too.

    Args:
        model: a built model.
        x: a few rows, with which such a model is called.

    Returns:
        The layers that return what the model returns, or else the last one with weights; those of
        its parts where the model itself cannot be called.
    """
    if is_plain(model):
        return output_layers(model)
    if not is_callable(model):
        return [layer for part in model.layers for layer in output_layers(part)]
    made: dict[int, keras.Operation] = {}
    kept = []  # so that no identity is given away twice
    original = keras.Operation.__call__

    def call(layer: keras.Operation, *args: Any, **kwargs: Any) -> Any:
        result = original(layer, *args, **kwargs)
        for tensor in keras.tree.flatten(result):
            kept.append(tensor)
            made.setdefault(id(tensor), layer)
        return result

    keras.Operation.__call__ = call
    try:
        outputs = keras.tree.flatten(model(x, training=False))
    finally:
        keras.Operation.__call__ = original
    returning = (made.get(id(output)) for output in outputs)
    found = [layer for layer in returning if layer is not None and layer is not model]
    if any(getattr(layer, "weights", ()) for layer in found):
        return found
    own = [layer for layer in made.values() if keras_internals.own_variables(layer)]
    return [*found, *(layer for layer in own[-1:] if layer is not model)]


def parts(layer: keras.Operation) -> list[keras.Operation]:
    """The layer and those inside it."""
    return keras_internals.all_layers(layer) if isinstance(layer, keras.Layer) else [layer]


def is_plain(model: Any) -> bool:
    """Whether `keras.models.clone_model` rebuilds the model without losing the user's own code."""
    functional = keras_internals.is_functional(model)
    return (type(model) is keras.Sequential or functional) and bool(model.built)


def is_activation(layer: Any) -> bool:
    """Whether the layer only applies an activation."""
    kinds = (keras.layers.ReLU, keras.layers.LeakyReLU, keras.layers.PReLU, keras.layers.ELU)
    return isinstance(layer, kinds)
