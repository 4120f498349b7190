"""Which rows are held back: partitions that depend on the seed alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.data import split
from orchestrator.data.split import Positions
from tests.builders import LAW

SEEDS = st.integers(0, 2**32 - 1)
FRACTIONS = st.floats(0.001, 0.999)


def assert_partition(parts: tuple[Positions, Positions], count: int) -> None:
    assert all(np.all(np.diff(part) > 0) and len(part) for part in parts)
    assert sorted(np.concatenate(parts).tolist()) == list(range(count))


@LAW
@given(st.integers(2, 60), FRACTIONS, SEEDS)
def test_a_random_split_is_a_partition(count: int, fraction: float, seed: int) -> None:
    parts = split.at_random(count, fraction, seed)
    assert_partition(parts, count)
    assert len(parts[1]) == min(max(round(count * fraction), 1), count - 1)
    assert [*map(list, parts)] == [*map(list, split.at_random(count, fraction, seed))]


def test_another_seed_holds_back_other_rows() -> None:
    assert split.at_random(100, 0.2, 0)[1].tolist() != split.at_random(100, 0.2, 1)[1].tolist()
    labels = np.arange(100) % 3
    assert split.by_class(labels, 0.2, 0)[1].tolist() != split.by_class(labels, 0.2, 1)[1].tolist()


@LAW
@given(st.integers(2, 60), FRACTIONS)
def test_the_last_rows_are_the_last(count: int, fraction: float) -> None:
    parts = split.last(count, fraction)
    assert_partition(parts, count)
    assert parts[0][-1] < parts[1][0]


@LAW
@given(st.lists(st.integers(2, 30), min_size=1, max_size=6), FRACTIONS, SEEDS)
def test_each_class_has_its_share(counts: list[int], fraction: float, seed: int) -> None:
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    parts = split.by_class(labels, fraction, seed)
    assert_partition(parts, len(labels))
    held = np.bincount(labels[parts[1]], minlength=len(counts))
    for own, count in zip(held, counts, strict=True):
        assert 1 <= own <= count - 1
        assert abs(own - np.clip(count * fraction, 1, count - 1)) <= 1
    if all(1 <= count * fraction <= count - 1 for count in counts):
        assert len(parts[1]) == round(len(labels) * fraction)


@LAW
@given(st.lists(st.integers(0, 8), min_size=2, max_size=60), FRACTIONS, SEEDS)
def test_no_group_is_on_both_sides(groups: list[int], fraction: float, seed: int) -> None:
    names = np.array([f"g{each}" for each in groups])
    if len(set(groups)) == 1:
        with pytest.raises(ValueError, match="all rows have the value 'g"):
            split.by_group(names, fraction, seed)
        return
    parts = split.by_group(names, fraction, seed)
    assert_partition(parts, len(names))
    assert not set(names[parts[0]]) & set(names[parts[1]])
    largest = max(np.unique(names, return_counts=True)[1])
    assert abs(len(parts[1]) - len(names) * fraction) <= largest


@pytest.mark.parametrize("seed", range(8))
def test_a_group_far_beyond_the_share_is_not_held_back(seed: int) -> None:
    assert len(split.by_group(np.repeat([0, 1], [950, 50]), 0.2, seed)[1]) == 50
    assert len(split.by_group(np.repeat([0, 1, 2], [600, 100, 300]), 0.01, seed)[1]) == 100


@pytest.mark.parametrize(
    ("counts", "fraction", "drawn"),
    [([3, 1, 4, 1, 5, 9, 2, 6, 5], 0.3, [0, 3, 5, 6]), ([8] * 5, 0.1, [3])],
)
def test_groups_are_drawn_as_in_earlier_versions(
    counts: list[int], fraction: float, drawn: list[int]
) -> None:
    groups = np.repeat(range(len(counts)), counts)
    held = split.by_group(groups, fraction, 8)[1]
    assert held.tolist() == np.flatnonzero(np.isin(groups, drawn)).tolist()


def test_a_class_of_one_row_cannot_be_parted() -> None:
    with pytest.raises(ValueError, match="the class 'b' has a single row"):
        split.by_class(np.array(["a", "a", "b"]), 0.5, 0)
