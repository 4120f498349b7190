"""What is wrong with rows, and rows that only look so."""

from __future__ import annotations

import json
import re
from typing import Any

import keras
import numpy as np
import pytest

from orchestrator.data.rows import Columns, Lookup, Scaling
from orchestrator.diagnosis.causes.before.rows import (
    find_columns,
    find_distant_targets,
    find_unscaled_inputs,
)
from orchestrator.record.records import Finding
from tests.diagnosis.causes.before.subjects import compiled, make_subject

layers = keras.layers

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(300, 4)).astype("float32")
Y = X[:, 0]
IMAGES = DRAW.integers(0, 256, size=(40, 8, 8, 1))


def network(*stack: Any, shape: tuple[int, ...] = (4,), **options: Any) -> keras.Model:
    return compiled(*stack, layers.Dense(8, activation="relu"), layers.Dense(1), shape=shape,
                    **options)  # fmt: skip


def unscaled(x: Any, *stack: Any, model: Any = None, **options: Any) -> list[Finding]:
    x = np.asarray(x)
    model = model or network(*stack, *[layers.Flatten()] * (x.ndim > 2), shape=x.shape[1:])
    return [*find_unscaled_inputs(make_subject(model, x, np.resize(Y, len(x)), **options))]


# -------------------------------------------------------------------------------- scales


def test_bytes_fed_raw_are_named() -> None:
    (found,) = unscaled(IMAGES.astype("uint8"))
    assert (found.cause, found.certain, found.key) == ("unscaled_inputs", False, "data")
    assert found.reason == "the inputs are bytes as they are read, from 0 to 255"
    assert (
        found.advice == "put a Rescaling layer with scale: 0.00392 (1/255) first, or divide by 255"
    )
    assert unscaled(IMAGES.astype("float32"))[0].reason == found.reason
    assert unscaled(IMAGES.reshape(40, 64).astype("float32"))[0].reason == found.reason


@pytest.mark.parametrize(
    "first",
    [
        layers.Rescaling(1 / 255),
        layers.Rescaling(1 / 127.5, offset=-1),
        layers.BatchNormalization(),
        layers.LayerNormalization(),
        layers.Lambda(lambda x: keras.ops.cast(x, "float32") / 255),
    ],
)
def test_bytes_that_are_scaled_inside_are_healthy(first: Any) -> None:
    assert not unscaled(IMAGES.astype("uint8"), first)


def test_images_that_are_scaled_are_healthy() -> None:
    assert not unscaled((IMAGES / 255).astype("float32"))
    assert not unscaled((IMAGES / 127.5 - 1).astype("float32"))
    assert not unscaled((IMAGES - 120.0).astype("float32"))  # as the oldest applications take them
    assert not unscaled((IMAGES > 128).astype("uint8"))  # a mask
    assert not unscaled((IMAGES.reshape(-1, 4)[:40] % 90).astype("float32"))  # ages


def test_what_is_looked_up_is_no_number() -> None:
    words = DRAW.integers(0, 200, size=(40, 80))
    embedding = [layers.Embedding(200, 4), layers.GlobalAveragePooling1D()]
    assert not unscaled(words.astype("int32"), *embedding)
    one_hot = [layers.Lambda(lambda x: keras.ops.one_hot(x, 200)), layers.GlobalAveragePooling1D()]
    assert not unscaled(words.astype("int32"), *one_hot)


@pytest.mark.parametrize(
    ("x", "reason"),
    [
        (X * [1, 1, 5e3, 1], "the inputs are not scaled: column 2 goes up to 1"),
        (X * 1e-5, "the inputs are not scaled: no value is further from 0 than 3"),
        (X * [1, 1e-4, 1, 1], "the scales of the inputs are orders of magnitude apart, standard "),
        (X + 40, "the inputs are far from 0 for how little they vary, |mean|/std is 4"),
        ((X * 1e4).astype("int64"), "the inputs are not scaled: column "),
    ],
)
def test_tables_of_wild_scales_are_named(x: Any, reason: str) -> None:
    kind = "int64" if x.dtype.kind == "i" else "float32"
    (found,) = unscaled(x.astype(kind))
    assert found.reason.startswith(reason)
    assert found.advice == "write data.standardize: true, which scales every column"


@pytest.mark.parametrize(
    "x",
    [
        X,
        X + 3,
        np.abs(X),
        X * 100,
        X * [1, 0.1, 1, 30],
        X + np.array([0, 12, 0, 0]),  # one column that is far from zero
        0.01 * X,
    ],
)
def test_tables_of_usual_scales_are_healthy(x: Any) -> None:
    assert not unscaled(np.float32(x))


def test_a_network_that_copes_with_its_rows_is_healthy() -> None:
    x = X * [1, 1, 5e3, 1]
    model = compiled(layers.Dense(1))
    model.set_weights([np.array([[1.0], [0], [0], [0]]), np.zeros(1)])  # as training may leave it
    assert not unscaled(x.astype("float32"), model=model)
    assert not unscaled(x.astype("float32"), model=model, elsewhere=True)


def test_behind_a_layer_that_normalises_columns_are_as_far_from_each_other() -> None:
    apart = (X * [1, 1, 5e3, 1]).astype("float32")
    behind = [layers.Dense(8), layers.BatchNormalization(), layers.ReLU()]
    (found,) = unscaled(apart, *behind)
    assert found.reason.startswith("the scales of the inputs are orders of magnitude apart")
    assert not unscaled(apart, layers.BatchNormalization(), layers.Dense(8))
    two = {"a": apart, "b": X.astype("float32")}
    a, b = layers.Input((4,), name="a"), layers.Input((4,), name="b")
    parts = [layers.Dense(2)(layers.BatchNormalization()(a)), layers.Dense(2)(b)]
    model = keras.Model({"a": a, "b": b}, layers.Dense(1)(layers.Concatenate()(parts)))
    model.compile("adam", "mse")
    assert not [*find_unscaled_inputs(make_subject(model, two, Y))]
    # All columns together are scaled behind the first weights.
    assert not unscaled((X * 5e3).astype("float32"), *behind)
    assert not unscaled((X + 40).astype("float32"), *behind)


def test_what_does_not_train_takes_what_it_was_trained_on() -> None:
    base = layers.Dense(8, trainable=False)
    assert not unscaled((X + 40).astype("float32"), base)


# ------------------------------------------------------------------------------ distance


def distant(y: Any, *last: Any, **options: Any) -> list[Finding]:
    model = compiled(layers.Dense(8, activation="relu"), *(last or [layers.Dense(1)]), **options)
    return [*find_distant_targets(make_subject(model, X, y, measured=True))]


def test_targets_far_from_zero_for_their_spread_are_named() -> None:
    (found,) = distant(300 + Y)
    assert (found.cause, found.certain) == ("distant_targets", False)
    assert found.reason.startswith(
        "the targets are far from zero for how little they vary, 29"
    ) or found.reason.startswith("the targets are far from zero for how little they vary, 300")
    assert "Rescaling layer of scale: " in found.advice
    assert distant(300 + Y, loss="mae")
    assert distant(300 + Y, loss=keras.losses.Huber())


def test_each_column_of_targets_has_a_scale_and_an_offset_of_its_own() -> None:
    y = np.stack([Y, 1e6 + 1e3 * Y, 5000 + 0.1 * Y, np.full(300, 7.0)], axis=1)
    (found,) = distant(y, layers.Dense(4))
    assert found.reason.startswith("the targets of column 1 are far from zero")
    given = re.fullmatch(r"subtract .* layer of scale: (.*) and offset: (.*)", found.advice)
    assert given is not None
    scale, offset = (json.loads(each) for each in given.groups())
    assert not distant(y, layers.Dense(4), layers.Rescaling(scale, offset))
    assert y.std(axis=0)[:3] / scale[:3] == pytest.approx(1, abs=0.2)
    assert (y.mean(axis=0) - offset) / scale == pytest.approx(0, abs=0.2)


def test_of_many_columns_of_targets_it_is_told_how_to_scale_them() -> None:
    (found,) = distant(300 + np.tile(Y[:, None], 30), layers.Dense(30))
    assert found.advice.startswith("subtract from each of the 30 columns its mean")
    assert "a list of the standard deviations as its scale" in found.advice


def test_targets_that_no_planned_step_leads_to_are_named() -> None:
    (found,) = distant(2e5 + 5e4 * Y)
    assert "for how short the training is" in found.reason
    # Larger steps, or so many of them, lead there.
    assert not distant(2e5 + 5e4 * Y, optimizer=keras.optimizers.Adam(50.0))
    assert not distant(200 + 50 * Y)


@pytest.mark.parametrize(
    ("y", "options", "named"),
    [
        (35 + Y, {}, True),
        (-35 + Y, {}, True),
        # Nearer, with units of more inputs, or at a higher rate it comes there in time.
        (25 + Y, {}, False),
        (35 + Y, {"width": 100}, False),
        (60 + Y, {"width": 100}, True),
        (35 + Y, {"optimizer": keras.optimizers.Adam(0.01)}, False),
        (35 + Y, {"optimizer": keras.optimizers.SGD(0.001)}, False),  # steps as large as the errors
        (35 + Y, {"last": [layers.Rescaling(50.0)]}, False),  # steps 50 times as long
        (35 + 4 * Y, {}, False),  # what there is to learn is no small part of the errors
    ],
)
def test_targets_that_are_reached_too_late_are_named(
    y: Any, options: dict[str, Any], named: bool
) -> None:
    given = {"optimizer": keras.optimizers.Adam(0.005), "width": 8, **options}
    width, last = given.pop("width"), given.pop("last", [])  # a hundred steps at 0.005
    model = compiled(layers.Dense(width, activation="relu"), layers.Dense(1), *last, **given)
    found = find_distant_targets(make_subject(model, X, y, measured=True))
    assert ["for how short the training is" in each.reason for each in found] == [True] * named


def test_a_cap_on_the_rate_leaves_targets_further_away() -> None:
    model = compiled(
        layers.Dense(8, activation="relu"),
        layers.Dense(1),
        optimizer=keras.optimizers.Adam(0.5),
    )
    rows = (model, X, 35 + Y)
    assert not [*find_distant_targets(make_subject(*rows, measured=True))]
    assert [*find_distant_targets(make_subject(*rows, measured=True, learning_rate_cap=0.005))]


def test_small_targets_are_not_far_from_zero_however_far_the_network_begins() -> None:
    far = keras.initializers.Constant(1e5)
    assert not distant(Y, layers.Dense(1, bias_initializer=far))


def test_targets_that_the_network_begins_near_are_not() -> None:
    near = keras.initializers.Constant(299.0)
    assert not distant(300 + Y, layers.Dense(1, bias_initializer=near))
    assert not distant(300 + Y, layers.Dense(1), layers.Rescaling(1.0, offset=300.0))
    assert not distant(50 + Y, optimizer=keras.optimizers.Adam(0.01))
    assert not distant(1000 * Y)
    assert not distant(np.full(300, 500.0))  # a constant is judged elsewhere


def test_other_losses_and_outputs_have_other_scales() -> None:
    assert not distant(300 + Y, loss="mean_absolute_percentage_error")
    assert not distant(300 + Y, layers.Dense(1, activation="exponential"))


# ------------------------------------------------------------------------------- columns


def columns(x: Any, **options: Any) -> list[Finding]:
    width = x.shape[1] if hasattr(x, "shape") else 4
    return [*find_columns(make_subject(compiled(shape=(width,)), x, Y, **options))]


def having(index: int, values: Any, x: Any = X) -> Any:
    changed = x.copy()
    changed[:, index] = values
    return changed


def test_a_constant_column_is_named() -> None:
    (found,) = columns(having(2, 7.0))
    assert (found.cause, found.certain) == ("constant_columns", False)
    assert found.told == (
        "column 2 is 7 on every row: leave out what does not differ: it says nothing of a row"
    )


def test_a_column_that_the_sample_takes_for_constant_is_looked_at_in_all_rows() -> None:
    many = np.resize(X, (20_000, 4)).copy()
    many[:, 1] = 7.0
    assert [each.cause for each in columns_of(many)] == ["constant_columns"]
    many[12_345, 1] = 8.0
    assert not columns_of(many)


def columns_of(x: Any) -> list[Finding]:
    return [*find_columns(make_subject(compiled(), x, np.resize(Y, len(x))))]


def test_a_column_that_is_there_twice_is_named() -> None:
    (found,) = columns(having(3, X[:, 1]))
    assert found.told == (
        "column 3 is the same as 1 on every row: leave one of the two out, or see whether another "
        "was meant"
    )
    many = np.resize(X, (20_000, 4)).copy()
    many[:, 3] = many[:, 1]
    many[12_345, 3] += 1
    assert not columns_of(many)


def test_columns_that_are_equal_by_chance_are_healthy() -> None:
    rare = np.zeros((300, 4), np.float32)
    rare[5, :2] = 1  # two rare words, of one text
    rare[:, 2:] = X[:, 2:]
    assert not columns(rare)


def test_images_have_constant_borders() -> None:
    flat = np.zeros((300, 64), np.float32)
    flat[:, 20:40] = DRAW.uniform(size=(300, 20))
    assert not columns(flat)
    assert not columns(1 - flat)
    assert not columns(flat - 0.4)


@pytest.mark.parametrize("code", [-999.0, -9999.0, 999.0, 9999.0, -99.0])
def test_a_code_for_missing_values_is_named(code: float) -> None:
    missing = np.arange(300) % 15 == 0
    (found,) = columns(having(1, np.where(missing, code, X[:, 1])))
    assert (found.cause, found.certain) == ("missing_values", False)
    assert found.reason == (
        f"column 1 is {code:g} on 0.067 of the rows, far from all its other values: it looks like "
        "a missing value"
    )


@pytest.mark.parametrize(
    "values",
    [
        np.where(np.arange(300) % 15 == 0, 999.0, 900 + 30 * X[:, 1]),  # one of many
        np.where(np.arange(300) % 2 == 0, 999.0, 0.0),  # a name for a group
        np.where(np.arange(300) == 7, -999.0, X[:, 1]),  # once
        np.where(np.arange(300) % 15 == 0, -700.0, X[:, 1]),
        np.arange(300) * 40.0 - 999,
    ],
)
def test_numbers_that_are_no_code(values: Any) -> None:
    assert not columns(having(1, values))


def test_columns_are_looked_at_as_they_were_before_they_were_scaled() -> None:
    missing = np.where(np.arange(300) % 15 == 0, -999.0, X[:, 1]).astype("float32")
    raw = having(2, 7.0, having(1, missing))
    scaling = Scaling(
        mean=raw.mean(axis=0), variance=np.where(raw.var(axis=0) > 0, raw.var(axis=0), 1)
    )
    found = columns(scaling.apply(raw), scalings={"": scaling})
    assert [each.cause for each in found] == ["constant_columns", "missing_values"]
    assert found[0].reason == "column 2 is 7 on every row"
    assert found[1].reason.startswith("column 1 is -999 on 0.067 of the rows")


def test_columns_of_a_file_have_names_and_texts_are_several() -> None:
    texts = Lookup(codes=np.zeros(300, int), table=np.eye(2, dtype="float32"))
    x = Columns(parts=(X[:, 0], texts, np.full(300, 3.0, "float32")))
    found = columns(x, columns=("speed", "kind", "angle"))
    assert [each.reason for each in found] == ["column angle is 3 on every row"]


def test_a_network_that_masks_or_looks_up_takes_codes() -> None:
    words = np.full((300, 4), -999, "int32")
    words[:, :2] = DRAW.integers(0, 9, size=(300, 2))
    model = compiled(layers.Embedding(1000, 2), layers.Flatten(), layers.Dense(1))
    assert not [*find_columns(make_subject(model, np.abs(words), Y))]
