"""A made-up search, for what shows searches."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from orchestrator.record.encoding import dump, jsonable
from orchestrator.record.search import (
    ArmRuns,
    Comparison,
    Difference,
    Objective,
    Parameter,
    Search,
    Term,
    Trial,
    TrialRun,
)
from orchestrator.record.storage.directory import SearchPaths
from tests import story

COST = Objective(
    name="cost", direction="min", terms=(Term(measure="cost", direction="min"),), penalty=8.0
)
FACTOR = Parameter(
    path="restart.policy.0.factor", kind="float", low=0.01, high=1.0, log=True, default=0.1
)
SEEDS = Parameter(path="restart.screen_seeds", kind="int", low=1, high=64, default=64)
REMEDY = Parameter(
    path="restart.policy.1",
    kind="choice",
    choices=("new_seed", {"remedy": "leaky_relu", "negative_slope": 0.2}),
    default="new_seed",
)
SPACE = (FACTOR, SEEDS, REMEDY)
NAME = "tune-airfoil-20261126-173000-ab12"


def run(seed: int, score: float | None, **fields: Any) -> TrialRun:
    """A run that passed, or one without a result where there is no score."""
    known: dict[str, Any] = {
        "seed": seed,
        "run": f"runs/airfoil-20261126-1731{seed:02d}-0000",
        "status": "error" if score is None else "passed",
        "attempts": 1,
        "cost": score,
        "score": score,
        "skill": 0.9,
        "seconds": 2.0,
    }
    return TrialRun(**{**known, **fields})


def trial(number: int, score: float | None = None, **fields: Any) -> Trial:
    """A trial on two seeds; the first is the base config."""
    values = {
        FACTOR.path: 10 ** -((number % 9) / 4),
        SEEDS.path: number * 3,
        REMEDY.path: REMEDY.choices[number % 2],
    }
    known: dict[str, Any] = {
        "trial": number,
        "status": "failed" if score is None else "completed",
        "values": {each.path: each.default for each in SPACE} if number == 1 else values,
        "runs": (run(1, score), run(2, score)),
        "score": score,
        "seconds": 4.0,
    }
    return Trial(**{**known, **fields})


def trials(count: int = 12) -> tuple[Trial, ...]:
    """The base config; the seventh failed, the ninth cut; others cost what their factor says."""
    made = [trial(1, 2.0)]
    for number in range(2, count + 1):
        score = round(1 + trial(number).values[FACTOR.path] + number / 1000, 3)
        made.append(trial(number, score))
    if count > 8:
        made[8] = trial(9, 3.5, status="cut", reason="it could no longer win")
        made[6] = trial(7, reason="run 1 of 2 ended in an error: the disk is on fire")
    return tuple(made)


def arm(name: Any, *scores: float | None, failing: int = 0) -> ArmRuns:
    """Runs on the seeds 101, 102, …, of which the first few were exhausted."""
    runs = []
    for index, score in enumerate(scores):
        status = {"status": "exhausted"} if index < failing else {}
        runs.append(run(101 + index, score, **status))
    known = [score for score in scores if score is not None]
    mean = sum(known) / len(known) if known else None
    return ArmRuns(arm=name, runs=tuple(runs), score=mean)


def search(**fields: Any) -> Search:
    """A search of twelve trials that has ended, without a comparison."""
    made = fields.pop("trials", trials())
    scored = [each for each in made if each.status == "completed" and each.score is not None]
    best = min(scored, key=lambda each: each.score or math.inf, default=None)
    known: dict[str, Any] = {
        "search": NAME,
        "status": "finished",
        "name": "airfoil",
        "objective": COST,
        "max_trials": 12,
        "seeds": (1, 2),
        "plain_epochs_rows": 36_060,
        "space": SPACE,
        "trials": made,
        "best_trial": None if best is None else best.trial,
        "started": "2026-11-26T17:30:00+00:00",
        "seconds": 90.0,
        "overhead_seconds": 12.0,
    }
    return Search(**{**known, **fields})


def comparison(**fields: Any) -> Comparison:
    """Ten fresh seeds, on which the tuned policy is always half a training cheaper."""
    known: dict[str, Any] = {
        "seeds": tuple(range(101, 111)),
        "arms": (arm("default", *[2.0] * 10), arm("tuned", *[1.5] * 10)),
        "default": Difference(pairs=10, mean=-0.5, low=-0.5, high=-0.5, better=True),
        "better": True,
        "reason": "it is",
    }
    return Comparison(**{**known, **fields})


def record(runs: Path, found: Search | None = None, *, name: str = NAME) -> Path:
    """A search's directory, as a search leaves it, with an ordinary run in it."""
    paths = SearchPaths(runs / name)
    paths.runs.mkdir(parents=True)
    made = search() if found is None else found
    paths.record.write_bytes(dump(jsonable(replace(made, search=name))))
    paths.journal.write_bytes(b"")
    story.record(paths.runs, story.story(loss=1e3))
    return paths.root
