"""Outputs and losses that do not belong together."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from orchestrator.diagnosis.causes.before.outputs import fixes
from orchestrator.diagnosis.causes.before.outputs.fixes import BINARY, CATEGORICAL, SPARSE
from orchestrator.diagnosis.causes.before.outputs.one_unit import is_one_unit_softmax
from orchestrator.diagnosis.causes.before.subject import Subject
from orchestrator.model.outputs import Output
from orchestrator.record.records import Finding, Fix

_CROSS_ENTROPIES = BINARY | CATEGORICAL | SPARSE
_FOCAL = frozenset({"binary_focal_crossentropy", "categorical_focal_crossentropy"})
"""These make probabilities of logits themselves, and do not look for logits behind them."""
_MADE_OF = {"Softmax": CATEGORICAL | SPARSE, "Sigmoid": BINARY}
"""The losses that find logits behind an operation of TensorFlow's, where Keras notes none."""
_NO_PROBABILITIES = frozenset({"Elu", "LeakyRelu", "Relu", "Selu", "Softplus", "Tanh"})
"""Operations of TensorFlow's that give values outside of 0 to 1, if not of an untrained network."""
_OUTSIDE = 1e-3
"""How far predictions are beyond 0 to 1 that are no rounded probabilities, and on which share of
them at least."""


def find_loss_mismatch(subject: Subject) -> Iterator[Finding]:
    """Losses that read an output as something that it is not."""
    for index, output in enumerate(subject.outputs):
        if not _is_cross_entropy(output) or is_one_unit_softmax(subject, index):
            continue
        if is_always_zero(subject, index):
            name = "" if output.loss is None else output.loss.name
            yield _found(
                subject,
                f"{name} compares the units of a row with each other, and {output.named} has only "
                "one: the loss is zero whatever the weights are",
                "write loss binary_crossentropy with one unit of sigmoid, or give the last layer "
                "one unit for each class",
                certain=subject.varies(index),
                fix=fixes.one_unit(subject, index),
            )
            continue
        wrong, fix = _read_wrongly(subject, index), fixes.probabilities(output)
        if wrong is None:
            wrong, fix = _normalised_wrongly(subject, index), None
        if wrong is not None:
            yield _found(subject, *wrong, fix=fix)


def is_mismatched(subject: Subject, index: int) -> bool:
    """Whether the loss of an output reads it wrongly, by the output's number."""
    return _is_cross_entropy(subject.outputs[index]) and _read_wrongly(subject, index) is not None


def _is_cross_entropy(output: Output) -> bool:
    loss = output.loss
    return output.trained and loss is not None and loss.is_keras and loss.name in _CROSS_ENTROPIES


def is_always_zero(subject: Subject, index: int) -> bool:
    """Whether the loss of an output is zero for all predictions: a softmax over one unit is 1."""
    output = subject.outputs[index]
    loss = output.loss
    if loss is None or not loss.is_keras or loss.name not in CATEGORICAL | SPARSE:
        return False
    return loss.last_axis and bool(output.shape) and output.shape[-1] == 1


def _found(
    subject: Subject, reason: str, advice: str, *, certain: bool = False, fix: Fix | None = None
) -> Finding:
    key = subject.compiled("loss")
    return subject.found("loss_mismatch", reason, advice, certain=certain, key=key, fix=fix)


def _finds_logits(subject: Subject, index: int) -> bool:
    """Whether Keras goes back to the logits in front of the output's activation."""
    loss, origin = subject.outputs[index].loss, subject.origin(index)
    if loss is None or loss.name in _FOCAL or not origin.found:
        return False
    return origin.found == "attached" or loss.name in _MADE_OF.get(origin.found, ())


def _read_wrongly(subject: Subject, index: int) -> tuple[str, str] | None:
    """What is wrong with probabilities that are read as logits, or logits as probabilities."""
    output, end = subject.outputs[index], subject.origin(index).end
    loss, name = output.loss, "" if output.loss is None else output.loss.name
    if loss is not None and output.from_logits:
        if end not in ("Softmax", "Sigmoid"):
            return None
        # Cast to the type of the loss, as in mixed precision, an output loses its logits.
        cast = subject.predictions[index].dtype != loss.function.dtype
        if _finds_logits(subject, index) and not cast:
            return None
        return (
            f"{output.named} is made by {end.lower()}, and the loss {name} has from_logits=True: "
            "it takes these probabilities for logits, so that it can never be near zero",
            f"leave from_logits=True out, or the {end.lower()}",
        )
    if _finds_logits(subject, index):
        return None
    predicted = subject.predictions[index]
    low, high = predicted < -_OUTSIDE, predicted > 1 + _OUTSIDE
    beyond = low if name in CATEGORICAL else low | high  # that one divides by the sum
    if not predicted.size:
        return None
    activation = "sigmoid" if name in BINARY else "softmax"
    advice = f"write activation {activation} in the last layer, or from_logits=True in the loss"
    if float(np.mean(beyond)) <= _OUTSIDE:
        if end not in _NO_PROBABILITIES or (end != "Tanh" and name in CATEGORICAL):
            return None
        return (
            f"the loss {name} takes {output.named} for probabilities, and it is made by "
            f"{end.lower()}, which gives values outside of 0 to 1, too: there the loss is cut off, "
            "and no gradient comes back",
            advice,
        )
    return (
        f"the loss {name} takes {output.named} for probabilities, and "
        f"{float(np.mean(beyond)):.2g} of its values are not between 0 and 1, from "
        f"{predicted.min():.3g} to {predicted.max():.3g}: there the loss is cut off, and no "
        "gradient comes back",
        advice,
    )


def _normalised_wrongly(subject: Subject, index: int) -> tuple[str, str] | None:
    """What is wrong with one activation whose loss belongs to the other."""
    output, end = subject.outputs[index], subject.origin(index).end
    name = "" if output.loss is None else output.loss.name
    units = output.shape[-1] if output.shape else 1
    if units < 2:
        return None
    if end == "Softmax" and name in BINARY and units > 2:  # of two, each loss says the same
        return _softmax_as_binary(subject, index, name)
    if end == "Sigmoid" and name in CATEGORICAL | SPARSE:
        return _sigmoid_as_categorical(subject, index, name)
    return None


def _softmax_as_binary(subject: Subject, index: int, name: str) -> tuple[str, str]:
    """A softmax whose units are each trained for themselves."""
    exclusive = _is_one_hot(subject, index)
    return (
        f"{subject.outputs[index].named} is a softmax, whose units share out 1, and the loss "
        f"{name} trains each unit for itself",
        "write loss categorical_crossentropy"
        if exclusive
        else "write activation sigmoid, for a row may be of several classes or of none",
    )


def _sigmoid_as_categorical(subject: Subject, index: int, name: str) -> tuple[str, str]:
    """Sigmoids of which one class is to be chosen."""
    exclusive = name in SPARSE or _is_one_hot(subject, index)
    return (
        f"{subject.outputs[index].named} is made by sigmoid, each unit for itself, and the loss "
        f"{name} is that of one class among all units",
        "write activation softmax"
        if exclusive
        else "write loss binary_crossentropy, for a row may be of several classes or of none",
    )


def _is_one_hot(subject: Subject, index: int) -> bool:
    """Whether the targets of a row add up to 1."""
    targets = subject.targets(index)
    return bool(targets.size) and np.allclose(targets.sum(axis=-1), 1, atol=1e-3)
