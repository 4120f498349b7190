"""The whole state of an attempt at a step, from which its training goes on to the same bits.

A snapshot is a file of arrays and JSON, written whole or not at all; reading it runs no code. It
only saves time: an attempt without one is trained again from its beginning, to the same result.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import os
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import msgspec
import numpy as np

from orchestrator.model import keras_internals
from orchestrator.model.build import plain_optimizers
from orchestrator.model.layers import plain_variables
from orchestrator.record.checks import Break
from orchestrator.record.encoding import jsonable
from orchestrator.record.records import Finding
from orchestrator.record.storage.directory import AttemptPaths, Place
from orchestrator.training.attempt import checkpoints, states
from orchestrator.training.attempt.building.build import Built
from orchestrator.training.attempt.callbacks import EpochLog, Epochs

_SHARE = 100
"""A snapshot is written when training has taken so many times what the last one took."""
_BYTES_A_SECOND = 500e6
"""How fast the first one is thought to be written, before there is a measurement."""
_MEMORY = 0.1
"""Share of the machine's memory for the snapshots that are kept there."""
_SAFE_SECONDS = 2.0
"""An older file is deleted so long after a newer one is safe: by then the supervisor has recorded
the epochs before the newer one, or is gone and this process with it."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """All that the training of an attempt goes on from."""

    place: Place
    """Where it was taken."""
    variables: Sequence[np.ndarray[Any, Any]]
    """Values of the weights, optimizer variables, metrics and generators, as `variables` lists
    them."""
    arrays: dict[str, np.ndarray[Any, Any]]
    """Arrays of `state`."""
    content: bytes
    """Everything else, as JSON: what was logged grows with every epoch, and takes less so."""

    @property
    def state(self) -> dict[str, Any]:
        """What the JSON says."""
        found: dict[str, Any] = json.loads(self.content)
        return found

    @property
    def size(self) -> int:
        """Bytes."""
        arrays = sum(each.nbytes for each in (*self.variables, *self.arrays.values()))
        return arrays + len(self.content)

    @property
    def seed(self) -> int:
        """The seed that screening chose."""
        return int(self.state["seed"])

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What screening found out."""
        found: tuple[Finding, ...] = msgspec.convert(self.state["findings"], tuple[Finding, ...])
        return found

    @property
    def trained(self) -> list[Epochs]:
        """What the epochs of each phase logged, the last of which goes on."""
        return [
            Epochs(
                count=each["count"],
                metrics=each["metrics"],
                losses={number: loss for number, loss in each["losses"]},
                penalties={number: value for number, value in each.get("penalties", ())},
                rates=tuple(each["rates"]),
                first_loss=each["first_loss"],
                broken=msgspec.convert(each.get("broken"), Break | None),
            )
            for each in self.state["trained"]
        ]

    @property
    def stopped(self) -> bool:
        """Whether a callback has ended the phase."""
        return bool(self.state["stopped"])


def variables(built: Built) -> list[Any]:
    """Every variable that training changes, each once, in an order that a fresh build repeats."""
    model = built.model
    generator = keras_internals.global_generator()
    optimizers = [] if model.optimizer is None else [model.optimizer]
    found = [
        *model.variables,
        *plain_variables(model),
        *(each for one in (*optimizers, *plain_optimizers(model)) for each in one.variables),
        *(each for metric in model.metrics for each in metric.variables),
        *built.rates.variables,
        *built.signals.variables,
        *([] if generator is None else [generator.state]),
    ]
    return list({id(each): each for each in found}.values())


def capture(
    place: Place,
    built: Built,
    callbacks: Sequence[keras.callbacks.Callback],
    trained: Sequence[Epochs],
) -> Snapshot:
    """Take a snapshot.

    Args:
        place: where the training is.
        built: what is trained.
        callbacks: those whose attributes are kept: the user's, and Keras's history.
        trained: what the epochs of each phase logged, this one's last.

    Raises:
        OpaqueError: a callback holds what cannot be kept.
    """
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    held = variables(built)
    epochs = [
        {
            **dataclasses.asdict(each),
            "losses": [*each.losses.items()],
            "penalties": [*each.penalties.items()],
            "rates": [*each.rates],
            "broken": jsonable(each.broken),
        }
        for each in trained
    ]
    state = {
        "seed": built.settings.seed,
        "findings": jsonable(built.findings),
        "trained": epochs,
        "stopped": bool(built.model.stop_training),
        "highest_rate": built.rates.highest(),
        "feed": built.pipeline.mark(place.epoch, place.step),
        "callbacks": states.pack_callbacks(callbacks, arrays, held),
        "generators": states.pack_generators(arrays),
    }
    arrays = {name: each.copy() for name, each in arrays.items()}
    content = json.dumps(state).encode()
    return Snapshot(place=place, variables=values(held), arrays=arrays, content=content)


def values(found: Sequence[Any]) -> list[np.ndarray[Any, Any]]:
    """What variables have now; TensorFlow copies it when they change."""
    return [np.asarray(_value(each)) for each in found]


def room() -> float:
    """Bytes that states in memory may take."""
    return _MEMORY * _machine_memory()


def _value(variable: Any) -> Any:
    return variable.numpy() if hasattr(variable, "numpy") else variable.value.numpy()


def fits(snapshot: Snapshot, built: Built) -> bool:
    """Whether the model has the variables of a snapshot."""
    there = [(tuple(each.shape), _dtype(each)) for each in variables(built)]
    return there == [(each.shape, each.dtype.name) for each in snapshot.variables]


def _dtype(variable: Any) -> str:
    return str(getattr(variable.dtype, "name", variable.dtype))


def restore_variables(snapshot: Snapshot, built: Built) -> None:
    """Give the variables the values that they had, and the global generators theirs."""
    for variable, value in zip(variables(built), snapshot.variables, strict=True):
        variable.assign(value)
    states.unpack_generators(snapshot.state["generators"], snapshot.arrays)


def with_present_values(snapshot: Snapshot, built: Built) -> Snapshot:
    """A snapshot of the same place, with the values that the variables have now."""
    values = [np.array(_value(each)) for each in variables(built)]
    return dataclasses.replace(snapshot, variables=values)


def write(snapshot: Snapshot, directory: Path) -> Path:
    """Write a snapshot into the directory of its attempt, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    path = AttemptPaths(directory).snapshot(snapshot.place)
    content: dict[str, Any] = {f"v{index}": each for index, each in enumerate(snapshot.variables)}
    content |= snapshot.arrays
    # Of a type that NumPy does not know, as bfloat16, it writes the bytes alone.
    types = [each.dtype for each in content.values()]
    content["dtypes"] = np.array([each.name if each.isbuiltin == 2 else "" for each in types])
    content["state"] = np.frombuffer(snapshot.content, np.uint8)
    with checkpoints.replacing(path, ".npz") as temporary:
        np.savez(temporary, **content)
    return path


def newest(directory: Path, until: Place, *, inside: bool = True) -> Snapshot | None:
    """The newest snapshot of an attempt that is whole, and not beyond a place.

    Args:
        directory: the attempt's.
        until: the end of an epoch.
        inside: whether it may be inside of the epoch that follows.
    """
    for place, path in AttemptPaths(directory).snapshots():
        beyond = place.epoch == until.epoch and place.step and not inside
        if place.phases <= until.phases and place.epoch <= until.epoch and not beyond:
            with contextlib.suppress(
                OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile
            ):
                return _read(path, place)
    return None


def _read(path: Path, place: Place) -> Snapshot:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
        found = {name: content[name] for name in content.files}  # each is held to its checksum
    state = found.pop("state").tobytes()
    json.loads(state)  # else it is damaged
    names = found.pop("dtypes").tolist()
    for key, name in zip([*found], names, strict=False):  # older files name those of variables
        if name and found[key].dtype.name != name:
            found[key] = found[key].view(keras_internals.dtype(name))
    values = [found.pop(key) for key in [*found] if key.startswith("v")]
    return Snapshot(place=place, variables=values, arrays=found, content=state)


class LostError(Exception):
    """The state that a training is to go on from cannot be kept; the message says why."""


class Keeper(keras.callbacks.Callback):  # type: ignore[misc]
    """Takes snapshots while an attempt trains, last of all callbacks: on disk and in memory.

    A hundredth of the training's time is what they may cost.

    Args:
        built: what is trained.
        directory: the attempt's, which gets the files.
        seconds: how old the last file may become; 0 writes one at every epoch's end.
        warn: told why none can be written.
        hinder: told, once, why none can be taken. That hangs on what callbacks hold at epochs'
            ends, and never on the clock.
        until: number of an epoch, from 1, at whose end the training ends, and one is taken if any
            can be.
    """

    def __init__(
        self,
        built: Built,
        directory: Path,
        seconds: float,
        warn: Callable[[str], None] = lambda text: None,
        hinder: Callable[[str], None] = lambda reason: None,
        *,
        until: int | None = None,
    ) -> None:
        super().__init__()
        self._built = built
        self._directory = directory
        self._seconds = seconds
        self._warn = warn
        self._hinder = hinder
        self._resumes = built.pipeline.resumes
        self._epoch = 0
        self._offset = 0
        self._is_sound: Callable[[], bool] = lambda: True
        self._before: Sequence[Epochs] = ()
        self._log: EpochLog | None = None
        self._callbacks: Sequence[keras.callbacks.Callback] = ()
        self._taken = self._written = time.monotonic()
        self._taking = 0.0
        self._fits = True
        self._writing: float | None = None
        self._stale: list[Path] = []
        self.until = until
        """Number of the epoch at whose end the training ends; None for no such."""
        self.obstacle: str | None = None
        """Why none can be taken."""
        self.kept: collections.deque[Snapshot] = collections.deque()
        """Those of epochs' ends in memory, the newest last."""
        self.rest: Snapshot | None = None
        """That of the end of an epoch which began inside, from which the next `fit` goes on, or of
        epoch `until`."""

    def start_phase(
        self,
        before: Sequence[Epochs],
        log: EpochLog,
        callbacks: Sequence[keras.callbacks.Callback],
    ) -> None:
        """Note what the next phase begins with.

        Args:
            before: what the epochs of the phases before logged; their number is the phase's.
            log: logs the epochs of this one.
            callbacks: those whose attributes are kept.
        """
        self._before, self._log, self._callbacks = before, log, callbacks

    def start_inside(self, step: int, is_sound: Callable[[], bool]) -> None:
        """Note that the next epoch begins at a step inside of it.

        Args:
            step: steps of it that were trained; 0 for its beginning.
            is_sound: tells whether a state inside of an epoch may be gone on from. What has broken
                since the last look is not: the next one is to find the step that has broken it.
        """
        self._offset, self._is_sound = step, is_sound

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Note where the training is."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Write one inside of an epoch that takes long."""
        if self._resumes == "steps" and self._seconds > 0 and self._is_due():
            done = self._offset + batch + 1
            # At its last step the epoch's end is next.
            if done < self._built.pipeline.steps and self._is_sound():
                try:
                    self._keep(self._epoch, done, on_disk=True)
                except states.OpaqueError:  # which may be gone by then
                    self._resumes = "epochs"

    def leave(self, epoch: int) -> None:
        """Write the newest one that leads to an epoch's end, for another attempt.

        Args:
            epoch: its number, from 1 over all phases.
        """
        found = [each for each in self.kept if each.place.epoch <= epoch]
        if found:
            self._write(found[-1], time.monotonic())

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Take one, and write it where it is time."""
        inside, self._offset = self._offset, 0
        self._find_obstacle()
        if epoch + 1 == self.until:
            if self.obstacle is None:
                self.rest = self._keep(epoch + 1, 0, on_disk=False)
            self.model.stop_training = True  # which is no part of the state
            return
        if self._resumes == "never":
            return
        now = time.monotonic()
        on_disk = self._is_due()
        if on_disk or inside or (self._fits and now - self._taken >= _SHARE * self._taking):
            taken = self._keep(epoch + 1, 0, on_disk=on_disk)
            self.rest = taken if inside else None

    def _find_obstacle(self) -> None:
        if self._resumes == "never":
            return
        try:
            states.pack_callbacks(self._callbacks, {}, variables(self._built))
        except states.OpaqueError as error:
            self._resumes, self.obstacle = "never", str(error)
            self._hinder(self.obstacle)

    def _is_due(self) -> bool:
        now = time.monotonic()
        if self._stale and now - self._written >= _SAFE_SECONDS:
            self._delete_stale()
        if self._seconds == 0:
            return True
        writing = self._writing
        if writing is None:
            if now - self._written < self._seconds:
                return False
            size = sum(int(np.prod(each.shape)) * 4 for each in self.model.variables)
            writing = 3 * size / _BYTES_A_SECOND  # with the state of Adam
        return now - self._written >= max(self._seconds, _SHARE * writing)

    def _keep(self, epoch: int, step: int, *, on_disk: bool) -> Snapshot:
        start = time.monotonic()
        assert self._log is not None  # noqa: S101 - start_phase came before
        place = Place(phases=len(self._before), epoch=epoch, step=step)
        trained = [*self._before, self._log.epochs]
        taken = capture(place, self._built, self._callbacks, trained)
        self._taken = time.monotonic()
        self._taking = self._taken - start
        if step == 0:
            self._remember(taken)
        if on_disk:
            self._write(taken, start)
        return taken

    def _remember(self, taken: Snapshot) -> None:
        self.kept.append(taken)
        while self.kept and sum(each.size for each in self.kept) > room():
            self.kept.popleft()
        self._fits = bool(self.kept)

    def _write(self, taken: Snapshot, start: float) -> None:
        self._delete_stale()
        try:
            path = write(taken, self._directory)
        except OSError as error:
            # The training may well get to its end without, or until the disk has room again.
            self._warn(f"no snapshot can be written: {error.strerror}")
        else:
            others = (each for _, each in AttemptPaths(self._directory).snapshots())
            self._stale = [each for each in others if each != path]
        self._written = time.monotonic()
        self._writing = self._written - start

    def _delete_stale(self) -> None:
        for path in self._stale:
            path.unlink(missing_ok=True)
        self._stale = []


class Resume(keras.callbacks.Callback):  # type: ignore[misc]
    """Gives a training the state of a snapshot, once all other callbacks have begun.

    Args:
        snapshot: what it goes on from.
        built: what is trained.
        callbacks: those whose attributes were kept.
    """

    def __init__(
        self, snapshot: Snapshot, built: Built, callbacks: Sequence[keras.callbacks.Callback]
    ) -> None:
        super().__init__()
        self._snapshot = snapshot
        self._built = built
        self._callbacks = callbacks
        self._begun = False

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Restore all of it."""
        self._restore()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Inside of an epoch once more, for Keras and others begin the epoch anew."""
        if self._snapshot.place.step and not self._begun:
            self._restore()
        self._begun = True

    def _restore(self) -> None:
        snapshot = self._snapshot
        packed = snapshot.state["callbacks"]
        states.unpack_callbacks(packed, self._callbacks, snapshot.arrays)
        restore_variables(snapshot, self._built)
        self._built.rates.go_on(snapshot.state.get("highest_rate"))


def _machine_memory() -> int:
    """Bytes; 0 where the platform does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0
