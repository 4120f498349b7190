"""One epoch of a source: read within bounds, checked, kept in memory or on disk."""
# ruff: noqa: E501 - messages are quoted whole

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from orchestrator.data.rows import leaves
from orchestrator.data.streams import look, recording
from orchestrator.data.streams.recording import Reading, Recorded
from orchestrator.data.streams.sources import find
from orchestrator.errors import InvalidError, UserCodeError
from orchestrator.record.events import ReadingProgress

X = np.arange(40.0).reshape(20, 2)
Y = np.arange(20)


def batches(size: int = 8) -> Iterator[Any]:
    for start in range(0, 20, size):
        yield X[start : start + size], Y[start : start + size]


def forever() -> Iterator[Any]:
    while True:
        yield from batches(10)


class Numbered(keras.utils.PyDataset):  # type: ignore[misc]
    def __init__(self, length: int | None = 3, raises: bool = False) -> None:
        super().__init__()
        self.length, self.raises = length, raises

    @property
    def num_batches(self) -> int | None:
        return self.length

    def __getitem__(self, index: int) -> Any:
        if self.raises and index:
            raise RuntimeError("no such file")
        return [np.full((4, 2), index), np.full(4, index)]


def images() -> Any:
    """A flow, which as an iterator never ends."""
    x = np.random.default_rng(0).uniform(size=(20, 4, 4, 1))
    generator = tf.keras.preprocessing.image.ImageDataGenerator(horizontal_flip=True)
    return generator.flow(x, Y, batch_size=8, seed=3)


def read(value: Any, again: Callable[[], Any] | None = None, **changes: Any) -> Recorded:
    source = find(value, "rows", again=again)
    assert source is not None
    return recording.record(source, Reading(name="rows", **changes))


@pytest.mark.parametrize(
    ("make", "rows", "steps"),
    [
        (batches, 20, 3),
        (Numbered, 12, 3),
        (images, 20, 3),
        (lambda: tf.data.Dataset.from_tensor_slices((X, Y)).batch(8), 20, 3),
        (lambda: tf.data.Dataset.from_tensor_slices((X, Y)).filter(lambda x, y: y > 4).batch(8), 15, 2),
    ],
)  # fmt: skip
def test_a_pass_is_an_epoch(make: Callable[[], Any], rows: int, steps: int) -> None:
    found = read(make(), make)
    assert (len(found.kept), len(found.kept.y)) == (rows, rows)
    assert found.live is not None
    assert (found.live.batches, found.live.rows, found.live.continues) == (steps, rows, False)


@pytest.mark.parametrize(
    ("make", "rows"),
    [
        (forever, 60),
        (lambda: Numbered(None), 24),
        (lambda: Numbered(2), 24),
        (lambda: tf.data.Dataset.from_tensor_slices((X, Y)).batch(10).repeat(), 60),
        (batches, 40),  # 8, 8, 4 and again
    ],
)
def test_with_steps_an_epoch_has_so_many_batches(make: Callable[[], Any], rows: int) -> None:
    found = read(make(), make, steps_per_epoch=6)
    assert len(found.kept) == rows
    assert found.live is not None
    assert (found.live.batches, found.live.continues) == (6, True)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Numbered(None), "the PyDataset Numbered of rows has no end: its num_batches is None"),
        (lambda: tf.data.Dataset.from_tensors((X, Y)).repeat(), "the dataset of rows has no end: its cardinality is infinite"),
        (forever, "the generator rows has no end: .* the same 20 over again"),
        (lambda: tf.data.Dataset.from_generator(forever, output_types=(tf.float32, tf.int64)), "the dataset of rows has no end: .* the same 20 over again"),
    ],
)  # fmt: skip
def test_what_has_no_end_is_refused_in_words(
    make: Callable[[], Any], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(look, "_REPEATING_SECONDS", 0.05)
    with pytest.raises(InvalidError, match=f"^rows: {reason}; write steps_per_epoch, the number"):
        read(make(), make)


def test_an_iterator_is_taken_as_the_rows_that_it_gives() -> None:
    found = read(iter([*batches()]))
    assert (len(found.kept), found.live) == (20, None)
    with pytest.raises(InvalidError, match="rows ended after 3 batches, an epoch has 4; lower"):
        read(iter([*batches()]), steps_per_epoch=4)
    assert read(forever(), steps_per_epoch=2).live is not None


def test_what_the_users_code_raises_is_the_users() -> None:
    with pytest.raises(UserCodeError, match=r"the PyDataset Numbered of rows raised RuntimeError: no such file \(.*, in __getitem__\)"):  # fmt: skip
        read(Numbered(raises=True))


@pytest.mark.parametrize("named", [True, False])
def test_many_rows_are_kept_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    monkeypatch.setattr(recording, "_MEMORY_BYTES", 100)
    folder = tmp_path if named else None
    found = read(batches(), batches, folder=folder)
    assert found.kept.mapped
    for (_, kept), given in zip(leaves((found.kept.x, found.kept.y)), (X, Y), strict=True):
        assert isinstance(kept, np.memmap)
        np.testing.assert_array_equal(kept, given)
    assert len(list(tmp_path.iterdir())) == (2 if named else 0)
    del found, kept
    gc.collect()
    opened = [os.readlink(f"/proc/self/fd/{each}") for each in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{each}")]  # fmt: skip
    assert not any("recorded-" in each for each in opened)


def test_no_more_is_kept_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "MAX_BYTES", 8 * (16 + 8) * 2)
    found = read(batches(), batches)
    assert len(found.kept) == 16
    assert found.live is not None
    assert (found.live.rows, found.live.batches) == (20, 3)
    with pytest.raises(InvalidError, match="its rows are too many to be kept, and an iterator"):
        read(batches())
    monkeypatch.setattr(recording, "MAX_BYTES", 8)
    with pytest.raises(InvalidError, match="a single batch is larger than the 8 bytes"):
        read(batches(), batches)


def test_a_batch_that_is_written_to_again_is_kept_as_it_was() -> None:
    def reused() -> Iterator[Any]:
        x = np.zeros((2, 1))
        for number in range(3):
            x[:] = number
            yield x, x

    found = read(reused(), reused)
    assert found.kept.x.ravel().tolist() == [0, 0, 1, 1, 2, 2]


def test_the_order_of_the_rows_is_not_in_the_hash() -> None:
    def backwards() -> Iterator[Any]:
        yield X[::-1], Y[::-1]

    assert read(batches()).digest == read(backwards()).digest
    assert read(iter([(X, Y + 1)])).digest != read(batches()).digest


def test_texts_are_kept_as_texts() -> None:
    given = tf.data.Dataset.from_tensor_slices((["a", "bc", "d"], [0, 1, 0])).batch(2)
    found = read(given)
    assert found.kept.x.tolist() == [b"a", b"bc", b"d"]


def test_how_far_it_has_come_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "_REPORT_SECONDS", -1)
    told: list[ReadingProgress] = []
    read(batches(), batches, what="the data callable f", report=told.append)
    assert [(each.rows, each.batches) for each in told] == [(8, 1), (16, 2), (20, 3)]
    assert told[0].what == "the data callable f"
    assert told[-1].megabytes == 0.0
