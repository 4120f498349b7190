"""What `model.fit` is fed with from a source of batches: what plain Keras would take from it."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import optree
import tensorflow as tf

from orchestrator.config import user_code
from orchestrator.data.arrays import arranged, converted, invalid
from orchestrator.data.rows import Batch, Rows, Scaling, Tree, leaves, ready, transform
from orchestrator.data.streams.pipeline import (
    Resumes,
    counted,
    from_generator,
    plain,
    present,
    weigher,
)
from orchestrator.data.streams.recording import Live, Report
from orchestrator.data.streams.sources import Source, kind_of, unpacked
from orchestrator.data.streams.waiting import Waiting
from orchestrator.errors import OrchestratorError


class LiveFeed:
    """Batches for training from a source, as the user's code gives them.

    A pass is an epoch, or with `steps_per_epoch` an epoch goes on where the one before has stopped.
    A `PyDataset` is Keras's own affair, with its workers, its shuffling and its `on_epoch_end`.

    Args:
        source: what gives the batches.
        live: what is known of them.
        rows: the rows of the epoch that was read, which say how batches look.
        class_weight: weight of every class, or None.
        report: told when the user's code is waited for.
    """

    def __init__(
        self,
        source: Source,
        live: Live,
        rows: Rows,
        class_weight: Mapping[int, float] | None = None,
        report: Report | None = None,
    ) -> None:
        self.steps = live.batches
        by_keras = live.continues and source.kind in ("dataset", "py_dataset")
        self.steps_per_epoch = live.batches if by_keras else None
        # Keras shuffles the order of a PyDataset's batches, as fit does by default.
        self.shuffle = source.kind == "py_dataset" and not live.continues
        self._fault: Exception | None = None
        forks = source.kind == "py_dataset" and source.value.use_multiprocessing
        # Keras forks the processes that make the batches: what is raised there comes back by this.
        self._faults: Any = multiprocessing.SimpleQueue() if forks else None
        self._source = source
        self._live = live
        self._rows = rows
        self._class_weight = class_weight
        self._ongoing: Iterator[Any] | None = None
        self._waiting = Waiting(source.name, report)

    @property
    def fault(self) -> Exception | None:
        """What the user's code has raised, of which TensorFlow passes on no more than the text."""
        if self._fault is None and self._faults is not None and not self._faults.empty():
            self._fault = self._faults.get()
        return self._fault

    @contextlib.contextmanager
    def _noting(self) -> Iterator[None]:
        """Keep the error that is raised within."""
        try:
            yield
        except Exception as error:
            self._fault = error
            if self._faults is not None and isinstance(error, OrchestratorError):
                self._faults.put(error)
            raise

    resumes: Resumes = "never"
    """Where a training can go on in another process."""

    def mark(self, epoch: int, step: int) -> dict[str, Any]:
        """What `catch_up` needs to get there again; plain JSON."""
        return {}

    def catch_up(self, mark: Mapping[str, Any]) -> bool:
        """Get to where a mark was made, and tell whether the batches are the same."""
        return False

    def batches(self, epoch: int, epochs: int, *, step: int = 0) -> Any:
        """The batches from an epoch on.

        Args:
            epoch: number of the first epoch, from 0.
            epochs: how many will be trained.
            step: where in the first epoch to begin.

        Returns:
            What `fit` takes as x; of (x, y) or (x, y, sample_weight).
        """
        match self._source.kind:
            case "py_dataset":
                return _Fed(self._source.value, self._made, endless=self._live.continues)
            case "dataset":
                return self._from_dataset(epochs)
            case _:
                found = from_generator(self._epoch, self._rows)
                if not isinstance(found.element_spec, tuple):  # Keras asks generators for tuples
                    found = found.map(plain(lambda x: (x,)))
                if self._class_weight is not None:
                    found = found.map(plain(weigher(self._class_weight)))
                return found.apply(counted(self.steps)).prefetch(tf.data.AUTOTUNE)

    def _from_dataset(self, epochs: int) -> tf.data.Dataset:
        scalings = self._rows.scalings

        def prepare(x: Tree, *others: Tree) -> Tree:
            # The paths are those of the arrays that the first pass has seen.
            x = _tupled(x)
            inputs = [_input(tensor, scalings.get(path)) for path, tensor in leaves(x)]
            x = optree.tree_unflatten(optree.tree_structure(x), inputs)
            if bare:
                return x
            return (x, *(transform(_number, _tupled(each)) for each in others))

        # A train_step of the user's own sees whether x comes alone or in a tuple.
        bare = not isinstance(self._source.value.element_spec, tuple)

        found = self._source.value.map(plain(prepare))
        if self._class_weight is not None:
            found = found.map(plain(weigher(self._class_weight)))
        # A pass that is shorter than the first one goes on with another, a longer one is cut.
        count = self.steps * epochs if self._live.continues else self.steps
        return found.repeat().take(count).prefetch(tf.data.AUTOTUNE)

    def _epoch(self) -> Iterator[Any]:
        """The batches of one epoch, as Python makes them."""
        if self._live.continues:
            self._ongoing = self._ongoing or self._endless()
            found = self._ongoing
        else:
            found = self._endless()
        with self._noting():
            for value in itertools.islice(found, self.steps):
                yield present(self._ready(value))

    def _endless(self) -> Iterator[Any]:
        """What the source gives, from its beginning again where it ends."""
        while True:
            count = 0
            for value in self._waiting.each(self._source.read()):
                count += 1
                yield value
            if not count:
                raise ValueError(f"{self._source.name} gave no further batch")

    def _made(self, given: Any, index: int) -> Any:
        """A batch of a `PyDataset`."""
        # In another process nobody would read a report.
        waiting = contextlib.nullcontext() if given.use_multiprocessing else self._waiting.one()
        with self._noting():
            with waiting, user_code.blamed(self._source.name):
                value = given[index]
            batch = self._ready(value)
        weights = self._class_weight
        return present(batch if weights is None else _weighed(batch, weights))

    def _ready(self, value: Any) -> Batch:
        """A batch of the user's as Keras computes with it."""
        parts = unpacked(value)
        if parts is None:
            expected = "x, (x, y) or (x, y, sample_weight)"
            raise invalid(
                self._source.name, f"expected batches {expected}, received {kind_of(value)}"
            )
        batch = arranged(converted(*parts, name=self._source.name))
        return ready(batch, self._rows.scalings)


class _Fed(keras.utils.PyDataset):  # type: ignore[misc]
    """A `PyDataset` of the user's with batches that are ready for the model."""

    def __init__(self, given: Any, prepare: Callable[[Any, int], Any], *, endless: bool) -> None:
        super().__init__(
            workers=given.workers,
            use_multiprocessing=given.use_multiprocessing,
            max_queue_size=given.max_queue_size,
        )
        self._given = given
        self._length: int | None = given.num_batches
        self._endless = endless
        self._prepare = prepare

    @property
    def num_batches(self) -> int | None:
        """Its own; None where an epoch may go beyond its end."""
        return None if self._endless else self._length

    def __getitem__(self, index: int) -> Any:
        """A batch of its own, made ready; behind the last comes the first."""
        place = index if self._length is None else index % self._length
        return self._prepare(self._given, place)

    def on_epoch_begin(self) -> None:
        """Its own."""
        self._given.on_epoch_begin()

    def on_epoch_end(self) -> None:
        """Its own."""
        self._given.on_epoch_end()


def _weighed(batch: Batch, class_weight: Mapping[int, float]) -> Batch:
    """The batch with the weight of each row multiplied by that of its class; see `weigher`."""
    x, y, weight = batch
    (targets,) = optree.tree_leaves(y)
    if targets.ndim == 2 and targets.shape[-1] != 1:
        classes = np.argmax(targets, axis=-1)
    else:
        classes = np.rint(targets.reshape(-1)).astype(np.int64)
    table = np.array([class_weight[index] for index in range(len(class_weight))], np.float32)
    return x, y, table[classes] if weight is None else table[classes] * weight


def _tupled(tree: Tree) -> Tree:
    return tuple(tree) if isinstance(tree, list) else tree


def _input(tensor: tf.Tensor, scaling: Scaling | None) -> tf.Tensor:
    """`rows.ready` for a tensor."""
    if tensor.shape.rank == 1 and tensor.dtype != tf.string:
        tensor = tensor[:, tf.newaxis]
    if scaling is None:
        return _number(tensor)
    return (tf.cast(tensor, tf.float32) - scaling.mean) / scaling.deviation


def _number(tensor: tf.Tensor) -> tf.Tensor:
    """`rows.number` for a tensor."""
    return (
        tf.cast(tensor, tf.float32) if tensor.dtype.is_floating or tensor.dtype.is_bool else tensor
    )
