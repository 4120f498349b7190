import math
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.display.search import axes
from orchestrator.display.search.picture import draw_search
from orchestrator.record.search import Parameter, Trial
from tests import searches
from tests.builders import LAW

SVG = "{http://www.w3.org/2000/svg}"


def _panels(text: str) -> list[ElementTree.Element]:
    return ElementTree.fromstring(text).findall(f"{SVG}g")


def _marks(panel: ElementTree.Element, kind: str) -> list[str]:
    return [each.findtext(f"{SVG}title") or "" for each in panel if each.get("class") == kind]


def test_each_parameter_has_a_panel_with_every_trial() -> None:
    panels = _panels(draw_search(searches.search(), unit="cost"))
    assert [each.findtext(f"{SVG}title") for each in panels] == [p.path for p in searches.SPACE]
    for panel, parameter in zip(panels, searches.SPACE, strict=True):
        counts = {kind: len(_marks(panel, kind)) for kind in ("done", "cut", "failed", "best")}
        assert counts == {"done": 8, "cut": 1, "failed": 1, "best": 1}
        (base,) = _marks(panel, "base")
        assert base == f"the config as it is: {parameter.path} {axes.label(parameter.default)}"
    assert _marks(panels[0], "best") == ["trial 8: score 1.018; restart.policy.0.factor 0.01"]
    assert _marks(panels[0], "failed")[0].startswith("trial 7: no score, failed; ")
    assert _marks(panels[1], "cut") == ["trial 9: score 3.5, cut; restart.screen_seeds 27"]


def test_a_hyperparameter_that_the_config_does_not_have_has_no_mark_of_it() -> None:
    width = Parameter(path="width", kind="int", low=2, high=9, default=2, hyperparameter=True)
    other = searches.trial(2, 1.5, values={"width": 4})
    for values, count in (({}, 0), ({"width": 2}, 1)):
        made = searches.search(
            space=(width,), trials=(searches.trial(1, 2.0, values=values), other)
        )
        (panel,) = _panels(draw_search(made, unit="cost"))
        assert len(_marks(panel, "base")) == count


def test_a_policy_goes_by_its_remedies_and_what_is_special_about_them() -> None:
    plain = {"when": None, "keep": False, "times": 1}
    policy = [{"remedy": "new_seed", **plain, "times": 3}, {"remedy": "leaky_relu", **plain}]
    assert axes.label(policy) == "new_seed (times 3), leaky_relu"
    assert axes.label({"a": False, "b": [1, 0.25]}) == "a false, b 1, 0.25"


def test_a_logarithmic_parameter_has_a_logarithmic_axis() -> None:
    axis = axes.of_numbers([0.01, 1.0], log=True)
    assert axis.place(0.1) == pytest.approx((axis.place(0.01) + axis.place(1.0)) / 2)
    assert [told for _, told in axis.ticks] == ["0.01", "0.1", "1"]
    linear = axes.of_numbers([0.0, 1.0], log=False)
    assert linear.place(0.5) == pytest.approx((linear.place(0.0) + linear.place(1.0)) / 2)
    assert [told for _, told in linear.ticks] == ["0", "0.5", "1"]


@pytest.mark.parametrize(
    ("scores", "logarithmic"), [([1.0, 30.0], True), ([1.0, 15.0], False), ([0.0, 30.0], False)]
)
def test_scores_far_apart_have_a_logarithmic_axis(scores: list[float], logarithmic: bool) -> None:
    axis = axes.of_scores(scores)
    middle = math.sqrt(scores[0] * scores[1]) if logarithmic else sum(scores) / 2
    assert axis.place(middle) == pytest.approx(0.5)


def test_choices_stand_side_by_side_and_long_ones_are_listed() -> None:
    axis = axes.of_choices([True, 1, ["new_seed"], True])
    assert [told for _, told in axis.ticks] == ["true", "1", "new_seed"]
    assert axis.place(True) == pytest.approx(1 / 6)
    text = draw_search(searches.search(), unit="cost")
    assert ">A  new_seed<" in text
    assert ">B  leaky_relu (negative_slope 0.2)<" in text


@LAW
@given(
    st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=9),
    st.booleans(),
)
def test_all_values_and_marks_lie_on_the_axis(values: list[float], log: bool) -> None:
    axis = axes.of_numbers(values, log=log)
    for value in values:
        assert -1e-9 <= axis.place(value) <= 1 + 1e-9
    assert axis.ticks
    assert all(-1e-6 <= place <= 1 + 1e-6 for place, _ in axis.ticks)


@pytest.mark.parametrize("default", [None, 0.0, {"CosineDecay": {"decay_steps": 9}}, "auto"])
def test_a_default_that_has_no_place_on_the_axis_is_not_marked(default: Any) -> None:
    rate = Parameter(path="rate", kind="float", low=0.1, high=1.0, log=True, default=default)
    made = (searches.trial(1, 2.0), searches.trial(2, 1.0, values={"rate": 0.5}))
    (panel,) = _panels(draw_search(searches.search(space=(rate,), trials=made), unit="cost"))
    assert _marks(panel, "base") == []
    assert len(_marks(panel, "best")) == 1


def test_what_the_user_wrote_is_no_markup() -> None:
    strange = Parameter(path="<a&b>", kind="choice", choices=("<x>", '"'), default="<x>")
    made = tuple(
        Trial(trial=number, status="completed", values={"<a&b>": '"'}, score=1.0)
        for number in (2, 3)
    )
    text = draw_search(searches.search(space=(strange,), trials=made, name="<&>"), unit="cost")
    (panel,) = _panels(text)
    assert panel.findtext(f"{SVG}title") == "<a&b>"


def test_without_any_score_it_says_so() -> None:
    text = draw_search(searches.search(trials=(searches.trial(1),)), unit="cost")
    assert "No trial has a score yet." in text
    assert _panels(text) == []


def test_light_and_dark_have_colours_for_the_same_things() -> None:
    text = draw_search(searches.search(), unit="cost")
    light, _, dark = text.partition("prefers-color-scheme: dark")
    for name in ("page", "plot", "grid", "dim", "line", "done", "cut", "failed", "best", "base"):
        assert f".{name} {{" in light
        assert f".{name} {{" in dark
