"""What each output has learnt, beside what the reference learns from the same rows."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from orchestrator.data.rows import Tree
from orchestrator.diagnosis.skill.columns import read_logits, read_probabilities, two_classes
from orchestrator.diagnosis.skill.reference import LEAST_ROWS, MOST_TARGETS, fit_reference
from orchestrator.diagnosis.skill.sample import Sample, as_columns
from orchestrator.diagnosis.skill.scores import ALIKE, is_logits
from orchestrator.model.losses.returned import Returned
from orchestrator.model.outputs import Output

_Array = npt.NDArray[Any]

_SQUARED = frozenset({"huber", "mean_absolute_error", "mean_squared_error"})
"""Losses of numbers whose predictions are measured by their squared error."""
_MEDIANS = frozenset({"huber", "mean_absolute_error"})
"""Losses that leave the squared error aside where targets are skewed: what they train is measured
by the absolute error, too, and the measure counts that favours it."""
_CLASSES = frozenset(
    {"binary_crossentropy", "categorical_crossentropy", "sparse_categorical_crossentropy"}
)
"""Losses of classes; their probabilities are measured by their squared error."""
_LEAST_REFERENCE = 0.1
"""Skill of the reference below which there is nothing that a simple model learns."""
_COMPARED_ROWS = 1000
"""Rows on which inputs and targets are compared."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Learnt:
    """What one output has learnt."""

    output: int
    """Its number, counted from 0."""
    name: str = ""
    """Keras's name of it, where the model has several."""
    skill: float | None = None
    """Skill of the network."""
    reference: float | None = None
    """Skill of the reference, on the same rows, by the same measure."""
    linear: float | None = None
    """Skill of the reference's linear model alone."""
    share_at_most: float | None = None
    """The most that the share may be, by the scatter of the rows."""
    by_absolute_error: bool = False
    """Whether skill and reference are those of the absolute error instead of the squared one."""
    unjudged: str | None = None
    """Why the two cannot be put beside each other, as a clause; None where they can."""

    @property
    def share(self) -> float | None:
        """Share of the reference's skill that the network has."""
        if self.unjudged is not None or self.skill is None or not self.reference:
            return None
        return self.skill / self.reference


class Lesson:
    """Takes in a pass over the rows, and tells what each output has learnt.

    Args:
        outputs: the model's outputs.
        obstacle: why none of them can be judged, as a clause; None where they may.
    """

    def __init__(self, outputs: Sequence[Output], obstacle: str | None = None) -> None:
        self._outputs = outputs
        self._why_not = [obstacle or _why_not(output) for output in outputs]
        self._sample = Sample()

    def see(self, x: Tree, returned: Sequence[Returned], y: Tree, weight: Any) -> None:
        """Take in one batch.

        Args:
            x: inputs, each of shape (rows, …).
            returned: what the model returned for each output.
            y: targets of all outputs, or None.
            weight: weight of each row, or None.
        """
        if weight is not None:
            self._leave_out("rows have weights, and the reference knows none")
        inputs = None if all(self._why_not) else as_columns(x)
        if inputs is None:
            self._leave_out("there are texts among the inputs")
            return
        kept = [inputs]
        for index in self._judged():
            output = self._outputs[index]
            targets = None if y is None else output.targets(y)
            if targets is None:
                self._why_not[index] = "there are no targets"
                continue
            kept += [targets.reshape(len(targets), -1), read_predictions(output, returned[index])]
        self._sample.add(*kept)

    def _leave_out(self, reason: str) -> None:
        self._why_not = [each or reason for each in self._why_not]

    def _judged(self) -> list[int]:
        return [index for index, reason in enumerate(self._why_not) if reason is None]

    def found(self) -> list[Learnt]:
        """What each output has learnt."""
        inputs, *others = self._sample.arrays or [np.zeros((0, 1), np.float32)]
        pairs = dict(zip(self._judged(), zip(others[::2], others[1::2], strict=True), strict=True))
        return [
            _compared(
                Learnt(output=index, name=output.name, unjudged=self._why_not[index]),
                output, inputs, *pairs[index],
            )
            if index in pairs
            else Learnt(output=index, name=output.name, unjudged=self._why_not[index])
            for index, output in enumerate(self._outputs)
        ]  # fmt: skip


def _why_not(output: Output) -> str | None:
    """Why an output is not put beside the reference, as far as that does not hang on its rows."""
    loss = output.loss
    if output.unjudged is not None or not output.trained:
        return output.unjudged or "no loss trains it"
    if loss is None:
        no_targets = output.compared is None
        return "there are no targets" if no_targets else "it is not known what loss trains it"
    measured = _SQUARED if output.form == "regression" else _CLASSES
    is_measured = loss.is_keras and loss.name in measured and loss.ignored is None
    if output.guessed or output.target is None or not is_measured:
        return f"its loss, {loss.name}, is none that the reference is measured by"
    if math.prod(size or 0 for size in output.shape[:-1]) != 1:
        return "a row has several positions"
    return None


def read_predictions(output: Output, returned: Returned) -> npt.NDArray[np.float32]:
    """Predictions as numbers in columns, those of classes as probabilities."""
    values = np.asarray(returned.value.numpy(), np.float64)
    values = values.reshape(len(values), -1)
    logits = is_logits(output, returned)
    if output.form in ("categorical", "sparse"):
        values = (read_logits if logits else read_probabilities)(values)[0]
    elif output.form == "binary":
        columns = (two_classes(None, column, logits)[1][:, 1] for column in values.T)
        values = np.stack([*columns], axis=1)
    return values.astype(np.float32)


def _compared(
    learnt: Learnt, output: Output, x: _Array, targets: _Array, predicted: _Array
) -> Learnt:
    """What was learnt of the rows that were kept."""
    if output.form == "sparse":
        targets, predicted = _frequent(targets, predicted)
    if len(x) < LEAST_ROWS:
        reason = f"of {len(x)} rows nothing can be told, {LEAST_ROWS} are enough"
        return dataclasses.replace(learnt, unjudged=reason)
    reference = fit_reference(x, targets)
    if reference is None:
        return dataclasses.replace(learnt, unjudged="the targets do not vary")
    if _is_input(x, targets[:, reference.targets]):
        return dataclasses.replace(learnt, unjudged="the targets occur among the inputs")
    medians = output.loss is not None and output.loss.name in _MEDIANS
    judged = []
    for by_absolute_error in (False, True) if medians else (False,):
        compared = reference.compare(predicted, targets, absolute=by_absolute_error)
        own, other = compared.skills
        judged.append(
            dataclasses.replace(
                learnt,
                skill=own,
                reference=other if by_absolute_error else reference.skill,
                linear=None if by_absolute_error else reference.linear,
                share_at_most=compared.share_at_most,
                by_absolute_error=by_absolute_error,
            )
        )
    for each in judged:
        if not (each.reference or 0.0) >= _LEAST_REFERENCE:
            reason = (
                f"the reference learns nothing here (skill {each.reference:.2g} on held-back "
                "rows), and does not tell whether more can be learnt"
            )
            return dataclasses.replace(each, unjudged=reason)
    return max(judged, key=lambda each: each.share or 0.0)


def _frequent(classes: _Array, predicted: _Array) -> tuple[_Array, _Array]:
    """Class indices as one column for each of the most frequent, and the predictions of these."""
    indices = classes[:, 0].astype(np.int64)
    counts = np.bincount(indices, minlength=predicted.shape[1])
    chosen = np.sort(np.argsort(-counts, kind="stable")[:MOST_TARGETS])
    return np.equal(indices[:, np.newaxis], chosen).astype(np.float32), predicted[:, chosen]


def _is_input(x: _Array, targets: _Array) -> bool:
    """Whether targets are inputs, as those of an autoencoder.

    One column is, where it is the same as one of the inputs; of several, where most of them are
    close to one each, as behind a scaling, or where the inputs are the targets with noise.
    """
    x, targets = x[:_COMPARED_ROWS], targets[:_COMPARED_ROWS].astype(np.float32)
    if targets.shape[1] == 1:
        return bool((x == targets).all(axis=0).any())
    left, right = (each - each.mean(axis=0) for each in (x, targets))
    norms = np.outer(np.linalg.norm(left, axis=0), np.linalg.norm(right, axis=0))
    alike = np.abs(left.T @ right) / np.where(norms > 0, norms, 1)
    return bool(np.median(alike.max(axis=0)) > ALIKE)
