"""Models from settings: built, changed by a remedy, and compiled.

Keras's own errors come back as problems of the config, with the key that caused them.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import keras

from orchestrator.config import user_code
from orchestrator.config.schema import Config
from orchestrator.config.sections.model import (
    Compile,
    FactoryModel,
    FileModel,
    GivenModel,
    LayersModel,
)
from orchestrator.data.rows import AnyRows, Readable, is_text, leaves
from orchestrator.errors import InvalidError, Problem, Reporter, UserCodeError, describe_error
from orchestrator.model import (
    initialization,
    keras_internals,
    layers,
    objects,
    saving,
)
from orchestrator.model.initialization import Recorder
from orchestrator.model.losses.targets import check_targets
from orchestrator.model.outputs import Output, find_outputs
from orchestrator.model.pretrained import (
    begins_trained,
    draws_weights,
    keeps_weights,
    relearning_layer,
)
from orchestrator.model.remedies import (
    clones,
    dropout,
    fixed_output,
    leaky_relu,
    penalty,
    scaled_inputs,
    scaled_targets,
)
from orchestrator.record.records import Settings

_SWITCHES = {"jit_compile", "run_eagerly", "steps_per_execution", "auto_scale_loss"}
"""Arguments of `compile` that are as Keras has them where they are left out."""


def build_model(
    config: Config, settings: Settings, rows: AnyRows, recorder: Recorder | None = None
) -> keras.Model:
    """Build and compile the model of an attempt: the one place where settings become a model.

    Args:
        config: the config.
        settings: what differs between attempts; the seed is set first.
        rows: training rows, for the shape of the inputs.
        recorder: told which initializer made which weight.

    Returns:
        A built and compiled model with the weights that it starts from.

    Raises:
        InvalidError: Keras refuses a layer, an argument or the loss, or the shapes do not fit.
        UserCodeError: the factory raised.
    """
    recorder = recorder or Recorder()
    keras.utils.set_random_seed(settings.seed)
    try:
        with recorder.recording(), keras_internals.fresh_names():
            model = _make(config, settings, rows, recorder)
    except InvalidError as error:
        raise InvalidError([*error.problems, *_compile_problems(config)]) from error
    if settings.initializer is not None:
        initialization.reinitialize(model, settings.initializer, rows.first(2)[0], recorder)
    if config.compile is not None:
        with keras_internals.fresh_names():  # Keras logs metrics by them
            compile_model(model, config.compile, config)
    elif not model.compiled:
        origin = "file" if isinstance(config.model, FileModel) else "factory"
        message = f"missing, and the {origin}'s model is not compiled"
        raise InvalidError([config.problem(("compile",), message, "add compile: {loss: mse}")])
    if settings.output_loss is not None:
        fixed_output.put_losses(model, settings.output_loss)
    if "targets" in (settings.standardize or ""):
        scales = scaled_targets.find_scales(model, find_outputs(model, config, rows), rows)
        model = scaled_targets.rescale(model, scales) if scales else model
    if settings.clip_norm is not None:
        for optimizer in plain_optimizers(model):
            _clip(optimizer, settings.clip_norm)
    if settings.penalty_cap is not None:
        for optimizer in plain_optimizers(model):
            penalty.lower_decay(optimizer, settings.penalty_cap)
    if settings.momentum is not None:
        _gather(model, settings.momentum)
    check_targets(model, config, rows)
    _build_optimizer(model)
    return model


def plain_optimizers(model: keras.Model) -> list[keras.optimizers.Optimizer]:
    """The optimizers that apply gradients, inside what scales the loss: Keras's own first.

    A model with a `train_step` of its own may have others, such as a GAN's for each of its parts.

    Args:
        model: a compiled model.
    """
    held = [model.optimizer, *vars(model).values()]
    kept = [each for each in held if isinstance(each, keras.optimizers.Optimizer)]
    return list({id(each): each for each in map(_inner, kept)}.values())


def _inner(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    return getattr(optimizer, "inner_optimizer", optimizer)


def _build_optimizer(model: keras.Model) -> None:
    """Give the optimizer the state of this model's weights.

    A factory may compile every model with one and the same optimizer, whose state is then that of
    an earlier model. Keras refuses to load a model that was saved before its optimizer had any.
    """
    optimizer = model.optimizer
    if optimizer is None:
        return
    weights = {id(variable) for variable in model.trainable_variables}
    trained = {id(variable) for variable in keras_internals.trained(optimizer)}
    if trained and trained.isdisjoint(weights):
        optimizer = model.optimizer = type(optimizer).from_config(optimizer.get_config())
    if weights and not optimizer.built:
        optimizer.build(model.trainable_variables)


def _make(config: Config, settings: Settings, rows: AnyRows, recorder: Recorder) -> keras.Model:
    """The built model, with the activations that a remedy asks for."""
    slope = settings.negative_slope
    match config.model:
        case LayersModel() as plan:
            model = _from_layers(plan, config, rows)
        case FactoryModel() | GivenModel():
            changed = slope is not None and leaky_relu.takes_activation(config)
            model = _from_factory(config, settings.seed, slope if changed else None)
            slope = None if changed else slope
            build_unbuilt(model, config, rows)
            _check_standardize(model, config)
        case FileModel() as plan:
            model = saving.load_file(plan, config, settings.seed)
    try_call(model, config, rows, next(iter(type(config.model).model_fields)))
    changed = model
    if slope is not None:
        changed = leaky_relu.replace_relu(changed, slope)
    if settings.output_activation is not None:
        changed = fixed_output.put_activations(changed, settings.output_activation)
    if changed is not model and not draws_weights(config):
        _take_weights(changed, model, recorder)
    if settings.dropout_cap is not None:
        dropout.lower(changed, settings.dropout_cap)
    if settings.penalty_cap is not None:
        penalty.lower(changed, settings.penalty_cap)
    return changed


def _take_weights(changed: keras.Model, model: keras.Model, recorder: Recorder) -> None:
    """Give a changed model the weights of the one that it was made of, some of which were loaded.

    Those that were not come from that one's initializers, and so from the seed.
    """
    changed.set_weights(model.get_weights())
    for variable, before in zip(changed.weights, model.weights, strict=True):
        recorder.note(variable, recorder.initializer(before))


def obstacles(
    model: keras.Model,
    config: Config,
    settings: Settings,
    rows: AnyRows,
    hidden: Sequence[leaky_relu.Site],
    outputs: Sequence[Output],
) -> dict[str, str]:
    """The remedies that the model cannot carry, each with the reason and the way out.

    Args:
        model: the model as built.
        config: the config.
        settings: what it was built from; a remedy in force has nothing to say against it.
        rows: training rows.
        hidden: the sites of relu that do not make an output.
        outputs: the model's outputs.
    """
    found: dict[str, str | None] = {}
    if settings.negative_slope is None:
        found["leaky_relu"] = leaky_relu.obstacle(model, config, hidden)
    if settings.clip_norm is None:
        reasons = map(_clips_already, plain_optimizers(model))
        found["clipping"] = next((reason for reason in reasons if reason is not None), None)
    if settings.dropout_cap is None:
        found["lower_dropout"] = dropout.obstacle(model)
    if settings.penalty_cap is None:
        found["lower_penalty"] = penalty.obstacle(model, plain_optimizers(model))
    if settings.momentum is None:
        found["momentum"] = _gathers_already(model)
    if settings.output_activation is None and settings.output_loss is None:
        found["fix_output"] = fixed_output.obstacle(model)
    if not layers.is_plain(model):
        found["revive"] = "the model is neither sequential nor functional"
    scaled = settings.standardize or ""
    if "inputs" not in scaled:
        found["standardize inputs"] = scaled_inputs.obstacle(model, config, rows)
    if "targets" not in scaled:
        found["standardize targets"] = scaled_targets.obstacle(model, config, outputs, rows.y)
    variables = initialization.hidden_variables(model, rows.first(2)[0])
    if not any(is_kernel for _, _, is_kernel in variables):
        found["reinitialize"] = "no hidden layer has a kernel"
    trained = relearning_layer(model, config)
    if trained is not None:
        found["reinitialize"] = (
            f"layer {trained.name} goes on from the weights of an earlier training"
        )
    if begins_trained(model, config):
        found["fresh_weights"] = "the model has weights that an earlier training has left"
    if isinstance(config.model, FileModel) and keeps_weights(config):
        found["reinitialize"] = (
            f"every attempt starts from the weights of {config.model.file}; initial_weights: fresh "
            "draws new ones"
        )
        found["new_seed"] = (
            f"every attempt starts from the weights of {config.model.file}, a seed would change "
            "the order of the rows alone; initial_weights: fresh draws new ones"
        )
    return {remedy: reason for remedy, reason in found.items() if reason is not None}


_CLIPPING = ("clipnorm", "clipvalue", "global_clipnorm")
"""Arguments of Keras's optimizers that bound gradients: the norm of each, every number, the norm of
all taken together. One at a time may be there."""


def clipping(optimizer: keras.optimizers.Optimizer) -> tuple[str, float] | None:
    """How an optimizer bounds gradients: Keras's name of the argument, and the bound."""
    bounds = ((name, getattr(optimizer, name, None)) for name in _CLIPPING)
    return next(((name, float(bound)) for name, bound in bounds if bound is not None), None)


def _clip(optimizer: keras.optimizers.Optimizer, norm: float) -> None:
    for name in _CLIPPING:
        setattr(optimizer, name, None)
    optimizer.global_clipnorm = norm


def _clips_already(optimizer: keras.optimizers.Optimizer) -> str | None:
    found = clipping(optimizer)
    if found is None:
        return None
    return "the optimizer clips gradients already, with {} {:g}".format(*found)


def _gather(model: keras.Model, momentum: float) -> None:
    """Compile the model again, with a momentum for its optimizer.

    The optimizer is another one, for one that exists may have no place for what it gathers, and may
    be the user's own, that of other models as well.
    """
    arguments, before = clones.compile_arguments(model), model.optimizer
    optimizer = _with_momentum(before, momentum)
    optimizer.variables[0].assign(before.variables[0])  # the count of its steps
    model.compile(**{**arguments, "optimizer": optimizer})


def _with_momentum(optimizer: keras.optimizers.SGD, momentum: float) -> keras.optimizers.SGD:
    return keras.optimizers.SGD.from_config({**optimizer.get_config(), "momentum": momentum})


def _gathers_already(model: keras.Model) -> str | None:
    optimizer = model.optimizer
    if len(plain_optimizers(model)) != 1:
        return "the model has several optimizers, of which only its own code knows"
    if type(optimizer) is not keras.optimizers.SGD:
        return f"the optimizer is {type(optimizer).__name__}, and no SGD of Keras's"
    if optimizer.momentum:
        return f"the optimizer has a momentum of {optimizer.momentum:g} already"
    try:
        _with_momentum(optimizer, 0.9)
    except (TypeError, ValueError):  # a schedule of the user's own
        return "the optimizer cannot be made from its config"
    return None


def _from_layers(plan: LayersModel, config: Config, rows: AnyRows) -> keras.Sequential:
    problems: list[Problem] = []
    made: list[tuple[int, keras.Layer]] = []
    for index, named in enumerate(plan.layers):
        key = ("model", "layers", index, named.name)
        try:
            made.append((index, objects.make(keras.layers, named, key, config)))
        except InvalidError as error:
            problems.extend(error.problems)
    x, _, _ = rows.first(1)
    inputs = leaves(x)
    if len(inputs) > 1:
        names = ", ".join(path for path, _ in inputs)
        message = f"a model given as layers has one input, the data has {names}"
        problems.append(config.problem(("model", "layers"), message, "use a factory"))
    if problems:
        raise InvalidError(problems)
    shape = inputs[0][1].shape[1:]
    texts = is_text(inputs[0][1])
    if not isinstance(made[0][1], keras.layers.InputLayer):
        kind = "string" if texts else None
        made.insert(0, (0, keras.layers.InputLayer(shape=shape, dtype=kind)))
    model = keras.Sequential()
    try:
        model = keras.Sequential([layer for _, layer in made])
        if not model.built:
            model.build((None, *shape))
    except Exception as error:
        problem = _first_misfit(made, config, error)
        if texts:
            problem = dataclasses.replace(problem, hint=f"the inputs are texts: {_FOR_TEXTS}")
        raise InvalidError([problem]) from error
    return model


_FOR_TEXTS = "TextVectorization, StringLookup or Hashing make numbers of texts"


def _first_misfit(made: list[tuple[int, keras.Layer]], config: Config, error: Exception) -> Problem:
    """The layer at which stacking fails; only looked for once it is known that it does."""
    value = made[0][1].output
    for index, layer in made[1:]:
        try:
            value = layer(value)
        except Exception as refused:  # noqa: BLE001 - Keras raises anything
            return config.problem(
                ("model", "layers", index, type(layer).__name__), describe_error(refused)
            )
    return config.problem(("model", "layers"), describe_error(error))


def _from_factory(config: Config, seed: int, slope: float | None) -> keras.Model:
    builder = user_code.factory(config)
    if builder is None:
        raise TypeError(f"Expected a model that a function builds. Received: {config.model!r}")
    kwargs = dict(builder.kwargs)
    if slope is not None:
        kwargs["activation"] = leaky_relu.activation(slope)
    if builder.hyperparameters is not None:
        from orchestrator.model import hyperparameters  # noqa: PLC0415 - KerasTuner, for who has it

        kwargs["hp"] = hyperparameters.having(builder.hyperparameters)
    # What the function came with has drawn from it, such as the layers of a trained teacher.
    keras.utils.set_random_seed(seed)
    with user_code.blamed(builder.name):
        model = builder.function(**kwargs)
    if not isinstance(model, keras.Model):
        message = f"expected {builder.name} to return a keras.Model"
        received = f"received {type(model).__name__}"
        raise InvalidError([config.problem(builder.key, f"{message}, {received}")])
    return model


def _check_standardize(model: keras.Model, config: Config) -> None:
    """Refuse to put the standardisation in front of what takes no rows."""
    if config.data.standardize is True and not layers.is_callable(model):
        message = "the model has no call of its own, in front of which the scaling could stand"
        raise InvalidError([config.problem(("data", "standardize"), message, "scale the rows")])


def build_unbuilt(model: keras.Model, config: Config, rows: AnyRows) -> None:
    """Give a model that is built by its first rows its weights.

    Args:
        model: what the user's function has returned.
        config: the config.
        rows: what it is to take.

    Raises:
        InvalidError: the model does not take such rows.
        UserCodeError: a class of the user's own raised.
    """
    if not layers.is_callable(model):
        model.built = True  # its parts are, and Keras saves nothing that is not
    if model.built:
        return
    kind = next(iter(type(config.model).model_fields))
    _check_stateless(model, config, kind)
    with _taking_rows(config, rows, kind):
        model(rows.first(1)[0])


def try_call(model: keras.Model, reporter: Reporter, rows: Readable, kind: str) -> None:
    """Run one row through the model, so that a wrong shape is the config's problem.

    Args:
        model: a built model.
        reporter: knows the place of a problem.
        rows: what it is to take.
        kind: how the config gives the model.

    Raises:
        InvalidError: the model does not take such rows.
        UserCodeError: a class of the user's own raised.
    """
    if not layers.is_callable(model):
        return
    _check_stateless(model, reporter, kind)
    x, _, _ = rows.first(1)
    texts = [array.dtype for _, array in leaves(x) if is_text(array)]
    taken = [each.dtype for each in keras.tree.flatten(getattr(model, "inputs", None) or [])]
    if texts and taken and "string" not in taken:
        message = f"expected numbers, received {texts[0]}"
        hint = f"encode texts first, or let the model do so: {_FOR_TEXTS}"
        raise InvalidError([reporter.problem(("model", kind), message, hint)])
    with _taking_rows(reporter, rows, kind):
        model(x, training=False)


def stateful_layers(model: keras.Model) -> list[keras.Layer]:
    """The layers that go on from the batch before, as a stateful LSTM does."""
    return [each for each in keras_internals.all_layers(model) if getattr(each, "stateful", False)]


def _check_stateless(model: keras.Model, reporter: Reporter, kind: str) -> None:
    """Refuse layers that take batches of one size alone, each of which goes on from the last."""
    found = stateful_layers(model)
    if found:
        message = (
            f"layer {found[0].name} is stateful, so that what it makes of a row depends on the "
            "batches before; here rows are taken in another order, and batches of other sizes"
        )
        hint = "leave out stateful and the fixed batch size, and give each sequence whole, as a row"
        raise InvalidError([reporter.problem(("model", kind), message, hint)])


def _taking_rows(
    reporter: Reporter, rows: Readable, kind: str
) -> contextlib.AbstractContextManager[None]:
    """What a call of the model with rows raises, as the user's."""
    shapes = [(path, array.shape[1:]) for path, array in leaves(rows.first(1)[0])]
    shown = ", ".join(f"{path} {shape}" if path else str(shape) for path, shape in shapes)
    what = f"the model does not take inputs of shape {shown}"
    if any(is_text(array) for _, array in leaves(rows.first(1)[0])):
        what += f", which hold texts ({_FOR_TEXTS})"
    return user_code.refused(reporter, ("model", kind), what)


def compile_model(model: keras.Model, plan: Compile, config: Config) -> None:
    """Compile the model with what the config names.

    Raises:
        InvalidError: with every name that Keras refuses.
        UserCodeError: what the user has given for one of them raised.
    """
    arguments = _compile_arguments(plan, config)
    with user_code.refused(config, ("compile",), "the model cannot be compiled"):
        # A `compile` of the user's own need not know the others.
        given = {name: value for name, value in arguments.items() if value}
        given.update({name: getattr(plan, name) for name in _SWITCHES & plan.model_fields_set})
        model.compile(**given)


def _compile_problems(config: Config) -> Sequence[Problem]:
    """What Keras refuses of `compile` where there is no model to compile."""
    try:
        if config.compile is not None:
            _compile_arguments(config.compile, config)
    except InvalidError as error:
        return error.problems
    except UserCodeError:  # told once there is a model
        pass
    return ()


def _compile_arguments(plan: Compile, config: Config) -> dict[str, Any]:
    """What the model is compiled with.

    Raises:
        InvalidError: with every name that Keras refuses.
    """
    problems: list[Problem] = []

    def make(module: ModuleType, named: Any, *at: int | str) -> Any:
        """An object, or a list or dict of them."""
        if isinstance(named, list):
            return [make(module, each, *at, index) for index, each in enumerate(named)]
        if isinstance(named, dict):
            return {name: make(module, each, *at, name) for name, each in named.items()}
        if named is None:
            return None
        key = ("compile", *at, *((named.name,) if named.arguments else ()))
        try:
            return objects.make(module, named, key, config)
        except InvalidError as error:
            problems.extend(error.problems)

    arguments = {
        "optimizer": make(keras.optimizers, plan.optimizer, "optimizer"),
        "loss": make(keras.losses, plan.loss, "loss"),
        "loss_weights": plan.loss_weights,
        "metrics": make(keras.metrics, plan.metrics, "metrics"),
        "weighted_metrics": make(keras.metrics, plan.weighted_metrics, "weighted_metrics"),
    }
    if problems:
        raise InvalidError(problems)
    return arguments
