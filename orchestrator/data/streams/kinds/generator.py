"""Generators: an epoch is a pass, or goes on where the one before has stopped."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

from orchestrator.data.rows import Batch
from orchestrator.data.streams.kinds.position import Begun, Progress, Reads, seed_global_generators
from orchestrator.data.streams.recording import Live
from orchestrator.data.streams.sources import Source
from orchestrator.data.streams.waiting import Waiting


class Passes:
    """The batches of a generator, epoch by epoch.

    Args:
        source: the generator.
        live: what is known of its batches.
        waiting: notes when a batch is asked for.
        prepare: makes a batch of the user's ready for the model.
    """

    def __init__(
        self, source: Source, live: Live, waiting: Waiting, prepare: Callable[[Any], Batch]
    ) -> None:
        self._source = source
        self._live = live
        self._waiting = waiting
        self._prepare = prepare
        self._ongoing: Iterator[Any] | None = None
        self._reads = Reads()
        self._begun: Begun | None = None

    def mark(self, epoch: int, step: int) -> dict[str, Any]:
        """What tells whether another process has come to the same place."""
        return {"hash": self._reads.until(epoch, step)}

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of an epoch, or what is left of the one that was caught up with."""
        begun, self._begun = self._begun, None
        if begun is not None:
            found = begun.go_on()
        else:
            self._reads.begin(number)
            found = self._pass()
        for value in found:
            batch = self._prepare(value)
            self._reads.add(batch)
            yield batch

    def read_until(
        self, epoch: int, step: int, seed: int | None, progress: Progress
    ) -> dict[str, Any]:
        """Read all that comes before a step of an epoch, and mark that place."""
        for number in range(epoch):
            if seed is not None:
                seed_global_generators(seed, number)
            for _ in self.epoch(number):
                progress.count()
        if step:
            if seed is not None:
                seed_global_generators(seed, epoch)
            self._reads.begin(epoch)
            found = self._pass()
            for value in itertools.islice(found, step):
                self._reads.add(self._prepare(value))
                progress.count()
            self._begun = Begun(found)
        return self.mark(epoch, step)

    def _pass(self) -> Iterator[Any]:
        """What the source gives in an epoch."""
        found = self._ongoing or self._endless()
        if self._live.continues:
            self._ongoing = found
        return itertools.islice(found, self._live.batches)

    def _endless(self) -> Iterator[Any]:
        """What the source gives, from its beginning again where it ends."""
        while True:
            count = 0
            for value in self._waiting.each(self._source.read()):
                count += 1
                yield value
            if not count:
                raise ValueError(f"{self._source.name} gave no further batch")
