"""From the record of a failed attempt to the remedies that answer it."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from orchestrator.config.schema import LowerLearningRate
from orchestrator.policy import evidence
from orchestrator.record.records import (
    INIT,
    Attempt,
    Candidate,
    Cause,
    Failure,
    Finding,
    Phase,
    Settings,
)
from tests.builders import made

LIMITS = {"min_ratio": 1e-4, "min_information": 1e-4, "min_skill": -0.1}


def phase(
    name: str = "main",
    *,
    losses: tuple[float | None, float | None] = (1.0, 1.0),
    ratio: float = 0.5,
    skill: float = 0.0,
    responding: int | None = None,
    **verdicts: Any,
) -> Phase:
    dead = {} if responding is None else {"responding_rows": responding}
    outputs = {"outputs": [{"output": 0, "variance_ratio": ratio, "skill": skill}]}
    checks = [
        made("finite", verdict=verdicts.get("finite", "pass")),
        made("dead_neurons", verdict=verdicts.get("dead", "pass"), measured=dead),
        made(
            "prediction_variance",
            verdict=verdicts.get("variance", "pass"),
            measured=outputs,
            limits=LIMITS,
        ),
        made("metric", verdict=verdicts.get("metric", "pass")),
    ]
    first, highest = (None, None) if name == INIT else losses
    return Phase(
        phase=name,
        epochs=int(name != INIT),
        seconds=1.0,
        metrics={},
        checks=tuple(checks),
        first_loss=first,
        highest_loss=highest,
    )


def attempt(*phases: Phase, rates: dict[str, float] | None = None, **fields: Any) -> Attempt:
    """A failed attempt; its last phase has the failure, if any has."""
    failure = phases[-1].failure() if phases else None
    failure = failure or Failure(check="crashed", phase=None, reason="killed")
    return Attempt(
        attempt=1,
        status="failed",
        settings=Settings(seed=7),
        failure=failure,
        phases=phases,
        learning_rates=rates or {},
        **fields,
    )


BORN_DEAD = attempt(phase(INIT, dead="fail"))
FAULT = Finding(cause="initialization", reason="its kernel is zero", final=False)
UNSCALED = Finding(cause="unscaled_inputs", reason="x is in millions", final=False)
SCREENED = tuple(Candidate(seed=seed, reason="dead") for seed in range(64))

CASES = {
    "not finite": (
        attempt(phase(INIT), phase(finite="fail")),
        "non_finite",
        ["lower_learning_rate", "clip_gradients", "new_seed"],
    ),
    "dead after the loss shot up": (
        attempt(phase(INIT), phase(dead="fail", losses=(1.0, 50.0))),
        "shot_up",
        ["lower_learning_rate", "leaky_relu", "new_seed"],
    ),
    "constant after the loss shot up": (
        attempt(phase(INIT), phase(variance="fail", ratio=0.0, losses=(1.0, 50.0))),
        "shot_up",
        ["lower_learning_rate", "leaky_relu", "new_seed"],
    ),
    "the loss became infinite, the weights are finite again": (
        attempt(phase(INIT), phase(dead="fail", losses=(1.0, float("inf")))),
        "shot_up",
        ["lower_learning_rate", "leaky_relu", "new_seed"],
    ),
    "dead, quietly": (
        attempt(phase(INIT), phase(dead="fail")),
        "died",
        ["new_seed", "leaky_relu", "lower_learning_rate", "new_seed"],
    ),
    "dead, quietly, and most seeds are born dead": (
        attempt(phase(INIT), phase(dead="fail"), screened=SCREENED[:5]),
        "died",
        ["leaky_relu", "new_seed", "lower_learning_rate"],
    ),
    "dead, quietly, and some seeds are born dead": (
        attempt(phase(INIT), phase(dead="fail"), screened=SCREENED[:4]),
        "died",
        ["new_seed", "leaky_relu", "lower_learning_rate", "new_seed"],
    ),
    "constant for every row has died in another layer": (
        attempt(phase(INIT), phase(variance="fail", ratio=0.0, responding=0)),
        "died",
        ["new_seed", "leaky_relu", "lower_learning_rate", "new_seed"],
    ),
    "constant with living units": (
        attempt(phase(INIT), phase(variance="fail", ratio=0.0, responding=9)),
        "collapsed",
        ["new_seed", "lower_learning_rate", "leaky_relu", "new_seed"],
    ),
    "worse than a constant": (
        attempt(phase(INIT), phase(variance="fail", ratio=0.5, responding=9)),
        "astray",
        ["new_seed", "leaky_relu", "lower_learning_rate"],
    ),
    "worse than a constant, on inputs of wild scales": (
        attempt(phase(INIT), phase(variance="fail", ratio=0.5), findings=(UNSCALED,)),
        "astray",
        ["lower_learning_rate", "new_seed", "leaky_relu"],
    ),
    "not finite, on inputs of wild scales": (
        attempt(phase(INIT), phase(finite="fail"), findings=(UNSCALED,)),
        "non_finite",
        ["lower_learning_rate", "clip_gradients", "new_seed"],
    ),
    "a gate": (
        attempt(phase(INIT), phase(metric="fail", losses=(1.0, 50.0))),
        "metric",
        ["new_seed", "lower_learning_rate"],
    ),
    "killed": (attempt(), "crashed", ["new_seed", "lower_learning_rate"]),
    "not finite before training": (
        attempt(phase(INIT, finite="fail")),
        "born_dead",
        ["new_seed", "leaky_relu", "reinitialize"],
    ),
    "born dead, and every seed gives the same": (
        replace(BORN_DEAD, findings=(Finding(cause="fixed_seed", reason="", final=False),)),
        "born_dead",
        ["leaky_relu", "reinitialize"],
    ),
    "dead under a loss below zero": (
        attempt(phase(INIT), phase(dead="fail", losses=(-0.1, -0.09))),
        "died",
        ["new_seed", "leaky_relu", "lower_learning_rate", "new_seed"],
    ),
    "born dead, with one seed tried": (
        BORN_DEAD,
        "born_dead",
        ["new_seed", "leaky_relu", "reinitialize"],
    ),
    "born dead with every seed": (
        replace(BORN_DEAD, screened=SCREENED),
        "born_dead",
        ["leaky_relu", "reinitialize"],
    ),
    "born dead by the initialisers": (
        replace(BORN_DEAD, screened=SCREENED, findings=(FAULT,)),
        "born_dead",
        ["reinitialize", "leaky_relu"],
    ),
    "born dead by the initialisers, with one seed tried": (
        replace(BORN_DEAD, findings=(FAULT,)),
        "born_dead",
        ["reinitialize", "leaky_relu", "new_seed"],
    ),
}


@pytest.mark.parametrize(("failed", "kind", "remedies"), CASES.values(), ids=CASES.keys())
def test_the_evidence_names_the_kind_and_the_remedies(
    failed: Attempt, kind: str, remedies: list[str]
) -> None:
    assert evidence.kind(failed) == kind
    assert [rung.remedy for rung in evidence.rungs(failed)] == remedies


def test_the_loss_of_the_untrained_network_is_the_measure() -> None:
    # From the second phase on the first step's loss is that of a trained network.
    earlier = phase("warmup", losses=(1.0, 0.9))
    quiet = attempt(phase(INIT), earlier, phase(dead="fail", losses=(0.01, 0.9)))
    loud = attempt(phase(INIT), earlier, phase(dead="fail", losses=(0.01, 3.1)))
    assert (evidence.kind(quiet), evidence.kind(loud)) == ("died", "shot_up")


def test_an_attempt_without_a_failure_has_no_kind() -> None:
    passed = Attempt(attempt=1, status="passed", settings=Settings(seed=7))
    with pytest.raises(ValueError, match="expected a failed attempt"):
        evidence.kind(passed)


@pytest.mark.parametrize(
    ("rates", "factor"),
    [
        ({"warmup": 0.001, "main": 5.0}, (0.001 / 5.0) ** (2 / 3)),
        ({"warmup": 5.0, "main": 5.0}, 0.1),
        ({"warmup": 4.0, "main": 5.0}, 0.1),
        ({"warmup": 1e-9, "main": 5.0}, 1e-3),
        ({"warmup": 0.0, "main": 5.0}, 0.1),
    ],
)
def test_the_rate_goes_towards_one_that_the_attempt_survived(
    rates: dict[str, float], factor: float
) -> None:
    failed = attempt(phase(INIT), phase("warmup"), phase(finite="fail"), rates=rates)
    (rung,) = [each for each in evidence.rungs(failed) if isinstance(each, LowerLearningRate)]
    assert rung.factor == pytest.approx(factor)


def test_a_final_finding_ends_it() -> None:
    final = Finding(cause="held_at_zero", reason="held by L1", final=True)
    failed = replace(CASES["constant with living units"][0], findings=(FAULT, final))
    assert evidence.hopeless([failed]) == "held by L1"
    assert evidence.hopeless([replace(failed, findings=(FAULT,))]) is None


@pytest.mark.parametrize(
    ("cause", "enough"),
    [("unrelated_targets", 2), ("distant_targets", 3), ("unscaled_inputs", 4)],
)
def test_data_at_fault_ends_it_after_failures_of_living_networks(cause: Cause, enough: int) -> None:
    found = Finding(cause=cause, reason="the data", final=False)
    living = replace(CASES["constant with living units"][0], findings=(found,))
    dead = replace(CASES["dead, quietly"][0], findings=(found,))
    assert evidence.hopeless([living] * (enough - 1)) is None
    assert evidence.hopeless([dead] * 5 + [living] * (enough - 1)) is None
    assert evidence.hopeless([living] * enough) == "the data"
    assert evidence.hopeless([living] * enough + [dead]) == "the data"


def test_the_conclusion_names_what_failed_and_each_finding_once() -> None:
    first, second = CASES["not finite"][0], replace(BORN_DEAD, attempt=2)
    found = [replace(each, findings=(FAULT,)) for each in (first, second)]
    assert evidence.conclusion(found, "all is tried") == (
        "all is tried. Attempt 1 failed finite at main, attempt 2 failed dead_neurons at init. "
        "What the evidence points to: its kernel is zero"
    )
    assert evidence.conclusion(found[:1], "no remedy can help: its kernel is zero") == (
        "no remedy can help: its kernel is zero. Attempt 1 failed finite at main"
    )


def test_the_conclusion_has_the_last_figures_of_a_cause() -> None:
    reasons = ["629 away", "93 away"]
    found = [
        replace(
            CASES["worse than a constant"][0],
            attempt=number,
            findings=(Finding(cause="distant_targets", reason=reason, final=False),),
        )
        for number, reason in enumerate(reasons, 1)
    ]
    told = evidence.conclusion(found, "all is tried")
    assert told.endswith("What the evidence points to: 93 away")
    assert "629" not in told


@pytest.mark.parametrize(
    ("skills", "best"),
    [
        ([0.9], None),
        ([0.1, 0.9], None),
        ([0.9, 0.75], None),
        ([0.9, 0.1, 0.75], None),
        ([0.9, 0.1, 0.69], "one"),
        ([0.5, 0.99, 0.1], "two"),
        ([0.9, float("nan")], None),
    ],
)
def test_a_network_that_was_better_before_is_told_of(skills: list[float], best: str | None) -> None:
    names = ("one", "two", "three")
    phases = [phase(name, skill=skill) for name, skill in zip(names, skills, strict=False)]
    passed = Attempt(
        attempt=1,
        status="passed",
        settings=Settings(seed=7),
        phases=(phase(INIT, skill=1), *phases),
    )
    told = evidence.decline(passed)
    assert (told is None) == (best is None)
    if told is not None:
        assert f"which was {max(skills[:-1]):.3g} after phase {best}" in told
