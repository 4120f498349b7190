"""When a loss that is too high is certain to stay so, from losses with known answers."""

from __future__ import annotations

import math

import pytest

from orchestrator.diagnosis.verdicts.outlook import (
    HALF,
    LATE,
    NEXT,
    SOON,
    Outlook,
    least_share,
    midterms,
    rests,
)
from orchestrator.record.checks import LearnedCheck, LearnedLimits


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
    ("epochs", "first", "asked"),
    [
        (20, HALF, {10}),
        (20, LATE, {5, 10}),
        (20, NEXT, {3, 5, 10}),
        (20, SOON, {2, 3, 5, 10}),
        (40, SOON, {4, 6, 10, 20}),
        (8, SOON, {2, 4}),
        (5, SOON, {2, 4}),
        (3, SOON, {4}),  # fewer tell nothing
        (5, HALF, {4}),
    ],
)
def test_it_is_asked_half_way_and_earlier_where_that_tells(
    epochs: int, first: float, asked: set[int]
) -> None:
    assert midterms(epochs, first=first) == asked


def learned(limit: float | None) -> LearnedCheck:
    limits = LearnedLimits(fail_below=limit, warn_below=0.8)
    return LearnedCheck(verdict="fail", reason="little", limits=limits)


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
def test_it_is_held_to_its_limit_half_way_and_after_a_quarter_at_a_wild_rate(
    epochs: int, times: float | None, late: set[int]
) -> None:
    for done in midterms(epochs, first=SOON):
        limit = 0.5 if done in late else 0.2
        assert least_share(learned(0.5), epochs, done, times) == limit
    for done in midterms(epochs, first=HALF):
        assert least_share(learned(0.5), epochs, done, times) == 0.5


def test_who_asks_for_less_than_a_little_gets_no_more() -> None:
    assert least_share(learned(0.04), 20, 2, None) == 0.04
    assert least_share(learned(None), 20, 2, None) is None
    assert least_share(learned(None), 20, 10, None) is None


def test_before_a_little_tells_nothing_does() -> None:
    shares = [least_share(learned(0.5), 40, done, None, little=LATE) for done in (3, 6, 10, 20)]
    assert shares == [None, 0.005, 0.2, 0.5]  # in three epochs nothing is told
    assert least_share(learned(0.001), 40, 6, None, little=LATE) == 0.001
    assert least_share(learned(None), 40, 6, None, little=LATE) is None


def test_what_rests_is_held_to_its_limit_after_a_quarter() -> None:
    assert least_share(learned(0.5), 20, 4, None, rests=True) == 0.2
    assert least_share(learned(0.5), 20, 5, None, rests=True) == 0.5
    assert least_share(learned(None), 20, 5, None, rests=True) is None


@pytest.mark.parametrize(
    ("losses", "still"),
    [
        ([4.0, 2.0, 1.0, 1.2, 1.3], True),
        ([1.0, 1.0, 1.0, 1.0], True),
        ([1.0, 0.5, 0.499, 0.496], True),
        ([1.0, 0.5, 0.499, 0.494], False),
        ([1.0, 0.5, 0.6, 0.4, 0.7], False),  # it goes up and down
        ([1.0, 1.0, 1.0, 0.98, 1.0], False),
    ],
)
def test_a_loss_rests_that_falls_by_less_than_a_hundredth(losses: list[float], still: bool) -> None:
    assert rests(losses) == still
