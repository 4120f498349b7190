"""The remedy standardize, of inputs: where the standardisation may stand in front of a model."""

from __future__ import annotations

from typing import Any

import keras

from orchestrator.config.schema import Config
from orchestrator.config.sections.model import FileModel
from orchestrator.data.rows import AnyRows, is_text, leaves
from orchestrator.model import layers
from orchestrator.model.keras_internals import all_layers, dtype, makes_integers
from orchestrator.model.pretrained import keeps_weights, trained_layer

_TAKES_AS_GIVEN = (
    keras.layers.CategoryEncoding,
    keras.layers.Discretization,
    keras.layers.Embedding,
    keras.layers.HashedCrossing,
    keras.layers.Hashing,
    keras.layers.IntegerLookup,
    keras.layers.Masking,
    keras.layers.Normalization,
    keras.layers.Rescaling,
    keras.layers.StringLookup,
    keras.layers.TextVectorization,
)
"""Layers to which some value of an input is a name, a mark, or a number of a scale of its own."""

_BEHIND = "put a Rescaling or Normalization layer behind the other inputs"


def obstacle(model: keras.Model, config: Config, rows: AnyRows) -> str | None:
    """Why the inputs may not be standardised in front of the model, with the way out.

    Args:
        model: the model as built, which has not been trained.
        config: the config.
        rows: training rows.

    Returns:
        One clause, or None where they may.
    """
    if config.data.standardize != "auto":
        return f"data.standardize is {str(config.data.standardize).lower()} in the config"
    if not layers.is_callable(model):
        return "the model has no call of its own, in front of which the scaling could stand"
    if all(is_text(array) for _, array in leaves(rows.first(1)[0])):
        return "the inputs are texts, which have no mean"
    if isinstance(config.model, FileModel) and keeps_weights(config):
        return (
            f"the weights of {config.model.file} were trained on inputs of another scale: scale "
            "the rows as they were then"
        )
    trained = trained_layer(model, config)
    if trained is not None:
        return (
            f"layer {trained.name} was trained on inputs of a scale of its own: scale the rows as "
            "they were then"
        )
    taking = [each for each in all_layers(model) if isinstance(each, _TAKES_AS_GIVEN)]
    if taking:
        return (
            f"layer {taking[0].name} ({type(taking[0]).__name__}) takes what it is given as it is: "
            + _BEHIND
        )
    if any(dtype(each.dtype).kind in "iu" for each in keras.tree.flatten(_inputs(model))):
        return f"an input of the model holds integers, which have no fractions: {_BEHIND}"
    indexing = next(filter(makes_integers, layers.operations(model)), None)
    if indexing is not None:
        return f"{indexing.name} makes indices of what it is given as it is: {_BEHIND}"
    return None


def _inputs(model: keras.Model) -> Any:
    return getattr(model, "inputs", None) or []
