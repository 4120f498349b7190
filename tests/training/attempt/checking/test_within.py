"""Looks within an epoch: layers to which nothing comes back."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np

from orchestrator.diagnosis.watch.gradients import GradientWatch
from orchestrator.diagnosis.watch.signals import SignalLog
from orchestrator.training.attempt import states
from orchestrator.training.attempt.checking import within


def network(*layers: keras.Layer) -> keras.Model:
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((1,)), *layers])


def trained(model: keras.Model, x: Sequence[float], *callbacks: keras.callbacks.Callback) -> int:
    """How many steps a training of one row each has had."""
    keep = {"batch_size": 1, "epochs": 3, "shuffle": False, "verbose": 0}
    model.fit(np.array(x)[:, None], np.ones(len(x)), callbacks=[*callbacks], **keep)
    return int(model.optimizer.iterations.numpy())


def resting(
    reasons: Sequence[str | None], steps: int = 400
) -> tuple[list[int], list[str], SignalLog]:
    """A network whose relu gets no gradient from step 71 of an epoch of 400 on.

    Args:
        reasons: what the exact looks find, in turn.
        steps: that an epoch is said to have.
    """
    hidden = keras.layers.Dense(2, activation="relu", kernel_initializer="ones", name="hidden")
    model = network(hidden, keras.layers.Dense(1))
    model.compile(keras.optimizers.SGD(1e-3), "mse")
    log = SignalLog(GradientWatch(model))
    told: list[str] = []
    looked: list[int] = []
    found = iter(reasons)

    def why() -> str | None:
        looked.append(int(model.optimizer.iterations.numpy()))
        return next(found)

    is_dead = within.layer_died(log, why, told.append, steps)
    guard = within.LookWithin(None, is_dead, lambda broken: None)
    trained(model, [1.0] * 70 + [-1.0] * 330, log, guard)
    return looked, told, log


def test_a_layer_without_gradient_is_looked_at_and_the_verdict_ends_the_epoch() -> None:
    looked, told, log = resting(["layer hidden is entirely dead"])
    # The run of steps 65 to 128 has some gradients, the next has none.
    assert looked == [192]
    assert [each.steps for each in log.epochs] == [192]
    assert told == [
        "nothing has come back to hidden in steps 129 to 192 of epoch 1, which ends there: layer "
        "hidden is entirely dead"
    ]


def test_layers_that_rest_end_nothing_and_are_looked_at_ever_more_rarely() -> None:
    looked, told, log = resting([None, None])
    assert told == []
    assert [each.steps for each in log.epochs] == [400] * 3
    # Runs 3, 9 and 15 are silent; after the look at the third the next may come after the sixth,
    # and after that at the ninth none before the eighteenth, with which the training ends.
    assert looked == [192, 400 + 192]
    assert log.may_look


def test_the_last_run_of_an_epoch_is_left_to_the_look_at_its_end() -> None:
    assert resting([], steps=200)[0] == []


def test_what_goes_on_inside_of_an_epoch_looks_at_the_same_runs_of_steps() -> None:
    def runs(done: int) -> list[within.Run]:
        seen: list[within.Run] = []
        guard = within.LookWithin(
            None, lambda run: seen.append(run) or False, lambda broken: None, done=done, size=3
        )
        guard.on_epoch_begin(0)
        for step in range(done, 300, 3):
            guard.on_train_batch_end(step - done + 2)
        return seen

    whole = runs(0)
    assert [(run.first, run.last) for run in whole[:2]] == [(1, 66), (67, 129)]
    for done in (3, 63, 66, 126, 129, 132):
        assert runs(done) == [run for run in whole if run.last > done]


def test_a_snapshot_keeps_what_a_run_of_steps_is_measured_from() -> None:
    *_, log = resting([None, None])
    arrays: dict[str, np.ndarray] = {}
    packed = states.pack_callbacks([log], arrays, [])
    other = SignalLog(log._watch)
    states.unpack_callbacks(packed, [other], arrays)
    assert vars(other).keys() == vars(log).keys()
    assert other.may_look == log.may_look
