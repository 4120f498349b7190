"""Whether what passed has learnt what it is to."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from orchestrator.config.sections.restart import Restart
from orchestrator.policy import shortfall
from orchestrator.record.checks import LearnedCheck
from orchestrator.record.records import (
    INIT,
    Attempt,
    Finding,
    Fix,
)
from tests.policy.attempts import attempt, phase

UNSCALED = Finding(cause="unscaled_inputs", reason="x is in millions", certain=False)
LITTLE = {"outputs": [{"output": 0, "share": 0.3, "skill": 0.3, "reference": 1.0}]}
FALLING = {"epochs": 8, "loss": 2.0, "slope": -1.0}
ANSWERED = Restart().answered()


@pytest.mark.parametrize(("share", "asked"), [(0.49, True), (0.5, False), (0.7, False)])
def test_dropout_is_in_the_way_where_the_loss_alone_was_still_falling(
    share: float, asked: bool
) -> None:
    each = {"output": 0, "share": share, "skill": share, "reference": 1.0}
    last = phase(learned="warn", skill=share, learnt={"outputs": [each], **FALLING})
    passed = attempt(phase(INIT), last)
    assert not shortfall.is_in_question(passed, ANSWERED)
    found = Finding(cause="heavy_dropout", reason="0.93 with it", found="after")
    assert shortfall.is_in_question(replace(passed, findings=(found,)), ANSWERED) is asked
    # Another reason to pass is one still.
    lenient = attempt(phase(INIT), phase(learned="warn", learnt={"outputs": [each]}))
    assert not shortfall.is_in_question(replace(lenient, findings=(found,)), ANSWERED)
    before = replace(found, found="before")
    assert not shortfall.is_in_question(replace(passed, findings=(before,)), ANSWERED)


def test_a_first_attempt_is_in_question_by_what_its_training_has_shown() -> None:
    poor = attempt(phase(INIT), phase(learned="warn", skill=0.6), findings=(UNSCALED,))
    assert shortfall.is_in_question(poor, ANSWERED)
    suspected = replace(UNSCALED, found="before")
    assert not shortfall.is_in_question(replace(poor, findings=(suspected,)), ANSWERED)
    for cause, found in (("loss_mismatch", "before"), ("unreachable_targets", "after")):
        fix = Fix(activation="softmax")
        misfit = replace(UNSCALED, cause=cause, found=found, fix=fix)
        known = replace(poor, findings=(misfit,))
        assert shortfall.is_in_question(known, ANSWERED)
        assert not shortfall.is_in_question(known, ANSWERED - {cause})
        left_to_the_user = replace(misfit, fix=None)
        assert not shortfall.is_in_question(replace(poor, findings=(left_to_the_user,)), ANSWERED)
    short = replace(UNSCALED, cause="undertrained")  # the epochs are the user's
    assert not shortfall.is_in_question(replace(poor, findings=(short,)), ANSWERED)
    # Unless the rate is far below one that does.
    hindered = {"momentum": "Adam has its own"}
    for rate, in_question in ((0.002, False), (0.0009, True)):
        slow = replace(poor, findings=(short,), planned_rate=rate, sound_rate=0.003)
        assert shortfall.is_in_question(replace(slow, obstacles=hindered), ANSWERED) is in_question
        assert shortfall.is_in_question(slow, ANSWERED)  # without momentum it goes a tenth as far
        trained = {**hindered, "fresh_weights": "they are loaded"}
        assert not shortfall.is_in_question(replace(slow, obstacles=trained), ANSWERED)
    assert not shortfall.is_in_question(replace(slow, findings=()), ANSWERED)


def test_what_was_slow_is_told_by_the_rate_that_ran() -> None:
    short = Finding(cause="undertrained", reason="still falling", found="after")
    failed = attempt(
        phase(INIT), phase(learned="fail", skill=0.3, learnt=LITTLE), findings=(short,)
    )
    hindered = {"momentum": "Adam has its own"}
    failed = replace(failed, obstacles=hindered, planned_rate=1e-4, sound_rate=0.003)
    settings = failed.settings

    def ran(rate: float, **told: Any) -> list[Attempt]:
        changed = replace(settings, **told)
        return [replace(failed, settings=changed, learning_rates={"main": rate})]

    assert shortfall.is_slow(ran(1e-4))
    assert not shortfall.is_slow(ran(0.01, learning_rate_factor=100.0))  # raised since
    assert not shortfall.is_slow(ran(1e-5, learning_rate_cap=1e-5))  # lowered since
    assert not shortfall.is_slow(ran(0.003, learning_rate_factor=30.0, learning_rate_cap=0.003))
    sgd = [replace(each, obstacles={}, sound_rate=0.03) for each in ran(0.05)]
    assert shortfall.is_slow(sgd)
    gathering = replace(settings, momentum=0.9)
    assert not shortfall.is_slow([replace(each, settings=gathering) for each in sgd])
    thrown = attempt(phase(INIT), phase(finite="fail"), findings=(short,))
    thrown = replace(thrown, obstacles=hindered, planned_rate=1e-4, sound_rate=0.003)
    assert not shortfall.is_slow([thrown])


def test_what_passes_for_its_falling_loss_alone_is_not_ended_with_where_another_learnt_more() -> (
    None
):
    def learnt(share: float, verdict: str) -> Attempt:
        outputs = {"outputs": [{"output": 0, "share": share, "skill": share, "reference": 1.0}]}
        return attempt(phase(INIT), phase(learned=verdict, skill=share, learnt=outputs))

    falling, flat, good = learnt(0.02, "warn"), learnt(0.15, "fail"), learnt(0.6, "warn")
    assert shortfall.best_short([falling]) is falling
    assert shortfall.best_short([falling, learnt(0.01, "fail")]) is falling
    assert shortfall.best_short([falling, attempt(phase(INIT, dead="fail")), attempt()]) is falling
    assert shortfall.best_short([falling, flat]) is None
    assert shortfall.best_short([flat, falling, good]) is good
    # By what names the best attempt, which a share of squared errors need not agree with.
    bad = {"outputs": [{"output": 0, "share": 0.3, "skill": 0.3, "reference": 1.0}]}
    worse = attempt(phase(INIT), phase(variance="fail", skill=-0.5, learned="fail", learnt=bad))
    assert shortfall.best_short([falling, worse]) is falling
    passed = replace(learnt(0.7, "fail"), failure=None)
    assert shortfall.best_short([falling, good, passed]) is good
    assert shortfall.best_short([flat]) is None


def test_a_frozen_part_excuses_what_was_not_learnt_but_at_no_rate_far_above_the_usual() -> None:
    fast = Finding(cause="unusual_rate", reason="it is 1", found="after", fix=Fix(usual_rate=0.001))

    def learnt(share: float, *findings: Finding, most: float | None = None) -> Attempt:
        output = {"output": 0, "share": share, "share_at_most": most, "reference": 1.0}
        outputs = [output | {"skill": share}]
        frozen = {"outputs": outputs, "lenient": "a part of the model is frozen"}
        last = phase(learned="warn", learnt=frozen)
        checks = [
            replace(each, reason="little; a part of the model is frozen")
            if isinstance(each, LearnedCheck)
            else each
            for each in last.checks
        ]
        return attempt(phase(INIT), replace(last, checks=tuple(checks)), findings=findings)

    assert shortfall.find(learnt(0.1)) is None
    assert shortfall.find(learnt(0.6, fast)) is None
    short = shortfall.find(learnt(0.1, fast))
    assert short is not None and (short.check, short.reason) == ("learned", "little")
    assert shortfall.is_in_question(learnt(0.1, fast), ANSWERED)
    assert shortfall.find(learnt(0.49, fast, most=0.99)) is None


def test_what_the_scatter_of_the_rows_may_explain_is_no_shortfall() -> None:
    def learnt(share: float, most: float) -> Attempt:
        output = {"output": 0, "share": share, "share_at_most": most, "reference": 1.0}
        return attempt(phase(INIT), phase(learned="warn", learnt={"outputs": [output]}))

    assert shortfall.find(learnt(0.7, 0.73)) is not None
    assert shortfall.find(learnt(0.7, 1.1)) is None
