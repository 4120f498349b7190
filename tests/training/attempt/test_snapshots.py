"""An attempt that goes on from any of its snapshots arrives at the same bits."""

from __future__ import annotations

import collections
import dataclasses
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from orchestrator.config.schema import Config
from orchestrator.errors import InvalidError
from orchestrator.model import keras_internals
from orchestrator.record.checks import FiniteCheck
from orchestrator.record.events import (
    AttemptResumed,
    EpochEnded,
    ObstacleMet,
    PhaseEnded,
    PhaseStarted,
    Warned,
)
from orchestrator.record.records import Settings
from orchestrator.record.storage.directory import AttemptPaths, Place
from orchestrator.training.attempt import attempt as training
from orchestrator.training.attempt import snapshots, states
from orchestrator.training.attempt.snapshots import Keeper, Snapshot
from orchestrator.training.attempt.task import Begun, Origin, Task
from tests.conftest import MakeConfig

LAYERS = [
    {"Dense": {"units": 8, "activation": "relu"}},
    {"BatchNormalization": {}},
    {"Dropout": {"rate": 0.3}},
    {"Dense": {"units": 1}},
]
SCHEDULE = {"CosineDecay": {"initial_learning_rate": 0.01, "decay_steps": 30}}
CALLBACKS = {"callbacks": [{"EarlyStopping": {"monitor": "val_loss", "patience": 1,
                                              "restore_best_weights": True}}]}  # fmt: skip
PHASES = [{"name": "a", "epochs": 2}, {"name": "b", "epochs": 3, "learning_rate": 0.003}]


def _task(config: Config, directory: Path, begun: Begun | None = None) -> Task:
    directory.mkdir(exist_ok=True)
    return Task(
        config=config,
        settings=Settings(seed=config.seed),
        attempt=1,
        directory=directory,
        fingerprint=None,
        begun=begun,
    )


def _train(task: Task) -> list[Any]:
    events: list[Any] = []
    training.train(task, events.append)
    return events


def _phases(events: list[Any]) -> list[Any]:
    return [_repeatable(event.phase) for event in events if isinstance(event, PhaseEnded)]


def _repeatable(phase: Any) -> Any:
    """What of a phase is to come again: all but its seconds."""
    return (
        phase.phase,
        phase.epochs,
        phase.weights,
        phase.metrics,
        phase.first_loss,
        phase.highest_loss,
        phase.checks,
    )


def _epochs(events: list[Any]) -> list[Any]:
    return [
        (event.epoch, event.metrics, event.learning_rate)
        for event in events
        if isinstance(event, EpochEnded)
    ]


@pytest.fixture
def noisy(make_config: MakeConfig, tmp_path: Path) -> Callable[..., Config]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 3)).astype(np.float32)
    y = rng.normal(size=(120, 1)).astype(np.float32)
    np.savez(tmp_path / "rows.npz", x=x, y=y)

    def make(**sections: Any) -> Config:
        optimizer = {"Adam": {"learning_rate": SCHEDULE, "use_ema": True}}
        given: dict[str, Any] = {
            "data": {
                "train": {"npz": str(tmp_path / "rows.npz"), "x": "x", "y": "y"},
                "validation": {"fraction": 0.2},
            },
            "model": {"layers": LAYERS},
            "compile": {"optimizer": optimizer, "loss": "mse", "metrics": ["mae"]},
            "phases": PHASES,
            "checks": {"learned": "off", "prediction_variance": "off", "findings": "off"},
            "fit": CALLBACKS,
            "checkpoint_seconds": 0,
        }
        return make_config(**{**given, **sections})

    return make


def _every_fifth(self: Keeper) -> bool:
    """Due at every fifth time that it is asked, inside of epochs and at their ends."""
    self._asked = getattr(self, "_asked", 0) + 1  # type: ignore[attr-defined]
    return self._asked % 5 == 0  # type: ignore[attr-defined, no-any-return]


def _at_the_fifth_time(self: Keeper) -> bool:
    """Due once, after the first step of the second epoch."""
    self._asked = getattr(self, "_asked", 0) + 1  # type: ignore[attr-defined]
    return self._asked == 5  # type: ignore[attr-defined, no-any-return]


HOLDING = """
import keras
import tensorflow as tf

class Holding(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.calls = tf.Variable(0.0, trainable=False)
        self.generator = tf.random.Generator.from_seed(3)

    def call(self, x):
        calls = self.calls.assign_add(1.0)
        return x + 0.01 * calls + 0.1 * self.generator.normal(tf.shape(x))

def build():
    hidden = [Holding(), keras.layers.BatchNormalization(), keras.layers.Dropout(0.3)]
    return keras.Sequential([keras.Input((3,)), *hidden, keras.layers.Dense(1)])
"""
"""A layer that holds variables of TensorFlow's, which Keras does not track, and changes them in
inference, too."""


@pytest.fixture
def holding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    (tmp_path / "holding.py").write_text(HOLDING)
    monkeypatch.syspath_prepend(str(tmp_path))
    return {"factory": {"callable": "holding:build"}}


@pytest.mark.parametrize(
    ("inside", "held"),
    [(False, False), (True, False), (False, True)],
    ids=["epochs", "steps", "tensorflow"],
)
def test_from_every_snapshot_the_training_arrives_at_the_same_bits(
    noisy: Callable[..., Config],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    holding: dict[str, Any],
    inside: bool,
    held: bool,
) -> None:
    model = holding if held else {"layers": LAYERS}
    config = noisy(checkpoint_seconds=100 if inside else 0, model=model)
    kept = tmp_path / "kept"
    kept.mkdir()
    write = snapshots.write

    def spy(snapshot: Any, directory: Path) -> Path:
        path = write(snapshot, directory)
        shutil.copy(path, kept)
        return path

    with monkeypatch.context() as patched:
        patched.setattr(snapshots, "write", spy)
        if inside:
            patched.setattr(Keeper, "_is_due", _every_fifth)
        whole = _train(_task(config, tmp_path / "whole"))
    phases, epochs = _phases(whole), _epochs(whole)
    places = AttemptPaths(kept).snapshots()
    assert len(places) >= 3 and any(place.step for place, _ in places) == inside
    records = [event.phase for event in whole if isinstance(event, PhaseEnded)]
    for place, path in [places[0], places[len(places) // 2]]:
        directory = tmp_path / f"from-{path.stem}"
        directory.mkdir()
        shutil.copy(path, directory)
        until = Place(len(records), len(epochs))
        begun = Begun(restarts=1, place=until, phases=tuple(records))
        again = _train(_task(config, directory, begun))
        (resumed,) = (event for event in again if isinstance(event, AttemptResumed))
        assert (resumed.phases, resumed.epoch, resumed.step) == place
        assert _epochs(again) == epochs[place.epoch :]
        assert _phases(again) == phases[place.phases :]


def test_an_attempt_goes_on_from_an_epoch_of_another_that_left_a_snapshot_inside_of_it(
    noisy: Callable[..., Config],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    holding: dict[str, Any],
) -> None:
    phases = [{"name": "a", "epochs": 3}]
    config = noisy(checkpoint_seconds=100, phases=phases, fit={}, model=holding)
    with monkeypatch.context() as patched:
        patched.setattr(Keeper, "_is_due", _at_the_fifth_time)
        whole = _train(_task(config, tmp_path / "whole"))
    ((place, _),) = AttemptPaths(tmp_path / "whole").snapshots()
    assert place == Place(1, 1, 1)
    known = tuple(event.phase for event in whole if isinstance(event, PhaseEnded))[:1]
    for kept in ("whole", "nothing"):
        other = _task(config, tmp_path / kept)
        origin = Origin(task=other, phases=known, epoch=2)
        task = dataclasses.replace(_task(config, tmp_path / f"from-{kept}"), origin=origin)
        again = _train(task)
        assert _epochs(again) == _epochs(whole)[2:]
        assert _phases(again) == _phases(whole)[1:]


def test_two_phases_are_one_training_where_each_ends_with_averages_of_its_weights(
    noisy: Callable[..., Config], tmp_path: Path
) -> None:
    found = []
    for epochs in ([4], [2, 2]):
        phases = [{"name": f"p{index}", "epochs": each} for index, each in enumerate(epochs)]
        config = noisy(phases=phases, fit={}, checkpoint_seconds=100)
        events = _train(_task(config, tmp_path / f"{len(epochs)}"))
        found.append((_epochs(events), _phases(events)[-1][2:4]))
    assert found[0] == found[1]


def test_no_snapshot_inside_of_an_epoch_hides_the_step_that_has_broken_a_weight(
    noisy: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = np.random.default_rng(0).normal(size=(1000, 3)).astype(np.float32)
    np.savez(tmp_path / "rows.npz", x=rows, y=np.abs(rows).sum(1, keepdims=True))
    config = noisy(
        model={"layers": LAYERS[-1:]},
        compile={"optimizer": {"SGD": {"learning_rate": 1.6}}, "loss": "mse"},
        phases=[{"name": "a", "epochs": 1}],
        fit={},
        batch_size=8,
        checkpoint_seconds=100,
    )
    with monkeypatch.context() as patched:
        patched.setattr(Keeper, "_is_due", lambda self: True)
        whole = _train(_task(config, tmp_path / "1"))
    directory = tmp_path / "1"
    records = tuple(event.phase for event in whole if isinstance(event, PhaseEnded))
    (place, *_) = (place for place, _ in AttemptPaths(directory).snapshots() if place.step)
    assert place.step % 64
    begun = Begun(restarts=1, place=Place(1, 0), phases=records)
    again = _train(_task(config, directory, begun))
    (resumed,) = (event for event in again if isinstance(event, AttemptResumed))
    assert resumed.step == place.step
    found = [event.phase for event in again if isinstance(event, PhaseEnded)]
    first, second = (phases[-1].find(FiniteCheck) for phases in (records, found))
    assert first is not None and second is not None and first.measured.broken is not None
    assert first.measured.broken == second.measured.broken
    assert records[-1].weights == found[-1].weights


def test_what_goes_on_from_another_attempt_has_the_rate_that_a_remedy_has_raised(
    noisy: Callable[..., Config], tmp_path: Path
) -> None:
    compiled = {"optimizer": {"SGD": {"learning_rate": 0.001}}, "loss": "mse"}
    config = noisy(phases=[{"name": "a", "epochs": 3}], fit={}, compile=compiled)
    other = _task(config, tmp_path / "whole")
    known = tuple(event.phase for event in _train(other) if isinstance(event, PhaseEnded))[:1]
    task = dataclasses.replace(
        _task(config, tmp_path / "raised"),
        settings=Settings(seed=config.seed, learning_rate_factor=10.0),
        origin=Origin(task=other, phases=known, epoch=1),
    )
    again = _train(task)
    assert [rate for _, _, rate in _epochs(again)] == pytest.approx([0.01, 0.01])


def test_the_rate_that_is_told_first_is_that_of_the_step_it_goes_on_with(
    noisy: Callable[..., Config], tmp_path: Path
) -> None:
    phases = [{"name": "a", "epochs": 2}, {"name": "b", "epochs": 2}]
    config = noisy(phases=phases, fit={}, model={"layers": LAYERS[::3]})
    whole = _train(_task(config, tmp_path))
    records = [event.phase for event in whole if isinstance(event, PhaseEnded)]
    begun = Begun(restarts=1, place=Place(2, 4), phases=tuple(records[:2]))
    again = _train(_task(config, tmp_path, begun))
    (started,) = (event for event in again if isinstance(event, PhaseStarted))
    rates = [event.learning_rate for event in whole if isinstance(event, EpochEnded)]
    assert (started.phase, started.done > 0) == ("b", True)
    assert started.learning_rate < rates[1] < rates[0]  # the schedule falls with every step


def test_a_damaged_or_foreign_snapshot_is_passed_over(
    noisy: Callable[..., Config], tmp_path: Path
) -> None:
    config = noisy(phases=[{"name": "a", "epochs": 2}], model={"layers": LAYERS[::3]})
    whole = _train(_task(config, tmp_path / "whole"))
    ((place, path),) = AttemptPaths(tmp_path / "whole").snapshots()[:1]
    content = path.read_bytes()
    damaged = bytearray(content)
    damaged[len(damaged) // 2] ^= 1
    until = Place(1, 2)
    directory = tmp_path / "again"
    directory.mkdir()
    for broken in (b"", content[: len(content) // 2], bytes(damaged)):
        (directory / path.name).write_bytes(broken)
        assert snapshots.newest(directory, until) is None
    (directory / path.name).write_bytes(content)
    assert snapshots.newest(directory, until) is not None
    assert snapshots.newest(directory, Place(1, place.epoch - 1)) is None  # not in the record
    other = noisy(
        phases=[{"name": "a", "epochs": 2}], model={"layers": [*LAYERS[:1], *LAYERS[-1:]] * 2}
    )
    again = _train(_task(other, directory, Begun(restarts=1, place=until, phases=())))
    (resumed,) = (event for event in again if isinstance(event, AttemptResumed))
    assert (resumed.phases, resumed.epoch) == (0, 0)
    assert len(_epochs(again)) == len(_epochs(whole)) == 2


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn"])
def test_types_that_numpy_does_not_know_come_back(tmp_path: Path, dtype: str) -> None:
    kind = keras_internals.dtype(dtype)
    values = [np.ones(shape, kind) for shape in ((2, 3), ())]
    held = [*values, np.array(["text", ""])]
    arrays: dict[str, Any] = {}
    packed = states.pack([*held, kind.type(1)], arrays)
    kept = Snapshot(place=Place(1, 2), variables=values, arrays=arrays, content=b"{}")
    snapshots.write(kept, tmp_path)
    found = snapshots.newest(tmp_path, Place(1, 2))
    assert found is not None
    *again, scalar = states.unpack(packed, found.arrays)
    assert (scalar, type(scalar)) == (1, kind.type)
    for value, other in zip([*values, *held], [*found.variables, *again], strict=True):
        assert (other.dtype, other.shape) == (value.dtype, value.shape)
        assert (other == value).all()


OPAQUE = """
import keras
import numpy as np

class Opaque(keras.callbacks.Callback):
    def __init__(self, since=None):
        super().__init__()
        self.since = since
        self.seen = np.zeros(1)
        if since is None:
            self.thing = object()

    def on_train_begin(self, logs=None):
        if self.since == "begin":
            self.thing = object()

    def on_epoch_end(self, epoch, logs=None):
        self.seen += 1
        if epoch + 1 == self.since:
            self.thing = object()
"""
"""Holds what no snapshot can: from its making on, from the training's, or from an epoch's end."""


@pytest.fixture
def opaque(
    noisy: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Any], Config]:
    (tmp_path / "opaque_callbacks.py").write_text(OPAQUE)
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(since: Any) -> Config:
        return noisy(
            phases=[{"name": "a", "epochs": 3}],
            model={"layers": LAYERS[::3]},
            fit={"callbacks": [{"opaque_callbacks:Opaque": {"since": since}}]},
        )

    return make


@pytest.mark.parametrize("since", [None, "begin", 2])
def test_a_callback_that_cannot_be_kept_stands_against_going_on_from_the_attempt(
    opaque: Callable[[Any], Config], tmp_path: Path, since: Any
) -> None:
    config = opaque(since)
    events = _train(_task(config, tmp_path / "1"))
    told = "Opaque.thing is an object of builtins.object"
    (warning,) = (event.message for event in events if isinstance(event, Warned))
    (met,) = (event for event in events if isinstance(event, ObstacleMet))
    assert told in warning
    assert (met.remedy, told in met.reason) == ("rewind", True)
    places = [place for place, _ in AttemptPaths(tmp_path / "1").snapshots()]
    assert places == ([Place(1, 1)] if since == 2 else [])
    known = tuple(event.phase for event in events if isinstance(event, PhaseEnded))[:1]
    origin = Origin(task=_task(config, tmp_path / "nothing"), phases=known, epoch=2)
    with pytest.raises(InvalidError, match=f"after epoch 2 cannot be kept, because {told}"):
        _train(dataclasses.replace(_task(config, tmp_path / "2"), origin=origin))


class Holder(keras.callbacks.Callback):  # type: ignore[misc]
    def __init__(self, thing: Any = None) -> None:
        super().__init__()
        self.thing = thing
        self.method = self.on_epoch_end


def _closure(held: Any) -> Callable[..., Any]:
    return lambda epoch, logs: held


def _counting() -> Callable[..., Any]:
    count = 0

    def count_epochs(epoch: int, logs: Any) -> None:
        nonlocal count
        count += 1

    return count_epochs


@pytest.fixture(scope="module")
def network() -> keras.Model:
    hidden = keras.layers.Dense(2, activation="relu")
    return keras.Sequential([keras.Input((3,)), hidden, keras.layers.Dense(1)])


KEPT: list[Callable[[keras.Model], Any]] = [
    lambda network: network,
    lambda network: network.layers[0],
    lambda network: keras.Model(network.inputs, network.layers[0].output),
    lambda network: network.predict,
    lambda network: _closure(network),
    lambda network: _closure((1, "text", _closure(2.0), len, np.mean)),
]


@pytest.mark.parametrize("make", KEPT)
def test_what_is_kept_with_the_model_and_functions_of_what_never_changes_need_no_place(
    network: keras.Model, make: Callable[[keras.Model], Any]
) -> None:
    plateau = keras.callbacks.ReduceLROnPlateau(monitor="loss")
    callbacks = [Holder(make(network)), plateau]
    packed = states.pack_callbacks(callbacks, {}, network.variables)
    assert packed[0] == {}


OTHER: list[Callable[[keras.Model], Any]] = [
    keras.models.clone_model,
    lambda network: keras.models.clone_model(network).predict,
    lambda network: _closure(keras.optimizers.Adam()),
    lambda network: _closure([1]),
    lambda network: _closure(_closure({})),
    lambda network: _counting(),
    lambda network: [].append,
    lambda network: Holder().on_train_end,
]


@pytest.mark.parametrize("make", OTHER)
@pytest.mark.parametrize(
    "hold", [Holder, lambda thing: keras.callbacks.LambdaCallback(on_epoch_end=thing)]
)
def test_models_of_a_callback_s_own_and_what_its_functions_change_are_opaque(
    network: keras.Model, make: Callable[[keras.Model], Any], hold: Callable[[Any], Any]
) -> None:
    with pytest.raises(states.OpaqueError, match=r"(thing|on_epoch_end) is an? "):
        states.pack_callbacks([hold(make(network))], {}, network.variables)


def test_a_racer_ends_at_its_epoch_though_it_can_leave_no_snapshot(
    opaque: Callable[[Any], Config], tmp_path: Path
) -> None:
    events: list[Any] = []
    task = dataclasses.replace(_task(opaque("begin"), tmp_path / "1"), race=1)
    standing = training.train(task, events.append)
    assert standing is not None and standing.epochs == len(_epochs(events)) == 1


def test_what_went_on_inside_of_an_epoch_begins_anew_where_its_end_cannot_be_kept(
    opaque: Callable[[Any], Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = opaque(2).model_copy(update={"checkpoint_seconds": 100})
    with monkeypatch.context() as patched:
        patched.setattr(Keeper, "_is_due", _at_the_fifth_time)
        whole = _train(_task(config, tmp_path / "1"))
    ((place, _),) = AttemptPaths(tmp_path / "1").snapshots()
    assert place == Place(1, 1, 1)
    known = tuple(event.phase for event in whole if isinstance(event, PhaseEnded))
    begun = Begun(restarts=1, place=Place(1, 1), phases=known[:1])
    again = _train(_task(config, tmp_path / "1", begun))
    resumed = [event for event in again if isinstance(event, AttemptResumed)]
    assert [(each.epoch, each.step) for each in resumed] == [(1, 1), (0, 0)]
    anew = again[again.index(resumed[1]) :]
    assert (_epochs(anew), _phases(anew)) == (_epochs(whole), _phases(whole))


VALUES = [
    None,
    True,
    3,
    2**80,
    float("inf"),
    "text",
    [1, (2, {"a": {3, 4}}), frozenset({5})],
    {1: "one", (2, 3): [4.5]},
    collections.deque([1, 2], maxlen=3),
    np.float32(0.1),
    np.arange(6, dtype=np.int16).reshape(2, 3),
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_plain_data_comes_back_as_it_was(value: Any) -> None:
    arrays: dict[str, Any] = {}
    again = states.unpack(states.pack(value, arrays), arrays)
    assert type(again) is type(value)
    assert np.array_equal(again, value) if isinstance(value, np.ndarray) else again == value


def test_both_global_generators_come_back() -> None:
    arrays: dict[str, Any] = {}
    packed = states.pack_generators(arrays)
    drawn = (random.random(), np.random.rand())
    states.unpack_generators(packed, arrays)
    assert (random.random(), np.random.rand()) == drawn


@pytest.mark.parametrize("room", [0, 30_000, 1_000_000])
def test_in_memory_are_as_many_as_a_tenth_of_it_holds(
    noisy: Callable[..., Config],
    opaque: Callable[[Any], Config],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    room: int,
) -> None:
    keepers: list[Keeper] = []
    monkeypatch.setattr(snapshots, "_machine_memory", lambda: 10 * room)
    monkeypatch.setattr(snapshots, "_SHARE", 0)
    start = Keeper.start_phase

    def noted(self: Keeper, *arguments: Any) -> None:
        keepers.append(self)
        start(self, *arguments)

    monkeypatch.setattr(Keeper, "start_phase", noted)
    fit = opaque(9).fit.model_dump()
    config = noisy(phases=[{"name": "a", "epochs": 8}], fit=fit)
    _train(_task(config, tmp_path / "1"))
    kept = keepers[-1].kept
    for each in kept:  # what a callback changes in place is kept as it was then
        (held, *_) = each.state["callbacks"]
        assert states.unpack(held["seen"], each.arrays) == [each.place.epoch]
    assert sum(each.size for each in kept) <= room
    epochs = [each.place.epoch for each in kept]
    assert epochs == list(range(9 - len(epochs), 9))
    assert len(epochs) in {0: [0], 30_000: range(1, 8), 1_000_000: [8]}[room]


def test_a_snapshot_costs_a_hundredth_of_the_training(
    noisy: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock of its own: each write takes 2 s, each step 10 s."""
    clock = [0.0]
    monkeypatch.setattr(snapshots.time, "monotonic", lambda: clock[0])
    written: list[float] = []

    def slow(snapshot: Any, directory: Path) -> Path:
        clock[0] += 2.0
        written.append(clock[0])
        return AttemptPaths(directory).snapshot(snapshot.place)

    monkeypatch.setattr(snapshots, "write", slow)
    steps = Keeper.on_train_batch_end

    def step(self: Keeper, batch: int, logs: Any = None) -> None:
        clock[0] += 10.0
        steps(self, batch, logs)

    monkeypatch.setattr(Keeper, "on_train_batch_end", step)
    config = noisy(
        phases=[{"name": "a", "epochs": 30}],
        model={"layers": LAYERS[::3]},
        fit={"callbacks": []},
        checkpoint_seconds=30,
    )
    _train(_task(config, tmp_path / "1"))
    assert written[0] == pytest.approx(32.0)
    assert all(later - earlier >= 200 for earlier, later in zip(written, written[1:], strict=False))
    assert len(written) * 2.0 <= 0.02 * clock[0] + 2.0
