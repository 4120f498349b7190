"""KerasTuner's real oracles and tuner, with trials that cost nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras_tuner
import pytest

from orchestrator.record.search import Objective, Parameter, Term
from orchestrator.tuning import space
from orchestrator.tuning.trials import oracle
from orchestrator.tuning.trials.oracle import Plan, TrialFailedError

SPACE = (
    Parameter(path="rate", kind="float", low=0.01, high=1.0, log=True, default=0.1),
    Parameter(path="width", kind="int", low=2, high=8, step=2, default=4),
    Parameter(path="policy", kind="choice", choices=(None, ["new_seed"], 3), default=None),
    Parameter(path="flag", kind="boolean", default=False),
)
BASE = {each.path: each.default for each in SPACE}


def plan(folder: Path, **changes: Any) -> Plan:
    objective = Objective(
        name="cost", direction="min", terms=(Term(measure="cost", direction="min"),), penalty=1.0
    )
    options: dict[str, Any] = {
        "tuner": "random",
        "objective": objective,
        "space": SPACE,
        "base": BASE,
        "max_trials": 8,
        "seeds": 9,
        "seed": 1,
        "folder": folder / "oracle",
    }
    return Plan(**options | changes)


def tried(
    folder: Path, score: Any = lambda values, number: float(number), **changes: Any
) -> list[tuple[Mapping[str, Any], int]]:
    """What a search tries, each with its number of seeds."""
    found: list[tuple[Mapping[str, Any], int]] = []

    def measure(values: Mapping[str, Any], seeds: int) -> tuple[Mapping[str, Any], float]:
        found.append((values, seeds))
        return values, score(values, len(found))

    oracle.search(plan(folder, **changes), measure)
    return found


@pytest.mark.parametrize("tuner", ["random", "grid", "hyperband"])
def test_the_config_as_it_is_comes_first_and_no_values_twice(tmp_path: Path, tuner: str) -> None:
    found = tried(tmp_path, tuner=tuner)
    assert found[0][0] == BASE
    assert len(found) == 8
    if tuner != "hyperband":
        assert len({json.dumps(values) for values, _ in found}) == 8
        assert {seeds for _, seeds in found} == {9}
    for values, _ in found:
        assert 0.01 <= values["rate"] <= 1
        assert values["width"] in (2, 4, 6, 8)
        assert values["policy"] in (None, ["new_seed"], 3)
        assert isinstance(values["flag"], bool)


def test_hyperband_gives_the_best_more_seeds(tmp_path: Path) -> None:
    found = tried(tmp_path, lambda values, _: values["rate"], tuner="hyperband", max_trials=20)
    budgets = [seeds for _, seeds in found]
    assert set(budgets) == {1, 3, 9}
    first_round = [values for values, seeds in found if seeds == 1]
    promoted = next(values for values, seeds in found if seeds == 3)
    assert promoted == min(first_round, key=lambda values: float(values["rate"]))


def test_the_same_scores_lead_to_the_same_trials(tmp_path: Path) -> None:
    for tuner in ("random", "hyperband", "grid"):
        assert tried(tmp_path, tuner=tuner) == tried(tmp_path, tuner=tuner)
    assert tried(tmp_path) != tried(tmp_path, seed=2)


def test_what_is_not_active_has_no_value_in_the_config_either(tmp_path: Path) -> None:
    hyperparameters = keras_tuner.HyperParameters()
    hyperparameters.Choice("kind", ["plain", "deep"])
    with hyperparameters.conditional_scope("kind", ["deep"]):
        hyperparameters.Int("width", 4, 400)
    asked = hyperparameters.get_config()["space"]
    found = [
        values
        for seed in (1, 2, 3)
        for values, _ in tried(
            tmp_path, space=space.asked(asked), asked=asked, base={}, max_trials=4, seed=seed
        )
    ]
    assert [values for values in found[::4]] == [{"kind": "plain"}] * 3
    assert all(("width" in values) == (values["kind"] == "deep") for values in found)


def test_the_configs_own_number_keeps_its_digits_and_none_leaves_its_range(tmp_path: Path) -> None:
    rate = Parameter(path="rate", kind="float", low=0.123456, high=0.123459, default=0.12345678)
    found = [
        values["rate"] for values, _ in tried(tmp_path, space=[rate], base={"rate": 0.12345678})
    ]
    assert found[0] == 0.12345678
    assert all(0.123456 <= each <= 0.123459 for each in found)


def test_a_small_space_is_tried_to_its_end(tmp_path: Path) -> None:
    space = (Parameter(path="a", kind="choice", choices=tuple(range(25)), default=0),)
    found = tried(tmp_path, space=space, base={"a": 0}, max_trials=100)
    assert sorted(values["a"] for values, _ in found) == list(range(25))


def test_trials_without_a_score_do_not_end_the_search(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(values: Any, number: int) -> float:
        if number > 1:
            raise TrialFailedError("no model")
        return 1.0

    assert len(tried(tmp_path, fail)) == 8
    assert capsys.readouterr() == ("", "")


def test_whatever_else_a_trial_raises_comes_out(tmp_path: Path) -> None:
    def stop(values: Any, number: int) -> float:
        raise KeyboardInterrupt("enough")

    with pytest.raises(KeyboardInterrupt, match="enough"):
        tried(tmp_path, stop)


def test_the_files_are_those_of_kerastuner(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tried(tmp_path, lambda values, number: math.sqrt(number))
    assert capsys.readouterr().out == ""
    again = keras_tuner.RandomSearch(
        objective=keras_tuner.Objective("cost", "min"),
        directory=str(tmp_path),
        project_name="oracle",
        hypermodel=lambda hp: None,
    )
    again.results_summary(2)
    told = capsys.readouterr().out
    assert "Showing 2 best trials" in told
    assert "Score: 1.0" in told
    assert "policy: null" in told


def test_what_the_record_says_was_tried_is_what_the_oracle_learns(tmp_path: Path) -> None:
    other = {**BASE, "width": 8, "policy": ["new_seed"]}

    def measure(values: Mapping[str, Any], seeds: int) -> tuple[Mapping[str, Any], float]:
        return other, 1.0

    oracle.search(plan(tmp_path, max_trials=1), measure)
    (file,) = (tmp_path / "oracle").glob("trial_*/trial.json")
    values = json.loads(file.read_text())["hyperparameters"]["values"]
    assert (values["width"], values["policy"]) == (8, '["new_seed"]')


def test_bayesian_learns_where_its_packages_are(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("scipy")

    def made() -> list[tuple[Mapping[str, Any], int]]:
        return tried(
            tmp_path, lambda values, _: abs(math.log10(values["rate"]) + 1.5), tuner="bayesian",
            space=SPACE[:1], base={"rate": 0.9}, max_trials=7,
        )  # fmt: skip

    found = made()
    assert found[0][0] == {"rate": 0.9}
    assert min(abs(math.log10(values["rate"]) + 1.5) for values, _ in found) < 0.1
    assert made() == found
