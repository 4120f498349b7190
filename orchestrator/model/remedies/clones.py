"""The same model with some layers made anew."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import keras

from orchestrator.model import keras_internals


def rebuild(model: keras.Model, clone: Callable[[keras.Operation], keras.Operation]) -> keras.Model:
    """The same architecture with other layers, nested ones included, and fresh weights.

    Args:
        model: a sequential or functional model.
        clone: makes a layer, or a function of Keras that is applied as such, anew.

    Returns:
        A new model, compiled as the old one was, with the same layers that were adapted to rows.
    """

    def clone_unadapted(layer: keras.Operation) -> keras.Operation:
        # What it was adapted to, such as a vocabulary, is not in its config.
        return layer if hasattr(layer, "adapt") else clone(layer)

    compiled, model.compiled = model.compiled, False  # Keras would serialise the user's own loss
    try:
        changed = keras.models.clone_model(
            model,
            clone_function=clone_unadapted,
            call_function=None if isinstance(model, keras.Sequential) else _call,
            recursive=True,
        )
    finally:
        model.compiled = compiled
    if compiled:
        changed.compile(**compile_arguments(model))
    return changed


def _call(layer: keras.Operation, *args: Any, **kwargs: Any) -> Any:
    """What a layer returns in a functional model, called as the one in its place was.

    Keras notes all arguments of a call, and another layer need not have those that were left out,
    such as the mask of a Softmax.
    """
    known = inspect.signature(layer.call).parameters
    given = {name: each for name, each in kwargs.items() if each is not None or name in known}
    return layer(*args, **given)


def compile_arguments(model: keras.Model) -> dict[str, Any]:
    """What a model was compiled with, with an optimizer that has no state yet."""
    arguments = keras_internals.compile_arguments(model)
    optimizer = arguments["optimizer"]
    if isinstance(optimizer, keras.optimizers.Optimizer):
        arguments["optimizer"] = type(optimizer).from_config(optimizer.get_config())
    return arguments
