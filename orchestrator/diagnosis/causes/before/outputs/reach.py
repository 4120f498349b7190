"""Targets that an output cannot reach, by the range of its activation."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from msgspec.structs import replace

from orchestrator.diagnosis.causes.before.outputs import fixes
from orchestrator.diagnosis.causes.before.outputs.labels import (
    numbered_classes,
    units_of_softmax,
)
from orchestrator.diagnosis.causes.before.outputs.one_unit import is_one_unit_softmax
from orchestrator.diagnosis.causes.before.subject import Subject
from orchestrator.diagnosis.skill.scores import is_to_repeat
from orchestrator.model.losses.returned import Returned
from orchestrator.model.outputs import Output
from orchestrator.model.remedies import leaky_relu
from orchestrator.record.checks import OutputShare
from orchestrator.record.records import Finding

_RANGES = {
    "relu": (0.0, math.inf),
    "relu6": (0.0, 6.0),
    "exponential": (0.0, math.inf),
    "hard_sigmoid": (0.0, 1.0),
    "sigmoid": (0.0, 1.0),
    "softmax": (0.0, 1.0),
    "softplus": (0.0, math.inf),
    "softsign": (-1.0, 1.0),
    "tanh": (-1.0, 1.0),
}
"""Lowest and highest value of an activation, by Keras's name."""
_ROUNDING = 1e-6
"""Share of a range, or of the largest target where it has no end, that float32 does not tell from
nothing: scaled targets may end at 1.0000000000000002."""
_FEW_ROWS = 256
"""Rows on which a loss of the user's own is asked."""
_NEAREST = fixes.DISTANCES | {
    "mean_absolute_percentage_error",
    "mean_squared_logarithmic_error",
    "poisson",
}
"""Losses of Keras's of which the nearest prediction to each target is the best."""
_SKILLS = frozenset({"mean_absolute_error", "mean_squared_error"})
"""Those whose best constant follows from the targets at once."""
_SIGNS = frozenset({"hinge", "squared_hinge"})
"""Losses of Keras's that take 0 and 1 as -1 and 1."""


def find_unreachable_targets(subject: Subject) -> Iterator[Finding]:
    """Targets that the activation of an output cannot reach.

    Certain where the best prediction within reach is a constant, or under squared or absolute error
    so much worse than the best constant that it fails, or where an output that is to be its own
    input is kept from what `learned` asks of others; and no remedy changes that activation. Not
    where some positions are masked, for those that are not are known of a few rows alone.
    """
    for index, activation, values in _bounded(subject):
        if _beyond(values, activation):
            kept = _keeps_from_input(subject, index, activation, values)
            hopeless = kept is not None or _is_hopeless(subject, index, activation, values)
            certain = hopeless and not subject.is_masked(index)
            found = _beyond_reach(subject, index, activation, values, certain=certain)
            yield found if kept is None else replace(found, reason=f"{found.reason}, {kept}")
        elif activation == "softmax" and values.shape[-1] > 1:
            yield from _not_full(subject, index, values)


def find_targets_out_of_reach(
    subject: Subject, shares: Sequence[OutputShare], least: float, *, certain_below: float
) -> Iterator[Finding]:
    """Targets of which no prediction within reach has learnt enough.

    Asked after a training has failed by that, or is warned of it, for before none knows how much
    there is to learn.

    Args:
        subject: the model and its rows.
        shares: what each output has learnt, and the reference.
        least: the share of the reference's skill that is enough.
        certain_below: that below which none passes, and the finding is certain.
    """
    for index, activation, values in _bounded(subject):
        share = next((each for each in shares if each.output == index), None)
        if share is None or share.reference is None or not _beyond(values, activation):
            continue
        skills = _skills(values, *_RANGES[activation], absolute=share.by_absolute_error)
        best = float(skills.max(initial=-math.inf))
        if best < least * share.reference:
            found = _beyond_reach(subject, index, activation, values, certain=True)
            reason = (
                f"{found.reason}, so that no prediction has a skill above {best:.2g}, where the "
                f"reference has {share.reference:.3g}"
            )
            certain = found.certain and best < certain_below * share.reference
            yield replace(found, reason=reason, found="after", certain=certain)


def is_within_reach(subject: Subject, index: int) -> bool:
    """Whether the activation of an output has two ends, and all of its targets lie between them."""
    activation = _activation(subject, index)
    ends = _RANGES.get(activation, (-math.inf, math.inf))
    values = subject.columns(index)
    return all(map(math.isfinite, ends)) and not _beyond(values, activation)


def _bounded(subject: Subject) -> Iterator[tuple[int, str, npt.NDArray[Any]]]:
    """Number, activation and targets of each output that has bounds, and a loss that minds them.

    The targets have shape (positions, columns).
    """
    for index, output in enumerate(subject.outputs):
        activation = _activation(subject, index)
        if not (output.trained and output.form == "regression" and activation in _RANGES):
            continue
        values = subject.columns(index)
        if not values.size or is_one_unit_softmax(subject, index):
            continue
        values = _as_trained_on(values, output)
        rows = subject.targets(index)
        if not _beyond(values, activation) or _wants(output, rows, *_RANGES[activation]):
            yield index, activation, values


def _beyond(values: npt.NDArray[Any], activation: str) -> float:
    """Share of the targets that are out of reach by more than what rounding has done."""
    low, high = _RANGES[activation]
    margin = _ROUNDING * (high - low if math.isfinite(high) else float(np.abs(values).max()))
    return float(np.mean((values < low - margin) | (values > high + margin)))


def _skills(
    values: npt.NDArray[Any], low: float, high: float, *, absolute: bool
) -> npt.NDArray[np.float64]:
    """Skill of the best prediction within reach, of each column that varies."""
    columns = _varying(values)
    away = np.abs(columns - columns.clip(low, high))
    if absolute:
        apart = np.abs(columns - np.median(columns, axis=0))
        return np.asarray(1 - away.mean(axis=0) / apart.mean(axis=0))
    return np.asarray(1 - (away**2).mean(axis=0) / columns.var(axis=0))


def _varying(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """The columns whose values differ."""
    return values[:, np.ptp(values, axis=0) > 0].astype(np.float64)


def _activation(subject: Subject, index: int) -> str:
    """Keras's name of the activation that makes an output; empty where none does."""
    if subject.origin(index).end == "Softmax":
        return "softmax"
    end = subject.flow.ends[index] if index < len(subject.flow.ends) else None
    return "" if end is None else subject.layers[end].activation


def _as_trained_on(values: npt.NDArray[Any], output: Output) -> npt.NDArray[Any]:
    """The targets as the loss compares them with the predictions."""
    signs = output.loss is not None and output.loss.is_keras and output.loss.name in _SIGNS
    if signs and np.isin(values, (0, 1)).all():
        return 2.0 * values - 1
    return values


def _wants(output: Output, values: npt.NDArray[Any], low: float, high: float) -> bool:
    """Whether the loss is lower where the targets beyond reach are predicted.

    One of the user's own that leaves them out, such as marks for missing values, is not. One that
    compares directions or ranks is, but lower still for targets that were moved into the range,
    which are further away than the nearest within reach.
    """
    if output.loss is None or output.loss.is_keras:
        return output.loss is None or output.loss.name != "cosine_similarity"
    some = values[:: max(len(values) // _FEW_ROWS, 1)][:_FEW_ROWS].astype(np.float32)
    shape = (len(some), *(size or 1 for size in output.shape))
    if some.size != math.prod(shape):
        return False
    wanted = some.reshape(shape)
    spread, most = float(np.ptp(wanted)) or 1.0, float(np.abs(wanted).max()) or 1.0
    moved = low + (wanted - wanted.min()) * (min(high - low, spread) / spread)
    shrunk = wanted * min(high / most, 1.0)
    best, least, *others = (
        float(np.mean(output.loss.evaluate(Returned(tf.constant(each)), some, None)))
        for each in (wanted, *(each.clip(low, high) for each in (wanted, moved, shrunk)))
    )
    lower = least - 1e-3 * abs(least)
    return best < lower <= min(others)


def _beyond_reach(
    subject: Subject, index: int, activation: str, values: npt.NDArray[Any], *, certain: bool
) -> Finding:
    """That some targets are beyond what an activation gives, which no remedy but one changes."""
    (low, high), beyond = _RANGES[activation], _beyond(values, activation)
    within = f"between {low:g} and {high:g}" if math.isfinite(high) else f"of {low:g} and above"
    share = "every target is" if beyond == 1 else f"{beyond:.3g} of the targets are"
    share = f"{share} outside of that, from {values.min():.4g} to {values.max():.4g}"
    certain = certain and not _changeable(subject)
    classes = numbered_classes(subject, index)
    advice = "leave the activation of the last layer out, or scale the targets"
    return subject.found(
        "unreachable_targets",
        f"{subject.outputs[index].named} is made by {activation}, which gives values {within}; "
        f"{share}",
        advice if classes is None else units_of_softmax(classes),
        certain=certain,
        key=subject.last_layer(index, "activation"),
        fix=fixes.unbounded(subject, index) if certain and classes is None else None,
    )


def _not_full(subject: Subject, index: int, values: npt.NDArray[Any]) -> Iterator[Finding]:
    """That the targets do not add up to what a softmax gives."""
    totals = values.sum(axis=-1)
    if float(np.mean(np.abs(totals - 1) > fixes.NEAR_ONE)) <= fixes.NEAR_ONE:
        return
    output = subject.outputs[index]
    yield subject.found(
        "unreachable_targets",
        f"{output.named} is a softmax, whose {values.shape[-1]} values add up to 1 on every row; "
        f"the targets add up to {totals.min():.4g} to {totals.max():.4g}",
        "write activation sigmoid for values that are each between 0 and 1 for themselves, or "
        "leave the activation out",
        key=subject.last_layer(index, "activation"),
    )


def _changeable(subject: Subject) -> bool:
    """Whether a remedy may change the activation of the output, too."""
    return subject.config is not None and leaky_relu.takes_activation(subject.config)


def _is_hopeless(subject: Subject, index: int, activation: str, values: npt.NDArray[Any]) -> bool:
    """Whether no prediction within reach passes for some column of targets that vary.

    For all of them where the columns have one loss in all. What has no loss counts as trained on
    squared error, but for a model that trains in a way of its own.
    """
    output, (low, high) = subject.outputs[index], _RANGES[activation]
    loss, columns = output.loss, _varying(values)
    known = loss is None or loss.is_keras
    name = "mean_squared_error" if loss is None else loss.name
    if (known and name not in _NEAREST) or output.unjudged is not None or not columns.size:
        return False
    each = loss is None or bool(loss.is_keras and loss.by_row)
    constant = (columns.max(axis=0) <= low) | (columns.min(axis=0) >= high)
    least = _min_skill(subject)
    if each and known and name in _SKILLS and least is not None:
        absolute = name == "mean_absolute_error"
        return bool(np.any(constant | (_skills(values, low, high, absolute=absolute) < least)))
    return bool(np.any(constant) if each else np.all(constant))


def _keeps_from_input(
    subject: Subject, index: int, activation: str, values: npt.NDArray[Any]
) -> str | None:
    """Why an output that is to be its own input cannot be, as a clause; None where it may.

    There all of it is there to learn, and a reference is no measure: the best prediction within
    reach has less of its variance than `learned` fails below.
    """
    output, (x, y, weight) = subject.outputs[index], subject.sample
    limits = None if subject.config is None else subject.config.checks.learned
    known = output.loss is not None and output.loss.is_keras and output.loss.name in _SKILLS
    if limits is None or not known or weight is not None or not is_to_repeat(output, x, y):
        return None
    columns = _varying(values)
    away = columns - columns.clip(*_RANGES[activation])
    best = 1 - float((away**2).sum() / ((columns - columns.mean(axis=0)) ** 2).sum())
    if best >= limits.fail_below:
        return None
    return f"so that no prediction of what is to be its own input has a skill above {best:.2g}"


def _min_skill(subject: Subject) -> float | None:
    """Skill below which the prediction fails; None where that is not checked, or weights differ."""
    if subject.config is None or getattr(subject.rows, "weight", None) is not None:
        return None
    limits = subject.config.checks.prediction_variance
    return None if limits is None else limits.min_skill
