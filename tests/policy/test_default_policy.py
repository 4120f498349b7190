"""What the policy decides is what it has decided before."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from orchestrator.config import load as configs
from orchestrator.policy import rule
from orchestrator.record.records import Cause, Finding, Fix
from orchestrator.record.storage import archive
from tests import builders
from tests.policy import walks

EARLIER = Path(__file__).parents[1] / "record" / "fixtures"


def test_every_recorded_walk_is_walked_again() -> None:
    assert walks.walked() == walks.recorded()


@pytest.mark.parametrize(
    ("name", "policy"),
    [("exhausted", None), ("passed", "[{remedy: lower_learning_rate, times: 3}]")],
)
def test_the_runs_of_an_earlier_version_are_decided_as_they_were(
    name: str, policy: str | None
) -> None:
    (directory,) = (EARLIER / "runs").glob(f"{name}-*")
    # Of the default policy of then one has no record; what it took is written here.
    changes = [] if policy is None else [f"restart.policy={policy}"]
    config = configs.load(directory / "resolved.yaml", changes, base=EARLIER / "project")
    first, *others = archive.read(directory).attempts
    before = [first]
    for attempt in others:
        taken = rule.step(config, before).taken
        assert taken is not None
        # Screening may have chosen another seed than the policy.
        assert taken.settings == replace(attempt.settings, seed=taken.settings.seed)
        seeds = [candidate.seed for candidate in attempt.screened] or [attempt.settings.seed]
        assert (taken.rung.remedy, taken.settings.seed) == (attempt.remedy, seeds[0])
        before.append(attempt)
    assert len(before) > 1


@pytest.mark.parametrize(
    ("cause", "remedy"), [("loss_mismatch", "fix_output"), ("unscaled_inputs", "standardize")]
)
def test_by_default_a_rate_far_above_the_usual_one_is_capped_beside(
    cause: Cause, remedy: str
) -> None:
    fault = Finding(cause=cause, reason="it is", fix=Fix(activation="sigmoid"))
    high = Finding(cause="unusual_rate", reason="high", fix=Fix(usual_rate=0.01))
    failed = replace(builders.failed(1, "finite", rates={"main": 5.0}), findings=(fault, high))
    taken = rule.step(builders.config(), [failed]).taken
    assert taken is not None and taken.rung.remedy == remedy
    assert taken.settings.learning_rate_cap == pytest.approx(0.03)
