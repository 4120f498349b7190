"""The model as it is saved: with the standardisation in front, loadable by plain Keras."""

from __future__ import annotations

import inspect
import tempfile
from pathlib import Path

import keras

from orchestrator import layers, objects
from orchestrator.data import Rows, Scaling


def deployable(model: keras.Model, scaling: Scaling | None, rows: Rows) -> keras.Model:
    """The model that takes raw inputs, with the standardisation in front.

    Args:
        model: the trained model.
        scaling: the standardisation it was trained behind, or None.
        rows: training rows, for the shape of the inputs.

    Returns:
        A model that plain `keras.models.load_model` loads; `model` itself without standardisation.
    """
    if scaling is None:
        return model
    inputs = keras.Input(shape=rows.x.shape[1:], name="raw")
    front = keras.layers.Normalization(
        mean=scaling.mean, variance=scaling.variance, name="standardize", dtype="float32"
    )
    # The same layers in a model that is not compiled: Keras cannot load one optimizer twice.
    inner = (
        keras.Model(model.inputs, model.outputs, name=model.name)
        if layers.is_plain(model)
        else model
    )
    whole = keras.Model(inputs, inner(front(inputs)), name=f"standardized_{model.name}")
    if inner is not model:
        # The very optimizer, whose state belongs to the same weights: training can go on.
        whole.compile(**{**model._compile_config.config, "optimizer": model.optimizer})
    return whole


def obstacle(model: keras.Model) -> str | None:
    """Why plain Keras cannot load the model from its file, tried on a file.

    Args:
        model: a built model.

    Returns:
        The user's classes with what each lacks, or else what Keras says; None when it can.
    """
    with tempfile.TemporaryDirectory(prefix="orchestrator-") as folder:
        path = Path(folder, "model.keras")
        try:
            model.save(path)
            keras.models.load_model(path)
        except Exception as error:  # noqa: BLE001 - the user's classes raise anything
            return (
                _missing_for_saving(model)
                or f"{type(error).__name__}: {objects.describe_error(error)}"
            )
    return None


def _missing_for_saving(model: keras.Model) -> str | None:
    """What the user's own classes lack that `keras.models.load_model` needs."""
    found = []
    kinds = dict.fromkeys(type(layer) for layer in model._flatten_layers())
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
