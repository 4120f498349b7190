"""What happens at the steps and epochs of a phase, as Keras callbacks.

Each knows only what it is handed, so that another one is a line in the list of `phase`. They act
in the order of that list, the user's own callbacks first.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from orchestrator.data.streams.kinds.position import seed_global_generators
from orchestrator.model import keras_internals
from orchestrator.record.checks import Break
from orchestrator.record.events import EpochEnded, TrainingProgress
from orchestrator.training.attempt.building import preparation
from orchestrator.training.attempt.learning_rate import Rates
from orchestrator.training.executors.executor import Emit

_HEARTBEAT_SECONDS = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Epochs:
    """What the epochs of a phase logged; nothing for phase 0, which has none."""

    count: int = 0
    """How many were trained, fewer than planned where the phase was ended early."""
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Values of the last epoch."""
    losses: Mapping[int, float] = dataclasses.field(default_factory=dict)
    """Loss of each epoch by its number, which counts from 1 over all phases of the attempt."""
    penalties: Mapping[int, float] = dataclasses.field(default_factory=dict)
    """What the weights are penalised by after each epoch, by its number; empty where none are."""
    rates: Sequence[float] = ()
    """Highest learning rate of each epoch."""
    first_loss: float | None = None
    """Loss of the first step."""
    broken: Break | None = None
    """Where in the last epoch weights have turned NaN or infinite, if they have."""

    @property
    def highest_loss(self) -> float | None:
        """The highest loss of an epoch; one that is not finite beats all that are."""
        unruly = [loss for loss in self.losses.values() if not math.isfinite(loss)]
        return unruly[0] if unruly else max(self.losses.values(), default=None)


class EpochLog(keras.callbacks.Callback):  # type: ignore[misc]
    """Keeps and reports what the epochs of a phase log.

    Args:
        emit: gets an `EpochEnded` after every epoch.
        attempt: number of the attempt.
        phase: name of the phase.
        rates: tells the highest rate of the epoch.
        begun: what the epochs logged that were trained before, where the phase goes on.
    """

    def __init__(
        self,
        emit: Emit,
        *,
        attempt: int,
        phase: str,
        rates: Rates,
        begun: Epochs | None = None,
    ) -> None:
        super().__init__()
        self._emit = emit
        self._attempt = attempt
        self._phase = phase
        self._rates = rates
        begun = Epochs() if begun is None else begun
        self._highest: list[float] = [*begun.rates]
        self._metrics: Mapping[str, float] = begun.metrics
        self._losses: dict[int, float] = {**begun.losses}
        self._penalties: dict[int, float] = {**begun.penalties}
        self._first_loss: float | None = begun.first_loss
        self.broken: Break | None = begun.broken
        """See `Epochs`; set by whoever finds it."""

    @property
    def epochs(self) -> Epochs:
        """All until now."""
        return Epochs(
            count=len(self._highest),
            metrics=self._metrics,
            losses={**self._losses},
            penalties={**self._penalties},
            rates=tuple(self._highest),
            first_loss=self._first_loss,
            broken=self.broken,
        )

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Keep the first loss.

        Of several steps that Keras makes at a time it logs the mean, which is no number where one
        of them threw the weights away: that says nothing of the loss before.
        """
        if self._first_loss is not None or not logs or "loss" not in logs:
            return
        loss = float(logs["loss"])
        at_a_time = 1 if self.model is None else self.model.steps_per_execution
        if at_a_time == 1 or math.isfinite(loss):
            self._first_loss = loss

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Keep the values, and report them."""
        self._highest.append(self._rates.highest())
        self._metrics = preparation.scalars(logs or {})
        if "loss" in self._metrics:
            self._losses[epoch + 1] = self._metrics["loss"]
        penalty = None if self.model is None else keras_internals.weight_penalty(self.model)
        if penalty is not None:
            self._penalties[epoch + 1] = penalty
        self._emit(
            EpochEnded(
                attempt=self._attempt,
                phase=self._phase,
                epoch=epoch + 1,
                learning_rate=self._highest[-1],
                metrics=dict(self._metrics),
            )
        )


class Heartbeats(keras.callbacks.Callback):  # type: ignore[misc]
    """Reports between two epochs how far the training has come.

    Args:
        emit: gets at most one report a second.
        steps: training steps in an epoch.
        done: steps of the first epoch that were trained before.
    """

    def __init__(self, emit: Emit, *, steps: int, done: int = 0) -> None:
        super().__init__()
        self._emit = emit
        self._steps = steps
        self._done = done
        self._step = done
        self._last = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Count the steps from the beginning again."""
        self._done = 0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Report when it is time."""
        self._step = self._done + batch + 1
        self._report()

    def on_test_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Report when it is time: validation may take longer than a worker may be silent."""
        self._report()

    def _report(self) -> None:
        now = time.monotonic()
        if now - self._last >= _HEARTBEAT_SECONDS:
            self._last = now
            self._emit(TrainingProgress(step=self._step, steps=self._steps))


class SeedGenerators(keras.callbacks.Callback):  # type: ignore[misc]
    """Sets the generators of Dropout and noise layers from seed and epoch alone.

    No file format of Keras keeps their state, so that a resumed epoch could not repeat. Python's
    and NumPy's global ones are set too: the user's code that gives batches may draw from them.

    Args:
        seed: seed of the attempt.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._seed = seed
        self._generators: Sequence[keras.random.SeedGenerator] = ()

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Find the generators."""
        self._generators = keras_internals.seed_generators(self.model)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Set them."""
        for index, generator in enumerate(self._generators):
            entropy = (self._seed, epoch, index)
            generator.state.assign(np.random.SeedSequence(entropy).generate_state(2))
        seed_global_generators(self._seed, epoch)


class BeginAtEpoch(keras.callbacks.Callback):  # type: ignore[misc]
    """Has a training begin with its epoch, whatever a callback before this one has said."""

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Forget what it has said."""
        keras_internals.forget_initial_epoch(self.model)


class CapRates(keras.callbacks.Callback):  # type: ignore[misc]
    """Brings a rate that another callback has raised, or that is above a cap which falls, under it.

    Args:
        rates: knows the cap.
        within: also before every step, where a callback of the user's may set a rate within an
            epoch.
    """

    def __init__(self, rates: Rates, *, within: bool = False) -> None:
        super().__init__()
        self._rates = rates
        self._within = within

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Cap the rate, and forget the highest one of the epoch before."""
        self._rates.start_epoch(epoch)

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Cap the rate of a step, and note it: at the epoch's end it may be another one already."""
        if self._within:
            self._rates.start_step()


class EndWhenLost(keras.callbacks.Callback):  # type: ignore[misc]
    """Ends a phase when training on is in vain.

    Args:
        is_lost: tells whether it is, from the epoch's loss by its number; asked after every epoch
            but the last, which the checks follow.
        last_epoch: number of the phase's last epoch, counted from 1 over all phases.
    """

    def __init__(self, is_lost: Callable[[Mapping[int, float]], bool], *, last_epoch: int) -> None:
        super().__init__()
        self._is_lost = is_lost
        self._last_epoch = last_epoch

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """End the phase where all is lost."""
        loss = preparation.scalars(logs or {}).get("loss")
        losses = {} if loss is None else {epoch + 1: loss}
        if epoch + 1 < self._last_epoch and self._is_lost(losses):
            self.model.stop_training = True
