"""A model's outputs and the targets that belong to them, by the compiled losses."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from orchestrator.config import user_code
from orchestrator.config.document import Key
from orchestrator.config.schema import Config, FileModel
from orchestrator.data.rows import (
    PIECE,
    AnyRows,
    Array,
    Readable,
    Tree,
    leaves,
    trained_on,
    transform,
)
from orchestrator.errors import InvalidError, Problem, UserCodeError, suggestion
from orchestrator.model import objects
from orchestrator.record.records import Form

_FORMS: Mapping[str, Form] = {
    "binary_crossentropy": "binary",
    "bce": "binary",
    "binary_focal_crossentropy": "binary",
    "categorical_crossentropy": "categorical",
    "categorical_focal_crossentropy": "categorical",
    "categorical_generalized_cross_entropy": "sparse",
    "sparse_categorical_crossentropy": "sparse",
}
"""Losses of classification; every other Keras loss counts as regression."""
_WITHOUT_FORM = ("circle", "ctc")
"""Losses that compare targets and predictions of different shapes."""
PASSED_ON = frozenset({"Cast", "Identity", "Reshape", "Squeeze", "ExpandDims", "Transpose"})
"""TensorFlow's operations that leave values as they are."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """One output of a model."""

    name: str
    """Keras's name of it; empty where there is only one."""
    target: str | None
    """Path of its targets among the rows' targets; None where it has none, or where a loss of the
    user's own compares them with it in a way that nobody else knows."""
    shape: tuple[int, ...]
    """Shape of one row's output; empty where it is one number a row."""
    form: Form
    """How its targets and predictions are written."""
    from_logits: bool
    """Whether its predictions are logits."""
    ignored: int | None = None
    """Class index of positions that its loss leaves out."""
    guessed: bool = False
    """The form is that of its activation: the user's own loss may take other targets."""

    def targets(self, y: Tree) -> Array | None:
        """Its own targets among those of all outputs."""
        return None if self.target is None else dict(leaves(y))[self.target]


class Blame(Protocol):
    """Whoever can name the place of a problem: a config names its keys and lines."""

    def problem(self, key: Key, message: str, hint: str | None = None) -> Problem:
        """A problem at a key."""


def heads(model: keras.Model, config: Blame, rows: Readable) -> tuple[Head, ...]:
    """The outputs of a compiled model, in the order of the leaves of what it returns.

    Args:
        model: a built and compiled model.
        config: names the place of a problem.
        rows: training rows.

    Returns:
        One for each output.

    Raises:
        InvalidError: outputs and targets cannot be told to belong together.
    """
    x, y, _ = rows.first(2)
    found = leaves(model(x, training=False))
    paths = [path for path, _ in found]
    names = _names(paths, model)
    targets = _matched(names, paths, [path for path, _ in leaves(y)], config)
    losses = _losses(getattr(model, "loss", None), names)
    forms = [_form(loss) for loss in losses]
    ends = [""] * len(found) if None not in forms else _ends(model, x)
    made = []
    for index, (_, prediction) in enumerate(found):
        known = forms[index]
        target = targets[index]
        own = None if target is None else dict(leaves(y))[target]
        head = Head(
            name=names[index] if len(found) > 1 else "",
            target=target,
            shape=tuple(prediction.shape[1:]),
            form=known or _form_by_activation(ends[index], own),
            from_logits=bool(getattr(losses[index], "from_logits", False)),
            ignored=getattr(losses[index], "ignore_class", None),
            guessed=known is None,
        )
        if known is None and own is not None:
            if _misshapen(head, own) is not None:
                head = dataclasses.replace(head, target=None)
            elif head.form != "sparse" and misfit(head, _all_targets(head, rows, own)) is not None:
                head = dataclasses.replace(head, form="regression")
        made.append(head)
    return tuple(made)


def of_kind(head: Head, kind: str | None, y: Tree) -> Head:
    """The output read as the kind that the config asks for.

    Args:
        head: the output by its loss.
        kind: `regression`, `classification`, or None to leave it.
        y: targets of all outputs.
    """
    if kind == "regression":
        return dataclasses.replace(head, form="regression", from_logits=False)
    if kind is None or head.form != "regression":
        return head
    units = head.shape[-1] if head.shape else 1
    targets = head.targets(y)
    one_hot = targets is not None and targets.ndim > 1 and targets.shape[-1] == units
    form: Form = "binary" if units == 1 else "categorical" if one_hot else "sparse"
    return dataclasses.replace(head, form=form)


def _names(paths: Sequence[str], model: keras.Model) -> list[str]:
    """Keras's names of the outputs."""
    known = getattr(model, "output_names", None)
    by_position = all(path.isdecimal() or not path for path in paths)
    if known is not None and by_position and len(known) == len(paths):
        return list(known)
    return list(paths)


def _matched(
    names: Sequence[str], paths: Sequence[str], targets: Sequence[str], config: Blame
) -> list[str | None]:
    """Which targets belong to each output: by name, by position, or the only ones to the only."""
    if not targets:
        return [None] * len(names)
    if len(names) == len(targets) == 1 and targets[0] in ("", "0", paths[0]):
        return [targets[0]]
    if targets == [""]:
        message = f"the model has the outputs {', '.join(names)}, the targets are one array"
        hint = "give targets by output name: a dict of arrays, or target: {OUTPUT: COLUMN, …}"
        raise InvalidError([config.problem(("data", "train"), message, hint)])
    if all(path.isdecimal() for path in targets):
        if len(targets) != len(names):
            message = f"the model has {len(names)} outputs, there are targets for {len(targets)}"
            raise InvalidError([config.problem(("data", "train"), message)])
        return list(targets)
    if paths[0] in ("", "0") and len(paths) == 1:  # here Keras takes no dict, even of the name
        message = f"the model has one output, the targets have names: {', '.join(targets)}"
        hint = "give them as one array, or let the model return a dict of outputs"
        raise InvalidError([config.problem(("data", "train"), message, hint)])
    for path in targets:
        if path not in names:
            message = f"the model has no output {path!r} for these targets"
            hint = suggestion(path, names)
            raise InvalidError([config.problem(("data", "train"), message, hint)])
    return [name if name in targets else None for name in names]


def _losses(loss: Any, names: Sequence[str]) -> list[Any]:
    """The loss of each output, None where it has none."""
    if isinstance(loss, Mapping):
        return [loss.get(name) for name in names]
    if isinstance(loss, list | tuple) and len(loss) == len(names):
        return list(loss)
    return [loss] * len(names)


def _form(loss: Any) -> Form | None:
    """How targets and predictions are written, for a loss that Keras knows."""
    if loss is None:
        return None
    if isinstance(loss, str):
        loss = keras.losses.get(loss)
    name = loss.__name__ if inspect.isfunction(loss) else _snake_case(type(loss).__name__)
    if name.replace("_", "") in _WITHOUT_FORM:  # of CTC, snake case makes c_t_c
        return None
    if name in _FORMS or hasattr(keras.losses, type(loss).__name__) or name in vars(keras.losses):
        return _FORMS.get(name, "regression")
    return None


def _ends(model: keras.Model, x: Tree) -> list[str]:
    """TensorFlow's name of the operation that makes each output, in the graph of the model."""
    signature = transform(
        lambda array: tf.TensorSpec((None, *array.shape[1:]), tf.as_dtype(array.dtype)), x
    )

    def call(inputs: Tree) -> list[tf.Tensor]:
        return [output for _, output in leaves(model(inputs, training=False))]

    try:
        traced = tf.function(call, input_signature=[signature], autograph=False)
        graph = traced.get_concrete_function().graph
        operations = [output.op for output in graph.outputs]
    except Exception:  # noqa: BLE001 - what cannot be traced is told where units are looked for
        return [""] * len(leaves(model(x, training=False)))
    for index, operation in enumerate(operations):
        while operation.type in PASSED_ON:
            operation = operation.inputs[0].op
        operations[index] = operation
    return [operation.type for operation in operations]


def _all_targets(head: Head, rows: Readable, first: Array) -> Array:
    """An output's targets of all rows, where they are known; else those of the first rows."""
    y = getattr(rows, "y", None)
    found = None if y is None else head.targets(y)
    return first if found is None else found


def _form_by_activation(end: str, targets: Array | None) -> Form:
    """The form where the loss is the user's own: by the operation that makes the output."""
    if end == "Softmax":
        one_hot = targets is not None and targets.ndim > 1 and targets.shape[-1] > 1
        return "categorical" if one_hot else "sparse"
    return "binary" if end == "Sigmoid" else "regression"


def _snake_case(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


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
    check_fit(heads(model, config, rows), rows.y, config, key)
    x, y, weight = trained_on(rows.first(2))
    try:
        model.test_on_batch(x, y, sample_weight=weight)
    except Exception as error:
        if user_code.raised_in_user_code(error):
            raise UserCodeError(f"the model raised {user_code.describe(error)}") from error
        message = f"loss and metrics do not take these targets: {objects.describe_error(error)}"
        raise InvalidError([config.problem(key, message)]) from error
    model.reset_metrics()


def check_fit(found: Sequence[Head], y: Tree, blame: Blame, key: Key) -> None:
    """Refuse targets of another shape than their output's, or beyond its classes.

    Args:
        found: the model's outputs.
        y: targets of all outputs.
        blame: names the place of a problem.
        key: that place.

    Raises:
        InvalidError: with every output that does not fit.
    """
    problems = []
    for head in found:
        targets = head.targets(y)
        message = None if targets is None or head.guessed else misfit(head, targets)
        if targets is not None and message is not None:
            name = f"output {head.name}: " if head.name else ""
            hint = None
            if head.form == "categorical" and targets.ndim == 1:
                hint = "class indices need sparse_categorical_crossentropy"
            problems.append(blame.problem(key, f"{name}{message}", hint))
    if problems:
        raise InvalidError(problems)


def _key(config: Config) -> Key:
    """Where the config says what the loss is."""
    if config.compile is not None:
        return ("compile", "loss")
    return ("model", "file" if isinstance(config.model, FileModel) else "factory")


def misfit(head: Head, targets: Array, row: str = "training row", position: int = 0) -> str | None:
    """What an output's loss cannot take of its targets.

    Args:
        head: the output.
        targets: its own targets.
        row: what a row is called.
        position: number of the first of these rows.

    Returns:
        A clause, or None where they fit.
    """
    columns = head.shape[-1] if head.shape else 1
    misshapen = _misshapen(head, targets)
    if misshapen is not None:
        return misshapen
    if head.form == "sparse":
        bad = _first(
            targets,
            lambda y: ((y < 0) | (y >= columns) | (y != np.floor(y))) & (y != head.ignored),
        )
        if bad is not None:
            return (
                f"expected class indices from 0 to {columns - 1} for {columns} units, "
                f"received {bad[1]:g} in {row} {position + bad[0]} (from 0)"
            )
    elif head.form != "regression":
        bad = _first(targets, lambda y: (y < 0) | (y > 1))
        if bad is not None:
            return (
                "expected targets from 0 to 1 for a cross-entropy, "
                f"received {bad[1]:g} in {row} {position + bad[0]} (from 0)"
            )
    return None


def _misshapen(head: Head, targets: Array) -> str | None:
    """A clause on a shape that does not fit the output's, or None."""
    shape = targets.shape[1:]
    if head.form == "sparse":
        if int(np.prod(shape)) != int(np.prod(head.shape[:-1])):
            return f"expected one class index a row, received targets of shape {shape}"
    elif int(np.prod(shape)) != int(np.prod(head.shape)):
        return f"the output has shape {head.shape} a row, the targets have {shape}"
    return None


def _first(targets: Array, wrong: Callable[[Array], Array]) -> tuple[int, float] | None:
    """Row and value of the first target that is wrong."""
    for start in range(0, len(targets), PIECE):
        part = targets[start : start + PIECE].reshape(len(targets[start : start + PIECE]), -1)
        bad = np.argwhere(wrong(part))
        if len(bad):
            row, column = bad[0]
            return start + int(row), float(part[row, column])
    return None


def check_classes(found: Sequence[Head], config: Config, classes: Mapping[str, Any]) -> None:
    """Refuse texts as targets of a regression.

    Args:
        found: the model's outputs.
        config: the config.
        classes: the text targets with their classes.

    Raises:
        InvalidError: the loss of such an output is one of regression.
    """
    if classes and all(head.form == "regression" for head in found):
        name, known = next(iter(classes.items()))
        message = f"the target {name} holds texts ({len(known)} classes), the loss is a regression"
        hint = "use sparse_categorical_crossentropy with one softmax unit a class"
        raise InvalidError([config.problem(_key(config), message, hint)])
