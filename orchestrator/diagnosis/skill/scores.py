"""What all outputs of a model are worth, from its batches: no prediction is kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from orchestrator.config.sections.checks import PredictionVariance
from orchestrator.data.rows import Readable, Rows, Tree
from orchestrator.diagnosis.skill.columns import OutputSkill, spread
from orchestrator.diagnosis.skill.score import Score
from orchestrator.model.outputs import Output


class Scores:
    """What each output of a model is worth, from its batches.

    Args:
        outputs: the model's outputs.
    """

    def __init__(self, outputs: Sequence[Output]) -> None:
        self._outputs = outputs
        self._scores = [
            Score(output.form, from_logits=output.from_logits, ignored=output.ignored)
            for output in outputs
        ]
        self._rows = 0
        self._bad = [0] * len(outputs)
        self._first_bad: list[int | None] = [None] * len(outputs)

    def see(self, predictions: Sequence[npt.NDArray[Any]], y: Tree, weight: Any) -> None:
        """Take in one batch.

        Args:
            predictions: of each output, shape (rows, …).
            y: targets of all outputs, or None.
            weight: weight of each row, shape (rows,), or None.
        """
        for index, (output, values) in enumerate(zip(self._outputs, predictions, strict=True)):
            flat = values.reshape(len(values), -1)
            bad = np.flatnonzero(~np.isfinite(flat).all(axis=1))
            if len(bad):
                self._bad[index] += len(bad)
                if self._first_bad[index] is None:
                    self._first_bad[index] = self._rows + int(bad[0])
            targets = None if y is None else output.targets(y)
            with np.errstate(over="ignore", invalid="ignore"):  # what is not finite has been noted
                self._scores[index].add(targets, values, weight)
        self._rows += len(predictions[0]) if len(predictions) else 0

    def columns(self) -> list[list[OutputSkill]]:
        """What each output is worth, column by column, under its name."""
        with np.errstate(over="ignore", invalid="ignore"):
            return [
                [_told(column, output) for column in score.outputs()]
                for output, score in zip(self._outputs, self._scores, strict=True)
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
        if judged and (not isinstance(rows, Rows) or rows.weight is not None):
            return None
        spreads: list[tuple[int, list[float]]] = []
        for output in self._outputs:
            y = output.targets(rows.y) if isinstance(rows, Rows) else None
            if y is None:  # it is enough that predictions differ
                spreads.append((0, []))
                continue
            if any(size is None for size in output.shape) or output.ignored is not None:
                return None
            columns = output.shape[-1] if output.shape else 1
            count = len(rows) * int(np.prod(output.shape[:-1]))
            spreads.append((count, spread(y, output.form, columns)))
        bounds = (limits.min_ratio, limits.min_information)
        return lambda: all(
            score.is_certain(count, varies, bounds)
            for score, (count, varies) in zip(self._scores, spreads, strict=True)
        )


def _told(column: OutputSkill, output: Output) -> OutputSkill:
    """A column under its output's name, without skill where that is not judged."""
    if output.unjudged is None:
        return dataclasses.replace(column, name=output.name)
    return dataclasses.replace(
        column,
        name=output.name,
        skill=None,
        loss=None,
        constant_loss=None,
        unjudged=output.unjudged,
        trained=output.trained,
        variance_ratio=column.variance_ratio if output.trained else None,
        information=column.information if output.trained else None,
    )
