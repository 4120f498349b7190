"""The remedy leaky relu: where a model applies relu, and the same model with leaky relu there."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from orchestrator.config import user_code
from orchestrator.config.schema import Config
from orchestrator.config.sections.model import FileModel
from orchestrator.model import keras_internals, layers
from orchestrator.model.keras_internals import Relu6Operation, ReluOperation, is_of_keras
from orchestrator.model.remedies import clones

Site = tuple[str, Sequence[Any]]
"""Where relu is applied: its name, and the layers and operations around it, outermost first."""

_RELU = (keras.activations.relu, keras.ops.relu, tf.nn.relu)
_RELU6 = (keras.activations.relu6, keras.ops.relu6, tf.nn.relu6)
_ALONE = (keras.layers.Activation, ReluOperation, Relu6Operation)
"""What applies relu and does nothing else."""


def obstacle(model: keras.Model, config: Config, hidden: Sequence[Site]) -> str | None:
    """Why leaky relu cannot replace the model's hidden relu, with the way out.

    Args:
        model: the model as built without the remedy.
        config: the config.
        hidden: the sites of relu that do not make an output.

    Returns:
        One clause, or None when it can.
    """
    if takes_activation(config):
        return None
    outputs = {id(part) for end in layers.output_layers(model) for part in layers.parts(end)}
    reached = {id(each) for each in _reached(model)} if layers.is_plain(model) else set()
    missed, found = [], False
    for name, around in hidden:
        owners = [each for each in around if _applies_relu(each)]
        if any(id(each) in outputs for each in owners):
            continue
        found = True
        if not any(id(each) in reached for each in owners):
            missed.append(name)
    way_out = "let the factory take an `activation` argument, which gets leaky relu"
    if isinstance(config.model, FileModel):
        way_out = "a factory that takes an `activation` argument would get leaky relu there"
    if missed:
        named = ", ".join(missed[:3]) + (f" and {len(missed) - 3} more" if missed[3:] else "")
        return f"the relu of {named} is applied inside code of your own; {way_out}"
    return None if found else "no hidden layer of the model applies relu"


def _reached(model: keras.Model) -> Iterator[keras.Operation]:
    """The layers, and functions of Keras applied as such, that `replace_relu` can change."""
    for layer in getattr(model, "operations", model.layers):
        if layers.is_plain(layer):
            yield from _reached(layer)
        else:
            yield from _held(layer)


def _held(layer: keras.Operation) -> Iterator[keras.Operation]:
    """A layer, and what stands in its config: wrapped layers, cells, activations of Keras's own."""
    yield layer
    if isinstance(layer, keras.Layer) and is_of_keras(layer):
        for inner in keras_internals.inner_layers(layer):
            yield from _held(inner)


def _applies_relu(layer: keras.Operation) -> bool:
    if isinstance(layer, keras.layers.ReLU):
        return bool(layer.negative_slope == 0)
    if isinstance(layer, ReluOperation | Relu6Operation):
        return True
    return vars(layer).get("activation") in (*_RELU, *_RELU6)


def replace_relu(model: keras.Model, slope: float) -> keras.Model:
    """The same architecture with leaky relu at every hidden site of Keras's relu, weights fresh.

    Args:
        model: a sequential or functional model, nested ones included.
        slope: slope below zero.

    Returns:
        A new model, compiled as the old one was; it saves and loads in plain Keras.
    """
    outputs = {id(layer) for layer in layers.output_layers(model)}

    def clone(layer: keras.Operation) -> keras.Operation:
        settings = layer.get_config()
        if id(layer) not in outputs:
            if isinstance(layer, _ALONE) and _applies_relu(layer):
                return _leaky_layer(layer, slope)
            settings = _leaky(settings, slope)
            if isinstance(layer, keras.layers.ReLU) and layer.negative_slope == 0:
                settings["negative_slope"] = slope
        return type(layer).from_config(settings)

    return clones.rebuild(model, clone)


def _leaky_layer(layer: keras.Operation, slope: float) -> keras.Layer:
    six = isinstance(layer, Relu6Operation) or vars(layer).get("activation") in _RELU6
    return keras.layers.ReLU(
        negative_slope=slope,
        max_value=6.0 if six else None,
        name=layer.name,
        dtype=getattr(layer, "dtype_policy", None),
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


def takes_activation(config: Config) -> bool:
    """Whether the user's function that builds the model has an `activation` that is relu now."""
    found = user_code.factory(config)
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
