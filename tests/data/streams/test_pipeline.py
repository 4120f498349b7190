"""What fit is fed with: every row once an epoch, in an order that seed and epoch decide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

from orchestrator.data.rows import Columns, Lookup, Rows, Scaling
from orchestrator.data.streams.pipeline import Feed, held_back

COUNT = 11
Y = np.arange(COUNT)
X = np.stack([Y, -Y], axis=1).astype(np.float32)
SCALING = Scaling(mean=np.array([5, -5], "f4"), variance=np.array([4, 4], "f4"))


@pytest.fixture
def mapped(tmp_path: Path) -> Rows:
    np.save(tmp_path / "x.npy", X)
    return Rows(x=np.load(tmp_path / "x.npy", mmap_mode="r"), y=Y, weight=Y + 1.0)


def epochs(feed: Feed, count: int, start: int = 0) -> list[list[Any]]:
    """The batches of some epochs as NumPy arrays."""
    found = list(feed.batches(start, count).take(count * feed.steps).as_numpy_iterator())
    return [found[index * feed.steps : (index + 1) * feed.steps] for index in range(count)]


def joined(epoch: list[Any], part: int) -> npt.NDArray[Any]:
    return np.concatenate([batch[part] for batch in epoch])


@pytest.mark.parametrize("kind", ["array", "mapped"])
def test_an_epoch_has_every_row_once_with_its_target_and_weight(kind: str, mapped: Rows) -> None:
    found = {"array": Rows(x=X, y=Y, weight=Y + 1.0), "mapped": mapped}
    feed = Feed(found[kind], batch_size=4, seed=3)
    assert feed.steps == 3
    for epoch in epochs(feed, 2):
        assert [len(batch[1]) for batch in epoch] == [4, 4, 3]
        x, y, weight = (joined(epoch, part) for part in range(3))
        assert sorted(y) == Y.tolist()
        np.testing.assert_array_equal(x, np.stack([y, -y], axis=1))
        np.testing.assert_array_equal(weight, y + 1)
        assert (x.dtype, y.dtype, weight.dtype) == (np.float32, np.int64, np.float32)


@pytest.mark.parametrize("order", [None, np.array([9, 2, 4, 0, 7])])
def test_categories_are_standardised_as_the_rows_that_are_checked(order: Any) -> None:
    kinds = Lookup(codes=Y % 3, table=np.array([[0, 1], [2, 0], [1, 3]], "f4"))
    columns = Columns(parts=(X.astype("f8"), kinds, Y.astype("f4")))
    scaling = Scaling(mean=np.arange(5, dtype="f4"), variance=np.arange(1, 6, dtype="f4"))
    chosen = Y if order is None else Y[order]
    rows = Rows(x=columns, y=chosen, order=order, scalings={"": scaling})
    (epoch,) = epochs(Feed(rows, batch_size=4, seed=3), 1)
    x, y = joined(epoch, 0), joined(epoch, 1)
    assert sorted(y) == sorted(chosen)
    expected, _, _ = rows.batch(slice(None))
    places = [chosen.tolist().index(each) for each in y]
    np.testing.assert_array_equal(x, expected[places])


def test_the_order_follows_from_seed_and_epoch_alone(mapped: Rows) -> None:
    def orders(found: Rows, seed: int, count: int = 1, start: int = 0) -> list[list[int]]:
        feed = Feed(found, batch_size=4, seed=seed)
        return [joined(epoch, 1).tolist() for epoch in epochs(feed, count, start)]

    first, second, third = orders(Rows(x=X, y=Y), 3, count=3)
    assert len({tuple(each) for each in (first, second, third)}) == 3
    assert orders(Rows(x=X, y=Y), 3, start=2) == [third]
    assert orders(Rows(x=X, y=Y), 4) != [first]
    assert orders(mapped, 3, count=2) == [first, second]


def test_the_rows_of_a_step_are_those_of_its_batch() -> None:
    rows = Rows(x=X, y=Y)
    feed = Feed(rows, batch_size=4, seed=3)
    for step, (x, *_) in enumerate(epochs(feed, 1, 2)[0]):
        assert np.array_equal(x, X[[*feed.rows_of(2, step)]])
    assert len(feed.rows_of(0, feed.steps - 1)) == (COUNT - 1) % 4 + 1


@pytest.mark.parametrize("kind", ["array", "mapped"])
@pytest.mark.parametrize("weights", [None, dict.fromkeys(range(COUNT), 2.0)])
def test_another_process_goes_on_at_any_step(
    kind: str, weights: dict[int, float] | None, mapped: Rows
) -> None:
    found = {"array": Rows(x=X, y=Y, weight=Y + 1.0), "mapped": mapped}[kind]

    def feed() -> Feed:
        return Feed(found, batch_size=4, seed=3, class_weight=weights)

    whole = list(feed().batches(0, 3).take(9).as_numpy_iterator())
    for epoch, step in [(0, 0), (0, 2), (1, 0), (1, 1), (2, 2)]:
        resumed, done = feed(), 3 * epoch + step
        assert resumed.resumes == "steps"
        assert resumed.catch_up(feed().mark(epoch, step))
        rest = resumed.batches(epoch, 1, step=step).take(9 - done).as_numpy_iterator()
        for got, wanted in zip(rest, whole[done:], strict=True):
            for one, other in zip(got, wanted, strict=True):
                np.testing.assert_array_equal(one, other)


def test_executions_that_do_not_divide_an_epoch_take_no_batch_of_the_next() -> None:
    def feed() -> Feed:
        return Feed(Rows(x=X, y=Y), batch_size=4, seed=3, steps_per_execution=2)

    even = Feed(Rows(x=X, y=Y), batch_size=4, seed=3, steps_per_execution=3)
    assert (even.steps_per_epoch, feed().steps_per_epoch) == (3, None)
    whole = [joined(epoch, 1).tolist() for epoch in epochs(even, 3)]
    found = feed().batches(1, 2)
    assert int(found.cardinality()) == 3
    assert [joined(list(found.as_numpy_iterator()), 1).tolist() for _ in range(2)] == whole[1:]
    rest = feed().batches(1, 1, step=2)
    assert int(rest.cardinality()) == 1
    assert joined(list(rest.as_numpy_iterator()), 1).tolist() == whole[1][8:]


def test_keras_trains_on_every_row_once_where_executions_do_not_divide_an_epoch() -> None:
    seen: list[int] = []

    class Model(keras.Model):  # type: ignore[misc]
        def train_step(self, data: Any) -> dict[str, Any]:
            seen.extend(data[1].numpy().tolist())
            return {"loss": tf.constant(0.0)}

    model = Model()
    model.compile(loss="mse", run_eagerly=True, steps_per_execution=2)
    feed = Feed(Rows(x=X, y=Y), batch_size=4, seed=3, steps_per_execution=2)
    steps = feed.steps_per_epoch
    model.fit(feed.batches(0, 2), epochs=2, steps_per_epoch=steps, shuffle=False, verbose=0)
    assert sorted(seen[:COUNT]) == sorted(seen[COUNT:]) == Y.tolist()


def test_going_on_reads_no_row_that_comes_before(mapped: Rows) -> None:
    read: list[int] = []

    class Watched(Rows):
        def batch(self, rows: Any) -> Any:
            if not isinstance(rows, slice):  # which only tells shapes
                read.append(len(rows))
            return super().batch(rows)

    lazy = Watched(x=mapped.x, y=Y)
    batches = Feed(lazy, batch_size=4, seed=3).batches(5, 1, step=2)
    next(batches.as_numpy_iterator())
    assert read[0] == 3  # the last batch of the epoch


def test_a_part_of_a_mapped_file_is_fed_standardised_without_the_rest(mapped: Rows) -> None:
    chosen = np.array([1, 3, 5, 7, 9])
    part = Rows(x=mapped.x, y=Y[chosen], order=chosen, weight=None, scalings={"": SCALING})
    (epoch,) = epochs(Feed(part, batch_size=2, seed=0), 1)
    x, y = joined(epoch, 0), joined(epoch, 1)
    assert sorted(y) == chosen.tolist()
    np.testing.assert_array_equal(x, np.stack([(y - 5) / 2, (5 - y) / 2], axis=1))
    held = list(held_back(part, 2).as_numpy_iterator())
    assert joined(held, 1).tolist() == chosen.tolist()
    np.testing.assert_array_equal(joined(held, 0)[:, 0], (chosen - 5) / 2)


def test_trees_of_inputs_and_targets_keep_their_shape(mapped: Rows) -> None:
    x = {"b": mapped.x, "a": (X[:, :1], Y[:, None])}
    y = {"price": Y * 0.5, "kind": Y}
    for found in (Rows(x=x, y=y), Rows(x={**x, "b": X}, y=y)):
        (epoch,) = epochs(Feed(found, batch_size=4, seed=0), 1)
        for inputs, targets in epoch:
            np.testing.assert_array_equal(inputs["b"][:, 0], targets["kind"])
            np.testing.assert_array_equal(inputs["a"][1][:, 0], 2 * targets["price"])
            assert inputs["a"][1].dtype == np.int64


WEIGHTS = {0: 1.0, 1: 10.0, 2: 100.0}
CLASSES = Y % 3


@pytest.mark.parametrize(
    "y",
    [
        CLASSES,
        CLASSES[:, None],
        CLASSES.astype("f4"),
        np.eye(3, dtype="f4")[CLASSES],
        {"kind": CLASSES},
        (CLASSES,),
    ],
)
def test_class_weights_multiply_the_weights_of_the_rows(y: Any) -> None:
    for weight in (None, Y + 1.0):
        feed = Feed(Rows(x=X, y=y, weight=weight), batch_size=4, seed=0, class_weight=WEIGHTS)
        (epoch,) = epochs(feed, 1)
        row = joined(epoch, 0)[:, 0]
        expected = 10.0 ** (row % 3) * (1 if weight is None else row + 1)
        np.testing.assert_array_equal(joined(epoch, 2), expected)
