"""The learning rate of a phase: the phase's own or the optimizer's, never above the cap.

The cap may fall over the second half of the phase, and stays there in what follows.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from orchestrator.model import keras_internals


class _Capped(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """A schedule under a cap, or a phase's constant rate; remembers the highest rate it gave.

    It lives in variables, so that a new phase needs no new trace of the training step.
    """

    def __init__(
        self, schedule: Callable[[Any], Any], cap: float, factor: float, stretch: float
    ) -> None:
        self.schedule = schedule
        self.stretch = stretch
        self.cap = tf.Variable(cap, trainable=False, dtype=tf.float32)
        self.factor = factor
        self.constant = tf.Variable(math.nan, trainable=False, dtype=tf.float32)
        self.highest = tf.Variable(0.0, trainable=False, dtype=tf.float32)

    def __call__(self, step: Any) -> tf.Tensor:
        """The rate of a step."""
        if self.stretch != 1:
            step = tf.convert_to_tensor(step)
            step = tf.cast(tf.cast(step, tf.float64) / self.stretch, step.dtype)
        scheduled = tf.cast(self.schedule(step), tf.float32)
        rate = tf.where(tf.math.is_nan(self.constant), scheduled, self.constant)
        rate = tf.minimum(rate * self.factor, self.cap)
        self.highest.assign(tf.maximum(self.highest, rate))
        return rate

    def get_config(self) -> dict[str, Any]:
        """Never saved; see `Rates.plain`."""
        raise NotImplementedError(
            "Expected Rates.plain() around saving. Received: a capped schedule"
        )


class Rates:
    """Sets the rate of each phase.

    Args:
        optimizers: those of the model, more than one where its `train_step` is its own; their rates
            may be constants or schedules.
        cap: no rate is above it; None means no cap.
        factor: every rate is multiplied by it before; None leaves them as they are.
        anneal: share of the cap that is left of it in the last epoch of a phase; None for all.
        stretch: every schedule takes so many times as many steps; None leaves them as they are.
    """

    def __init__(
        self,
        optimizers: Sequence[keras.optimizers.Optimizer],
        cap: float | None,
        factor: float | None = None,
        *,
        anneal: float | None = None,
        stretch: float | None = None,
    ) -> None:
        bound = _Cap(height=math.inf if cap is None else cap, anneal=anneal)
        self._rates = [_Rate(each, bound, factor, stretch or 1.0) for each in optimizers]

    def start_phase(self, learning_rate: float | None, *, first: int, epochs: int) -> float:
        """Set the rates.

        Args:
            learning_rate: the phase's own rate; None means each optimizer's rate or schedule.
            first: epochs before the phase.
            epochs: its own, without those that a remedy adds to it.

        Returns:
            The highest rate of the next step.
        """
        span = range(first, first + epochs)
        return max((rate.start_phase(learning_rate, span) for rate in self._rates), default=0.0)

    def start_epoch(self, epoch: int) -> None:
        """Forget the highest rate, and bring a rate that is above the cap under it.

        Args:
            epoch: the epoch, counted from 0 over all phases.
        """
        for rate in self._rates:
            rate.start_epoch(epoch)

    def start_step(self) -> None:
        """Bring a rate that was set within the epoch under the cap, and note it.

        Only a callback of the user's sets one there: where there is none, this need not be called.
        """
        for rate in self._rates:
            rate.start_step()

    def highest(self) -> float:
        """Highest rate since `start_epoch`."""
        return max((rate.highest() for rate in self._rates), default=0.0)

    def go_on(self, highest: float | None) -> None:
        """Go on inside of an epoch with what was the highest rate until there."""
        for rate in self._rates:
            rate.noted = highest

    @property
    def is_constant(self) -> bool:
        """Whether no schedule changes a rate within the phase, and no cap that falls."""
        return all(rate.is_constant for rate in self._rates)

    @property
    def variables(self) -> list[tf.Variable]:
        """What it keeps beside the optimizers' own variables."""
        return [each for rate in self._rates for each in rate.variables]

    @contextlib.contextmanager
    def plain(self) -> Iterator[None]:
        """While inside, each optimizer has its own schedule, so that plain Keras can load it."""
        with contextlib.ExitStack() as stack:
            for rate in self._rates:
                stack.enter_context(rate.plain())
            yield


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Cap:
    """A rate that none is above."""

    height: float
    """What it is, infinite for none."""
    anneal: float | None
    """What share of that is left in a phase's last epoch; None for all."""

    def at(self, epoch: int, span: range) -> float:
        """What is left of it in an epoch of a phase."""
        falling = span[math.ceil(len(span) / 2) :]
        if self.anneal is None or not falling or epoch < falling.start:
            return self.height
        fallen = min((epoch - falling.start + 1) / len(falling), 1.0)
        return self.height * (1 - (1 - self.anneal) * fallen)


class _Rate:
    """The rate of one optimizer; see `Rates`."""

    def __init__(
        self,
        optimizer: keras.optimizers.Optimizer,
        cap: _Cap,
        factor: float | None,
        stretch: float,
    ) -> None:
        self._optimizer = optimizer
        self._cap = cap
        self._span = range(0)
        self._height = cap.height
        self._factor = 1.0 if factor is None else factor
        self.noted: float | None = None
        """The highest constant that a step of the epoch began with, where that is noted."""
        own = keras_internals.learning_rate(self._optimizer)
        self._capped: _Capped | None = None
        self._own: Any = own
        if isinstance(own, keras.optimizers.schedules.LearningRateSchedule):
            self._capped = _Capped(own, cap.height, self._factor, stretch)
        elif callable(own) and not isinstance(own, keras.Variable):
            self._capped = _Capped(lambda step: own(), cap.height, self._factor, 1.0)
        else:
            self._own = float(self._optimizer.learning_rate)
        if self._capped is not None:
            self._optimizer.learning_rate = self._capped

    def start_phase(self, learning_rate: float | None, span: range) -> float:
        self._span = span
        if self._capped is not None:
            self._capped.constant.assign(math.nan if learning_rate is None else learning_rate)
        else:
            wanted = self._own if learning_rate is None else learning_rate
            self._optimizer.learning_rate = wanted * self._factor
        self.start_epoch(span.start)
        rate = float(self._optimizer.learning_rate)
        if self._capped is not None:
            self._capped.highest.assign(0.0)
        return rate

    def start_epoch(self, epoch: int) -> None:
        self._height = self._cap.at(epoch, self._span)
        self.noted = None
        if self._capped is not None:
            self._capped.cap.assign(self._height)
            self._capped.highest.assign(0.0)
        else:
            self._under_cap()

    def start_step(self) -> None:
        if self._capped is None:
            self.noted = max(self.noted or 0.0, self._under_cap())

    def _under_cap(self) -> float:
        """Bring a constant under the cap; returns what it is then."""
        if float(self._optimizer.learning_rate) > self._height:
            self._optimizer.learning_rate = self._height
        return float(self._optimizer.learning_rate)

    def highest(self) -> float:
        if self._capped is not None:
            return float(self._capped.highest)
        return float(self._optimizer.learning_rate) if self.noted is None else self.noted

    @property
    def is_constant(self) -> bool:
        if self._cap.anneal is not None:
            return False
        return self._capped is None or not math.isnan(float(self._capped.constant))

    @property
    def variables(self) -> list[tf.Variable]:
        return [] if self._capped is None else [self._capped.constant, self._capped.highest]

    @contextlib.contextmanager
    def plain(self) -> Iterator[None]:
        if self._capped is None:
            yield
            return
        self._optimizer.learning_rate = self._own
        try:
            yield
        finally:
            self._optimizer.learning_rate = self._capped
