"""What `model.fit` is fed with: batches from rows, as a `tf.data.Dataset`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import keras
import numpy as np
import optree
import tensorflow as tf

from orchestrator.data.rows import (
    AnyRows,
    Batch,
    Columns,
    Lookup,
    Rows,
    Tree,
    leaves,
    trained_on,
    transform,
)

Resumes = Literal["steps", "epochs", "never"]
"""Where another process can go on with the same batches: at every step, at the ends of epochs, or
nowhere."""


class Feed:
    """Batches for training from rows, in an order that follows from seed and epoch alone.

    Args:
        rows: the training rows.
        batch_size: rows of a step.
        seed: seed of the order.
        class_weight: weight of every class, or None.
        steps_per_execution: so many steps Keras makes at a time.
    """

    shuffle = False
    """Whether Keras is to shuffle the batches; they come shuffled."""
    fault: Exception | None = None
    """What the user's code has raised; no code of the user's is in this."""
    resumes: Resumes = "steps"
    """Where a training can go on in another process."""

    def __init__(
        self,
        rows: Rows,
        *,
        batch_size: int,
        seed: int,
        class_weight: Mapping[int, float] | None = None,
        steps_per_execution: int = 1,
    ) -> None:
        self.steps = rows.num_batches(batch_size)
        # Of what has no end Keras takes whole executions, and so more than an epoch has.
        even = self.steps % steps_per_execution == 0
        self.steps_per_epoch: int | None = self.steps if even else None
        self._rows = rows
        self._batch_size = batch_size
        self._seed = seed
        self._gatherers: Tree = None
        if not rows.mapped:
            self._gatherers = transform(_gatherer, present(rows.whole()))
        self._class_weight = class_weight

    def mark(self, epoch: int, step: int) -> dict[str, Any]:
        """What `catch_up` needs to get there again: nothing."""
        return {}

    def catch_up(self, mark: Mapping[str, Any]) -> bool:
        """Get to where a mark was made, and tell whether the batches are the same."""
        return True

    def batches(self, epoch: int, epochs: int, *, step: int = 0) -> tf.data.Dataset:
        """The batches from an epoch on, without end: a new iterator an epoch is dear.

        No row that comes before is read. Where `steps_per_epoch` is None an iterator is an epoch,
        and with a step it is the rest of that one.

        Args:
            epoch: number of the first epoch, from 0.
            epochs: how many will be trained.
            step: where in the first epoch to begin; `fit` takes `steps - step` for it then.

        Returns:
            (x, y) or (x, y, sample_weight).
        """
        if self.steps_per_epoch is None:
            found = self._one_by_one(epoch, step)
        else:
            found = tf.data.Dataset.counter(start=epoch + bool(step)).flat_map(plain(self._epoch))
            if step:
                found = self._epoch(tf.constant(epoch, tf.int64), step).concatenate(found)
        if self._class_weight is not None:
            found = found.map(plain(weigher(self._class_weight)))
        return found.prefetch(tf.data.AUTOTUNE)

    def rows_of(self, epoch: int, step: int) -> tuple[int, ...]:
        """The rows of a step.

        Args:
            epoch: number of its epoch, from 0.
            step: its number in the epoch, from 0.

        Returns:
            Their numbers among the training rows, from 0, in the order of the batch.
        """
        order = self._order(tf.constant(epoch, tf.int64)).numpy()
        return tuple(order[step * self._batch_size :][: self._batch_size].tolist())

    def _one_by_one(self, first: int, start: int) -> tf.data.Dataset:
        """The batches of one epoch from a step on, and with every iterator those of the next."""
        numbers = itertools.count(first)

        def epoch(_: tf.Tensor) -> tf.data.Dataset:
            number = tf.numpy_function(lambda: np.int64(next(numbers)), [], tf.int64)
            return self._epoch(tf.ensure_shape(number, ()), start)

        return tf.data.Dataset.range(1).flat_map(plain(epoch)).apply(counted(self.steps - start))

    def _epoch(self, number: tf.Tensor, start: int = 0) -> tf.data.Dataset:
        """The batches of one epoch from a step on."""
        count, batch_size = len(self._rows), self._batch_size
        order = self._order(number)

        def batch(step: tf.Tensor) -> Tree:
            row = tf.cast(step, tf.int32) * batch_size
            return self._gather(order[row : tf.minimum(row + batch_size, count)])

        return tf.data.Dataset.range(start, self.steps).map(plain(batch))

    def _order(self, epoch: tf.Tensor) -> tf.Tensor:
        """The numbers of all rows in the order of an epoch."""
        key = tf.stack([tf.constant(self._seed, tf.int64), epoch])
        return tf.random.experimental.stateless_shuffle(tf.range(len(self._rows)), seed=key)

    def _gather(self, chosen: tf.Tensor) -> Tree:
        if self._gatherers is not None:
            return transform(lambda gather: gather(chosen), self._gatherers)
        rows = self._rows
        example: Tree = present(rows.first(1))

        def read(indices: Any) -> list[Any]:
            return [array for _, array in leaves(present(rows.batch(np.asarray(indices))))]

        arrays = [array for _, array in leaves(example)]
        tensors = tf.numpy_function(read, [chosen], [array.dtype for array in arrays])
        for tensor, array in zip(tensors, arrays, strict=True):
            tensor.set_shape((None, *array.shape[1:]))
        return optree.tree_unflatten(optree.tree_structure(example), tensors)


def _gatherer(values: Any) -> Callable[[tf.Tensor], tf.Tensor]:
    """What takes some rows of an array that is in memory."""
    if isinstance(values, Columns):
        parts = [_gatherer(part) for part in values.parts]
        return lambda chosen: tf.concat([part(chosen) for part in parts], axis=1)
    if isinstance(values, Lookup):
        codes, table = tf.constant(values.codes), tf.constant(values.table)
        return lambda chosen: tf.gather(table, tf.gather(codes, chosen))
    tensor = tf.constant(values)
    return lambda chosen: tf.gather(tensor, chosen)


def held_back(rows: Rows, batch_size: int) -> tf.data.Dataset:
    """Validation rows in their order, once."""
    if rows.lazy:
        batches = from_generator(lambda: map(present, rows.batches(batch_size)), rows)
        return batches.apply(counted(rows.num_batches(batch_size)))
    whole = present(rows.batch(slice(None)))
    return tf.data.Dataset.from_tensor_slices(whole).batch(batch_size)


def first_batch(rows: AnyRows, count: int) -> tf.data.Dataset:
    """The first rows as one batch.

    It has the type that batches have in training, of any number of rows: Keras traces its steps
    once for every type.
    """
    return tf.data.Dataset.from_tensor_slices(present(rows.first(count))).batch(count)


def counted(batches: int) -> Callable[[tf.data.Dataset], tf.data.Dataset]:
    """What tells Keras the length of a pass: it warns of every end that it did not expect."""
    return tf.data.experimental.assert_cardinality(batches)  # type: ignore[no-any-return]


def plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as it is written: autograph would read its source file when it is traced."""
    found: Callable[..., Any] = tf.autograph.experimental.do_not_convert(function)
    return found


def present(batch: Batch) -> Any:
    """The batch as Keras computes with it, without the targets and weights that it has not."""
    return keras.utils.pack_x_y_sample_weight(*trained_on(batch))


def from_generator(batches: Callable[[], Iterator[Any]], rows: Rows) -> tf.data.Dataset:
    """Batches that Python makes, in the shapes and types of rows."""
    signature = transform(
        lambda array: tf.TensorSpec((None, *array.shape[1:]), tf.as_dtype(array.dtype)),
        present(rows.first(1)),
    )
    return tf.data.Dataset.from_generator(batches, output_signature=signature)


def weigher(class_weight: Mapping[int, float]) -> Callable[..., tuple[Tree, ...]]:
    """What multiplies the weight of each row by that of its class, as Keras's fit does."""
    table = tf.constant([class_weight[index] for index in range(len(class_weight))], tf.float32)

    def weigh(x: Tree, y: Tree, *weight: tf.Tensor) -> tuple[Tree, ...]:
        (targets,) = optree.tree_leaves(y)  # of the only output, perhaps by its name
        if targets.shape.rank == 2 and targets.shape[-1] != 1:
            classes = tf.argmax(targets, axis=-1)
        else:
            classes = tf.cast(tf.round(tf.reshape(targets, [-1])), tf.int64)
        weights = tf.gather(table, classes)
        return x, y, weights * weight[0] if weight else weights

    return weigh
