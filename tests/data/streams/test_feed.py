"""What fit is fed with from a source: the batches that plain Keras would take from it."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

from orchestrator.data import rows
from orchestrator.data.rows import Scaling
from orchestrator.data.streams import recording
from orchestrator.data.streams.feed import LiveFeed
from orchestrator.data.streams.recording import Reading
from orchestrator.data.streams.sources import find
from orchestrator.errors import UserCodeError

COUNT = 11
Y = np.arange(COUNT)
X = np.stack([Y, -Y], axis=1).astype(np.float32)
SCALING = Scaling(mean=np.array([5, -5], "f4"), variance=np.array([4, 4], "f4"))


class Recorder(keras.Model):  # type: ignore[misc]
    """A model that keeps what it is trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []
        self.compile(loss="mse", run_eagerly=True)

    def train_step(self, data: Any) -> dict[str, Any]:
        self.seen.append(tf.nest.map_structure(lambda tensor: tensor.numpy(), data))
        return {"loss": tf.constant(0.0)}

    def call(self, x: Any) -> Any:
        return x


def batches() -> Iterator[Any]:
    for start in (0, 4, 8):
        chosen = slice(start, start + 4)
        yield X[chosen], Y[chosen], Y[chosen] + 1.0


def walk() -> Iterator[Any]:
    """Another row in every batch, without an end."""
    number = 0
    while True:
        yield np.full((2, 1), number, "f4"), np.full(2, number)
        number += 1


class Inputs(keras.utils.PyDataset):  # type: ignore[misc]
    """Batches without targets."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Any:
        return {"a": X[index::2]}


def inputs() -> Iterator[Any]:
    yield (X[:4],)
    yield (X[4:8],)


class Shuffled(keras.utils.PyDataset):  # type: ignore[misc]
    """Batches in an order that changes when an epoch ends."""

    def __init__(self, length: int | None = 4, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.length, self.order, self.ends = length, np.arange(8), 0

    @property
    def num_batches(self) -> int | None:
        return self.length

    def __getitem__(self, index: int) -> Any:
        chosen = self.order[index % 4 * 2 : index % 4 * 2 + 2]
        return X[chosen], Y[chosen]

    def on_epoch_end(self) -> None:
        self.ends += 1
        if self.length is None:
            return  # Keras reads ahead of what has no end: the order would hang on its speed
        self.order = np.random.default_rng(self.ends).permutation(8)


def dataset() -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices((X, Y)).batch(4)


def feed(make: Callable[[], Any], steps: int | None = None, **changes: Any) -> LiveFeed:
    """The feed of what a function makes, which is called once to look and once to train."""
    seen, source = find(make(), "rows", again=make), find(make(), "rows", again=make)
    assert seen is not None
    assert source is not None
    found = recording.record(seen, Reading(name="rows", steps_per_epoch=steps))
    assert found.live is not None
    scalings = changes.pop("scalings", {})
    kept = rows.Rows(x=found.kept.x, y=found.kept.y, weight=found.kept.weight, scalings=scalings)
    return LiveFeed(source, found.live, kept, **changes)


def trained(fed: LiveFeed, phases: tuple[int, ...], **options: Any) -> list[list[Any]]:
    """The batches of each phase, as `fit` gets them; a warning of Keras's is a failure."""
    found, first = [], 0
    for epochs in phases:
        model = Recorder()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model.fit(
                fed.batches(first, epochs),
                epochs=first + epochs,
                initial_epoch=first,
                steps_per_epoch=fed.steps_per_epoch,
                shuffle=fed.shuffle,
                verbose=0,
                **options,
            )
        found.append(model.seen)
        first += epochs
    return found


def plain(given: Any, **options: Any) -> list[Any]:
    """What plain Keras trains on."""
    model = Recorder()
    model.fit(given, verbose=0, **options)
    return model.seen


def targets(seen: list[Any]) -> list[list[int]]:
    return [np.ravel(batch[1]).tolist() for batch in seen]


@pytest.mark.parametrize(
    ("make", "steps", "options"),
    [
        (walk, 3, {"steps_per_epoch": 3}),
        (dataset, None, {}),
        (lambda: dataset().shuffle(9, seed=1), None, {}),
        (lambda: dataset().repeat(), 2, {"steps_per_epoch": 2}),
        (Shuffled, None, {}),
        (lambda: Shuffled(workers=2), None, {}),
        (lambda: Shuffled(None), 3, {"steps_per_epoch": 3}),
        (Inputs, None, {}),
        (lambda: tf.data.Dataset.from_tensor_slices(X).batch(4), None, {}),
        (lambda: tf.data.Dataset.from_tensor_slices({"a": X}).batch(4), None, {}),
        (inputs, 2, {"steps_per_epoch": 2}),
    ],
)
def test_the_batches_are_those_of_plain_keras(
    make: Callable[[], Any], steps: int | None, options: dict[str, Any]
) -> None:
    keras.utils.set_random_seed(4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that what is no array is not shuffled
        expected = plain(make(), epochs=1 if make is inputs else 3, **options)
    fed = feed(make, steps)
    keras.utils.set_random_seed(4)
    epochs = 1 if make is inputs else 3  # Keras does not begin a generator anew
    (seen,) = trained(fed, (epochs,))
    assert len(seen) == epochs * fed.steps
    for got, wanted in zip(seen, expected, strict=True):
        for (_, one), (_, other) in zip(rows.leaves(got), rows.leaves(wanted), strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_generator_without_an_end_goes_on_from_phase_to_phase() -> None:
    seen = trained(feed(walk, 3), (2, 1))
    numbers = [[each[0] for each in targets(phase)] for phase in seen]
    assert numbers == [[0, 1, 2, 3, 4, 5], [6, 7, 8]]


def test_an_iterator_goes_on_behind_what_was_read() -> None:
    source = find(walk(), "rows")
    assert source is not None
    found = recording.record(source, Reading(name="rows", steps_per_epoch=3))
    assert found.live is not None
    (seen,) = trained(LiveFeed(source, found.live, found.kept), (2,))
    assert [each[0] for each in targets(seen)] == [3, 4, 5, 6, 7, 8]


def test_a_generator_with_an_end_begins_anew_in_every_epoch() -> None:
    one, two = trained(feed(batches, scalings={"": SCALING}), (2, 1))
    assert targets(one) == targets(two) * 2
    np.testing.assert_array_equal(np.concatenate([x for x, _, _ in two])[:, 1], (5 - Y) / 2)


def test_a_source_that_ends_within_an_epoch_goes_on_with_another_pass() -> None:
    (seen,) = trained(feed(batches, 2), (3,))
    assert [each[0] for each in targets(seen)] == [0, 4, 8, 0, 4, 8]


def test_no_epoch_is_read_ahead() -> None:
    """What the user's code draws in the next epoch comes after what is drawn between the two."""
    happened: list[str] = []

    def source() -> Iterator[Any]:
        happened.append("epoch")
        yield from batches()

    class Watch(keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            time.sleep(0.2)  # so that what reads ahead has the time to
            happened.append("checks")

    fed = feed(source)
    happened.clear()
    trained(fed, (3,), callbacks=[Watch()])
    assert happened == ["epoch", "checks"] * 3


@pytest.mark.parametrize("dtype", ["f8", "f4", "i4", "u1", "?"])
@pytest.mark.parametrize("kind", ["dataset", "generator"])
def test_batches_become_what_arrays_would(dtype: str, kind: str) -> None:
    x = np.array([0, 1, 1, 0, 1], dtype)
    given = tf.data.Dataset.from_tensor_slices(({"a": x}, x)).batch(2)
    scaling = Scaling(mean=np.array([0.5], "f4"), variance=np.array([0.25], "f4"))

    def generator() -> Iterator[Any]:
        yield from given.as_numpy_iterator()

    for scalings in ({}, {"a": scaling}):
        fed = feed((lambda: given) if kind == "dataset" else generator, scalings=scalings)
        seen = list(fed.batches(0, 1).as_numpy_iterator())
        expected, wanted, _ = rows.ready(({"a": x[:, None]}, x, None), scalings)
        got: npt.NDArray[Any] = np.concatenate([batch[0]["a"] for batch in seen])
        np.testing.assert_array_equal(got, expected["a"])
        assert (got.dtype, seen[0][1].dtype) == (expected["a"].dtype, rows.number(wanted).dtype)


@pytest.mark.parametrize("kind", ["dataset", "generator"])
def test_weights_may_be_a_column_and_inputs_of_half_precision(kind: str) -> None:
    x = np.arange(4, dtype=tf.bfloat16.as_numpy_dtype)
    given = tf.data.Dataset.from_tensor_slices((x, np.arange(4), np.arange(4.0)[:, None])).batch(2)

    def generator() -> Iterator[Any]:
        yield from given.as_numpy_iterator()

    make = (lambda: given) if kind == "dataset" else generator
    for class_weight, expected in (
        (None, [0, 1, 2, 3]),
        (dict.fromkeys(range(4), 2.0), [0, 2, 4, 6]),
    ):
        fed = feed(make, class_weight=class_weight)
        seen = list(fed.batches(0, 1).as_numpy_iterator())
        assert np.concatenate([batch[0] for batch in seen]).tolist() == [[0.0], [1.0], [2.0], [3.0]]
        assert {batch[0].dtype for batch in seen} == {np.dtype("f4")}
        assert np.concatenate([batch[2] for batch in seen]).tolist() == expected


def test_a_py_dataset_that_ends_within_an_epoch_goes_on_with_its_first_batch() -> None:
    def still() -> Any:
        made = Shuffled()
        made.on_epoch_end = lambda: None
        return made

    (seen,) = trained(feed(still, 3), (2,))
    assert [each[0] for each in targets(seen)] == [0, 2, 4, 6, 0, 2]


def unweighed() -> Iterator[Any]:
    yield from (batch[:2] for batch in batches())


@pytest.mark.parametrize("make", [batches, unweighed, Shuffled, lambda: dataset()])
def test_class_weights_multiply_the_weights_of_the_rows(make: Callable[[], Any]) -> None:
    weights = {label: 10.0**-label for label in range(COUNT)}
    (seen,) = trained(feed(make, class_weight=weights), (1,))
    for _, y, weight in seen:
        own = y + 1.0 if make is batches else 1.0
        np.testing.assert_allclose(weight, 10.0**-y * own, rtol=1e-6)


def test_what_a_generator_raises_while_it_trains_is_the_users() -> None:
    passes = 0

    def breaks() -> Iterator[Any]:
        nonlocal passes
        passes += 1
        yield X, Y
        if passes > 1:
            raise RuntimeError("the file is gone")
        yield X, Y

    fed = feed(breaks)
    with pytest.raises(tf.errors.OpError):
        trained(fed, (2,))
    assert isinstance(fed.fault, UserCodeError)
    assert "the generator rows raised RuntimeError: the file is gone" in str(fed.fault)


class Damaged(Shuffled):
    """Raises in the second epoch, at its third batch."""

    def __getitem__(self, index: int) -> Any:
        if self.ends and index == 2:
            raise KeyError("scan 17 is damaged")
        return super().__getitem__(index)


@pytest.mark.parametrize(
    "workers",
    [{}, {"workers": 2}, {"workers": 2, "use_multiprocessing": True}],
    ids=["none", "threads", "processes"],
)
def test_what_a_py_dataset_raises_while_it_trains_is_the_users(workers: dict[str, Any]) -> None:
    fed = feed(lambda: Damaged(**workers))
    with pytest.raises(tf.errors.OpError):
        trained(fed, (2,))
    assert isinstance(fed.fault, UserCodeError)
    assert "the PyDataset Damaged of rows raised KeyError: scan 17 is damaged" in str(fed.fault)


@pytest.mark.parametrize(
    "make",
    [
        lambda: tf.data.Dataset.from_tensor_slices(X).batch(4),
        lambda: tf.data.Dataset.from_tensor_slices((X,)).batch(4),
        lambda: ((X[start : start + 4],) for start in (0, 4, 8)),
    ],
    ids=["dataset", "dataset of tuples", "generator"],
)
def test_batches_of_inputs_alone_are_those_of_plain_keras(make: Callable[[], Any]) -> None:
    (seen,) = trained(feed(make), (1,))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that what is no array is not shuffled
        expected = plain(make())
    assert [type(batch) for batch in seen] == [type(batch) for batch in expected]
    for got, wanted in zip(seen, expected, strict=True):
        np.testing.assert_array_equal(np.squeeze(got), np.squeeze(wanted))
