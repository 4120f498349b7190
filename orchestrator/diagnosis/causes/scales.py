"""Inputs that are far from what a fresh network takes, and targets that are far from what it gives.

Used before a training and, with the evidence of a failure, after it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from orchestrator.data.rows import is_text, leaves, name_of
from orchestrator.diagnosis.causes.before.subject import Subject
from orchestrator.model import layers
from orchestrator.model.keras_internals import own_variables

_MAGNITUDES = 1e3
"""Inputs this far from 1, or columns this far from each other, hamper any training."""
_OFFSET = 10.0
"""|mean| / std from which on a unit has the same sign on nearly all rows: a relu unit is dead or
linear. It predicts units that are born dead better than anything else of the rows."""
_LARGE = 10.0
"""Root mean square of a column of inputs from which on they are scaled together with targets."""
_BYTE = 255.0
_BRIGHT = 100.0
"""Largest byte from which on images are raw; darker ones may be masks or classes."""
_IMAGE_COLUMNS = 64
"""Whole numbers from 0 to 255 in so many columns are the pixels of an image: 8 by 8 are digits."""
FAR = 100.0
"""Targets this large, or this many of their standard deviations from zero, are beyond what a fresh
network puts out, and have to be trained towards."""

_BEYOND = 3.0
"""Targets so many of their standard deviations from zero lie to one side of it."""
_WITHIN = 1.2
"""A prediction that is still on its way from zero to such targets is wrong by the distance of the
means. Without that it is not much worse than a constant, whose squared error is the variance."""
_AWAY = 10.0
"""Targets so many of their standard deviations from zero: the way to them is a hundred times what
there is to learn of them, by the squared error."""
_ASTRAY = 2.0
"""A prediction that is nearer to such targets than 0 is, and still so many standard deviations away
from them, was trained towards them and not on them."""

_SCALE = "write data.standardize: true, which scales every column"

_Array = npt.NDArray[Any]
_Describe = Callable[[_Array, str, Sequence[str]], tuple[str, str] | None]
"""Says what is wrong with the scales of an array, and what to write instead."""


def describe_scales(subject: Subject) -> tuple[str, str] | None:
    """What is wrong with the scales of the inputs, as the network's layers take them.

    Args:
        subject: the model and its rows.

    Returns:
        What was seen and what to write instead; None where nothing is wrong, or where what reaches
        the first layers with weights is scaled or looked up. Behind weights a layer that
        normalises takes away the scale of all columns together, and not what is between them.
    """
    normalizes = layers.normalizes(subject.model)
    describe = _describe_apart if normalizes else _describe
    x, _, _ = subject.sample
    for path, array in leaves(x):
        found = None if is_text(array) else describe(array, name_of("x", path), _names(subject))
        if normalizes and len(leaves(x)) > 1:
            return None  # which of them it scales is not known
        if found is not None and _reaches_weights(subject, describe):
            return found
    return None


def _names(subject: Subject) -> Sequence[str]:
    return tuple(getattr(subject.rows, "columns", ()))


def _describe(array: _Array, named: str, names: Sequence[str]) -> tuple[str, str] | None:
    """What is wrong with the scales of one array, shape (rows, …)."""
    columns = array.reshape(len(array), -1)
    if not columns.size or columns.dtype.kind not in "fiu":
        return None
    highest, lowest = columns.max(axis=0).astype(float), columns.min(axis=0).astype(float)
    whose = _whose(named)
    if _are_bytes(array, float(lowest.min()), float(highest.max())):
        reason = f"{whose} are bytes as they are read, from {lowest.min():g} to {highest.max():g}"
        return reason, "put a Rescaling layer with scale: 0.00392 (1/255) first, or divide by 255"
    scales = np.maximum(np.abs(lowest), np.abs(highest))
    advice = _SCALE
    worst = int(scales.argmax())
    column = f"column {names[worst] if len(names) == len(scales) else worst}"
    if scales[worst] >= _MAGNITUDES:
        return f"{whose} are not scaled: {column} goes up to {scales[worst]:.3g}", advice
    if 0 < scales[worst] <= 1 / _MAGNITUDES:
        return (
            f"{whose} are not scaled: no value is further from 0 than {scales[worst]:.2g}",
            advice,
        )
    apart = _describe_apart(array, named, names)
    if apart is not None:
        return apart
    means, spreads = columns.mean(axis=0, dtype=np.float64), columns.std(axis=0, dtype=np.float64)
    offset, spread = (float(np.sqrt(np.mean(each**2))) for each in (means, spreads))
    if spread > 0 and offset >= _OFFSET * spread:
        reason = (
            f"{whose} are far from 0 for how little they vary, |mean|/std is "
            f"{offset / spread:.3g}: relu units are born dead, or are linear, on such rows"
        )
        return reason, advice
    return None


def _describe_apart(array: _Array, named: str, names: Sequence[str]) -> tuple[str, str] | None:
    """That the columns of a table, shape (rows, columns), differ by orders of magnitude."""
    if array.ndim != 2 or not array.size or array.dtype.kind not in "fiu":
        return None
    spreads = array.std(axis=0, dtype=np.float64)
    dense = spreads[(np.count_nonzero(array, axis=0) > len(array) / 2) & (spreads > 0)]
    if not len(dense) or dense.max() < _MAGNITUDES * dense.min():
        return None
    reason = (
        f"the scales of {_whose(named)} are orders of magnitude apart, standard deviations from "
        f"{dense.min():.3g} to {dense.max():.3g}"
    )
    return reason, _SCALE


def describe_large(subject: Subject) -> tuple[str, str] | None:
    """That inputs are too large for a network that is to be trained on scaled targets.

    What a fresh one gives is about as large as what it takes, and such targets are of the order of
    1; but not behind a layer that normalises.

    Args:
        subject: the model and its rows.

    Returns:
        What was seen and what to write instead; None where they are not.
    """
    x, _, _ = subject.sample
    for path, array in leaves(x):
        found = None if is_text(array) else _describe_large(array, name_of("x", path), ())
        if found is not None and not layers.normalizes(subject.model):
            return found if _reaches_weights(subject, _describe_large) else None
    return None


def _describe_large(array: _Array, named: str, names: Sequence[str]) -> tuple[str, str] | None:
    """That a column of an array, shape (rows, …), is far above 1."""
    if not array.size or array.dtype.kind not in "fiu":
        return None
    largest = max(map(size, array.reshape(len(array), -1).T))
    if not largest >= _LARGE:
        return None
    reason = (
        f"{_whose(named)} are not scaled, and the output is: a column has {largest:.3g} in root "
        "mean square, and as much is what a fresh network gives, where scaled targets are about 1"
    )
    return reason, _SCALE


def _whose(named: str) -> str:
    return "the inputs" if named == "x" else named


def _are_bytes(array: _Array, lowest: float, highest: float) -> bool:
    """Whether an array holds images as they are stored, perhaps as floats."""
    if lowest < 0 or not _BRIGHT <= highest <= _BYTE:
        return False
    if array.ndim == 4 or array.dtype == np.uint8:
        return True
    many = array.ndim == 3 or array[0].size >= _IMAGE_COLUMNS
    return many and bool(np.array_equal(array, np.floor(array)))


def _reaches_weights(subject: Subject, describe: _Describe) -> bool:
    """Whether a fresh layer with weights takes values whose scales are wrong.

    Of what is looked up, or scaled inside the model by whatever operation, it takes others; what
    does not train has the scale that it was trained with.
    """
    x, _, _ = subject.few
    first = len(leaves(x))
    taken: list[bool] = []

    def is_last(call: layers.Call) -> bool:
        inside = any(isinstance(each, keras.layers.RNN) for each in call.around)
        if isinstance(call.layer, layers.NORMALIZING) and not taken:
            taken.append(False)  # it scales each column once it is trained
        elif not inside and call.inputs and _has_kernel(call.layer):
            given = np.asarray(call.inputs[0]) if call.layer.trainable_weights else None
            taken.append(given is not None and describe(given, "x", ()) is not None)
        return len(taken) == first

    layers.first_call(subject.model, x, is_last)
    return any(taken)


def _has_kernel(layer: Any) -> bool:
    if isinstance(layer, keras.layers.Embedding):
        return False
    if isinstance(layer, keras.layers.RNN):
        return True
    return any(len(each.shape) > 1 for each in own_variables(layer))


def size(values: Any) -> float:
    """Root of the mean square."""
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def is_on_its_way(predicted: _Array, targets: _Array) -> bool:
    """Whether a column of predictions has come nearer to distant targets, and not near enough."""
    far, spread, error = size(targets), targets.std(), size(targets - predicted)
    if not spread < error < far:
        return False
    away = np.sign(targets.mean()) * (targets.mean() - predicted.mean())
    if far >= _BEYOND * spread and away > spread and error**2 - away**2 <= _WITHIN * spread**2:
        return True
    if far >= _AWAY * spread and error > _ASTRAY * spread:
        return True
    nearer = size(predicted) <= far / 2
    return bool(far >= FAR * min(spread, 1.0) and (far >= FAR * spread or nearer))


def is_distant(targets: _Array) -> bool:
    """Whether a column of targets is to be standardised before a network is trained on it.

    That is one far from zero, for how little it varies or as it is.
    """
    return bool(abs(targets.mean()) >= _BEYOND * targets.std() > 0 or size(targets) >= _AWAY)


def is_out_of_reach(predicted: _Array, targets: _Array) -> bool:
    """Whether a column of targets is far from zero, and from what an untrained network predicts."""
    from_start = abs(targets.mean() - predicted.mean())
    return bool(min(from_start, abs(targets.mean())) >= FAR * targets.std() > 0)
