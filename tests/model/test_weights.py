"""The digest of weights: what changes it, and what does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from orchestrator.model.weights import digest

ONE = np.arange(6, dtype=np.float32).reshape(2, 3)
TWO = np.ones(3, np.float32)


def test_it_is_a_sha256_that_never_changes() -> None:
    # Records that exist were made with it.
    assert digest([ONE, TWO]) == (
        "sha256:33c7a900dd8754936d12cc704488773a3d33bcd6dfac7917c3e9bccdf1b02c6f"
    )


@pytest.mark.parametrize(
    "same",
    [
        lambda: [ONE.copy(), TWO],
        lambda: [np.asfortranarray(ONE), TWO],
        lambda: [np.repeat(ONE, 2, axis=1)[:, ::2], TWO],
        lambda: iter([ONE, TWO]),
    ],
)
def test_the_same_values_give_the_same(same: Callable[[], Any]) -> None:
    assert digest(same()) == digest([ONE, TWO])


@pytest.mark.parametrize(
    "other",
    [
        [TWO, ONE],
        [ONE],
        [ONE, TWO, np.zeros((0, 3), np.float32)],
        [ONE.reshape(3, 2), TWO],
        [ONE.astype(np.float64), TWO],
        [ONE.view(np.int32), TWO],
        [np.nextafter(ONE, np.float32(9)), TWO],
        [np.where(ONE == 0, np.float32(-0.0), ONE), TWO],
        [np.where(ONE == 0, np.float32(np.nan), ONE), TWO],
    ],
)
def test_anything_else_gives_another(other: list[Any]) -> None:
    assert digest(other) != digest([ONE, TWO])


def test_what_is_not_finite_is_hashed_like_all_others() -> None:
    broken = np.array([np.nan, np.inf, -np.inf], np.float32)
    assert digest([broken]) == digest([broken.copy()]) != digest([broken[::-1]])


def test_every_kind_of_weight_can_be_hashed() -> None:
    half = np.ones(4, ml_dtypes.bfloat16)
    kinds = [half, np.array(True), np.array(3, np.int64), np.zeros((0,), np.uint8)]
    assert len({digest([each]) for each in kinds}) == len(kinds)
    assert digest([half]) != digest([half * np.array(2, ml_dtypes.bfloat16)])
