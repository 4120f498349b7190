"""What a run in progress is doing."""

from collections.abc import Sequence

import pytest

from orchestrator.history.briefs import activity
from orchestrator.record.events import (
    AttemptResumed,
    EpochEnded,
    Event,
    PhaseStarted,
    RunResumed,
)
from tests.story import started

BEGUN = PhaseStarted(attempt=1, phase="main", epochs=60, learning_rate=0.01)
BEGUN_INSIDE = PhaseStarted(attempt=1, phase="main", epochs=60, learning_rate=0.01, done=30)
EPOCH = EpochEnded(attempt=1, phase="main", epoch=1, learning_rate=0.01, metrics={})
RESUMED = AttemptResumed(attempt=1, restarts=1, phases=1, epoch=30)
RUN_RESUMED = RunResumed(resumed="2026-11-23T10:10:10Z")


@pytest.mark.parametrize(
    ("events", "doing"),
    [
        ([], "starting"),
        ([started(1)], "attempt 1, starting"),
        ([started(1), BEGUN, EPOCH, EPOCH], "attempt 1, main 2/60"),
        ([started(1), BEGUN, *[EPOCH] * 34, RUN_RESUMED], "starting"),
        ([started(1), BEGUN, *[EPOCH] * 34, RESUMED], "attempt 1, starting"),
        ([started(1), BEGUN, *[EPOCH] * 34, RESUMED, BEGUN_INSIDE], "attempt 1, main 30/60"),
        ([started(1), BEGUN_INSIDE, *[EPOCH] * 3], "attempt 1, main 33/60"),
        ([started(1), BEGUN, EPOCH, started(2)], "attempt 2, starting"),
    ],
)
def test_epochs_of_a_phase_are_counted_from_where_its_attempt_goes_on(
    events: Sequence[Event], doing: str
) -> None:
    assert activity(events) == doing
