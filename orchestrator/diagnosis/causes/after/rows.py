"""What is wrong with the rows that a network failed on: wild scales, far or unrelated targets."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from orchestrator.data.rows import AnyRows, leaves, num_rows
from orchestrator.diagnosis.skill.columns import NO_SKILL
from orchestrator.diagnosis.skill.reference import FEATURES, MOST_TARGETS, fit_reference
from orchestrator.diagnosis.skill.sample import as_columns, draw
from orchestrator.model.keras_internals import all_layers
from orchestrator.model.outputs import Output
from orchestrator.record.records import Finding

_FEW_ROWS = 2000
"""Rows that are enough for a rough look at inputs and targets."""
_FEW_NUMBERS = 4_000_000
"""Numbers in all that are looked at."""
_MOST_COLUMNS = 10_000
_NORMALIZING = (
    keras.layers.BatchNormalization,
    keras.layers.LayerNormalization,
    keras.layers.Normalization,
    keras.layers.Rescaling,
)
_MAGNITUDES = 1e3
"""Inputs this far from 1, or columns this far from each other, hamper any training."""
_FAR = 100.0
"""Targets this large, or this many of their standard deviations from zero, are beyond what a fresh
network puts out, and have to be trained towards."""
_DISTANT = 2.0
"""So many standard deviations of the targets are more than a luckier seed makes good."""
_VARIED = 0.01
"""Standard deviation of predictions, as a share of their size or of the targets' standard
deviation, that a constant does not have."""


def size(values: Any) -> float:
    """Root of the mean square."""
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def find_constant_reconstruction(
    model: keras.Model, outputs: Sequence[Output], rows: AnyRows
) -> Iterator[Finding]:
    """Outputs that are to be their own inputs, under a loss that weighs more than that.

    To be asked about a model whose prediction is constant although units are alive. In a
    variational autoencoder this is called posterior collapse (Bowman et al., Generating sentences
    from a continuous space, 2016): the KL term is lowest where the code says nothing of the row.

    Args:
        model: the model as it failed.
        outputs: the model's outputs.
        rows: the training rows.
    """
    x, y, _ = rows.first(_FEW_ROWS)
    for output in outputs:
        own = output.unjudged is not None or bool(model.losses)
        targets = output.targets(y)
        if not own or not output.trained or targets is None:
            continue
        if any(
            each.shape == targets.shape and np.array_equal(each, targets) for _, each in leaves(x)
        ):
            named = f"output {output.name}" if output.name else "the output"
            reason = (
                f"{named} is to be its own input, and is the same for every row: the code between "
                "them says nothing of the row, which in a variational autoencoder is posterior "
                "collapse; give what the loss holds the code back by, such as the KL divergence, "
                "less weight"
            )
            yield Finding(cause="constant_reconstruction", reason=reason, certain=False)


def find_row_faults(
    model: keras.Model, outputs: Sequence[Output], rows: AnyRows, *, scales_only: bool = False
) -> Iterator[Finding]:
    """Inputs of wild scales, and targets that have nothing to do with the inputs.

    Args:
        model: a layer of it may scale or look up the inputs.
        outputs: the outputs without skill.
        rows: the training rows.
        scales_only: leave the targets aside.
    """
    sample = _sample(rows)
    kinds = tuple(type(layer) for layer in all_layers(model))
    if sample is None or any(issubclass(kind, keras.layers.Embedding) for kind in kinds):
        return
    if not any(issubclass(kind, _NORMALIZING) for kind in kinds):
        yield from _unscaled(sample, rows)
    if outputs and not scales_only:
        x, y = draw(rows)
        columns = as_columns(x)
        for output in outputs:
            targets = output.targets(y)
            one_position = math.prod(output.shape[:-1]) == 1
            if columns is not None and targets is not None and one_position:
                yield from _unrelated(columns, targets, output)


def find_distant_targets(
    model: keras.Model, outputs: Sequence[Output], rows: AnyRows, *, falling: bool, slowed: bool
) -> Iterator[Finding]:
    """Targets so far from zero that the predictions were still on their way to them at the end.

    Final where they are far from zero for their spread, the predictions vary, the loss was falling
    and the rate is the config's own: from another seed, or with smaller steps, the way is as far.

    Args:
        model: the model as it failed.
        outputs: its outputs.
        rows: the training rows.
        falling: whether the loss was falling at the end.
        slowed: whether a remedy has lowered the learning rate.
    """
    for output, got, wanted in _predictions(model, outputs, rows):
        found = [
            column for column in range(wanted.shape[1])
            if _is_on_its_way(got[:, column], wanted[:, column])
        ]  # fmt: skip
        if not found:
            continue
        column = max(found, key=lambda index: size(wanted[:, index]))
        predicted, targets = got[:, column], wanted[:, column]
        spread, error = targets.std(), size(targets - predicted)
        of_output = f"of output {output.name} " if output.name else ""
        reason = (
            f"the targets {of_output}are far from zero, {targets.mean():.5g} on average with a "
            f"standard deviation of {spread:.3g}, and at the end of the training the predictions "
            f"were still {error:.3g} away from them: subtract the mean and divide by the standard "
            "deviation, or train for longer or at a higher rate"
        )
        varied = predicted.std() > _VARIED * min(size(predicted), spread)
        far = size(targets) >= _FAR * spread and error > _DISTANT * spread
        certain = bool(far and falling and not slowed and varied)
        yield Finding(cause="distant_targets", reason=reason, certain=certain)


def _is_on_its_way(predicted: npt.NDArray[Any], targets: npt.NDArray[Any]) -> bool:
    """Whether a column of predictions has come nearer to distant targets, and not near enough."""
    far, spread, error = size(targets), targets.std(), size(targets - predicted)
    if far < _FAR * min(spread, 1.0) or not spread < error < far:
        return False
    return bool(far >= _FAR * spread or size(predicted) <= far / 2)


def _predictions(
    model: keras.Model, outputs: Sequence[Output], rows: AnyRows
) -> Iterator[tuple[Output, npt.NDArray[Any], npt.NDArray[Any]]]:
    """Predictions and targets of the first rows, column by column, of each regression."""
    pairs: list[list[tuple[Any, Any]]] = [[] for _ in outputs]
    seen = 0
    for x, y, weight in rows.batches(256):
        counted = slice(None) if weight is None else np.asarray(weight) > 0
        for index, (_, values) in enumerate(leaves(model(x, training=False))):
            targets = outputs[index].targets(y)
            if targets is not None and outputs[index].form == "regression":
                got = np.asarray(values, dtype=np.float64)[counted]
                got = got.reshape(-1, got.shape[-1] if got.ndim > 1 else 1)
                wanted = np.asarray(targets, dtype=np.float64)[counted].reshape(got.shape)
                pairs[index].append((got, wanted))
        seen += num_rows(x)
        if seen >= _FEW_ROWS:
            break
    for output, found in zip(outputs, pairs, strict=True):
        if sum(len(got) for got, _ in found):
            got, wanted = (np.concatenate(each) for each in zip(*found, strict=True))
            yield output, got, wanted


def _sample(rows: AnyRows) -> npt.NDArray[np.float64] | None:
    """The first rows' inputs as one matrix.

    None where there are indices or texts among the inputs, or very many numbers a row.
    """
    size = sum(np.asarray(array).size for _, array in leaves(rows.first(1)[0]))
    if not 0 < size <= _MOST_COLUMNS:
        return None
    wanted = min(_FEW_ROWS, _FEW_NUMBERS // size)
    parts, seen = [], 0
    for x, _, _ in rows.batches(min(wanted, 256)):
        arrays = [np.asarray(array) for _, array in leaves(x)]
        if any(array.dtype.kind != "f" for array in arrays):
            return None
        flat = [array.reshape(len(array), -1) for array in arrays]
        parts.append(np.concatenate(flat, axis=1, dtype=np.float64))
        seen += len(parts[-1])
        if seen >= wanted:
            break
    return np.concatenate(parts)


def _unscaled(columns: npt.NDArray[np.float64], rows: AnyRows) -> Iterator[Finding]:
    scales = np.abs(columns).max(axis=0)
    dense = np.count_nonzero(columns, axis=0) > len(columns) / 2
    spreads = columns.std(axis=0)
    spreads = spreads[dense & (spreads > 0)]
    names = rows.columns if len(rows.columns) == len(scales) else ()
    worst = int(scales.argmax())
    name = f"column {names[worst] if names else worst}"
    way_out = "data.standardize: true scales every column"
    if scales[worst] >= _MAGNITUDES:
        reason = f"the inputs are not scaled: {name} goes up to {scales[worst]:.3g}; {way_out}"
    elif len(spreads) and spreads.max() >= _MAGNITUDES * spreads.min():
        reason = (
            f"the scales of the inputs are orders of magnitude apart, standard deviations from "
            f"{spreads.min():.3g} to {spreads.max():.3g}; {way_out}"
        )
    else:
        return
    yield Finding(cause="unscaled_inputs", reason=reason, certain=False)


def _unrelated(
    columns: npt.NDArray[np.float32], targets: npt.NDArray[Any], output: Output
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
    yield Finding(cause="unrelated_targets", reason=reason, certain=False)


def _as_numbers(targets: npt.NDArray[Any], output: Output) -> npt.NDArray[np.float64]:
    """Targets as columns of numbers, classes as one column for each of the most frequent."""
    flat = targets.reshape(len(targets), -1).astype(np.float64)
    if output.form != "sparse":
        return flat
    classes, counts = np.unique(flat[:, 0], return_counts=True)
    frequent = classes[np.argsort(-counts, kind="stable")[:MOST_TARGETS]]
    return np.equal(flat[:, :1], frequent).astype(np.float64)
