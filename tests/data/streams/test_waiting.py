"""That code of the user's is waited for is told, and that it has come."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from orchestrator.data.streams.waiting import Waiting
from orchestrator.record.events import ReadingProgress


def test_a_batch_that_does_not_come_is_told_of_once_and_that_it_came() -> None:
    told: list[ReadingProgress] = []
    late, went_on = threading.Event(), threading.Event()

    def report(progress: ReadingProgress) -> None:
        told.append(progress)
        (went_on if progress.done else late).set()

    def batches() -> Iterator[int]:
        yield 1
        assert late.wait(20)
        yield 2

    assert [*Waiting("the generator f", report).each(batches())] == [1, 2]
    assert went_on.wait(20)
    assert [(each.what, each.done) for each in told] == [
        ("the generator f", False),
        ("the generator f", True),
    ]


def test_what_comes_at_once_is_not_told() -> None:
    told: list[ReadingProgress] = []
    assert [*Waiting("f", told.append).each(range(100))] == [*range(100)]
    time.sleep(0.6)
    assert told == []
