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


def draws_weights(config: Config) -> bool:
    """Whether all weights are drawn when the model is built, and none can have been loaded.

    So it is with layers that a config lists, and with `initial_weights: fresh`; a factory may load
    what it likes.
    """
    if isinstance(config.model, FileModel):
        return not keeps_weights(config)
    return isinstance(config.model, LayersModel)


def trained_layer(model: keras.Model, config: Config | None) -> keras.Layer | None:
    """A layer whose weights an earlier training has left, in a model that is about to train.

    A fresh network has no frozen weights, and no vector, such as a bias, whose values differ. Where
    all weights are drawn they are fresh, whatever the biases are drawn from.
    """
    if config is not None and draws_weights(config):
        return None
    trainable = {id(each) for each in model.trainable_variables}
    for layer in keras_internals.all_layers(model):
        frozen = any(id(each) not in trainable for each in keras_internals.own_variables(layer))
        if frozen or _has_learnt(layer):
            return layer
    return None


def relearning_layer(model: keras.Model, config: Config) -> keras.Layer | None:
    """A layer that an earlier training has left weights in and that trains on; see above."""
    if draws_weights(config):
        return None
    found = (each for each in keras_internals.all_layers(model) if each.trainable)
    return next(filter(_has_learnt, found), None)


def _has_learnt(layer: keras.Layer) -> bool:
    """Whether the values of a vector differ; those of an LSTM's fresh biases are 0 and 1."""
    own = keras_internals.own_variables(layer)
    vectors = (each.numpy() for each in own if len(each.shape) == 1 and each.shape[0] > 1)
    return any(len(np.unique(each)) > 2 for each in vectors)


def begins_trained(model: keras.Model, config: Config) -> bool:
    """Whether a training goes on from weights that another one has left.

    Those are a file's, or what a factory has loaded.
    """
    return keeps_weights(config) or trained_layer(model, config) is not None
