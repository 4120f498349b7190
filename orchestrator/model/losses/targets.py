"""Targets that a model's losses cannot take: refused before Keras turns them into NaN."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from orchestrator.config import user_code
from orchestrator.config.schema import Config
from orchestrator.config.sections.model import FileModel
from orchestrator.config.yaml12 import Key
from orchestrator.data.rows import AnyRows, Array, Tree, leaves
from orchestrator.data.streams.pipeline import first_batch
from orchestrator.errors import InvalidError, Reporter
from orchestrator.model.outputs import Output, find_outputs, own_way

_MOST_CLASSES = 20
"""Whole numbers up to this may be classes; more are amounts."""
_SPARSE = "sparse_categorical_crossentropy"


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
    check_fit(find_outputs(model, config, rows), rows.y, rows.weight, config, key)
    if not _is_evaluated(model):
        return
    # Not test_on_batch, which gives a test_step of the user's own a tuple even of inputs alone.
    batch = first_batch(rows, 2)
    with user_code.refused(config, key, "loss and metrics do not take these targets"):
        model.evaluate(batch, verbose=0)
    model.reset_metrics()


def _needs_targets(model: keras.Model) -> bool:
    """Whether a compiled loss trains the model, and not one that it computes itself."""
    return own_way(model) is None and getattr(model, "loss", None) is not None


def _is_evaluated(model: keras.Model) -> bool:
    """Whether the loss that Keras evaluates is the one that trains the model."""
    kind = type(model)
    own_step = kind.train_step is not keras.Model.train_step
    return not own_step or kind.test_step is not keras.Model.test_step


def check_fit(
    found: Sequence[Output], y: Tree, weight: Array | None, reporter: Reporter, key: Key
) -> None:
    """Refuse targets of another shape than their output's, or beyond its classes.

    Args:
        found: the model's outputs.
        y: targets of all outputs.
        weight: weight of each row, or of each position; None without.
        reporter: knows the place of a problem.
        key: that place.

    Raises:
        InvalidError: with every output that does not fit.
    """
    problems = []
    for output in found:
        targets = output.targets(y)
        free = output.guessed or output.unjudged is not None
        message = None if targets is None or free else output.misfit(targets, weight)
        if targets is not None and message is not None:
            name = f"output {output.name}: " if output.name else ""
            hint = _shape_hint(output, targets) or _value_hint(output, targets)
            problems.append(reporter.problem(key, f"{name}{message}", hint))
    if problems:
        raise InvalidError(problems)


def _shape_hint(output: Output, targets: Array) -> str | None:
    """What to write where targets have another shape than the output; None where they fit it."""
    units = output.shape[-1] if output.shape else 1
    if output.misshapen(targets) is None:
        return None
    if output.form == "sparse":
        one_hot = targets.ndim > 1 and targets.shape[-1] == units
        return "one-hot targets need categorical_crossentropy" if one_hot else None
    if output.form == "categorical" and targets.ndim == 1:
        return "class indices need sparse_categorical_crossentropy"
    indices = targets.size == len(targets) and np.array_equal(np.unique(targets), np.arange(units))
    if units > 2 and indices:
        return "class indices need softmax and sparse_categorical_crossentropy"
    return None


def _value_hint(output: Output, targets: Array) -> str | None:
    """What to write where targets are no classes of the output, by what they are."""
    units = output.shape[-1] if output.shape else 1
    known = np.unique(targets[targets != output.ignored])
    if not known.size or not np.array_equal(known, np.floor(known)) or not np.ptp(known):
        return None
    low, high = int(known.min()), int(known.max())
    if output.form == "sparse" and units == 1 and (low, high) == (0, 1):
        return "one unit of sigmoid takes binary_crossentropy"
    if output.form == "sparse" and low == 1 and high == units:
        return "the labels start at 1: subtract 1"
    if output.form == "sparse" and low == 0:
        return f"give the last layer {high + 1} units, one for each class"
    if output.form == "binary" and known.size == 2:
        return f"write the two classes as 0 and 1, not {low} and {high}"
    if output.form == "binary" and low == 0 and high <= _MOST_CLASSES:
        return f"{high + 1} classes need {high + 1} units of softmax and " + _SPARSE
    return None


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
