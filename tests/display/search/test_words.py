from typing import Literal

import pytest
from msgspec.structs import replace

from orchestrator.display.search import words
from orchestrator.record.search import Comparison, Difference, Parameter
from tests import searches
from tests.searches import COST, FACTOR, REMEDY, SEEDS, SPACE

POLICY = Parameter(path="restart.policy", kind="choice", choices=(None, ["new_seed"]))
SLOPE = Parameter(
    path="restart.policy.leaky_relu.negative_slope", kind="choice", choices=(None, 0.2)
)


def test_a_path_is_as_short_as_it_can_be_told_from_the_others() -> None:
    assert words.short_paths(SPACE) == {
        FACTOR.path: "factor", SEEDS.path: "screen_seeds", REMEDY.path: "policy.1",
    }  # fmt: skip
    times = [replace(FACTOR, path=f"restart.policy.{name}.times") for name in ("a", "b")]
    assert list(words.short_paths(times).values()) == ["a.times", "b.times"]


def test_a_value_of_none_is_the_default_policy_or_no_change() -> None:
    space = (POLICY, SLOPE)
    assert words.values(space, {POLICY.path: None, SLOPE.path: None}) == "policy by default"
    told = words.values(space, {POLICY.path: ["new_seed"], SLOPE.path: 0.2})
    assert told == "policy new_seed · negative_slope 0.2"
    assert words.values(space, {}) == "the config as it is"


@pytest.mark.parametrize(
    ("parameter", "told"),
    [
        (FACTOR, "0.01 to 1, logarithmic"),
        (replace(FACTOR, step=10.0), "0.01 to 1, logarithmic, factors of 10"),
        (replace(SEEDS, step=1), "1 to 64"),
        (replace(SEEDS, step=9), "1 to 64, steps of 9"),
        (replace(SEEDS, low=1025.0, high=4096.0, step=1024.0), "1025 to 4096, steps of 1024"),
        (SLOPE, "as it is · 0.2"),
        (POLICY, "by default · new_seed"),
        (Parameter(path="flag", kind="boolean"), "true or false"),
        (Parameter(path="n", kind="choice", choices=tuple(range(9))),
         "0 · 1 · 2 · 3 · 4 · 5 · and 3 more"),
    ],
)  # fmt: skip
def test_the_values_that_a_parameter_may_take(parameter: Parameter, told: str) -> None:
    assert words.domain(parameter) == told


GIVEN = searches.comparison(given=Difference(pairs=10, mean=-1.0, low=-1.0, high=-1.0, better=True))


@pytest.mark.parametrize(
    ("comparison", "best", "recommended", "told"),
    [
        (searches.comparison(), 8, "tuned", "the tuned config: orchestrate x/tuned.yaml"),
        (searches.comparison(), 8, "default", "the default policy; the config as it is has it."),
        (GIVEN, 8, "default", "the default policy; that of a config without restart.policy."),
        (searches.comparison(), 1, "tuned", "the config as it is."),
        (searches.comparison(), 1, "default",
         "the default policy; that of a config without restart.policy."),
        (None, 1, "default", "the config as it is."),
    ],
)  # fmt: skip
def test_what_to_go_on_with(
    comparison: Comparison | None, best: int, recommended: Literal["tuned", "default"], told: str
) -> None:
    search = searches.search(
        comparison=comparison, best_trial=best, recommended=recommended, conclusion="done."
    )
    assert list(words.verdict(search, "x/tuned.yaml")) == ["Done.", f"Recommended: {told}"]
    unknown = replace(search, recommended=None, conclusion=None)
    assert list(words.verdict(unknown, "x/tuned.yaml")) == []


@pytest.mark.parametrize(
    ("value", "told"), [(1.0, "1 training"), (1.004, "1 training"), (2.345, "2.35 trainings")]
)
def test_costs_are_in_trainings(value: float, told: str) -> None:
    assert words.amount(COST, value) == told
    assert words.unit(COST) == "cost in trainings (lower is better)"
