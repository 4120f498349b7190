"""The layers of a model: which ones make its output, and which Keras itself can rebuild."""

from __future__ import annotations

from typing import Any

import keras


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
        history = getattr(pending.pop(), "_keras_history", None)
        if history is None:
            continue
        layer = history.operation
        if is_plain(layer):
            pending.extend(keras.tree.flatten(layer.outputs))
            continue
        found.append(layer)
        inputs = keras.tree.flatten(layer._inbound_nodes[history.node_index].input_tensors)
        linear = vars(layer).get("activation") in (None, keras.activations.linear)
        if (
            not getattr(layer, "weights", ())
            and len(inputs) == 1
            and linear
            and not is_activation(layer)
        ):
            pending.extend(inputs)
    return found


def is_plain(model: Any) -> bool:
    """Whether `keras.models.clone_model` rebuilds the model without losing the user's own code."""
    kind = type(model)
    functional = kind.__name__ == "Functional" and kind.__module__.startswith("keras.")
    return (kind is keras.Sequential or functional) and bool(model.built)


def is_activation(layer: Any) -> bool:
    """Whether the layer only applies an activation."""
    kinds = (keras.layers.ReLU, keras.layers.LeakyReLU, keras.layers.PReLU, keras.layers.ELU)
    return isinstance(layer, kinds)
