"""What a run that passed says of a training that did not run as configured."""

from __future__ import annotations

from msgspec.structs import replace

from orchestrator.policy import deviations
from tests import builders


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
