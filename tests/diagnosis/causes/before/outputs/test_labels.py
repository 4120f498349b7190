"""Labels that are not what the loss takes them for, and those that are."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from orchestrator.diagnosis.causes.before.outputs.labels import find_wrong_labels
from tests.diagnosis.causes.before.outputs.looking import inputs, stack, subject, told

layers = keras.layers
X = inputs()
LABELS = np.arange(200) % 3
ONE_HOT = np.eye(3, dtype=np.float32)[LABELS]
MULTI_HOT = (X > 0).astype(np.float32)


def head(units: int, activation: Any, loss: Any, **options: Any) -> keras.Model:
    return stack(layers.Dense(units, activation=activation), loss=loss, **options)


def test_labels_that_start_at_one() -> None:
    model = head(4, "softmax", "sparse_categorical_crossentropy")
    (found,) = find_wrong_labels(subject(model, X, 1 + LABELS))
    assert not found.certain
    assert found.told == (
        "the labels of the output are 1 to 3, and of its 4 units the first, for class 0, never has "
        "a row: subtract 1 from the labels, and take 3 units"
    )


def test_classes_without_a_row_are_not_labels_from_one() -> None:
    for units, labels in [(4, LABELS), (6, 1 + LABELS), (3, LABELS), (4, np.where(LABELS, 3, 1))]:
        model = head(units, "softmax", "sparse_categorical_crossentropy")
        assert not told(find_wrong_labels, subject(model, X, labels))
    model = head(30, "softmax", "sparse_categorical_crossentropy")  # too few rows for so many
    assert not told(find_wrong_labels, subject(model, X, 1 + np.arange(200) % 29))


def test_in_a_text_0_is_no_class() -> None:
    model = stack(
        layers.Dense(8),
        layers.Reshape((2, 4)),
        layers.Softmax(),
        loss="sparse_categorical_crossentropy",
    )
    y = np.stack([1 + LABELS, 1 + LABELS[::-1]], axis=1)
    assert not told(find_wrong_labels, subject(model, X, y))


@pytest.mark.parametrize("logits", [False, True])
def test_several_labels_a_row_are_no_single_class(logits: bool) -> None:
    loss = keras.losses.CategoricalCrossentropy(from_logits=logits)
    model = head(3, None if logits else "softmax", loss)
    (found,) = find_wrong_labels(subject(model, X, MULTI_HOT))
    assert not found.certain
    several = np.mean(MULTI_HOT.sum(axis=1) > 1)
    need = "loss binary_crossentropy with from_logits=True"
    assert found.told == (
        f"{several:.2g} of the rows have several labels for the output, up to 3, and the loss "
        "categorical_crossentropy is that of one class a row, whose units share out 1: several "
        "labels a row need "
        + (need if logits else "activation sigmoid and loss binary_crossentropy")
    )


def test_targets_of_no_shares_are_told_by_their_sums() -> None:
    model = head(3, "softmax", "categorical_crossentropy")
    (found,) = find_wrong_labels(subject(model, X, 0.5 * MULTI_HOT + 0.1))
    assert "the targets of the output add up to 0.3 to 1.8 on" in found.reason
    assert found.advice.startswith("divide them by their sum")


SHARES = np.exp(X) / np.exp(X).sum(axis=1, keepdims=True)
RARELY = np.where(np.arange(200)[:, None] % 25, ONE_HOT, 1.0)


@pytest.mark.parametrize(
    ("activation", "loss", "y"),
    [
        ("softmax", "categorical_crossentropy", ONE_HOT),
        ("softmax", "categorical_crossentropy", 0.9 * ONE_HOT + 0.1 / 3),
        ("softmax", "categorical_crossentropy", np.round(SHARES, 2)),
        ("softmax", "categorical_crossentropy", np.where(X[:, :1] > 0, ONE_HOT, 0)),  # background
        ("softmax", "categorical_crossentropy", 0 * ONE_HOT),
        ("softmax", "categorical_crossentropy", RARELY),
        ("sigmoid", "categorical_crossentropy", MULTI_HOT),  # a loss that does not fit
        ("sigmoid", "binary_crossentropy", MULTI_HOT),
    ],
)
def test_shares_of_one_are_left_in_peace(activation: str, loss: str, y: Any) -> None:
    assert not told(find_wrong_labels, subject(head(3, activation, loss), X, y))


def test_rows_that_do_not_count_may_have_several_labels() -> None:
    model, counts = head(3, "softmax", "categorical_crossentropy"), np.arange(200) % 2
    y = np.where(counts[:, None] > 0, ONE_HOT, 1.0)
    for weight, expected in [(None, 1), (counts.astype(np.float32), 0)]:
        assert len(told(find_wrong_labels, subject(model, X, y, weight))) == expected


@pytest.mark.parametrize(
    ("y", "expected"),
    [(LABELS % 2, 0), (2 * (LABELS % 2) - 1, 0), (1 + LABELS % 2, 1), (LABELS, 1)],
)
def test_a_hinge_takes_two_labels(y: Any, expected: int) -> None:
    model = head(1, None, "hinge")
    assert len(told(find_wrong_labels, subject(model, X, y.astype(np.float32)))) == expected


def test_classes_as_amounts_where_an_accuracy_is_asked_for() -> None:
    y = LABELS.astype(np.float32)
    for metrics, expected in [(["accuracy"], 1), (["mae"], 0), (None, 0)]:
        model = head(1, None, "mse", metrics=metrics)
        found = [*find_wrong_labels(subject(model, X, y))]
        assert len(found) == expected
        assert all(
            "the classes 0 to 2, for an accuracy is asked for" in each.reason for each in found
        )


@pytest.mark.parametrize("y", [X[:, 0], LABELS + 1, LABELS % 2, np.arange(200)])
def test_amounts_are_left_in_peace(y: Any) -> None:
    model = head(1, None, "mse", metrics=["accuracy"])
    assert not told(find_wrong_labels, subject(model, X, y.astype(np.float32)))
