"""The remedy standardize, of targets: a last layer that gives their units.

The network in front of it is trained as on standardised targets, while predictions, loss, metrics
and what the checks measure stay in the units of the rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from orchestrator.config.schema import Config
from orchestrator.config.sections.model import FileModel
from orchestrator.data.rows import AnyRows, Tree
from orchestrator.model import keras_internals, layers, saving
from orchestrator.model.keras_internals import is_of_keras
from orchestrator.model.outputs import Output, own_way
from orchestrator.model.remedies import clones, fixed_output

_LOGARITHMIC = "mean_squared_logarithmic_error"
"""Takes predictions below zero for zero, and has no gradient there."""
_RELATIVE = "mean_absolute_percentage_error"
_LOSSES = frozenset(
    {
        "huber",
        "log_cosh",
        "mean_absolute_error",
        "mean_squared_error",
        _LOGARITHMIC,
        _RELATIVE,
    }
)
"""Losses of a distance, whose gradient follows from the scale of the targets."""
_CLEAR = 2.0
"""Mean of targets, in their standard deviations, from which on hardly any prediction of a network
that is trained on standardised ones is below zero."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Scale:
    """Where the targets of an output are, and how far apart."""

    mean: npt.NDArray[np.float64]
    """Mean of each column over the training rows, shape (columns,)."""
    deviation: npt.NDArray[np.float64]
    """Standard deviation likewise, 1 where a column never varies."""
    slowdown: npt.NDArray[np.float64]
    """What the gradient with respect to the predictions is multiplied by, shape (columns,)."""


def obstacle(
    model: keras.Model,
    config: Config,
    outputs: Sequence[Output],
    y: Tree,
    *,
    linear: int | None = None,
) -> str | None:
    """Why the targets of the model cannot be standardised, with the way out.

    Args:
        model: the model as built and compiled.
        config: the config.
        outputs: its outputs.
        y: targets of all outputs.
        linear: number of the output that is asked for alone, whose activation is to be taken away
            first; None for any of them, as they are.

    Returns:
        One clause, or None where they can.
    """
    if config.data.standardize is False:
        return "data.standardize is false in the config"
    if isinstance(config.model, FileModel) and config.model.initial_weights == "file":
        return (
            f"the weights of {config.model.file} give values in the units that they were trained on"
        )
    if not layers.is_plain(model):
        name = type(model).__name__
        return f"the model is made in code of your own: end {name} with a Rescaling layer"
    aside = own_way(model)
    if aside is not None:
        return f"{aside}: end the model with a Rescaling layer"
    distances = _on_distances(model, outputs, linear)
    if not distances:
        return "no output is a linear layer of Keras's that mse or another distance trains"
    if not any(_is_clear(outputs[index], y) for index in distances):
        return "msle takes what is below 0 for 0, and targets come near it: take their logarithms"
    lacks = saving.missing_for_saving(model)
    return None if lacks is None else f"what is changed could not be saved: {lacks}"


def _on_distances(
    model: keras.Model, outputs: Sequence[Output], linear: int | None = None
) -> list[int]:
    """The numbers of the outputs that are linear and trained on a distance from numbers."""

    def passes(layer: keras.Operation) -> bool:
        becomes = linear is not None and fixed_output.is_alone(layer)
        return becomes or layers.is_linear(layer)

    return [
        index
        for index, (output, chain) in enumerate(
            zip(outputs, layers.output_chains(model, passes), strict=True)
        )
        if linear in (None, index)
        and output.trained
        and output.form == "regression"
        and output.target is not None
        and output.loss is not None
        and output.loss.is_keras
        and output.loss.name in _LOSSES
        and _is_linear(chain, linear is not None)
    ]


def _is_linear(chain: Sequence[keras.Operation], becomes: bool) -> bool:
    scaled = any(
        isinstance(each, keras.layers.Rescaling | keras.layers.Normalization) for each in chain
    )
    last = chain[-1] if chain else None
    if last is None or scaled or not is_of_keras(last) or not getattr(last, "weights", ()):
        return False
    bent = sum(not layers.is_linear(each) for each in chain)
    return vars(last).get("activation") is not None and bent <= becomes


def find_scales(model: keras.Model, outputs: Sequence[Output], rows: AnyRows) -> dict[int, Scale]:
    """The scale of the targets of each output that may be scaled, by its number.

    Args:
        model: the model as built and compiled.
        outputs: its outputs.
        rows: training rows.
    """
    distances = _on_distances(model, outputs) if layers.is_plain(model) else []
    return {
        index: _scale(outputs[index], rows)
        for index in distances
        if _is_clear(outputs[index], rows.y)
    }


def _is_clear(output: Output, y: Tree) -> bool:
    """Whether no scale of an output's targets leads its loss to where that has no gradient."""
    if output.loss is None or output.loss.name != _LOGARITHMIC:
        return True
    targets = np.asarray(output.targets(y), np.float64)
    columns = targets.reshape(-1, output.shape[-1] if output.shape else 1)
    return bool(np.all(columns.mean(axis=0) >= _CLEAR * columns.std(axis=0)))


def _scale(output: Output, rows: AnyRows) -> Scale:
    """The scale of an output's targets, over the rows that count."""
    targets = np.asarray(output.targets(rows.y), np.float64)
    if rows.weight is not None and rows.weight.ndim == 1 and np.any(rows.weight > 0):
        targets = targets[rows.weight > 0]
    columns = targets.reshape(-1, output.shape[-1] if output.shape else 1)
    mean, deviation = columns.mean(axis=0), columns.std(axis=0)
    deviation = np.where(deviation > 0, deviation, 1.0)
    size = np.median(np.abs(columns), axis=0)
    return Scale(mean=mean, deviation=deviation, slowdown=_slowdown(output, deviation, size))


def _slowdown(
    output: Output, deviation: npt.NDArray[np.float64], size: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """What makes the gradients in the network those of a training on standardised targets.

    With predictions z·σ + μ, d/dz of a squared error is σ² times, of an absolute one σ times that
    on (y − μ)/σ. That of Huber's loss is squared below its delta, and absolute above; so is that of
    log cosh below and above 1. An error in percent of y is 100/|y| times an absolute one, and the
    distance of logarithms near y is that of numbers over 1 + y: `size` stands for either.
    """
    loss = output.loss
    if loss is None or loss.name == "mean_squared_error":
        return deviation**-2.0
    if loss.name == "mean_absolute_error":
        return 1 / deviation
    if loss.name == _RELATIVE:
        return np.where(size > 0, size, 1.0) / (100 * deviation)
    if loss.name == _LOGARITHMIC:
        return ((1 + size) / deviation) ** 2
    delta = float(keras_internals.function_arguments(loss.function).get("delta", 1.0))
    return 1 / (deviation * np.minimum(deviation, delta))


def rescale(model: keras.Model, scales: Mapping[int, Scale]) -> keras.Model:
    """The model with a last layer that gives the units of the targets, compiled as it was.

    Args:
        model: a sequential or functional model, compiled; its layers become the new one's.
        scales: the scale of the targets, by the number of the output.

    Returns:
        A model whose saved file plain Keras loads.
    """
    arguments = clones.compile_arguments(model)
    if type(model) is keras.Sequential:
        changed = model
        changed.add(_layer(_free_name(model), scales[0]))
    else:
        inputs, _ = keras_internals.structure(model)
        inner = keras.Model(*keras_internals.structure(model), name=f"standardized_{model.name}")
        outputs = keras.tree.flatten(inner(inputs))
        # By their own names, by which losses and metrics know them.
        named = [
            _layer(name, scales[index])(output)
            if index in scales
            else keras.layers.Identity(name=name)(output)
            for index, (name, output) in enumerate(zip(model.output_names, outputs, strict=True))
        ]
        _, structure = keras_internals.structure(model)
        whole = keras.tree.pack_sequence_as(structure, named)
        changed = keras.Model(inputs, whole, name=model.name)
    changed.compile(**arguments)
    return changed


def describe(model: keras.Model, outputs: Sequence[Output]) -> dict[str, dict[str, list[float]]]:
    """Mean and variance of the targets of each output that `rescale` has put a layer behind.

    Args:
        model: what it has returned.
        outputs: its outputs, by whose names the scales are told.
    """
    found = {}
    for output, chain in zip(outputs, layers.output_chains(model), strict=False):
        last = chain[0] if chain else None
        if isinstance(last, keras.layers.Rescaling):
            deviation = np.atleast_1d(np.asarray(last.scale, np.float64))
            mean = np.atleast_1d(np.asarray(last.offset, np.float64))
            found[output.name] = {"mean": mean.tolist(), "variance": (deviation**2).tolist()}
    return found


def _free_name(model: keras.Model) -> str:
    names = {layer.name for layer in model.layers}
    return next(
        name for count in range(len(names) + 1) if (name := f"rescale{count or ''}") not in names
    )


def _layer(name: str, scale: Scale) -> keras.layers.Rescaling:
    """The last layer, to plain Keras no other than any of its class."""
    layer = keras.layers.Rescaling(
        scale=_plain(scale.deviation), offset=_plain(scale.mean), name=name, dtype="float32"
    )
    # On the object alone, for the file is to name a class of Keras's.
    layer.call = _slowed(layer.call, scale.slowdown)
    return layer


def _plain(values: npt.NDArray[np.float64]) -> float | list[float]:
    return float(values[0]) if len(values) == 1 else [float(each) for each in values]


def _slowed(call: Callable[[Any], Any], slowdown: npt.NDArray[np.float64]) -> Callable[[Any], Any]:
    """A call that gives the same, with a gradient that is multiplied by so much."""

    def forward(value: Any) -> tuple[Any, Callable[[Any], Any]]:
        def backward(upstream: Any) -> Any:
            return upstream * keras.ops.cast(slowdown, upstream.dtype)

        return value, backward

    with_gradient = keras.ops.custom_gradient(forward)

    def slowed(inputs: Any) -> Any:
        return with_gradient(call(inputs))

    return slowed
