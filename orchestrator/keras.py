"""Callbacks for a training of one's own: no config, no run directory, plain `model.fit`."""

from __future__ import annotations

import warnings
from typing import Any, Literal

from orchestrator.config.backend import check_backend

check_backend()  # before Keras is imported, which fails at a backend that is not installed

# ruff: noqa: E402
import keras
import numpy as np
import numpy.typing as npt
from rich.console import Group, RenderableType

from orchestrator.config.sections.checks import Checks
from orchestrator.data.streams.batches import Batches
from orchestrator.diagnosis.diagnose import Arguments, diagnose, input_precision
from orchestrator.diagnosis.examine import non_finite_variables, why_lost
from orchestrator.diagnosis.health import Health
from orchestrator.diagnosis.tracing.probe import Probe
from orchestrator.diagnosis.watch.alarm import Alarm
from orchestrator.diagnosis.watch.epochs import EpochSignals, entirely_silent
from orchestrator.diagnosis.watch.signals import SignalLog
from orchestrator.display import charts, results
from orchestrator.display.signals import describe_signals
from orchestrator.errors import InvalidError, Problem
from orchestrator.model.build import stateful_layers, try_call
from orchestrator.model.layers import undrawn

__all__ = ["DeadNeuronWatch"]

_TRAINING_BATCH = 32
"""Rows of a batch for BatchNorm's batch statistics: as many as Keras's `fit` takes by default."""


class DeadNeuronWatch(keras.callbacks.Callback):  # type: ignore[misc]
    """Sees units fall silent while a model trains: those that get no gradient any more.

    The training has computed each unit's gradient already; the watch adds it up inside the compiled
    step, changes no bit of the training and costs about a hundredth of it. It works with arrays,
    generators and `tf.data`, any optimizer, any model, a `train_step` of one's own.

    A unit without gradient in every step of an epoch is not dead for certain: a dead layer behind
    it, or a saturated output, lets nothing back to it either. So silence is an alarm. With `data`
    it is answered by an exact look at those rows, whose verdict alone decides: the weights are not
    finite, or dead layers cut an output off from the inputs, from which no network has ever
    recovered. Without, a whole layer that was silent for an epoch counts as a failure; so it does
    where a layer is stateful, for what it makes of the rows hangs on the batches before.

    Args:
        on_failure: `warn`, or `stop` to end the training, too.
        data: rows for the exact look, the training's own at best: x, (x, y) or
            (x, y, sample_weight), as the `validation_data` of `fit`; or a `tf.data.Dataset`, a
            `PyDataset`, or a function that returns a generator of batches.
        steps: batches to read of `data`, where these have no end.

    Raises:
        InvalidError: an argument is none of these.
    """

    def __init__(
        self,
        on_failure: Literal["warn", "stop"] = "warn",
        data: Any = None,
        *,
        steps: int | None = None,
    ) -> None:
        super().__init__()
        if on_failure not in ("warn", "stop"):
            message = f"expected warn or stop, received {on_failure!r}"
            raise InvalidError([Problem(file="DeadNeuronWatch", key="on_failure", message=message)])
        self._stops = on_failure == "stop"
        self._data = None if data is None else _split(data)
        self._steps = steps
        self._rows = None if data is None else self._open()
        self._log = SignalLog()
        self._alarm = Alarm()
        self._probe: Probe | None = None
        self.failure: str | None = None
        """Why the training has failed, in one clause; None while it has not."""

    @property
    def epochs(self) -> list[EpochSignals]:
        """What came back to each layer in each epoch."""
        return self._log.epochs

    @property
    def last_heard(self) -> dict[str, npt.NDArray[np.int64]]:
        """The last epoch in which each unit of a layer got a gradient, see `SignalLog`."""
        return self._log.last_heard

    def set_model(self, model: keras.Model) -> None:
        """Note the model; Keras calls it."""
        super().set_model(model)
        self._log.set_model(model)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Begin to watch."""
        self.failure = None
        self._alarm = Alarm()
        self._probe = None if self._rows is None else self._make_probe(self._rows)
        self._log.on_train_begin()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Read what the epoch has shown, and look where it raises the alarm."""
        self._log.on_epoch_end(epoch)
        alarm = self._alarm.raised(self._log.silent)
        if self.failure is not None:
            return
        if alarm or self._log.overflowed:
            self.failure = self._broken()
        if alarm and self.failure is None:
            with undrawn(self.model):
                self.failure = self._cut_off()
                if self.failure is None:
                    self._tell_dead(epoch)
        if self.failure is None:
            return
        stopped = "the training is stopped at the end of " if self._stops else ""
        _warn(f"{stopped}epoch {epoch + 1}: {self.failure}", epoch)
        if self._stops:
            self.model.stop_training = True

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Leave the model as it was."""
        self._log.on_train_end()

    def report(self) -> Health | None:
        """Print what was seen, and what an exact look at `data` tells now.

        Returns:
            What the look has found, which is what `orchestrate check` prints; None without `data`,
            and for a model with a stateful layer.
        """
        parts: list[RenderableType] = [describe_signals(self._log.epochs, self._log.last_heard)]
        health = None
        if self._data is not None and not stateful_layers(self.model):
            x, y, weight = self._data
            health = diagnose(self.model, x, y, sample_weight=weight, steps_per_epoch=self._steps)
            parts.append(results.describe_health(health))
        charts.stdout().print(Group(*parts), highlight=False)
        return health

    def _make_probe(self, rows: Batches) -> Probe | None:
        """What looks at the rows; None where they cannot be run through the model by themselves."""
        probe = Probe(self.model)
        if not probe.can_measure:
            return None
        stateful = stateful_layers(self.model)
        if stateful:
            what = f"layer {stateful[0].name} is stateful, and goes on from the batch before"
            _warn(f"no exact look is possible: {what}", 0)
            return None
        rows.precision = input_precision(self.model)
        with undrawn(self.model):
            try_call(self.model, Arguments(), rows, "file")
        return probe

    def _broken(self) -> str | None:
        """The first weight that is not finite, as a clause; None where all are."""
        return next(iter(non_finite_variables([("weight", self.model.weights)])), None)

    def _cut_off(self) -> str | None:
        """Why an output is cut off, as far as can be told; None where none is."""
        if self._rows is not None and self._probe is not None:
            return why_lost(
                self._probe,
                self._rows,
                Checks(),
                non_finite=(),
                training_batch_size=_TRAINING_BATCH,
            )
        silent = self._silent()
        if not silent:
            return None
        return (
            f"no unit of {' and '.join(silent)} got a gradient in any step of the epoch, as where "
            "all are dead, but not there alone: DeadNeuronWatch(data=(x, y)) looks exactly"
        )

    def _tell_dead(self, epoch: int) -> None:
        """Warn of layers that an exact look finds dead, though no output is cut off."""
        silent = self._silent()
        if not silent or self._rows is None or self._probe is None:
            return
        for layer in self._probe.measure(self._rows).layers:
            if layer.dead == layer.units and layer.name.partition(":")[0] in silent:
                found = f"layer {layer.name} is entirely dead ({layer.dead} of {layer.units} units)"
                path = "other paths lead to the outputs"
                _warn(f"epoch {epoch + 1}: {found} on {layer.rows} rows; {path}", epoch)

    def _silent(self) -> list[str]:
        """The layers that were entirely silent in the last epoch."""
        last = self._log.last
        return [] if last is None else [each.layer for each in entirely_silent(last.layers)]

    def _open(self) -> Batches:
        """The rows for the exact look."""
        x, y, weight = self._data or (None, None, None)
        rows = Batches(x, y, weight, steps=self._steps)
        if rows.once:
            message = "expected batches that can be read again, received an iterator"
            hint = "pass the function that makes it"
            raise InvalidError(
                [Problem(file="DeadNeuronWatch", key="data", message=message, hint=hint)]
            )
        return rows


def _split(data: Any) -> tuple[Any, Any, Any]:
    """Inputs, targets and weights of what is given as `validation_data` is."""
    if not isinstance(data, tuple):
        return data, None, None
    if not 1 <= len(data) <= 3:
        message = f"expected x, (x, y) or (x, y, sample_weight), received {len(data)} parts"
        raise InvalidError([Problem(file="DeadNeuronWatch", key="data", message=message)])
    x, y, weight = (*data, None, None)[:3]
    return x, y, weight


def _warn(message: str, epoch: int) -> None:
    """Warn in the callback's name: there is no line of the user's that is at fault."""
    warnings.warn_explicit(message, UserWarning, "DeadNeuronWatch", epoch + 1)
