"""Losses that are no number before a step was taken, though rows and predictions are."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from orchestrator.diagnosis.causes.before.outputs import fixes
from orchestrator.diagnosis.causes.before.subject import Subject
from orchestrator.diagnosis.causes.plan import ADAPTIVE
from orchestrator.model.build import plain_optimizers
from orchestrator.model.losses.returned import Returned
from orchestrator.model.outputs import Output
from orchestrator.record.records import Finding

_POSITIVE, _BY_FACTORS = "softplus", "exponential"
"""Keras's names of activations that give values above 0 alone.

Of counts with means of 0.2 to 1,000 that two columns multiply, 32 units of relu with Adam learn a
share of 0.15 to 0.95 of the deviance by `exponential`, and the same up to a mean of 10 by
`softplus`, which is too far from 100 and more: worse than a constant. SGD, whose steps are as large
as the counts, is thrown to NaN by `exponential` there, and learns 0.90 to 0.98 by `softplus`.
"""

_Array = npt.NDArray[Any]


def find_undefined_loss(subject: Subject) -> Iterator[Finding]:
    """Losses that the untrained network's predictions make NaN or infinite, as a logarithm does.

    One step at such a loss makes every weight NaN, at whatever rate. Of Keras's losses one alone
    does so for any prediction that is a number, `poisson` below 0, so that what to write instead
    is certain; of a loss of the user's own another seed may give predictions that it takes.
    """
    trial = subject.trial
    if trial is None or not all(np.isfinite(each).all() for each in trial.predictions):
        return
    undefined, told = not math.isfinite(trial.loss), False
    for index, output in enumerate(subject.outputs):
        if _takes_logarithm(output):
            predicted = np.concatenate([
                each[index].reshape(-1) for each in (trial.predictions, subject.predictions)
            ])  # fmt: skip
            if (predicted < 0).any():
                told = True
                yield _below_zero(subject, index, predicted, certain=undefined)
        elif undefined and output.loss is not None:
            values = trial.predictions[index]
            targets = output.compared_targets(trial.batch[1])
            if targets is not None and not math.isfinite(_loss(output, values, targets)):
                told = True
                yield _of_their_own(subject, output, values, targets)
    if undefined and not told:
        yield subject.found(
            "undefined_loss",
            f"the loss of the untrained network is {trial.loss:g}, by what layers add to it: no "
            "step at it leaves a weight that is a number, at whatever rate",
            "see what add_loss and the regularizers are given",
        )


def _takes_logarithm(output: Output) -> bool:
    loss = output.loss
    return output.trained and loss is not None and loss.is_keras and loss.name == "poisson"


def _loss(output: Output, predicted: _Array, targets: _Array) -> float:
    """What Keras would log for some predictions."""
    if output.loss is None:
        return math.nan
    found = output.loss.evaluate(Returned(tf.constant(predicted)), targets, None)
    return float(np.mean(found))


def _below_zero(subject: Subject, index: int, predicted: _Array, *, certain: bool) -> Finding:
    """Predictions below 0 of what is the mean of counts."""
    output = subject.outputs[index]
    bounded = all(isinstance(each, ADAPTIVE) for each in plain_optimizers(subject.model))
    activation = _BY_FACTORS if bounded else _POSITIVE
    return subject.found(
        "undefined_loss",
        f"the loss poisson takes the logarithm of {output.named}, and "
        f"{float(np.mean(predicted < 0)):.2g} of its values are below 0, from "
        f"{predicted.min():.3g} to {predicted.max():.3g}: there the loss is NaN, and so is every "
        "weight after a step, at whatever rate",
        f"write activation {activation} in the last layer, which gives values above 0 alone",
        certain=certain,
        key=subject.last_layer(index, "activation"),
        fix=fixes.positive(output, activation),
    )


def _of_their_own(subject: Subject, output: Output, predicted: _Array, targets: _Array) -> Finding:
    """A loss of the user's own, with the values that it is given."""
    name, loss = "" if output.loss is None else output.loss.name, _loss(output, predicted, targets)
    reason = (
        f"the loss {name} of {output.named} is {loss:g} before any training, for values from "
        f"{predicted.min():.3g} to {predicted.max():.3g} and targets from {targets.min():.3g} to "
        f"{targets.max():.3g}: no step at it leaves a weight that is a number, at whatever rate"
    )
    advice = (
        "let it take what the network gives: look for a division by 0, and for the logarithm or "
        "the root of a value that is not above 0"
    )
    positive = _loss(output, keras.ops.convert_to_numpy(keras.ops.softplus(predicted)), targets)
    if math.isfinite(positive):
        advice = (
            f"write activation {_POSITIVE} in the last layer, for of values above 0 alone it is "
            f"{positive:.3g}"
        )
    return subject.found("undefined_loss", reason, advice, key=subject.compiled("loss"))
