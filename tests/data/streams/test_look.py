"""When a source of batches counts as one without an end."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from orchestrator.data.rows import Batch
from orchestrator.data.streams import look
from orchestrator.data.streams.look import Look


def first_reason(batches: Iterable[Batch], each: float = 0.1) -> tuple[int, str] | None:
    """Number of the batch, from 1, with which the source counts as endless, and why."""
    now = 0.0

    def clock() -> float:
        return now

    looking = Look(clock)
    for number, batch in enumerate(batches, 1):
        now += each
        reason = looking.endless(batch)
        if reason is not None:
            return number, reason
    return None


def shuffled(rows: int, count: int) -> Iterable[Batch]:
    """Batches of eight of the same rows, in another order in every pass."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(rows, 3))
    for _ in range(count):
        order = draw.permutation(rows)
        for start in range(0, rows, 8):
            yield x[order[start : start + 8]], order[start : start + 8], None


def test_the_same_rows_in_another_order_are_known_again_within_seconds() -> None:
    found = first_reason(shuffled(32, 1000), each=0.125)
    assert found is not None
    assert found[0] == 17  # the first after two seconds
    assert found[1] == "136 rows in 17 batches were read in 2 s, the same 32 over again"


def test_a_source_that_gives_its_rows_three_times_has_an_end() -> None:
    assert first_reason(shuffled(32, 3), each=5) is None


def test_new_rows_are_read_for_a_minute() -> None:
    draw = np.random.default_rng(0)
    batches = ((draw.normal(size=(8, 2)), np.zeros(8), None) for _ in range(10_000))
    found = first_reason(batches)
    assert found is not None
    assert 600 <= found[0] <= 601
    assert found[1].endswith("were read in 60 s, and more would have come")


def test_rows_and_bytes_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = (np.arange(16.0).reshape(8, 2), np.arange(8.0), None)
    monkeypatch.setattr(look, "ROWS", 100)
    found = first_reason([batch] * 50, each=0)
    assert found is not None
    assert found[0] == 13
    monkeypatch.setattr(look, "ROWS", 10**9)
    monkeypatch.setattr(look, "BYTES", 1000)
    found = first_reason([batch] * 50, each=0)
    assert found is not None
    assert found[0] == 6


def test_rows_that_differ_in_their_texts_or_targets_alone_differ() -> None:
    x = np.array(["same"] * 8, object)
    batches: list[Batch] = [(x, np.arange(8) + 8 * index, None) for index in range(100)]
    assert first_reason(batches) is None
    texts = [np.array([f"{index} {row}" for row in range(8)], object) for index in range(100)]
    assert first_reason([(text, np.zeros(8), None) for text in texts]) is None


def test_memory_is_given_up_where_there_are_too_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look, "_KNOWN", 16)
    assert first_reason(shuffled(32, 40)) is None  # 16 s of reading
