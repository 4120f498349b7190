"""A model's outputs, which targets belong to each, and how its loss reads them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from orchestrator.data.rows import PIECE, Array, Readable, Tree, leaves, transform
from orchestrator.errors import InvalidError, Reporter, suggestion
from orchestrator.model import keras_internals, layers
from orchestrator.model.keras_internals import compile_arguments
from orchestrator.model.losses.output_loss import OutputLoss
from orchestrator.model.losses.returned import end_of
from orchestrator.record.checks import Form

_FORMS: Mapping[str, Form] = {
    "binary_crossentropy": "binary",
    "binary_focal_crossentropy": "binary",
    "categorical_crossentropy": "categorical",
    "categorical_focal_crossentropy": "categorical",
    "categorical_generalized_cross_entropy": "sparse",
    "sparse_categorical_crossentropy": "sparse",
}
"""Losses of classification; every other Keras loss counts as regression."""
_WITHOUT_FORM = frozenset({"circle", "ctc"})
"""Losses that compare targets and predictions of different shapes."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Output:
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
    unjudged: str | None = None
    """Why its skill is not judged, as a clause; None where it is. What else there is to check of it
    is checked all the same."""
    trained: bool = True
    """Whether a loss trains it; one that none does is not judged at all."""
    loss: OutputLoss | None = dataclasses.field(default=None, compare=False, repr=False)
    """What it is trained on; None where that is not known, or where there are no targets."""
    masked: bool = False
    """Whether Keras's mask leaves positions out of its loss."""
    compared: str | None = None
    """Path of the targets that its loss compares with it, also where `target` is None."""

    @property
    def named(self) -> str:
        """What it is called in a sentence."""
        return f"output {self.name}" if self.name else "the output"

    def targets(self, y: Tree) -> Array | None:
        """Its own targets among those of all outputs."""
        return None if self.target is None else dict(leaves(y))[self.target]

    def compared_targets(self, y: Tree) -> Array | None:
        """The targets that its loss takes, among those of all outputs."""
        return None if self.compared is None else dict(leaves(y))[self.compared]

    def read_as(self, kind: str | None, y: Tree) -> Output:
        """The same output, read as the kind that the config asks for.

        Args:
            kind: `regression`, `classification`, or None to leave it as its loss says.
            y: targets of all outputs.
        """
        if kind == "regression":
            return dataclasses.replace(self, form="regression", from_logits=False)
        if kind is None or self.form != "regression":
            return self
        units = self.shape[-1] if self.shape else 1
        targets = self.targets(y)
        one_hot = targets is not None and targets.ndim > 1 and targets.shape[-1] == units
        form: Form = "binary" if units == 1 else "categorical" if one_hot else "sparse"
        return dataclasses.replace(self, form=form)

    def misfit(
        self,
        targets: Array,
        weight: Array | None = None,
        row: str = "training row",
        position: int = 0,
    ) -> str | None:
        """What its loss cannot take of its targets.

        Where a mask or a weight of 0 leaves positions out Keras takes any number there, but as the
        index of a class: of that it makes NaN.

        Args:
            targets: its own targets.
            weight: weight of each row, or of each position; None without.
            row: what a row is called in the message.
            position: number of the first of these rows.

        Returns:
            A clause, or None where they fit.
        """
        columns = self.shape[-1] if self.shape else 1
        misshapen = self.misshapen(targets)
        if misshapen is not None:
            return misshapen
        if self.form == "sparse":
            bad = _first(
                targets,
                lambda y: ((y < 0) | (y >= columns) | (y != np.floor(y))) & (y != self.ignored),
            )
            if bad is not None:
                return (
                    f"expected class indices from 0 to {columns - 1} for {columns} units, "
                    f"received {bad[1]:g} in {row} {position + bad[0]} (from 0)"
                )
        elif self.form != "regression" and not self.masked:
            # Keras takes them in float32, to which 1.0000000000000002 is 1.
            bad = _first(targets, lambda y: (y < 0) | (y.astype(np.float32) > 1), weight)
            if bad is not None:
                return (
                    "expected targets from 0 to 1 for a cross-entropy, "
                    f"received {bad[1]:g} in {row} {position + bad[0]} (from 0)"
                )
        return None

    def misshapen(self, targets: Array) -> str | None:
        """A clause on a shape of targets that does not fit the output's, or None."""
        shape = targets.shape[1:]
        if self.form == "sparse":
            if int(np.prod(shape)) != int(np.prod(self.shape[:-1])):
                return f"expected one class index a row, received targets of shape {shape}"
        elif int(np.prod(shape)) != int(np.prod(self.shape)):
            return f"the output has shape {self.shape} a row, the targets have {shape}"
        return None


def _first(
    targets: Array, wrong: Callable[[Array], Array], weight: Array | None = None
) -> tuple[int, float] | None:
    """Row and value of the first target that is wrong, where its weight is not 0."""
    for start in range(0, len(targets), PIECE):
        piece = slice(start, start + PIECE)
        part = targets[piece].reshape(len(targets[piece]), -1)
        found = wrong(part)
        if weight is not None:
            counts = weight[piece].reshape(len(part), -1) != 0
            found = found & np.repeat(counts, part.shape[1] // counts.shape[1], axis=1)
        bad = np.argwhere(found)
        if len(bad):
            row, column = bad[0]
            return start + int(row), float(part[row, column])
    return None


def find_outputs(model: keras.Model, reporter: Reporter, rows: Readable) -> tuple[Output, ...]:
    """The outputs of a compiled model, in the order of the leaves of what it returns.

    Args:
        model: a built and compiled model.
        reporter: knows the place of a problem.
        rows: training rows.

    Returns:
        One for each output; none for a model that rows cannot be run through.

    Raises:
        InvalidError: outputs and targets cannot be told to belong together.
    """
    if not layers.is_callable(model):
        return ()
    x, y, _ = rows.first(2)
    found = leaves(model(x, training=False))
    paths = [path for path, _ in found]
    names = _names(paths, model)
    given = _losses(getattr(model, "loss", None), names)
    trained = [index for index, loss in enumerate(given) if loss is not None]
    targets = _matched(names, paths, _places(y), trained, reporter)
    own = [None if target is None else dict(leaves(y))[target] for target in targets]
    losses = [
        _loss(each, of_y, prediction)
        for each, of_y, (_, prediction) in zip(given, own, found, strict=True)
    ]
    forms = [_form(loss) for loss in losses]
    ends = [""] * len(found) if None not in forms else _ends(model, x)
    aside = own_way(model)
    weights = _losses(_loss_weights(model), names)
    made = []
    for index, (_, prediction) in enumerate(found):
        idle = _without_loss(model, given[index], weights[index] if len(found) > 1 else None)
        known, loss = forms[index], losses[index]
        output = Output(
            name=names[index] if len(found) > 1 else "",
            target=targets[index],
            shape=tuple(prediction.shape[1:]),
            form=known or _form_by_activation(ends[index], own[index]),
            from_logits=loss is not None and loss.from_logits,
            ignored=None if loss is None else loss.ignored,
            guessed=known is None,
            unjudged=aside or idle,
            trained=aside is not None or model.loss is None or idle is None,
            loss=None if aside or idle or targets[index] is None else loss,
            masked=keras_internals.attached_mask(prediction) is not None,
            compared=targets[index],
        )
        first = own[index]
        if known is None and first is not None:
            output = _corrected(output, first, rows)
        made.append(output)
    return tuple(made)


def _corrected(output: Output, first: Array, rows: Readable) -> Output:
    """An output whose form was guessed from its activation, once its targets were looked at.

    Targets of another shape are compared with it in a way that only the user's own loss knows;
    targets that are no classes make it a regression.

    Args:
        output: the output as guessed.
        first: its targets of the first rows.
        rows: all rows.
    """
    if output.misshapen(first) is not None:
        return dataclasses.replace(output, target=None)
    if output.form == "sparse":
        return output
    targets = _all_targets(output, rows, first)
    # Shares of something, such as the brightness of pixels, are no classes either.
    if _first(targets, lambda y: (y != 0) & (y != 1)) is not None:
        return dataclasses.replace(output, form="regression")
    return output


def _names(paths: Sequence[str], model: keras.Model) -> list[str]:
    """Keras's names of the outputs."""
    known = getattr(model, "output_names", None)
    by_position = all(path.isdecimal() or not path for path in paths)
    if known is not None and by_position and len(known) == len(paths):
        return list(known)
    return list(paths)


def _places(y: Tree) -> list[str | None]:
    """Paths of the targets, with None where a list of them has none for an output."""
    known = [path for path, _ in leaves(y)]
    if isinstance(y, tuple) and all(path.isdecimal() for path in known):
        return [path if path in known else None for path in map(str, range(len(y)))]
    return [*known]


def _matched(
    names: Sequence[str],
    paths: Sequence[str],
    places: Sequence[str | None],
    trained: Sequence[int],
    reporter: Reporter,
) -> list[str | None]:
    """Which targets belong to each output: by name, by position, or the only ones to the only.

    As many as there are losses belong to the outputs that have one, in this order.
    """
    targets = [path for path in places if path is not None]
    if not targets:
        return [None] * len(names)
    by_position = targets == [""] or all(path.isdecimal() for path in targets)
    if by_position and len(names) > len(trained) == len(places):
        found: list[str | None] = [None] * len(names)
        for index, place in zip(trained, places, strict=True):
            found[index] = place
        return found
    if len(names) == len(targets) == 1 and targets[0] in ("", "0", paths[0]):
        return [targets[0]]
    if targets == [""]:
        message = f"the model has the outputs {', '.join(names)}, the targets are one array"
        hint = "give targets by output name: a dict of arrays, or target: {OUTPUT: COLUMN, …}"
        raise InvalidError([reporter.problem(("data", "train"), message, hint)])
    if by_position:
        if len(places) != len(names):
            message = f"the model has {len(names)} outputs, there are targets for {len(places)}"
            raise InvalidError([reporter.problem(("data", "train"), message)])
        return list(places)
    if paths[0] in ("", "0") and len(paths) == 1:  # here Keras takes no dict, even of the name
        message = f"the model has one output, the targets have names: {', '.join(targets)}"
        hint = "give them as one array, or let the model return a dict of outputs"
        raise InvalidError([reporter.problem(("data", "train"), message, hint)])
    for path in targets:
        if path not in names:
            message = f"the model has no output {path!r} for these targets"
            hint = suggestion(path, names)
            raise InvalidError([reporter.problem(("data", "train"), message, hint)])
    return [name if name in targets else None for name in names]


def _losses(loss: Any, names: Sequence[str]) -> list[Any]:
    """The loss of each output, or its weight; None where it has none."""
    if isinstance(loss, Mapping):
        return [loss.get(name) for name in names]
    if isinstance(loss, list | tuple) and len(names) == 1:
        return [loss[0]]  # Keras takes the first one
    if isinstance(loss, list | tuple) and len(loss) == len(names):
        return list(loss)
    return [loss] * len(names)


def _loss_weights(model: keras.Model) -> Any:
    """What the losses of a compiled model are weighted by; of several outputs, 0 trains none."""
    return compile_arguments(model).get("loss_weights") if model.compiled else None


def find_untrained(model: keras.Model, reporter: Reporter, rows: Readable) -> frozenset[int]:
    """Numbers of the outputs that no loss trains, or whose targets never vary; see `find_outputs`.

    Keras's losses teach a constant then, which a dead network gives as well as any.
    """
    constant = {path for path, targets in leaves(getattr(rows, "y", None)) if _is_constant(targets)}
    told_apart = (getattr(model, "loss", None), _loss_weights(model))
    if not constant and not any(isinstance(each, Mapping | list | tuple) for each in told_apart):
        return frozenset()
    found = find_outputs(model, reporter, rows)
    return frozenset(
        index
        for index, output in enumerate(found)
        if not output.trained
        or (output.target in constant and output.loss is not None and output.loss.is_keras)
    )


def _is_constant(targets: Array) -> bool:
    """Whether every column of some targets is the same on all rows."""
    return all(
        bool((targets[start : start + PIECE] == targets[:1]).all())
        for start in range(0, len(targets), PIECE)
    )


def _loss(given: Any, y: Array | None, prediction: Any) -> OutputLoss | None:
    """The loss of an output; None where it has none, or one that Keras will refuse."""
    if given is None:
        return None
    try:
        return OutputLoss(given, prediction if y is None else y, prediction)
    except (TypeError, ValueError):
        return None


def own_way(model: keras.Model) -> str | None:
    """A clause on a model that does not train on the loss that it was compiled with, or None."""
    for name in ("train_step", "compute_loss"):
        if getattr(type(model), name) is not getattr(keras.Model, name):
            return f"the model has a {name} of its own"
    return None


def _without_loss(model: keras.Model, loss: Any, weight: Any) -> str | None:
    """A clause on an output that a compiled model has no loss for, or one that counts for nothing.

    None where it has a loss that counts.
    """
    if model.compiled and loss is None:
        return "no loss is compiled for it"
    return "its loss has a weight of 0" if weight == 0 else None


def _form(loss: OutputLoss | None) -> Form | None:
    """How targets and predictions are written, for a loss of Keras's."""
    if loss is None or not loss.is_keras or loss.name in _WITHOUT_FORM:
        return None
    return _FORMS.get(loss.name, "regression")


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
        return [end_of(output) for output in graph.outputs]
    except Exception:  # noqa: BLE001 - the search for activation sites reports what cannot be traced
        return [""] * len(leaves(model(x, training=False)))


def _all_targets(output: Output, rows: Readable, first: Array) -> Array:
    """An output's targets of all rows, where they are known; else those of the first rows."""
    y = getattr(rows, "y", None)
    found = None if y is None else output.targets(y)
    return first if found is None else found


def _form_by_activation(end: str, targets: Array | None) -> Form:
    """The form where the loss is the user's own: by the operation that makes the output."""
    if end == "Softmax":
        one_hot = targets is not None and targets.ndim > 1 and targets.shape[-1] > 1
        return "categorical" if one_hot else "sparse"
    return "binary" if end == "Sigmoid" else "regression"
