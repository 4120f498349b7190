"""What happens before an attempt: data and model are built and fitted together, nothing trained."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from orchestrator.config import user_code
from orchestrator.config.schema import Config
from orchestrator.config.sections.remedies import Reinitialize
from orchestrator.data import cache
from orchestrator.data import load as data
from orchestrator.data.cache import Stored
from orchestrator.data.load import Dataset
from orchestrator.data.rows import AnyRows, leaves, transform
from orchestrator.data.streams.pipeline import first_batch
from orchestrator.data.streams.recording import Live, Report
from orchestrator.diagnosis.causes.before.find import find_before
from orchestrator.diagnosis.causes.before.subject import Subject
from orchestrator.diagnosis.tracing.probe import BATCH_SIZE, Measurement, Probe
from orchestrator.diagnosis.units import NO_FLOW
from orchestrator.errors import (
    InvalidError,
    OrchestratorError,
    Problem,
    UserCodeError,
    describe_error,
    suggestion,
)
from orchestrator.model import initialization, saving
from orchestrator.model.build import build_model
from orchestrator.model.layers import count_parameters
from orchestrator.model.losses.targets import check_classes, check_targets
from orchestrator.model.outputs import Output, find_outputs
from orchestrator.record.records import Finding, Inputs, Settings
from orchestrator.training.attempt.building import keras_warnings, user_callbacks
from orchestrator.training.attempt.task import Prepared

Tell = Callable[[str], None]
"""Is told what goes on, in a few words."""


def prepare(
    config: Config,
    dataset: Dataset | None = None,
    tell: Tell = lambda _: None,
    *,
    findings: bool = False,
) -> Prepared:
    """Build data and model and fit their shapes together, without training.

    Args:
        config: the config.
        dataset: its rows; None where they are still to be read.
        tell: told what goes on.
        findings: look for what stands against the training, too; an attempt does so for itself.

    Returns:
        What was found.

    Raises:
        InvalidError: with what Keras or the data object to.
        UserCodeError: the user's own code raised.
    """
    heard: list[str] = []
    with blamed(), keras_warnings.heard(heard.append):
        loaded = load(config) if dataset is None else dataset
        found = _prepare(config, loaded, tell, findings)
    return dataclasses.replace(found, warnings=(*found.warnings, *heard))


def _prepare(config: Config, dataset: Dataset, tell: Tell, findings: bool) -> Prepared:
    train, held = dataset.train, dataset.validation
    tell("building the model")
    model = build_model(config, Settings(seed=config.seed), train)
    if held is not None:
        check_targets(model, config, held)
    found = find_outputs(model, config, train)
    check_classes(found, config, dataset.encoding.classes)
    class_weight(config, found)
    callbacks = user_callbacks.make(config)
    user_callbacks.check(config, callbacks, model)
    _check_initializers(config, model, train)
    warnings = [*_constant_targets(train, found), *dataset.warnings, *_live(dataset)]
    warnings += _obstacle(saving.deployable(model, dataset.scalings, train), train)
    measured = _measure_all(config, model, dataset, tell)
    before = _look_before(config, model, dataset, found, measured) if findings else ()
    try:
        warnings += _check_gates(config, try_step(config, model, dataset), dataset, callbacks)
    except InvalidError:
        # Of a loss without a gradient Keras says less than the finding, which ends the run.
        if not any(
            each.certain for each in before or _look_before(config, model, dataset, found, measured)
        ):
            raise
    return Prepared(
        inputs=Inputs(
            columns=train.columns,
            categories={**dataset.encoding.categories, **dataset.encoding.classes},
            standardization={
                path: scaling.describe() for path, scaling in dataset.scalings.items()
            },
        ),
        fingerprint=dataset.fingerprint,
        rows=dataset.num_rows,
        validation_rows=0 if held is None else len(held),
        input_shape=transform(lambda array: array.shape[1:], train.first(1)[0]),
        parameters=count_parameters(model),
        layers=() if measured is None else tuple(layer.name for layer in measured.layers),
        warnings=tuple(warnings),
        findings=before,
    )


def _look_before(
    config: Config,
    model: keras.Model,
    dataset: Dataset,
    found: Sequence[Output],
    measured: Measurement | None,
) -> tuple[Finding, ...]:
    """What stands against the training."""
    limits, variance = config.checks.findings, config.checks.prediction_variance
    if limits is None:
        return ()
    kind = None if variance is None else variance.kind
    live, train = dataset.live, dataset.train
    subject = Subject(
        model=model,
        outputs=[output.read_as(kind, train.y) for output in found],
        rows=train,
        scalings=dataset.scalings,
        layers=() if measured is None else measured.layers,
        flow=NO_FLOW if measured is None else measured.flow,
        config=config,
        steps_per_epoch=train.num_batches(config.batch_size) if live is None else live.batches,
    )
    return find_before(subject, limits.ignore)


def _obstacle(model: keras.Model, rows: AnyRows) -> Iterator[str]:
    """What plain Keras cannot load of the model once it is saved."""
    found = saving.obstacle(model, rows)
    if found is None:
        return
    with saving.uncompiled(model):
        bare = saving.obstacle(model, rows) is None
    what = (
        "loads the model without what it was compiled with"
        if bare
        else ("cannot load the model once it is saved")
    )
    yield f"plain Keras {what}: {found}"


def _check_initializers(config: Config, model: keras.Model, rows: AnyRows) -> None:
    """Refuse what Keras cannot initialise the hidden kernels with, before a remedy needs it."""
    hidden = initialization.hidden_variables(model, rows.first(2)[0])
    kernels = [variable for _, variable, is_kernel in hidden if is_kernel]
    named = {
        (*key, "initializer"): rung.initializer
        for key, rung in config.restart.rungs()
        if isinstance(rung, Reinitialize)
    }
    faults = {name: _fault(name, kernels) for name in named.values()}
    problems = [
        config.problem(key, *fault)
        for key, name in named.items()
        if (fault := faults[name]) is not None
    ]
    if problems:
        raise InvalidError(problems)


def _fault(name: str, kernels: Sequence[keras.Variable]) -> tuple[str, str | None] | None:
    """Why an initializer cannot be put on kernels, and what to do; None where it can."""
    try:
        initializer = keras.initializers.get(name)
    except ValueError:
        known = [name for name in dir(keras.initializers) if name.islower()]
        return f"Keras has no initializer {name!r}", suggestion(name, known)
    try:
        for kernel in kernels:
            initializer(tuple(kernel.shape), dtype=kernel.dtype)
    except ValueError as error:
        return f"does not take the hidden kernels: {describe_error(error)}", None
    return None


@contextlib.contextmanager
def blamed() -> Iterator[None]:
    """Tell what the user's code raised somewhere below Keras from what is our own fault.

    What the user's code makes Keras's own, such as mixed precision, lasts as long as this.
    """
    policy = keras.config.dtype_policy()
    filtered = keras.config.is_traceback_filtering_enabled()
    keras.config.disable_traceback_filtering()  # it hides who raised
    try:
        yield
    except OrchestratorError:
        raise
    except BaseException as error:
        if user_code.is_fault(error) and user_code.raised_in_user_code(error):
            raise UserCodeError(f"your code raised {user_code.describe(error)}") from error
        raise
    finally:
        if filtered:
            keras.config.enable_traceback_filtering()
        keras.config.set_dtype_policy(policy)


def try_step(config: Config, model: keras.Model, dataset: Dataset) -> Collection[str]:
    """Train on one batch, for what only a step shows; the model is of no use afterwards.

    Returns:
        The names that are logged.
    """
    held, logged = dataset.validation, keras.callbacks.History()
    fit(
        config,
        model,
        first_batch(dataset.train, config.batch_size),
        steps_per_epoch=1,
        validation_data=None if held is None else first_batch(held, config.batch_size),
        callbacks=[logged],
    )
    return scalars({name: values[-1] for name, values in logged.history.items()})


def fit(config: Config, model: keras.Model, batches: Any, **arguments: Any) -> None:
    """Train the model, and tell what a step raises as the user's: Keras complains of the model.

    Args:
        config: the config.
        model: the model, which may have a `fit` of its own.
        batches: of training rows.
        **arguments: more of Keras's `fit`.

    Raises:
        InvalidError: Keras or TensorFlow refuse the model, or its own `fit` the arguments.
        UserCodeError: the user's own code raised.
    """
    kind = next(iter(type(config.model).model_fields))
    arguments = {"shuffle": False, "verbose": 0, **arguments}
    try:
        inspect.signature(model.fit).bind(batches, **arguments)
    except TypeError as error:
        message = f"the model's own fit does not take what Keras's takes: {error}"
        hint = "let it take **kwargs, and hand them to super().fit"
        raise InvalidError([config.problem(("model", kind), message, hint)]) from error
    with user_code.refused(config, ("model", kind), "Keras cannot train the model"):
        model.fit(batches, **arguments)


def _measure_all(
    config: Config, model: keras.Model, dataset: Dataset, tell: Tell
) -> Measurement | None:
    """Run every row through the model, for what only some rows show, such as a wrong index."""
    what = "running every row through the model"
    tell(what)
    probe = Probe(model, report=lambda detail: tell(f"{what}: {detail}"))
    if not probe.can_measure:
        return None
    key = ("model",)
    size = max(BATCH_SIZE, config.batch_size)  # a training step takes more memory than this
    try:
        measured = probe.measure(dataset.train, batch_size=size)
        if dataset.validation is not None:
            probe.measure(dataset.validation, batch_size=size)
    except tf.errors.InvalidArgumentError as error:
        message = f"the model does not take every row: {describe_error(error)}"
        raise InvalidError([config.problem(key, message)]) from error
    return measured


def class_weight(config: Config, found: Sequence[Output]) -> dict[int, float] | None:
    """The weight of every class, 1 where the config gives none.

    Args:
        config: the config.
        found: the model's outputs.

    Returns:
        None where the config has no class weights.

    Raises:
        InvalidError: the model has several outputs, one of regression, or no such class.
    """
    given = config.fit.class_weight
    if not given:
        return None
    key = ("fit", "class_weight")
    output = found[0]
    if len(found) > 1 or output.form == "regression":
        other = "several outputs" if len(found) > 1 else "a loss of regression"
        message = f"class weights need one output with a classification, the model has {other}"
        raise InvalidError([config.problem(key, message)])
    positions = int(np.prod(output.shape[:-1] if output.form != "binary" else output.shape))
    if positions > 1:
        message = f"class weights need one class a row, the output has shape {output.shape}"
        raise InvalidError([config.problem(key, message)])
    classes = max(output.shape[-1] if output.shape else 1, 2)
    unknown = [label for label in given if not 0 <= label < classes]
    if unknown:
        message = f"expected classes from 0 to {classes - 1}, received {unknown[0]}"
        raise InvalidError([config.problem(key, message)])
    return {label: given.get(label, 1.0) for label in range(classes)}


def store(config: Config, folder: Path, report: Report) -> tuple[Dataset, Stored]:
    """Read the rows, and put them into files.

    Args:
        config: the config.
        folder: gets the files.
        report: told how far the reading has come.

    Raises:
        InvalidError: the data is at fault.
        UserCodeError: a data callable raised.
    """
    with blamed():
        _set_up(config)
        dataset = data.load_lazily(config, folder, report)
        stored = cache.save(dataset, folder)
        return cache.load(stored), stored


def load(config: Config, stored: Stored | None = None) -> Dataset:
    """The rows, read or from their files, with operations and generators set for an attempt.

    Args:
        config: the config.
        stored: where the rows are; None where they are still to be read.
    """
    _set_up(config)
    return data.load(config) if stored is None else cache.load(stored)


def _set_up(config: Config) -> None:
    """Set operations and generators so that every attempt reads and computes the same."""
    gpu = bool(tf.config.list_physical_devices("GPU"))
    # Keras leaves XLA out where operations are deterministic.
    xla = config.compile is not None and config.compile.jit_compile is True
    if config.deterministic is True and xla:
        message = "Keras does not compile with XLA where operations are deterministic"
        hint = "leave out jit_compile, or set deterministic to false"
        raise InvalidError([config.problem(("compile", "jit_compile"), message, hint)])
    if config.deterministic is True or (config.deterministic == "auto" and not (gpu or xla)):
        tf.config.experimental.enable_op_determinism()
    # A data callable that draws from NumPy's or Keras's global generators gets the same draws in
    # every attempt.
    keras.utils.set_random_seed(config.seed)


def _constant_targets(rows: AnyRows, found: Sequence[Output]) -> Iterator[str]:
    """A warning for each output with targets that are the same on every row.

    A loss of the user's own may not look at them.
    """
    names = {output.target: output.name for output in found}
    own = {each.compared for each in found if each.loss is not None and not each.loss.is_keras}
    for path, array in leaves(rows.y):
        if path in own:
            continue
        targets = array.reshape(len(array), -1)
        constant = np.flatnonzero(np.ptp(targets, axis=0) == 0)
        if not constant.size:
            continue
        name = names.get(path) or path
        owner = f" of output {name}" if name and not name.isdecimal() else f" {name}".rstrip()
        values = np.unique(targets[0, constant])
        same = f"{values[0]:g}" if values.size == 1 else "the same"
        if targets.shape[1] == 1:
            yield f"the target{owner} is {same} on every training row: a constant is the best fit"
        elif constant.size == 1:
            which = f"target {constant[0]}{owner}"
            yield f"{which} is {same} on every training row: a constant is the best fit"
        else:
            which = f"{constant.size:,} of the {targets.shape[1]:,} targets{owner}"
            yield (
                f"{which} are each {same} on every training row, the first of them target "
                f"{constant[0]}: a constant is the best fit to them"
            )


def _live(dataset: Dataset) -> Iterator[str]:
    """What follows from rows that come anew in every epoch."""
    live: Live | None = dataset.live
    if live is None:
        return
    if len(dataset.train) < live.rows:
        yield (
            f"the checks look at the first {len(dataset.train):,} of {live.rows:,} rows of an "
            "epoch, for no more may be kept"
        )
    if live.continues:
        yield (
            f"an epoch is {live.batches:,} batches of {live.what}, which goes on where the epoch "
            "before has stopped: the checks look at the rows of one such epoch, kept before the "
            "training, and the run can be replayed only from an attempt's start"
        )


def _check_gates(
    config: Config,
    names: Collection[str],
    dataset: Dataset,
    callbacks: Sequence[keras.callbacks.Callback],
) -> list[str]:
    """Refuse gates on what nothing logs; what a callback may log is known at the phase's end.

    Returns:
        A warning for each gate that hangs on a callback.
    """
    problems: list[Problem] = []
    warnings: list[str] = []
    for index, gate in enumerate(config.checks.metric):
        if gate.name in names:
            continue
        if any(user_callbacks.may_log(each, gate.name) for each in callbacks):
            warnings.append(
                f"Keras itself logs no {gate.name!r}: its gate passes no phase unless a callback "
                "logs it"
            )
            continue
        hint = suggestion(gate.name, [*names])
        if gate.name.startswith("val_") and dataset.validation is None:
            hint = "add data.validation to have validation values"
        key = ("checks", "metric", index, "name")
        problems.append(config.problem(key, f"Keras logs no {gate.name!r}", hint))
    if problems:
        raise InvalidError(problems)
    return warnings


def scalars(logs: Mapping[str, Any]) -> dict[str, float]:
    """Logged values as numbers; a metric of several values gets `_0`, `_1`, … behind its name."""
    found = {}
    for name, value in logs.items():
        try:
            array = np.asarray(value, dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            continue
        if array.size == 1:
            found[name] = float(array.item())
        else:
            found |= {f"{name}_{index}": float(each) for index, each in enumerate(array.flat)}
    return found
