"""What goes on before training, each with its time."""

import time

import pytest

from orchestrator.display.live import steps
from orchestrator.display.live.steps import Steps


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def following(told: list[str], monkeypatch: pytest.MonkeyPatch) -> Steps:
    monkeypatch.setattr(steps, "LONG_SECONDS", 0.1)
    return Steps(lambda what, seconds: told.append(f"{what} {seconds:.0f}"), told.append)


def test_each_is_told_once_it_is_over(following: Steps, told: list[str]) -> None:
    following.begin("reading rows")
    assert told == []
    following.begin("building the model")
    assert told == ["reading rows 0"]
    following.end()
    following.end()
    assert told == ["reading rows 0", "building the model 0"]


def test_how_far_it_has_come_is_no_other_step(following: Steps, told: list[str]) -> None:
    following.begin("checking: tracing the model")
    following.begin("checking: 3 of 8 batches")
    following.end(told=False)
    assert told == []


def test_what_takes_long_is_told_on_the_way(following: Steps, told: list[str]) -> None:
    following.begin("checking: tracing the model")
    following.begin("checking: 3 of 8 batches")
    time.sleep(0.3)
    assert told == ["checking: 3 of 8 batches"]
    following.end(told=False)
    following.begin("saving")
    following.end(told=False)
    time.sleep(0.2)
    assert told == ["checking: 3 of 8 batches"]
