"""Penalties on weights that ask for less, also after the model was saved and loaded in plain Keras.

A penalty is a regularizer of Keras's, or the decay of an optimizer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras

from orchestrator.config.sections.remedies import USUAL_PENALTY
from orchestrator.model import keras_internals, layers

_KINDS = (
    keras.regularizers.L1,
    keras.regularizers.L2,
    keras.regularizers.L1L2,
    keras.regularizers.OrthogonalRegularizer,
)
"""Regularizers whose strengths are known by name."""
_STRENGTHS = ("l1", "l2", "factor")
"""Keras's names of the numbers that a penalty is multiplied with."""


def obstacle(model: keras.Model, optimizers: Sequence[keras.optimizers.Optimizer]) -> str | None:
    """Why the penalties of a model cannot be lowered, with the way out; None where they can be.

    Args:
        model: a built model.
        optimizers: what trains it.
    """
    reached = {id(layer) for layer in _reached(model)}
    penalised = [each for each in keras_internals.all_layers(model) if list(_penalties(each))]
    strongest = max(map(decay, optimizers), default=0.0)
    for layer in penalised:
        own = [found for _, found in _penalties(layer) if type(found) not in _KINDS]
        if own:
            kind = getattr(own[0], "__name__", type(own[0]).__name__)
            return f"the regularizer {kind} of layer {layer.name} is your own: weaken it there"
        if id(layer) not in reached:
            return (
                f"the regularizer of layer {layer.name} is inside code of your own, which saves "
                "one of its own: write a lower one there"
            )
        strongest = max(strongest, *(max(_strengths(found)) for _, found in _penalties(layer)))
    if not strongest:
        return "the model has no penalty on its weights"
    if strongest <= USUAL_PENALTY:
        return f"no penalty on its weights is stronger than {USUAL_PENALTY:g}"
    return None


def lower(model: keras.Model, most: float) -> None:
    """Let no regularizer be stronger than a bound.

    Args:
        model: a built model that is not compiled yet, or has not trained.
        most: the highest strength of a penalty, by the unit of its own kind.
    """
    made: dict[int, keras.regularizers.Regularizer] = {}
    for layer in _reached(model):
        for name, found in [*_penalties(layer)]:
            made[id(found)] = _lowered(found, most)
            setattr(layer, name, made[id(found)])
        for variable in keras_internals.own_variables(layer):
            if variable.regularizer is not None:
                variable.regularizer = made.get(id(variable.regularizer), variable.regularizer)


def lower_decay(optimizer: keras.optimizers.Optimizer, most: float) -> None:
    """Let an optimizer's decay of weights be no more than a bound."""
    if decay(optimizer) > most:
        optimizer.weight_decay = most


def decay(optimizer: keras.optimizers.Optimizer) -> float:
    """Share of a weight, times the learning rate, that an optimizer takes away in a step."""
    return float(getattr(optimizer, "weight_decay", None) or 0.0)


def _strengths(found: keras.regularizers.Regularizer) -> list[float]:
    config = found.get_config()
    return [float(config[name]) for name in _STRENGTHS if name in config]


def _lowered(found: keras.regularizers.Regularizer, most: float) -> keras.regularizers.Regularizer:
    config = found.get_config()
    for name in _STRENGTHS:
        if config.get(name):
            config[name] = min(float(config[name]), most)
    return type(found).from_config(config)


def _penalties(layer: keras.Layer) -> Iterator[tuple[str, Any]]:
    """The regularizers of a layer's own weights, by the names of its attributes.

    Not that of what it puts out: `ActivityRegularization` saves its numbers, and not that.
    """
    for name, value in vars(layer).items():
        if name.endswith("regularizer") and name != "activity_regularizer" and callable(value):
            yield name, value


def _reached(layer: keras.Layer) -> Iterator[Any]:
    """The layers whose regularizers stand in the model's own config."""
    if layers.is_plain(layer):
        for inner in layer.layers:
            yield from _reached(inner)
    elif keras_internals.is_of_keras(layer):
        yield from keras_internals.all_layers(layer)
