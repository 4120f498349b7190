"""What an output is worth: its columns, and its loss beside that of the best constant."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from orchestrator.diagnosis.skill.columns import OutputSkill
from orchestrator.diagnosis.skill.loss import LossMeter
from orchestrator.diagnosis.skill.score import Score
from orchestrator.model.losses.constants import Constant
from orchestrator.model.losses.output_loss import OutputLoss
from orchestrator.model.outputs import Output

_ASSUMED = {
    "regression": "mean_squared_error",
    "binary": "binary_crossentropy",
    "categorical": "categorical_crossentropy",
    "sparse": "sparse_categorical_crossentropy",
}
"""What a score measures, by the form of its output: a model that is not compiled is judged by it.
"""
_RANGED = ("Relu", "Sigmoid", "Softmax", "Softplus", "Tanh")
"""Operations that cannot make every number."""
_NEGATIVE = "its loss is negative, so that no share of it is a skill"
_NO_ROOM = "a constant prediction has no loss at all"


def worth(
    output: Output, score: Score, meter: LossMeter | None, *, complete: bool
) -> list[OutputSkill]:
    """What the columns of an output are worth.

    Args:
        output: the output.
        score: how its predictions vary, and their squared error or cross-entropy.
        meter: its loss as Keras logs it; None where it has none, or no targets.
        complete: whether all rows were seen.

    Returns:
        One entry for each column, where a column has a loss of its own, or else one in all.
    """
    columns = [dataclasses.replace(each, name=output.name) for each in score.outputs()]
    if meter is None or output.loss is None:
        if output.unjudged is None:
            return [_assumed(each, output) for each in columns]
        aside = _aside(_joint(columns), output.unjudged)
        if output.trained:
            return [aside]
        return [dataclasses.replace(aside, trained=False, variance_ratio=None, information=None)]
    if meter.failed:
        return [_aside(_joint(columns), meter.unjudged)]
    if output.form == "regression" and not output.loss.has_formula and not score.directions:
        columns = _without_outliers(columns, meter.usual_variance(len(columns)))
    figure = meter.figure
    if not figure.shape:
        columns = [_joint(columns)]
    columns = [
        dataclasses.replace(
            each,
            function=output.loss.name,
            by_spread=output.loss.has_formula,
            loss=float(loss),
            skill=None,
            constant_loss=None,
        )
        for each, loss in zip(columns, np.broadcast_to(figure, len(columns)), strict=True)
    ]
    if output.unjudged is not None:
        return [dataclasses.replace(each, unjudged=output.unjudged) for each in columns]
    constant = _formula(output, output.loss, score, meter, figure.shape)
    if constant is None and complete:
        constant = meter.constant()
    if not output.loss.is_keras:
        comparable = constant is None or constant.comparable
        columns = [each if each.varies and comparable else _alone(each) for each in columns]
    return columns if constant is None else _compared(columns, constant)


def _without_outliers(
    columns: list[OutputSkill], variances: npt.NDArray[np.float64] | None
) -> list[OutputSkill]:
    """The columns with their spread beside that of the targets but for the outliers.

    Squared error is about the outliers more than anything else; under all other losses a healthy
    prediction leaves them aside.
    """
    if variances is None:
        return columns
    return [
        dataclasses.replace(
            each,
            variance_ratio=each.variance_ratio * each.constant_loss / float(variance),
            constant_loss=float(variance),
        )
        if each.variance_ratio is not None and each.constant_loss and variance < each.constant_loss
        else each
        for each, variance in zip(columns, variances, strict=True)
    ]


def _alone(column: OutputSkill) -> OutputSkill:
    """A column whose spread says nothing beside that of the targets: it is enough that it has one.

    Targets that are always the same are most often a dummy that the loss does not look at.
    """
    return dataclasses.replace(column, varies=None, variance_ratio=None, information=None)


def _formula(
    output: Output, loss: OutputLoss, score: Score, meter: LossMeter, shape: tuple[int, ...]
) -> Constant | None:
    """The best constant's loss where it follows from the targets' means.

    The score has that of the output's form, which is another where the config says so.
    """
    if loss.name != _ASSUMED[output.form]:
        return None
    reachable = meter.origin.found or meter.origin.end not in _RANGED
    known = [each.constant_loss for each in score.outputs()]
    if not loss.has_formula or meter.masked or len(known) != int(np.prod(shape)):
        return None
    if not reachable and (loss.from_logits or loss.name == "mean_squared_error"):
        return None
    losses = np.array([math.nan if each is None else each for each in known])
    return Constant(loss=(losses * score.mean_weight()).reshape(shape))


def _compared(columns: Sequence[OutputSkill], constant: Constant) -> list[OutputSkill]:
    """The columns with their skill."""
    if constant.unjudged is not None:
        return [dataclasses.replace(each, unjudged=constant.unjudged) for each in columns]
    size = len(columns)
    lowest = None if constant.lowest is None else np.broadcast_to(constant.lowest, size)
    usual = np.broadcast_to(False if constant.usual is None else np.all(constant.usual), size)
    if constant.usual is not None and np.size(constant.usual) == size:
        usual = np.reshape(constant.usual, size)
    return [
        _skilled(
            dataclasses.replace(column, usual=bool(usual[index])),
            float(best),
            None if lowest is None else float(lowest[index]),
        )
        for index, (column, best) in enumerate(
            zip(columns, np.broadcast_to(constant.loss, size), strict=True)
        )
    ]


def _skilled(column: OutputSkill, best: float, lowest: float | None) -> OutputSkill:
    """A column with what its loss is worth beside that of the best constant."""
    loss, floor = column.loss, lowest or 0.0
    if column.varies is False or loss is None:
        return column
    if lowest is None and (loss < 0 or best < 0):
        return dataclasses.replace(column, unjudged=_NEGATIVE)
    if not best > floor and not math.isnan(loss):
        return dataclasses.replace(column, unjudged=_NO_ROOM)
    return dataclasses.replace(
        column,
        constant_loss=best,
        lowest_loss=lowest,
        skill=1.0 - (loss - floor) / (best - floor),
    )


def _assumed(column: OutputSkill, output: Output) -> OutputSkill:
    if column.skill is None:
        return column
    return dataclasses.replace(column, function=_ASSUMED[output.form])


def _aside(column: OutputSkill, reason: str | None) -> OutputSkill:
    return dataclasses.replace(column, skill=None, loss=None, constant_loss=None, unjudged=reason)


def _joint(columns: Sequence[OutputSkill]) -> OutputSkill:
    """Columns that have one loss in all, as one: their spread is that of all together."""
    first = columns[0]
    if len(columns) == 1:
        return first
    varying = [each for each in columns if each.varies]
    spreads = np.array([each.constant_loss or 0.0 for each in varying])

    def mean(values: Sequence[float | None]) -> float | None:
        if not varying or any(value is None for value in values):
            return None
        return float(np.array(values, np.float64) @ spreads / spreads.sum())

    told: dict[str, Any] = {
        "variance_ratio": mean([each.variance_ratio for each in varying]),
        "information": mean([each.information for each in varying]),
    }
    return dataclasses.replace(
        varying[0] if varying else first,
        output=first.output,
        distinct=any(each.distinct for each in columns),
        constant_class=bool(varying) and all(each.constant_class for each in varying),
        **told,
    )
