import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.config import document, yaml12
from orchestrator.tuning.result.edit import edit
from tests.builders import LAW

ROOT = Path(__file__).parents[3]

TEXT = """\
# A config with comments.
data: {train: {csv: a.csv, target: y}}

compile:
  optimizer: {Adam: {learning_rate: 5.0}}  # too high
  loss: mse
restart:
  # The policy.
  max_attempts: 8  # the first one counts
  policy:
    - {remedy: lower_learning_rate, factor: 0.01, times: 2}  # first
    - remedy: leaky_relu
      negative_slope: 0.2
  # after it
tune:
"""


def _changed(text: str, *path: Any, to: Any) -> dict[str, Any]:
    value: dict[str, Any] = copy.deepcopy(document.parse(text, name="").value)
    place: Any = value
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = to
    return value


def test_a_value_changes_and_nothing_else() -> None:
    wanted = _changed(TEXT, "compile", "optimizer", "Adam", "learning_rate", to=0.005)
    assert edit(TEXT, wanted) == TEXT.replace("5.0", "0.005")
    wanted = _changed(TEXT, "restart", "policy", 1, "negative_slope", to=0.05)
    assert edit(TEXT, wanted) == TEXT.replace("negative_slope: 0.2", "negative_slope: 0.05")
    assert edit(TEXT, document.parse(TEXT, name="").value) == TEXT


def test_a_list_is_replaced_line_by_line() -> None:
    policy = [{"remedy": "new_seed", "times": 3}]
    found = edit(TEXT, _changed(TEXT, "restart", "policy", to=policy))
    head, _, _ = TEXT.partition("    - {remedy: lower")
    assert found == f"{head}    - {{remedy: new_seed, times: 3}}\n  # after it\ntune:\n"


def test_what_is_new_stands_in_its_section() -> None:
    found = edit(TEXT, _changed(TEXT, "restart", "screen_seeds", to=12))
    assert "  screen_seeds: 12\n  max_attempts: 8  # the first one counts\n" in found
    found = edit(TEXT, _changed(TEXT, "base", to="/where/it was"))
    assert found == TEXT.replace("data:", "base: /where/it was\ndata:")
    found = edit(TEXT, _changed(TEXT, "compile", "optimizer", "Adam", "beta_1", to=0.8))
    assert "{Adam: {beta_1: 0.8, learning_rate: 5.0}}  # too high" in found
    found = edit(TEXT, _changed(TEXT, "fit", to={"class_weight": {0: 1.0}}))
    assert found.startswith(TEXT)
    found = edit(TEXT, _changed(TEXT, "tune", to=True))
    assert found == TEXT.replace("tune:", "tune: true")


def test_what_is_gone_takes_its_line_along() -> None:
    wanted = document.parse(TEXT, name="").value
    del wanted["restart"]["policy"]
    found = edit(TEXT, wanted)
    assert "leaky" not in found
    assert "max_attempts: 8  # the first one counts\n  # after it" in found


def test_what_an_anchor_would_change_too_is_written_anew() -> None:
    text = "a: &x {b: 1}\nc: *x\n"
    wanted = {"a": {"b": 2}, "c": {"b": 1}}
    found = edit(text, wanted)
    assert document.parse(found, name="").value == wanted


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.stem)
def test_the_comments_of_the_shipped_configs_stay(path: Path) -> None:
    text = path.read_text()
    wanted = {**document.parse(text, name="").value, "base": "/somewhere", "seed": 7}
    found = edit(text, wanted)
    assert document.parse(found, name="").value == wanted
    assert found.count("#") == text.count("#")


KEYS = st.text("abc", min_size=1, max_size=3)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-99, 99),
    st.floats(allow_nan=False),
    st.text("aé#: -\n'", max_size=6),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@LAW
@given(st.dictionaries(KEYS, VALUES, max_size=4), st.dictionaries(KEYS, VALUES, max_size=4))
def test_the_text_holds_what_was_wanted(held: dict[str, Any], wanted: dict[str, Any]) -> None:
    found = document.parse(edit(yaml12.dump(held), wanted), name="").value
    assert found == wanted
