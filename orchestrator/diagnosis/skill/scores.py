"""What all outputs of a model are worth, from its batches: no prediction is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from orchestrator.config.sections.checks import PredictionVariance
from orchestrator.data.rows import Readable, Rows, Tree, is_text, leaves
from orchestrator.diagnosis.skill.columns import OutputSkill, spread, together
from orchestrator.diagnosis.skill.loss import LossMeter
from orchestrator.diagnosis.skill.score import Score
from orchestrator.diagnosis.skill.worth import worth
from orchestrator.model.losses.returned import Returned
from orchestrator.model.outputs import Output

_PROBABILITIES = ("Sigmoid", "Softmax")
"""Operations that make probabilities, whatever the loss was told of logits."""
ALIKE = 0.9
"""Correlation of targets with inputs from which on they are these inputs, perhaps with noise."""


class Scores:
    """What each output of a model is worth, from its batches.

    Args:
        outputs: the model's outputs.
        batch_size: rows for which Keras takes a loss at once, where that makes a difference.
        class_weight: weight of every class of the only output, as in training; None without.
    """

    def __init__(
        self,
        outputs: Sequence[Output],
        batch_size: int = 32,
        class_weight: Mapping[int, float] | None = None,
    ) -> None:
        self._outputs = outputs
        self._class_weight = class_weight
        self._batch_size = batch_size
        self._scores: list[Score] = []
        self._meters: list[LossMeter | None] = [None] * len(outputs)
        self._rows = 0
        self._bad = [0] * len(outputs)
        self._first_bad: list[int | None] = [None] * len(outputs)
        self._repeats = [False] * len(outputs)

    def see(self, returned: Sequence[Returned], y: Tree, weight: Any, x: Tree = None) -> None:
        """Take in one batch.

        Args:
            returned: what the model returned for each output, of shape (rows, …).
            y: targets of all outputs, or None.
            weight: weight of each row or position, or None.
            x: inputs, by which it is told whether an output is to be one of them; None where that
                does not matter.
        """
        if not self._scores:
            self._begin(returned, y)
            if x is not None and y is not None:
                self._repeats = [is_to_repeat(each, x, y) for each in self._outputs]
        weight = self._weighed(y, weight)
        for index, (output, each) in enumerate(zip(self._outputs, returned, strict=True)):
            values = each.value.numpy()
            flat = values.reshape(len(values), -1)
            bad = np.flatnonzero(~np.isfinite(flat).all(axis=1))
            if len(bad):
                self._bad[index] += len(bad)
                if self._first_bad[index] is None:
                    self._first_bad[index] = self._rows + int(bad[0])
            targets = None if y is None else output.targets(y)
            with np.errstate(over="ignore", invalid="ignore"):  # what is not finite has been noted
                self._scores[index].add(targets, values, _counted(weight, each))
            meter, compared = self._meters[index], output.compared_targets(y)
            if meter is not None and compared is not None:
                meter.add(each, compared, weight)
        self._rows += returned[0].value.shape[0] if returned else 0

    def _weighed(self, y: Tree, weight: Any) -> Any:
        """The weights times those of the rows' classes, as Keras's `fit` takes them."""
        if self._class_weight is None or y is None:
            return weight
        ((_, targets),) = leaves(y)  # of the only output, perhaps by its name
        if targets.ndim == 2 and targets.shape[-1] != 1:
            classes = targets.argmax(axis=-1)
        else:
            classes = np.round(targets.reshape(-1)).astype(np.int64)
        table = np.array([self._class_weight[index] for index in range(len(self._class_weight))])
        return table[classes] if weight is None else table[classes] * weight

    def _begin(self, returned: Sequence[Returned], y: Tree) -> None:
        for index, (output, each) in enumerate(zip(self._outputs, returned, strict=True)):
            logits = is_logits(output, each)
            loss = output.loss
            directions = loss is not None and loss.is_keras and loss.name == "cosine_similarity"
            self._scores.append(
                Score(
                    output.form, from_logits=logits, ignored=output.ignored, directions=directions
                )
            )
            if loss is not None and y is not None and output.compared is not None:
                self._meters[index] = LossMeter(loss, output.form, self._batch_size)

    def columns(self, *, complete: bool = True) -> list[list[OutputSkill]]:
        """What each output is worth, column by column, under its name.

        Args:
            complete: whether all rows were seen, so that it is worth while to look for the best
                constant of a loss that has no formula.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            return [
                together(worth(output, score, meter, complete=complete), repeats=repeats)
                for output, score, meter, repeats in zip(
                    self._outputs, self._scores, self._meters, self._repeats, strict=True
                )
            ]

    def non_finite(self) -> list[str]:
        """A clause for each output with predictions that are not finite."""
        found = []
        for index, (bad, first) in enumerate(zip(self._bad, self._first_bad, strict=True)):
            name = (
                f" of output {self._outputs[index].name or index}" if len(self._outputs) > 1 else ""
            )
            if bad:
                found.append(
                    f"the prediction{name} of {bad} of {self._rows} rows is not finite, "
                    f"first of row {first}"
                )
        return found

    def certainty(
        self, rows: Readable, limits: PredictionVariance | None
    ) -> Callable[[], bool] | None:
        """What tells whether no row still to be read can make a prediction count as constant.

        Args:
            rows: all rows.
            limits: the check's limits; None where it is off.

        Returns:
            None where that cannot be told before the end.
        """
        if limits is None:
            return lambda: True
        judged = [output for output in self._outputs if output.target is not None]
        if judged and not isinstance(rows, Rows):
            return None
        weight = self._weighed(rows.y, rows.weight) if isinstance(rows, Rows) else None
        spreads: list[tuple[float, list[float]]] = []
        for output in self._outputs:
            y = output.targets(rows.y) if isinstance(rows, Rows) else None
            if y is None:  # it is enough that predictions differ
                spreads.append((0, []))
                continue
            if any(size is None for size in output.shape) or output.ignored is not None:
                return None
            columns = output.shape[-1] if output.shape else 1
            positions = len(rows) * int(np.prod(output.shape[:-1]))
            weights = None
            if weight is not None:
                weights = np.asarray(weight, np.float64).reshape(-1)
                weights = np.repeat(weights, positions // len(weights))
            total = positions if weights is None else float(weights.sum())
            spreads.append((total, spread(y, output.form, columns, weights)))
        bounds = (limits.min_ratio, limits.min_information)
        return lambda: (
            bool(self._scores)
            and all(
                score.is_certain(count, varies, bounds)
                for score, (count, varies) in zip(self._scores, spreads, strict=True)
            )
        )


def is_to_repeat(output: Output, x: Tree, y: Tree) -> bool:
    """Whether an output is to be one of the inputs, perhaps scaled, or cleared of noise.

    Args:
        output: the output.
        x: inputs of a few rows, each of shape (rows, …).
        y: targets of all outputs.
    """
    targets = output.targets(y)
    if targets is None or output.form not in ("regression", "binary"):
        return False
    wanted = np.asarray(targets, np.float64).reshape(len(targets), -1)
    for _, array in leaves(x):
        if is_text(array) or array.size != wanted.size:
            continue
        given = np.asarray(array, np.float64).reshape(wanted.shape)
        pairs = [each - each.mean(axis=0) for each in (given, wanted)]
        norms = np.prod([np.linalg.norm(each, axis=0) for each in pairs], axis=0)
        alike = np.sum(pairs[0] * pairs[1], axis=0)[norms > 0] / norms[norms > 0]
        if len(alike) and np.median(alike) > ALIKE:
            return True
    return False


def is_logits(output: Output, returned: Returned) -> bool:
    """Whether what an output returned are logits: its loss takes them, and no softmax made it."""
    return output.from_logits and returned.origin.end not in _PROBABILITIES


def _counted(weight: Any, returned: Returned) -> npt.NDArray[Any] | None:
    """The weights, 0 where Keras's mask leaves a position out."""
    if returned.mask is None or tuple(returned.mask.shape) != tuple(
        returned.value.shape[: returned.mask.shape.rank]
    ):
        return None if weight is None else np.asarray(weight)
    mask = np.asarray(returned.mask.numpy(), np.float64)
    if weight is None:
        return mask
    weights = np.asarray(weight, np.float64)
    return mask * weights.reshape(weights.shape + (1,) * (mask.ndim - weights.ndim))
