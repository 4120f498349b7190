"""What is wrong with the rows that a network failed on: wild scales, far or unrelated targets."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from orchestrator.data.rows import leaves, num_rows
from orchestrator.diagnosis.causes.after.subject import Subject
from orchestrator.diagnosis.causes.before.outputs import fixes
from orchestrator.diagnosis.causes.before.outputs.reach import (
    find_targets_out_of_reach,
    is_within_reach,
)
from orchestrator.diagnosis.causes.before.subject import Subject as Untrained
from orchestrator.diagnosis.causes.plan import ADAPTIVE, UNUSUAL, times_usual
from orchestrator.diagnosis.causes.scales import (
    FAR,
    describe_large,
    describe_scales,
    is_distant,
    is_on_its_way,
    size,
)
from orchestrator.diagnosis.skill.reference import FEATURES, MOST_TARGETS, fit_reference
from orchestrator.diagnosis.skill.sample import as_columns, draw
from orchestrator.diagnosis.skill.scores import is_to_repeat
from orchestrator.model.build import plain_optimizers
from orchestrator.model.keras_internals import all_layers
from orchestrator.model.outputs import Output
from orchestrator.model.remedies import scaled_targets
from orchestrator.record.checks import NO_SKILL
from orchestrator.record.records import Finding, Fix

_FEW_ROWS = 2000
"""Rows that are enough for a rough look at inputs and targets."""
_BY_ROWS = frozenset({"finite", "dead_neurons", "prediction_variance", "learned"})
"""Checks that may fail because of the rows."""
_THROWN = frozenset({"finite", "dead_neurons"})
"""Checks that fail where weights were thrown away."""
_DISTANT = 2.0
"""So many standard deviations of the targets are more than a luckier seed makes good."""
_VARIED = 0.01
"""Standard deviation of predictions, as a share of their size or of the targets' standard
deviation, that a constant does not have."""


def find_constant_reconstruction(subject: Subject) -> Iterator[Finding]:
    """Outputs that are to be their own inputs, under a loss that weighs more than that.

    Asked about predictions that are constant although units are alive, or that vary by the noise of
    the code alone. In a variational autoencoder this is called posterior collapse (Bowman et al.,
    Generating sentences from a continuous space, 2016): the KL term is lowest where the code says
    nothing of the row.
    """
    if not subject.is_constant:
        return
    x, y, _ = subject.rows.first(_FEW_ROWS)
    for output in subject.outputs:
        own = output.unjudged is not None or bool(subject.model.losses)
        if not own or not output.trained:
            continue
        if is_to_repeat(output, x, y):
            reason = (
                f"{output.named} is to be its own input, and is no better than if it were the same "
                "for every row: the code between them says nothing of the row, which in a "
                "variational autoencoder is posterior collapse"
            )
            advice = (
                "give what the loss holds the code back by, such as the KL divergence, less weight"
            )
            yield subject.found("constant_reconstruction", reason, advice)


def find_row_faults(subject: Subject) -> Iterator[Finding]:
    """Inputs of wild scales, and targets that have nothing to do with the inputs.

    Asked where the predictions are worth nothing, or where something is not finite; and where less
    was learnt than can be, of large inputs to a network whose output is scaled.
    """
    failed = bool(subject.failed & _BY_ROWS)
    if subject.untrained or not (failed or subject.is_short):
        return
    untrained = _as_untrained(subject)
    found = describe_scales(untrained) if failed else None
    if found is None and scaled_targets.describe(subject.model, subject.outputs):
        found = describe_large(untrained)
    if found is not None:
        yield subject.found("unscaled_inputs", *found)
    skilled = not failed or "finite" in subject.failed or not subject.without_skill
    if not (skilled or _looked_up(subject)):
        x, y = draw(subject.rows)
        columns = as_columns(x)
        for output in subject.without_skill:
            targets = output.targets(y)
            one_position = math.prod(output.shape[:-1]) == 1
            if columns is not None and targets is not None and one_position:
                yield from _unrelated(subject, columns, targets, output)


def _looked_up(subject: Subject) -> bool:
    """Whether inputs may be indices, of which nothing follows that a table of numbers shows."""
    whole = any(array.dtype.kind != "f" for _, array in leaves(subject.rows.first(1)[0]))
    return whole or any(
        isinstance(each, keras.layers.Embedding) for each in all_layers(subject.model)
    )


def find_unreachable_targets(subject: Subject) -> Iterator[Finding]:
    """Targets that the activation of an output keeps it from, too far for `learned` not to warn.

    Where none could pass it is certain, for no training brings it any nearer; else what to write
    instead is told.
    """
    limits = subject.config.checks.learned
    failed = "learned" in subject.failed
    if subject.untrained or limits is None or not (failed or subject.is_short):
        return
    found = find_targets_out_of_reach(
        _as_untrained(subject),
        subject.shares,
        limits.warn_below,
        certain_below=limits.fail_below if failed else 0.0,
    )
    yield from found


def _as_untrained(subject: Subject) -> Untrained:
    """The same network and rows, as what is asked before a training takes them."""
    return Untrained(
        config=subject.config,
        model=subject.model,
        outputs=subject.outputs,
        rows=subject.rows,
        layers=subject.examined.layers,
        flow=subject.examined.flow,
    )


def find_distant_targets(subject: Subject) -> Iterator[Finding]:
    """Targets so far from zero that the predictions were still on their way to them at the end.

    Certain where they are far from zero for their spread, the predictions vary, the loss was
    falling and the rate is the config's own: from another seed, or with smaller steps, the way is
    as far. Where the activation of an output has two ends and targets lie between them no way is
    long, and targets that are standardised do not.
    """
    if subject.failed & _THROWN and not subject.untrained:
        yield from _find_exploded(subject)
    if "prediction_variance" not in subject.failed or not subject.is_alive or subject.untrained:
        return
    when, otherwise = "at the end of the training", "train for longer or at a higher rate"
    if subject.shortened > 1:
        when, otherwise = "when the training ended early", "train at a higher rate"
    scaled = scaled_targets.describe(subject.model, subject.outputs)
    untrained = _as_untrained(subject)
    for index, got, wanted in _predictions(subject):
        output = subject.outputs[index]
        if output.name in scaled or is_within_reach(untrained, index):
            continue
        found = [
            column for column in range(wanted.shape[1])
            if is_on_its_way(got[:, column], wanted[:, column])
        ]  # fmt: skip
        if not found:
            continue
        column = max(found, key=lambda index: size(wanted[:, index]))
        predicted, targets = got[:, column], wanted[:, column]
        spread, error = targets.std(), size(targets - predicted)
        of_output = f"of output {output.name} " if output.name else ""
        reason = (
            f"the targets {of_output}are far from zero, {targets.mean():.5g} on average with a "
            f"standard deviation of {spread:.3g}, and {when} the predictions were still "
            f"{error:.3g} away from them"
        )
        fix = fixes.near(_as_untrained(subject), index)
        advice = f"{_scaling(fix)}, or {otherwise}"
        varied = predicted.std() > _VARIED * min(size(predicted), spread)
        far = size(targets) >= FAR * spread and error > _DISTANT * spread
        certain = bool(far and subject.is_falling and not subject.slowed and varied)
        yield subject.found("distant_targets", reason, advice, certain=certain, fix=fix)


def _find_exploded(subject: Subject) -> Iterator[Finding]:
    """Targets so large that their gradients have thrown the weights away.

    The gradient of a squared error is as large as the error, which at first is that of the targets;
    of optimizers whose steps do not hang on its size, and of clipped gradients, nothing is said.
    Nor is it of units that have died where the rate alone is enough for that.
    """
    optimizers, finite = plain_optimizers(subject.model), "finite" not in subject.failed
    rate = max(subject.rates, default=0.0)
    if finite and any((times_usual(each, rate) or 0.0) > UNUSUAL for each in optimizers):
        return
    clips = ("clipnorm", "clipvalue", "global_clipnorm")
    if any(
        isinstance(each, ADAPTIVE) or any(getattr(each, name, None) for name in clips)
        for each in optimizers
    ):
        return
    _, y, _ = subject.rows.first(_FEW_ROWS)
    scaled = scaled_targets.describe(subject.model, subject.outputs)
    for index, output in enumerate(subject.outputs):
        targets, loss = output.targets(y), output.loss
        if output.name in scaled:
            continue
        squared = loss is not None and loss.is_keras and loss.name == "mean_squared_error"
        if targets is None or output.form != "regression" or not squared:
            continue
        columns = targets.reshape(-1, targets.shape[-1])
        distant = finite and any(map(is_distant, columns.T))
        if size(targets) < FAR and not distant:
            continue
        of_output = f"of output {output.name} " if output.name else ""
        reason = (
            f"the targets {of_output}are large, {size(targets):.3g} in root mean square, and so "
            "are the gradients of a squared error, "
        )
        reason += "which kill units" if finite else "by which weights have become non-finite"
        fix = fixes.near(_as_untrained(subject), index)
        yield subject.found("distant_targets", reason, _scaling(fix), fix=fix)


def _scaling(fix: Fix | None) -> str:
    """What to write instead of distant targets, and of an activation that scaled ones need not."""
    scaled = "subtract the mean and divide by the standard deviation"
    if fix is None or fix.activation is None:
        return scaled
    return f"{scaled}, leave the activation of the last layer out"


def _predictions(
    subject: Subject,
) -> Iterator[tuple[int, npt.NDArray[Any], npt.NDArray[Any]]]:
    """Number, predictions and targets of the first rows, column by column, of each regression."""
    outputs = subject.outputs
    pairs: list[list[tuple[Any, Any]]] = [[] for _ in outputs]
    seen = 0
    for x, y, weight in subject.rows.batches(256):
        counted = slice(None) if weight is None else np.asarray(weight) > 0
        for index, (_, values) in enumerate(leaves(subject.model(x, training=False))):
            targets = outputs[index].targets(y)
            if targets is not None and outputs[index].form == "regression":
                got = np.asarray(values, dtype=np.float64)[counted]
                got = got.reshape(-1, got.shape[-1] if got.ndim > 1 else 1)
                wanted = np.asarray(targets, dtype=np.float64)[counted].reshape(got.shape)
                pairs[index].append((got, wanted))
        seen += num_rows(x)
        if seen >= _FEW_ROWS:
            break
    for index, found in enumerate(pairs):
        if sum(len(got) for got, _ in found):
            got, wanted = (np.concatenate(each) for each in zip(*found, strict=True))
            yield index, got, wanted


def _unrelated(
    subject: Subject,
    columns: npt.NDArray[np.float32],
    targets: npt.NDArray[Any],
    output: Output,
) -> Iterator[Finding]:
    """Tell that simple models have no skill on held-back rows either."""
    found = fit_reference(columns, _as_numbers(targets, output))
    if found is None or max(found.linear, found.curved) > NO_SKILL:
        return
    of_output = f" of output {output.name}" if output.name else ""
    reason = (
        f"the targets{of_output} look unrelated to the inputs: on held-back rows neither a linear "
        f"model (skill {found.linear:.2g}) nor one of {FEATURES} random relu features "
        f"({found.curved:.2g}) does better than their mean"
    )
    advice = (
        "see whether each target stands beside its own row, and whether the inputs hold what the "
        "target depends on"
    )
    yield subject.found("unrelated_targets", reason, advice)


def _as_numbers(targets: npt.NDArray[Any], output: Output) -> npt.NDArray[np.float64]:
    """Targets as columns of numbers, classes as one column for each of the most frequent."""
    flat = targets.reshape(len(targets), -1).astype(np.float64)
    if output.form != "sparse":
        return flat
    classes, counts = np.unique(flat[:, 0], return_counts=True)
    frequent = classes[np.argsort(-counts, kind="stable")[:MOST_TARGETS]]
    return np.equal(flat[:, :1], frequent).astype(np.float64)
