"""What came back to each layer in an epoch of training. No Keras."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LayerSignal:
    """What came back to a layer in an epoch."""

    layer: str
    """Readable path of the layer in the model."""
    units: int
    """Number of units."""
    silent: int
    """Units whose gradient was exactly zero in every step."""
    gradient_norm: float
    """Norm over the units of their mean absolute gradient a step, before clipping."""
    update_ratio: float
    """How far the kernel has moved in the epoch, as a share of its norm before."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class EpochSignals:
    """What came back to all layers in an epoch."""

    epoch: int
    """Number of the epoch, counted from 1."""
    steps: int
    """Steps in which gradients were applied."""
    layers: tuple[LayerSignal, ...]
    """One for each layer that is watched."""


def entirely_silent(signals: Sequence[LayerSignal]) -> list[LayerSignal]:
    """The layers to none of whose units anything came back."""
    return [each for each in signals if each.silent == each.units]
