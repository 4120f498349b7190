"""A run that is killed four times ends as one that was left alone, to the bit."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.benchmarks import kills
from tests.benchmarks.kills import Strike


def strike(victim: kills.Victim, lines: int, delay: float) -> Strike:
    return Strike(victim=victim, number=signal.SIGKILL, kind="event", count=lines, delay=delay)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_four_kills_change_nothing(memory_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kills, "_POLL_SECONDS", 0.005)  # the moments may be a little later
    config = kills.write_config(memory_path, "schedule")
    expected, _, lines = kills.in_peace(config, memory_path / "peace")
    # At different moments: in an epoch, at a check, between attempts, while a model is built.
    part = lines // 6
    strikes = [
        strike("worker", part, 0.0),
        strike("supervisor", part, 0.002),
        strike("worker", part + 1, 0.01),
        strike("supervisor", part, 0.05),
    ]
    story = kills.kill_and_resume(config, memory_path / "killed", strikes, expected)
    assert story.differences == []
    assert [hit.strike for hit in story.hits] == strikes
