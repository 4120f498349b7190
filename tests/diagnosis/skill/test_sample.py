"""Rows are drawn from all over the data, and few enough to be kept."""

import numpy as np
import pytest

from orchestrator.data.rows import Rows
from orchestrator.diagnosis.skill.sample import Sample, as_columns, draw


def test_inputs_stand_side_by_side() -> None:
    x = {"a": np.arange(4, dtype=np.uint8).reshape(2, 2), "b": np.array([[[0.5]], [[1.5]]])}
    found = as_columns(x)
    assert found is not None
    assert found.tolist() == [[0, 1, 0.5], [2, 3, 1.5]]


def test_texts_are_no_numbers() -> None:
    assert as_columns((np.zeros((2, 1)), np.array(["a", "b"]))) is None


def test_of_very_wide_rows_the_same_columns_are_taken_of_every_batch() -> None:
    x = np.arange(2 * 5000.0).reshape(2, 5000)
    found = as_columns((x[:, :100], x[:, 100:]))
    assert found is not None
    assert found.shape == (2, 3000)
    assert np.array_equal(found[1] - found[0], np.full(3000, 5000))


def test_rows_are_drawn_from_all_over() -> None:
    x = np.arange(100_000.0)[:, None]
    drawn, y = draw(Rows(x=x, y=x[:, 0]))
    assert len(drawn) == 10_000
    assert np.array_equal(drawn[:, 0], y)
    assert abs(float(y.mean()) - 50_000) < 1000


@pytest.mark.parametrize("size", [7, 1024, 50_000])
def test_a_pass_of_unknown_length_is_sampled_evenly(size: int) -> None:
    sample = Sample()
    values = np.arange(50_000)
    for start in range(0, len(values), size):
        part = values[start : start + size]
        sample.add(part[:, None], -part)
    first, second = sample.arrays
    assert np.array_equal(first[:, 0], -second)
    assert len(np.unique(second)) == 10_000
    # The mean of 10,000 draws from all over has a standard deviation of 130.
    assert abs(float(first.mean()) - 25_000) < 600


def test_a_short_pass_is_kept_whole() -> None:
    sample = Sample()
    for start in (0, 3):
        sample.add(np.arange(start, start + 3))
    (found,) = sample.arrays
    assert found.tolist() == [0, 1, 2, 3, 4, 5]


def test_of_wide_rows_fewer_are_kept() -> None:
    sample = Sample()
    for _ in range(5):
        sample.add(np.zeros((1000, 2), np.float32), np.zeros((1000, 4000), np.float32))
    assert [len(each) for each in sample.arrays] == [2000, 2000]
