"""Initial weights computed from a seed, and seeds chosen by them, against fresh builds."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import pytest

from orchestrator.model import initialization
from orchestrator.model.initialization import Recorder, Replay
from orchestrator.training.attempt.building.screening import AT_FAULT, Screening, screen

layers = keras.layers

Make = Callable[[], keras.Model]


def dense(**options: Any) -> keras.Model:
    stack = [layers.Dense(2, activation="relu", **options) for _ in range(4)]
    return keras.Sequential([layers.Input((1,)), *stack, layers.Dense(1)])


def mixed() -> keras.Model:
    words, images = keras.Input((5,), dtype="int32"), keras.Input((8, 8, 2))
    text = layers.GRU(3)(layers.Embedding(7, 4)(words))
    picture = layers.BatchNormalization()(
        layers.Conv2D(3, 3, kernel_initializer="he_uniform")(images)
    )
    picture = layers.PReLU()(layers.SeparableConv2D(2, 3)(picture))
    both = layers.Concatenate()([text, layers.Dropout(0.5)(layers.Flatten()(picture))])
    return keras.Model([words, images], layers.Dense(2, kernel_initializer="orthogonal")(both))


@keras.saving.register_keras_serializable("screening")
class Own(keras.Model):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.hidden = layers.Dense(3, activation="relu")
        self.head = layers.Dense(1)

    def build(self, shape: Any) -> None:
        self.scale = self.add_weight(shape=(3, 3), initializer="glorot_normal", name="scale")
        super().build(shape)

    def call(self, x: Any) -> Any:
        return self.head(keras.ops.matmul(self.hidden(x), self.scale))


def own() -> keras.Model:
    model = Own()
    model(np.zeros((1, 2), np.float32))
    return model


def build_from(make: Make, seed: int, recorder: Recorder) -> keras.Model:
    keras.utils.set_random_seed(seed)
    with recorder.recording():
        return make()


@pytest.mark.parametrize(("one", "other"), [(0, 2**32 - 1), (12345, 7)])
@pytest.mark.parametrize("make", [dense, mixed, own])
def test_replayed_weights_are_those_of_a_fresh_build(make: Make, one: int, other: int) -> None:
    recorder = Recorder()
    replay = Replay(build_from(make, one, recorder), recorder, one)
    fresh = build_from(make, other, Recorder()).get_weights()
    assert replay.faithful
    assert replay.fixed == []
    assert initialization.same(replay.weights(other), fresh)


def short() -> keras.Model:
    hidden = layers.Dense(4, activation="relu", dtype="bfloat16")
    return keras.Sequential([layers.Input((1,)), hidden, layers.Dense(1, dtype="bfloat16")])


def ones(last: str = "ones") -> keras.Model:
    hidden = layers.Dense(4, activation="relu", kernel_initializer="ones")
    end = layers.Dense(1, kernel_initializer=last, bias_initializer="ones")
    return keras.Sequential([layers.Input((1,)), hidden, end])


@pytest.mark.parametrize(("last", "redrawn"), [("ones", True), ("zeros", False), (None, False)])
def test_an_output_that_adds_all_units_up_is_drawn_too(last: Any, redrawn: bool) -> None:
    """One of zeros is meant so, and what was drawn stays."""
    model = ones(last or "glorot_uniform")
    kernel, bias = model.layers[-1].get_weights()
    initialization.reinitialize(model, "he_normal", np.zeros((1, 1), np.float32), Recorder())
    now, same_bias = model.layers[-1].get_weights()
    assert (len(np.unique(now)) == 4 and not np.array_equal(now, kernel)) == redrawn
    assert np.array_equal(bias, same_bias)


@pytest.mark.parametrize(
    ("make", "name"),
    [(dense, "he_uniform"), (dense, "orthogonal"), (short, "orthogonal"), (ones, "he_normal")],
)
def test_reinitialised_weights_are_replayed_too(make: Make, name: str) -> None:
    x = np.zeros((1, 1), np.float32)

    def changed(seed: int, recorder: Recorder) -> keras.Model:
        model = build_from(make, seed, recorder)
        initialization.reinitialize(model, name, x, recorder)
        return model

    recorder = Recorder()
    replay = Replay(changed(1, recorder), recorder, 1)
    assert replay.faithful
    assert initialization.same(replay.weights(2), changed(2, Recorder()).get_weights())


def test_weights_that_were_set_afterwards_are_not_taken_for_initial_ones() -> None:
    def trained() -> keras.Model:
        model = dense()
        model.set_weights([weight + 1 for weight in model.get_weights()])
        return model

    recorder = Recorder()
    assert not Replay(build_from(trained, 1, recorder), recorder, 1).faithful


def test_a_random_weight_with_a_seed_of_its_own_is_named() -> None:
    def fixed() -> keras.Model:
        kernel = keras.initializers.HeNormal(seed=3)
        stack = [layers.Dense(2, kernel_initializer=kernel), layers.Dense(2)]
        return keras.Sequential([layers.Input((1,)), *stack])

    recorder = Recorder()
    replay = Replay(build_from(fixed, 1, recorder), recorder, 1)
    assert [path.split("/")[-1] for path in replay.fixed] == ["kernel"]
    assert initialization.same(replay.weights(2), build_from(fixed, 2, Recorder()).get_weights())


# -------------------------------------------------------------------------------- screening


def first_weight_is_negative(model: keras.Model) -> str | None:
    """A verdict that about half of all seeds get, and that every weight counts for."""
    value = model.get_weights()[0].flat[0]
    return f"its first weight is {value:.3f}" if value < 0 else None


class Screened:
    """A screening, with every model that it built."""

    def __init__(
        self,
        make: Make,
        seeds: list[int],
        dead: Callable[[keras.Model], str | None] = first_weight_is_negative,
        at_fault: Sequence[bool] = (False,),
    ) -> None:
        faults = itertools.chain(at_fault, itertools.repeat(False))
        self.made = make
        self.built: list[int] = []
        self.told: list[int] = []

        def build(seed: int, recorder: Recorder) -> keras.Model:
            self.built.append(seed)
            return build_from(make, seed, recorder)

        self.result: Screening = screen(
            seeds,
            build,
            lambda model: lambda: dead(model),
            lambda _: next(faults),
            self.told.append,
        )

    def fresh(self, seed: int) -> keras.Model:
        return build_from(self.made, seed, Recorder())


def draws_by_itself() -> keras.Model:
    """Its weights come from the seed by another way than Keras's initialisers."""
    model = dense()
    model.set_weights([np.random.normal(size=weight.shape) for weight in model.get_weights()])
    return model


@pytest.mark.parametrize("make", [dense, draws_by_itself])
def test_the_first_seed_with_a_living_network_is_chosen(make: Make) -> None:
    for start in (0, 100):
        screened = Screened(make, list(range(start, start + 20)))
        found = screened.result
        reasons = [first_weight_is_negative(screened.fresh(each.seed)) for each in found.candidates]
        assert [each.reason for each in found.candidates] == reasons
        assert reasons.count(None) == 1
        assert found.candidates[-1].seed == found.seed
        fresh = screened.fresh(found.seed)
        assert initialization.same(found.model.get_weights(), fresh.get_weights())
        assert first_weight_is_negative(found.model) is None


def test_networks_in_between_are_not_built() -> None:
    screened = Screened(dense, list(range(64)), lambda _: "dead on every row")
    assert screened.built == [0, 1]
    assert screened.told == list(range(2, 65))


def test_where_every_network_is_dead_the_first_is_taken() -> None:
    screened = Screened(dense, [5, 6, 7], lambda _: "dead")
    assert (screened.result.seed, screened.result.finding) == (5, None)
    assert [each.seed for each in screened.result.candidates] == [5, 6, 7]
    first = screened.fresh(5).get_weights()
    assert initialization.same(screened.result.model.get_weights(), first)


def test_one_seed_alone_is_not_looked_at() -> None:
    assert Screened(dense, [5], lambda _: "dead").result.candidates == ()


def test_two_identical_networks_are_enough_and_the_initializer_is_named() -> None:
    def fixed() -> keras.Model:
        kernel = keras.initializers.HeNormal(seed=3)
        dense = layers.Dense(2, kernel_initializer=kernel, name="only")
        return keras.Sequential([layers.Input((1,)), dense])

    found = Screened(fixed, list(range(64)), lambda _: "dead").result
    assert len(found.candidates) == 1
    assert found.finding is not None
    assert found.finding.cause == "fixed_seed"
    assert "every seed gives the same network: the initializer of" in found.finding.reason
    assert "only/kernel has a seed of its own" in found.finding.reason


def test_a_function_that_sets_its_own_seed_is_found_out() -> None:
    def stubborn() -> keras.Model:
        keras.utils.set_random_seed(1)
        return dense()

    found = Screened(stubborn, list(range(64)), lambda _: "dead").result
    assert len(found.candidates) == 1
    assert found.finding is not None
    assert "nothing in it is drawn from the seed" in found.finding.reason


def test_a_part_that_does_not_follow_the_seed_is_named_where_no_seed_helps() -> None:
    def partly() -> keras.Model:
        kernel = keras.initializers.HeNormal(seed=3)
        stack = [layers.Dense(2, kernel_initializer=kernel, name="same"), layers.Dense(2)]
        return keras.Sequential([layers.Input((1,)), *stack])

    found = Screened(partly, [1, 2, 3], lambda _: "dead").result
    assert found.finding is not None
    assert "not every weight follows the seed" in found.finding.reason
    assert "same/kernel" in found.finding.reason


def test_where_the_initialisers_are_at_fault_a_few_seeds_are_enough() -> None:
    found = Screened(dense, list(range(64)), lambda _: "dead", at_fault=[True] * 64).result
    assert len(found.candidates) == AT_FAULT


@pytest.mark.parametrize("spared", range(AT_FAULT))
def test_where_one_was_dead_for_want_of_luck_the_next_may_have_it(spared: int) -> None:
    faults = [index != spared for index in range(8)]
    found = Screened(dense, list(range(8)), lambda _: "dead", at_fault=faults).result
    assert len(found.candidates) == 8
