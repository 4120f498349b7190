"""What the network can express, and what it has learnt by heart."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from orchestrator.data.rows import AnyRows, Tree, leaves, num_rows, transform
from orchestrator.diagnosis.causes.after.subject import Subject
from orchestrator.diagnosis.skill.columns import distribution
from orchestrator.diagnosis.skill.learned import read_predictions
from orchestrator.diagnosis.skill.sample import as_columns
from orchestrator.model.losses.returned import Returned
from orchestrator.model.outputs import Output
from orchestrator.record.checks import NO_SKILL, OutputShare, PredictionVarianceCheck
from orchestrator.record.records import Finding

_GAP = 0.2
"""Skill that tells one model from another (design, section 4)."""
_PAIRS = 32
"""Pairs of rows between which a network is tried to be straight."""
_STRAIGHT = 1e-3
"""How far from straight rounding takes a linear network, as a share of its spread."""
_FEW_ROWS = 2000
"""Rows that are enough to compare means."""
_LEAST_ROWS = 30
"""Rows from which on a mean that is a standard deviation away is no chance."""


def find_too_small(subject: Subject) -> Iterator[Finding]:
    """A network that is linear, where what is there to learn is not.

    Told by the reference, which has a linear and a curved model, and by the network itself, which
    is straight between any two rows.
    """
    if subject.untrained or not subject.is_poor or subject.is_falling:
        return
    ends = set(subject.examined.flow.ends)
    if any(index not in ends for index in range(len(subject.examined.layers))):
        return
    for index, share in enumerate(subject.shares):
        skill, linear, curved = share.skill, share.linear, share.reference
        if skill is None or linear is None or curved is None:
            continue
        if curved - linear > _GAP and skill < linear + _GAP / 2 and _is_straight(subject, index):
            of_output = f" to output {share.name}" if share.name else ""
            reason = (
                f"the network is linear from its inputs{of_output}, and has a skill of "
                f"{skill:.2g}, where a linear model has {linear:.2g} and one that can bend "
                f"{curved:.2g}"
            )
            advice = "put a layer with an activation, such as relu, in front of the output"
            yield subject.found("too_small", reason, advice)
            return


def _is_straight(subject: Subject, index: int) -> bool:
    """Whether an output halfway between two rows is halfway between theirs."""
    x, _, _ = subject.rows.first(2 * _PAIRS)
    half = num_rows(x) // 2
    if half < 2 or any(np.asarray(array).dtype.kind != "f" for _, array in leaves(x)):
        return False
    one = transform(lambda array: array[:half], x)
    two = transform(lambda array: array[half : 2 * half], x)
    between = transform(lambda array: (array[:half] + array[half : 2 * half]) / 2, x)
    found = [_scores(subject, rows, index) for rows in (one, two, between)]
    expected = (found[0] + found[1]) / 2
    spread = float(np.std(expected, axis=0).max())
    return bool(np.abs(found[2] - expected).max() <= _STRAIGHT * spread)


def _scores(subject: Subject, x: Tree, index: int) -> npt.NDArray[np.float64]:
    """What an output returns, probabilities as logits."""
    output = subject.outputs[index]
    _, returned = leaves(subject.model(x, training=False))[index]
    values = np.asarray(returned, np.float64).reshape(num_rows(x), -1)
    if output.from_logits or output.form == "regression":
        return values
    if output.form == "binary":
        return np.log(values / (1 - values))
    logs = np.log(values)
    return np.asarray(logs - logs.mean(axis=1, keepdims=True))


def find_overfitting(subject: Subject) -> Iterator[Finding]:
    """Predictions that are good on the training rows alone.

    Told of an attempt that has passed, too: clearly better than a constant on the training rows,
    and worse on the validation rows than both there and than the reference, which has not seen the
    rows that it is judged on; where no reference is known, no better than a constant.
    """
    check = subject.phases[-1].find(PredictionVarianceCheck)
    held = subject.validation
    if check is None or held is None or not subject.is_alive:
        return
    count = len(held)
    gap = _GAP + 2 / math.sqrt(max(count, 1))  # of few rows the skill is a matter of chance
    skills = {each.output: each.skill for each in check.measured.validation}
    names = [output.name for output in subject.outputs]
    for column in check.measured.outputs:
        seen, unseen = column.skill, skills.get(column.output or 0)
        if seen is None or unseen is None or not seen - unseen > gap:
            continue
        place = names.index(column.name) if column.name in names else 0
        share = subject.shares[place] if place < len(subject.shares) else None
        of = ""
        if column.kind == "classification":
            # Its loss is high where it is wrong and sure, though it may be right as often.
            seen, unseen = (_squared_skill(subject, each, place) for each in (subject.rows, held))
            of = " of the probabilities"
        if not seen > _GAP:  # what is hardly better than a constant has learnt no row by heart
            continue
        reference = _reference(share)
        worse = unseen < NO_SKILL or (reference is not None and unseen < reference - gap)
        if seen - unseen > gap and worse:
            yield _told(subject, seen, unseen, reference, of)
            return


def _reference(share: OutputShare | None) -> float | None:
    return None if share is None or share.reference is None else max(share.reference, 0.0)


def _told(
    subject: Subject, seen: float, unseen: float, reference: float | None, of: str
) -> Finding:
    held = subject.validation
    count = 0 if held is None else len(held)
    reason = (
        f"the skill{of} is {seen:.3g} on the training rows and {unseen:.3g} on the {count:,} "
        "validation rows"
    )
    if reference is not None:
        reason += f", where a simple model reaches {reference:.2g} on rows that it has not seen"
    shift = None if held is None else _shift(subject, held)
    if shift is not None:
        advice = "let both come from the same source, as validation: {fraction: 0.2} does"
        return subject.found("overfitting", f"{reason}; {shift}", advice)
    advice = (
        "train on more rows, or hold the network back by fewer units, dropout or an EarlyStopping "
        "on val_loss"
    )
    return subject.found("overfitting", reason, advice)


def _shift(subject: Subject, held: AnyRows) -> str | None:
    """Which column of the validation rows is far from that of the training rows, as a clause."""
    seen, unseen = (as_columns(rows.first(_FEW_ROWS)[0]) for rows in (subject.rows, held))
    if seen is None or unseen is None or min(len(seen), len(unseen)) < _LEAST_ROWS:
        return None
    spread = seen.std(axis=0, dtype=np.float64)
    apart = np.abs(unseen.mean(axis=0, dtype=np.float64) - seen.mean(axis=0, dtype=np.float64))
    far = np.divide(apart, spread, out=np.zeros_like(apart), where=spread > 0)
    worst = int(far.argmax())
    if not far[worst] > 1:
        return None
    names = subject.rows.columns
    name = names[worst] if len(names) == len(far) else worst
    return (
        f"the validation rows are of another kind, input column {name} is {far[worst]:.2g} "
        "standard deviations away on average"
    )


@dataclasses.dataclass(slots=True)
class _Squares:
    """Sums over rows of what the squared error of one output's probabilities needs."""

    output: Output
    index: int
    rows: int = 0
    error: float = 0.0
    sums: Any = 0.0
    squares: float = 0.0

    def see(self, _: Tree, returned: Sequence[Returned], y: Tree, weight: Any) -> None:
        """Take in one batch; weights are left aside."""
        predicted = read_predictions(self.output, returned[self.index]).astype(np.float64)
        targets = self.output.targets(y)
        if targets is None:
            return
        wanted = distribution(targets, self.output.form, predicted.shape)
        self.rows += len(wanted)
        self.error += float(((wanted - predicted) ** 2).sum())
        self.sums = self.sums + wanted.sum(axis=0)
        self.squares += float((wanted**2).sum())

    def skill(self) -> float:
        """1 - squared error / that of the classes' frequencies; 0 where they do not vary."""
        around = self.squares - float((self.sums**2).sum()) / max(self.rows, 1)
        return 1 - self.error / around if around > 0 else 0.0


def _squared_skill(subject: Subject, rows: AnyRows, index: int) -> float:
    """Skill of an output's probabilities on some rows, by their squared error."""
    squares = _Squares(subject.outputs[index], index)
    subject.probe.measure(rows, see=squares.see)
    return squares.skill()
