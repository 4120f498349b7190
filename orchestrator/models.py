"""Models from settings: built, changed by a remedy, compiled, and made ready to save.

Keras's own errors come back as problems of the config, with the key that caused them.
"""

from __future__ import annotations

import inspect
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import numpy as np

from orchestrator import usercode
from orchestrator.data import Rows, Scaling
from orchestrator.document import Key
from orchestrator.errors import InvalidError, Problem, UserCodeError, suggestion
from orchestrator.measures import Form
from orchestrator.records import Settings
from orchestrator.schema import Compile, Config, Factory, FactoryModel, LayersModel, Named

_NESTED = (
    ("initializer", keras.initializers),
    ("regularizer", keras.regularizers),
    ("constraint", keras.constraints),
    ("activation", keras.layers),
    ("learning_rate", keras.optimizers.schedules),
    ("layer", keras.layers),
    ("cell", keras.layers),
)
"""Where an argument's `{Name: {argument: value}}` is looked up, by how the argument's name ends."""

_KINDS = {
    keras.layers: "layer",
    keras.losses: "loss",
    keras.metrics: "metric",
    keras.optimizers: "optimizer",
    keras.optimizers.schedules: "learning rate schedule",
    keras.initializers: "initializer",
    keras.regularizers: "regularizer",
    keras.constraints: "constraint",
}
"""What the objects of a module are called."""

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
            changed = slope is not None and _takes_activation(factory, config)
            model = _from_factory(factory, config, slope if changed else None)
            slope = None if changed else slope
            _build_unbuilt(model, rows)
    _try_call(model, config, rows)
    if slope is not None:
        model = with_leaky_relu(model, slope)
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
            layers.append((index, _make(keras.layers, named, key, config)))
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
                ("model", "layers", index, type(layer).__name__), describe_error(refused)
            )
    return config.problem(("model", "layers"), describe_error(error))


def _from_factory(factory: Factory, config: Config, slope: float | None) -> keras.Model:
    key = ("model", "factory", "callable")
    function = usercode.find(factory.callable, config, key=key)
    kwargs = dict(factory.kwargs)
    usercode.check_arguments(function, kwargs, config, key=("model", "factory", "kwargs"))
    if slope is not None:
        kwargs["activation"] = _leaky_activation(slope)
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
        message = (
            f"the model does not take inputs of shape {rows.x.shape[1:]}: {describe_error(error)}"
        )
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
                value = _make(module, named, key, config)
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
            f"loss and metrics do not take these targets: {describe_error(error)}"
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
        getattr(vars(layer).get("activation"), "__name__", "") for layer in output_layers(model)
    }
    if "softmax" in activations:
        one_hot = rows.y.ndim > 1 and rows.y.shape[-1] > 1
        return "categorical" if one_hot else "sparse"
    return "binary" if "sigmoid" in activations else "regression"


def _make(module: ModuleType, named: Named, key: Key, config: Config) -> Any:
    """An object of Keras's by name and arguments; a string alone where Keras takes one."""
    arguments = {
        name: _argument(name, value, (*key, name), config)
        for name, value in named.arguments.items()
    }
    found = getattr(module, "InputLayer" if named.name == "Input" else named.name, None)
    if module is not keras.layers and not inspect.isclass(found):
        try:
            module.get(named.name)
        except (ValueError, TypeError):
            found = None
        else:
            if not arguments:
                return named.name
            found = _class_of_alias(module, named.name)
        if named.name in ("accuracy", "acc", "crossentropy", "ce") and module is keras.metrics:
            return named.name
    if not inspect.isclass(found):
        kind = _KINDS[module]
        hint = suggestion(named.name, _names(module))
        raise InvalidError([config.problem(key, f"Keras has no {kind} {named.name!r}", hint)])
    try:
        return found(**arguments)
    except Exception as error:
        raise InvalidError([_refused(found, arguments, key, config, error)]) from error


def _argument(name: str, value: Any, key: Key, config: Config) -> Any:
    """An argument's value, with `{Name: {…}}` made into the object where Keras expects one."""
    if not isinstance(value, Mapping) or len(value) != 1:
        return value
    ((inner, arguments),) = value.items()
    if not isinstance(inner, str) or not (arguments is None or isinstance(arguments, Mapping)):
        return value
    for ending, module in _NESTED:
        if name.endswith(ending):
            named = Named.model_validate({inner: arguments})
            return _make(module, named, (*key, inner), config)
    return value


def _class_of_alias(module: ModuleType, name: str) -> type | None:
    """The class behind a lower-case name such as `adam`."""
    classes = (alias for alias, value in vars(module).items() if inspect.isclass(value))
    folded = {alias.casefold(): alias for alias in classes}
    match = folded.get(name.replace("_", "").casefold())
    return getattr(module, match) if match else None


def _names(module: ModuleType) -> list[str]:
    """Names of a module's classes, and the short names that Keras knows some losses by."""
    short = ["mse", "mae", "mape", "msle", "bce"] if module in (keras.losses, keras.metrics) else []
    return [*short, *(name for name, value in vars(module).items() if inspect.isclass(value))]


def _refused(
    made: type, arguments: Mapping[str, Any], key: Key, config: Config, error: Exception
) -> Problem:
    """What Keras says of the arguments, at the argument that is unknown where one is."""
    parameters = inspect.signature(made).parameters
    message = describe_error(error)
    for name, value in arguments.items():
        if name not in parameters and name in message:
            valid = [parameter for parameter in parameters if parameter != "kwargs"]
            text = f"{made.__name__} has no argument {name!r}"
            return config.problem((*key, name), text, suggestion(name, valid))
        if f"`{name}`" in message:
            return config.problem((*key, name), f"{made.__name__}: {message}")
        if name.endswith("activation") and isinstance(value, str) and repr(value)[1:-1] in message:
            valid = [name for name, known in vars(keras.activations).items() if callable(known)]
            return config.problem((*key, name), message, suggestion(value, valid))
    return config.problem(key, f"{made.__name__}: {message}")


def describe_error(error: Exception) -> str:
    """The first telling line of Keras's or TensorFlow's message, without terminal colours."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # An error of a graph lists the calls that led to a node, then what happened, then the node.
    nodes = [index for index, line in enumerate(lines) if "[[{{node" in line]
    if nodes and nodes[0] > 0:
        return lines[nodes[0] - 1]
    return lines[0] if lines else type(error).__name__


def _snake_case(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def output_layers(model: keras.Model) -> list[keras.Layer]:
    """The layers whose activation is the model's output: never changed by a remedy.

    Layers without weights at the end, such as Flatten, are looked through to the one before.

    Args:
        model: a sequential or functional model.

    Returns:
        The layers, empty for a subclassed model.
    """
    found: list[keras.Layer] = []
    pending = list(keras.tree.flatten(model.outputs)) if is_plain(model) else []
    while pending:
        history = getattr(pending.pop(), "_keras_history", None)
        if history is None:
            continue
        layer = history.operation
        if is_plain(layer):
            pending.extend(keras.tree.flatten(layer.outputs))
            continue
        found.append(layer)
        inputs = keras.tree.flatten(layer._inbound_nodes[history.node_index].input_tensors)
        linear = vars(layer).get("activation") in (None, keras.activations.linear)
        if not layer.weights and len(inputs) == 1 and linear and not is_activation(layer):
            pending.extend(inputs)
    return found


def is_plain(model: Any) -> bool:
    """Whether `keras.models.clone_model` rebuilds the model without losing the user's own code."""
    kind = type(model)
    functional = kind.__name__ == "Functional" and kind.__module__.startswith("keras.")
    return (kind is keras.Sequential or functional) and bool(model.built)


def is_activation(layer: Any) -> bool:
    """Whether the layer only applies an activation."""
    kinds = (keras.layers.ReLU, keras.layers.LeakyReLU, keras.layers.PReLU, keras.layers.ELU)
    return isinstance(layer, kinds)


def leaky_relu_obstacle(model: keras.Model, config: Config) -> str | None:
    """Why leaky relu cannot replace the model's hidden relu, with the way out.

    Args:
        model: the model as built without the remedy.
        config: the config.

    Returns:
        One clause, or None when it can.
    """
    factory = config.model.factory if isinstance(config.model, FactoryModel) else None
    if factory is not None and _takes_activation(factory, config):
        return None
    ends = output_layers(model)
    outputs = {id(layer) for end in ends for layer in end._flatten_layers()}
    owners = [
        layer
        for layer in model._flatten_layers(include_self=False)
        if id(layer) not in outputs and _applies_relu(layer)
    ]
    reached = {id(layer) for layer in _reached(model)} if is_plain(model) else set()
    missed = [layer.name for layer in owners if id(layer) not in reached]
    way_out = "let the factory take an `activation` argument, which gets leaky relu"
    if missed:
        return f"the relu of {', '.join(missed)} is applied inside code of your own; {way_out}"
    if not owners:
        if is_plain(model):
            return "no hidden layer of the model applies relu"
        return f"the model is a class of your own; {way_out}"
    return None


def _reached(model: keras.Model) -> Iterator[keras.Layer]:
    """The layers that `with_leaky_relu` can change."""
    for layer in model.layers:
        if is_plain(layer):
            yield from _reached(layer)
        else:
            yield layer
            if type(layer).__module__.startswith("keras."):
                # What Keras's own layer holds stands in its config: wrapped layers, cells,
                # activations.
                yield from layer._flatten_layers(include_self=False)


def _applies_relu(layer: keras.Layer) -> bool:
    own = vars(layer).get("activation")
    if isinstance(layer, keras.layers.ReLU):
        return bool(layer.negative_slope == 0)
    return own in (keras.activations.relu, keras.activations.relu6)


def with_leaky_relu(model: keras.Model, slope: float) -> keras.Model:
    """The same architecture with leaky relu in every hidden place of relu, and fresh weights.

    Args:
        model: a sequential or functional model, nested ones included.
        slope: slope below zero.

    Returns:
        A new model, compiled as the old one was; it saves and loads in plain Keras.
    """
    outputs = {id(layer) for layer in output_layers(model)}

    def clone(layer: keras.Layer) -> keras.Layer:
        settings = layer.get_config()
        if id(layer) not in outputs:
            if isinstance(layer, keras.layers.Activation) and _applies_relu(layer):
                return _leaky_layer(layer, slope)
            settings = _leaky(settings, slope)
            if isinstance(layer, keras.layers.ReLU) and layer.negative_slope == 0:
                settings["negative_slope"] = slope
        return type(layer).from_config(settings)

    compiled, model.compiled = model.compiled, False  # Keras would serialise the user's own loss
    try:
        changed = keras.models.clone_model(model, clone_function=clone, recursive=True)
    finally:
        model.compiled = compiled
    if compiled:
        changed.compile(**_compile_arguments(model))
    return changed


def _leaky_layer(layer: keras.layers.Activation, slope: float) -> keras.Layer:
    top = 6.0 if layer.activation is keras.activations.relu6 else None
    return keras.layers.ReLU(
        negative_slope=slope, max_value=top, name=layer.name, dtype=layer.dtype_policy
    )


def _leaky(settings: Any, slope: float) -> Any:
    """A layer's config with leaky relu where it says relu, wrapped layers included."""
    if isinstance(settings, list):
        return [_leaky(item, slope) for item in settings]
    if not isinstance(settings, dict):
        return settings
    changed = {name: _leaky(value, slope) for name, value in settings.items()}
    if settings.get("activation") == "relu":
        changed["activation"] = _leaky_activation(slope)
    elif settings.get("activation") == "relu6":
        changed["activation"] = keras.layers.ReLU(negative_slope=slope, max_value=6.0)
    if settings.get("class_name") == "ReLU" and not settings["config"].get("negative_slope"):
        changed["config"]["negative_slope"] = slope
    return changed


def _leaky_activation(slope: float) -> Any:
    """What Dense's `activation` takes; both forms save and load in plain Keras."""
    return "leaky_relu" if slope == 0.2 else keras.layers.LeakyReLU(negative_slope=slope)


def _compile_arguments(model: keras.Model) -> dict[str, Any]:
    arguments = dict(model._compile_config.config)
    optimizer = arguments["optimizer"]
    if isinstance(optimizer, keras.optimizers.Optimizer):
        arguments["optimizer"] = type(optimizer).from_config(optimizer.get_config())
    return arguments


def _takes_activation(factory: Factory, config: Config) -> bool:
    """Whether the factory has an `activation` argument that is relu now."""
    function: Callable[..., Any] = usercode.find(
        factory.callable, config, key=("model", "factory", "callable")
    )
    try:
        parameter = inspect.signature(function).parameters.get("activation")
    except (ValueError, TypeError):
        return False
    if parameter is None:
        return False
    current = factory.kwargs.get("activation", parameter.default)
    return current in ("relu", keras.activations.relu)


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
    inner = keras.Model(model.inputs, model.outputs, name=model.name) if is_plain(model) else model
    whole = keras.Model(inputs, inner(front(inputs)), name=f"standardized_{model.name}")
    if inner is not model:
        # The very optimizer, whose state belongs to the same weights: training can go on.
        whole.compile(**{**model._compile_config.config, "optimizer": model.optimizer})
    return whole


def saving_obstacle(model: keras.Model) -> str | None:
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
            return _missing_for_saving(model) or f"{type(error).__name__}: {describe_error(error)}"
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
