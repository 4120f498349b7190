"""Which weight's gradient tells of a layer's units: the sum of what has come back to each."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import keras
import numpy as np
import numpy.typing as npt

from orchestrator.diagnosis.tracing.naming import path
from orchestrator.model import keras_internals

_SHIFTS = ("bias", "beta")
"""What is added to each unit: its gradient is the sum of the gradients at the unit's
pre-activation over rows and positions."""
_DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
"""Layers whose kernels have a unit for each pair of the last two axes."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Watched:
    """A layer of which some weight's gradient is zero where a unit gets none."""

    name: str
    """Readable path of the layer in the model, as the exact check names it."""
    units: int
    """Number of units."""
    shift: keras.Variable
    """The weight: a bias, BatchNorm's beta, or else a kernel."""
    axes: int
    """How many of its last axes tell units apart: all of a bias; over the others it is summed."""
    kernel: keras.Variable
    """The layer's largest weight, whose movement is measured."""

    @property
    def size(self) -> int:
        """Values of the gradient that are kept apart."""
        shape = self.shift.shape
        return math.prod(shape[len(shape) - self.axes :])

    @property
    def owners(self) -> npt.NDArray[np.int64]:
        """The unit that each of these values belongs to, shape (size,): an LSTM's has four."""
        return np.arange(self.size) % self.units


def find_watched(model: keras.Model) -> tuple[Watched, ...]:
    """The layers of a model that are trained and have weights for their units.

    Args:
        model: a built model.

    Returns:
        They in forward order, as far as Keras knows it; a shared layer once, by its first name.
    """
    trained = {id(each) for each in model.trainable_variables}
    found: dict[int, Watched] = {}
    for layers in _paths(model, (model,)):
        layer = layers[-1]
        own = [each for each in keras_internals.own_variables(layer) if id(each) in trained]
        watched = None if id(layer) in found else _watched(layer, own, path(layers, model))
        if watched is not None:
            found[id(layer)] = watched
    return tuple(found.values())


def _paths(
    layer: keras.Layer, around: tuple[keras.Layer, ...]
) -> Iterator[tuple[keras.Layer, ...]]:
    """Each layer inside, with those that it is inside of, outermost first."""
    known = layer.layers if isinstance(layer, keras.Model) else ()
    for inner in dict.fromkeys([*known, *keras_internals.inner_layers(layer)]):
        yield (*around, inner)
        yield from _paths(inner, (*around, inner))


def _watched(layer: keras.Layer, own: list[keras.Variable], name: str) -> Watched | None:
    """How a layer is watched; None where no weight has a part for each unit."""
    # A PReLU's slopes have no gradient where its unit is always positive, and it never dies.
    if isinstance(layer, keras.layers.PReLU) or not any(len(each.shape) for each in own):
        return None
    kernel = max(own, key=lambda each: math.prod(each.shape))
    shift, axes = _shift(layer, own, kernel)
    size = math.prod(shift.shape[len(shift.shape) - axes :])
    # A recurrent layer has a bias for each of its gates.
    units = getattr(layer, "units", None) or getattr(layer, "filters", None) or size
    whole = isinstance(units, int) and size % units == 0
    return Watched(name=name, units=units if whole else size, shift=shift, axes=axes, kernel=kernel)


def _shift(
    layer: keras.Layer, own: list[keras.Variable], kernel: keras.Variable
) -> tuple[keras.Variable, int]:
    """The weight whose gradient is cheapest to look at, and how many axes tell its units apart."""
    named = [getattr(layer, name, None) for name in _SHIFTS]
    for each in own:
        if any(each is one for one in named) and len(each.shape):
            return each, len(each.shape)
    vectors = [each for each in own if each.shape == kernel.shape[-1:]]
    if vectors:
        return vectors[0], 1
    return kernel, 2 if isinstance(layer, _DEPTHWISE) else 1
