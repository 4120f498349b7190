"""What the watch has read, epoch by epoch, as a Keras callback; its state is plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from orchestrator.diagnosis.watch.epochs import EpochSignals, LayerSignal
from orchestrator.diagnosis.watch.gradients import GradientWatch

Units = npt.NDArray[np.int64]
"""An integer for each unit of a layer, shape (units,)."""


class SignalLog(keras.callbacks.Callback):  # type: ignore[misc]
    """Reads a watch at every epoch's end and keeps what it says.

    Its attributes are plain data, so that a snapshot can keep them.

    Args:
        watch: of the model; None makes one when the training begins, which ends with it.
    """

    def __init__(self, watch: GradientWatch | None = None) -> None:
        super().__init__()
        self._given = watch is not None
        self._watch = watch
        self._epochs: list[list[Any]] = []
        self._heard = np.zeros(0 if watch is None else watch.units, np.int64)
        self._count = 0
        self._sums: list[float] = []
        self._runs = 0
        self._next_look = 1

    @property
    def epochs(self) -> list[EpochSignals]:
        """All epochs until now; those without a step that has applied gradients are left out."""
        return [self._told(each) for each in self._epochs]

    @property
    def last(self) -> EpochSignals | None:
        """The last of them."""
        return self._told(self._epochs[-1]) if self._epochs else None

    def _told(self, read: Sequence[Any]) -> EpochSignals:
        epoch, steps, *figures = read
        named = [] if self._watch is None else self._watch.layers
        layers = (
            LayerSignal(
                layer=each.name,
                units=each.units,
                silent=count,
                gradient_norm=norm,
                update_ratio=share,
            )
            for each, count, norm, share in zip(named, *figures, strict=True)
        )
        return EpochSignals(epoch=epoch, steps=steps, layers=tuple(layers))

    @property
    def last_heard(self) -> dict[str, Units]:
        """The last epoch in which each unit of a layer got a gradient, counted from 1.

        The next is its first silent one. 0 is a unit to which nothing has ever come back, such as
        one that is born dead.
        """
        if self._watch is None:
            return {}
        values = self._watch.split(self._heard)
        return {each.name: heard for each, heard in zip(self._watch.layers, values, strict=True)}

    def last_heard_at(self, reads: Mapping[str, Sequence[Any]]) -> dict[str, Units]:
        """The same at activations that are applied to a layer's units elsewhere.

        Args:
            reads: the handles of the variables between each activation site and those before it,
                the nearest first, see `Probe.reads`.

        Returns:
            By the name of the site; those are left out behind which no layer is watched.
        """
        layers = () if self._watch is None else self._watch.layers
        owners = {id(each.shift.value.handle): each.name for each in layers}
        last = self.last_heard
        nearest = {
            site: next((owners[id(each)] for each in handles if id(each) in owners), None)
            for site, handles in reads.items()
        }
        return {site: last[owner] for site, owner in nearest.items() if owner is not None}

    def end_run(self) -> list[str]:
        """End a run of steps within an epoch.

        Returns:
            The layers to none of whose units anything has come back in it.
        """
        if self._watch is None or not self._watch.layers:
            return []
        sums = self._watch.sums()
        silent = sums == (self._sums or 0.0)
        self._sums = sums.tolist()
        self._runs += 1
        parts = zip(self._watch.layers, self._watch.split(silent), strict=True)
        return [each.name for each, part in parts if part.all()]

    @property
    def may_look(self) -> bool:
        """Whether silence calls for an exact look: after one in vain, once as many runs are over.

        There are networks with layers that rest.
        """
        return self._runs >= self._next_look

    def looked_in_vain(self) -> None:
        """Note that an exact look has found nothing."""
        self._next_look = 2 * self._runs

    @property
    def variables(self) -> list[Any]:
        """What the watch keeps within an epoch."""
        return [] if self._watch is None else self._watch.variables

    def latest(self) -> dict[str, dict[str, float]]:
        """What came back to each layer in the last epoch that was read, by what it is called."""
        return {
            each.layer: {
                "silent_units": float(each.silent),
                "gradient_norm": each.gradient_norm,
                "update_ratio": each.update_ratio,
            }
            for each in (() if self.last is None else self.last.layers)
        }

    @property
    def silent(self) -> list[npt.NDArray[np.bool_]]:
        """Whether each unit of a layer was silent in the last epoch that was read."""
        if self._watch is None or not self._epochs:
            return []
        return self._watch.split(self._heard < self._epochs[-1][0])

    @property
    def overflowed(self) -> bool:
        """Whether some gradient of the last epoch was not finite: the weights may not be, too."""
        return bool(self._epochs) and not np.isfinite(self._epochs[-1][3]).all()

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Begin to watch."""
        if self._watch is None or not (self._given or self._watch.fits(self.model)):
            self._count = 0
            self._begin()
        else:
            self._watch.attach()
            self._watch.reset()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Read what the epoch has shown."""
        watch = self._watch
        self._count = max(self._count, epoch) + 1  # another `fit` may count from 0 again
        if watch is None or not watch.layers:
            self._begin()  # a model of the user's class may have got its weights only now
            return
        reading = watch.read()
        self._sums = []
        if not reading.steps:
            return
        # What is not a number is not zero.
        self._heard = np.where(reading.magnitude != 0, self._count, self._heard)
        silent = [int(np.count_nonzero(each)) for each in watch.split(reading.magnitude == 0)]
        norms = watch.gradient_norms(reading)
        self._epochs.append([self._count, reading.steps, silent, norms, reading.moved.tolist()])

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Leave the model as it was."""
        if self._watch is not None and not self._given:
            self._watch.detach()

    def _begin(self) -> None:
        """Watch the model as it is now."""
        if not self._given:
            self._watch = GradientWatch(self.model)
            self._heard = np.zeros(self._watch.units, np.int64)
            self._epochs = []
            self._watch.attach()
            self._watch.reset()
