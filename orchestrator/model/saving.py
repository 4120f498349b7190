"""The model as it is saved: with the standardisation in front, loadable by plain Keras."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import optree

from orchestrator.data.rows import AnyRows, Scaling, leaves
from orchestrator.model import keras_internals, layers, objects


def deployable(model: keras.Model, scalings: Mapping[str, Scaling], rows: AnyRows) -> keras.Model:
    """The model that takes raw inputs, with the standardisation in front.

    Args:
        model: the trained model.
        scalings: the standardisation of each input that it was trained behind.
        rows: training rows, for the inputs' shapes and types.

    Returns:
        A model that plain `keras.models.load_model` loads; `model` itself without standardisation.
        A model of Keras's own classes is compiled as it was, with its optimizer's state; one of the
        user's own class is inside as it is, compiled, with all that it has beyond Keras's.
    """
    if not scalings:
        return model
    x, _, _ = rows.first(1)
    inputs, fronts = [], []
    for path, array in leaves(x):
        name = path.replace("/", "_")
        dtype = "float32" if path in scalings else array.dtype.name
        inputs.append(keras.Input(shape=array.shape[1:], dtype=dtype, name=name or "raw"))
        fronts.append(_standardized(inputs[-1], name, scalings.get(path)))
    structure = optree.tree_structure(x)
    inner = _uncompiled(model)
    outputs = inner(optree.tree_unflatten(structure, fronts))
    whole = keras.Model(
        optree.tree_unflatten(structure, inputs),
        _named(outputs, model),
        name=f"standardized_{model.name}",
    )
    if inner is not model:
        # The very optimizer, whose state belongs to the same weights: training can go on.
        arguments = keras_internals.compile_arguments(model)
        whole.compile(**{**arguments, "optimizer": model.optimizer})
    return whole


def _standardized(value: keras.KerasTensor, name: str, scaling: Scaling | None) -> Any:
    if scaling is None:
        return value
    front = keras.layers.Normalization(
        mean=scaling.mean,
        variance=scaling.variance,
        name=f"standardize_{name}" if name else "standardize",
        dtype="float32",
    )
    return front(value)


def _uncompiled(model: keras.Model) -> keras.Model:
    """The same layers in a model that is not compiled: Keras cannot load one optimizer twice."""
    if not layers.is_plain(model):
        return model
    inputs, outputs = keras_internals.structure(model)
    return keras.Model(inputs, outputs, name=model.name)


def _named(outputs: Any, model: keras.Model) -> Any:
    """The outputs under their own names, by which losses and metrics know them."""
    names: Sequence[str] = getattr(model, "output_names", ())
    if isinstance(outputs, keras.KerasTensor) and len(names) == 1:
        return keras.layers.Identity(name=names[0])(outputs)
    if not isinstance(outputs, list | tuple) or len(names) != len(outputs):
        return outputs
    return [
        keras.layers.Identity(name=name)(output)
        for name, output in zip(names, outputs, strict=True)
    ]


def obstacle(model: keras.Model, rows: AnyRows) -> str | None:
    """Why plain Keras cannot load the model from its file, tried on a file.

    Args:
        model: a built model.
        rows: rows to compare predictions on.

    Returns:
        The user's classes with what each lacks, or else what Keras says; None when it can, and the
        loaded model predicts the same.
    """
    with tempfile.TemporaryDirectory(prefix="orchestrator-") as folder:
        path = Path(folder, "model.keras")
        try:
            model.save(path)
            loaded = keras.saving.load_model(path)
            x, _, _ = rows.first(8)
            pairs = zip(
                leaves(model(x, training=False)), leaves(loaded(x, training=False)), strict=True
            )
            same = all(
                np.array_equal(before, after, equal_nan=True) for (_, before), (_, after) in pairs
            )
        except Exception as error:  # noqa: BLE001 - the user's classes raise anything
            said = f"{type(error).__name__}: {objects.describe_error(error)}"
            return _missing_for_saving(model) or said
    if not same:
        lacks = _missing_for_saving(model) or "what it computes is not all in its config"
        return f"loaded again, it predicts otherwise: {lacks}"
    return None


def _missing_for_saving(model: keras.Model) -> str | None:
    """What the user's own classes lack that `keras.models.load_model` needs."""
    found = []
    kinds = dict.fromkeys(type(layer) for layer in keras_internals.all_layers(model))
    for kind in kinds:
        if kind.__module__.partition(".")[0] == "keras":
            continue
        lacks = []
        if keras.saving.get_registered_name(kind) == kind.__name__:
            lacks.append("the decorator keras.saving.register_keras_serializable()")
        parameters = inspect.signature(kind.__init__).parameters.values()
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            lacks.append("**kwargs in __init__, handed on to super().__init__")
        elif len(parameters) > 2 and "get_config" not in vars(kind):
            lacks.append("get_config with its own arguments")
        if lacks:
            found.append(f"class {kind.__name__} lacks {' and '.join(lacks)}")
    return "; ".join(found) or None
