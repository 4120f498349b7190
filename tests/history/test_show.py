"""One run for people, on terminals of any width."""

import io
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from rich.console import Console

from orchestrator.history.show import describe_run
from orchestrator.record.events import EpochEnded
from orchestrator.record.records import Failure, Run
from tests.builders import made, phase
from tests.story import story, told

LIMITED = (
    made(
        "dead_neurons",
        measured={
            "dead_fraction": 0.25,
            "worst_layer": "dense",
            "layers": [{"layer": "dense", "units": 4, "dead": 1, "near_dead": 2}],
        },
        limits={"warn_above": 0.5, "fail_above": 0.9},
    ),
    made(
        "prediction_variance",
        measured={"outputs": [{"output": 0, "kind": "regression", "variance_ratio": 0.07515}]},
        limits={"min_ratio": 0.0001, "min_skill": -0.125},
    ),
)


def shown(run: Run, width: int, **options: Any) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    facts: dict[str, Any] = {"epochs": {}, "sizes": {}, "environment": {}} | options
    console.print(describe_run(run, Path("runs/case-1"), **facts), highlight=False)
    found: str = console.file.getvalue()  # type: ignore[attr-defined]
    return found.splitlines()


@pytest.fixture
def run() -> Run:
    *_, (_, run) = told(story(attempts=1, loss=1e3))
    attempt = replace(run.attempts[0], phases=(phase("main", *LIMITED),))
    return replace(run, attempts=(attempt,))


@pytest.mark.parametrize("width", [36, 40, 50, 60, 71, 72, 80, 120, 1000])
def test_no_width_takes_a_digit_of_a_limit(run: Run, width: int) -> None:
    lines = shown(run, width)
    words = " ".join(lines).replace("(", "").replace(")", "").replace(",", "").split()
    for word in ("0.07515", "0.0001", "-0.125", "50%", "90%", "prediction_variance"):
        assert any(each.rstrip(":") == word for each in words), word
    assert all(len(line) <= width and line == line.rstrip() for line in lines)


@pytest.mark.parametrize(("width", "length"), [(40, 8), (100, 24)])
def test_bars_stay_on_one_line(run: Run, width: int, length: int) -> None:
    (line,) = [line for line in shown(run, width) if "░" in line]
    assert line.count("█") + line.count("░") == length
    assert line.endswith("2")
    assert "1/4" in line


def test_one_epoch_is_a_number_and_not_a_curve(run: Run) -> None:
    epochs = [
        EpochEnded(attempt=1, phase="main", epoch=epoch, learning_rate=0.1, metrics={"loss": loss})
        for epoch, loss in ((1, 4.5), (2, 3.5))
    ]
    assert "  loss  4.5" in shown(run, 80, epochs={1: epochs[:1]})
    assert "  loss  █▁  4.5 → 3.5" in shown(run, 80, epochs={1: epochs})


DEAD, VARIES = made("dead_neurons", verdict="fail"), made("prediction_variance", verdict="fail")
ALIVE, UNMEASURED = made("dead_neurons"), made("prediction_variance", verdict="not_applicable")


@pytest.mark.parametrize(
    ("cause", "failure", "phases", "effect"),
    [
        ("dead_neurons", None, [("warmup", ALIVE)], "new_seed helped"),
        ("dead_neurons", "dead_neurons", [("warmup", DEAD)], "new_seed did not help"),
        ("prediction_variance", "dead_neurons", [("main", DEAD, VARIES)], "new_seed did not help"),
        (
            "dead_neurons", "prediction_variance", [("warmup", ALIVE), ("main", ALIVE, VARIES)],
            "new_seed: dead_neurons did not come back, prediction_variance did fail",
        ),
        (
            "learned", "dead_neurons", [("warmup", DEAD)],
            "new_seed: dead_neurons did fail before learned could come back",
        ),
        (
            "prediction_variance", "dead_neurons", [("warmup", ALIVE), ("main", DEAD, UNMEASURED)],
            "new_seed: dead_neurons did fail before prediction_variance could come back",
        ),
        (
            "dead_neurons", "crashed", [("warmup", ALIVE)],
            "new_seed: a crash came before dead_neurons could come back",
        ),
        (
            "crashed", "dead_neurons", [("warmup", ALIVE), ("main", DEAD)],
            "new_seed: the crash did not come back, dead_neurons did fail",
        ),
        (
            "crashed", "dead_neurons", [("warmup", DEAD)],
            "new_seed: dead_neurons did fail before the crash could come back",
        ),
    ],
)  # fmt: skip
def test_what_failed_is_gone_only_where_it_was_looked_for(
    cause: str, failure: str | None, phases: list[Any], effect: str, run: Run
) -> None:
    attempt = replace(
        run.attempts[0],
        attempt=1,
        status="failed" if failure else "passed",
        remedy="new_seed",
        cause=Failure(check=cause, phase="main", reason=""),
        failure=failure and Failure(check=failure, phase=phases[-1][0], reason=""),
        phases=tuple(phase(name, *checks) for name, *checks in phases),
    )
    (line,) = [line for line in shown(replace(run, attempts=(attempt,)), 200) if " · " in line
               and line.startswith("Attempt")]  # fmt: skip
    assert line.endswith(f" s · {effect}")
