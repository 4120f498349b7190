"""Another process goes on with the batches that the training would have seen."""

from __future__ import annotations

import itertools
import random
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import config

from orchestrator.data.streams import recording
from orchestrator.data.streams.feed import LiveFeed
from orchestrator.data.streams.kinds import position
from orchestrator.data.streams.kinds.position import seed_global_generators
from orchestrator.data.streams.recording import Reading
from orchestrator.data.streams.sources import find
from orchestrator.record.events import ReadingProgress

SEED = 5
X = np.arange(12, dtype="f4")[:, None]
PHASES = (2, 2)
PLACES = [(0, 1), (2, 0), (3, 1), (1, 0)]
"""Epochs and steps, at one of which each kind is tried; the first phase ends with epoch 2."""

Marks = dict[tuple[int, int], dict[str, Any]]
Program = Callable[[], Callable[[], Any]]
"""A process's fresh start: what it returns is the data callable of the user's."""


class Recorder(keras.Model):  # type: ignore[misc]
    """A model that keeps what it is trained on."""

    def __init__(self, at_a_time: int) -> None:
        super().__init__()
        self.seen: list[Any] = []
        self.compile(loss="mse", run_eagerly=True, steps_per_execution=at_a_time)

    def train_step(self, data: Any) -> dict[str, Any]:
        self.seen.append(tf.nest.map_structure(lambda tensor: tensor.numpy(), data))
        return {"loss": tf.constant(0.0)}

    def call(self, x: Any) -> Any:
        return x


class Seeds(keras.callbacks.Callback):  # type: ignore[misc]
    """Sets the global generators, and marks every place."""

    def __init__(self, feed: LiveFeed, done: int = 0) -> None:
        super().__init__()
        self.feed, self.done, self.epoch = feed, done, 0
        self.marks: Marks = {}

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epoch = epoch
        seed_global_generators(SEED, epoch)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        place = self.epoch, batch + 1
        self.marks[place] = self.feed.mark(*place)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.marks[epoch + 1, 0] = self.feed.mark(epoch + 1, 0)
        random.random()  # as the checks between two epochs might
        np.random.random()


def begin(program: Program, steps: int | None) -> LiveFeed:
    """The feed of a process that has just begun; another one has recorded an epoch."""
    seen = find(program()(), "rows", again=program())
    assert seen is not None
    found = recording.record(seen, Reading(name="rows", steps_per_epoch=steps))
    assert found.live is not None
    keras.utils.set_random_seed(SEED)
    make = program()
    source = find(make(), "rows", again=make)
    assert source is not None
    return LiveFeed(source, found.live, found.kept, seed=SEED)


def fit(feed: LiveFeed, model: Recorder, first: int, epochs: int, step: int = 0) -> Marks:
    """One `fit` as an attempt makes it."""
    seeds = Seeds(feed)
    whole = feed.steps_per_epoch
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(
            feed.batches(first, epochs, step=step),
            epochs=first + epochs,
            initial_epoch=first,
            steps_per_epoch=None if whole is None else whole - step,
            shuffle=feed.shuffle,
            verbose=0,
            callbacks=[seeds],
        )
    return seeds.marks


def train(feed: LiveFeed, at_a_time: int = 1) -> tuple[list[Any], Marks]:
    """All phases, uninterrupted: the batches, and a mark at every place."""
    model, first, marks = Recorder(at_a_time), 0, {}
    for epochs in PHASES:
        marks |= fit(feed, model, first, epochs)
        first += epochs
    return model.seen, marks


def go_on(feed: LiveFeed, epoch: int, step: int, at_a_time: int = 1) -> list[Any]:
    """The batches from a place on, with the fits that an attempt makes there."""
    model, ends = Recorder(at_a_time), list(itertools.accumulate(PHASES))
    phase = next(index for index, end in enumerate(ends) if epoch + bool(step) <= end)
    start = epoch
    if step:
        fit(feed, model, epoch, 1, step)
        start += 1
    fit(feed, model, start, ends[phase] - start)
    for index in range(phase + 1, len(PHASES)):
        fit(feed, model, ends[index - 1], PHASES[index])
    return model.seen


def same(one: Any, other: Any) -> bool:
    pairs = zip(tf.nest.flatten(one), tf.nest.flatten(other), strict=True)
    return all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in pairs)


def whole(order: Any = range(12)) -> Iterator[Any]:
    chosen = np.asarray(order)
    for start in (0, 4, 8):
        yield X[chosen[start : start + 4]], chosen[start : start + 4]


def still() -> Callable[[], Any]:
    return whole


def own_generator() -> Callable[[], Any]:
    drawn = np.random.default_rng(3)

    def batches() -> Iterator[Any]:
        yield from whole(drawn.permutation(12))

    return batches


def global_generators() -> Callable[[], Any]:
    def batches() -> Iterator[Any]:
        for x, y in whole(np.random.permutation(12)):
            yield x * np.float32(random.random()), y + np.random.randint(3)

    return batches


def endless() -> Callable[[], Any]:
    def batches() -> Iterator[Any]:
        for number in itertools.count():
            yield X[:2] + number, np.full(2, number)

    return batches


def ends_within() -> Callable[[], Any]:
    calls = itertools.count()

    def batches() -> Iterator[Any]:
        call = next(calls)
        yield from ((x + call, y) for x, y in whole())

    return batches


def dataset(*shuffled: Any, **seeds: Any) -> Program:
    def program() -> Callable[[], Any]:
        def make() -> Any:
            found = tf.data.Dataset.from_tensor_slices({"x": X, "y": np.arange(12)})
            if shuffled:
                found = found.shuffle(*shuffled, **seeds)
            return found.map(lambda row: (row["x"], row["y"])).batch(4)

        return make

    return program


def repeated() -> Callable[[], Any]:
    return lambda: dataset(12)()().repeat()


def cached() -> Callable[[], Any]:
    return lambda: dataset(12)()().cache()


class Plain(keras.utils.PyDataset):  # type: ignore[misc]
    """Batches by their numbers."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Any:
        return X[4 * index : 4 * index + 4], np.full(4, index)


class Changing(Plain):
    """Draws from all that a process has, and changes at every hook."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.own = np.random.default_rng(1)
        self.begun = self.ended = 0
        self.order = np.arange(12)

    def __getitem__(self, index: int) -> Any:
        chosen = self.order[4 * index : 4 * index + 4]
        noise = self.own.normal() + np.random.random() + random.random()
        return X[chosen] + np.float32(noise), chosen + 100 * self.begun + 1000 * self.ended

    def on_epoch_begin(self) -> None:
        self.begun += 1

    def on_epoch_end(self) -> None:
        self.ended += 1
        self.order = np.random.permutation(12)


KINDS = [
    (still, None),
    (own_generator, None),
    (global_generators, None),
    (endless, 3),
    (ends_within, 2),
    (own_generator, 2),
    (dataset(), None),
    (dataset(), 2),
    (dataset(12, seed=1), None),
    (dataset(12), None),
    (dataset(12, reshuffle_each_iteration=False), None),
    (dataset(12), 2),
    (repeated, 3),
    (cached, None),
    (lambda: Plain, None),
    (lambda: Changing, None),
]


@pytest.mark.parametrize(("program", "steps"), KINDS)
def test_the_batches_are_those_of_the_uninterrupted_training(
    program: Program, steps: int | None
) -> None:
    feed = begin(program, steps)
    assert feed.resumes == "steps"
    seen, marks = train(feed)
    assert len(seen) == 4 * feed.steps
    for epoch, step in ((1, 2), PLACES[KINDS.index((program, steps)) % len(PLACES)]):
        step = min(step, feed.steps - 1)
        resumed = begin(program, steps)
        random.random()  # the new process has drawn other numbers
        np.random.random()
        assert resumed.catch_up(marks[epoch, step])
        rest = go_on(resumed, epoch, step)
        expected = seen[epoch * feed.steps + step :]
        assert len(rest) == len(expected)
        assert all(map(same, rest, expected)), (epoch, step)


@pytest.mark.parametrize("program", [lambda: Changing, own_generator, dataset(12)])
def test_steps_may_be_made_several_at_a_time(program: Program) -> None:
    """A snapshot is then taken where some of them have ended."""
    feed = begin(program, None)
    seen, marks = train(feed, 2)
    assert len(seen) == 12
    for epoch, step in [(0, 2), (2, 0)]:
        resumed = begin(program, None)
        assert resumed.catch_up(marks[epoch, step])
        rest = go_on(resumed, epoch, step, 2)
        assert len(rest) == 12 - 3 * epoch - step
        assert all(map(same, rest, seen[3 * epoch + step :]))


@pytest.fixture
def _deterministic() -> Iterator[None]:
    """As the processes that train are: TensorFlow then reads nothing ahead."""
    keras.utils.set_random_seed(SEED)
    tf.config.experimental.enable_op_determinism()
    yield
    config.disable_op_determinism()


@pytest.mark.usefixtures("_deterministic")
def test_what_a_dataset_caches_is_computed_once() -> None:
    calls: list[int] = []

    def compute(value: Any) -> Any:
        calls.append(int(value))
        return value

    def make() -> Any:
        read = tf.data.Dataset.range(12).map(
            lambda row: tf.numpy_function(compute, [row], row.dtype)
        )
        return read.map(lambda row: (tf.reshape(row, (1,)),) * 2).batch(4).cache()

    feed = begin(lambda: make, None)
    calls.clear()
    seen, _ = train(feed)
    assert len(seen) == 12
    assert calls == [*range(12)]


def unseeded() -> Callable[[], Any]:
    def batches() -> Iterator[Any]:
        yield from whole(np.random.default_rng().permutation(12))

    return batches


@pytest.mark.parametrize("place", [(1, 0), (1, 1)])
def test_a_source_that_does_not_repeat_itself_is_seen(place: tuple[int, int]) -> None:
    _, marks = train(begin(unseeded, None))
    assert not begin(unseeded, None).catch_up(marks[place])


def test_a_dataset_with_another_seed_is_seen() -> None:
    _, marks = train(begin(dataset(12, seed=1), None))
    assert not begin(dataset(12, seed=2), None).catch_up(marks[1, 1])


def test_a_py_dataset_that_changed_is_seen() -> None:
    class Other(Changing):
        def on_epoch_end(self) -> None:
            super().on_epoch_end()
            self.order = self.order[::-1]

    _, marks = train(begin(lambda: Changing, None))
    assert not begin(lambda: Other, None).catch_up(marks[1, 0])


def in_python() -> Any:
    return tf.data.Dataset.from_generator(
        whole, output_signature=(tf.TensorSpec((None, 1)), tf.TensorSpec((None,), tf.int64))
    )


def drawn() -> Any:
    found = tf.data.Dataset.from_tensor_slices((X, X)).batch(4)
    return found.map(lambda x, y: (x + tf.random.uniform([], seed=1), y))


def out_of_order() -> Any:
    options = tf.data.Options()
    options.deterministic = False
    return dataset()()().with_options(options)


def drawn_within() -> Any:
    return tf.data.Dataset.range(3).flat_map(
        lambda _: tf.data.Dataset.from_tensor_slices((X, X)).shuffle(4, seed=1).batch(4)
    )


@pytest.mark.parametrize(
    ("make", "steps"),
    [
        (lambda: Plain(workers=2), None),
        (lambda: Plain(workers=1, use_multiprocessing=True), None),
        (Plain, 2),
        (in_python, None),
        (drawn, None),
        (out_of_order, None),
        (drawn_within, None),
    ],
)
def test_what_cannot_be_told_to_come_again_is_not_gone_on_with(
    make: Callable[[], Any], steps: int | None
) -> None:
    feed = begin(lambda: make, steps)
    assert feed.resumes == "never"
    assert not feed.catch_up(feed.mark(0, 0))


@pytest.mark.parametrize(
    ("given", "expected"),
    [(dataset()()(), "steps"), (dataset(12, seed=1)()(), "never"), (endless()(), "never")],
)
def test_what_was_made_before_may_have_been_read_before(given: Any, expected: str) -> None:
    source = find(given, "rows")
    assert source is not None
    found = recording.record(source, Reading(name="rows", steps_per_epoch=2))
    assert found.live is not None
    assert LiveFeed(source, found.live, found.kept).resumes == expected


@pytest.mark.parametrize(("at_a_time", "expected"), [(1, "steps"), (2, "never"), (3, "steps")])
def test_executions_that_take_batches_of_the_next_epoch(at_a_time: int, expected: str) -> None:
    made = dataset()()
    source = find(made(), "rows", again=made)
    assert source is not None
    found = recording.record(source, Reading(name="rows", steps_per_epoch=3))
    assert found.live is not None
    feed = LiveFeed(source, found.live, found.kept, steps_per_execution=at_a_time)
    assert feed.resumes == expected


@pytest.mark.parametrize("rows", [4, 64])
def test_batches_that_differ_anywhere_have_other_hashes(rows: int) -> None:
    x = np.random.default_rng(0).normal(size=(rows, 32, 32)).astype("f4")
    swapped, changed = x[::-1].copy(), x.copy()
    changed.reshape(-1)[-1] = np.nextafter(changed.reshape(-1)[-1], np.float32(9))
    texts = np.array(["a", "b"])

    def code(batch: Any) -> int | None:
        reads = position.Reads()
        reads.begin(0)
        reads.add(batch)
        return reads.until(0, 1)

    batches = [(x, None, None), (x, x[:, 0], None), (swapped, None, None), (changed, None, None)]
    batches += [(x, texts, None), (x, texts[::-1], None), ({"a": x, "b": changed}, None, None)]
    assert len({code(batch) for batch in batches}) == len(batches)
    assert code((x.copy(), None, None)) == code(batches[0])


def test_reading_again_tells_how_far_it_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    _, marks = train(begin(own_generator, None))
    monkeypatch.setattr(position, "_REPORT_SECONDS", 0)
    told: list[ReadingProgress] = []
    feed = begin(own_generator, None)
    feed._report = told.append
    assert feed.catch_up(marks[2, 1])
    assert [each.batches for each in told] == [*range(1, 8), 7]
    assert [each.done for each in told] == [False] * 7 + [True]
