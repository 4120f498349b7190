"""Labels that are not what the loss takes them for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from orchestrator.diagnosis.causes.before.outputs.fixes import CATEGORICAL, NEAR_ONE
from orchestrator.diagnosis.causes.before.subject import Subject
from orchestrator.model.keras_internals import compile_arguments
from orchestrator.record.records import Finding

_ROWS_A_CLASS = 10
"""So many rows a class, and none of class 0: it is not for want of luck (1 in 22,000 where classes
are equally frequent)."""
_MOST_CLASSES = 20
"""Whole numbers up to this many may be classes; more of them are amounts."""
_SQUARES = frozenset(
    {
        "mean_squared_error",
        "mean_absolute_error",
        "huber",
        "log_cosh",
        "mean_squared_logarithmic_error",
    }
)
_HINGES = frozenset({"hinge", "squared_hinge"})


def find_wrong_labels(subject: Subject) -> Iterator[Finding]:
    """Labels that the loss takes, and reads as something else than what they are."""
    for index, output in enumerate(subject.outputs):
        loss = output.loss
        if loss is None or not loss.is_keras or not output.trained:
            continue
        values = subject.targets(index)
        if not values.size:
            continue
        if output.form == "sparse":
            yield from _from_one(subject, index, values)
        elif loss.name in CATEGORICAL and loss.last_axis:
            yield from _several(subject, index)
        elif loss.name in _HINGES:
            yield from _no_signs(subject, index, values)
        elif loss.name in _SQUARES:
            yield from _numbered(subject, index)


def _from_one(subject: Subject, index: int, values: npt.NDArray[Any]) -> Iterator[Finding]:
    """Class indices from 1 on, with a unit too many so that they fit.

    In texts and masks 0 often stands for what is no class.
    """
    output = subject.outputs[index]
    units = output.shape[-1]
    if len(output.shape) > 1 or output.ignored is not None or len(values) < _ROWS_A_CLASS * units:
        return
    if units < 3 or not np.array_equal(np.unique(values), np.arange(1, units)):
        return
    yield subject.found(
        "wrong_labels",
        f"the labels of {output.named} are 1 to {units - 1}, and of its {units} units the first, "
        "for class 0, never has a row",
        f"subtract 1 from the labels, and take {units - 1} units",
        key=subject.compiled("loss"),
    )


def _several(subject: Subject, index: int) -> Iterator[Finding]:
    """Several labels a row, or other targets that add up to no 1, under a loss of one class a row.

    TensorFlow's gradient of this loss is that of targets which add up to 1. Where none is set, a
    row may stand for background, or for what nobody has labelled. Of sigmoid it is the loss that
    does not fit, see `find_loss_mismatch`.
    """
    output, values = subject.outputs[index], subject.columns(index)
    if output.loss is None or subject.origin(index).end == "Sigmoid" or values.shape[-1] < 2:
        return
    totals = values.sum(axis=-1, dtype=np.float64)
    off = values.any(axis=-1) & (np.abs(totals - 1) > NEAR_ONE)
    if not off.any() or off.mean() <= NEAR_ONE:
        return
    totals = totals[off]
    each = "loss binary_crossentropy" + " with from_logits=True" * output.from_logits
    if not output.from_logits:
        each = f"activation sigmoid and {each}"
    if np.isin(values, (0, 1)).all():
        reason = (
            f"{off.mean():.2g} of the rows have several labels for {output.named}, up to "
            f"{totals.max():.0f}, and the loss {output.loss.name} is that of one class a row, "
            "whose units share out 1"
        )
        advice = f"several labels a row need {each}"
    else:
        reason = (
            f"the targets of {output.named} add up to {totals.min():.3g} to {totals.max():.3g} on "
            f"{off.mean():.2g} of the rows, and the loss {output.loss.name} takes them for shares "
            "of 1"
        )
        advice = (
            "divide them by their sum, with what a row counts as its sample weight, or write "
            f"{each} for values that are each for themselves"
        )
    yield subject.found("wrong_labels", reason, advice, key=subject.compiled("loss"))


def _no_signs(subject: Subject, index: int, values: npt.NDArray[Any]) -> Iterator[Finding]:
    """Labels of a hinge that are no signs: Keras reads 0 and 1 as -1 and 1, and nothing else."""
    known = np.unique(values)
    if np.isin(known, (-1, 1)).all() or np.isin(known, (0, 1)).all():
        return
    yield subject.found(
        "wrong_labels",
        f"the loss of {subject.outputs[index].named} takes the labels -1 and 1, or 0 and 1; they "
        f"are {known.min():.4g} to {known.max():.4g}",
        "write the two classes as -1 and 1, or take a loss of regression for numbers",
        key=subject.compiled("loss"),
    )


def _numbered(subject: Subject, index: int) -> Iterator[Finding]:
    """Class indices as numbers under a loss of regression.

    Grades and counts look the same; where an accuracy is asked for, they are classes.
    """
    classes = numbered_classes(subject, index)
    if classes is not None:
        yield subject.found(
            "wrong_labels",
            f"the targets of {subject.outputs[index].named} are the classes 0 to {classes - 1}, "
            "for an accuracy is asked for, and its loss takes them for amounts, as if class 2 were "
            "twice class 1",
            units_of_softmax(classes),
            key=subject.compiled("loss"),
        )


def numbered_classes(subject: Subject, index: int) -> int | None:
    """How many classes the targets of an output of one unit number; None where they are amounts."""
    known = np.unique(subject.targets(index))
    if int(np.prod(subject.outputs[index].shape)) != 1 or not 3 <= len(known) <= _MOST_CLASSES:
        return None
    whole = np.array_equal(known, np.arange(len(known)))
    return len(known) if whole and _asks_for_accuracy(subject.model) else None


def units_of_softmax(classes: int) -> str:
    """What to write for so many classes, as advice."""
    return (
        f"give the last layer {classes} units of softmax, with loss sparse_categorical_crossentropy"
    )


def _asks_for_accuracy(model: keras.Model) -> bool:
    """Whether the model is compiled with an accuracy."""
    given = compile_arguments(model).get("metrics") if model.compiled else None
    for metric in keras.tree.flatten(given):
        name = metric if isinstance(metric, str) else getattr(metric, "name", "")
        if str(name).lower() == "acc" or str(name).lower().endswith("accuracy"):
            return True
    return False
