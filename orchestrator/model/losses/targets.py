"""Targets that a model's losses cannot take: refused before Keras turns them into NaN."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from orchestrator.config import user_code
from orchestrator.config.document import Key
from orchestrator.config.schema import Config
from orchestrator.config.sections.model import FileModel
from orchestrator.data.rows import AnyRows, Tree, leaves, trained_on
from orchestrator.errors import InvalidError, Reporter
from orchestrator.model.outputs import Output, find_outputs, own_way


def check_targets(model: keras.Model, config: Config, rows: AnyRows) -> None:
    """Refuse targets that a loss cannot take, which Keras would broadcast or turn into NaN.

    Args:
        model: the compiled model.
        config: the config.
        rows: training or validation rows.

    Raises:
        InvalidError: targets and outputs do not fit.
        UserCodeError: the user's own loss or metric raised.
    """
    key = _key(config)
    if _needs_targets(model) and not leaves(rows.y):
        message = "expected targets y, received None"
        raise InvalidError([config.problem(("data", "train"), message)])
    check_fit(find_outputs(model, config, rows), rows.y, config, key)
    if not _is_evaluated(model):
        return
    # Not test_on_batch, which gives a test_step of the user's own a tuple even of inputs alone.
    batch = keras.utils.pack_x_y_sample_weight(*trained_on(rows.first(2)))
    with user_code.refused(config, key, "loss and metrics do not take these targets"):
        model.evaluate(tf.data.Dataset.from_tensors(batch), verbose=0)
    model.reset_metrics()


def _needs_targets(model: keras.Model) -> bool:
    """Whether a compiled loss trains the model, and not one that it computes itself."""
    return own_way(model) is None and getattr(model, "loss", None) is not None


def _is_evaluated(model: keras.Model) -> bool:
    """Whether the loss that Keras evaluates is the one that trains the model."""
    kind = type(model)
    own_step = kind.train_step is not keras.Model.train_step
    return not own_step or kind.test_step is not keras.Model.test_step


def check_fit(found: Sequence[Output], y: Tree, reporter: Reporter, key: Key) -> None:
    """Refuse targets of another shape than their output's, or beyond its classes.

    Args:
        found: the model's outputs.
        y: targets of all outputs.
        reporter: knows the place of a problem.
        key: that place.

    Raises:
        InvalidError: with every output that does not fit.
    """
    problems = []
    for output in found:
        targets = output.targets(y)
        free = output.guessed or output.unjudged is not None
        message = None if targets is None or free else output.misfit(targets)
        if targets is not None and message is not None:
            name = f"output {output.name}: " if output.name else ""
            hint = None
            if output.form == "categorical" and targets.ndim == 1:
                hint = "class indices need sparse_categorical_crossentropy"
            problems.append(reporter.problem(key, f"{name}{message}", hint))
    if problems:
        raise InvalidError(problems)


def _key(config: Config) -> Key:
    """Where the config says what the loss is."""
    if config.compile is not None:
        return ("compile", "loss")
    return ("model", "file" if isinstance(config.model, FileModel) else "factory")


def check_classes(found: Sequence[Output], config: Config, classes: Mapping[str, Any]) -> None:
    """Refuse texts as targets of a regression.

    Args:
        found: the model's outputs.
        config: the config.
        classes: the text targets with their classes.

    Raises:
        InvalidError: the loss of such an output is one of regression.
    """
    if classes and all(output.form == "regression" for output in found):
        name, known = next(iter(classes.items()))
        message = f"the target {name} holds texts ({len(known)} classes), the loss is a regression"
        hint = "use sparse_categorical_crossentropy with one softmax unit a class"
        raise InvalidError([config.problem(_key(config), message, hint)])
