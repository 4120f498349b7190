"""What a run that passed says of a training that did not run as configured."""

from __future__ import annotations

from msgspec.structs import replace

from orchestrator.policy import deviations
from orchestrator.record.records import Finding, Fix
from tests import builders


def test_a_schedule_that_took_longer_is_told_with_what_to_write() -> None:
    found = Finding(
        cause="no_effect", reason="it ends", advice="write decay_steps: 380",
        fix=Fix(schedule_stretch=19.0),
    )  # fmt: skip
    first = replace(builders.failed(1), findings=(found,))
    last = replace(first, attempt=2, settings=replace(first.settings, schedule_stretch=19.0))
    told = "the optimizer's schedule took 19 times as many steps as the config says"
    found_out = [*deviations.tell(builders.config(), [first, last], last)]
    assert found_out == [f"{told}: write decay_steps: 380"]


def test_gradients_that_were_clipped_are_told() -> None:
    first = builders.failed(1)
    last = replace(first, attempt=2, settings=replace(first.settings, clip_norm=1.0))
    write = "write global_clipnorm: 1 in the optimizer"
    told = [*deviations.tell(builders.config(), [first, last], last)]
    assert told == [f"gradients were clipped to a norm of 1, all taken together: {write}"]
    first = replace(first, obstacles={"clipping": "it clips already"})
    (told_so,) = deviations.tell(builders.config(), [first, last], last)
    assert told_so.endswith(f", in place of the optimizer's own bound: {write}")
    assert [*deviations.tell(builders.config(), [first], first)] == []
