"""Frames and series of pandas, polars and Arrow are the arrays that they hold, or told in words."""
# ruff: noqa: E501 - messages are quoted whole

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from orchestrator.data.arrays import from_values
from orchestrator.data.rows import Rows
from orchestrator.data.streams.batches import Batches
from orchestrator.errors import InvalidError
from orchestrator.training import retrain

A, B, Y = [1.5, 2.5, 3.5], [4, 5, 6], [0, 1, 0]
DECIMALS = [Decimal(str(each)) for each in A]
MATRIX = np.array([A, B]).T


def everywhere(x: Any, y: Any = Y) -> list[Rows]:
    """The rows as a config's callable, `retrain` and `diagnose` take them."""
    given = retrain._values("train", x, y)
    batches = Batches(x, y)
    assert batches.arrays is not None
    return [from_values(x, y, name="f"), from_values(*given, name="f"), batches.arrays]


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"a": A, "b": B}),
        pd.DataFrame({"a": A, "b": B}, index=[7, 5, 3]),
        pd.DataFrame({"a": A, "b": pd.array(B, "Int64")}),
        pd.DataFrame({"a": pd.array(A, "Float32"), "b": pd.array(B, "Int8")}),
        pd.DataFrame({"a": A, "b": pd.Categorical(B)}),
        pd.DataFrame({"a": A, "b": pd.array(B, "int64[pyarrow]")}),
        pd.DataFrame({"a": np.array(A, object), "b": B}),
        pd.DataFrame({"a": DECIMALS, "b": B}),
        pd.DataFrame({"a": pd.array(DECIMALS, pd.ArrowDtype(pa.decimal128(3, 1))), "b": B}),
        pl.DataFrame({"a": A, "b": B}),
        pl.DataFrame({"a": DECIMALS, "b": B}),
        pa.table({"a": A, "b": B}),
        pa.table({"a": DECIMALS, "b": B}),
        pa.RecordBatch.from_pydict({"a": A, "b": B}),
    ],
)
def test_a_frame_is_its_columns_side_by_side(frame: Any) -> None:
    for found in everywhere(frame):
        np.testing.assert_array_equal(np.asarray(found.x), MATRIX)


@pytest.mark.parametrize(
    "series",
    [
        pd.Series(Y, index=[2, 0, 1]),
        pd.Series(Y, dtype="UInt8"),
        pd.Series(Y, dtype="boolean"),
        pd.Series(Y, dtype="category"),
        pd.DataFrame({"y": Y}),
        pl.Series(Y),
        pl.Series([False, True, False]),
        pa.array(Y),
        pa.chunked_array([Y[:2], Y[2:]]),
        pa.array([False, True, False]),
    ],
)
def test_a_series_is_a_vector(series: Any) -> None:
    for found in everywhere(MATRIX, series):
        assert np.ravel(found.y).astype(int).tolist() == Y


@pytest.mark.parametrize(
    "series",
    [
        pd.Series(["u", "v", "u"]),
        pd.Series(["u", "v", "u"], dtype=object),
        pd.Series(["u", "v", "u"], dtype="string"),
        pd.Series(["u", "v", "u"], dtype="category"),
        pl.Series(["u", "v", "u"]),
        pl.Series(["u", "v", "u"], dtype=pl.Categorical),
        pa.array(["u", "v", "u"]),
    ],
)
def test_a_series_of_texts_is_texts(series: Any) -> None:
    for found in everywhere(series):
        assert np.ravel(found.x).tolist() == ["u", "v", "u"]
    classes = from_values(MATRIX, series, name="f").y
    assert classes.tolist() == ["u", "v", "u"]


def test_series_by_name_are_several_inputs() -> None:
    frame = pd.DataFrame({"a": A, "b": B})
    found = from_values(dict(frame), Y, name="f").x
    assert {name: array.ravel().tolist() for name, array in found.items()} == {"a": A, "b": B}


MISSING = "expected a value in every row, row 1 .from 0. has none; fill it in or drop the row"
DATES = "expected numbers or texts, received the type .*; make numbers of it"


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pd.DataFrame({"a": pd.array([1, None, 3], "Int64")}), f"x: column a: {MISSING}"),
        (pd.DataFrame({"a": ["u", None, "v"]}), f"x: column a: {MISSING}"),
        (pd.DataFrame({"a": pd.Categorical([1, None, 2])}), f"x: column a: {MISSING}"),
        (pl.DataFrame({"a": [1, None, 3]}), f"x: column a: {MISSING}"),
        (pa.table({"a": [1, None, 3]}), f"x: column a: {MISSING}"),
        (pa.array([1, None, 3]), f"x: {MISSING}"),
        (pd.DataFrame({"a": A, "t": pd.to_datetime(["2020-01-01"] * 3)}), f"x: column t: {DATES}"),
        (pl.DataFrame({"a": A, "t": pl.Series(["2020-01-01"] * 3).str.to_date()}), f"x: column t: {DATES}"),
        (pd.DataFrame({"a": A, "t": ["u", "v", "w"]}), "x: column t holds texts, others hold numbers; encode"),
        (pd.DataFrame(index=[0, 1, 2]), "x: expected columns, received none"),
    ],
)  # fmt: skip
def test_what_is_neither_number_nor_text_is_told_with_its_column(frame: Any, message: str) -> None:
    with pytest.raises(InvalidError, match=message):
        from_values(frame, Y, name="f")
    with pytest.raises(InvalidError, match=message):
        Batches(frame, Y)


@pytest.mark.parametrize(
    ("frame", "label"),
    [
        (pd.concat([pd.DataFrame({"a": A})] * 2, axis=1), "a"),
        (pd.DataFrame(MATRIX, columns=pd.Index([1, "1"], dtype=object)), "1"),
        (pa.table([pa.array(A), pa.array(B)], names=["a", "a"]), "a"),
        (pa.RecordBatch.from_arrays([pa.array(A), pa.array(B)], names=["a", "a"]), "a"),
    ],
)
def test_no_column_is_lost_to_another_of_its_name(frame: Any, label: str) -> None:
    message = f"f: x: columns 1 and 2 have the same name '{label}'; rename one"
    with pytest.raises(InvalidError, match=message):
        from_values(frame, Y, name="f")
    with pytest.raises(InvalidError, match="columns 1 and 2 have the same name"):
        Batches(frame, Y)


def test_a_number_that_is_none_is_told_by_its_place() -> None:
    frame = pd.DataFrame({"a": A, "b": [1.0, np.nan, 2.0]})
    with pytest.raises(InvalidError, match=r"f: x: row 1, column 1 .* received nan"):
        from_values(frame, Y, name="f")
