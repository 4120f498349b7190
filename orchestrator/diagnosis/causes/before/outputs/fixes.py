"""What an output should be made by, and trained on, where it is certain that it cannot be as it is.

No more than what the targets leave no doubt about: several classes under one unit need more units,
and of those only the user knows how many.
"""

from __future__ import annotations

import keras
import numpy as np
from msgspec.structs import replace

from orchestrator.diagnosis.causes.before.subject import Subject
from orchestrator.diagnosis.causes.scales import describe_large, is_distant
from orchestrator.model import layers
from orchestrator.model.keras_internals import ReluOperation
from orchestrator.model.outputs import Output
from orchestrator.model.remedies import scaled_targets
from orchestrator.record.records import Fix

BINARY = frozenset({"binary_crossentropy", "binary_focal_crossentropy"})
"""Losses of units that are each a probability."""
CATEGORICAL = frozenset({"categorical_crossentropy", "categorical_focal_crossentropy"})
"""Losses of one class among all units, one-hot."""
SPARSE = frozenset({"sparse_categorical_crossentropy"})
"""Losses of one class among all units, by its index."""
DISTANCES = frozenset({"huber", "log_cosh", "mean_absolute_error", "mean_squared_error"})
"""Losses that take any number for a prediction."""
_ONE_ENDED = (
    keras.activations.elu,
    keras.activations.gelu,
    keras.activations.leaky_relu,
    keras.activations.relu,
    keras.activations.selu,
    keras.activations.silu,
    keras.activations.softplus,
)
"""Activations that go as far as the targets, and would cut standardised ones off below their mean,
or bend them there."""
_BENDING = (keras.layers.ELU, keras.layers.LeakyReLU, ReluOperation)
"""Layers, and what functions leave in a functional model, that apply such a one."""
NEAR_ONE = 0.05
"""How far the targets of a row may add up to something else than 1, and on which share of them."""


def one_unit(subject: Subject, index: int) -> Fix | None:
    """What makes one unit a probability, or a number where the targets are numbers.

    Args:
        subject: the model and its rows.
        index: number of the output.

    Returns:
        None where the targets are no two classes and no numbers, or the loss is the user's own.
    """
    output, values = subject.outputs[index], subject.targets(index)
    loss = output.loss
    if loss is None or not loss.is_keras or not values.size:
        return None
    if values.min() < 0 or values.max() > 1:
        whole = np.array_equal(values, np.floor(values))  # classes, perhaps
        return None if whole or loss.name not in DISTANCES else _fix(output, "linear")
    if loss.name in BINARY | DISTANCES:
        return _fix(output, "linear" if output.from_logits else "sigmoid")
    if loss.name in CATEGORICAL | SPARSE:
        return _fix(output, "sigmoid", "binary_crossentropy")
    return None


def unbounded(subject: Subject, index: int) -> Fix | None:
    """What reaches every target: no activation, where the loss takes any number.

    Targets that are far from what a fresh network gives were to be scaled as well.
    """
    output, loss = subject.outputs[index], subject.outputs[index].loss
    if loss is None or not loss.is_keras or loss.name not in DISTANCES:
        return None
    far = any(is_distant(column) for column in subject.columns(index).T)
    return _scaled(subject, index) if far else _fix(output, "linear")


def near(subject: Subject, index: int) -> Fix | None:
    """What brings an output to distant targets: their scaling, and no end in front of it.

    Args:
        subject: the model and its rows.
        index: number of the output.

    Returns:
        None where its targets cannot be standardised.
    """
    chains = layers.output_chains(subject.model)
    maker = chains[index][-1] if chains and chains[index] else None
    if maker is None or not (layers.is_linear(maker) or _is_one_ended(maker)):
        return None
    fix = _scaled(subject, index)
    if not fix.standardize:
        return None
    return replace(fix, activation=None) if layers.is_linear(maker) else fix


def _is_one_ended(maker: keras.Operation) -> bool:
    if isinstance(maker, keras.layers.ReLU):
        return maker.max_value is None
    return isinstance(maker, _BENDING) or vars(maker).get("activation") in _ONE_ENDED


def _scaled(subject: Subject, index: int) -> Fix:
    """No activation, and scaled targets where they may be, with the inputs that do not fit them."""
    config, (_, y, _) = subject.config, subject.sample
    obstacle = config and scaled_targets.obstacle(
        subject.model, config, subject.outputs, getattr(subject.rows, "y", y), linear=index
    )
    may = config is not None and obstacle is None
    return replace(
        _fix(subject.outputs[index], "linear"),
        standardize=may,
        standardize_inputs=may and describe_large(subject) is not None,
    )


def probabilities(output: Output) -> Fix | None:
    """What makes probabilities of an output whose loss takes it for them."""
    if output.loss is None or output.from_logits:
        return None
    return _fix(output, "sigmoid" if output.loss.name in BINARY else "softmax")


def positive(output: Output, activation: str) -> Fix:
    """What makes an output of values above 0 alone, by Keras's name of an activation."""
    return _fix(output, activation)


def _fix(output: Output, activation: str, loss: str | None = None) -> Fix:
    return Fix(output=output.name, activation=activation, loss=loss)
