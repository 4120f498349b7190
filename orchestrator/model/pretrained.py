"""Whether a model starts from weights that an earlier training has left."""

from __future__ import annotations

import keras
import numpy as np

from orchestrator.config.schema import Config
from orchestrator.config.sections.model import FileModel, LayersModel
from orchestrator.model import keras_internals


def keeps_weights(config: Config) -> bool:
    """Whether every attempt starts from the weights of a file."""
    return isinstance(config.model, FileModel) and config.model.initial_weights == "file"


def trained_layer(model: keras.Model, config: Config | None) -> keras.Layer | None:
    """A layer whose weights an earlier training has left, in a model that is about to train.

    A fresh network has no frozen weights, and no vector, such as a bias, whose values differ. Of
    layers that a config lists all are fresh, whatever their biases are drawn from.
    """
    if config is not None and isinstance(config.model, LayersModel):
        return None
    trainable = {id(each) for each in model.trainable_variables}
    for layer in keras_internals.all_layers(model):
        own = keras_internals.own_variables(layer)
        if any(id(each) not in trainable for each in own):
            return layer
        vectors = (each.numpy() for each in own if len(each.shape) == 1 and each.shape[0] > 1)
        # The biases of an LSTM are 0, and 1 for the gate that forgets.
        if any(len(np.unique(each)) > 2 for each in vectors):
            return layer
    return None


def begins_trained(model: keras.Model, config: Config) -> bool:
    """Whether a training goes on from weights that another one has left.

    Those are a file's, or what a factory has loaded.
    """
    return keeps_weights(config) or trained_layer(model, config) is not None
