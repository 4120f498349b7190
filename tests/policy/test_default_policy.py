"""The default policy decides as the code did that it was before it became data."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.config.schema import Config
from orchestrator.policy import rule
from orchestrator.record.records import Attempt
from tests.policy import walks


def decide(config: Config, attempts: Sequence[Attempt]) -> walks.Decision:
    step = rule.step(config, attempts)
    taken = step.taken
    return walks.Decision(
        remedy=None if taken is None else taken.rung.remedy,
        settings=None if taken is None else taken.settings,
        passed_over=step.passed_over,
        reason=step.reason,
        record={} if taken is None else {"rung": taken.key},
    )


def test_every_recorded_walk_is_walked_again() -> None:
    recorded = walks.recorded()
    assert len(recorded) == walks.WALKS
    walked = {
        number: walks.walk(int(number), decide, rule.candidates)
        for number in recorded
    }  # fmt: skip
    assert walked == recorded
