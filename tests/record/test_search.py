from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import NewerError, RecordError
from orchestrator.record.encoding import dump, jsonable
from orchestrator.record.search import (
    ArmRuns,
    Comparison,
    Objective,
    Parameter,
    Search,
    Term,
    Trial,
    TrialRun,
    is_search,
    parse,
    read,
)
from orchestrator.record.storage.directory import SearchPaths

SEARCH = Search(
    search="tune-airfoil-20261126-173000-ab12",
    status="finished",
    name="airfoil",
    objective=Objective(
        name="cost",
        direction="min",
        terms=(Term(measure="cost", direction="min"),),
        penalty=8.0,
    ),
    max_trials=20,
    seeds=(1, 2),
    plain_epochs_rows=36_060,
    space=(
        Parameter(
            path="restart.policy.0.factor", kind="float", low=0.05, high=0.7, log=True, default=0.1
        ),
        Parameter(path="restart.policy", kind="choice", choices=(None, ["new_seed"])),
    ),
    trials=(
        Trial(
            trial=1,
            status="completed",
            runs=(
                TrialRun(seed=1, run="runs/a", status="passed", attempts=2, cost=1.5, score=1.5),
                TrialRun(seed=2, status="exhausted", cost=8.0, score=16.0, reused=True),
            ),
            score=8.75,
        ),
        Trial(trial=2, status="cut", values={"restart.policy": ["new_seed"]}, reason="too dear"),
    ),
    best_trial=1,
    comparison=Comparison(seeds=(7,), arms=(ArmRuns(arm="default"), ArmRuns(arm="tuned"))),
    recommended="default",
    seconds=12.5,
)


def _json(**changes: Any) -> bytes:
    return dump({**jsonable(SEARCH), **changes})


def test_a_search_is_read_as_it_was_written() -> None:
    assert parse(_json(), "search.json") == SEARCH


def test_keys_of_later_versions_are_passed_over() -> None:
    assert parse(_json(colour="red"), "search.json") == SEARCH


def test_best_is_the_trial_of_that_number() -> None:
    best = SEARCH.best()
    assert best is not None
    assert best.trial == 1
    assert SEARCH.trial(3) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trials": 3}, "search.json is damaged: trials: expected `array`, received 3"),
        ({"best_trial": 9}, "best_trial: there is no trial 9"),
        ({"seconds": -1}, "seconds: expected a length of time, received -1"),
    ],
)
def test_what_is_no_search_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecordError, match=message):
        parse(_json(**changes), "search.json")


def test_a_newer_record_is_refused_by_its_schema() -> None:
    with pytest.raises(NewerError, match="its schema is 2, this version reads up to 1"):
        parse(_json(schema=2), "search.json")


def test_a_search_that_nobody_works_on_is_not_running(tmp_path: Path) -> None:
    assert not is_search(tmp_path)
    with pytest.raises(RecordError, match=r"search\.json is missing"):
        read(tmp_path)
    SearchPaths(tmp_path).record.write_bytes(_json(status="running"))
    assert is_search(tmp_path)
    assert read(tmp_path).status == "interrupted"


def test_numbers_that_are_not_finite_are_texts() -> None:
    run = TrialRun(seed=1, status="exhausted", metric=float("inf"))
    assert json.loads(dump(jsonable(run)))["metric"] == "Infinity"
