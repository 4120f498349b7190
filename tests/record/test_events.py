from __future__ import annotations

import math

import pytest

from orchestrator.record.events import (
    AttemptEnded,
    AttemptResumed,
    AttemptStarted,
    CausesFound,
    EpochEnded,
    Event,
    ModelBuilt,
    ObstacleMet,
    PhaseEnded,
    PhaseStarted,
    RunEnded,
    RunResumed,
    RunStarted,
    SeedsScreened,
    Warned,
    advance,
)
from orchestrator.record.records import Candidate, Failure, Finding, Inputs, Run, Settings
from tests import builders

STARTED = AttemptStarted(
    attempt=1, settings=Settings(seed=7), remedy=None, cause=None, changed={}, passed_over=()
)


def _after(*events: Event) -> Run:
    run = Run(run="")
    for number, event in enumerate(events):
        run = advance(run, event, elapsed=float(number))
    return run


def test_the_first_event_names_the_run() -> None:
    inputs = Inputs(columns=("a", "b"))
    run = _after(RunStarted(run="r-1", started="2026-01-01", inputs=inputs, fingerprint="f"))
    assert (run.run, run.started, run.inputs, run.status) == (
        "r-1",
        "2026-01-01",
        inputs,
        "running",
    )


def test_an_attempt_starts_with_all_that_was_decided() -> None:
    cause = Failure(check="finite", phase="main", reason="NaN")
    event = AttemptStarted(
        attempt=1,
        settings=Settings(seed=9, learning_rate_cap=0.1),
        remedy="lower_learning_rate",
        cause=cause,
        changed={"seed": {"from": 7, "to": 9}},
        passed_over=("leaky_relu: no relu",),
        rung="restart.policy.1",
    )
    (attempt,) = _after(event).attempts
    assert (attempt.attempt, attempt.status, attempt.remedy, attempt.rung) == (
        1,
        "running",
        "lower_learning_rate",
        "restart.policy.1",
    )
    assert (attempt.cause, attempt.settings, attempt.changed, attempt.passed_over) == (
        cause,
        event.settings,
        event.changed,
        event.passed_over,
    )


def test_what_the_model_cannot_carry_is_kept_with_the_attempt() -> None:
    built = ModelBuilt(attempt=1, parameters=3, obstacles={"leaky_relu": "no relu"})
    (attempt,) = _after(STARTED, built).attempts
    assert attempt.obstacles == {"leaky_relu": "no relu"}
    met = ObstacleMet(attempt=1, remedy="rewind", reason="opaque")
    (attempt,) = _after(STARTED, built, met).attempts
    assert attempt.obstacles == {"leaky_relu": "no relu", "rewind": "opaque"}


def test_phases_and_the_end_belong_to_the_last_attempt() -> None:
    failure = Failure(check="dead_neurons", phase="main", reason="dead")
    second = AttemptStarted(
        attempt=2,
        settings=Settings(seed=8),
        remedy="new_seed",
        cause=None,
        changed={},
        passed_over=(),
    )
    run = _after(
        STARTED,
        PhaseEnded(attempt=1, phase=builders.phase("init")),
        AttemptEnded(attempt=1, status="failed", failure=failure, seconds=1.5),
        second,
        PhaseEnded(attempt=2, phase=builders.phase("init")),
        PhaseEnded(attempt=2, phase=builders.phase("warmup")),
    )
    first, last = run.attempts
    assert (first.status, first.failure, first.seconds) == ("failed", failure, 1.5)
    assert [phase.phase for phase in first.phases] == ["init"]
    assert last.status == "running"
    assert [phase.phase for phase in last.phases] == ["init", "warmup"]


def _epoch(phase: str, rate: float) -> EpochEnded:
    return EpochEnded(attempt=1, phase=phase, epoch=1, learning_rate=rate, metrics={})


def test_the_highest_rate_of_each_phase_is_kept() -> None:
    begun = PhaseStarted(attempt=1, phase="warmup", epochs=3, learning_rate=0.01)
    run = _after(
        STARTED, begun, _epoch("warmup", 0.05), _epoch("warmup", 0.02), _epoch("main", 0.003)
    )
    assert run.attempts[0].learning_rates == {"warmup": 0.05, "main": 0.003}


def test_a_rate_that_is_not_a_number_is_not_the_highest() -> None:
    run = _after(STARTED, _epoch("main", 0.05), _epoch("main", math.nan))
    assert run.attempts[0].learning_rates == {"main": 0.05}


def test_warnings_add_up() -> None:
    assert _after(Warned(message="a"), Warned(message="b")).warnings == ("a", "b")


def test_the_end_says_how_and_with_which_attempt() -> None:
    ended = RunEnded(
        status="passed", accepted_attempt=1, best_attempt=1, conclusion="good", exit_code=0
    )
    run = _after(STARTED, ended)
    assert (run.status, run.accepted_attempt, run.best_attempt) == ("passed", 1, 1)
    assert (run.conclusion, run.exit_code) == ("good", 0)


@pytest.mark.parametrize("event", [Warned(message="x"), STARTED])
def test_time_goes_on_with_every_event_and_the_run_before_stays(event: Event) -> None:
    before = Run(run="r", seconds=1.0)
    assert advance(before, event, elapsed=2.3456).seconds == 2.346
    assert before == Run(run="r", seconds=1.0)


def test_a_run_that_goes_on_is_running_again() -> None:
    cut = AttemptEnded(attempt=1, status="interrupted", failure=None, seconds=1.0)
    ended = RunEnded(
        status="interrupted",
        accepted_attempt=None,
        best_attempt=None,
        conclusion="stopped by SIGINT",
        exit_code=75,
    )
    run = _after(STARTED, cut, ended, RunResumed(resumed="2026-01-02"))
    assert (run.status, run.conclusion, run.exit_code) == ("running", None, None)
    assert run.attempts[0].status == "running"


def test_what_an_attempt_did_beyond_its_snapshot_is_taken_back() -> None:
    early = Finding(cause="few_steps", reason="few", found="before")
    run = _after(
        STARTED,
        SeedsScreened(
            attempt=1,
            seed=8,
            candidates=(Candidate(seed=7, reason="dead"), Candidate(seed=8, reason=None)),
        ),
        CausesFound(attempt=1, findings=(early,), failed=False),
        PhaseEnded(attempt=1, phase=builders.phase("init")),
        PhaseEnded(attempt=1, phase=builders.phase("main")),
        CausesFound(attempt=1, findings=(Finding(cause="undertrained", reason="late"),)),
    )
    kept = AttemptResumed(attempt=1, restarts=1, phases=1, epoch=2)
    (attempt,) = (onward := advance(run, kept, elapsed=9.0)).attempts
    assert [phase.phase for phase in attempt.phases] == ["init"]
    assert (attempt.restarts, attempt.settings.seed, attempt.findings) == (1, 8, (early,))
    assert onward.screened_seeds == 2
    anew = AttemptResumed(attempt=1, restarts=2, phases=0, epoch=0)
    (attempt,) = (onward := advance(run, anew, elapsed=9.0)).attempts
    assert (attempt.phases, attempt.findings, attempt.screened) == ((), (), ())
    assert (attempt.settings.seed, onward.screened_seeds) == (7, 0)
