"""Models from settings: built, changed by a remedy, compiled, and made ready to save.

Keras's own errors come back as problems of the config, with the key that caused them.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from orchestrator import layers, leaky, objects, usercode
from orchestrator.data import Rows
from orchestrator.errors import InvalidError, Problem, UserCodeError
from orchestrator.measures import Form
from orchestrator.records import Settings
from orchestrator.schema import Compile, Config, Factory, FactoryModel, LayersModel

_FORMS: Mapping[str, Form] = {
    "binary_crossentropy": "binary",
    "bce": "binary",
    "binary_focal_crossentropy": "binary",
    "categorical_crossentropy": "categorical",
    "categorical_focal_crossentropy": "categorical",
    "categorical_generalized_cross_entropy": "sparse",
    "sparse_categorical_crossentropy": "sparse",
}
"""Losses of classification; every other Keras loss counts as regression."""


def build(config: Config, settings: Settings, rows: Rows) -> keras.Model:
    """Build and compile the model of an attempt.

    Args:
        config: the config.
        settings: what differs between attempts; the seed is set first.
        rows: training rows, for the shape of the inputs.

    Returns:
        A built and compiled model with fresh weights.

    Raises:
        InvalidError: Keras refuses a layer, an argument or the loss, or the shapes do not fit.
        UserCodeError: the factory raised.
    """
    keras.utils.set_random_seed(settings.seed)
    slope = settings.negative_slope
    match config.model:
        case LayersModel() as plan:
            model = _from_layers(plan, config, rows.x.shape[1:])
        case FactoryModel(factory=factory):
            changed = slope is not None and leaky.takes_activation(factory, config)
            model = _from_factory(factory, config, slope if changed else None)
            slope = None if changed else slope
            _build_unbuilt(model, rows)
    _try_call(model, config, rows)
    if slope is not None:
        model = leaky.replace_relu(model, slope)
    if config.compile is not None:
        _compile(model, config.compile, config)
    elif not model.compiled:
        message = "missing, and the factory's model is not compiled"
        raise InvalidError([config.problem(("compile",), message, "add compile: {loss: mse}")])
    check_targets(model, config, rows)
    if not model.optimizer.built:
        # Keras refuses to load a model that was saved before its optimizer had any state.
        model.optimizer.build(model.trainable_variables)
    return model


def _from_layers(plan: LayersModel, config: Config, shape: tuple[int, ...]) -> keras.Sequential:
    problems: list[Problem] = []
    layers = []
    for index, named in enumerate(plan.layers):
        key = ("model", "layers", index, named.name)
        try:
            layers.append((index, objects.make(keras.layers, named, key, config)))
        except InvalidError as error:
            problems.extend(error.problems)
    if problems:
        raise InvalidError(problems)
    if not isinstance(layers[0][1], keras.layers.InputLayer):
        layers.insert(0, (0, keras.layers.InputLayer(shape=shape)))
    model = keras.Sequential()
    try:
        model = keras.Sequential([layer for _, layer in layers])
        if not model.built:
            model.build((None, *shape))
    except Exception as error:
        raise InvalidError([_first_misfit(layers, config, error)]) from error
    return model


def _first_misfit(
    layers: list[tuple[int, keras.Layer]], config: Config, error: Exception
) -> Problem:
    """The layer at which stacking fails; only looked for once it is known that it does."""
    value = layers[0][1].output
    for index, layer in layers[1:]:
        try:
            value = layer(value)
        except Exception as refused:  # noqa: BLE001 - Keras raises anything
            return config.problem(
                ("model", "layers", index, type(layer).__name__), objects.describe_error(refused)
            )
    return config.problem(("model", "layers"), objects.describe_error(error))


def _from_factory(factory: Factory, config: Config, slope: float | None) -> keras.Model:
    key = ("model", "factory", "callable")
    function = usercode.find(factory.callable, config, key=key)
    kwargs = dict(factory.kwargs)
    usercode.check_arguments(function, kwargs, config, key=("model", "factory", "kwargs"))
    if slope is not None:
        kwargs["activation"] = leaky.activation(slope)
    with usercode.blamed(f"the factory {factory.callable}"):
        model = function(**kwargs)
    if not isinstance(model, keras.Model):
        message = f"expected the factory to return a keras.Model, received {type(model).__name__}"
        raise InvalidError([config.problem(key, message)])
    return model


def _build_unbuilt(model: keras.Model, rows: Rows) -> None:
    if model.built:
        return
    with usercode.blamed("the factory's model"):
        model(rows.x[:1])


def _try_call(model: keras.Model, config: Config, rows: Rows) -> None:
    """Run one row through the model, so that a wrong shape is the config's problem."""
    key = ("model", "layers" if isinstance(config.model, LayersModel) else "factory")
    try:
        output = model(rows.x[:1], training=False)
    except Exception as error:
        if usercode.raised_in_user_code(error):
            raise UserCodeError(f"the model raised {usercode.describe(error)}") from error
        reason = objects.describe_error(error)
        message = f"the model does not take inputs of shape {rows.x.shape[1:]}: {reason}"
        raise InvalidError([config.problem(key, message)]) from error
    if not keras.ops.is_tensor(output):
        message = f"expected a model with one output, received {type(output).__name__} of outputs"
        raise InvalidError([config.problem(key, message)])


def output_shape(model: keras.Model, rows: Rows) -> tuple[int, ...]:
    """Shape of one row's output; empty where the model gives one number a row."""
    return tuple(model(rows.x[:1], training=False).shape[1:])


def _compile(model: keras.Model, plan: Compile, config: Config) -> None:
    problems: list[Problem] = []
    made: dict[str, Any] = {}
    parts = [
        ("optimizer", keras.optimizers, [plan.optimizer]),
        ("loss", keras.losses, [plan.loss]),
        ("metrics", keras.metrics, plan.metrics),
    ]
    for part, module, names in parts:
        for index, named in enumerate(names):
            at = (index,) if part == "metrics" else ()
            key = ("compile", part, *at, *((named.name,) if named.arguments else ()))
            try:
                value = objects.make(module, named, key, config)
            except InvalidError as error:
                problems.extend(error.problems)
                continue
            made.setdefault(part, []).append(value)
    if problems:
        raise InvalidError(problems)
    model.compile(
        optimizer=made["optimizer"][0], loss=made["loss"][0], metrics=made.get("metrics", [])
    )


def check_targets(model: keras.Model, config: Config, rows: Rows) -> None:
    """Refuse targets that the loss cannot take, which Keras would broadcast or turn into NaN.

    Args:
        model: the compiled model.
        config: the config.
        rows: training or validation rows.

    Raises:
        InvalidError: targets and output do not fit.
        UserCodeError: the user's own loss or metric raised.
    """
    form, _ = output_form(model, rows)
    output = output_shape(model, rows)
    targets = rows.y.shape[1:]
    columns = output[-1] if output else 1
    key = ("compile", "loss") if config.compile is not None else ("model", "factory")

    def refuse(message: str) -> InvalidError:
        return InvalidError([config.problem(key, message)])

    if form == "sparse":
        if int(np.prod(targets)) != int(np.prod(output[:-1])):
            raise refuse(f"expected one class index a row, received targets of shape {targets}")
        labels = rows.y.reshape(len(rows), -1)
        bad = np.argwhere((labels < 0) | (labels >= columns) | (labels != np.floor(labels)))
        if len(bad):
            row, column = bad[0]
            raise refuse(
                f"expected class indices from 0 to {columns - 1} for {columns} units, "
                f"received {labels[row, column]:g} in training row {row} (from 0)"
            )
    elif int(np.prod(targets)) != int(np.prod(output)):
        raise refuse(f"the output has shape {output} a row, the targets have {targets}")
    elif form != "regression":
        flat = rows.y.reshape(len(rows), -1)
        bad = np.argwhere((flat < 0) | (flat > 1))
        if len(bad):
            row, column = bad[0]
            raise refuse(
                f"expected targets from 0 to 1 for a cross-entropy, "
                f"received {flat[row, column]:g} in training row {row} (from 0)"
            )
    try:
        model.test_on_batch(rows.x[:2], rows.y[:2])
    except Exception as error:
        if usercode.raised_in_user_code(error):
            raise UserCodeError(f"the model raised {usercode.describe(error)}") from error
        raise refuse(
            f"loss and metrics do not take these targets: {objects.describe_error(error)}"
        ) from error
    model.reset_metrics()


def output_form(model: keras.Model, rows: Rows) -> tuple[Form, bool]:
    """How targets and predictions are written, by the compiled loss.

    Args:
        model: a compiled model with one output.
        rows: rows with the targets, for losses that Keras does not know.

    Returns:
        The form, and whether predictions are logits.
    """
    loss = model.loss
    if isinstance(loss, str):
        loss = keras.losses.get(loss)
    name = loss.__name__ if inspect.isfunction(loss) else _snake_case(type(loss).__name__)
    known = (
        name in _FORMS or hasattr(keras.losses, type(loss).__name__) or name in vars(keras.losses)
    )
    if known:
        return _FORMS.get(name, "regression"), bool(getattr(loss, "from_logits", False))
    return _form_by_activation(model, rows), False


def _form_by_activation(model: keras.Model, rows: Rows) -> Form:
    """The form where the loss is the user's own: by the output activation."""
    activations = {
        getattr(vars(layer).get("activation"), "__name__", "")
        for layer in layers.output_layers(model)
    }
    if "softmax" in activations:
        one_hot = rows.y.ndim > 1 and rows.y.shape[-1] > 1
        return "categorical" if one_hot else "sparse"
    return "binary" if "sigmoid" in activations else "regression"


def _snake_case(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
