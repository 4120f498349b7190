"""When a loss that is too high is certain to stay so, from losses with known answers."""

from __future__ import annotations

import pytest

from orchestrator.diagnosis.verdicts.outlook import Outlook


def outlook(*losses: float, left: int, level: float | None = None) -> Outlook:
    return Outlook(
        losses=losses, left=left, limit=0.5, level=losses[-1] if level is None else level
    )


@pytest.mark.parametrize(("left", "slow"), [(0, False), (1, True), (7, True), (8, False)])
def test_a_steady_pace_is_reckoned_with_half_as_much_again(left: int, slow: bool) -> None:
    seen = outlook(1.9, 1.8, 1.7, 1.6, left=left)
    assert seen.lowest == pytest.approx(1.6 - 0.15 * left)
    assert seen.is_too_slow() is slow


def test_a_pace_is_told_by_four_epochs_and_is_the_faster_of_the_last_two() -> None:
    assert not outlook(1.8, 1.7, 1.6, left=1).is_too_slow()
    assert not outlook(1.9, 1.8, 1.2, 1.2, left=1).is_too_slow()
    assert outlook(1.9, 1.3, 1.2, 1.2, left=1).is_too_slow()


def test_a_loss_that_rises_falls_no_further() -> None:
    assert outlook(1.0, 1.1, 1.2, 1.3, left=99).is_too_slow()


def test_what_is_better_in_inference_counts() -> None:
    assert not outlook(1.9, 1.8, 1.7, 1.6, left=7, level=1.5).is_too_slow()
    assert not outlook(1.9, 1.8, 1.7, 1.6, left=1, level=0.5).is_too_slow()
