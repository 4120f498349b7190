"""Rows and streams: taken, split, read in pieces, hashed and standardised, whatever holds them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from orchestrator.data import rows, split, standardize
from orchestrator.data.rows import Batch, Rows, Scaling
from tests.builders import LAW

X = np.arange(24.0).reshape(12, 2)
Y = np.arange(12.0)


def tree(x: npt.NDArray[Any] = X) -> Rows:
    """Two inputs and two outputs whose rows all tell which row they are."""
    x = x.copy()
    return Rows(
        x={"b": x, "a": (x[:, :1], x[:, 1:].astype(np.int64))},
        y={"price": 10 * x[:, 0], "kind": x[:, 0].astype(np.int64)},
        weight=x[:, 0] + 1,
    )


@pytest.fixture
def mapped(tmp_path: Path) -> Rows:
    np.save(tmp_path / "x.npy", X)
    return Rows(x=np.load(tmp_path / "x.npy", mmap_mode="r"), y=Y, weight=Y + 1)


def cut(x: Any, y: Any, sizes: Sequence[int]) -> list[Batch]:
    """Arrays as batches of given sizes."""
    ends = np.cumsum(sizes)
    return [
        (x[end - size : end], y[end - size : end], None)
        for size, end in zip(sizes, ends, strict=True)
    ]


def values(batches: Iterator[Batch]) -> tuple[list[float], list[float]]:
    """First column of x, and y, of every row that a pass gives."""
    found = [(x[:, 0].tolist(), y.tolist()) for x, y, _ in batches]
    return sum((x for x, _ in found), []), sum((y for _, y in found), [])


# ------------------------------------------------------------------------------- trees


def test_leaves_of_a_tree_have_paths_and_a_lone_array_has_none() -> None:
    assert [path for path, _ in rows.leaves(X)] == [""]
    assert [path for path, _ in rows.leaves((X, X))] == ["0", "1"]
    assert [path for path, _ in rows.leaves(tree().x)] == ["a/0", "a/1", "b"]


@pytest.mark.parametrize(
    ("path", "name"), [("", "x"), ("image", "x.image"), ("0/image", "x.0.image")]
)
def test_an_array_is_called_by_its_path_in_messages(path: str, name: str) -> None:
    assert rows.name_of("x", path) == name


def test_taking_rows_of_a_tree_takes_them_of_every_array() -> None:
    found = tree().take(np.array([3, 1]))
    assert len(found) == 2
    assert found.x["b"].tolist() == [[6.0, 7.0], [2.0, 3.0]]
    assert found.x["a"][1].tolist() == [[7], [3]]
    assert (found.y["price"].tolist(), found.y["kind"].tolist()) == ([60.0, 20.0], [6, 2])
    assert found.weight is not None
    assert found.weight.tolist() == [7.0, 3.0]


def test_inputs_are_float32_where_they_are_no_whole_numbers_and_targets_stay_exact() -> None:
    x, y, weight = tree().batch(slice(0, 2))
    types = [array.dtype for _, array in rows.leaves((x, y, weight))]
    assert types == ["f4", "i8", "f4", "i8", "f8", "f8"]
    x, _, _ = dataclasses.replace(tree(), precision="float64").first(2)
    assert [array.dtype for _, array in rows.leaves(x)] == ["f8", "i8", "f8"]
    truth, _, _ = rows.ready((np.array([[True], [False]]), Y[:2], None), {})
    assert (truth.dtype, truth.tolist()) == (np.float32, [[1.0], [0.0]])


def test_only_inputs_with_a_scaling_are_standardised() -> None:
    scaling = Scaling(mean=np.array([1, 2], "f4"), variance=np.array([4, 4], "f4"))
    rows_ = dataclasses.replace(tree(), scalings={"b": scaling})
    x, _, _ = rows_.first(2)
    assert x["b"].tolist() == [[-0.5, -0.5], [0.5, 0.5]]
    assert x["a"][0].tolist() == [[0.0], [2.0]]


@pytest.mark.parametrize(("size", "count"), [(1, 12), (5, 3), (6, 2), (12, 1), (100, 1)])
def test_pieces_hold_every_row_once_in_order(size: int, count: int) -> None:
    found = Rows(x=X, y=Y)
    pieces = list(found.raw(size))
    assert len(pieces) == found.num_batches(size) == count
    assert values(iter(pieces)) == (X[:, 0].tolist(), Y.tolist())


# ------------------------------------------------------------------------------- mapped


def test_a_mapped_file_stays_in_its_file(mapped: Rows) -> None:
    taken = mapped.take(np.array([4, 2, 9])).take(np.array([2, 0]))
    for found in (mapped, taken):
        assert found.lazy
        assert isinstance(found.x, np.memmap)
    assert taken.x is mapped.x
    assert not Rows(x=X, y=Y).lazy


def test_one_mapped_input_among_several_is_enough() -> None:
    assert not tree().lazy


@LAW
@given(st.data())
def test_taking_of_what_was_taken_is_the_same_mapped_and_in_memory(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "taken.npy"
    if not path.exists():
        np.save(path, X)
    mapped = Rows(x=np.load(path, mmap_mode="r"), y=Y, weight=Y + 1)
    here = Rows(x=X, y=Y, weight=Y + 1)
    for _ in range(3):
        chosen = np.array(
            data.draw(st.lists(st.integers(0, len(here) - 1), min_size=1, max_size=12)), np.int64
        )
        mapped, here = mapped.take(chosen), here.take(chosen)
        assert len(mapped) == len(here)
    for one, other in zip(mapped.batches(5), here.batches(5), strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)
    assert rows.fingerprint([mapped]) == rows.fingerprint([here])


def test_a_split_of_a_mapped_file_is_that_of_the_array(mapped: Rows) -> None:
    positions = split.at_random(len(Y), 0.25, 3)
    splits = (map(found.take, positions) for found in (mapped, Rows(x=X, y=Y)))
    for one, other in zip(*splits, strict=True):
        assert values(one.raw()) == values(other.raw())


# ------------------------------------------------------------------------------- hashes

SIZES = st.lists(st.integers(1, 12), min_size=1, max_size=5)


def digest(batches: Sequence[Batch]) -> int:
    return sum(map(rows.digest_rows, batches)) % 2**64


@LAW
@given(st.permutations(range(12)), SIZES)
def test_the_hash_of_batches_knows_neither_order_nor_batches(
    order: list[int], sizes: list[int]
) -> None:
    sizes = [*np.diff([0, *np.unique(np.minimum(np.cumsum(sizes), 11)), 12])]
    assert digest(cut(X[order], Y[order], sizes)) == digest([(X, Y, None)])


@LAW
@given(st.integers(0, 11), st.integers(0, 2), st.integers(0, 63))
def test_the_hash_of_batches_sees_every_bit(row: int, column: int, bit: int) -> None:
    arrays = [X.copy(), Y.copy()]
    changed = arrays[0][:, column] if column < 2 else arrays[1]
    changed.view(np.uint64)[row] ^= np.uint64(1) << np.uint64(bit)
    assert digest([(arrays[0], arrays[1], None)]) != digest([(X, Y, None)])


def test_the_hash_of_batches_sees_which_target_belongs_to_which_row() -> None:
    swapped = Y[[1, 0, *range(2, 12)]]
    columns = X[:, ::-1]
    found = {digest([each]) for each in [(X, Y, None), (X, swapped, None), (columns, Y, None)]}
    found |= {digest([(X, Y, Y)]), digest([(X, Y, Y + 1)]), digest([(X[:-1], Y[:-1], None)])}
    assert len(found) == 6


def test_the_hash_of_batches_sees_rows_that_are_repeated() -> None:
    assert digest([(X, Y, None), (X[:1], Y[:1], None)]) != digest([(X, Y, None)])


@pytest.mark.parametrize("index", range(6))
def test_the_fingerprint_sees_every_array_of_a_tree(index: int) -> None:
    before = rows.fingerprint([tree()])
    assert before == rows.fingerprint([tree()])
    after = tree()
    array = [array for _, array in rows.leaves((after.x, after.y, after.weight))][index]
    array.reshape(-1)[-1] += 1
    assert rows.fingerprint([after]) != before


def test_the_fingerprint_sees_paths_weights_and_what_texts_became() -> None:
    found = [
        rows.fingerprint([Rows(x=X, y=Y)]),
        rows.fingerprint([Rows(x={"a": X}, y=Y)]),
        rows.fingerprint([Rows(x={"b": X}, y=Y)]),
        rows.fingerprint([Rows(x=X, y=Y, weight=Y)]),
        rows.fingerprint([Rows(x=X, y=Y)], "color: red, blue"),
        rows.fingerprint([1]),
        rows.fingerprint([2]),
    ]
    assert len(set(found)) == len(found)


# ------------------------------------------------------------------------------- standardisation

MATRICES = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 30), st.integers(1, 3)),
    elements=st.floats(-1e6, 1e6, width=32),
)


@LAW
@given(MATRICES, st.integers(1, 30))
def test_statistics_in_pieces_are_those_of_numpy_in_two_passes(
    x: npt.NDArray[np.float32], size: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "PIECE", size)
        found = standardize.statistics(Rows(x=x, y=x[:, 0]))[""]
    mean = x.mean(axis=0, dtype=np.float64)
    variance = ((x - mean) ** 2).mean(axis=0)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-6, atol=1e-6)
    varying = variance > 1e-6
    np.testing.assert_allclose(found.variance[varying], variance[varying], rtol=1e-6)
    assert (found.variance[variance == 0] == 1).all()


def test_statistics_of_a_mapped_file_are_those_of_the_rows_that_were_taken(mapped: Rows) -> None:
    chosen = np.array([0, 2, 3])
    one = standardize.statistics(mapped.take(chosen))[""]
    other = standardize.statistics(Rows(x=X[chosen], y=Y[chosen]))[""]
    assert (
        one.mean.tolist() == other.mean.tolist() == [pytest.approx(10 / 3), pytest.approx(13 / 3)]
    )
    assert one.variance.tolist() == other.variance.tolist()


def test_whole_numbers_among_several_inputs_are_left_alone() -> None:
    assert standardize.statistics(tree()).keys() == {"a/0", "b"}


def test_a_single_input_of_whole_numbers_is_standardised() -> None:
    found = standardize.statistics(Rows(x=X.astype(np.int64), y=Y))[""]
    assert found.mean.tolist() == [11.0, 12.0]


def test_statistics_of_each_input_are_its_own() -> None:
    found = standardize.statistics(Rows(x=(X[:, :1], 10 * X[:, 1:]), y=Y))
    assert [found[path].mean.tolist() for path in ("0", "1")] == [[11.0], [120.0]]


def test_pieces_of_large_rows_hold_few_of_them() -> None:
    """Memory is bounded by what a piece weighs, not by how many rows it has."""
    images = np.lib.stride_tricks.as_strided(  # 1,000 rows of 4 MB that take none
        np.zeros(1, np.float32), (1000, 1024, 1024), (0, 0, 0)
    )
    x, _, _ = next(iter(Rows(x=images, y=np.zeros(1000)).raw()))
    assert 0 < x.nbytes <= rows.PIECE_BYTES
    assert rows.piece(np.zeros((2, 2**26), "f4")) == 1
