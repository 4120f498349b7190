"""What `model.fit` is fed with from a source of batches: what plain Keras would take from it."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import optree
import tensorflow as tf

from orchestrator.config import user_code
from orchestrator.data.arrays import arranged, converted, invalid
from orchestrator.data.rows import Batch, Rows, Scaling, Tree, leaves, ready, transform
from orchestrator.data.streams.kinds.dataset import Dataset
from orchestrator.data.streams.kinds.generator import Passes
from orchestrator.data.streams.kinds.position import Progress, seed_global_generators
from orchestrator.data.streams.kinds.py_dataset import Epochs, Workers, is_in_order
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
        seed: seed of the attempt. What the user's code draws from Python's and NumPy's global
            generators in an epoch is then to follow from it, see `seed_global_generators`, which
            whoever trains calls at the beginning of each epoch. None leaves them alone.
        steps_per_execution: so many steps Keras makes at a time.
    """

    def __init__(
        self,
        source: Source,
        live: Live,
        rows: Rows,
        class_weight: Mapping[int, float] | None = None,
        report: Report | None = None,
        seed: int | None = None,
        steps_per_execution: int = 1,
    ) -> None:
        self.steps = live.batches
        by_keras = live.continues and source.kind in ("dataset", "py_dataset")
        self.steps_per_epoch = live.batches if by_keras else None
        # Of what goes on Keras takes whole executions, and so more than an epoch has.
        self._even = not by_keras or self.steps % steps_per_execution == 0
        self._fault: Exception | None = None
        forks = source.kind == "py_dataset" and source.value.use_multiprocessing
        # Keras forks the processes that make the batches: what is raised there comes back by this.
        self._faults: Any = multiprocessing.SimpleQueue() if forks else None
        self._source = source
        self._live = live
        self._rows = rows
        self._class_weight = class_weight
        self._report = report
        self._seed = seed
        self._waiting = Waiting(source.name, report)
        self._read = self._reader()
        # Keras shuffles the order of a PyDataset's batches, as fit does by default.
        self.shuffle = source.kind == "py_dataset" and not live.continues and self._read is None

    def _reader(self) -> Passes | Dataset | Epochs | None:
        """What reads the source; None where Keras does, with several workers or ahead of epochs."""
        source, live = self._source, self._live
        if source.kind == "dataset":
            return Dataset(source, live, self._prepared)
        if source.kind != "py_dataset":
            return Passes(source, live, self._waiting, self._ready)
        if is_in_order(source.value, continues=live.continues):
            return Epochs(source.value, self._made)
        return None

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

    @property
    def resumes(self) -> Resumes:
        """Where a training can go on in another process."""
        match self._read:
            case Dataset(reproducible=reproducible):
                return "steps" if reproducible and self._even else "never"
            case None:
                return "never"  # what workers draw hangs on which of them is asked for a batch
            case _:
                return "never" if self._source.kind == "iterator" else "steps"

    def rows_of(self, epoch: int, step: int) -> tuple[int, ...]:
        """The rows of a step: not known where the user's code gives batches."""
        return ()

    def mark(self, epoch: int, step: int) -> dict[str, Any]:
        """What `catch_up` needs to come to the same place in another process.

        Args:
            epoch: number of the epoch, from 0; with step 0 those before it have ended.
            step: batches of it that were trained on.

        Returns:
            Plain JSON.
        """
        if self._read is None:
            return {}
        return {"epoch": epoch, "step": step, **self._read.mark(epoch, step)}

    def catch_up(self, mark: Mapping[str, Any]) -> bool:
        """Read again what was trained on until a mark was made, in a process that has read nothing.

        The next call of `batches` goes on with the phase in which the mark was made: where that was
        inside an epoch, it and the next but one: `batches(epoch, 1, step=step)` gives the rest of
        the epoch, and `batches(epoch + 1, epochs)` the others of the phase, which may be none.
        Every call after these begins a phase.

        Args:
            mark: what `mark` returned.

        Returns:
            Whether the batches were the same. Where they were not, the source does not repeat
            itself, and the attempt has to begin anew, best in another process.

        Raises:
            UserCodeError: the user's own code raised.
        """
        if self.resumes == "never" or not mark:
            return False
        epoch, step = mark["epoch"], mark["step"]
        progress = Progress(self._source.name, self._report)
        try:
            match self._read:
                case Passes() as passes:
                    found = passes.read_until(epoch, step, self._seed, progress)
                    return found == {"hash": mark["hash"]}
                case Epochs() as epochs:
                    fits = [(first, looks) for first, looks in mark["fits"]]
                    found = epochs.read_until(epoch, step, fits, self._seed, progress)
                    return bool(found["hash"] == mark["hash"])
                case Dataset() as dataset:
                    planned = [(first, epochs) for first, epochs in mark["fits"]]
                    return dataset.read_until(epoch, step, planned, mark["seeds"], progress)
        finally:
            progress.end()
        return False

    def batches(self, epoch: int, epochs: int, *, step: int = 0) -> Any:
        """The batches of a `fit`.

        Args:
            epoch: number of the first epoch, from 0.
            epochs: how many will be trained; with a step that one only.
            step: where in the epoch to begin, after `catch_up`. Keras is to make `steps - step`
                steps of it, a multiple of its `steps_per_execution`, like `step`.

        Returns:
            What `fit` takes as x; of (x, y) or (x, y, sample_weight).
        """
        match self._read:
            case Epochs() as read:
                if self._seed is not None:  # Keras looks at batches before the first epoch
                    seed_global_generators(self._seed, epoch)
                return read.batches(epoch)
            case Dataset() as dataset:
                return dataset.batches(epoch, epochs, step)
            case Passes() as passes:
                return self._from_passes(passes, epoch, step)
            case None:
                return Workers(self._source.value, self._made, endless=self._live.continues)

    def _from_passes(self, passes: Passes, epoch: int, step: int) -> tf.data.Dataset:
        numbers = itertools.count(epoch)

        def read() -> Iterator[Any]:
            with self._noting():
                yield from map(present, passes.epoch(next(numbers)))

        found = from_generator(read, self._rows)
        if not isinstance(found.element_spec, tuple):  # Keras asks generators for tuples
            found = found.map(plain(lambda x: (x,)))
        if self._class_weight is not None:
            found = found.map(plain(weigher(self._class_weight)))
        return found.apply(counted(self.steps - step)).prefetch(tf.data.AUTOTUNE)

    def _prepared(self, given: tf.data.Dataset) -> tf.data.Dataset:
        """A dataset of the user's with batches that are ready for the model."""
        scalings = self._rows.scalings

        def prepare(x: Tree, *others: Tree) -> Tree:
            # The paths are those of the arrays that the first pass has seen.
            x = _tupled(x)
            inputs = [_input(tensor, scalings.get(path)) for path, tensor in leaves(x)]
            x = optree.tree_unflatten(optree.tree_structure(x), inputs)
            if bare:
                return x
            numbers = [transform(_number, _tupled(each)) for each in others]
            return (x, *numbers[:1], *map(_vector, numbers[1:]))

        # A train_step of the user's own sees whether x comes alone or in a tuple.
        bare = not isinstance(given.element_spec, tuple)
        found = given.map(plain(prepare))
        if self._class_weight is not None:
            found = found.map(plain(weigher(self._class_weight)))
        return found

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


def _vector(weights: tf.Tensor) -> tf.Tensor:
    """Weights as a vector, which may be a column."""
    column = weights.shape.rank == 2 and weights.shape[1] == 1
    return weights[:, 0] if column else weights


def _number(tensor: tf.Tensor) -> tf.Tensor:
    """`rows.number` for a tensor."""
    return (
        tf.cast(tensor, tf.float32) if tensor.dtype.is_floating or tensor.dtype.is_bool else tensor
    )
