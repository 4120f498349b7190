"""What is wrong with rows: each fault where there is one, and not where there is none."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
import pytest
from msgspec.structs import replace

from orchestrator.data import load as data
from orchestrator.data.rows import Rows
from orchestrator.diagnosis.causes.after.find import find_after
from orchestrator.diagnosis.causes.after.rows import find_distant_targets, find_row_faults
from orchestrator.diagnosis.examine import Examination
from orchestrator.diagnosis.tracing.probe import Probe
from orchestrator.model.losses.output_loss import OutputLoss
from orchestrator.model.outputs import Output, find_outputs
from orchestrator.record.checks import Verdict
from orchestrator.record.records import Finding, Fix
from tests import builders
from tests.conftest import MakeConfig
from tests.diagnosis.causes.after.subjects import HEAD, LINEAR, ended, rows, stack, trained

layers = keras.layers


# ----------------------------------------------------------------------------- distance


def distant(
    got: Any, wanted: Any, *, falling: bool = True, slowed: bool = False, **known: Any
) -> list[Finding]:
    """What is found where a network predicts `got` of targets `wanted`."""
    model = stack()  # passes its first column on
    model.set_weights([np.array([[1], [0], [0]], np.float32), np.zeros(1, np.float32)])
    x = np.zeros((len(got), 3))
    x[:, 0] = got
    losses = (4.0, 3.0, 2.0, 1.0 if falling else 1.9)
    return [
        *find_distant_targets(ended(model, rows(wanted, x), losses=losses, slowed=slowed, **known))
    ]


WAVE = np.sin(np.arange(100.0))


def test_targets_that_training_had_not_come_to_are_named() -> None:
    planned = builders.config().phases[-1].epochs
    whole = (builders.phase("init"), replace(builders.phase("main"), epochs=planned))
    (found,) = distant(9_000 + 50 * WAVE, 10_000 + WAVE, phases=whole)
    assert (found.cause, found.certain) == ("distant_targets", True)
    assert found.reason == (
        "the targets are far from zero, 10000 on average with a standard deviation of 0.707, and "
        "at the end of the training the predictions were still 1e+03 away from them"
    )
    assert found.advice == (
        "subtract the mean and divide by the standard deviation, or train for longer or at a "
        "higher rate"
    )
    short = (whole[0], replace(whole[1], epochs=planned - 1))
    (early,) = distant(9_000 + 50 * WAVE, 10_000 + WAVE, phases=short)
    assert "and when the training ended early the predictions were still" in early.reason
    assert early.advice.endswith("deviation, or train at a higher rate")


@pytest.mark.parametrize(
    ("got", "wanted", "certain"),
    [
        (100 * WAVE + 50, 1e6 * (WAVE + 1), False),  # far too small; another seed may be faster
        (1 + 0.01 * WAVE, 1 + 0.001 * WAVE, True),
        (1 + 0.0021 * WAVE, 1 + 0.001 * WAVE[::-1], True),
        (1 + 0.001 * WAVE, 1 + 0.001 * WAVE[::-1], False),  # another seed may do
        (1 + 0.0 * WAVE, 1 + 0.1 * WAVE, None),  # not far from zero for its spread
        (1 + 0.0009 * WAVE, 1 + 0.001 * WAVE, None),  # better than a constant
        (-20_000 + WAVE, 10_000 + WAVE, None),  # went astray
        (5 + 0.0 * WAVE, 10_000 + WAVE, False),  # a constant
        (1e4 * (WAVE + 0.1), 1e4 * (WAVE + 1), None),  # large enough, and wrong
    ],
)
def test_distance_is_judged_by_the_spread_of_the_targets(
    got: Any, wanted: Any, certain: bool | None
) -> None:
    assert [each.certain for each in distant(got, wanted)] == ([] if certain is None else [certain])


LINEAR_AND_SCALED = Fix(activation="linear", standardize=True)


@pytest.mark.parametrize(
    ("last", "fix"),
    [
        ([layers.Dense(1)], Fix(standardize=True)),
        ([layers.Dense(1, activation="softplus")], LINEAR_AND_SCALED),
        ([layers.Dense(1), layers.Activation("relu"), layers.Flatten()], LINEAR_AND_SCALED),
        ([layers.Dense(1), layers.ReLU()], LINEAR_AND_SCALED),
        ([layers.Dense(1, activation="relu"), layers.ReLU()], None),
        ([layers.Dense(1), layers.ReLU(6.0)], None),  # of these `unreachable_targets` tells
        ([layers.Dense(1, activation="tanh")], None),
    ],
)
def test_what_brings_an_output_to_its_targets_is_told(last: list[Any], fix: Fix | None) -> None:
    model = keras.Sequential([layers.Input((3,)), *last])
    targets = rows(10_000 + 50 * WAVE)
    model.compile("adam", "mse")
    model.set_weights([np.zeros((3, 1)), np.full(1, 5.0)])
    outputs = find_outputs(model, builders.config(), targets)
    (found,) = find_distant_targets(ended(model, targets, heads=outputs))
    assert found.fix == fix
    bent = fix is not None and fix.activation is not None
    assert ("leave the activation of the last layer out" in found.advice) == bent
    large = Rows(x=1000 * targets.x, y=targets.y)
    (found,) = find_distant_targets(ended(model, large, heads=outputs))
    assert found.fix == (fix and replace(fix, standardize_inputs=True))


def test_smaller_steps_or_a_loss_that_stands_still_leave_hope() -> None:
    got, wanted = 9_000 + 50 * WAVE, 10_000 + WAVE
    assert [each.certain for each in distant(got, wanted, slowed=True)] == [False]
    assert [each.certain for each in distant(got, wanted, falling=False)] == [False]


def test_failed_predictions_that_were_trained_towards_the_targets_had_not_come_to_them() -> None:
    (found,) = distant(40 + WAVE, 50 + WAVE)
    assert (found.cause, found.certain) == ("distant_targets", False)
    assert distant(48 + 2 * WAVE[::-1], 50 + WAVE)
    assert not distant(49.5 + WAVE[::-1], 50 + WAVE)  # another seed may do
    assert not distant(0.0 * WAVE, 5 + WAVE)  # a fresh network gives as much


def test_targets_to_one_side_of_zero_are_named_where_the_mean_is_what_is_missing() -> None:
    wanted = 5 + WAVE  # its standard deviation is 0.7
    assert distant(2 + 0.1 * WAVE, wanted)
    assert not distant(8 + 0.1 * WAVE, wanted)  # beyond them
    assert not distant(3 + 2 * WAVE[::-1], wanted)  # what rows differ by is as wrong
    assert not distant(4.5 + 0.1 * WAVE, wanted)  # no further than they are apart
    assert not distant(0.1 * WAVE, 1.5 + WAVE)  # around zero


class Code(keras.layers.Layer):  # type: ignore[misc]
    """A code with noise in inference, too, that is held to nothing, as a KL term may hold it."""

    def __init__(self) -> None:
        super().__init__()
        self.noise = keras.random.SeedGenerator(0)

    def call(self, code: Any) -> Any:
        """The code with noise."""
        self.add_loss(10 * keras.ops.mean(keras.ops.square(code)))
        return code + keras.random.normal(keras.ops.shape(code), seed=self.noise)


def test_a_code_of_noise_alone_is_a_collapse_and_no_distance_from_the_targets() -> None:
    """Its predictions vary, far more than the two columns do that hardly vary."""
    x = np.random.default_rng(0).uniform(size=(200, 12)).astype("float32")
    x[:, :2] = 0.9 + 0.01 * x[:, :2]
    model = keras.Sequential([keras.Input((12,)), layers.Dense(2), Code(),
                              layers.Dense(12, activation="sigmoid")])  # fmt: skip
    subject = trained(model, x, x, optimizer=keras.optimizers.Adam(0.01))
    assert subject.is_constant
    found = [each.cause for each in find_after(subject)]
    assert "constant_reconstruction" in found
    assert "distant_targets" not in found


def exploded(
    optimizer: Any, loss: str = "mse", scale: float = 1000.0, *, dead: float | None = None
) -> list[Finding]:
    """What is found where weights have become NaN, or units dead at a rate."""
    model = stack()
    model.compile(optimizer, loss)
    model.set_weights([np.full((3, 1), np.nan, np.float32), np.zeros(1, np.float32)])
    heads = [dataclasses.replace(HEAD, loss=OutputLoss(loss, WAVE[:2, None], WAVE[:2, None]))]
    failed = builders.made("finite" if dead is None else "dead_neurons", verdict="fail")
    known = {"heads": heads, "rates": [dead or 0.01]}
    return [*find_distant_targets(ended(model, rows(scale * WAVE), failed, **known))]


def test_targets_whose_gradients_have_thrown_the_weights_away_are_named() -> None:
    (found,) = exploded(keras.optimizers.SGD(0.01))
    assert (found.cause, found.certain) == ("distant_targets", False)
    assert found.reason.startswith("the targets are large, 707 in root mean square, and so are ")
    assert not exploded(keras.optimizers.SGD(0.01, clipnorm=1.0))
    assert not exploded(keras.optimizers.Adam(0.01))
    assert not exploded(keras.optimizers.SGD(0.01), loss="mae")
    assert not exploded(keras.optimizers.SGD(0.01), scale=10.0)
    (found,) = exploded(keras.optimizers.SGD(0.01), scale=30.0, dead=0.01)
    assert found.reason.endswith("and so are the gradients of a squared error, which kill units")
    assert not exploded(keras.optimizers.SGD(0.01), scale=3.0, dead=0.01)
    assert not exploded(keras.optimizers.SGD(5.0), scale=30.0, dead=5.0)  # the rate does that


def test_targets_that_are_standardised_already_are_not_blamed() -> None:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.01), "mse")
    heads = [dataclasses.replace(HEAD, loss=OutputLoss("mse", WAVE[:2, None], WAVE[:2, None]))]
    failed = builders.made("finite", verdict="fail")

    def found() -> list[Finding]:
        return [*find_distant_targets(ended(model, rows(1000 * WAVE), failed, heads=heads))]

    assert found()
    model.add(keras.layers.Rescaling(scale=700.0, offset=3.0))
    assert not found()


# --------------------------------------------------------------------------------- rows


def causes(y: Any, x: Any = None, head: Output = HEAD) -> list[str]:
    return [found.cause for found in find_row_faults(ended(LINEAR, rows(y, x), heads=[head]))]


def draw(count: int = 400) -> Any:
    return np.random.default_rng(1).normal(size=(count, 3))


def test_targets_drawn_without_the_inputs_look_unrelated() -> None:
    assert causes(np.random.default_rng(2).normal(size=400)) == ["unrelated_targets"]


@pytest.mark.parametrize("function", [lambda x: x[:, 0], lambda x: np.abs(x[:, 0]),
                                      lambda x: np.abs(x).sum(axis=1)])  # fmt: skip
def test_targets_that_follow_from_the_inputs_do_not(function: Any) -> None:
    x = draw()
    assert causes(function(x), x) == []


def test_classes_are_looked_at_as_classes() -> None:
    x = draw(600)
    head = Output(name="", target="", shape=(3,), form="sparse", from_logits=False)
    labels = np.digitize(x[:, 0], [-0.5, 0.5])
    assert causes(labels, x, head) == []
    assert causes(np.random.default_rng(2).permutation(labels), x, head) == ["unrelated_targets"]


def test_a_constant_target_is_not_judged() -> None:
    assert causes(np.ones(100)) == []


def test_inputs_far_from_one_are_named() -> None:
    x = draw() * [1, 1e5, 1]
    (found,) = find_row_faults(ended(LINEAR, rows(np.abs(x[:, 0]), x)))
    assert found.cause == "unscaled_inputs"
    assert "the inputs are not scaled: column 1 goes up to" in found.reason
    assert found.advice == "write data.standardize: true, which scales every column"


@pytest.mark.parametrize(
    ("verdict", "stretch", "hidden", "told"),
    [
        ("warn", 30.0, [], True),
        ("fail", 30.0, [], True),
        ("pass", 30.0, [], False),
        ("warn", 3.0, [], False),
        ("warn", 30.0, [layers.Dense(2), layers.BatchNormalization()], False),
    ],
)
def test_behind_large_inputs_a_scaled_output_is_far_from_its_targets(
    verdict: Verdict, stretch: float, hidden: list[Any], told: bool
) -> None:
    x = draw() * stretch
    check = builders.made("learned", verdict=verdict)
    given = rows(np.abs(x[:, 0]), x)
    model = keras.Sequential([stack(*hidden), layers.Rescaling(50.0)])
    found = [*find_row_faults(ended(model, given, check, skill=0.5))]
    assert ["and the output is: a column has" in each.reason for each in found] == [True] * told
    # Where the output is not, a network copes with numbers of such a size.
    assert not [*find_row_faults(ended(stack(), given, check, skill=0.5))]


def test_a_layer_that_scales_takes_any_inputs() -> None:
    x = draw() * [1, 1e5, 1]
    model = stack(layers.BatchNormalization())
    assert not [*find_row_faults(ended(model, rows(np.abs(x[:, 0]), x)))]


def test_few_rows_tell_nothing() -> None:
    assert causes(np.random.default_rng(2).normal(size=100)) == []


def test_what_is_looked_up_is_not_measured() -> None:
    model = stack(layers.Embedding(9, 2), layers.Flatten())
    assert not [*find_row_faults(ended(model, rows(np.random.default_rng(2).normal(size=400))))]


def test_shuffled_batches_keep_rows_and_targets_together(make_config: MakeConfig) -> None:
    code = """
def shuffled():
    import tensorflow as tf
    x = np.random.default_rng(1).normal(size=(600, 3)).astype("float32")
    return tf.data.Dataset.from_tensor_slices((x, x[:, 0])).shuffle(600).batch(32)
"""
    stream = data.load(make_config(code, data={"train": {"callable": "rows:shuffled"}})).train
    assert not [*find_row_faults(ended(LINEAR, stream))]


def test_columns_far_from_each_other_are_named() -> None:
    x = draw() * [1, 1e-5, 1]
    (found,) = find_row_faults(ended(LINEAR, rows(np.abs(x[:, 0]), x)))
    assert "orders of magnitude apart" in found.reason


def test_indices_are_not_measured() -> None:
    x = np.random.default_rng(0).integers(0, 10_000, (100, 3))
    given = Rows(x=x, y=np.random.default_rng(1).normal(size=100))
    parity = layers.Lambda(lambda index: keras.ops.cast(index % 2, "float32"))
    assert not [*find_row_faults(ended(stack(parity), given))]
    (found,) = find_row_faults(ended(LINEAR, given))  # whole numbers that are no indices
    assert found.cause == "unscaled_inputs"


@pytest.mark.parametrize(
    ("verdict", "reference", "found", "certain"),
    # The best within reach has a skill of 0.4.
    [
        ("fail", 1.0, True, True),
        ("fail", 0.6, True, False),  # what passes is not yet good
        ("fail", 0.45, False, False),
        ("warn", 0.6, True, False),
        ("warn", 0.45, False, False),
        ("pass", 1.0, False, False),
    ],
)
def test_what_an_output_cannot_reach_is_known_once_the_reference_is(
    verdict: str, reference: float, found: bool, certain: bool
) -> None:
    model = stack(last=keras.layers.Dense(1, activation="sigmoid"))
    given = rows(np.array([-2.0, -1.0, 0.0, 1.0, 2.0]))
    share = {"output": 0, "share": 0.1, "skill": 0.1 * reference, "reference": reference}
    learned = builders.made("learned", verdict=verdict, measured={"outputs": [share]})
    measured = Probe(model).measure(given)
    examined = Examination(checks=(learned,), layers=measured.layers, flow=measured.flow)
    subject = ended(model, given, learned, examined=examined)
    # It is told although it was suspected before, for now it is certain.
    told = [
        each for each in find_after(subject, ["unreachable_targets"])
        if each.cause == "unreachable_targets"
    ]  # fmt: skip
    assert [(each.certain, each.found) for each in told] == [(certain, "after")] * found
