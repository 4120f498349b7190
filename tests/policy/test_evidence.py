"""From the record of a failed attempt to the remedies that answer it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from orchestrator.config.sections.restart import Restart
from orchestrator.config.sections.when import All
from orchestrator.policy import evidence, rule
from orchestrator.policy.kinds import kinds
from orchestrator.record.records import (
    INIT,
    Attempt,
    Candidate,
    Cause,
    Failure,
    Finding,
    Fix,
    Phase,
)
from tests import builders
from tests.builders import made
from tests.policy.attempts import LIMITS, LOST, attempt, phase


def lagging(found: Phase) -> Phase:
    """A phase whose skill is fine with BatchNorm's batch statistics."""
    check = made("prediction_variance", verdict="fail", measured=LAGGING, limits=LIMITS)
    return replace(
        found, checks=tuple(check if each.check == check.check else each for each in found.checks)
    )


def pointing(cause: Cause) -> Attempt:
    """An attempt that is alive and has learnt too little, and what that points to."""
    found = Finding(cause=cause, reason="so it is", advice="write something else")
    return attempt(phase(INIT), phase(learned="fail", skill=0.3, learnt=LITTLE), findings=(found,))


DIED = ["new_seed", "usual_settings", "leaky_relu", "new_seed", "lower_learning_rate"]
CRIPPLED = ["usual_settings", "new_seed", "leaky_relu", "lower_learning_rate"]
DEAD_AT_INIT = attempt(phase(INIT, dead="fail"))
FAULT = Finding(cause="initialization", reason="its kernel is zero", certain=False)
UNSCALED = Finding(cause="unscaled_inputs", reason="x is in millions", certain=False)
DISTANT = Finding(cause="distant_targets", reason="y is 10,000", certain=False)
UNRELATED = Finding(cause="unrelated_targets", reason="y is noise", certain=False)
UNDEFINED = Finding(cause="undefined_loss", reason="the log of -1", found="before")
COLLAPSED = Finding(cause="constant_reconstruction", reason="a collapse", certain=False)
ONE_UNIT = Finding(
    cause="one_unit_softmax",
    reason="a softmax over one unit",
    certain=True,
    fix=Fix(output="output", activation="sigmoid"),
)
CERTAIN = Finding(cause="held_at_zero", reason="held by L1", certain=True)
LITTLE = {"outputs": [{"output": 0, "share": 0.3, "skill": 0.3, "reference": 1.0}]}
NOTHING = {"outputs": [{"output": 0, "share": 0.0, "skill": 0.0, "reference": 1.0}]}
STILL = {"epochs": 8, "loss": 2.0, "slope": -0.05}
FALLING = {"epochs": 8, "loss": 2.0, "slope": -1.0}
LAGGING = {"outputs": [{"output": 0, "skill": -1.0, "skill_with_batch_statistics": 0.9}]}
ANSWERED = Restart().answered()
SCREENED = tuple(Candidate(seed=seed, reason="dead") for seed in range(64))
CASES = {
    "not finite": (
        attempt(phase(INIT), phase(finite="fail")),
        "non_finite",
        ["lower_learning_rate", "clip_gradients", "new_seed"],
    ),
    "dead after the loss shot up": (
        attempt(phase(INIT), phase(dead="fail", losses=(1.0, 50.0))),
        "diverged",
        ["lower_learning_rate", "leaky_relu", "new_seed"],
    ),
    "constant after the loss shot up": (
        attempt(phase(INIT), phase(variance="fail", ratio=0.0, losses=(1.0, 50.0))),
        "diverged",
        ["lower_learning_rate", "leaky_relu", "new_seed"],
    ),
    "the loss became infinite, the weights are finite again": (
        attempt(phase(INIT), phase(dead="fail", losses=(1.0, float("inf")))),
        "diverged",
        ["lower_learning_rate", "leaky_relu", "new_seed"],
    ),
    "dead, quietly": (
        attempt(phase(INIT), phase(dead="fail")),
        "died",
        DIED,
    ),
    "dead, quietly, and most seeds are dead at init": (
        attempt(phase(INIT), phase(dead="fail"), screened=SCREENED[:5]),
        "died often_dead_at_init",
        ["usual_settings", "leaky_relu", "new_seed", "lower_learning_rate"],
    ),
    "dead, quietly, and some seeds are dead at init": (
        attempt(phase(INIT), phase(dead="fail"), screened=SCREENED[:4]),
        "died",
        DIED,
    ),
    "constant for every row has died in another layer": (
        attempt(phase(INIT), phase(variance="fail", ratio=0.0, responding=0)),
        "died",
        DIED,
    ),
    "constant with living units": (
        attempt(phase(INIT), phase(variance="fail", ratio=0.0, responding=9)),
        "constant",
        CRIPPLED,
    ),
    "worse than a constant": (
        attempt(phase(INIT), phase(variance="fail", ratio=0.5, responding=9)),
        "worse_than_baseline",
        CRIPPLED,
    ),
    "worse than a constant, on inputs of wild scales": (
        attempt(phase(INIT), phase(variance="fail", ratio=0.5), findings=(UNSCALED,)),
        "worse_than_baseline",
        ["standardize", "lower_learning_rate", "new_seed", "leaky_relu"],
    ),
    "constant, on targets far from zero and inputs of wild scales": (
        attempt(
            phase(INIT),
            phase(variance="fail", ratio=0.0),
            screened=SCREENED[:5],
            findings=(UNSCALED, DISTANT),
        ),
        "constant often_dead_at_init",
        ["standardize", "usual_settings", "leaky_relu", "new_seed", "lower_learning_rate"],
    ),
    "constant, on targets far from zero": (
        attempt(phase(INIT), phase(variance="fail", ratio=0.0), findings=(DISTANT,)),
        "constant",
        ["standardize", "raise_learning_rate", "usual_settings"],
    ),
    "not finite, from weights of no usual size": (
        attempt(
            phase(INIT),
            phase(finite="fail"),
            findings=(Finding(cause="unusual_start", reason="230 away", found="before"),),
        ),
        "non_finite",
        ["reinitialize", "lower_learning_rate", "clip_gradients", "new_seed"],
    ),
    "constant, on targets unrelated to the inputs": (
        attempt(phase(INIT), phase(variance="fail", ratio=0.0), findings=(UNRELATED,)),
        "constant",
        CRIPPLED,
    ),
    "on targets unrelated to the inputs, of two outputs": (
        attempt(phase(INIT), phase(variance="fail", ratio=0.0), findings=(UNRELATED,) * 2),
        "constant",
        [],
    ),
    "constant where it is to be its own input, of two outputs": (
        attempt(phase(INIT), phase(variance="fail", ratio=0.0), findings=(COLLAPSED,) * 2),
        "constant",
        [],
    ),
    "dead, on targets unrelated to the inputs": (
        attempt(phase(INIT), phase(dead="fail"), findings=(UNRELATED,) * 9),
        "died",
        DIED,
    ),
    "a gate, with a certain finding": (
        attempt(phase(INIT), phase(metric="fail"), findings=(FAULT, CERTAIN)),
        "metric",
        [],
    ),
    "a gate, with an output that cannot be trained": (
        attempt(phase(INIT), phase(metric="fail"), findings=(ONE_UNIT,)),
        "metric",
        ["fix_output"],
    ),
    "not finite, on inputs of wild scales": (
        attempt(phase(INIT), phase(finite="fail"), findings=(UNSCALED,)),
        "non_finite",
        ["standardize", "lower_learning_rate", "clip_gradients", "new_seed"],
    ),
    "alive, and too little was learnt": (
        attempt(phase(INIT), phase(learned="fail", skill=0.3, learnt={**LITTLE, **FALLING})),
        "crippled",
        CRIPPLED,
    ),
    "alive, too little was learnt, and most seeds are dead at init": (
        attempt(phase(INIT), phase(learned="fail", skill=0.3, learnt=LITTLE), screened=SCREENED),
        "crippled often_dead_at_init",
        ["usual_settings", "leaky_relu", "new_seed", "lower_learning_rate"],
    ),
    "nothing was learnt until now": (
        attempt(phase(INIT), phase(learned="fail", learnt={**NOTHING, **FALLING})),
        "undertrained",
        ["usual_settings", "raise_learning_rate"],
    ),
    "nothing was learnt, and no more would be": (
        attempt(phase(INIT), phase(learned="fail", learnt={**NOTHING, **STILL})),
        "crippled",
        CRIPPLED,
    ),
    "worse than a constant, and on the way": (
        attempt(phase(INIT), phase(variance="fail", skill=-8.0, learnt=FALLING)),
        "undertrained",
        ["usual_settings", "raise_learning_rate"],
    ),
    "worse than a constant by the moving statistics alone": (
        attempt(phase(INIT), lagging(phase(variance="fail", skill=-1.0, learnt=FALLING))),
        "worse_than_baseline",
        CRIPPLED,
    ),
    "linear, where a line is not enough": (pointing("too_small"), "crippled", []),
    "rows that cannot be told apart": (pointing("lost_signal"), "crippled", []),
    "alive, and hardly moved": (
        pointing("rate_too_low"),
        "crippled",
        ["raise_learning_rate", "usual_settings"],
    ),
    "worse than a constant, and still learning": (
        attempt(
            phase(INIT),
            phase(variance="fail", ratio=0.5),
            findings=(Finding(cause="undertrained", reason="it falls"),),
        ),
        "worse_than_baseline",
        ["usual_settings", "raise_learning_rate"],
    ),
    "alive, after a training that was too short": (
        pointing("few_steps"),
        "crippled",
        ["usual_settings", "raise_learning_rate"],
    ),
    "alive, and still learning": (
        pointing("undertrained"),
        "crippled",
        ["usual_settings", "raise_learning_rate"],
    ),
    "alive, and up and down": (
        pointing("oscillating"),
        "crippled",
        ["lower_learning_rate", "new_seed", "leaky_relu"],
    ),
    "damaged by a later phase": (
        attempt(phase(INIT), phase("warmup", skill=0.9), phase(learned="fail", skill=0.6)),
        "diverged",
        ["lower_learning_rate", "leaky_relu", "new_seed"],
    ),
    "dead in a phase far above the rate of a healthy one, quietly": (
        attempt(
            phase(INIT),
            phase("warmup", skill=0.9),
            phase(dead="fail"),
            rates={"warmup": 0.001, "main": 0.2},
        ),
        "diverged",
        ["lower_learning_rate", "leaky_relu", "new_seed"],
    ),
    "dead in the epoch in which a schedule rose far above the rate before": (
        attempt(phase(INIT), replace(phase(dead="fail"), lost=LOST)),
        "diverged",
        ["lower_learning_rate", "leaky_relu", "new_seed"],
    ),
    "dead, at a rate that nobody chooses": (
        attempt(
            phase(INIT),
            phase(dead="fail"),
            findings=(Finding(cause="unusual_rate", reason="it is 1"),),
        ),
        "died",
        ["lower_learning_rate", "raise_learning_rate", "leaky_relu", "new_seed"],
    ),
    "too little was learnt, at a rate that nobody chooses": (
        attempt(
            phase(INIT),
            phase(learned="fail", skill=0.3, learnt={**LITTLE, **FALLING}),
            findings=(Finding(cause="unusual_rate", reason="it is 1"),),
        ),
        "crippled",
        ["lower_learning_rate", "raise_learning_rate", "leaky_relu", "new_seed"],
    ),
    "too little was learnt, most seeds are dead at init, and none gets far from there": (
        attempt(
            phase(INIT),
            phase(learned="fail", skill=0.3, learnt=LITTLE),
            screened=SCREENED[:5],
            findings=(Finding(cause="rate_too_low", reason="by 0.5 of a weight of 1"),),
        ),
        "crippled often_dead_at_init",
        ["usual_settings", "leaky_relu", "new_seed", "lower_learning_rate"],
    ),
    "dead, of no narrow network, and most units were born so": (
        attempt(phase(INIT), phase(dead="fail"), findings=(FAULT,)),
        "died",
        ["reinitialize", "leaky_relu", "lower_learning_rate"],
    ),
    "too little was learnt, and most of it only shows with dropout": (
        attempt(
            phase(INIT),
            phase(learned="fail", skill=0.3, learnt=LITTLE),
            findings=(Finding(cause="heavy_dropout", reason="0.93 with it", found="after"),),
        ),
        "crippled",
        ["lower_dropout", *CRIPPLED],
    ),
    "too little was learnt, and a penalty held the weights small": (
        attempt(
            phase(INIT),
            phase(learned="fail", skill=0.3, learnt=LITTLE),
            findings=(Finding(cause="over_regularised", reason="L2 of 1", found="after"),),
        ),
        "crippled",
        ["lower_penalty", *CRIPPLED],
    ),
    "too little was learnt, and much dropout was seen before": (
        attempt(
            phase(INIT),
            phase(learned="fail", skill=0.3, learnt=LITTLE),
            findings=(Finding(cause="heavy_dropout", reason="a rate of 0.9", found="before"),),
        ),
        "crippled",
        CRIPPLED,
    ),
    "too little was learnt, and statistics that lag are not all": (
        attempt(
            phase(INIT),
            phase(learned="fail", skill=0.3, learnt=LITTLE),
            findings=(Finding(cause="lagging_statistics", reason="0.47 with the batch's"),),
        ),
        "crippled",
        ["usual_settings"],
    ),
    "dead, and most units were born so": (
        attempt(phase(INIT), phase(dead="fail"), screened=SCREENED[:5], findings=(FAULT,)),
        "died often_dead_at_init",
        ["usual_settings", "leaky_relu", "new_seed", "lower_learning_rate"],
    ),
    "a gate": (
        attempt(phase(INIT), phase(metric="fail", losses=(1.0, 50.0))),
        "metric",
        ["new_seed", "lower_learning_rate"],
    ),
    "a loss that no step has made NaN": (
        attempt(phase(INIT), phase(finite="fail"), findings=(UNDEFINED,)),
        "non_finite",
        ["fix_output", "new_seed"],
    ),
    "alive, with a gradient that is lost": (pointing("vanishing_gradient"), "crippled", CRIPPLED),
    "normalised by two values": (pointing("small_batches"), "crippled", []),
    "normalised by a few values, as was seen before": (
        attempt(
            phase(INIT),
            phase(learned="fail", skill=0.3, learnt=LITTLE),
            findings=(Finding(cause="small_batches", reason="of 4 values", found="before"),),
        ),
        "crippled",
        CRIPPLED,
    ),
    "a schedule that has ended": (
        pointing("no_effect"),
        "crippled",
        ["raise_learning_rate", "usual_settings"],
    ),
    "gradients clipped to nothing": (
        pointing("clipped"),
        "crippled",
        ["clip_gradients", "usual_settings"],
    ),
    "killed": (attempt(), "crashed", ["new_seed", "lower_learning_rate"]),
    "not finite before training": (
        attempt(phase(INIT, finite="fail")),
        "dead_at_init",
        ["new_seed", "leaky_relu", "reinitialize"],
    ),
    "dead at init, and every seed gives the same": (
        replace(DEAD_AT_INIT, findings=(Finding(cause="fixed_seed", reason="", certain=False),)),
        "dead_at_init always_dead_at_init",
        ["usual_settings", "leaky_relu", "reinitialize"],
    ),
    "dead under a loss below zero": (
        attempt(phase(INIT), phase(dead="fail", losses=(-0.1, -0.09))),
        "died",
        DIED,
    ),
    "dead at init, with one seed tried": (
        DEAD_AT_INIT,
        "dead_at_init",
        ["new_seed", "leaky_relu", "reinitialize"],
    ),
    "dead at init with every seed": (
        replace(DEAD_AT_INIT, screened=SCREENED),
        "dead_at_init always_dead_at_init",
        ["usual_settings", "leaky_relu", "reinitialize"],
    ),
    "dead at init by the initialisers": (
        replace(DEAD_AT_INIT, screened=SCREENED, findings=(FAULT,)),
        "dead_at_init always_dead_at_init",
        ["reinitialize", "leaky_relu"],
    ),
    "dead at init by the initialisers, with one seed tried": (
        replace(DEAD_AT_INIT, findings=(FAULT,)),
        "dead_at_init",
        ["reinitialize", "leaky_relu", "new_seed"],
    ),
}
CONFIG = builders.config()


@pytest.mark.parametrize(("failed", "names", "remedies"), CASES.values(), ids=CASES.keys())
def test_the_evidence_names_the_kind_and_the_default_policy_the_remedies(
    failed: Attempt, names: str, remedies: list[str]
) -> None:
    assert kinds(failed) == set(names.split())
    rungs, case = rule.matching(CONFIG, [failed])
    assert [rung.remedy for _, rung in rungs] == remedies
    assert case is not None


def test_every_case_of_the_default_policy_has_its_failure_above() -> None:
    matching = [rule.matching(CONFIG, [failed]) for failed, _, _ in CASES.values()]
    again = rule.matching(CONFIG, [CASES["dead, quietly"][0]] * 2)
    small = Finding(cause="too_small", reason="it is linear")
    poor = replace(CASES["worse than a constant"][0], findings=(small,))
    lost = CASES["alive, with a gradient that is lost"][0]
    undefined = CASES["a loss that no step has made NaN"][0]
    held = CASES["too little was learnt, and a penalty held the weights small"][0]
    twice = (poor, undefined, lost, held)
    hopeless = [rule.matching(CONFIG, [each, each])[1] for each in twice]
    found = [again[1], *hopeless, *(case for _, case in matching)] + [
        rung for rungs, _ in matching for _, rung in rungs
    ]
    assert [entry for entry in CONFIG.restart.policy if entry not in found] == []


@pytest.mark.parametrize(
    ("cause", "remedies"), [("over_regularised", ["lower_penalty"]), ("too_small", [])]
)
def test_what_no_seed_changes_ends_a_run_the_second_time(cause: Any, remedies: list[str]) -> None:
    found = Finding(cause=cause, reason="it was seen")
    poor = replace(CASES["worse than a constant"][0], findings=(found,))
    rungs, case = rule.matching(CONFIG, [poor, poor])
    assert [rung.remedy for _, rung in rungs] == remedies
    assert case is not None and not case.rungs


def test_what_is_certain_is_at_the_root_of_a_failure() -> None:
    before = Finding(cause="unusual_rate", reason="the rate is 9", found="before")
    after = Finding(cause="no_effect", reason="the loss is 0", certain=True)
    failed = attempt(phase(INIT), phase(learned="fail"), findings=(before,))
    assert evidence.main_cause(failed) == "the rate is 9"
    assert evidence.main_cause(replace(failed, findings=(before, after))) == "the loss is 0"
    assert evidence.main_cause(failed, {"over_regularised"}) == evidence.main_cause(failed)
    last = Finding(cause="distant_targets", reason="far", found="after")
    several = replace(failed, findings=(*failed.findings, last))
    assert evidence.main_cause(several, {"distant_targets"}) == "far"
    assert evidence.main_cause(replace(failed, findings=())) is None


def hopeless(attempts: Sequence[Attempt]) -> str | None:
    """Why the default policy holds the data to be at fault."""
    _, case = rule.matching(CONFIG, attempts)
    assert case is not None
    return None if case.rungs else evidence.reasons(case.when, attempts[-1])[0]


@pytest.mark.parametrize(
    ("cause", "enough"),
    [
        ("unrelated_targets", 2),
        ("constant_reconstruction", 2),
    ],
)
def test_data_at_fault_ends_it_after_failures_of_living_networks(cause: Cause, enough: int) -> None:
    found = Finding(cause=cause, reason="the data", certain=False)
    living = replace(CASES["constant with living units"][0], findings=(found,))
    dead = replace(CASES["dead, quietly"][0], findings=(found,))
    assert hopeless([living] * (enough - 1)) is None
    assert hopeless([dead] * 5 + [living] * (enough - 1)) is None
    assert hopeless([living, *[dead] * 5, *[living] * (enough - 1)]) == "the data"


def test_no_rate_is_tried_for_a_loss_that_was_no_number_before_the_first_step() -> None:
    undefined = CASES["a loss that no step has made NaN"][0]
    assert hopeless([undefined]) is None
    assert hopeless([undefined, undefined]) == "the log of -1"


def test_a_certain_finding_ends_it() -> None:
    failed = CASES["constant with living units"][0]
    assert hopeless([replace(failed, findings=(FAULT, CERTAIN))]) == "held by L1"
    assert hopeless([replace(failed, findings=(FAULT,))]) is None


@pytest.mark.parametrize(
    ("when", "applies"),
    [
        (None, True),
        (["prediction_variance"], True),
        (["finite", "constant"], True),
        (["unscaled_inputs"], True),
        (["finite", "died", "distant_targets"], False),
        ({"check": ["prediction_variance"], "kind": ["constant"]}, True),
        ({"check": ["finite"], "kind": ["constant"]}, False),
        ({"check": ["prediction_variance"], "kind": ["died"]}, False),
        ({"kind": ["died", "constant"], "cause": ["unscaled_inputs"]}, True),
        ({"kind": ["constant"], "cause": ["distant_targets"]}, False),
        ({"certain": True}, False),
        ({"cause": ["unscaled_inputs"], "certain": True}, False),
        ({"count": 2}, False),
    ],
)
def test_of_a_list_any_name_applies_and_of_a_mapping_every_key(when: Any, applies: bool) -> None:
    failed = replace(CASES["constant with living units"][0], findings=(UNSCALED,))
    (rung,) = builders.config(
        restart={"policy": [{"remedy": "new_seed", "when": when}]}
    ).restart.policy
    assert evidence.applies(rung.when, [failed]) is applies


def test_the_conclusion_is_the_cause_and_no_list_of_attempts() -> None:
    first, second = CASES["not finite"][0], replace(DEAD_AT_INIT, attempt=2)
    found = [replace(each, findings=(FAULT,)) for each in (first, second)]
    assert evidence.conclusion(found, "all is tried") == ("its kernel is zero. All is tried")
    known = "no remedy can help: its kernel is zero"
    assert evidence.conclusion(found[:1], known) == known


@pytest.mark.parametrize(
    ("checks", "cause"),
    [
        (["finite"], "the attempt failed finite: at 1"),
        (["finite", "finite"], "all 2 attempts failed finite, the last one because at 2"),
        (["finite", "metric"], "the last of 2 attempts failed metric: at 2"),
        (["finite", "crashed"], "the last of 2 attempts crashed: at 2"),
    ],
)
def test_without_findings_the_conclusion_is_the_last_failure(checks: list[str], cause: str) -> None:
    found = [
        replace(
            DEAD_AT_INIT,
            attempt=number,
            failure=Failure(check=check, phase="main", reason=f"at {number}"),
        )
        for number, check in enumerate(checks, 1)
    ]
    assert evidence.conclusion(found, "all is tried") == f"{cause}. All is tried"


def test_the_conclusion_has_the_last_figures_of_a_cause() -> None:
    reasons = ["629 away", "93 away"]
    found = [
        replace(
            CASES["worse than a constant"][0],
            attempt=number,
            findings=(Finding(cause="distant_targets", reason=reason, certain=False),),
        )
        for number, reason in enumerate(reasons, 1)
    ]
    told = evidence.conclusion(found, "all is tried")
    assert told.startswith("93 away. ")
    assert "629" not in told


@pytest.mark.parametrize("after", [UNSCALED, DISTANT])
def test_what_was_suspected_before_the_training_counts_once_its_failure_confirms_it(
    after: Finding,
) -> None:
    before = replace(after, found="before", reason="it may be so")
    constant = CASES["constant with living units"][0]
    suspected, confirmed = (
        replace(constant, findings=findings) for findings in ((before,), (before, after))
    )
    asked = All.model_validate({"cause": [after.cause], "count": 2})
    assert not evidence.applies(asked, [suspected] * 3)
    assert not evidence.applies(asked, [confirmed])  # counted once
    assert evidence.applies(asked, [confirmed] * 2)
    assert rule.matching(CONFIG, [suspected])[1] == rule.matching(CONFIG, [constant])[1]
    assert evidence.found_causes([confirmed]) == [(1, after.told)]
    assert evidence.found_causes([suspected]) == [(1, before.told)]


def test_many_layers_with_one_cause_are_counted() -> None:
    found = [Finding(cause="initialization", reason=f"layer {n} is dead") for n in range(4)]
    other = Finding(cause="rate_too_low", reason="too low")
    few = attempt(phase(INIT), phase(metric="fail"), findings=(*found[:2], other))
    assert [told for _, told in evidence.found_causes([few])] == [
        "layer 0 is dead", "layer 1 is dead", "too low"
    ]  # fmt: skip
    many = attempt(phase(INIT), phase(metric="fail"), findings=(*found, other))
    assert [told for _, told in evidence.found_causes([many])] == [
        "layer 0 is dead (and 3 more like it)", "too low"
    ]  # fmt: skip


def test_what_was_fixed_is_told_at_the_end_all_the_same() -> None:
    first = attempt(phase(INIT), phase(metric="fail"), findings=(ONE_UNIT,))
    second = replace(attempt(phase(INIT), phase(metric="fail")), attempt=2, remedy="fix_output")
    assert evidence.found_causes([first, second]) == [(1, ONE_UNIT.told)]


def test_the_second_failure_of_a_training_is_answered_by_usual_settings() -> None:
    dead, exploded = CASES["dead, quietly"][0], CASES["not finite"][0]
    assert [rung.remedy for _, rung in rule.matching(CONFIG, [dead, dead])[0]] == [
        "lower_learning_rate", "usual_settings", "usual_settings",
    ]  # fmt: skip
    assert [rung.remedy for _, rung in rule.matching(CONFIG, [dead, exploded])[0]] == [
        "lower_learning_rate", "usual_settings", "lower_learning_rate", "usual_settings",
    ]  # fmt: skip
    # What never trained says nothing of how it would have.
    assert [rung.remedy for _, rung in rule.matching(CONFIG, [DEAD_AT_INIT, dead])[0]] == [*DIED]
    assert rule.matching(CONFIG, [dead, replace(dead, findings=(CERTAIN,))])[0] == []
