"""When a loss that is too high is certain to stay so, from losses with known answers."""

from __future__ import annotations

import math

import pytest

from orchestrator.diagnosis.verdicts.outlook import Outlook, is_late, midterms, stays_low
from orchestrator.record.checks import LearnedCheck, LearnedLimits, LearnedMeasured, OutputShare


def outlook(*losses: float, left: int, level: float | None = None) -> Outlook:
    return Outlook(
        losses=losses, left=left, limit=1.0, level=losses[-1] if level is None else level
    )


HALVED = (128.0, 64.0, 32.0, 16.0)


@pytest.mark.parametrize(("left", "out"), [(0, False), (1, True), (2, False)])
def test_a_steady_pace_is_reckoned_with_three_times(left: int, out: bool) -> None:
    seen = outlook(*HALVED, left=left)
    assert seen.lowest == pytest.approx(16 / 8**left)
    assert seen.is_out_of_reach() is out


def test_a_pace_is_told_by_four_epochs_and_a_quarter_of_them() -> None:
    assert not outlook(9.0, 9.0, 9.0, left=1).is_out_of_reach()
    assert outlook(9.0, 9.0, 9.0, 9.0, left=12).is_out_of_reach()
    assert not outlook(9.0, 9.0, 9.0, 9.0, left=13).is_out_of_reach()


def test_the_highest_pace_of_the_last_six_epochs_counts() -> None:
    fell = (9.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0)
    assert not outlook(*fell, left=1).is_out_of_reach()
    assert outlook(*fell, 3.0, left=1).is_out_of_reach()


def test_a_loss_that_rises_falls_no_further() -> None:
    seen = outlook(1.1, 1.2, 1.3, 1.4, left=9)
    assert seen.lowest == pytest.approx(1.4) and seen.is_out_of_reach()


def test_what_is_better_in_inference_counts() -> None:
    assert outlook(9.0, 9.0, 9.0, 9.0, left=7, level=1.5).is_out_of_reach()
    assert not outlook(9.0, 9.0, 9.0, 9.0, left=7, level=0.9).is_out_of_reach()
    assert math.isfinite(outlook(*HALVED, left=10_000).lowest)


@pytest.mark.parametrize(
    ("epochs", "early", "asked"),
    [
        (20, False, {10}),
        (20, True, {2, 3, 5, 10}),
        (40, True, {4, 6, 10, 20}),
        (8, True, {2, 4}),
        (5, True, {2, 4}),
        (3, True, {4}),  # fewer tell nothing
        (5, False, {4}),
    ],
)
def test_it_is_asked_half_way_and_from_a_tenth_on_where_that_may_tell(
    epochs: int, early: bool, asked: set[int]
) -> None:
    assert midterms(epochs, early=early) == asked


@pytest.mark.parametrize(
    ("epochs", "times", "late"),
    [
        (20, 0.01, {10}),
        (20, None, {10}),
        (20, 99.0, {10}),
        (20, 100.0, {5, 10}),
        (10, 100.0, {4, 5}),
        (6, 0.01, {4}),
        (6, 100.0, {4}),
    ],
)
def test_it_is_late_half_way_and_after_a_quarter_at_a_wild_rate(
    epochs: int, times: float | None, late: set[int]
) -> None:
    asked = midterms(epochs, early=True)
    assert {done for done in asked if is_late(epochs, done, times)} == late
    narrow = midterms(epochs, early=False)
    assert all(is_late(epochs, done, times) for done in narrow)


def little(share: float, limit: float = 0.5) -> LearnedCheck:
    output = OutputShare(output=0, share=share, skill=share, reference=1.0)
    return LearnedCheck(
        verdict="fail",
        reason="little",
        measured=LearnedMeasured(outputs=(output,), epochs=5, loss=1.0),
        limits=LearnedLimits(fail_below=limit, warn_below=0.8),
    )


@pytest.mark.parametrize(
    ("losses", "share", "left", "expected"),
    [
        # From a loss of 1 to 0.5 at three times the slope, or not.
        ((1.02, 1.01, 1.0), 0.0, 15, True),
        ((1.02, 1.01, 1.0), 0.0, 17, False),
        ((1.02, 1.01, 1.0), 0.25, 11, True),  # to 2/3
        ((1.02, 1.01, 1.0), 0.25, 12, False),
        ((9.0, 9.0, 9.0, 1.02, 1.01, 1.0), 0.0, 15, True),  # the last quarter counts
        ((9.0, 9.0, 9.0, 1.02, 1.01, 1.0), 0.0, 17, False),
        # It has been lower before.
        ((0.8, 0.9, 1.0), 0.19, 1, True),
        ((0.8, 0.9, 1.0), 0.2, 1, False),
        ((1.2, 0.9, 1.0), 0.3, 1, False),
        ((0.9, 1.0), 0.0, 1, False),  # two epochs do not tell
        ((1.0,), 0.0, 1, False),  # one has no slope
        ((1.002, 1.001, 1.0), 0.6, 1, False),  # enough is learnt
    ],
)
def test_a_loss_is_held_to_what_is_left_of_its_way(
    losses: tuple[float, ...], share: float, left: int, expected: bool
) -> None:
    assert stays_low(little(share), losses, left) is expected


@pytest.mark.parametrize(
    ("losses", "share", "expected"),
    [
        ((9.0, 1.0), 0.19, True),  # however it falls
        ((0.9, 1.0), 0.19, True),
        ((9.0, 1.0), 0.2, False),
        ((1.0,), 0.0, False),
    ],
)
def test_what_is_worse_than_untrained_leads_nowhere(
    losses: tuple[float, ...], share: float, expected: bool
) -> None:
    assert stays_low(little(share), losses, 18, worse=True) is expected


def test_who_asks_for_less_than_that_gets_no_more() -> None:
    assert not stays_low(little(0.05, limit=0.04), (0.8, 0.9, 1.0), 15)
