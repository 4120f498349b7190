"""What is wrong with the rows: wild scales, idle columns, values that stand for none."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import keras
import numpy as np
import numpy.typing as npt

from orchestrator.diagnosis.causes import table
from orchestrator.diagnosis.causes.before.subject import Subject
from orchestrator.diagnosis.causes.plan import ADAPTIVE, most_inputs, read_plan
from orchestrator.diagnosis.causes.scales import describe_scales, is_out_of_reach, size
from orchestrator.model import layers
from orchestrator.model.keras_internals import all_layers
from orchestrator.model.outputs import Output
from orchestrator.record.records import Finding

_LOSSES = frozenset({"huber", "mean_absolute_error", "mean_squared_error"})
"""Losses under which a prediction has to come to where the targets are."""
_WORKS = 0.1
"""Skill from which on a network copes with its rows: it was trained on them, or on their like."""
_BEYOND = 1000.0
"""Targets this many times what the network gives, and what its steps add up to, stay out of reach:
of a wide network many weights move at once, which makes the way of each longer."""
_ASIDE = 10.0
"""|mean| / std of targets of which next to nothing is learnt until the predictions have come there,
for until then their errors are those of the distance."""
_LONG = 60.0
"""Such targets, so many times the sum of the steps away, or as many times as a unit has inputs
where these are more, are learnt too late by an optimizer like Adam.

Of 3,914 trainings of one to five layers of 8 to 512 units, for 8 to 100 epochs at rates from 1e-4
to 0.01, on targets 10 to 150 standard deviations away, five learnt half of them; none learnt 0.8.
"""
_NAMED = 3
"""Columns that are named; of more the number is told."""
_LISTED = 6
"""Columns of targets of which each has its figures; of more it is told how to find them."""


def find_unscaled_inputs(subject: Subject) -> Iterator[Finding]:
    """Inputs whose scales hamper training, where the network does not cope with them already."""
    found = describe_scales(subject)
    if found is not None and not any(_works(subject)):
        yield subject.found("unscaled_inputs", *found, key=("data",))


def find_columns(subject: Subject) -> Iterator[Finding]:
    """Columns of a table that say nothing, or nothing new, and values that stand for none.

    Nothing of a network that looks its inputs up: to it they are names.
    """
    kinds = (keras.layers.Embedding, keras.layers.Masking)
    if any(isinstance(layer, kinds) for layer in all_layers(subject.model)):
        return
    for each in table.tables(subject.rows, subject.sample[0], subject.scalings):
        of_input = f" of input {each.path}" if each.path else ""
        constant, equal, coded = table.constants(each), table.copies(each), table.codes(each)
        if constant:
            named = _listed([f"{name} is {value:g}" for name, value in constant.items()])
            reason = f"column{'s' * (len(constant) > 1)}{of_input} {named} on every row"
            advice = "leave out what does not differ: it says nothing of a row"
            yield subject.found("constant_columns", reason, advice, key=("data", "train"))
        if equal:
            named = _listed([f"{other} is the same as {one}" for one, other in equal])
            reason = f"column{'s' * (len(equal) > 1)}{of_input} {named} on every row"
            advice = "leave one of the two out, or see whether another was meant"
            yield subject.found("constant_columns", reason, advice, key=("data", "train"))
        if coded:
            named = _listed(
                [f"{name} is {code:g} on {share:.2g} of the rows, far from all its other values"
                 for name, (code, share) in coded.items()]
            )  # fmt: skip
            reason = (
                f"column{'s' * (len(coded) > 1)}{of_input} {named}: it looks like a missing value"
            )
            advice = (
                "put the column's median there and add a column that says so, or leave those "
                "rows out"
            )
            yield subject.found("missing_values", reason, advice, key=("data", "train"))


def _listed(clauses: Sequence[str]) -> str:
    more = len(clauses) - _NAMED
    return ", ".join(clauses[:_NAMED]) + (f" and so {more} more" if more > 0 else "")


def find_distant_targets(subject: Subject) -> Iterator[Finding]:
    """Targets that are further from what the untrained network gives than steps bring it soon."""
    ends = subject.flow.ends
    for index, (output, predicted, targets) in enumerate(_pairs(subject)):
        linear = index < len(ends) and ends[index] is None
        loss = output.loss
        if not linear or loss is None or not loss.is_keras or loss.name not in _LOSSES:
            continue
        if output.form != "regression":
            continue
        for column, (got, wanted) in enumerate(zip(predicted.T, targets.T, strict=True)):
            far = is_out_of_reach(got, wanted)
            if not (far or _is_beyond(subject, got, wanted)):
                continue
            of_column = f" of column {column}" if targets.shape[1] > 1 else ""
            of_output = f" of output {output.name}" if output.name else ""
            why = "for how little they vary" if far else "for how short the training is"
            if not far and subject.learning_rate_cap is not None:
                why += " at the rate that it is held to"
            reason = (
                f"the targets{of_column}{of_output} are far from zero {why}, "
                f"{wanted.mean():.5g} on average with a standard deviation of {wanted.std():.3g}, "
                f"and the untrained network predicts about {got.mean():.2g}"
            )
            yield subject.found("distant_targets", reason, _rescaled(targets))
            break


def _rescaled(targets: npt.NDArray[np.float64]) -> str:
    """How targets of shape (values, columns) come near to zero, each column by its own figures."""
    columns = targets.shape[1]
    if columns > _LISTED:
        return (
            f"subtract from each of the {columns} columns its mean and divide it by its standard "
            "deviation, or end the model with a Rescaling layer that has a list of the standard "
            "deviations as its scale and one of the means as its offset"
        )
    spreads = targets.std(axis=0)
    spreads[spreads == 0] = 1.0
    scales = [f"{spread:.2g}" for spread in spreads]
    offsets = [_offset(*each) for each in zip(targets.mean(axis=0), spreads, strict=True)]
    own = "" if columns == 1 else " of each column"
    scale, offset = (
        each[0] if columns == 1 else f"[{', '.join(each)}]" for each in (scales, offsets)
    )
    return (
        f"subtract the mean{own} and divide by {'its' if own else 'the'} standard deviation, or "
        f"end the model with a Rescaling layer of scale: {scale} and offset: {offset}"
    )


def _offset(mean: float, spread: float) -> str:
    """A mean in as many digits as bring it nearer than a standard deviation by far."""
    times = max(abs(mean) / spread, 1.0)
    return f"{mean:.{max(math.ceil(math.log10(times)) + 2, 4)}g}"


def _is_beyond(
    subject: Subject, predicted: npt.NDArray[np.float64], targets: npt.NDArray[np.float64]
) -> bool:
    """Whether targets are so large that the planned steps do not lead to them."""
    plan = read_plan(subject)
    if plan is None or not isinstance(plan.optimizer, ADAPTIVE) or subject.begins_trained:
        return False
    ends = layers.last_layers(subject.model, subject.few[0])
    if not all(getattr(each, "weights", ()) for each in ends):
        return False  # what is behind the weights, as a Rescaling, may lengthen each step
    typical = float(np.median(np.abs(targets)))  # whatever outliers there are
    if typical >= _BEYOND * max(size(predicted), 1.0) * max(plan.capped_way, 1.0):
        return True
    mean, spread = float(targets.mean()), float(targets.std())
    distance = min(abs(mean), abs(mean - float(predicted.mean())))
    times = max(_LONG, most_inputs(subject.model))
    return spread > 0 and distance >= max(_ASIDE * spread, times * plan.capped_way)


def _works(subject: Subject) -> Iterator[bool]:
    """Of each output, whether its predictions are better than the best constant."""
    for _, predicted, targets in _pairs(subject):
        around = float(np.mean((targets - targets.mean(axis=0)) ** 2))
        yield float(np.mean((targets - predicted) ** 2)) < (1 - _WORKS) * around


def _pairs(
    subject: Subject,
) -> Iterator[tuple[Output, npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
    """Predictions and targets of a few rows, of equal shape (values, columns), of each output.

    Classes are one-hot, and logits of them made probabilities.
    """
    _, y, _ = subject.few
    for output, predicted in zip(subject.outputs, subject.predictions, strict=False):
        targets = None if y is None else output.targets(y)
        if targets is None:
            continue
        got = _as_probabilities(np.asarray(predicted, np.float64), output)
        got = got.reshape(-1, got.shape[-1] if got.ndim > 1 else 1)
        wanted = np.asarray(targets)
        if output.form == "sparse":
            wanted = np.equal(wanted.reshape(-1, 1), np.arange(got.shape[1]))
        if wanted.size == got.size and wanted.dtype.kind in "fiub":
            yield output, got, wanted.reshape(got.shape).astype(np.float64)


def _as_probabilities(values: npt.NDArray[np.float64], output: Output) -> npt.NDArray[np.float64]:
    """Predictions of classes, where they may be logits; others as they are."""
    if not output.from_logits or output.form == "regression":
        return values
    if output.form == "binary":
        return 1 / (1 + np.exp(-np.clip(values, -50, 50)))
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    shares: npt.NDArray[np.float64] = powers / powers.sum(axis=-1, keepdims=True)
    return shares
