"""What was learnt beside what there is to learn, by healthy networks and by broken ones."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
import pytest

from orchestrator import diagnose
from tests import learners
from tests.learners import Array, compiled, dense

layers = keras.layers
ops = keras.ops

LEARNERS = {each.name: each for each in learners.ALL}
QUICK = {
    "airfoil, five epochs": 5, "penguins, mass": 25, "moons": 20, "blobs, one-hot": 15,
    "halves, mae": 8, "corners of bytes": 8,
}  # fmt: skip
"""Those that are quick to train, with as few epochs as will do; `tests/zoo` has more that the check
is applicable to, and `tests/benchmarks/learned.py` takes all."""
SWEPT = ("penguins, mass", "halves, mae")
"""Those that the sweep takes."""


@pytest.mark.parametrize(
    ("name", "epochs"),
    [
        pytest.param(name, epochs, id=name, marks=[pytest.mark.sweep] * (name in SWEPT))
        for name, epochs in QUICK.items()
    ],
)
def test_a_healthy_network_passes_and_its_broken_twin_fails(name: str, epochs: int) -> None:
    learner = dataclasses.replace(LEARNERS[name], epochs=epochs)
    model, losses = learner.trained()
    x, y = learner.drawn()
    judge = learners.Judge(model, x, y)
    checks = judge.checks(losses)
    assert [each.reason for each in checks.values() if each.verdict == "fail"] == []
    assert learners.learned(checks).verdict == "pass"

    learners.shrink(model, x, learner.twin)
    check = learners.learned(judge.checks())
    assert (check.verdict, "learnt" in check.reason) == ("fail", True)


def test_there_are_forty_of_them() -> None:
    assert len(learners.ALL) >= 40
    assert len(LEARNERS) == len(learners.ALL)


# ------------------------------------------------------------------------- known answers


def given(y: Array, x: Array, predicted: Array, loss: Any = "mse") -> Any:
    """What is found of a model that gets what it is to predict beside its inputs."""
    predicted = predicted.reshape(len(predicted), -1)
    inputs = keras.Input((x.shape[1],)), keras.Input((predicted.shape[1],))
    model = keras.Model(inputs, layers.Activation("linear")(inputs[1]))
    model.compile(loss=loss)
    return learners.lesson(model, (x, predicted), y)


def rows(count: int = 400, columns: int = 4) -> tuple[np.random.Generator, Array]:
    draw = np.random.default_rng(0)
    return draw, draw.normal(size=(count, columns)).astype("float32")


def signal(x: Array) -> Array:
    return np.abs(x[:, 0]) + x[:, 1]


def net(x: Array, y: Array, loss: Any = "mse", **others: Any) -> Any:
    """What is found of a network that is not trained at all."""
    keras.utils.set_random_seed(0)
    model = dense(x.shape[1], others.pop("units", 1), loss, **others)()
    return learners.lesson(model, x, y)


def unjudged(check: Any) -> str:
    assert check.verdict == "not_applicable"
    return str(check.reason)


def test_a_network_that_was_not_trained_has_learnt_nothing() -> None:
    _, x = rows()
    check = net(x, signal(x))
    assert check.verdict == "fail"
    (output,) = check.measured.outputs
    assert output.reference > 0.9
    assert output.skill < 0.1
    assert check.reason.endswith("nothing was learnt of what there is to learn")


@pytest.mark.parametrize(
    "loss",
    ["poisson", "hinge", "mean_absolute_percentage_error", "log_cosh",
     lambda y, p: ops.mean((y - p) ** 2), "binary_focal_crossentropy"],
)  # fmt: skip
def test_other_losses_are_not_measured(loss: Any) -> None:
    _, x = rows()
    y = (signal(x) > 0).astype("float32")
    assert "is none that the reference is measured by" in unjudged(net(x, y, loss, last="sigmoid"))


def test_weights_are_none_that_the_reference_knows() -> None:
    _, x = rows()
    keras.utils.set_random_seed(0)
    assert "weights" in unjudged(learners.lesson(dense(4)(), x, signal(x), np.ones(400)))


def test_few_rows_tell_nothing() -> None:
    draw, x = rows(30)
    assert unjudged(net(x, draw.normal(size=30))).startswith("of 30 rows nothing can be told")


def test_noise_and_constants_are_no_failure() -> None:
    draw, x = rows()
    assert "the reference learns nothing here" in unjudged(net(x, draw.normal(size=400)))
    assert unjudged(net(x, np.full(400, 2.0))) == "the targets do not vary"


def test_inputs_that_are_looked_up_are_no_numbers() -> None:
    draw, _ = rows()
    x = draw.integers(0, 9, size=(400, 3))
    model = compiled(
        [keras.Input((3,)), layers.Embedding(9, 2), layers.Flatten(), layers.Dense(1)], "mse"
    )
    found = learners.judge(model, x, x[:, 0] % 2.0)
    assert "lookup" in unjudged(learners.learned(found))


def test_integers_and_bytes_are_numbers_otherwise() -> None:
    draw, _ = rows()
    x = draw.integers(0, 255, size=(400, 3)).astype("uint8")
    model = compiled([keras.Input((3,)), layers.Rescaling(1 / 255), layers.Dense(1)], "mse")
    assert learners.lesson(model, x, x[:, 0] / 255).share() is not None


def test_several_positions_a_row_are_not_judged() -> None:
    _, x = rows(400, 12)
    x = x.reshape(400, 6, 2)
    model = compiled([keras.Input((6, 2)), layers.Dense(1)], "mse")
    assert unjudged(learners.lesson(model, x, x.sum(axis=2))) == "a row has several positions"


def test_an_autoencoder_at_its_optimum_is_not_judged() -> None:
    """32 independent columns through 3 units: a skill of about 3/32 is all there is."""
    _, x = rows(500, 32)
    _, _, axes = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    model = compiled([keras.Input((32,)), layers.Dense(3), layers.Dense(32, name="head")], "mse")
    best = axes[:3].T
    model.set_weights([best, -x.mean(axis=0) @ best, best.T, x.mean(axis=0)])
    assert unjudged(learners.lesson(model, x, x)) == "the targets occur among the inputs"


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_nor_is_one_behind_a_scaling_or_that_takes_noise_away(noise: float) -> None:
    draw, x = rows(500, 8)
    y = 100 + 7 * x
    assert unjudged(net(x + noise * draw.normal(size=x.shape), y, units=8)) == (
        "the targets occur among the inputs"
    )


def test_a_column_that_stands_among_the_inputs_is_not_judged_and_one_like_it_is() -> None:
    _, x = rows()
    assert unjudged(net(x, x[:, 2])) == "the targets occur among the inputs"
    assert net(x, 3 * x[:, 2] + 1).share() is not None


# ------------------------------------------------------------------- what has to be spared


def test_a_quantile_is_spared() -> None:
    def quantile(y: Any, predicted: Any) -> Any:
        return ops.mean(ops.maximum(0.9 * (y - predicted), 0.1 * (predicted - y)))

    draw, x = rows()
    assert "quantile" in unjudged(given(signal(x), x, signal(x) + 2, quantile))


def test_a_network_of_mae_and_a_mean_share_passes() -> None:
    """R² of 0.70 where the reference has more."""
    draw, x = rows(1000)
    y = signal(x)
    predicted = y + np.sqrt(0.3) * y.std() * draw.normal(size=1000)
    check = given(y, x, predicted, "mae")
    assert check.verdict in ("pass", "warn")


def test_a_network_of_mae_is_spared_where_its_square_is_not_what_it_is_trained_on() -> None:
    """The likelier of one or nothing has half the squared skill of the chance of one, or none."""
    draw, x = rows(2000)
    chance = 1 / (1 + np.exp(-1.5 * x[:, 0]))
    y = (draw.uniform(size=2000) < chance).astype("float32")
    likelier = (chance > 0.5).astype("float32")
    assert given(y, x, likelier).verdict == "fail"
    check = given(y, x, likelier, "mae")
    assert check.verdict == "pass"
    (output,) = check.measured.outputs
    assert output.by_absolute_error and output.linear is None  # which is known by the square alone
    assert given(y, x, 0.1 * likelier, "mae").verdict == "fail"


# ------------------------------------------------------------------- frozen, lag, diagnose


def test_behind_a_frozen_base_it_warns_at_most() -> None:
    _, x = rows()
    keras.utils.set_random_seed(0)
    model = dense(4)()
    model.layers[0].trainable = False
    check = learners.learned(learners.judge(model, x, signal(x)))
    assert check.verdict == "warn"
    assert check.reason.endswith("a part of the model is frozen")


def test_what_was_trained_elsewhere_is_warned_of() -> None:
    _, x = rows()
    keras.utils.set_random_seed(0)
    health = diagnose(dense(4)(), x, signal(x))
    assert health.verdicts["learned"].verdict == "warn"


def test_a_lag_is_told_from_what_was_not_learnt() -> None:
    _, x = rows()
    y = (x[:, 0] > 0).astype("float32")
    keras.utils.set_random_seed(0)
    model = compiled(
        [keras.Input((4,)), layers.BatchNormalization(), layers.Dense(1, "sigmoid")],
        "binary_crossentropy",
    )
    model.layers[-1].set_weights([np.array([[6.0], [0], [0], [0]]), np.zeros(1)])
    model.layers[0].moving_variance.assign(np.full(4, 1e4))  # as after too few steps
    check = learners.learned(learners.judge(model, x, y))
    assert check.verdict == "fail"
    assert check.reason.endswith("BatchNorm's moving ones lag")


def test_batches_of_a_stream_are_sampled() -> None:
    _, x = rows(600)
    keras.utils.set_random_seed(0)
    parts = [(part, signal(part)) for part in np.split(x, 3)]
    assert diagnose(dense(4)(), iter(parts)).verdicts["learned"].verdict == "warn"
