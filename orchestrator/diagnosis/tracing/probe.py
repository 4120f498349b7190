"""Counting on how many rows each unit is active, in one forward pass over the training rows.

The counts are computed inside the same graph as the predictions: about the cost of a `predict`.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from orchestrator.data.rows import Readable, Rows, Tree, leaves, num_rows, transform
from orchestrator.diagnosis.tracing.counting import CountingGraph, Shapes
from orchestrator.diagnosis.units import Flow, Layer
from orchestrator.model.keras_internals import all_layers
from orchestrator.model.layers import is_callable
from orchestrator.model.losses.returned import Returned

_REPORT_SECONDS = 1.0
"""Time between two reports."""
BATCH_SIZE = 1024
"""Rows of one forward pass."""

_LOOKUPS = (
    keras.layers.Embedding,
    keras.layers.Hashing,
    keras.layers.IntegerLookup,
    keras.layers.StringLookup,
    keras.layers.TextVectorization,
    keras.layers.CategoryEncoding,
)
"""Layers that take what has no size, such as words."""

See = Callable[[Tree, list[Returned], Tree, Any], None]
"""Gets the inputs of each batch, what the model returned for it, in the order of `rows.leaves`, its
targets and its weights."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """What one pass over the rows found."""

    layers: tuple[Layer, ...]
    """What was counted at each activation site, in forward order."""
    flow: Flow
    """Which of them feed which, and which make the outputs."""
    rows: int
    """How many rows were seen."""
    complete: bool
    """Whether these were all."""
    responding: int | None = None
    """Rows whose output responds to the inputs; None without gradients."""
    notes: tuple[str, ...] = ()
    """A sentence for each layer whose activations the graph hides."""


class Probe:
    """Counts active rows of a model's units; the graph is traced once and then used again.

    Args:
        model: a built model.
        untrained: numbers of the outputs that no loss trains.
        report: told what takes long, and how far it has come.
    """

    def __init__(
        self,
        model: keras.Model,
        untrained: frozenset[int] = frozenset(),
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._model = model
        self._report = report
        self._untrained = untrained
        self._graphs: dict[tuple[bool, bool], dict[Shapes, CountingGraph]] = {}

    @property
    def can_measure(self) -> bool:
        """Whether rows can be run through the model itself."""
        return is_callable(self._model)

    @property
    def reads(self) -> dict[str, tuple[Any, ...]]:
        """Handles of the variables between each site and those before it, the nearest first.

        They are known once rows were measured in inference mode, and for no site inside a loop.
        """
        found: dict[str, tuple[Any, ...]] = {}
        for (batch_statistics, _), graphs in self._graphs.items():
            if not batch_statistics:
                for graph in graphs.values():
                    found.update(graph.reads)
        return found

    @property
    def has_batch_normalization(self) -> bool:
        """Whether inference and training mode can differ by BatchNorm's statistics."""
        return any(
            isinstance(layer, keras.layers.BatchNormalization) for layer in all_layers(self._model)
        )

    @property
    def has_lookups(self) -> bool:
        """Whether a layer looks its inputs up, whose size says nothing then."""
        return any(isinstance(layer, _LOOKUPS) for layer in all_layers(self._model))

    @property
    def has_frozen_kernels(self) -> bool:
        """Whether a part of it does not train, as a pretrained base; scalings are none."""
        return any(
            not layer.trainable and any(len(each.shape) > 1 for each in layer.weights)
            for layer in all_layers(self._model)
        )

    def measure(
        self,
        rows: Readable,
        *,
        batch_size: int = BATCH_SIZE,
        batch_statistics: bool = False,
        gradients: bool = False,
        at_least: int | None = None,
        see: See | None = None,
        enough: Callable[[tuple[Layer, ...]], bool] | None = None,
    ) -> Measurement:
        """Count over all rows, a batch at a time.

        Args:
            rows: what to run through the model.
            batch_size: rows of one forward pass, where the rows leave the choice.
            batch_statistics: use BatchNorm's batch statistics instead of its moving ones.
            gradients: count the rows on which an output's gradient gets through each unit, too.
            at_least: stop after the batch with which so many rows were seen; None for all rows.
            see: gets what every batch predicts.
            enough: stop after the batch with whose counts this is true.

        Returns:
            The counts, exact for the rows that were seen.
        """
        seen = 0
        tally: _Tally | None = None
        complete = True
        size = min(batch_size, at_least or batch_size)
        batches = _Batches(rows, size, self._report)
        for x, y, weight in rows.batches(size):
            if not complete:
                break
            graph = self._graph(x, batch_statistics, gradients)
            tally = tally or _Tally(graph)
            predictions = tally.add(graph, x)
            if see is not None:
                see(x, predictions, y, weight)
            seen += num_rows(x)
            batches.count()
            stop = at_least is not None and seen >= at_least
            stop = stop or (enough is not None and enough(tally.layers()))
            complete = not stop or _are_all(rows, seen)
            if stop:
                break
        if tally is None:
            raise ValueError("Expected at least one row. Received: none")
        return Measurement(
            layers=tally.layers(),
            flow=tally.first.flow.leaving_out(self._untrained),
            rows=seen,
            complete=complete,
            responding=tally.responding if gradients else None,
            notes=tally.notes,
        )

    def hidden_relu(self, rows: Readable) -> list[tuple[str, Sequence[Any]]]:
        """Where relu, with a bound or without, is applied and does not make an output.

        Args:
            rows: rows of the model.

        Returns:
            Name of each site, and the layers and operations of Keras around it, outermost first.
        """
        if not self.can_measure:
            return []
        graph = self._graph(rows.first(1)[0], batch_statistics=False, gradients=False)
        return [
            (site.name, site.around)
            for index, site in enumerate(graph.sites)
            if site.activation.name in ("relu", "relu6") and index not in graph.flow.ends
        ]

    def _graph(self, x: Tree, batch_statistics: bool, gradients: bool) -> CountingGraph:
        """The traced graph that can count a batch like this one."""
        known = self._graphs.setdefault((batch_statistics, gradients), {})
        shapes: Shapes = tuple(array.shape[1:] for _, array in leaves(x))
        if shapes not in known and known:
            shapes = _common([*known, shapes])
        graph = known.get(shapes)
        if graph is None or num_rows(x) > graph.batch_size:
            size = max(num_rows(x), BATCH_SIZE)
            self._report("tracing the model" + " with its gradients" * gradients)
            graph = CountingGraph(self._model, x, shapes, size, batch_statistics, gradients)
            known[shapes] = graph
        return graph


def _are_all(rows: Readable, seen: int) -> bool:
    """Whether so many rows are all; what comes in batches may not know."""
    try:
        return seen >= len(rows)
    except TypeError:
        return False


def _common(shapes: Sequence[Shapes]) -> Shapes:
    """The shapes with None for sizes that differ."""
    return tuple(
        tuple(sizes[0] if len(set(sizes)) == 1 else None for sizes in zip(*each, strict=True))
        for each in zip(*shapes, strict=True)
    )


class _Batches:
    """Tells now and then how many batches were counted."""

    def __init__(self, rows: Readable, size: int, report: Callable[[str], None]) -> None:
        self._of = f" of {rows.num_batches(size):,}" if isinstance(rows, Rows) else ""
        self._report = report
        self._done = 0
        self._told = time.monotonic()

    def count(self) -> None:
        """One more."""
        self._done += 1
        now = time.monotonic()
        if now - self._told >= _REPORT_SECONDS:
            self._told = now
            self._report(f"{self._done:,}{self._of} batches")


class _Tally:
    """Running counts for each activation site of the graph that counted the first batch."""

    def __init__(self, first: CountingGraph) -> None:
        self.first = first
        self.responding = 0
        self._notes = dict.fromkeys(first.notes)
        self._partial = [False] * len(first.sites)
        self._active: list[npt.NDArray[np.int64]] = []
        self._reached: list[npt.NDArray[np.int64]] = []
        self._constant: list[npt.NDArray[Any]] = []
        self._first: list[npt.NDArray[Any]] = []

    @property
    def notes(self) -> tuple[str, ...]:
        """What the graphs hide."""
        return tuple(self._notes)

    def add(self, graph: CountingGraph, x: Tree) -> list[Returned]:
        """Count one batch; returns what the model has returned for it."""
        # A unit that was seen to vary needs no second look.
        look = not self._active or any(flags.any() for flags in self._constant)
        predictions, active, extremes, reached, responding = graph.step(
            transform(tf.constant, x), tf.constant(bool(look))
        )
        found = (
            [each.numpy() for each in active],
            [each.numpy() for each in extremes] if look else [],
            [each.numpy() for each in reached],
        )
        if graph is not self.first:
            found = self._matched(graph, *found)
        self._add(*found)
        self.responding += int(responding)
        return [
            Returned(value, logits, mask, origin)
            for (value, logits, mask), origin in zip(predictions, graph.origins, strict=True)
        ]

    def _matched(
        self, graph: CountingGraph, counts: _Arrays, extremes: _Arrays, reached: _Arrays
    ) -> tuple[_Arrays, _Arrays, _Arrays]:
        """What another graph has counted, in the order of the first; nothing where it hides it."""
        self._notes |= dict.fromkeys(graph.notes)
        order = {
            (site.name, site.activation.name, counts[index].size): index
            for index, site in enumerate(graph.sites)
        }
        at = [
            order.get((site.name, site.activation.name, before.size))
            for site, before in zip(self.first.sites, self._active, strict=True)
        ]
        self._partial = [
            partial or index is None for partial, index in zip(self._partial, at, strict=True)
        ]
        counts = [
            counts[index] if index is not None else np.zeros_like(before)
            for index, before in zip(at, self._active, strict=True)
        ]
        if reached:
            reached = [
                reached[index] if index is not None else np.zeros_like(before)
                for index, before in zip(at, self._reached, strict=True)
            ]
        if extremes:
            extremes = [
                extremes[index] if index is not None else np.stack([before, before])
                for index, before in zip(at, self._first, strict=True)
            ]
        return counts, extremes, reached

    def _add(self, counts: _Arrays, extremes: _Arrays, reached: _Arrays) -> None:
        if not self._active:
            self._active = counts
            self._first = [low for low, _ in extremes]
            self._constant = [low == high for low, high in extremes]
            self._reached = reached
        else:
            self._active = [a + b for a, b in zip(self._active, counts, strict=True)]
            self._reached = [a + b for a, b in zip(self._reached, reached, strict=True)]
            for index, (low, high) in enumerate(extremes):
                same = (low == high) & (low == self._first[index])
                self._constant[index] = self._constant[index] & same
        for index, total in enumerate(self._active):
            # What is active on some rows and not on others varies; what is dead has its own name.
            self._constant[index] = self._constant[index] & (total[:-1] == total[-1])

    def layers(self) -> tuple[Layer, ...]:
        """The sites with their totals; the last entry of each is the number of rows."""
        return tuple(
            Layer(
                name=site.name,
                activation=site.activation.name,
                rows=int(total[-1]),
                active_rows=total[:-1],
                constant_units=np.flatnonzero(self._constant[index]),
                reached_rows=self._reached[index] if self._reached else None,
                saturating=site.activation.saturating,
                partial=self._partial[index],
            )
            for index, (site, total) in enumerate(zip(self.first.sites, self._active, strict=True))
        )


_Arrays = list[npt.NDArray[Any]]
