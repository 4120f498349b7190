"""Tables of other libraries in memory: frames and series of pandas, polars and Arrow, as arrays.

None of these is imported; each is known by where its type comes from.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np

from orchestrator.errors import InvalidError, Problem

_LIBRARIES = ("pandas", "polars", "pyarrow")
_COPIED = {"zero_copy_only": False}
"""How an array of Arrow's is asked for an array of NumPy's whatever it holds."""
_DENSE_BYTES = 2**30
"""A sparse matrix is made dense up to this size: 1 GiB."""


def is_foreign(value: Any) -> bool:
    """Whether a value is one of these, or a sparse matrix of SciPy's."""
    return _library(value) in (*_LIBRARIES, "scipy") and hasattr(value, "shape") or _is_arrow(value)


def to_numpy(value: Any, role: str, name: str) -> Any:
    """A frame as an array of shape (rows, columns), a series as one of shape (rows,).

    Args:
        value: for which `is_foreign` is true.
        role: how to call it in messages.
        name: how to call whose it is.

    Raises:
        InvalidError: a column holds what is no number and no text, or nothing in some row; texts
            stand beside numbers, or two columns have the same name.
    """
    if _library(value) == "scipy":
        return _dense(value, role, name)
    columns = _columns(value)
    if columns is None:
        return _column(value, role, name)
    if not columns:
        raise _refused(name, f"{role}: expected columns, received none")
    places: dict[str, int] = {}
    for place, (label, _) in enumerate(columns):
        if places.setdefault(label, place) != place:
            both = f"columns {places[label] + 1} and {place + 1}"
            raise _refused(name, f"{role}: {both} have the same name {label!r}", "rename one")
    arrays = {label: _column(each, f"{role}: column {label}", name) for label, each in columns}
    kinds = {label: array.dtype.kind in "USO" for label, array in arrays.items()}
    if len(set(kinds.values())) > 1:
        texts = next(label for label, is_text in kinds.items() if is_text)
        message = f"{role}: column {texts} holds texts, others hold numbers"
        hint = "encode the texts, or give a dict with an array for each input of the model"
        raise _refused(name, message, hint)
    return np.column_stack([*arrays.values()])


def _library(value: Any) -> str:
    return type(value).__module__.partition(".")[0]


def _is_arrow(value: Any) -> bool:
    return _library(value) == "pyarrow" and (
        hasattr(value, "to_numpy") or hasattr(value, "column_names")
    )


def _columns(value: Any) -> list[tuple[str, Any]] | None:
    """The columns of a frame with their names; None for a series."""
    if _library(value) == "pyarrow":
        names = getattr(value, "column_names", None)
        return None if names is None else [*zip(names, value.columns, strict=True)]
    if len(value.shape) == 1:
        return None
    if _library(value) == "polars":
        return [(each.name, each) for each in value.get_columns()]
    return [(str(label), value.iloc[:, place]) for place, label in enumerate(value.columns)]


def _column(value: Any, role: str, name: str) -> Any:
    """One column: numbers, or texts as objects."""
    missing = _missing(value)
    if missing is not None:
        message = f"{role}: expected a value in every row, row {missing} (from 0) has none"
        raise _refused(name, message, "fill it in or drop the row")
    kind = getattr(value, "dtype", None) or getattr(value, "type", None)
    categories = getattr(kind, "categories", None)
    if categories is not None and _library(value) == "pandas":
        value = value.astype(categories.dtype)
    exact = getattr(
        getattr(value, "dtype", None), "numpy_dtype", None
    )  # of pandas's nullable types
    if _library(value) == "pandas" and exact is not None and exact.kind in "iufb":
        array = value.to_numpy(dtype=exact)
    elif _library(value) == "pyarrow" and not hasattr(value, "chunks"):
        array = value.to_numpy(**_COPIED)
    else:
        array = value.to_numpy()
    if array.dtype == object and not all(isinstance(each, str | bytes) for each in array):
        array = np.asarray([float(each) if isinstance(each, Decimal) else each for each in array])
    if array.dtype.kind in "mM":
        message = f"{role}: expected numbers or texts, received the type {kind}"
        hint = "make numbers of it, such as days since a date, or leave it out"
        raise _refused(name, message, hint)
    return array


def _missing(value: Any) -> int | None:
    """Position of the first row without a value, where NaN does not say so."""
    if _library(value) == "pandas":
        if isinstance(value.dtype, np.dtype) and value.dtype.kind == "f":
            return None
        flags = value.isna().to_numpy()
    elif _library(value) == "polars":
        flags = value.is_null().to_numpy()
    else:
        flags = value.is_null().to_numpy(**({} if hasattr(value, "chunks") else _COPIED))
    rows = np.flatnonzero(flags)
    return int(rows[0]) if len(rows) else None


def _dense(value: Any, role: str, name: str) -> Any:
    """A sparse matrix as an array."""
    size = int(np.prod(value.shape)) * value.dtype.itemsize
    if size > _DENSE_BYTES:
        message = (
            f"{role}: expected an array, received a sparse matrix of {size / 1e9:.1f} GB if dense"
        )
        raise _refused(name, message, "give batches of it, from a generator that makes them dense")
    return value.toarray()


def _refused(name: str, message: str, hint: str | None = None) -> InvalidError:
    return InvalidError([Problem(file=name, message=message, hint=hint)])
