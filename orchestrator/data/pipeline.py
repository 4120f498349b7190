"""What `model.fit` is fed with: batches from rows, as a `tf.data.Dataset`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import optree
import tensorflow as tf

from orchestrator.data.rows import (
    AnyRows,
    Batch,
    Columns,
    Lookup,
    Rows,
    Scaling,
    Stream,
    Tree,
    leaves,
    trained_on,
    transform,
)


class Feed:
    """Batches for training, in an order that follows from seed and epoch alone.

    Those of rows are endless. A stream, whose order is the user's own, is read once an epoch: its
    next pass may begin only when the checks have made theirs, or a dataset that shuffles itself
    would have its passes in an order that depends on how fast they run.

    Args:
        rows: the training rows.
        batch_size: rows of a step; a stream has batches of its own.
        seed: seed of the order.
        class_weight: weight of every class, or None.
    """

    def __init__(
        self,
        rows: AnyRows,
        *,
        batch_size: int,
        seed: int,
        class_weight: Mapping[int, float] | None = None,
    ) -> None:
        self.steps = rows.num_batches(batch_size)
        self.steps_per_epoch = None if isinstance(rows, Stream) else self.steps
        self._rows = rows
        self._batch_size = batch_size
        self._seed = seed
        self._gatherers: Tree = None
        if isinstance(rows, Rows) and not rows.mapped:
            whole = (rows.x, rows.y, rows.weight) if rows.lazy else rows.batch(slice(None))
            self._gatherers = transform(_gatherer, _present(whole))
        self._class_weight = class_weight

    def batches(self, epoch: int) -> tf.data.Dataset:
        """The batches from an epoch on.

        Args:
            epoch: number of the first epoch, from 0.

        Returns:
            (x, y) or (x, y, sample_weight).
        """
        if isinstance(self._rows, Stream):
            found = _from_stream(self._rows).apply(_counted(self.steps))
        else:
            endless = tf.data.Dataset.counter(start=epoch)
            found = endless.flat_map(_plain(self._epoch))
        if self._class_weight is not None:
            found = found.map(_plain(_weigher(self._class_weight)))
        return found.prefetch(tf.data.AUTOTUNE)

    def _epoch(self, number: tf.Tensor) -> tf.data.Dataset:
        """The batches of one epoch."""
        count, batch_size = len(self._rows), self._batch_size
        key = tf.stack([tf.constant(self._seed, tf.int64), number])
        order = tf.random.experimental.stateless_shuffle(tf.range(count), seed=key)

        def batch(step: tf.Tensor) -> Tree:
            start = tf.cast(step, tf.int32) * batch_size
            return self._gather(order[start : tf.minimum(start + batch_size, count)])

        return tf.data.Dataset.range(self.steps).map(_plain(batch))

    def _gather(self, chosen: tf.Tensor) -> Tree:
        if self._gatherers is not None:
            return transform(lambda gather: gather(chosen), self._gatherers)
        rows = self._rows
        example: Tree = _present(rows.first(1))

        def read(indices: Any) -> list[Any]:
            return [array for _, array in leaves(_present(rows.batch(np.asarray(indices))))]  # type: ignore[union-attr]

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


def held_back(rows: AnyRows, batch_size: int) -> tf.data.Dataset:
    """Validation rows in their order, once."""
    counted = _counted(rows.num_batches(batch_size))
    if isinstance(rows, Stream):
        return _from_stream(rows).apply(counted)
    if rows.lazy:
        return _from_generator(lambda: rows.batches(batch_size), rows).apply(counted)
    whole = _present(rows.batch(slice(None)))
    return tf.data.Dataset.from_tensor_slices(whole).batch(batch_size)


def _counted(batches: int) -> Callable[[tf.data.Dataset], tf.data.Dataset]:
    """What tells Keras the length of a pass: it warns of every end that it did not expect."""
    return tf.data.experimental.assert_cardinality(batches)  # type: ignore[no-any-return]


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as it is written: autograph would read its source file when it is traced."""
    plain: Callable[..., Any] = tf.autograph.experimental.do_not_convert(function)
    return plain


def _present(batch: Batch) -> tuple[Tree, ...]:
    """The batch as Keras computes with it, without the weights that it does not have."""
    x, y, weight = trained_on(batch)
    return (x, y) if weight is None else (x, y, weight)


def _from_stream(rows: Stream) -> tf.data.Dataset:
    if rows.dataset is None:
        return _from_generator(lambda: rows.batches(0), rows)
    scalings = rows.scalings

    def ready(x: Tree, y: Tree, *weight: tf.Tensor) -> tuple[Tree, ...]:
        # The paths are those of the arrays that the first pass has seen.
        inputs = [_ready_input(tensor, scalings.get(path)) for path, tensor in leaves(_tupled(x))]
        x = optree.tree_unflatten(optree.tree_structure(_tupled(x)), inputs)
        return (x, transform(_number, _tupled(y)), *(_number(each) for each in weight))

    return rows.dataset.map(_plain(ready))


def _tupled(tree: Tree) -> Tree:
    return tuple(tree) if isinstance(tree, list) else tree


def _ready_input(tensor: tf.Tensor, scaling: Scaling | None) -> tf.Tensor:
    """`rows.ready` for a tensor."""
    if tensor.shape.rank == 1:
        tensor = tensor[:, tf.newaxis]
    if scaling is None:
        return _number(tensor)
    return (tf.cast(tensor, tf.float32) - scaling.mean) / scaling.deviation


def _number(tensor: tf.Tensor) -> tf.Tensor:
    """`rows.number` for a tensor."""
    return (
        tf.cast(tensor, tf.float32) if tensor.dtype.is_floating or tensor.dtype.is_bool else tensor
    )


def _from_generator(batches: Callable[[], Any], rows: AnyRows) -> tf.data.Dataset:
    signature = transform(
        lambda array: tf.TensorSpec((None, *array.shape[1:]), array.dtype),
        _present(rows.first(1)),
    )
    return tf.data.Dataset.from_generator(
        lambda: (_present(batch) for batch in batches()), output_signature=signature
    )


def _weigher(class_weight: Mapping[int, float]) -> Callable[..., tuple[Tree, ...]]:
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
