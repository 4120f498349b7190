"""When silence calls for a look."""

import numpy as np

from orchestrator.diagnosis.watch.alarm import Alarm


def units(silent: int, of: int = 20) -> list[np.ndarray]:
    """A layer whose first units are silent."""
    return [np.arange(of) < silent]


def test_units_that_fall_silent_are_news_once() -> None:
    alarm = Alarm()
    assert not alarm.raised(units(0))
    assert not alarm.raised(units(1))  # a twentieth
    assert alarm.raised(units(2))
    assert not alarm.raised(units(2))
    assert not alarm.raised(units(0))
    assert alarm.raised(units(2))
    assert not alarm.raised([])


def test_many_small_losses_come_to_a_look() -> None:
    alarm = Alarm()
    raised = [alarm.raised(units(count)) for count in range(7)]
    assert raised == [False, False, True, False, True, False, True]


def test_a_layer_that_rests_is_looked_at_ever_more_rarely() -> None:
    alarm = Alarm()
    raised = [alarm.raised(units(20)) for _ in range(17)]
    assert [index for index, each in enumerate(raised) if each] == [0, 1, 3, 7, 15]


def test_a_small_layer_needs_one_unit() -> None:
    assert Alarm().raised(units(1, of=3))
