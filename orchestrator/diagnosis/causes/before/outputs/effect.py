"""Training that can have no effect: nothing to train, or a loss that moves no weight."""

from __future__ import annotations

from collections.abc import Iterator

import keras
import numpy as np

from orchestrator.diagnosis.causes.before.outputs.held import find_held_at_zero
from orchestrator.diagnosis.causes.before.outputs.losses import is_always_zero
from orchestrator.diagnosis.causes.before.outputs.one_unit import is_one_unit_softmax
from orchestrator.diagnosis.causes.before.subject import Subject
from orchestrator.diagnosis.causes.before.trial import Trial, draw_weights, try_step
from orchestrator.model.keras_internals import all_layers
from orchestrator.record.records import Finding

_DRAWS = 3
"""Random weights with which the gradient is zero, too, where it is not for dead or saturated units
that it is."""
_ROWS = 32
"""Rows on which a gradient of zero says something: fewer may all be rows that a loss leaves out."""


def find_no_effect(subject: Subject) -> Iterator[Finding]:
    """That a training would leave the network as it is."""
    model = subject.model
    own_step = type(model).train_step is not keras.Model.train_step
    if subject.trained_elsewhere or own_step:
        return
    if not model.trainable_variables:
        if not _settles(model):
            yield subject.found(
                "no_effect",
                "the network has no weights that train" + _frozen(model),
                "set trainable to true on the layers that are to learn, or add a layer",
                certain=True,
                key=("model",),
            )
        return
    if any(find_held_at_zero(subject)):  # which says more
        return
    trial, told = subject.trial, range(len(subject.outputs))
    if trial is None or trial.reach == "some":
        return
    if any(is_one_unit_softmax(subject, each) or is_always_zero(subject, each) for each in told):
        return
    tried, all_rows = _tried(subject, trial)
    if any(each.reach == "some" for each in tried):
        return
    last = tried[-1]
    if all(each.reach == "none" for each in tried):
        reason = (
            "the loss does not depend on any weight: something between them has no gradient, such "
            "as round, argmax, a comparison, a cast to integers or stop_gradient, or the loss does "
            "not look at the prediction"
        )
        yield _nothing_moves(subject, reason, certain=True)
    elif _is_zero_whatever_the_weights(subject, last):
        value = f"the loss is {last.loss:.4g} and" if np.isfinite(last.loss) else "the loss"
        reason = (
            f"{value} does not change with any weight: its gradient is zero on all of "
            f"{last.rows} rows, for the weights as they are and for random ones"
        )
        yield _nothing_moves(subject, reason, certain=all_rows)


def _nothing_moves(subject: Subject, reason: str, *, certain: bool) -> Finding:
    return subject.found(
        "no_effect",
        reason,
        "train on the network's output as it is, and round or compare only what it predicts",
        certain=certain,
        key=subject.compiled("loss"),
    )


def _tried(subject: Subject, trial: Trial) -> tuple[list[Trial], bool]:
    """Steps on rows that count, and whether a gradient of zero there is one on all rows.

    Keras's losses look at each row that counts. One of the user's own may leave most of them out,
    or look for pairs among them: it is tried on a batch as a training has it, too, and on as many
    rows together as may be run through the model.
    """
    trained = [output.loss for output in subject.outputs if output.trained]
    if all(loss is not None and loss.looks_at_each for loss in trained):
        return [trial], True
    size = 32 if subject.config is None else subject.config.batch_size
    batches = [subject.rows.first(size), subject.many]
    tried = [trial, *(try_step(subject.model, batch) for batch in batches)]
    return tried, subject.whole is not None and tried[-1].rows == len(subject.whole)


def _settles(model: keras.Model) -> bool:
    """Whether a training moves statistics at least, as those of BatchNorm."""
    return any(
        isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
        for layer in all_layers(model)
    )


def _frozen(model: keras.Model) -> str:
    """How many there are that do not."""
    frozen = [layer for layer in all_layers(model) if layer is not model and not layer.trainable]
    return f": {len(frozen)} of its layers are frozen (trainable=False)" if frozen else ""


def _is_zero_whatever_the_weights(subject: Subject, trial: Trial) -> bool:
    """Whether the gradient is zero with random weights, too: then no unit that died is at fault."""
    if not subject.is_counting(trial.batch):  # and of all rows, or only of these?
        return subject.whole is not None
    if trial.rows < _ROWS:
        return False
    return all(
        try_step(subject.model, trial.batch, draw_weights(subject.model, seed)).reach != "some"
        for seed in range(_DRAWS)
    )
