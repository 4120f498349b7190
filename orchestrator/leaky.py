"""The remedy leaky relu: where a model applies relu, and the same model with leaky relu there."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import keras

from orchestrator import layers, usercode
from orchestrator.schema import Config, FileModel


def obstacle(model: keras.Model, config: Config) -> str | None:
    """Why leaky relu cannot replace the model's hidden relu, with the way out.

    Args:
        model: the model as built without the remedy.
        config: the config.

    Returns:
        One clause, or None when it can.
    """
    if takes_activation(config):
        return None
    ends = layers.output_layers(model)
    outputs = {
        id(layer) for end in ends if isinstance(end, keras.Layer) for layer in end._flatten_layers()
    }
    owners = [
        layer
        for layer in model._flatten_layers(include_self=False)
        if id(layer) not in outputs and _applies_relu(layer)
    ]
    reached = {id(layer) for layer in _reached(model)} if layers.is_plain(model) else set()
    missed = [layer.name for layer in owners if id(layer) not in reached]
    way_out = "let the factory take an `activation` argument, which gets leaky relu"
    if isinstance(config.model, FileModel):
        way_out = "a factory that takes an `activation` argument would get leaky relu there"
    if missed:
        return f"the relu of {', '.join(missed)} is applied inside code of your own; {way_out}"
    if not owners:
        if layers.is_plain(model):
            return "no hidden layer of the model applies relu"
        return f"the model is a class of your own; {way_out}"
    return None


def _reached(model: keras.Model) -> Iterator[keras.Layer]:
    """The layers that `replace_relu` can change."""
    for layer in model.layers:
        if layers.is_plain(layer):
            yield from _reached(layer)
        else:
            yield layer
            if type(layer).__module__.startswith("keras."):
                # What Keras's own layer holds stands in its config: wrapped layers, cells,
                # activations.
                yield from layer._flatten_layers(include_self=False)


def _applies_relu(layer: keras.Layer) -> bool:
    own = vars(layer).get("activation")
    if isinstance(layer, keras.layers.ReLU):
        return bool(layer.negative_slope == 0)
    return own in (keras.activations.relu, keras.activations.relu6)


def replace_relu(model: keras.Model, slope: float) -> keras.Model:
    """The same architecture with leaky relu in every hidden place of relu, and fresh weights.

    Args:
        model: a sequential or functional model, nested ones included.
        slope: slope below zero.

    Returns:
        A new model, compiled as the old one was; it saves and loads in plain Keras.
    """
    outputs = {id(layer) for layer in layers.output_layers(model)}

    def clone(layer: keras.Layer) -> keras.Layer:
        settings = layer.get_config()
        if id(layer) not in outputs:
            if isinstance(layer, keras.layers.Activation) and _applies_relu(layer):
                return _leaky_layer(layer, slope)
            settings = _leaky(settings, slope)
            if isinstance(layer, keras.layers.ReLU) and layer.negative_slope == 0:
                settings["negative_slope"] = slope
        return type(layer).from_config(settings)

    compiled, model.compiled = model.compiled, False  # Keras would serialise the user's own loss
    try:
        changed = keras.models.clone_model(model, clone_function=clone, recursive=True)
    finally:
        model.compiled = compiled
    if compiled:
        changed.compile(**_compile_arguments(model))
    return changed


def _leaky_layer(layer: keras.layers.Activation, slope: float) -> keras.Layer:
    top = 6.0 if layer.activation is keras.activations.relu6 else None
    return keras.layers.ReLU(
        negative_slope=slope, max_value=top, name=layer.name, dtype=layer.dtype_policy
    )


def _leaky(settings: Any, slope: float) -> Any:
    """A layer's config with leaky relu where it says relu, wrapped layers included."""
    if isinstance(settings, list):
        return [_leaky(item, slope) for item in settings]
    if not isinstance(settings, dict):
        return settings
    changed = {name: _leaky(value, slope) for name, value in settings.items()}
    if settings.get("activation") == "relu":
        changed["activation"] = activation(slope)
    elif settings.get("activation") == "relu6":
        changed["activation"] = keras.layers.ReLU(negative_slope=slope, max_value=6.0)
    if settings.get("class_name") == "ReLU" and not settings["config"].get("negative_slope"):
        changed["config"]["negative_slope"] = slope
    return changed


def activation(slope: float) -> Any:
    """What Dense's `activation` takes; both forms save and load in plain Keras."""
    return "leaky_relu" if slope == 0.2 else keras.layers.LeakyReLU(negative_slope=slope)


def _compile_arguments(model: keras.Model) -> dict[str, Any]:
    arguments = dict(model._compile_config.config)
    optimizer = arguments["optimizer"]
    if isinstance(optimizer, keras.optimizers.Optimizer):
        arguments["optimizer"] = type(optimizer).from_config(optimizer.get_config())
    return arguments


def takes_activation(config: Config) -> bool:
    """Whether the user's function that builds the model has an `activation` that is relu now."""
    found = usercode.factory(config)
    if found is None:
        return False
    try:
        parameter = inspect.signature(found.function).parameters.get("activation")
    except (ValueError, TypeError):
        return False
    if parameter is None:
        return False
    current = found.kwargs.get("activation", parameter.default)
    return current in ("relu", keras.activations.relu)
