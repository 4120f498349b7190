import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.record.search import Effect, Parameter
from orchestrator.tuning.result.importance import ABSENT, FEWEST, effects, parameter_effects
from tests import searches
from tests.builders import LAW

BASE = np.linspace(0, 1, 20)
NOISE = np.random.default_rng(5).permutation(20) / 20


def test_the_parameter_that_decides_is_told_from_the_one_that_does_not() -> None:
    tried = {"rate": (10.0 ** (-4 * BASE)).tolist(), "width": NOISE.tolist()}
    found = effects(tried, BASE.tolist(), ordered={"rate": True, "width": True})
    assert found["rate"].share == pytest.approx(1.0)
    assert found["rate"].chance < 0.001
    assert (found["rate"].best, found["rate"].edge) == (0, "highest")
    assert found["width"].share < 0.3
    assert found["width"].chance > 0.05


def test_a_best_value_in_the_middle_counts() -> None:
    found = effects({"slope": BASE.tolist()}, ((BASE - 0.4) ** 2).tolist(), ordered={"slope": True})
    assert found["slope"].share > 0.8
    assert found["slope"].chance < 0.001
    assert BASE[found["slope"].best] == pytest.approx(0.4, abs=0.1)
    assert found["slope"].edge is None


def test_choices_go_by_their_means() -> None:
    names = ["new_seed", "leaky_relu"] * 10
    scores = NOISE + [3.0, 1.0] * 10
    found = effects({"remedy": names}, scores.tolist(), ordered={"remedy": False})
    # The ranks of the two groups do not meet; their means are 5 from the mean of all.
    ratio = 20 * 5**2 / ((20**3 - 20) / 12)
    assert found["remedy"].share == pytest.approx(1 - (1 - ratio) * 19 / 18)
    assert (names[found["remedy"].best], found["remedy"].edge) == ("leaky_relu", None)


def test_an_infinite_score_is_the_worst_and_no_more() -> None:
    scores = BASE.tolist()[:-1]
    tried = {"rate": BASE.tolist()}
    for last in (2.0, math.inf):
        found = effects(tried, [*scores, last], ordered={"rate": True})
        assert found["rate"].share == pytest.approx(1.0)


def test_what_cannot_be_told_is_left_out() -> None:
    few = list(range(FEWEST - 1))
    assert effects({"a": few}, few, ordered={"a": True}) == {}
    twenty = BASE.tolist()
    assert effects({"a": twenty}, [1.0] * 20, ordered={"a": True}) == {}
    constant = {"a": [1.0] * 20, "b": [str(each) for each in twenty]}
    assert effects(constant, twenty, ordered={"a": True, "b": False}) == {}
    enough = list(range(FEWEST))
    assert effects({"a": enough}, enough, ordered={"a": True})["a"].chance < 0.05


@LAW
@given(st.permutations(range(12)), st.permutations(range(12)))
def test_only_the_order_of_values_and_scores_counts(values: list[int], scores: list[int]) -> None:
    found = effects({"a": values, "b": scores}, scores, ordered={"a": True, "b": True})
    stretched = [math.exp(each) for each in scores]
    again = effects(
        {"a": [each**3 for each in values], "b": scores}, stretched, ordered={"a": True, "b": True}
    )
    assert 0 <= found["a"].share <= 1
    assert 0 < found["a"].chance <= 1
    assert again["a"].share == pytest.approx(found["a"].share)
    assert again["a"].chance == found["a"].chance
    assert found["b"].share == pytest.approx(1.0)


def test_by_chance_alone_hardly_any_search_finds_something() -> None:
    """Of sixty searches over five parameters without effect, about three may."""
    generator = np.random.default_rng(11)
    wrong = 0
    for _ in range(60):
        tried = {f"p{index}": generator.random(20).tolist() for index in range(5)}
        found = effects(tried, generator.random(20).tolist(), ordered=dict.fromkeys(tried, True))
        wrong += any(each.chance < 0.05 for each in found.values())
    assert wrong <= 7


def test_the_effects_of_a_search_come_most_important_first() -> None:
    found = parameter_effects(searches.search())
    assert [each.path for each in found][0] == searches.FACTOR.path
    assert found[0].trials == 11  # one has failed; the base config counts with its defaults
    assert found[0].share is not None and found[0].share > 0.5
    assert (found[0].best, found[0].edge) == (0.01, "lowest")
    assert {each.path for each in found} == {each.path for each in searches.SPACE}


def test_where_more_is_better_the_other_end_is_best() -> None:
    skill = msgspec.structs.replace(searches.COST, name="skill", direction="max")
    found = parameter_effects(searches.search(objective=skill))
    assert (found[0].path, found[0].edge) == (searches.FACTOR.path, "highest")


def test_a_config_with_something_else_in_the_place_of_a_number_is_left_out_of_it() -> None:
    space = (msgspec.structs.replace(searches.FACTOR, default="auto"), *searches.SPACE[1:])
    made = (searches.trial(1, 2.0, values={}), *searches.trials()[1:])
    found = parameter_effects(searches.search(space=space, trials=made))
    assert [each.trials for each in found] == [10, 11, 11]


def test_a_parameter_under_a_condition_is_judged_by_the_trials_that_have_it() -> None:
    """Of twenty trials every other one has the width, which is all that they differ in."""
    deep = (np.arange(20) % 2).tolist()
    width = [value if has else ABSENT for value, has in zip(BASE, deep, strict=True)]
    scores = (BASE * deep + 5 * NOISE * (1 - np.array(deep))).tolist()
    tried = {"deep": deep, "width": width}
    found = effects(tried, scores, ordered={"deep": False, "width": True})
    alone = effects({"width": width[1::2]}, scores[1::2], ordered={"width": True})
    assert found["width"].share == pytest.approx(alone["width"].share)
    assert found["width"].share > 0.95
    assert (found["width"].best, found["width"].edge) == (1, "lowest")
    assert found["width"].chance < 0.01
    few = [value if place < 2 * FEWEST - 2 else ABSENT for place, value in enumerate(width)]
    assert "width" not in effects(
        {"deep": deep, "width": few}, scores, ordered={"deep": False, "width": True}
    )


def test_by_chance_alone_conditions_find_nothing_either() -> None:
    generator = np.random.default_rng(7)
    wrong = 0
    for _ in range(60):
        tried: dict[str, Any] = {"a": generator.random(24).tolist()}
        for index in range(3):
            values = generator.random(24)
            tried[f"p{index}"] = [each if each > index / 6 else ABSENT for each in values]
        found = effects(tried, generator.random(24).tolist(), ordered=dict.fromkeys(tried, True))
        wrong += any(each.chance < 0.05 for each in found.values())
    assert wrong <= 7


def test_a_hyperparameter_that_the_first_trial_does_not_have_does_not_have_its_default() -> None:
    width = Parameter(path="width", kind="int", low=2, high=9, default=2, hyperparameter=True)
    made = [searches.trial(1, 2.0), *searches.trials()[1:]]
    for number in range(3, 12, 2):
        made[number] = searches.trial(
            number + 1, made[number].score, values={**made[number].values, "width": number}
        )
    (found,) = [
        each
        for each in parameter_effects(
            searches.search(space=(*searches.SPACE, width), trials=tuple(made))
        )
        if each.path == "width"
    ]
    assert (found.trials, found.share) == (5, None)


def test_a_choice_may_be_a_whole_policy() -> None:
    policies = ([{"remedy": "new_seed"}], [{"remedy": "leaky_relu"}])
    policy = Parameter(path="restart.policy", kind="choice", choices=policies)
    made = tuple(
        searches.trial(
            number, number % 2 + number / 100, values={policy.path: policies[number % 2]}
        )
        for number in range(2, 14)
    )
    (found,) = parameter_effects(searches.search(space=(policy,), trials=made))
    assert found.best == policies[0]
    assert found.chance is not None and found.chance < 0.01


def test_a_few_trials_tell_nothing() -> None:
    made = searches.trials()[:4]
    found = parameter_effects(searches.search(trials=made))
    assert found == tuple(Effect(path=each.path, trials=4) for each in searches.SPACE)
