"""The remedy fix_output: an activation, or a loss, that an output can be trained with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from orchestrator.model import layers, saving
from orchestrator.model.keras_internals import ACTIVATION_OPERATIONS, is_of_keras
from orchestrator.model.outputs import own_way
from orchestrator.model.remedies import clones

_ALONE = (keras.layers.Activation, keras.layers.Softmax, *ACTIVATION_OPERATIONS)
"""What applies an activation and does nothing else, beside the layers of `is_activation`."""


def obstacle(model: keras.Model) -> str | None:
    """Why the activations and losses of the model's outputs cannot be changed.

    Args:
        model: the model as built and compiled.

    Returns:
        One clause with the way out, or None where they can.
    """
    write = "write it there"
    if not layers.is_plain(model):
        return f"the output is made in code of your own, {type(model).__name__}: {write}"
    aside = own_way(model)
    if aside is not None:
        return f"{aside}, which says what the output is: {write}"
    for chain in layers.output_chains(model):
        if not chain or not _has_activation(chain[-1]):
            name = chain[-1].name if chain else model.name
            return f"no activation of Keras's makes the output, {name} does: {write}"
    lacks = saving.missing_for_saving(model)
    return None if lacks is None else f"what is changed could not be saved: {lacks}"


def _has_activation(layer: keras.Operation) -> bool:
    if not is_of_keras(layer):
        return False
    return is_alone(layer) or "activation" in vars(layer)


def is_alone(layer: keras.Operation) -> bool:
    """Whether a layer or function applies an activation of Keras's, and does nothing else."""
    return isinstance(layer, _ALONE) or layers.is_activation(layer)


def put_activations(model: keras.Model, wanted: Mapping[str, str]) -> keras.Model:
    """The same architecture with other activations of outputs, weights fresh.

    Args:
        model: a sequential or functional model.
        wanted: Keras's name of each by the output's name, which is empty where there is one.

    Returns:
        A new model, compiled as the old one was; it saves and loads in plain Keras.
    """
    chains = layers.output_chains(model)
    chosen = {
        id(chain[-1]): wanted[name]
        for name, chain in zip(_names(model), chains, strict=True)
        if name in wanted
    }

    def clone(layer: keras.Operation) -> keras.Operation:
        activation = chosen.get(id(layer))
        if activation is None:
            return type(layer).from_config(layer.get_config())
        if is_alone(layer):
            policy = getattr(layer, "dtype_policy", None)
            return keras.layers.Activation(activation, name=layer.name, dtype=policy)
        return type(layer).from_config({**layer.get_config(), "activation": activation})

    return clones.rebuild(model, clone)


def put_losses(model: keras.Model, wanted: Mapping[str, str]) -> None:
    """Compile the model again, with other losses of outputs.

    Args:
        model: compiled; changed in place.
        wanted: Keras's name of each by the output's name, which is empty where there is one.
    """
    arguments = clones.compile_arguments(model)
    arguments["loss"] = _replaced(arguments["loss"], wanted, _names(model))
    model.compile(**arguments)


def _replaced(loss: Any, wanted: Mapping[str, str], names: list[str]) -> Any:
    if isinstance(loss, Mapping):
        # The only output has no name in findings, and one in a config that names it.
        return {name: wanted.get(name, wanted.get("", own)) for name, own in loss.items()}
    if isinstance(loss, list | tuple):
        return [wanted.get(name, own) for name, own in zip(names, loss, strict=True)]
    return wanted[""] if "" in wanted else {name: wanted.get(name, loss) for name in names}


def _names(model: keras.Model) -> list[str]:
    """The outputs' names as findings have them."""
    names = [str(name) for name in getattr(model, "output_names", ())]
    return names if len(names) > 1 else [""]
