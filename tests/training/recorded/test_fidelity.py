"""A replay held against its record, without any training."""

from __future__ import annotations

import math
from typing import Any

import pytest
from msgspec.structs import replace

from orchestrator.display import tables
from orchestrator.record.encoding import jsonable
from orchestrator.record.records import Attempt, Phase, Settings
from orchestrator.training.recorded import fidelity
from orchestrator.training.recorded.fidelity import Fidelity, Pair
from tests import builders

ENVIRONMENT: dict[str, Any] = {
    "packages": {"tensorflow": "2.21.0", "keras": "3.15.0", "numpy": "2.4.0", "orchestrator": "1"},
    "python": "3.11.9",
    "platform": "Linux",
    "host": "here",
    "cpus": 2,
    "git": {"commit": "0" * 39 + "1", "dirty": False},
    "data": f"sha256:{'a' * 64}",
}


def phase(name: str, weights: str | None = "sha256:1", **fields: Any) -> Phase:
    return replace(builders.phase(name), weights=weights, **fields)


def attempt(*phases: Phase, **fields: Any) -> Attempt:
    given: dict[str, Any] = {"attempt": 2, "status": "passed", "settings": Settings(seed=7)}
    return Attempt(**given | fields, phases=phases)


PHASES = (phase("init"), phase("warmup"), phase("main"))


def compare(
    recorded: Attempt, again: Attempt, now: Any = ENVIRONMENT, then: Any = ENVIRONMENT
) -> Fidelity:
    return fidelity.compare("case-1", recorded, again, then=then, now=now)


def test_what_came_again_is_the_same() -> None:
    found = compare(attempt(*PHASES), attempt(*PHASES, status="running"))
    assert found.same
    assert found.reason is None
    sentence = "attempt 2 arrived at the same bits after each of its 3 phases"
    assert fidelity.sentence(found) == sentence
    text = tables.as_table(*fidelity.table(found), width=None, color=False)
    assert text.splitlines()[1].split() == ["init", "same", "same", "same"]


def test_other_weights_are_named_from_their_phase_on() -> None:
    main = phase("main", "sha256:2", metrics={"loss": 0.125})
    found = compare(attempt(*PHASES), attempt(PHASES[0], phase("warmup", "sha256:3"), main))
    assert [each.same for each in found.phases] == [True, False, False]
    assert found.phases[1].weights == Pair("sha256:1", "sha256:3")
    assert found.phases[2].metrics == {"loss": Pair(0.25, 0.125)}
    sentence = fidelity.sentence(found)
    assert sentence == "attempt 2 differs from phase warmup on: the weights are others"
    assert found.reason is not None
    assert "draws without a seed in your own code" in found.reason
    rows = fidelity.table(found)[1]
    assert [cell.shown for cell in rows[2]] == ["main", "differ", "1 differ", "same"]


def test_other_untrained_weights_are_another_model() -> None:
    found = compare(attempt(*PHASES), attempt(*(phase(each.phase, "sha256:4") for each in PHASES)))
    assert str(found.reason).startswith("the untrained weights are others already")


def test_a_phase_that_was_not_reached_differs() -> None:
    bad = phase("warmup", checks=(builders.check("fail"),))
    found = compare(attempt(*PHASES), attempt(PHASES[0], bad))
    assert found.phases[1].checks == {"dead_neurons.verdict": Pair("pass", "fail")}
    last = found.phases[2]
    assert (last.same, last.reached, last.weights.replayed) == (False, False, None)
    assert "dead_neurons.verdict pass then, fail now" in fidelity.sentence(found)
    assert "not reached" in [cell.shown for cell in fidelity.table(found)[1][2]]


def test_same_weights_of_which_something_else_was_measured() -> None:
    layer = {"layer": "dense", "units": 4, "dead": 2, "dead_units": [3], "blocked": 1}
    other = builders.made("dead_neurons", measured={"layers": [layer]}, reason="in other words")
    found = compare(attempt(*PHASES), attempt(*PHASES[:2], phase("main", checks=(other,))))
    assert found.phases[2].checks == {"dead_neurons.layers.0.dead": Pair(1, 2)}
    sentence = "differs in phase main: dead_neurons.layers.0.dead 1 then, 2 now"
    assert sentence in fidelity.sentence(found)
    assert str(found.reason).startswith("the weights are the same, only what was measured")


def test_units_and_what_a_newer_version_measures_are_no_difference() -> None:
    layer = {"layer": "dense", "units": 4, "dead": 1, "dead_units": [9], "blocked": 3}
    newer = builders.made("dead_neurons", measured={"layers": [layer], "rows": 1})
    more = phase("main", checks=(newer, builders.check("warn", name="metric")))
    assert compare(attempt(*PHASES), attempt(*PHASES[:2], more)).same


@pytest.mark.parametrize(
    ("then", "now", "same"),
    [
        (1.2582, 1.2582001, True),
        (1.2582, 1.2583, False),
        (1.1e67, math.inf, True),
        (1.1e67, -math.inf, False),
        (1.1, math.inf, False),
    ],
)
def test_losses_are_compared_as_far_as_float32_tells(then: float, now: float, same: bool) -> None:
    def measured(loss: float) -> Attempt:
        output = {"output": 0, "kind": "regression", "loss": loss}
        made = builders.made("prediction_variance", measured={"outputs": [output]})
        return attempt(phase("main", checks=(made,)))

    assert compare(measured(then), measured(now)).same is same


def test_nan_is_equal_to_nan() -> None:
    lost = phase("main", metrics={"loss": math.nan}, highest_loss=math.nan)
    found = compare(attempt(lost), attempt(phase("main", **_values(lost))))
    assert found.same
    assert compare(attempt(lost), attempt(phase("main"))).phases[0].metrics["loss"] == Pair(
        "NaN", 0.25
    )


def _values(found: Phase) -> dict[str, Any]:
    """NaNs of its own, for one and the same object is equal to itself in a container."""
    return {"metrics": {"loss": float("nan")}, "highest_loss": -found.metrics["loss"]}


def test_the_last_digit_of_a_number_is_told() -> None:
    value = math.nextafter(0.25, 1)
    found = compare(attempt(*PHASES), attempt(*PHASES[:2], phase("main", metrics={"loss": value})))
    assert f"loss 0.25 then, {value!r} now" in fidelity.sentence(found)


def test_a_record_without_digests_is_compared_by_its_numbers() -> None:
    old = [phase(each.phase, None) for each in PHASES]
    found = compare(attempt(*old), attempt(*PHASES))
    assert (found.same, found.bits) == (True, False)
    sentence = fidelity.sentence(found)
    assert sentence.startswith(
        "attempt 2 gave the same numbers in each of its 3 phases; its record"
    )
    assert "bits are not compared" in sentence
    assert fidelity.table(found)[1][0][1].shown == "not recorded"
    worse = attempt(*PHASES[:2], phase("main", metrics={"loss": 9.0}))
    assert fidelity.sentence(compare(attempt(*old), worse)).startswith(
        "attempt 2 differs in phase main: loss 0.25 then, 9.0 now; its record is older"
    )


def test_an_attempt_that_was_cut_short_says_so() -> None:
    found = compare(attempt(PHASES[0], status="interrupted"), attempt(PHASES[0]))
    assert fidelity.sentence(found) == (
        "attempt 2 arrived at the same bits after its only finished phase, init; "
        "it was cut short, so only its finished phases are compared"
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"packages": {**ENVIRONMENT["packages"], "keras": "3.16.0"}},
         "keras 3.15.0 then, 3.16.0 now"),
        ({"cpus": 64, "host": "there"}, "number of CPUs 2 then, 64 now; host here then, there now"),
        ({"git": None}, f"git commit {'0' * 19}… then, none now"),
        ({"data": f"sha256:{'b' * 64}"},
         "data sha256:aaaaaaaaaaaa… then, sha256:bbbbbbbbbbbb… now"),
    ],
)  # fmt: skip
def test_what_changed_since_may_be_the_reason(changes: dict[str, Any], reason: str) -> None:
    other = attempt(*PHASES[:2], phase("main", "sha256:5"))
    found = compare(attempt(*PHASES), other, now=ENVIRONMENT | changes)
    assert found.reason == reason
    assert compare(attempt(*PHASES), attempt(*PHASES), now=ENVIRONMENT | changes).reason is None


def test_other_reasons() -> None:
    other = attempt(*PHASES[:2], phase("main", "sha256:5"), settings=Settings(seed=8))
    dirty = ENVIRONMENT | {"git": {**ENVIRONMENT["git"], "dirty": True}}
    reason = compare(attempt(*PHASES), other, then=dirty, now=dirty).reason
    assert reason == (
        "screening chose seed 7 then, 8 now; "
        "when it was recorded, the code had changes that were not committed"
    )
    assert "environment.json cannot be read" in str(
        compare(attempt(*PHASES), other, then={}).reason
    )


@pytest.mark.parametrize(
    ("journaled", "changed"),
    [
        (PHASES, True),
        ((PHASES[0], phase("warmup", "sha256:9"), PHASES[2]), False),
        ((PHASES[0], phase("warmup", "sha256:9", metrics={"loss": 3.0})), True),
        ((), False),
    ],
)
def test_a_record_that_its_journal_contradicts_was_changed(
    journaled: tuple[Phase, ...], changed: bool
) -> None:
    recorded = attempt(PHASES[0], phase("warmup", "sha256:9"), PHASES[2])
    found = fidelity.compare(
        "case-1", recorded, attempt(*PHASES), then=ENVIRONMENT, now=ENVIRONMENT,
        journaled=attempt(*journaled),
    )  # fmt: skip
    said = "run.json does not say what the journal says, so one of them was changed since"
    assert (found.reason == said) == changed


def test_it_is_plain_json() -> None:
    record = jsonable(compare(attempt(*PHASES), attempt(PHASES[0])))
    assert record["schema"] == 1
    assert record["phases"][1]["weights"] == {"recorded": "sha256:1", "replayed": None}
    assert list(record) == [
        "schema", "run", "attempt", "same", "bits", "ended", "phases", "environment", "reason",
    ]  # fmt: skip
