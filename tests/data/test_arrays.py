"""Arrays as people hand them in: taken the same everywhere, and as plain Keras takes them."""

from decimal import Decimal
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter

from orchestrator.data import arrays
from orchestrator.data.rows import Batch, leaves
from orchestrator.data.streams.batches import Batches
from orchestrator.errors import InvalidError
from orchestrator.training import retrain
from tests.builders import LAW


def everywhere(x: Any, y: Any) -> list[Batch]:
    """x and y as a data callable, `retrain` and `diagnose` take them."""
    found = Batches(x, y).arrays
    assert found is not None
    return [
        arrays.converted(x, y, name="f"),
        retrain._values("train", x, y),
        (found.x, found.y, None),
    ]


def told(tree: Any) -> list[tuple[str, Any]]:
    return [(path, array.tolist()) for path, array in leaves(tree)]


ROWS = 3
LEAF = hnp.arrays(
    np.float32,
    st.sampled_from([(ROWS,), (ROWS, 1), (ROWS, ROWS), (ROWS, 2, 2)]),
    elements=st.integers(-9, 9),
)
TREE = st.recursive(
    LEAF,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=4),
        st.lists(inner, min_size=1, max_size=4).map(tuple),
        st.dictionaries(st.sampled_from("abcd"), inner, min_size=1, max_size=3),
    ),
    max_leaves=5,
)


@LAW
@given(TREE, TREE)
def test_what_keras_takes_is_taken_alike_everywhere(x: Any, y: Any) -> None:
    adapter = ArrayDataAdapter(x, y, batch_size=ROWS)
    expected = [
        [np.reshape(array, (ROWS, -1)).tolist() for array in keras.tree.flatten(part)]
        for part in next(iter(adapter.get_numpy_iterator()))
    ]
    for found in everywhere(x, y):
        assert [
            [array.reshape(ROWS, -1).tolist() for _, array in leaves(part)] for part in found[:2]
        ] == expected


@LAW
@given(TREE)
def test_lists_of_numbers_are_the_array_that_numpy_makes_of_them(x: Any) -> None:
    """Keras refuses them; several of them are several in a tuple or a dict."""
    listed = keras.tree.map_structure(lambda array: array.tolist(), x)
    if not isinstance(x, np.ndarray):
        listed = _tupled(listed, x)
    for found in everywhere(listed, [0.0] * ROWS):
        assert told(found[0]) == told(arrays.tree_of(x, "x", "f"))


def _tupled(listed: Any, like: Any) -> Any:
    """The same with tuples in place of the lists that hold arrays."""
    if isinstance(like, dict):
        return {key: _tupled(listed[key], each) for key, each in like.items()}
    if isinstance(like, list | tuple):
        return tuple(map(_tupled, listed, like))
    return listed


def test_a_list_of_two_arrays_is_two_of_them_whatever_their_length() -> None:
    pair = [np.array([1, 2]), np.array([3, 4])]
    for x, y, _ in everywhere(pair, pair):
        assert told(x) == told(y) == [("0", [1, 2]), ("1", [3, 4])]


def test_what_is_no_array_is_named() -> None:
    with pytest.raises(InvalidError, match=r"f: x\.b: expected an array of numbers, received list"):
        arrays.converted({"a": [1, 2], "b": [[1], [2, 3]]}, [1, 2], name="f")


@pytest.mark.parametrize("uneven", [[[1], [2, 3]], np.array([[1], [2, 3]], object)])
def test_rows_of_different_lengths_are_to_be_padded(uneven: Any) -> None:
    with pytest.raises(
        InvalidError,
        match=r"^f: x: expected an array of numbers, received (list: its )?rows (of|have) "
        r"different lengths; pad them to one length, as keras\.utils\.pad_sequences does$",
    ):
        arrays.converted(uneven, [1, 2], name="f")


def test_texts_in_an_array_of_objects_are_classes() -> None:
    classes = np.array(["cat", "dog", "cat"], dtype=object)
    for y in (
        arrays.converted([0], classes, name="f")[1],
        retrain._values("train", [0], classes)[1],
    ):
        assert (y.dtype.kind, y.tolist()) == ("U", ["cat", "dog", "cat"])


@pytest.mark.parametrize(
    ("values", "received"),
    [
        (np.ma.masked_array([1.0, 2.0, 3.0], [0, 0, 1]), "masked values; fill them in"),
        ([1, None, 3], r"NoneType in row 1 \(from 0\); fill it in or drop the row"),
        (np.array([[1], [1, 2], [3]], object), "rows of different lengths; pad them to one length"),
        (np.array([1, {}, 3], object), r"dict in row 1 \(from 0\)"),
    ],
)
def test_what_holds_anything_but_numbers_is_refused_everywhere(values: Any, received: str) -> None:
    message = f"x: expected an array of numbers, received {received}"
    with pytest.raises(InvalidError, match=message):
        arrays.from_values(values, [0.0] * ROWS, name="f")
    with pytest.raises(InvalidError, match=message):
        retrain._values("train", values, [0.0] * ROWS)


def test_numbers_as_objects_are_numbers() -> None:
    pieces = np.empty(ROWS, object)
    pieces[:] = [np.arange(2.0)] * ROWS
    for values, kind, shape in (
        (np.array([1, 2, 3], object), "i", (ROWS, 1)),
        (np.array([1, 2.5, Decimal(3)], object), "f", (ROWS, 1)),
        (pieces, "f", (ROWS, 2)),
    ):
        for x, _, _ in everywhere(values, [0.0] * ROWS):
            assert (x.dtype.kind, x.reshape(ROWS, -1).shape) == (kind, shape)


def test_long_texts_do_not_all_take_the_room_of_the_longest() -> None:
    texts = np.array(["short"] * 999 + ["x" * 10_000], object)
    found, _, _ = arrays.converted(texts, np.zeros(1000), name="f")
    assert found.dtype == object
    short, _, _ = arrays.converted(texts[:999], np.zeros(999), name="f")
    assert short.dtype.kind == "U"


def test_an_array_that_could_be_masked_and_is_not_is_taken() -> None:
    for x, _, _ in everywhere(np.ma.masked_array([1.0, 2.0, 3.0]), [0.0] * ROWS):
        assert (type(x), x.tolist()) == (np.ndarray, [1.0, 2.0, 3.0])
