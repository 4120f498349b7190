"""When the units fell silent that an exact look finds dead. Pure NumPy."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from orchestrator.diagnosis.watch.epochs import EpochSignals
from orchestrator.record.checks import DeadNeuronsCheck, LayerUnits
from orchestrator.record.records import UnitsLost


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Heard:
    """What a training has told of its units."""

    epochs: Sequence[EpochSignals]
    """What came back in each epoch."""
    last: Mapping[str, npt.NDArray[np.int64]]
    """The last epoch in which each unit of a layer got a gradient, 0 for none, by the path of the
    layer, or by the name of the site at which an activation is applied to its units."""

    def of(self, layer: LayerUnits) -> npt.NDArray[np.int64] | None:
        """That of the units of an activation site; None where nothing watches them."""
        found = self.last.get(layer.layer, self.last.get(layer.layer.partition(":")[0]))
        return None if found is None or len(found) != layer.units else found


def with_silence(check: DeadNeuronsCheck, heard: Heard) -> DeadNeuronsCheck:
    """The check with the epoch in which each dead unit has got its last gradient."""
    layers = []
    for layer in check.measured.layers:
        last, dead = heard.of(layer), layer.dead_units
        known = last is not None and dead and layer.dead
        after = tuple(last[[*dead]].tolist()) if known else None  # type: ignore[index, misc]
        layers.append(replace(layer, silent_after=after))
    return replace(check, measured=replace(check.measured, layers=tuple(layers)))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Past:
    """What is known of the epochs until now."""

    rates: Sequence[Sequence[float]]
    """Highest learning rate of each epoch of each phase."""
    losses: Mapping[int, float]
    """Loss of each epoch by its number."""
    healthy: int = 0
    """The epoch after which a network has failed; 0 where none is known, or it has not failed."""


def largest_loss(check: DeadNeuronsCheck, heard: Heard, past: Past) -> UnitsLost | None:
    """The epoch in which most units of a layer fell silent that are dead now.

    Units that never got a gradient are born dead, and not lost.

    Args:
        check: with the epochs of silence.
        heard: what the training has told.
        past: what is known of the epochs.

    Returns:
        None where no unit was lost, or nothing was watched.
    """
    every = [*itertools.chain.from_iterable(past.rates)]
    losses = [each for each in _losses(check.measured.layers) if each[2] <= len(every)]
    late = [each for each in losses if each[2] > past.healthy]
    found = max(late or losses, default=None, key=lambda loss: loss[0])
    if found is None:
        return None
    lost, layer, epoch = found
    last = heard.of(layer)
    firsts = {1 + end for end in itertools.accumulate(map(len, past.rates), initial=0)}
    signals = next((each.layers for each in heard.epochs if each.epoch == epoch), ())
    moved = max(signals, default=None, key=lambda each: each.update_ratio)
    return UnitsLost(
        layer=layer.layer,
        units=layer.units,
        lost=lost,
        alive=lost if last is None else int(np.count_nonzero(last >= epoch)),
        epoch=epoch,
        learning_rate=every[epoch - 1],
        rate_before=every[epoch - 2] if epoch > 1 else None,
        loss_before=past.losses.get(epoch - 1),
        first=epoch in firsts,
        gradient_norm=math.hypot(*(each.gradient_norm for each in signals)) if signals else None,
        moved_layer=None if moved is None else moved.layer,
        moved=None if moved is None else moved.update_ratio,
    )


def _losses(layers: Sequence[LayerUnits]) -> Iterator[tuple[int, LayerUnits, int]]:
    """How many units each layer has lost in each epoch; not those that only lag."""
    for layer in layers:
        if layer.silent_after and layer.counted_dead() == layer.dead and not layer.partial:
            epochs, counts = np.unique([*filter(None, layer.silent_after)], return_counts=True)
            for epoch, count in zip(epochs.tolist(), counts.tolist(), strict=True):
                yield count, layer, int(epoch)
