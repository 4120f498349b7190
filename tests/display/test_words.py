"""Sentences and tables about a run."""

import io
import math
from pathlib import Path

import pytest
from msgspec.structs import replace
from rich.console import Console

from orchestrator.display import results, words
from orchestrator.record.records import Run
from tests.builders import failed
from tests.story import started, story, told


def finished(**options: bool) -> Run:
    *_, (_, run) = told(story(**options))  # type: ignore[arg-type]
    return run


def shown(renderable: object, *, width: int = 80, encoding: str = "utf-8") -> list[str]:
    binary = io.BytesIO()
    with io.TextIOWrapper(binary, encoding=encoding) as stream:
        Console(file=stream, width=width).print(renderable, highlight=False)
        stream.flush()
        return [line.rstrip() for line in binary.getvalue().decode(encoding).splitlines()]


def test_restart_sentence() -> None:
    change = "restarting by lower_learning_rate with learning rate at most 0.05, seed 2839049726."
    cause = "Attempt 1 failed dead_neurons after phase warmup"
    assert words.restart_sentence(started(2)) == f"{cause}: what dead_neurons says; {change}"
    assert words.restart_sentence(started(2), reason=False) == f"{cause}; {change}"
    assert words.restart_sentence(started(1)) == ""


def test_short_change() -> None:
    first, second = finished().attempts
    assert words.short_change(first) == "as configured"
    assert words.short_change(first, seed=True) == "as configured: seed 7"
    assert words.short_change(second) == "lower_learning_rate: rate ≤ 0.05"
    seed = {"seed": {"from": 7, "to": 8}}
    reseeded = replace(second, remedy="new_seed", changed=seed)
    assert words.short_change(reseeded) == "new_seed"
    assert words.short_change(reseeded, seed=True) == "new_seed: seed 8"
    back = {"negative_slope": {"from": None, "to": 0.2}} | {
        "learning_rate_cap": {"from": 0.05, "to": None}
    }
    leaky = replace(second, remedy="leaky_relu", changed=back)
    assert words.short_change(leaky) == "leaky_relu: learning_rate_cap taken back, slope 0.2"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(9.46, "9.5 s"), (94, "1:34"), (7391, "2:03:11"), (math.nan, "nan s"), (math.inf, "inf s")],
)
def test_a_length_of_time(seconds: float, text: str) -> None:
    assert words.duration(seconds) == text


@pytest.mark.parametrize(
    ("check", "phase", "text"),
    [
        ("metric", "main", "failed metric at main"),
        ("crashed", "main", "failed at main"),
        ("crashed", None, "failed"),
    ],
)
def test_outcome(check: str, phase: str | None, text: str) -> None:
    assert words.outcome(failed(1, check, at=phase)) == text


def test_a_crash_is_not_told_twice() -> None:
    conclusion = "the worker was killed by SIGKILL"
    run = finished(passes=False)
    failure = replace(
        run.attempts[-1].failure,
        check="crashed",
        reason=conclusion,  # type: ignore[type-var]
    )
    crashed = replace(run.attempts[-1], status="crashed", failure=failure)
    run = replace(run, attempts=(crashed,), status="error", conclusion=conclusion)
    assert words.last_sentence(run) == f"Attempt 2 crashed: {conclusion}; error."


def test_the_result_is_legible_everywhere() -> None:
    for encoding in ("utf-8", "ascii"):
        lines = shown(results.summarize_run(finished(), Path("runs", "case")), encoding=encoding)
        assert any("failed at warmup:" in line for line in lines)
        assert max(map(len, lines)) <= 80
