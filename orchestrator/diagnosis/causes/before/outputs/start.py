"""The loss of the untrained network beside what an untrained network should have."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from orchestrator.data.rows import leaves, select
from orchestrator.diagnosis.causes.before.outputs.losses import is_mismatched
from orchestrator.diagnosis.causes.before.outputs.one_unit import is_one_unit_softmax
from orchestrator.diagnosis.causes.before.subject import Subject
from orchestrator.diagnosis.causes.before.trial import Trial, try_step
from orchestrator.model.keras_internals import all_layers, is_of_keras, seed_generators
from orchestrator.model.losses.returned import Returned
from orchestrator.model.outputs import Output
from orchestrator.record.records import Finding

_TIMES = 10.0
"""So many times the loss of a network that knows nothing, or the size of the targets, is no chance
of deep networks with their usual initializers."""
_LEAST = 1e-7
"""Where Keras cuts off the probabilities of two classes."""
_LOWEST = 1e-38
"""The lowest probability that float32 tells from 0."""
_SQUARES = frozenset({"mean_squared_error", "mean_absolute_error", "huber", "log_cosh"})
_ADVICE = (
    "scale the inputs (data.standardize: true, or a Rescaling layer for images), or give the "
    "kernels a usual initializer"
)


def find_unusual_start(subject: Subject) -> Iterator[Finding]:
    """Untrained networks whose first predictions are far beyond any target, or all but certain.

    What is known of such a network is the loss of one that predicts the same for all classes,
    log(classes), or 0 for a regression; ten times that comes from inputs or weights of a wrong
    scale. Predictions are those of training, with BatchNorm's batch statistics.
    """
    if subject.starts_trained or subject.trial is None:
        return
    for index, output in enumerate(subject.outputs):
        loss, targets = output.loss, output.targets(subject.trial.batch[1])
        if loss is None or not loss.is_keras or targets is None or not output.trained:
            continue
        if is_one_unit_softmax(subject, index) or is_mismatched(subject, index):
            continue
        predicted = subject.trial.predictions[index].astype(np.float64)
        wanted = np.asarray(targets, np.float64)
        if output.form != "regression":
            yield from _too_sure(subject, index, predicted, wanted)
        elif loss.name in _SQUARES:
            yield from _far_off(subject, output, predicted, wanted)
    yield from _otherwise_in_training(subject, subject.trial)


def _far_off(
    subject: Subject, output: Output, predicted: npt.NDArray[Any], targets: npt.NDArray[Any]
) -> Iterator[Finding]:
    """Predictions that are many times as far from zero as the targets."""
    size, usual = (float(np.sqrt(np.mean(each**2))) for each in (predicted, targets))
    if not size > _TIMES * max(usual, 1.0):
        return
    yield subject.found(
        "unusual_start",
        f"before any training {output.named} is {size:.3g} away from zero (root mean square), and "
        f"the targets only {usual:.3g}: it has to unlearn that first, with large gradients",
        _ADVICE,
    )


def _too_sure(
    subject: Subject, index: int, predicted: npt.NDArray[Any], targets: npt.NDArray[Any]
) -> Iterator[Finding]:
    """A cross-entropy many times that of a network that takes all classes for equally likely."""
    output = subject.outputs[index]
    classes = max(output.shape[-1] if output.shape else 1, 2) if output.form != "binary" else 2
    loss, blind = _cross_entropy(subject, index, predicted, targets), math.log(classes)
    if not loss > _TIMES * blind:
        return
    yield subject.found(
        "unusual_start",
        f"before any training the loss of {output.named} is {loss:.3g}, and one that knows "
        f"nothing has log({classes}) = {blind:.3g}: the network is all but certain of "
        "classes that are wrong, and has to unlearn that first",
        _ADVICE,
    )


def _cross_entropy(
    subject: Subject, index: int, predicted: npt.NDArray[Any], targets: npt.NDArray[Any]
) -> float:
    """The cross-entropy of one output's predictions, in nats a row and position."""
    output = subject.outputs[index]
    logits = output.from_logits and subject.origin(index).end not in ("Softmax", "Sigmoid")
    units = predicted.shape[-1] if predicted.ndim > 1 else 1
    with np.errstate(over="ignore"):
        if output.form == "binary":
            p = 1 / (1 + np.exp(-predicted)) if logits else predicted
            p, y = p.reshape(-1).clip(_LEAST, 1 - _LEAST), targets.reshape(-1)
            return float(-np.mean(y * np.log(p) + (1 - y) * np.log1p(-p)))
    rows = predicted.reshape(-1, units)
    if logits:
        rows = np.exp(rows - rows.max(axis=1, keepdims=True))
        rows = rows / rows.sum(axis=1, keepdims=True)
    logs = np.log(rows.clip(_LOWEST))
    if output.form == "categorical":
        return float(-np.mean((targets.reshape(logs.shape) * logs).sum(axis=1)))
    labels = targets.reshape(-1).astype(np.int64)
    known = (labels >= 0) & (labels < units) & (labels != output.ignored)
    return float(-np.mean(logs[known, labels[known]])) if known.any() else math.nan


def _otherwise_in_training(subject: Subject, trial: Trial) -> Iterator[Finding]:
    """A network of the user's own whose loss in training is not that of its predictions.

    Keras logs the one and predicts the other. Dropout, noise and batch statistics make a difference
    that is meant; what is random differs from one call to the next.
    """
    own = any(not is_of_keras(layer) for layer in all_layers(subject.model))
    meant = seed_generators(subject.model) or any(
        isinstance(layer, keras.layers.BatchNormalization) for layer in all_layers(subject.model)
    )
    if not own or meant:
        return
    x, y, _ = trial.batch
    predicted = [np.asarray(each) for _, each in leaves(subject.model(x, training=False))]
    if len(predicted) != len(trial.predictions) or all(map(_alike, predicted, trial.predictions)):
        return
    if _differs_by_chance(subject.model, trial):
        return
    for index, output in enumerate(subject.outputs):
        targets, logged, told = output.targets(y), trial.predictions[index], predicted[index]
        if output.loss is None or targets is None or logged.shape != told.shape:
            continue
        losses = [
            float(np.mean(output.loss.evaluate(Returned(tf.constant(each)), targets, None)))
            for each in (logged, told)
        ]
        if not max(losses) > _TIMES * min(losses) > 0:
            continue
        yield subject.found(
            "unusual_start",
            f"on the same rows and with the same weights the loss of {output.named} is "
            f"{losses[0]:.3g} in training, which Keras logs, and {losses[1]:.3g} for what the "
            "network predicts",
            "look at what its call does with the argument training: both should compute the same",
        )


def _differs_by_chance(model: keras.Model, trial: Trial) -> bool:
    """Whether rows that are the same have different predictions in training."""
    repeated = try_step(model, select(trial.batch, np.zeros(trial.rows, np.int64)))
    return not all(_alike(each, each[[0] * len(each)]) for each in repeated.predictions)


def _alike(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> bool:
    return one.shape == other.shape and np.allclose(one, other, rtol=1e-3, atol=1e-5)
