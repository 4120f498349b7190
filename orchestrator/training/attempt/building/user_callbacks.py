"""The callbacks that a config names: made, and looked at before anything trains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import keras

from orchestrator.config.schema import Config
from orchestrator.errors import InvalidError, Problem
from orchestrator.model import keras_internals, objects
from orchestrator.model.build import plain_optimizers

_SET_RATES = (keras.callbacks.ReduceLROnPlateau, keras.callbacks.LearningRateScheduler)
"""Callbacks of Keras's that set the learning rate, and log it and nothing else; its others log
nothing."""


def make(config: Config) -> list[keras.callbacks.Callback]:
    """The callbacks, made anew."""
    return [
        objects.make(keras.callbacks, named, ("fit", "callbacks", index), config)
        for index, named in enumerate(config.fit.callbacks)
    ]


def check(
    config: Config, callbacks: Sequence[keras.callbacks.Callback], model: keras.Model
) -> None:
    """Refuse what cannot train the model, or undoes what keeps the training.

    Args:
        config: the config.
        callbacks: its callbacks.
        model: compiled as the config says.

    Raises:
        InvalidError: with all of them.
    """
    problems = [*_problems(config, callbacks, model)]
    if problems:
        raise InvalidError(problems)


def _problems(
    config: Config, callbacks: Sequence[keras.callbacks.Callback], model: keras.Model
) -> Iterator[Problem]:
    rates = [keras_internals.learning_rate(each) for each in plain_optimizers(model)]
    settable = all(isinstance(rate, keras.Variable) for rate in rates)
    for index, callback in enumerate(callbacks):
        key, name = ("fit", "callbacks", index), type(callback).__name__
        if isinstance(callback, keras.callbacks.BackupAndRestore):
            message = f"{name} would bring back states of its own where a run goes on"
            hint = "leave it out: snapshots are kept, and `orchestrate resume` goes on from them"
            yield config.problem(key, message, hint)
        elif isinstance(callback, _SET_RATES) and not settable:
            message = f"{name} cannot set a learning rate that the optimizer has a schedule for"
            hint = "leave it out, or give the optimizer a number as its learning_rate"
            yield config.problem(key, message, hint)


def may_log(callback: keras.callbacks.Callback, name: str) -> bool:
    """Whether a callback may add a value of the name to what an epoch logs."""
    if isinstance(callback, _SET_RATES):
        return name == "learning_rate"
    is_own = not keras_internals.is_of_keras(callback)
    return is_own or isinstance(callback, keras.callbacks.LambdaCallback)
