"""A `tf.data.Dataset`: what it gives follows from its graph, or cannot be told."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from orchestrator.data.streams.kinds.position import Progress
from orchestrator.data.streams.pipeline import counted, plain
from orchestrator.data.streams.recording import Live
from orchestrator.data.streams.sources import Source

_MAX_BYTES = 2**30
"""Tensors of this size in a dataset are copied to look into its graph: 1 GiB."""


class Dataset:
    """The batches of a `tf.data.Dataset`.

    Without `steps_per_epoch` every epoch is an iterator of its own; with it every phase is one,
    from the beginning of the dataset.

    Args:
        source: the dataset.
        live: what is known of its batches.
        prepare: makes its batches ready for the model.
    """

    def __init__(
        self, source: Source, live: Live, prepare: Callable[[tf.data.Dataset], tf.data.Dataset]
    ) -> None:
        self._steps = live.batches
        self._continues = live.continues
        self._dataset = source.value
        self._prepare = prepare
        self._fits: list[tuple[int, int]] = []
        self._seeds = find_seeds(source.value)
        # Of a dataset that was not made for this reading nobody knows how often it was read.
        self.reproducible = self._seeds is not None and (source.made or not self._seeds)
        self._resumed = 0
        self._rest: Iterator[Any] = iter(())

    def mark(self, epoch: int, step: int) -> dict[str, Any]:
        """What another process needs to come to the same place."""
        return {"seeds": self._seeds, "fits": [*self._fits]}

    def batches(self, epoch: int, epochs: int, step: int) -> tf.data.Dataset:
        """The batches of a `fit`."""
        resumed = self._resumed > 0
        if resumed:
            self._resumed -= 1
        else:
            next(self._rest, None)  # the phase before was its last batch: that ends it
            self._fits.append((epoch, epochs))
        if not self._continues:
            found = self._pass(self._steps)
            return found.skip(step).apply(counted(self._steps - step)) if step else found
        count = self._steps * epochs - step
        return self._from_rest(count) if resumed else self._pass(count)

    def read_until(
        self,
        epoch: int,
        step: int,
        fits: Sequence[tuple[int, int]],
        seeds: Sequence[int],
        progress: Progress,
    ) -> bool:
        """Read all that comes before a step of an epoch, where what follows hangs on it.

        Returns:
            Whether what follows is the same.
        """
        if seeds != self._seeds:
            return False
        self._fits = [*fits]
        self._resumed = 2 if step else 1
        if not self._continues:
            found = self._pass(self._steps)
            for _ in range(epoch if seeds else 0):
                for _ in self._whole(found):
                    progress.count()
            return True
        for (first, epochs), (following, _) in itertools.pairwise(fits if seeds else fits[-1:]):
            if first + epochs != following:
                return False  # ended early, when more was read ahead
            for _ in self._whole(self._pass(self._steps * epochs)):
                progress.count()
        first, epochs = fits[-1]
        self._rest = self._whole(self._pass(self._steps * epochs))
        for _ in range((epoch - first) * self._steps + step):
            next(self._rest)
            progress.count()
        return True

    def _pass(self, count: int) -> tf.data.Dataset:
        # A pass that is shorter than the first one goes on with another, a longer one is cut.
        found = self._prepare(self._dataset).apply(_one_ahead).repeat()
        return found.take(count).prefetch(tf.data.AUTOTUNE)

    def _whole(self, found: tf.data.Dataset) -> Iterator[Any]:
        """All batches; then, as Keras does, one more iterator, for which a shuffle draws too."""
        yield from found
        iter(found)

    def _from_rest(self, count: int) -> tf.data.Dataset:
        """What the iterator that has caught up gives next: another one would shuffle anew."""

        def rest() -> Iterator[Any]:
            yield from itertools.islice(self._rest, count)

        signature = self._prepare(self._dataset).element_spec
        made = tf.data.Dataset.from_generator(rest, output_signature=signature)
        return made.apply(counted(count)).prefetch(tf.data.AUTOTUNE)


def _one_ahead(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The same elements, each given when the next one, or the end, is there.

    With the last element the dataset has so come to its end, without which its `cache` keeps
    nothing; whether something that reads ahead would come there in time hangs on the machine.
    """

    def first(*pair: Any) -> tf.data.Dataset:
        return tf.data.Dataset.zip(pair if several else pair[0]).take(1)

    several = isinstance(dataset.element_spec, tuple)
    return dataset.window(2, shift=1).flat_map(plain(first))


def find_seeds(dataset: tf.data.Dataset) -> list[int] | None:
    """The seeds of all that draws in a dataset; none where it gives the same in every pass.

    Returns:
        None where what it gives hangs on more than its graph: code in Python, variables,
        operations that draw.
    """
    if dataset.options().deterministic is False or _size(dataset) > _MAX_BYTES:
        return None
    policy = tf.data.experimental.ExternalStatePolicy.FAIL
    try:
        serialized = dataset._as_serialized_graph(external_state_policy=policy)
    except (tf.errors.OpError, ValueError, AttributeError):
        return None
    graph = tf.compat.v1.GraphDef.FromString(serialized.numpy())
    inner = [node.op for function in graph.library.function for node in function.node_def]
    if any(_draws(operation) for operation in inner):
        return None
    whole = {
        node.name: tf.make_ndarray(node.attr["value"].tensor)
        for node in graph.node
        if node.op == "Const" and node.attr["dtype"].type == tf.int64.as_datatype_enum
    }
    drawing = (node for node in graph.node if _draws(node.op))
    return [int(whole[name]) for node in drawing for name in node.input if name in whole]


def _draws(operation: str) -> bool:
    found = "Shuffle" in operation or "Random" in operation or "Sampl" in operation
    return found and not operation.startswith("Stateless")


def _size(dataset: Any) -> int:
    """Bytes of the tensors that a dataset was made from."""
    own: int = sum(
        int(tensor.shape.num_elements() or 0) * tensor.dtype.size
        for tensor in getattr(dataset, "_tensors", ())
        if isinstance(tensor, tf.Tensor)
    )
    return own + sum(_size(each) for each in dataset._inputs())
