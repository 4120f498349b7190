"""A `PyDataset`: Keras's own affair, with its workers, its shuffling and its `on_epoch_end`."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras

from orchestrator.data.streams.kinds.position import Begun, Progress, Reads, seed_global_generators

Prepare = Callable[[Any, int], Any]
"""Makes the batch of a `PyDataset` at a place ready for the model."""


def is_in_order(given: Any, *, continues: bool) -> bool:
    """Whether one thread reads a `PyDataset`, in order and no batch ahead of its epoch."""
    works = given.workers > 1 or (given.workers > 0 and given.use_multiprocessing)
    return not works and not continues and given.num_batches is not None


class Workers(keras.utils.PyDataset):  # type: ignore[misc]
    """A `PyDataset` of the user's with batches that are ready for the model.

    Args:
        given: the user's.
        prepare: makes its batches ready.
        endless: whether an epoch may go beyond its end.
    """

    def __init__(self, given: Any, prepare: Prepare, *, endless: bool) -> None:
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


class InOrder(keras.utils.PyDataset):  # type: ignore[misc]
    """A `PyDataset` of the user's for one `fit`, read by one thread in an order drawn here.

    The order is drawn as Keras draws it: from Python's global generator, when the first batch of an
    epoch is asked for. Before the first epoch Keras looks at some batches and ends an epoch.

    Args:
        given: the user's.
        prepare: makes its batches ready.
        reads: takes note of the batches.
        first: number of the first epoch.
        looks: what Keras sees before the first epoch where that epoch is not the first of its
            phase: the user's object has seen Keras look and end an epoch when the phase began.
        begun: what is left of the first epoch, with the number of its batches; None for all.
    """

    def __init__(
        self,
        given: Any,
        prepare: Prepare,
        reads: Reads,
        first: int,
        looks: Sequence[Any] | None = None,
        begun: tuple[Begun, int] | None = None,
    ) -> None:
        super().__init__()
        self.looks: list[Any] = []
        """The batches that Keras has looked at."""
        self._given = given
        self._prepare = prepare
        self._reads = reads
        self._numbers = itertools.count(first)
        self._known = looks
        self._begun = None if begun is None else begun[0]
        self._length: int = given.num_batches if begun is None else begun[1]
        self._within = False
        self._order: Iterator[int] | None = None

    @property
    def num_batches(self) -> int:
        """Batches of an epoch."""
        return self._length

    def __getitem__(self, index: int) -> Any:
        """The next batch of the order."""
        if not self._within:
            batch = self._prepare(self._given, index) if self._known is None else self._known[index]
            self.looks.append(batch)
            return batch
        if self._order is None:
            self._order = self._draw()
        batch = self._prepare(self._given, next(self._order))
        self._reads.add(batch)
        return batch

    def _draw(self) -> Iterator[int]:
        begun, self._begun = self._begun, None
        if begun is not None:
            found: Iterator[int] = begun.go_on()
            return found
        order = list(range(self.num_batches))
        random.shuffle(order)
        return iter(order)

    def on_epoch_begin(self) -> None:
        """Its own."""
        self._within, self._order = True, None
        if self._begun is None:
            self._reads.begin(next(self._numbers))
            self._given.on_epoch_begin()

    def on_epoch_end(self) -> None:
        """Its own."""
        if self._within or self._known is None:
            self._given.on_epoch_end()
        self._within = False

    def rest(self) -> Begun:
        """What is left of the epoch."""
        return Begun(self._draw() if self._order is None else self._order)


class Epochs:
    """The fits of a `PyDataset` that is read in order.

    Args:
        given: the user's.
        prepare: makes its batches ready.
    """

    def __init__(self, given: Any, prepare: Prepare) -> None:
        self._given = given
        self._prepare = prepare
        self._reads = Reads()
        self._fits: list[tuple[int, InOrder]] = []
        self._resumed: list[tuple[Begun, int] | None] = []

    def mark(self, epoch: int, step: int) -> dict[str, Any]:
        """What another process needs to come to the same place."""
        fits = [(first, len(fit.looks)) for first, fit in self._fits]
        return {"hash": self._reads.until(epoch, step), "fits": fits}

    def batches(self, epoch: int) -> InOrder:
        """The batches of a `fit`."""
        if self._resumed:
            begun, looks = self._resumed.pop(0), self._fits[-1][1].looks
            return InOrder(self._given, self._prepare, self._reads, epoch, looks, begun)
        made = InOrder(self._given, self._prepare, self._reads, epoch)
        self._fits.append((epoch, made))
        return made

    def read_until(
        self,
        epoch: int,
        step: int,
        fits: Sequence[tuple[int, int]],
        seed: int | None,
        progress: Progress,
    ) -> dict[str, Any]:
        """Read all that comes before a step of an epoch, and mark that place."""

        def set_seed(number: int) -> None:
            if seed is not None:
                seed_global_generators(seed, number)

        ends = [first for first, _ in fits[1:]]
        for (first, looks), end in zip(fits, [*ends, epoch], strict=True):
            set_seed(first)
            fit = self.batches(first)
            for index in range(looks):
                fit[index]
            fit.on_epoch_end()
            for number in range(first, end):
                set_seed(number)
                fit.on_epoch_begin()
                self._read(fit, fit.num_batches, progress)
                fit.on_epoch_end()
        self._resumed = [None]
        if step:
            set_seed(epoch)
            fit.on_epoch_begin()
            self._read(fit, step, progress)
            self._resumed.insert(0, (fit.rest(), fit.num_batches - step))
        return self.mark(epoch, step)

    def _read(self, fit: InOrder, count: int, progress: Progress) -> None:
        for index in range(count):
            fit[index]
            progress.count()
