"""What a search looks like on a terminal, in a file, and to those who want it quiet."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from msgspec.structs import replace
from rich.console import Console

from orchestrator.display.live.view import Detail
from orchestrator.display.search.progress import Progress, block, clock
from orchestrator.display.search.view import SearchView
from orchestrator.record.search import Comparison, Search
from tests import builders, searches
from tests.terminal import Terminal

RUNS = Path("runs")
CONFIG = builders.config(tune={"fresh_seeds": 2})


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def _story() -> list[Search]:
    """A search of nine trials, step by step, and its comparison on two seeds."""
    base = searches.search(trials=(), max_trials=9, status="running", best_trial=None)
    told = [base]
    made = searches.trials(9)
    for index, trial in enumerate(made):
        begun = replace(trial, status="running", runs=(), score=None)
        told.append(replace(told[-1], trials=(*made[:index], begun)))
        best = searches.search(trials=made[: index + 1]).best_trial
        told.append(replace(told[-1], trials=made[: index + 1], best_trial=best))
    told.append(replace(told[-1], warnings=("the space has no more values",)))
    for count in range(3):
        arms = (searches.arm("default", *[2.0] * count), searches.arm("tuned", *[1.5] * count))
        told.append(replace(told[-1], comparison=Comparison(seeds=(101, 102), arms=arms)))
    return told


def _shown(console: Console, *, detail: Detail = "all") -> None:
    first, *rest = _story()
    ticking = Clock()
    with SearchView(console, detail=detail, clock=ticking) as view:
        view.say("importing TensorFlow")
        view.begin(RUNS / searches.NAME, first, CONFIG)
        for search in rest:
            ticking.now += 10
            view.show(None, search)


def test_a_terminal_keeps_a_row_a_trial() -> None:
    terminal = Terminal()
    _shown(
        Console(file=terminal, force_terminal=True, width=80, height=24, color_system="standard")
    )
    lines = [line.rstrip() for line in terminal.lines if line.strip()]
    assert lines[0] == f"Search {searches.NAME} in runs/"
    assert lines[1].startswith("9 trials, each on 2 seeds · cost in trainings (lower is better)")
    start = next(index for index, line in enumerate(lines) if line.startswith("trial"))
    rows = lines[start + 1 : start + 11]
    assert [row.split()[0] for row in rows[:7]] == ["1", "2", "3", "4", "5", "6", "7"]
    assert rows[0].split() == "1 2 best 2 of 2 4.0 s the config as it is".split()
    assert rows[1].split()[:8] == "2 1.318 best 2 of 2 4.0 s".split()
    assert rows[6].split()[:3] == ["7", "–", "failed"]
    assert rows[7] == "       run 1 of 2 ended in an error: the disk is on fire"
    assert rows[9].split()[:3] == ["9", "3.5", "cut"]
    assert lines[start + 11] == "warning: the space has no more values"
    assert lines[-2:] == [
        "    1 of 2: the default policy 2 · the tuned config 1.5",
        "    2 of 2: the default policy 2 · the tuned config 1.5",
    ]
    assert terminal.widest <= 80
    assert terminal.styled


def test_a_file_has_the_best_so_far_and_the_time_left_in_every_row() -> None:
    file = io.StringIO()
    _shown(Console(file=file, width=80))
    lines = file.getvalue().splitlines()
    assert lines[0] == "importing TensorFlow"
    (third,) = [line for line in lines if line.startswith("    3 ")]
    # Sixty seconds for six runs; twelve are to come of trials, and four of the comparison.
    assert third.endswith(" · best so far 3: 1.181 · about 3 min left")
    assert "restart" not in third and "leaky_relu (negative_slope 0.2)" in third


def test_quiet_is_a_row_a_trial_and_json_warnings_alone() -> None:
    file = io.StringIO()
    _shown(Console(file=file, width=80), detail="attempts")
    lines = file.getvalue().splitlines()
    assert [line.split()[0] for line in lines if line[:5].strip().isdigit()] == list("123456789")
    assert not any(line.startswith(("Search", "trial", "On fresh")) for line in lines)
    file = io.StringIO()
    _shown(Console(file=file, width=80), detail="warnings")
    assert file.getvalue() == "warning: the space has no more values\n"


def test_a_search_that_goes_on_says_how_far_it_was() -> None:
    file = io.StringIO()
    ticking = Clock()
    view = SearchView(Console(file=file, width=80), clock=ticking)
    made = searches.trials(4)
    best = searches.search(trials=made).best_trial
    resumed = searches.search(trials=made, best_trial=best, status="running")
    view.begin(RUNS / searches.NAME, resumed, CONFIG)
    assert (
        "4 trials are made already · best so far: trial 4, score 1.104 (the config as it is: 2)"
        in (file.getvalue())
    )
    ticking.now = 8.0
    view.show(None, replace(resumed, trials=searches.trials(5)))
    # Two runs in eight seconds of this sitting; fourteen and four are to come.
    assert file.getvalue().splitlines()[-1].endswith("about 70 s left")


@pytest.mark.parametrize("width", [20, 40, 80, 200])
@pytest.mark.parametrize("height", [1, 3, 24])
def test_the_block_stays_within_its_room(width: int, height: int) -> None:
    for search in _story():
        progress = Progress(search=search, began=0.0, before=0, seconds_before=0.0, fresh_seeds=2)
        lines = block(progress, 75.0, width=width, height=height)
        assert 1 <= len(lines) <= height
        assert all(line.cell_len <= width for line in lines)


def test_the_block_tells_trial_seed_best_and_time_left() -> None:
    search = _story()[7]  # the fourth trial has begun
    progress = Progress(search=search, began=0.0, before=0, seconds_before=60.0, fresh_seeds=2)
    lines = [line.plain for line in block(progress, 12.0, width=80, height=24)]
    assert lines[0].startswith(f"── {searches.NAME} ─")
    assert lines[0].endswith(" 1:12")
    assert " trial 4 of 9 · seed 1 of 2  ━━━━━━━━────────────────  about 30 s left" in lines[1]
    assert lines[2] == "  factor 0.1 · screen_seeds 12 · policy.1 new_seed"
    assert lines[3] == "best so far: trial 3, score 1.181 (the config as it is: 2)"
    assert lines[4].startswith("scores  █")


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (None, ""),
        (float("inf"), ""),
        (0.0, "about 10 s left"),
        (89.0, "about 90 s left"),
        (90.0, "about 2 min left"),
        (5399.0, "about 90 min left"),
        (5400.0, "about 1.5 h left"),
    ],
)
def test_time_left(seconds: float | None, told: str) -> None:
    assert clock(seconds) == told
