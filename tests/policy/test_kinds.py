"""How a failed attempt failed, by its record."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from orchestrator.config.sections.restart import Restart
from orchestrator.policy import rule, shortfall
from orchestrator.policy.kinds import kinds
from orchestrator.record.records import (
    INIT,
    Attempt,
    Candidate,
    Finding,
    Fix,
    Settings,
)
from tests import builders
from tests.builders import made
from tests.policy.attempts import attempt, phase

LITTLE = {"outputs": [{"output": 0, "share": 0.3, "skill": 0.3, "reference": 1.0}]}
ANSWERED = Restart().answered()
CONFIG = builders.config()
SCREENED = tuple(Candidate(seed=seed, reason="dead") for seed in range(64))


@pytest.mark.parametrize(
    ("units", "activation", "often"),
    [
        ([2] * 9, "relu", True),  # 0.075 of the seeds are alive
        ([5] * 9, "relu", False),  # 0.75
        ([3] * 7, "relu", True),  # 0.39
        ([2] * 3, "relu", True),  # 0.42
        ([2] * 2, "relu", False),  # 0.56
        ([32, 32, 1], "relu", False),  # 0.50
        ([2] * 9, "leaky_relu", False),
    ],
)
def test_most_seeds_are_dead_by_the_widths_of_the_layers(
    units: list[int], activation: str, often: bool
) -> None:
    layers = [{"layer": "a", "activation": activation, "units": each, "dead": 0} for each in units]
    init = replace(phase(INIT), checks=(made("dead_neurons", measured={"layers": layers}),))
    failed = attempt(init, phase(learned="fail", skill=0.3, learnt=LITTLE))
    assert kinds(failed) == ({"crippled"} | ({"often_dead_at_init"} if often else set()))
    assert shortfall.is_in_question(failed, ANSWERED) is often


def test_a_deep_and_narrow_network_that_is_alive_and_learns_nothing_is_one_as_well() -> None:
    far = attempt(phase(INIT), phase(variance="fail", skill=-4.6), screened=SCREENED[:5])
    assert kinds(far) == {"worse_than_baseline", "often_dead_at_init"}
    assert shortfall.is_in_question(far, ANSWERED)
    assert not shortfall.is_in_question(replace(far, screened=SCREENED[:4]), ANSWERED)


def test_the_loss_of_the_untrained_network_is_the_measure() -> None:
    # From the second phase on the first step's loss is that of a trained network.
    earlier = phase("warmup", losses=(1.0, 0.9))
    quiet = attempt(phase(INIT), earlier, phase(dead="fail", losses=(0.01, 0.9)))
    loud = attempt(phase(INIT), earlier, phase(dead="fail", losses=(0.01, 3.1)))
    assert (kinds(quiet), kinds(loud)) == ({"died"}, {"diverged"})


@pytest.mark.parametrize(
    ("warmup", "rates", "kind"),
    [
        (0.9, {"warmup": 0.001, "main": 0.01}, "diverged"),
        (0.9, {"warmup": 0.001, "main": 0.0099}, "died"),
        (0.0, {"warmup": 0.001, "main": 0.2}, "died"),  # nothing says that it was healthy
        (0.9, {"warmup": 0.2, "main": 0.001}, "died"),
        (0.9, {"warmup": 0.0, "main": 0.2}, "died"),
        (0.9, {"main": 0.2}, "died"),
    ],
)
def test_units_that_die_far_above_a_rate_that_was_healthy_died_of_the_rate(
    warmup: float, rates: dict[str, float], kind: str
) -> None:
    failed = attempt(phase(INIT), phase("warmup", skill=warmup), phase(dead="fail"), rates=rates)
    assert kinds(failed) == {kind}


def test_what_a_shock_has_left_is_laid_to_the_shock() -> None:
    failed = attempt(
        phase(INIT),
        phase("before", skill=0.99),
        phase("shock", skill=0.3),
        phase("after", skill=0.3, dead="fail"),
        rates={"before": 0.001, "shock": 0.2, "after": 0.001},
    )
    assert failed.blamed_phase() == "shock"
    assert kinds(failed) == {"diverged"}
    taken = rule.step(CONFIG, [failed]).taken
    assert taken is not None
    assert taken.rung.remedy == "lower_learning_rate"
    cap = taken.settings.learning_rate_cap  # two thirds of the way down to the healthy rate
    assert cap == pytest.approx(0.2 * (0.001 / 0.2) ** (2 / 3))


def test_what_a_phase_far_above_the_usual_rate_has_left_is_laid_to_it() -> None:
    far = Finding(cause="unusual_rate", reason="far", fix=Fix(usual_rate=0.001))
    failed = attempt(
        phase(INIT),
        phase("before"),
        phase("shock"),
        phase("after", learned="fail", skill=0.1),
        rates={"before": 0.0007, "shock": 0.6, "after": 0.0007},
        findings=(far,),
    )
    assert failed.blamed_phase() == "shock"
    assert replace(failed, findings=()).blamed_phase() == "after"
    also = {"before": 0.0007, "shock": 0.6, "after": 0.02}  # which is no usual rate itself
    assert replace(failed, learning_rates=also).blamed_phase() == "after"


def test_an_attempt_without_a_failure_has_no_kind() -> None:
    passed = Attempt(attempt=1, status="passed", settings=Settings(seed=7))
    with pytest.raises(ValueError, match="expected a failed attempt"):
        kinds(passed)
