"""Penalties beside which what there is to learn is next to nothing."""

from __future__ import annotations

from collections.abc import Iterator

import keras

from orchestrator.diagnosis.causes.before.subject import Subject
from orchestrator.model.build import plain_optimizers
from orchestrator.model.keras_internals import all_layers, own_variables
from orchestrator.model.remedies import penalty
from orchestrator.record.records import Finding

_DEAR = 10.0
"""How many times the loss of the untrained network the penalty of its weights is where it says that
they are to be shrunk, and little else. Of two layers of 64 by `glorot_uniform` on targets of
variance 2, an L2 of 1 costs 40 times that and leaves a skill of 0.30, one of 0.1 four times."""
_DRAWN_BACK = 1.0
"""A decay from which on no weight grows to 1."""


def find_strong_penalty(subject: Subject) -> Iterator[Finding]:
    """Regularizers and decays that draw weights back, whatever they are to learn.

    A suspicion: a few large weights may do, and so what the training comes to decides.
    """
    decay = describe_decay(subject.model)
    if decay is not None:
        yield subject.found("over_regularised", *decay)
    prices = sorted(_prices(subject.model), key=lambda each: each[0], reverse=True)
    trial, price = subject.trial, sum(each for each, _ in prices)
    if trial is None or not 0 < price:
        return
    rest = trial.loss - price
    if 0 < rest and price >= _DEAR * rest:
        _, layer = prices[0]
        reason = (
            f"the penalty of the weights is {price:.3g} before any training, most of it that of "
            f"layer {layer.name}, and the rest of the loss is {rest:.3g}: a training shrinks them, "
            "and does little else"
        )
        key = subject.place(layer, "kernel_regularizer")
        yield subject.found("over_regularised", reason, "weaken it or take it away", key=key)


def describe_decay(model: keras.Model) -> tuple[str, str] | None:
    """An optimizer's decay that lets no weight grow to 1, and what to write; None for no such one.

    Adam's steps are of size 1 at most, so that weights end below 1 / decay (Loshchilov and Hutter,
    Decoupled weight decay regularization, 2019).
    """
    decay = max(map(penalty.decay, plain_optimizers(model)), default=0.0)
    if decay < _DRAWN_BACK:
        return None
    reason = f"a weight_decay of {decay:g} draws every weight back to below {1 / decay:.2g}"
    return reason, "write a weight_decay of 0.1 or less"


def _prices(model: keras.Model) -> Iterator[tuple[float, keras.Layer]]:
    """What the regularizer of each weight adds to the loss, and its layer."""
    for layer in all_layers(model):
        for variable in own_variables(layer):
            if variable.regularizer is not None and variable.trainable:
                yield float(variable.regularizer(variable)), layer
