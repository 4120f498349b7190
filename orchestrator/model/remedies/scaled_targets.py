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
from orchestrator.data.rows import AnyRows
from orchestrator.model import keras_internals, layers, saving
from orchestrator.model.keras_internals import is_of_keras
from orchestrator.model.outputs import Output, own_way
from orchestrator.model.remedies import clones

_LOSSES = frozenset({"huber", "mean_absolute_error", "mean_squared_error"})
"""Losses of a distance, whose gradient follows from the scale of the targets."""


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
    model: keras.Model, config: Config, outputs: Sequence[Output], *, linear: bool = False
) -> str | None:
    """Why the targets of the model cannot be standardised, with the way out.

    Args:
        model: the model as built and compiled.
        config: the config.
        outputs: its outputs.
        linear: whether the activations that make them are to be taken away first.

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
    if not any(_may_be_scaled(model, outputs, linear=linear)):
        return "no output is a linear layer of Keras's that mse, mae or huber trains"
    lacks = saving.missing_for_saving(model)
    return None if lacks is None else f"what is changed could not be saved: {lacks}"


def _may_be_scaled(
    model: keras.Model, outputs: Sequence[Output], *, linear: bool = False
) -> list[bool]:
    """Of each output, whether it is linear and trained on a distance from numbers."""
    return [
        output.trained
        and output.form == "regression"
        and output.target is not None
        and output.loss is not None
        and output.loss.is_keras
        and output.loss.name in _LOSSES
        and _is_linear(chain, linear)
        for output, chain in zip(outputs, layers.output_chains(model), strict=True)
    ]


def _is_linear(chain: Sequence[keras.Operation], becomes: bool) -> bool:
    scaled = any(
        isinstance(each, keras.layers.Rescaling | keras.layers.Normalization) for each in chain
    )
    last = chain[-1] if chain else None
    if last is None or scaled or not is_of_keras(last) or not getattr(last, "weights", ()):
        return False
    activation = vars(last).get("activation")
    return activation is keras.activations.linear or (becomes and activation is not None)


def find_scales(model: keras.Model, outputs: Sequence[Output], rows: AnyRows) -> dict[int, Scale]:
    """The scale of the targets of each output that may be scaled, by its number.

    Args:
        model: the model as built and compiled.
        outputs: its outputs.
        rows: training rows.
    """
    may = _may_be_scaled(model, outputs) if layers.is_plain(model) else []
    return {
        index: _scale(output, rows)
        for index, output in enumerate(outputs)
        if index < len(may) and may[index]
    }


def _scale(output: Output, rows: AnyRows) -> Scale:
    """The scale of an output's targets, over the rows that count."""
    targets = np.asarray(output.targets(rows.y), np.float64)
    if rows.weight is not None and rows.weight.ndim == 1 and np.any(rows.weight > 0):
        targets = targets[rows.weight > 0]
    columns = targets.reshape(-1, output.shape[-1] if output.shape else 1)
    mean, deviation = columns.mean(axis=0), columns.std(axis=0)
    deviation = np.where(deviation > 0, deviation, 1.0)
    return Scale(mean=mean, deviation=deviation, slowdown=_slowdown(output, deviation))


def _slowdown(output: Output, deviation: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """What makes the gradients in the network those of a training on standardised targets.

    With predictions z·σ + μ, d/dz of a squared error is σ² times, of an absolute one σ times that
    on (y − μ)/σ. That of Huber's loss is squared below its delta, and absolute above.
    """
    loss = output.loss
    if loss is None or loss.name == "mean_squared_error":
        return deviation**-2.0
    if loss.name == "mean_absolute_error":
        return 1 / deviation
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
