"""Reviving dead units of relu: fresh weights on their way in, zeros on their way out.

What a dead unit hands on is zero on every row. With zeros on its way out it stays so whatever the
unit does, and the prediction is the same to the bit; with incoming weights under which half of the
rows pass, the gradient reaches its way out with the next step and the unit itself with the one
after. The way out is followed through Keras's own Dense and convolutions; what it cannot be
followed through, such as a sum or a normalisation, leaves the units as they are.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from orchestrator.data.rows import Tree
from orchestrator.model import keras_internals, layers

_Array = npt.NDArray[Any]

_CONVOLUTIONS = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
_WEIGHTED = (keras.layers.Dense, *_CONVOLUTIONS)
_RELU = (keras.activations.relu, keras.ops.relu)
_CHANNELWISE = (
    keras.layers.Dropout,
    keras.layers.Flatten,
    keras.layers.GaussianDropout,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.SpatialDropout3D,
    *layers.POOLING,
)
"""Layers that make zeros of a unit's zeros, and mix no unit with another."""


@dataclasses.dataclass(frozen=True, slots=True)
class Revival:
    """What was done about the dead units of a model."""

    units: dict[str, tuple[int, ...]]
    """The units that were revived, by the place of their activation."""
    left: dict[str, str]
    """The places whose units were left as they are, each with the reason as a clause."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Passage:
    """The way into a unit and out of it."""

    source: keras.Layer
    """Makes the units."""
    given: Any
    """The symbolic tensor that it takes."""
    target: keras.Layer
    """The layer that takes them."""


class _UnfollowableError(Exception):
    """The way of a unit leads where it cannot be followed."""


def revive(
    model: keras.Model,
    dead: Mapping[str, Sequence[int]],
    x: Tree,
    seed: int,
    optimizers: Sequence[keras.optimizers.Optimizer] = (),
) -> Revival:
    """Give dead units fresh weights; the prediction on the rows does not change by a bit.

    Args:
        model: a built sequential or functional model; its weights are changed in place.
        dead: indices of the units that are dead on every row, by the name of the layer that applies
            their activation.
        x: rows, to centre the units on: half of their rows, or positions, will pass.
        seed: of the fresh weights, which are drawn as He's are.
        optimizers: what trains the weights; what they keep of those that change is cleared.

    Returns:
        What was revived, and what was not.
    """
    units: dict[str, tuple[int, ...]] = {}
    left: dict[str, str] = {}
    wanted = {name: np.asarray(each, np.int64) for name, each in dead.items() if len(each)}
    if not layers.is_plain(model):
        reason = "the model is neither sequential nor functional"
        return Revival(units, dict.fromkeys(wanted, reason))
    graph = _Graph(model)
    # From the inputs on: what is revived first is what the later units are centred on.
    for index, name in enumerate(sorted(wanted, key=graph.order)):
        try:
            passage = graph.passage(name)
            revived = _renew(passage, graph.values(passage.given, x), wanted[name], seed + index)
        except _UnfollowableError as error:
            left[name] = str(error)
            continue
        if len(revived) < len(wanted[name]):
            left[name] = "what goes in hardly varies"
        if len(revived):
            _close(passage, revived, optimizers)
            units[name] = tuple(map(int, revived))
    return Revival(units, left)


class _Graph:
    """Which layer takes what, in a sequential or functional model."""

    def __init__(self, model: keras.Model) -> None:
        self._inputs, _ = keras_internals.structure(model)
        self._takers: dict[int, list[keras.Operation]] = {}
        self._calls: dict[str, list[tuple[keras.Operation, Sequence[Any], Any]]] = {}
        ends = keras.tree.flatten(model.outputs)
        self._ends = {id(tensor) for tensor in ends}
        pending, seen = [*ends], set(self._ends)
        while pending:
            tensor = pending.pop()
            found = keras_internals.origin(tensor)
            if found is None:
                continue
            layer, given = found
            self._calls.setdefault(layer.name, []).append((layer, given, tensor))
            for each in given:
                self._takers.setdefault(id(each), []).append(layer)
                if id(each) not in seen:
                    seen.add(id(each))
                    pending.append(each)
        self._order = [each.name for each in getattr(model, "operations", model.layers)]

    def order(self, name: str) -> int:
        """Where a layer comes in the model."""
        return self._order.index(name) if name in self._order else len(self._order)

    def values(self, tensor: Any, x: Tree) -> Any:
        """What a symbolic tensor is for rows, in inference."""
        inputs = self._inputs
        if isinstance(inputs, list) and len(inputs) == 1:
            inputs = inputs[0]
        if tensor is inputs:
            return keras.ops.convert_to_tensor(x)
        return keras.Model(inputs, tensor)(x, training=False)

    def passage(self, name: str) -> _Passage:
        """The way through the units whose activation a layer applies.

        Raises:
            _UnfollowableError: why it cannot be followed.
        """
        layer, given, tensor = self._call(name)
        source = layer
        if not isinstance(layer, _WEIGHTED):
            if not _is_relu_alone(layer):
                raise _UnfollowableError("the layer is no Dense, no convolution and no plain relu")
            self._only_taker(given[0])
            before = keras_internals.origin(given[0])
            if before is None:
                raise _UnfollowableError("its relu is applied to an input")
            source, given = before
            if type(source) not in _WEIGHTED or source.activation is not keras.activations.linear:
                raise _UnfollowableError("its relu does not follow on a Dense or a convolution")
            self._call(source.name)
        elif layer.activation not in _RELU:
            raise _UnfollowableError("its activation is not relu")
        _expect_simple(source)
        if not source.use_bias:
            raise _UnfollowableError("the layer has no bias to centre its units by")
        taker = self._only_taker(tensor)
        while type(taker) in _CHANNELWISE:
            if getattr(taker, "data_format", None) == "channels_first":
                raise _UnfollowableError(f"{taker.name} has its channels first")
            taker = self._only_taker(self._call(taker.name)[2])
        if type(taker) not in _WEIGHTED:
            raise _UnfollowableError(f"{taker.name} follows, a {type(taker).__name__}")
        self._call(taker.name)
        _expect_simple(taker)
        return _Passage(source, given[0], taker)

    def _call(self, name: str) -> tuple[Any, Sequence[Any], Any]:
        calls = self._calls.get(name, [])
        if not calls:
            raise _UnfollowableError("it is not a layer of the model itself")
        if len(calls) > 1:
            raise _UnfollowableError(f"{name} is called more than once")
        return calls[0]

    def _only_taker(self, tensor: Any) -> Any:
        takers = self._takers.get(id(tensor), [])
        if id(tensor) in self._ends:
            raise _UnfollowableError("its units make an output")
        if len(takers) != 1:
            raise _UnfollowableError(f"{len(takers)} layers take its units")
        return takers[0]


def _is_relu_alone(layer: Any) -> bool:
    """Whether a layer is a plain relu, whose dead units are zero."""
    if type(layer) is keras.layers.ReLU:
        return not layer.negative_slope and layer.max_value is None and not layer.threshold
    return type(layer) is keras.layers.Activation and layer.activation in _RELU


def _expect_simple(layer: Any) -> None:
    """Raise where a layer's kernel is not the plain one of its class, which trains."""
    if type(layer) not in _WEIGHTED:
        raise _UnfollowableError(f"{layer.name} is a class of its own")
    if not layer.trainable:
        raise _UnfollowableError(f"{layer.name} is frozen")
    if isinstance(layer, _CONVOLUTIONS) and (
        layer.groups != 1 or layer.data_format == "channels_first"
    ):
        raise _UnfollowableError(f"{layer.name} has groups, or its channels first")
    if getattr(layer, "lora_enabled", False) or getattr(layer, "quantization_mode", None):
        raise _UnfollowableError(f"{layer.name} is quantized or has LoRA")


def _renew(passage: _Passage, given: Any, units: _Array, seed: int) -> _Array:
    """Put fresh weights on the way into units, under which half of what goes in passes.

    Returns:
        The units for which there are such weights.
    """
    layer = passage.source
    kernel, bias = layer.kernel.numpy(), layer.bias.numpy()
    fan_in = math.prod(kernel.shape[:-1])
    # He et al. 2015, "Delving Deep into Rectifiers".
    deviation = math.sqrt(2 / fan_in)
    fresh = np.random.default_rng(seed).normal(0, deviation, (*kernel.shape[:-1], len(units)))
    fresh = fresh.astype(kernel.dtype)
    # The whole kernel, so that a column is summed as it will be.
    whole = kernel.copy()
    whole[..., units] = fresh
    given = keras.ops.cast(given, layer.compute_dtype)
    taken = keras.ops.cast(whole, layer.compute_dtype)
    dense = isinstance(layer, keras.layers.Dense)
    sums = keras.ops.matmul(given, taken) if dense else layer.convolution_op(given, taken)
    sums = keras.ops.convert_to_numpy(keras.ops.cast(sums, "float32"))
    sums = sums.reshape(-1, kernel.shape[-1])[:, units]
    middle = np.median(sums, axis=0).astype(bias.dtype)
    passing = (sums > middle).mean(axis=0)
    alive = (passing >= _LEAST_SHARE) & np.isfinite(middle)
    kernel[..., units[alive]], bias[units[alive]] = fresh[..., alive], -middle[alive]
    layer.kernel.assign(kernel)
    layer.bias.assign(bias)
    revived: _Array = units[alive]
    return revived


_LEAST_SHARE = 0.25
"""Share of the rows that are above their median, below which most of them are alike."""


def _close(
    passage: _Passage, units: _Array, optimizers: Sequence[keras.optimizers.Optimizer]
) -> None:
    """Put zeros on the way out of units, and clear what is kept of all their weights."""
    source, target = passage.source, passage.target
    _set(target.kernel, _rows_of(units, source, target), optimizers, value=0.0)
    columns = np.zeros(source.kernel.shape[-1], bool)
    columns[units] = True
    _set(source.kernel, np.broadcast_to(columns, source.kernel.shape), optimizers)
    _set(source.bias, columns, optimizers)


def _rows_of(units: _Array, source: Any, target: Any) -> npt.NDArray[np.bool_]:
    """Which entries of the next kernel some units go through, behind a Flatten at all positions."""
    count = source.kernel.shape[-1]
    places = np.zeros(tuple(target.kernel.shape), bool)
    inputs, outputs = target.kernel.shape[-2:]
    places.reshape(-1, inputs // count, count, outputs)[:, :, units] = True
    return places


def _set(
    variable: keras.Variable,
    where: npt.NDArray[np.bool_],
    optimizers: Sequence[keras.optimizers.Optimizer],
    value: float | None = None,
) -> None:
    """Change entries of a weight, where a value is given, and clear what optimizers keep of it."""
    if value is not None:
        variable.assign(np.where(where, value, variable.numpy()))
    # Keras names what an optimizer keeps of a weight by the weight's path.
    prefix = variable.path.replace("/", "_") + "_"
    for optimizer in optimizers:
        for slot in optimizer.variables:
            if slot.name.startswith(prefix) and tuple(slot.shape) == tuple(variable.shape):
                # Of an average of the weights the new ones are the beginning.
                clear = variable.numpy() if slot.name == f"{prefix}average" else 0
                slot.assign(np.where(where, clear, slot.numpy()))
