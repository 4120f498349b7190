"""The verdict on what was learnt, from skills with known answers."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from orchestrator.config.sections.checks import Learned
from orchestrator.diagnosis.skill.learned import Learnt
from orchestrator.diagnosis.verdicts.learned import Course, Earlier, learned

LIMITS = Learned()
GOOD = Learnt(output=0, skill=0.9, reference=1.0, linear=0.1)
FALLING = Course(losses=tuple(10.0 - each for each in range(9)), epochs=8)
"""From 10 to 2, by 1 an epoch."""


def of(skill: float, reference: float = 1.0) -> Learnt:
    return dataclasses.replace(GOOD, skill=skill, reference=reference)


def verdict(skill: float, reference: float = 1.0, **others: Any) -> str:
    return learned([of(skill, reference)], LIMITS, **others).verdict


@pytest.mark.parametrize(
    ("skill", "reference", "expected"),
    [
        (1.0, 1.0, "pass"),
        (0.8, 1.0, "pass"),
        (0.79, 1.0, "warn"),
        (0.5, 1.0, "warn"),
        (0.49, 1.0, "fail"),
        (0.31, 1.0, "fail"),  # nine layers of two on |x|
        (0.65, 0.83, "warn"),  # our airfoil example
        (0.1, 0.2, "warn"),
        (0.0, 0.1, "fail"),
        (-3.0, 0.9, "fail"),
        (0.9, 0.2, "pass"),
    ],
)
def test_the_share_of_the_reference_is_judged(
    skill: float, reference: float, expected: str
) -> None:
    check = learned([of(skill, reference)], LIMITS)
    assert check.verdict == expected
    (output,) = check.measured.outputs
    assert output.share == pytest.approx(skill / reference)
    assert (output.skill, output.reference, output.linear) == (skill, reference, 0.1)


def test_the_limits_are_those_of_the_config() -> None:
    strict = Learned(fail_below=0.9, warn_below=1.0)
    assert learned([of(0.89)], strict).verdict == "fail"
    assert learned([of(0.95)], strict).verdict == "warn"


def test_what_cannot_be_judged_says_why() -> None:
    aside = Learnt(output=0, skill=0.0, reference=0.05, unjudged="there is nothing to learn")
    check = learned([aside], LIMITS)
    assert (check.verdict, check.reason) == ("not_applicable", "there is nothing to learn")
    assert check.share() is None


def test_the_worst_of_several_outputs_is_named() -> None:
    both = [
        dataclasses.replace(of(0.9), name="price"),
        dataclasses.replace(of(0.2), output=1, name="sold"),
    ]
    check = learned(both, LIMITS)
    assert check.verdict == "fail"
    assert check.reason.startswith("output sold: skill 0.2 where the reference has 1")
    assert check.share() == pytest.approx(0.2)
    one = [both[0], Learnt(output=1, name="code", unjudged="no loss trains it")]
    assert learned(one, LIMITS).verdict == "pass"


# -------------------------------------------------------------------------------- undertrained


@pytest.mark.parametrize(
    ("skill", "expected"),
    [
        (0.49, "warn"),
        (0.2, "warn"),
        (0.01, "warn"),
        (0.009, "fail"),  # no skill fails even then
        (-1.0, "fail"),
    ],
)
def test_what_was_still_falling_fast_enough_is_a_warning(skill: float, expected: str) -> None:
    check = learned([of(skill)], LIMITS, course=FALLING)
    assert check.verdict == expected
    assert ("undertrained" in check.reason) == (expected == "warn")
    assert (check.measured.loss, check.measured.slope, check.measured.epochs) == (2, -1, 8)


def test_as_many_epochs_again_at_the_last_slope_have_to_be_enough() -> None:
    """A skill of 0.2 has to lose 3/8 of its loss for one of 0.5."""
    last = 8.0
    for needed, expected in ((0.38, "warn"), (0.37, "fail")):
        slope = needed * last / 20  # an epoch, over 20 of them
        losses = [20.0] * 15 + [last + slope * each for each in range(5, -1, -1)]
        course = Course(losses=tuple(losses), epochs=20)
        assert verdict(0.2, course=course) == expected


@pytest.mark.parametrize(
    "losses", [(2.0, 2.0, 2.0, 2.0), (1.0, 2.0, 3.0, 4.0), (), (0.0, -1.0), (2.0,)]
)
def test_a_loss_that_stands_or_rises_is_no_excuse(losses: tuple[float, ...]) -> None:
    course = Course(losses=losses, epochs=max(len(losses) - 1, 0))
    assert verdict(0.3, course=course) == "fail"


@pytest.mark.parametrize(("lowest", "expected"), [(8.5, "warn"), (7.9, "fail")])
def test_a_loss_that_was_lower_before_is_not_falling(lowest: float, expected: str) -> None:
    """The last of losses that go up and down at too high a rate may stand below one before it."""
    course = Course(losses=(10.0, 9.0, lowest, 9.0, 10.0, 10.0, 9.5, 10.0, 8.0), epochs=8)
    assert verdict(0.3, course=course) == expected
    # Nor does the policy take a network without skill for one that is on its way.
    falling = learned([of(0.0)], LIMITS, course=course).was_falling()
    assert falling == (expected == "warn")


# ------------------------------------------------------------------------------ decline


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        ([0.9], 0.65, "fail"),
        ([0.9], 0.75, "pass"),
        ([0.9, 0.1], 0.65, "fail"),
        ([0.4, None], 0.65, "pass"),
        ([float("nan")], 0.65, "pass"),
    ],
)
def test_what_was_lost_since_an_earlier_phase_fails(
    before: list[float | None], now: float, expected: str
) -> None:
    earlier = tuple(
        Earlier(phase=f"phase{index}", skills=(skill,)) for index, skill in enumerate(before)
    )
    check = learned([GOOD], LIMITS, skills=[now], course=Course(earlier=earlier))
    assert check.verdict == expected
    if expected == "fail":
        assert check.reason.startswith("skill 0.65, which was 0.9 after phase phase0")


def test_it_fails_also_where_the_reference_tells_nothing() -> None:
    course = Course(earlier=(Earlier(phase="warmup", skills=(0.9,)),))
    aside = Learnt(output=0, unjudged="its loss, hinge, is none that the reference is measured by")
    assert learned([aside], LIMITS, skills=[0.3], course=course).verdict == "fail"


# ---------------------------------------------------------------------- leniency and lag


def test_where_nothing_may_fail_it_warns() -> None:
    check = learned([of(0.1)], LIMITS, lenient="a part of the model is frozen")
    assert check.verdict == "warn"
    assert check.reason.endswith("a part of the model is frozen")
    assert not check.falls_short()


def test_a_lag_of_the_moving_statistics_is_named_and_fails() -> None:
    check = learned([of(0.1)], LIMITS, batch=[of(0.95)])
    assert check.verdict == "fail"
    assert check.reason.endswith(
        "with the batch's statistics the share is 0.95: BatchNorm's moving ones lag"
    )
    assert check.measured.outputs[0].share_with_batch_statistics == pytest.approx(0.95)
    assert "lag" not in learned([of(0.1)], LIMITS, batch=[of(0.2)]).reason


@pytest.mark.parametrize(
    ("skill", "expected"), [(0.9, False), (0.7, True), (0.5, True), (0.4, False)]
)
def test_between_the_limits_it_falls_short_of_what_a_restart_is_for(
    skill: float, *, expected: bool
) -> None:
    assert learned([of(skill)], LIMITS).falls_short() == expected


@pytest.mark.parametrize(
    ("skill", "most", "expected"),
    [(0.7, None, True), (0.7, 0.79, True), (0.7, 0.81, False), (0.4, 0.45, False)],
)
def test_what_the_scatter_of_the_rows_may_explain_is_no_sure_shortfall(
    skill: float, most: float | None, *, expected: bool
) -> None:
    check = learned([dataclasses.replace(of(skill), share_at_most=most)], LIMITS)
    assert check.measured.outputs[0].share_at_most == most
    assert check.surely_falls_short() == expected


def test_one_of_several_outputs_that_surely_falls_short_is_enough() -> None:
    noisy, sure = (dataclasses.replace(of(0.7), share_at_most=most) for most in (1.0, 0.72))
    assert learned([noisy, sure], LIMITS).surely_falls_short()
    assert not learned([noisy, noisy], LIMITS).surely_falls_short()


def test_so_does_what_is_on_its_way_and_has_learnt_little() -> None:
    assert learned([of(0.2)], LIMITS, course=FALLING).falls_short()
