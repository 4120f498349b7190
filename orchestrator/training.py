"""One attempt, in the process that runs it: build, train phase by phase, check, save.

What happens is emitted as events; nothing here decides what comes next.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from orchestrator import data, measures, models, policy, usercode, verdicts
from orchestrator.config import Config, PhasePlan
from orchestrator.data import Dataset, Rows
from orchestrator.errors import (
    InvalidError,
    OrchestratorError,
    Problem,
    UserCodeError,
    suggestion,
)
from orchestrator.events import (
    EpochEnded,
    Event,
    Glimpse,
    LayerShare,
    ModelBuilt,
    PhaseEnded,
    PhaseStarted,
    Progress,
    Sign,
    Warned,
)
from orchestrator.probes import Measurement, Probe
from orchestrator.rates import Rates
from orchestrator.records import INIT, Check, Inputs, Phase
from orchestrator.tasks import Prepared, Task

Emit = Callable[[Event | Sign], None]

_HEARTBEAT_SECONDS = 1.0


def prepare(config: Config) -> Prepared:
    """Build data and model and fit their shapes together, without training.

    Args:
        config: the config.

    Returns:
        What was found.

    Raises:
        InvalidError: with what Keras or the data object to.
        UserCodeError: the user's own code raised.
    """
    with _blamed():
        return _prepare(config)


def _prepare(config: Config) -> Prepared:
    dataset = _load(config)
    model = models.build(config, policy.first_settings(config.seed), dataset.train)
    if dataset.validation is not None:
        models.check_targets(model, config, dataset.validation)
    _check_gates(config, model, dataset)
    _class_weight(config, model, dataset.train)
    _user_callbacks(config)
    warnings = list(_constant_targets(dataset.train))
    if config.restart.screen_seeds:
        warnings.append("restart.screen_seeds: this version does not screen seeds yet")
    obstacle = models.saving_obstacle(models.deployable(model, dataset.scaling, dataset.train))
    if obstacle is not None:
        warnings.append(f"plain Keras cannot load the model once it is saved: {obstacle}")
    measured = _measure_all(config, model, dataset)
    return Prepared(
        inputs=Inputs(columns=dataset.train.columns),
        fingerprint=dataset.fingerprint,
        rows=len(dataset.train),
        validation_rows=0 if dataset.validation is None else len(dataset.validation),
        input_shape=dataset.train.x.shape[1:],
        parameters=model.count_params(),
        layers=tuple(layer.name for layer in measured.layers),
        warnings=tuple(warnings),
    )


def train(task: Task, emit: Emit) -> None:
    """Train one attempt to its end, or to its first failing check.

    Args:
        task: what to train.
        emit: gets the events as they happen.

    Raises:
        InvalidError: the data is not what the run began with.
        UserCodeError: the user's own code raised.
    """
    with _blamed():
        _Training(task, emit).run()


@contextlib.contextmanager
def _blamed() -> Iterator[None]:
    """Tell what the user's code raised somewhere below Keras from what is our own fault."""
    try:
        yield
    except OrchestratorError:
        raise
    except (Exception, SystemExit) as error:
        if usercode.raised_in_user_code(error):
            raise UserCodeError(f"your code raised {usercode.describe(error)}") from error
        raise


def _measure_all(config: Config, model: keras.Model, dataset: Dataset) -> Measurement:
    """Run every row through the model, for what only some rows show, such as a wrong index."""
    probe = Probe(model)
    key = ("model",)
    try:
        measured = probe.measure(dataset.train.x)
        if dataset.validation is not None:
            probe.measure(dataset.validation.x)
    except tf.errors.InvalidArgumentError as error:
        message = f"the model does not take every row: {models.describe_error(error)}"
        raise InvalidError([config.problem(key, message)]) from error
    return measured


def _class_weight(config: Config, model: keras.Model, rows: Rows) -> dict[int, float] | None:
    """The weight of every class, 1 where the config gives none."""
    given = config.fit.class_weight
    if not given:
        return None
    form, _ = models.output_form(model, rows)
    if form == "regression":
        message = "class weights need a classification, the loss is one of regression"
        raise InvalidError([config.problem(("fit", "class_weight"), message)])
    output = models.output_shape(model, rows)
    classes = max(output[-1] if output else 1, 2)
    unknown = [label for label in given if not 0 <= label < classes]
    if unknown:
        message = f"expected classes from 0 to {classes - 1}, received {unknown[0]}"
        raise InvalidError([config.problem(("fit", "class_weight"), message)])
    return {label: given.get(label, 1.0) for label in range(classes)}


def _user_callbacks(config: Config) -> list[keras.callbacks.Callback]:
    """The callbacks that the config names, made anew."""
    callbacks = []
    for index, reference in enumerate(config.fit.callbacks):
        key = ("fit", "callbacks", index)
        function = usercode.find(reference, config, key=key)
        usercode.check_arguments(function, {}, config, key=key)
        with usercode.blamed(f"the callback function {reference}"):
            callback = function()
        if not isinstance(callback, keras.callbacks.Callback):
            message = f"expected a keras callback, received {type(callback).__name__}"
            raise InvalidError([config.problem(key, message)])
        callbacks.append(callback)
    return callbacks


def _load(config: Config) -> Dataset:
    gpu = bool(tf.config.list_physical_devices("GPU"))
    if config.deterministic is True or (config.deterministic == "auto" and not gpu):
        tf.config.experimental.enable_op_determinism()
    # A data callable that draws from NumPy's or Keras's global generators gets the same draws in
    # every attempt.
    keras.utils.set_random_seed(config.seed)
    return data.load(config)


def _constant_targets(rows: Rows) -> Iterator[str]:
    targets = rows.y.reshape(len(rows), -1)
    for column in np.flatnonzero(np.ptp(targets, axis=0) == 0):
        name = "the target" if targets.shape[1] == 1 else f"target {column}"
        yield f"{name} is {targets[0, column]:g} on every training row: a constant is the best fit"


def _check_gates(config: Config, model: keras.Model, dataset: Dataset) -> None:
    rows = dataset.train
    names = list(_scalars(model.test_on_batch(rows.x[:2], rows.y[:2], return_dict=True)))
    if dataset.validation is not None:
        names += [f"val_{name}" for name in names]
    problems: list[Problem] = []
    for index, gate in enumerate(config.checks.metric):
        if gate.name not in names:
            hint = suggestion(gate.name, names)
            if gate.name.startswith("val_") and dataset.validation is None:
                hint = "add data.validation to have validation values"
            key = ("checks", "metric", index, "name")
            problems.append(config.problem(key, f"Keras logs no {gate.name!r}", hint))
    if problems:
        raise InvalidError(problems)


class _Training:
    """The state of one attempt while it is trained."""

    def __init__(self, task: Task, emit: Emit) -> None:
        self.task = task
        self.config = task.config
        self.emit = emit
        self.dataset = _load(task.config)
        if task.fingerprint is not None and self.dataset.fingerprint != task.fingerprint:
            message = "the data is not what it was when the run began"
            hint = "let a data callable return the same rows at every call"
            raise InvalidError([task.config.problem(("data",), message, hint)])
        self.rows = self.dataset.train
        self.model = models.build(task.config, task.settings, self.rows)
        self.probe = Probe(self.model)
        self.form, self.from_logits = models.output_form(self.model, self.rows)
        self.class_weight = _class_weight(self.config, self.model, self.rows)
        if self.config.checks.prediction_variance is not None:
            self._override_kind(self.config.checks.prediction_variance.kind)
        self.rates = Rates(self.model.optimizer, task.settings.learning_rate_cap)
        self.callbacks = self._callbacks()
        self.generators = _seed_generators(self.model)
        self.epoch = 0
        self.losses: list[tuple[int, float]] = []
        self.tensors = tf.constant(self.rows.x), tf.constant(self.rows.y)
        self.steps = -(-len(self.rows) // self.config.batch_size)

    def run(self) -> None:
        obstacle = models.leaky_relu_obstacle(self.model, self.config)
        obstacles = {} if obstacle is None else {"leaky_relu": obstacle}
        if self.task.settings.negative_slope is not None:
            obstacles = {}  # the model has no relu left because the remedy is in force
        self.emit(
            ModelBuilt(
                attempt=self.task.attempt,
                parameters=self.model.count_params(),
                obstacles=obstacles,
            )
        )
        start = time.perf_counter()
        checks = self.check(None, {})
        if self._end_phase(INIT, 0, start, {}, checks):
            return
        for plan in self.config.phases:
            if self._phase(plan):
                return
        self._save_result()

    def _phase(self, plan: PhasePlan) -> bool:
        """Train and check one phase; whether it failed."""
        start = time.perf_counter()
        rate = self.rates.start_phase(plan.learning_rate)
        self.emit(
            PhaseStarted(
                attempt=self.task.attempt, phase=plan.name, epochs=plan.epochs, learning_rate=rate
            )
        )
        watch = _Watch(self, plan)
        validation = self.dataset.validation
        self.model.fit(
            self._batches(),
            epochs=self.epoch + plan.epochs,
            initial_epoch=self.epoch,
            steps_per_epoch=self.steps,
            shuffle=False,  # the batches come shuffled
            validation_data=None if validation is None else (validation.x, validation.y),
            validation_batch_size=self.config.batch_size,
            class_weight=self.class_weight,
            callbacks=[*self.callbacks, watch],
            verbose=0,
        )
        checks = self.check(plan, watch.logs)
        self._save_checkpoint()
        return self._end_phase(plan.name, watch.epochs, start, watch.logs, checks)

    def _end_phase(
        self,
        name: str,
        epochs: int,
        start: float,
        logs: dict[str, float],
        checks: tuple[Check, ...],
    ) -> bool:
        phase = Phase(
            phase=name,
            epochs=epochs,
            seconds=round(time.perf_counter() - start, 3),
            metrics=logs,
            checks=checks,
        )
        self.emit(PhaseEnded(attempt=self.task.attempt, phase=phase))
        return phase.failure() is not None

    def check(self, plan: PhasePlan | None, logs: dict[str, float]) -> tuple[Check, ...]:
        """All checks that are due after a phase; `plan` is None for phase 0."""
        limits = self.config.checks
        last = plan is not None and plan is self.config.phases[-1]
        found = self.non_finite()
        measurement = None if found else self.probe.measure(self.checked_rows.x)
        if measurement is not None:
            found = _non_finite_predictions(measurement)
        checks = [verdicts.finite(found)] if limits.finite is not None else []
        if found or measurement is None:
            checks += [
                verdicts.not_applicable(name, "there are non-finite values")
                for name in ("dead_neurons", "prediction_variance")
                if getattr(limits, name) is not None
            ]
        else:
            checks += self._check_health(measurement, untrained=plan is None, last=last)
        gates = [
            gate
            for gate in limits.metric
            if plan is not None and (plan.name in gate.phases if gate.phases else last)
        ]
        if gates:
            checks.append(verdicts.metric(gates, logs))
        return tuple(checks)

    def _check_health(
        self, measurement: Measurement, *, untrained: bool, last: bool
    ) -> list[Check]:
        """Dead neurons and prediction variance, judged from one measurement."""
        dead, variance = self.config.checks.dead_neurons, self.config.checks.prediction_variance
        rows = self.checked_rows
        outputs = self._measure(rows, measurement.predictions)
        judged = None
        if variance is not None:
            judged = verdicts.prediction_variance(outputs, variance, untrained=untrained, last=last)
        batch: Measurement | None = None
        suspicious = judged is not None and judged.verdict == "fail"
        if dead is not None:
            suspicious |= verdicts.needs_batch_statistics(measurement.layers, dead)
        if suspicious and self.probe.has_batch_normalization:
            batch = self.probe.measure(
                rows.x, batch_size=self.config.batch_size, batch_statistics=True
            )
        checks = []
        if dead is not None:
            skills = [output.skill for output in outputs if output.skill is not None]
            checks.append(
                verdicts.dead_neurons(
                    measurement.layers,
                    measurement.flow,
                    dead,
                    skills=[min(skills) if skills else None],
                    untrained=untrained,
                    exact=len(rows) == len(self.rows),
                    batch_layers=None if batch is None else batch.layers,
                )
            )
        if variance is not None and judged is not None:
            if batch is not None:
                judged = verdicts.prediction_variance(
                    outputs,
                    variance,
                    untrained=untrained,
                    last=last,
                    batch_outputs=self._measure(rows, batch.predictions),
                )
            checks.append(self._with_validation(judged) if last else judged)
        return checks

    def _with_validation(self, check: Check) -> Check:
        """The check with what the predictions are worth on the validation rows."""
        held = self.dataset.validation
        if held is None:
            return check
        outputs = self._measure(held, self.probe.measure(held.x).predictions)
        entries = [
            {"output": each.output, "skill": each.skill, "loss": each.loss,
             "constant_loss": each.constant_loss}
            for each in outputs
        ]  # fmt: skip
        return dataclasses.replace(check, measured={**check.measured, "validation": entries})

    def _measure(self, rows: Rows, predictions: Any) -> list[measures.Output]:
        return measures.measure(rows.y, predictions, self.form, from_logits=self.from_logits)

    def _override_kind(self, kind: str | None) -> None:
        if kind == "regression":
            self.form, self.from_logits = "regression", False
        elif kind == "classification" and self.form == "regression":
            shape = models.output_shape(self.model, self.rows)
            units = shape[-1] if shape else 1
            one_hot = self.rows.y.ndim > 1 and self.rows.y.shape[-1] == units
            self.form = "binary" if units == 1 else "categorical" if one_hot else "sparse"

    @property
    def checked_rows(self) -> Rows:
        """The rows that the checks look at: all, or the sample that the config asks for."""
        limits = self.config.checks.dead_neurons
        if limits is None or limits.rows == "all" or limits.rows >= len(self.rows):
            return self.rows
        chosen = np.random.default_rng(self.config.seed).choice(
            len(self.rows), limits.rows, replace=False
        )
        return self.rows.take(np.sort(chosen))

    def non_finite(self) -> list[str]:
        """A clause for each weight, optimizer variable and loss that is not finite."""
        found = []
        groups = [
            ("weight", self.model.weights),
            ("optimizer state", self.model.optimizer.variables),
        ]
        for what, variables in groups:
            for variable in variables:
                values = np.asarray(keras.ops.convert_to_numpy(variable))
                if values.dtype.kind not in "fV":
                    continue
                bad = int(np.count_nonzero(~np.isfinite(values.astype(np.float32))))
                if bad:
                    found.append(
                        f"{what} {variable.path} has {bad} of {values.size} values not finite"
                    )
        for epoch, loss in self.losses:
            if not np.isfinite(loss):
                found.append(f"the loss of epoch {epoch} is {loss}")
                break
        return found

    def is_lost(self) -> bool:
        """Whether training on is in vain: non-finite weights, or a cut by dead layers on all rows.

        Of 2,611 such nets none ever revived (design, section 4).
        """
        if self.config.checks.finite is not None and self.non_finite():
            return True
        if self.config.checks.dead_neurons is None:
            return False
        rows = self.checked_rows.x
        for look, x in enumerate((rows[:256], rows)):  # the first shows most live units
            found = self.probe.measure(x)
            if look == 0:
                self.emit(_glimpse(found, len(x)))
            if not verdicts.cut(found.layers, found.flow)[1]:
                return False
        if not self.probe.has_batch_normalization:
            return True
        batch = self.probe.measure(rows, batch_size=self.config.batch_size, batch_statistics=True)
        judged = map(verdicts.livelier, found.layers, batch.layers)
        return bool(verdicts.cut(list(judged), found.flow)[1])

    def seed_epoch(self, epoch: int) -> None:
        """Set the generators of Dropout and noise layers from seed and epoch alone.

        No file format of Keras keeps their state, so that a resumed epoch could not repeat.
        """
        for index, generator in enumerate(self.generators):
            entropy = (self.task.settings.seed, epoch, index)
            generator.state.assign(np.random.SeedSequence(entropy).generate_state(2))

    def _batches(self) -> tf.data.Dataset:
        """Endless batches from the next epoch on; an epoch's order follows from seed and number."""
        x, y = self.tensors
        count, batch_size = len(self.rows), self.config.batch_size
        seed = tf.constant(self.task.settings.seed, tf.int64)

        @tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
        def epoch(number: tf.Tensor) -> tf.data.Dataset:
            key = tf.stack([seed, number])
            order = tf.random.experimental.stateless_shuffle(tf.range(count), seed=key)

            @tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
            def batch(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                start = tf.cast(step, tf.int32) * batch_size
                chosen = order[start : tf.minimum(start + batch_size, count)]
                return tf.gather(x, chosen), tf.gather(y, chosen)

            return tf.data.Dataset.range(self.steps).map(batch)

        endless = tf.data.Dataset.counter(start=self.epoch).flat_map(epoch)
        return endless.prefetch(tf.data.AUTOTUNE)

    def _callbacks(self) -> list[keras.callbacks.Callback]:
        callbacks = _user_callbacks(self.config)
        if self.config.tensorboard:
            folder = str(self.task.directory / "tensorboard")
            callbacks.append(keras.callbacks.TensorBoard(folder, histogram_freq=1))
        return callbacks

    def _save_checkpoint(self) -> None:
        with self.rates.plain():
            _save(self.model, self.task.directory / "checkpoint.keras")

    def _save_result(self) -> None:
        """Save the model that takes raw inputs, hidden until the run accepts it."""
        with self.rates.plain():
            whole = models.deployable(self.model, self.dataset.scaling, self.rows)
            problem = _save(whole, self.task.directory / ".model.keras")
        if problem is not None:
            self.emit(Warned(message=f"the model was saved as weights only: {problem}"))


class _Watch(keras.callbacks.Callback):  # type: ignore[misc]
    """Reports epochs, sets seeds and rates, and ends an attempt that is lost."""

    def __init__(self, training: _Training, plan: PhasePlan) -> None:
        super().__init__()
        self.logs: dict[str, float] = {}
        self.epochs = 0
        self._training = training
        self._plan = plan
        self._beat = time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._training.seed_epoch(epoch)
        self._training.rates.start_epoch()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        now = time.monotonic()
        if now - self._beat >= _HEARTBEAT_SECONDS:
            self._beat = now
            self._training.emit(Progress(step=batch + 1, steps=self._training.steps))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        training = self._training
        self.logs = _scalars(logs or {})
        self.epochs += 1
        training.epoch = epoch + 1
        training.losses.append((epoch + 1, self.logs.get("loss", 0.0)))
        training.emit(
            EpochEnded(
                attempt=training.task.attempt,
                phase=self._plan.name,
                epoch=epoch + 1,
                learning_rate=training.rates.highest(),
                metrics=self.logs,
            )
        )
        if self.epochs < self._plan.epochs and training.is_lost():
            self.model.stop_training = True


def _scalars(logs: Mapping[str, Any]) -> dict[str, float]:
    """Logged values as numbers; a metric of several values gets `_0`, `_1`, … behind its name."""
    found = {}
    for name, value in logs.items():
        try:
            array = np.asarray(value, dtype=np.float64)
        except (TypeError, ValueError):
            continue
        if array.size == 1:
            found[name] = float(array.item())
        else:
            found |= {f"{name}_{index}": float(each) for index, each in enumerate(array.flat)}
    return found


def _glimpse(found: Measurement, rows: int) -> Glimpse:
    layers = (
        LayerShare(layer=each.name, units=each.units, dead=each.dead) for each in found.layers
    )
    return Glimpse(rows=rows, layers=tuple(layers))


def _non_finite_predictions(measurement: Measurement) -> list[str]:
    flat = measurement.predictions.reshape(len(measurement.predictions), -1)
    bad = np.flatnonzero(~np.isfinite(flat).all(axis=1))
    if not len(bad):
        return []
    return [
        f"the prediction of {len(bad)} of {len(flat)} rows is not finite, first of row {bad[0]}"
    ]


def _seed_generators(model: keras.Model) -> Sequence[keras.random.SeedGenerator]:
    found: dict[int, keras.random.SeedGenerator] = {}
    for layer in model._flatten_layers():
        for generator in layer._seed_generators:
            found.setdefault(id(generator), generator)
    return list(found.values())


def _save(model: keras.Model, path: Path) -> str | None:
    """Save a model by one rename; where it cannot be saved whole, its weights, and say why."""
    try:
        with _replacing(path, ".keras") as temporary:
            model.save(temporary)
    except Exception as error:
        if isinstance(error, OSError):
            raise
        with _replacing(path.with_suffix(".weights.h5"), ".weights.h5") as temporary:
            model.save_weights(temporary)
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
    return None


@contextlib.contextmanager
def _replacing(path: Path, suffix: str) -> Iterator[Path]:
    temporary = path.with_name(f".{path.name.lstrip('.')}.new{suffix}")
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
