"""One attempt, in the process that runs it: build, train phase by phase, check, save.

What happens is emitted as events; nothing here decides what comes next.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from orchestrator.config.schema import PhasePlan
from orchestrator.data.pipeline import Feed, held_back
from orchestrator.data.rows import AnyRows
from orchestrator.diagnosis import checks as verdicts
from orchestrator.diagnosis import diagnose as diagnosis
from orchestrator.diagnosis.causes import network
from orchestrator.diagnosis.scores import Scores
from orchestrator.diagnosis.tracing.probe import Measurement, Probe
from orchestrator.errors import InvalidError
from orchestrator.model import build as models
from orchestrator.model import leaky_relu, outputs, saving, weights
from orchestrator.model.initialization import Recorder
from orchestrator.record.events import (
    CausesFound,
    EpochEnded,
    Glimpse,
    LayerShare,
    ModelBuilt,
    PhaseEnded,
    PhaseStarted,
    Progress,
    Screened,
    SeedsScreened,
    Warned,
)
from orchestrator.record.records import INIT, Check, Phase
from orchestrator.training.attempt import preparation
from orchestrator.training.attempt.learning_rate import Rates
from orchestrator.training.attempt.screening import Screening, screen
from orchestrator.training.attempt.task import Task
from orchestrator.training.executors.executor import Emit

_HEARTBEAT_SECONDS = 1.0


def train(task: Task, emit: Emit) -> None:
    """Train one attempt to its end, or to its first failing check.

    Args:
        task: what to train.
        emit: gets the events as they happen.

    Raises:
        InvalidError: the data is not what the run began with.
        UserCodeError: the user's own code raised.
    """
    with preparation.blamed():
        _Training(task, emit).run()


class _Training:
    """The state of one attempt while it is trained."""

    def __init__(self, task: Task, emit: Emit) -> None:
        self.task = task
        self.config = task.config
        self.emit = emit
        self.dataset = preparation.load(task.config)
        if task.fingerprint is not None and self.dataset.fingerprint != task.fingerprint:
            message = "the data is not what it was when the run began"
            hint = "let a data callable return the same rows at every call"
            raise InvalidError([task.config.problem(("data",), message, hint)])
        self.rows = self.dataset.train
        self.limits = task.config.checks
        self.probes: dict[int, Probe] = {}
        screening = self._screen()
        self.findings = [] if screening.finding is None else [screening.finding]
        self.settings = dataclasses.replace(task.settings, seed=screening.seed)
        self.model = screening.model
        self.probe = self.probes.get(id(self.model)) or Probe(self.model)
        found = outputs.heads(self.model, self.config, self.rows)
        variance = self.limits.prediction_variance
        self.heads = [
            outputs.of_kind(head, None if variance is None else variance.kind, self.rows.y)
            for head in found
        ]
        self.rates = Rates(self.model.optimizer, self.settings.learning_rate_cap)
        self.callbacks = self._callbacks()
        self.generators = _seed_generators(self.model)
        self.epoch = 0
        self.losses: list[tuple[int, float]] = []
        self.feed = Feed(
            self.rows,
            batch_size=self.config.batch_size,
            seed=self.settings.seed,
            class_weight=preparation.class_weight(self.config, found),
        )
        self.held = None
        if self.dataset.validation is not None:
            self.held = held_back(self.dataset.validation, self.config.batch_size)

    def run(self) -> None:
        self.emit(
            ModelBuilt(
                attempt=self.task.attempt,
                parameters=self.model.count_params(),
                obstacles=models.obstacles(
                    self.model,
                    self.config,
                    self.settings,
                    self.rows,
                    self.probe.hidden_relu(self.rows),
                ),
            )
        )
        start = time.perf_counter()
        checks = self.check(None, {})
        if self._end_phase(INIT, 0, start, {}, checks) or self.task.until == INIT:
            return
        for plan in self.config.phases:
            if self._phase(plan) or self.task.until == plan.name:
                return
        self._save_result()

    def _screen(self) -> Screening:
        """The model of the first candidate seed whose network is not dead before training."""
        task = self.task

        def build(seed: int, recorder: Recorder) -> keras.Model:
            settings = dataclasses.replace(task.settings, seed=seed)
            return models.build(task.config, settings, self.rows, recorder)

        def judge(model: keras.Model) -> Callable[[], str | None]:
            probe = Probe(model)  # traced once for all looks at it
            self.probes = {id(model): probe}
            return lambda: diagnosis.lost(
                probe,
                self.checked_rows,
                self.limits,
                non_finite=diagnosis.non_finite_variables([("weight", model.weights)]),
                training_batch_size=self.config.batch_size,
            )

        seeds = task.seeds or (task.settings.seed,)
        if models.keeps_weights(task.config):
            seeds = seeds[:1]
        x = self.rows.first(2)[0]
        found = screen(
            seeds,
            build,
            judge,
            lambda model: any(network.of_initialization(model, x)),
            lambda done: self.emit(Screened(seeds=done, limit=len(seeds))),
        )
        if found.candidates:
            self.emit(
                SeedsScreened(attempt=task.attempt, seed=found.seed, candidates=found.candidates)
            )
        return found

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
        self.model.fit(
            self.feed.batches(self.epoch),
            epochs=self.epoch + plan.epochs,
            initial_epoch=self.epoch,
            steps_per_epoch=self.feed.steps_per_epoch,
            shuffle=False,  # the batches come shuffled
            validation_data=self.held,
            callbacks=[*self.callbacks, watch],
            verbose=0,
        )
        checks = self.check(plan, watch.logs)
        self._save_checkpoint()
        return self._end_phase(plan.name, watch.epochs, start, watch.logs, checks, watch.losses)

    def _end_phase(
        self,
        name: str,
        epochs: int,
        start: float,
        logs: dict[str, float],
        checks: tuple[Check, ...],
        losses: tuple[float | None, float | None] = (None, None),
    ) -> bool:
        phase = Phase(
            phase=name,
            epochs=epochs,
            seconds=round(time.perf_counter() - start, 3),
            metrics=logs,
            first_loss=losses[0],
            highest_loss=losses[1],
            weights=weights.digest(variable.numpy() for variable in self.model.weights),
            checks=checks,
        )
        self.emit(PhaseEnded(attempt=self.task.attempt, phase=phase))
        if phase.failure() is None:
            return False
        try:
            self.findings += network.of_failure(
                self.model,
                self.heads,
                self.rows,
                self.examined,
                untrained=name == INIT,
                limits=self.limits.prediction_variance,
                changeable=leaky_relu.takes_activation(self.config),
                falling=_is_falling([loss for _, loss in self.losses]),
                slowed=self.settings.learning_rate_cap is not None,
            )
        except Exception:  # noqa: BLE001 - an explanation that is missing is no reason to fail
            traceback.print_exc()
        if self.findings:
            self.emit(CausesFound(attempt=self.task.attempt, findings=tuple(self.findings)))
        return True

    def check(self, plan: PhasePlan | None, logs: dict[str, float]) -> tuple[Check, ...]:
        """All checks that are due after a phase; `plan` is None for phase 0."""
        last = plan is not None and plan is self.config.phases[-1]
        rows = self.checked_rows
        examined = diagnosis.examine(
            self.probe,
            rows,
            self.heads,
            self.limits,
            non_finite=self.non_finite(),
            untrained=plan is None,
            last=last,
            sampled=len(rows) < len(self.rows),
            exhaustive=last,
            gradients="when_suspicious",
            training_batch_size=self.config.batch_size,
        )
        self.examined = examined
        checks = [
            self._with_validation(check)
            if last and check.check == "prediction_variance" and examined.columns
            else check
            for check in examined.checks
        ]
        gates = [
            gate
            for gate in self.limits.metric
            if plan is not None and (plan.name in gate.phases if gate.phases else last)
        ]
        if gates:
            checks.append(verdicts.metric(gates, logs))
        return tuple(checks)

    def _with_validation(self, check: Check) -> Check:
        """The check with what the predictions are worth on the validation rows."""
        held = self.dataset.validation
        if held is None:
            return check
        scores = Scores(self.heads)
        self.probe.measure(held, see=scores.see)
        entries = [
            {"output": each.output, "skill": each.skill, "loss": each.loss,
             "constant_loss": each.constant_loss}
            for each in diagnosis.flat(scores.columns())
        ]  # fmt: skip
        return dataclasses.replace(check, measured={**check.measured, "validation": entries})

    @property
    def checked_rows(self) -> AnyRows:
        """The rows that the checks look at: all, or the sample that the config asks for."""
        limits = self.limits.dead_neurons
        if limits is None or limits.rows == "all" or limits.rows >= len(self.rows):
            return self.rows
        chosen = np.random.default_rng(self.config.seed).choice(
            len(self.rows), limits.rows, replace=False
        )
        return self.rows.take(np.sort(chosen))

    def non_finite(self) -> list[str]:
        """A clause for each weight, optimizer variable and loss that is not finite."""
        found = diagnosis.non_finite_variables(
            [
                ("weight", self.model.weights),
                ("optimizer state", self.model.optimizer.variables),
            ]
        )
        for epoch, loss in self.losses:
            if not np.isfinite(loss):
                found.append(f"the loss of epoch {epoch} is {loss}")
                break
        return found

    def is_lost(self) -> bool:
        """Whether training on is in vain."""
        reason = diagnosis.lost(
            self.probe,
            self.checked_rows,
            self.limits,
            non_finite=self.non_finite(),
            training_batch_size=self.config.batch_size,
            see=lambda found: self.emit(_glimpse(found)),
        )
        return reason is not None

    def seed_epoch(self, epoch: int) -> None:
        """Set the generators of Dropout and noise layers from seed and epoch alone.

        No file format of Keras keeps their state, so that a resumed epoch could not repeat.
        """
        for index, generator in enumerate(self.generators):
            entropy = (self.settings.seed, epoch, index)
            generator.state.assign(np.random.SeedSequence(entropy).generate_state(2))

    def _callbacks(self) -> list[keras.callbacks.Callback]:
        callbacks = preparation.user_callbacks(self.config)
        if self.config.tensorboard:
            folder = str(self.task.directory / "tensorboard")
            callbacks.append(keras.callbacks.TensorBoard(folder, histogram_freq=1))
        return callbacks

    def _save_checkpoint(self) -> None:
        with self.rates.plain():
            _save(self.model, self.task.directory / "checkpoint.keras")

    def _save_result(self) -> None:
        """Save the model that takes raw inputs, hidden until the run accepts it.

        Where plain Keras could not load it, the weights of the user's own model are saved.
        """
        path = self.task.directory / ".model.keras"
        with self.rates.plain():
            whole = saving.deployable(self.model, self.dataset.scalings, self.rows)
            problem = saving.obstacle(whole, self.rows)
            if problem is None:
                problem = _save(whole, path)
            else:
                _save_weights(self.model, path)
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
        self._first_loss: float | None = None
        self._epoch_losses: list[float] = []

    @property
    def losses(self) -> tuple[float | None, float | None]:
        """The loss of the first step, and the highest of an epoch; not finite beats finite."""
        unruly = [loss for loss in self._epoch_losses if not math.isfinite(loss)]
        highest = unruly[0] if unruly else max(self._epoch_losses, default=None)
        return self._first_loss, highest

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._training.seed_epoch(epoch)
        self._training.rates.start_epoch()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self._first_loss is None and logs and "loss" in logs:
            self._first_loss = float(logs["loss"])
        now = time.monotonic()
        if now - self._beat >= _HEARTBEAT_SECONDS:
            self._beat = now
            self._training.emit(Progress(step=batch + 1, steps=self._training.feed.steps))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        training = self._training
        self.logs = preparation.scalars(logs or {})
        self.epochs += 1
        training.epoch = epoch + 1
        if "loss" in self.logs:
            training.losses.append((epoch + 1, self.logs["loss"]))
            self._epoch_losses.append(self.logs["loss"])
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


def _is_falling(losses: Sequence[float]) -> bool:
    """Whether the epochs' losses still fell by a tenth in the last quarter of them."""
    if len(losses) < 2:
        return False
    before = losses[-1 - math.ceil(len(losses) / 4)]
    return losses[-1] < before - 0.1 * abs(before)


def _glimpse(found: Measurement) -> Glimpse:
    layers = (
        LayerShare(layer=each.name, units=each.units, dead=each.dead) for each in found.layers
    )
    return Glimpse(rows=found.rows, layers=tuple(layers))


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
        _save_weights(model, path)
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
    return None


def _save_weights(model: keras.Model, path: Path) -> None:
    with _replacing(path.with_suffix(".weights.h5"), ".weights.h5") as temporary:
        model.save_weights(temporary)


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
