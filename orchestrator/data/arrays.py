"""Arrays as people hand them in: what becomes one, and whether its values can be trained on."""

from __future__ import annotations

import numbers
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from orchestrator.data import frames, rows
from orchestrator.data.rows import Array, Batch, Rows, Tree
from orchestrator.errors import InvalidError, Problem


def from_values(x: Any, y: Any, weight: Any = None, *, name: str, whole: bool = True) -> Rows:
    """Rows from arrays, or what becomes one, and trees of them.

    Args:
        x: inputs.
        y: targets.
        weight: weight of each row, or None.
        name: how to call them in messages.
        whole: whether these are all rows, and not a batch of them.

    Returns:
        The rows.

    Raises:
        InvalidError: they are not arrays of numbers, do not fit or are not finite.
    """
    names = {"x": "x", "y": "y", "weight": "sample_weight"}
    return checked(*converted(x, y, weight, name=name), name, names, whole=whole)


def converted(x: Any, y: Any, weight: Any = None, *, name: str) -> Batch:
    """What the user's code gives, as trees of arrays.

    Args:
        x: inputs.
        y: targets; None for none, which are an empty tree.
        weight: weight of each row, or None.
        name: how to call them in messages.

    Raises:
        InvalidError: NumPy makes no array of them.
    """
    given = None if weight is None else _weights(weight, name)
    none = y is None or (isinstance(y, tuple) and not y)
    targets = () if none else tree_of(y, "y", name)
    return tree_of(x, "x", name), targets, given


def _weights(value: Any, name: str) -> Array:
    """The weights of rows; a single column of them is a vector."""
    found = tree_of(value, "sample_weight", name)
    if not isinstance(found, np.ndarray):
        message = "sample_weight: expected one weight a row for all outputs, received several"
        raise invalid(name, message, "compile.loss_weights says how much each output counts")
    return found[:, 0] if found.ndim == 2 and found.shape[1] == 1 else found


def tree_of(value: Any, role: str, name: str) -> Tree:
    """Arrays as people hand them in, taken as Keras's `fit` takes them.

    Args:
        value: an array, or what NumPy makes one of; or a dict, tuple or list of such for several
            inputs or outputs, with None for an output that has no targets. A list of numbers, or of
            lists of them, is one array.
        role: `x` or `y`.
        name: how to call whose they are in messages.

    Returns:
        An array, or a dict or tuple of trees.

    Raises:
        InvalidError: NumPy makes no array of it.
    """
    if value is None and role.startswith("y."):
        return None
    if frames.is_foreign(value):
        return _array(value, role, name)
    if isinstance(value, Mapping) and value:
        return {str(key): tree_of(each, f"{role}.{key}", name) for key, each in value.items()}
    if _is_several(value):
        return tuple(tree_of(each, f"{role}.{index}", name) for index, each in enumerate(value))
    return _array(value, role, name)


def _is_several(value: Any) -> bool:
    """Whether these are arrays, and not the numbers of one."""
    if not isinstance(value, list | tuple):
        return False
    lists = list | tuple if isinstance(value, tuple) else ()  # a list of lists is a matrix
    return any(
        isinstance(each, Mapping) or len(getattr(each, "shape", ())) > 0
        or isinstance(each, lists) or _is_several(each)
        for each in value
    )  # fmt: skip


def _array(value: Any, role: str, name: str) -> Array:
    expected = f"{role}: expected an array of numbers, received"
    if frames.is_foreign(value):
        value = frames.to_numpy(value, role, name)
    try:
        array = np.asanyarray(value)
    except Exception as error:
        uneven = "inhomogeneous" in str(error)  # NumPy tells by the text alone
        what = "its rows have different lengths" if uneven else summary(error)
        hint = _PAD if uneven else None
        raise invalid(name, f"{expected} {type(value).__name__}: {what}", hint) from error
    if isinstance(array, np.ma.MaskedArray):
        if np.ma.is_masked(array):
            raise invalid(name, f"{expected} masked values", "fill them in or drop the rows")
        array = array.data
    if array.dtype == object:
        array = _of_objects(array, role, name)
    if array.dtype.kind == "V" and "float" in array.dtype.name:
        array = array.astype(np.float32)  # TensorFlow's bfloat16, with which NumPy cannot calculate
    return _in_memory(array) if isinstance(array, np.memmap) else array


def _of_objects(array: Array, role: str, name: str) -> Array:
    """Objects of Python's as numbers, or as texts.

    Raises:
        InvalidError: they are neither, or rows have different lengths.
    """
    expected = f"{role}: expected an array of numbers, received"
    if array.ndim == 0:
        raise invalid(name, f"{expected} {type(array.item()).__name__}")
    kinds = {type(each) for each in array.flat}
    if kinds and all(issubclass(kind, str | bytes) for kind in kinds):
        # As texts of NumPy's each would take the room of the longest.
        longest = max(map(len, array.flat)) * array.size
        compact = longest <= _PADDED * sum(map(len, array.flat)) + 2**16
        return np.asarray(array.tolist()) if compact and len(kinds) == 1 else array
    for place, each in np.ndenumerate(array):
        if not isinstance(each, numbers.Number | Decimal | np.generic | np.ndarray | list | tuple):
            row = f"{type(each).__name__} in row {place[0]} (from 0)"
            raise invalid(name, f"{expected} {row}", "fill it in or drop the row")
    try:
        found = np.asarray(array.tolist())
        return found.astype(np.float64) if found.dtype == object else found
    except (TypeError, ValueError, OverflowError) as error:
        message = f"{expected} rows of different lengths"
        raise invalid(name, message, _PAD) from error


_PAD = "pad them to one length, as keras.utils.pad_sequences does"
_PADDED = 4
"""How much larger texts may be as an array of NumPy's."""


def _in_memory(array: np.memmap[Any, Any]) -> Array:
    """A mapped array as an ordinary one, unless another process finds the same in its file.

    NumPy also calls the result of `mapped.astype(…)` a mapped array, which has no file at all; the
    file may be gone, or what is mapped may have been changed in memory only.
    """
    found = array.filename is not None and Path(array.filename).is_file()
    return array if found and array.mode != "c" else array.view(np.ndarray)


def checked(
    x: Tree,
    y: Tree,
    weight: Array | None,
    name: str,
    names: dict[str, str],
    *,
    whole: bool = True,
) -> Rows:
    """Rows of arrays that fit each other and hold nothing but finite numbers.

    Args:
        x: inputs.
        y: targets; texts are classes.
        weight: weight of each row, or None.
        name: how to call the file or function in messages.
        names: how to call x, y and weight.
        whole: whether these are all rows, of which one at least must count.

    Returns:
        The rows, arranged as `_arranged` does.

    Raises:
        InvalidError: with every problem.
    """
    batch = arranged((x, y, weight))
    problems = []
    lengths: dict[str, int] = {}
    for role, tree in zip(("x", "y", "weight"), batch, strict=True):
        for path, array in rows.leaves(tree):
            key = rows.name_of(names[role], path)
            message = _wrong(array, texts=role == "x" or (role == "y" and array.ndim == 1))
            if message:
                problems.append(Problem(file=name, key=key, message=message))
            if array.ndim:
                lengths[key] = array.shape[0]
    if weight is not None and not problems:
        problems += wrong_weights(weight, name, names["weight"], whole=whole)
    if len(set(lengths.values())) > 1:
        first, count = next(iter(lengths.items()))
        other = next(key for key, length in lengths.items() if length != count)
        received = f"received {count} rows of {first} and {lengths[other]} of {other}"
        message = f"expected as many targets as inputs, {received}"
        hint = None
        if isinstance(x, tuple) or isinstance(y, tuple):
            hint = "several arrays are several inputs or outputs: numpy.stack makes one of them"
        problems.append(Problem(file=name, message=message, hint=hint))
    if problems:
        raise InvalidError(problems)
    x, y, weight = batch
    return Rows(x=x, y=y, weight=weight)


def arranged(batch: Batch) -> Batch:
    """Truth values as numbers, a vector of inputs as one column."""
    x, y, weight = batch

    def column(array: Array) -> Array:
        # A layer that looks texts up, or counts in them, takes a vector of them as it is.
        return array[:, np.newaxis] if array.ndim == 1 and not rows.is_text(array) else array

    return (
        rows.transform(lambda array: column(_without_truth(array)), x),
        rows.transform(_without_truth, y),
        weight,
    )


def _without_truth(array: Array) -> Array:
    """Keras and NumPy calculate with numbers, not with truth values; mapped ones stay mapped."""
    mapped = isinstance(array, np.memmap)
    return array.astype(np.float32) if array.dtype.kind == "b" and not mapped else array


def _wrong(array: Array, *, texts: bool) -> str:
    """A clause on what is wrong with an array, or an empty text."""
    if texts and rows.is_text(array) and array.ndim and array.size:
        return ""
    if array.dtype.kind not in "fiub":
        return f"expected an array of numbers, received dtype {array.dtype}"
    if array.ndim == 0:
        return "expected one row per sample, received a single number"
    if array.shape[0] == 0 or array.size == 0:
        return f"expected at least one row, received shape {array.shape}"
    return _non_finite(array)


def wrong_weights(weight: Array, name: str, key: str, *, whole: bool) -> Iterator[Problem]:
    """What is wrong with weights: of all rows, of which one at least must count, or of a batch."""
    if weight.ndim != 1:
        message = f"expected one weight a row, received shape {weight.shape}"
        yield Problem(file=name, key=key, message=message)
    elif (weight < 0).any():
        row = int(np.flatnonzero(weight < 0)[0])
        message = f"row {row} (from 0): expected a weight of at least 0, received {weight[row]:g}"
        yield Problem(file=name, key=key, message=message)
    elif whole and not weight.any():
        yield Problem(file=name, key=key, message="expected weights above 0, received only zeros")


def _non_finite(array: Array) -> str:
    """A clause on the first value that float32 cannot hold, or an empty text."""
    if array.dtype.kind != "f":
        return ""
    size = rows.piece(array)
    for begin in range(0, array.shape[0], size):
        part = np.asarray(array[begin : begin + size])
        bad = np.argwhere(beyond_float32(part))
        if len(bad):
            row, *column = (int(index) for index in bad[0])
            place = f", column {', '.join(map(str, column))}" if column else ""
            value = part[tuple(bad[0])]
            where = f"row {begin + row}{place} (from 0)"
            return f"{where}: expected a finite float32 number, received {value}"
    return ""


FLOAT32_MAX = np.finfo(np.float32).max
"""The largest number in the type that the model computes in."""


def beyond_float32(array: Array) -> npt.NDArray[np.bool_]:
    """Where an array is NaN, infinite or larger than float32, which the model computes in."""
    return ~(np.isfinite(array) & (np.abs(array) <= FLOAT32_MAX))


def invalid(
    file: str, message: str, hint: str | None = None, line: int | None = None
) -> InvalidError:
    """One problem with a file."""
    return InvalidError([Problem(file=file, line=line, message=message, hint=hint)])


def summary(error: Exception) -> str:
    """The first line of what a library says."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def has_texts(tree: Tree) -> bool:
    """Whether an array of the tree holds texts."""
    return any(rows.is_text(array) for _, array in rows.leaves(tree))
