"""Sentences and tables about a run."""

import io
from pathlib import Path

import pytest
from msgspec.structs import replace
from rich.console import Console

from orchestrator.display import words as summary
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
    assert summary.restart_sentence(started(2)) == f"{cause}: what dead_neurons says; {change}"
    assert summary.restart_sentence(started(2), reason=False) == f"{cause}; {change}"
    assert summary.restart_sentence(started(1)) == ""


def test_brief_change() -> None:
    first, second = finished().attempts
    assert summary.brief_change(first) == "as configured"
    assert summary.brief_change(first, seed=True) == "as configured: seed 7"
    assert summary.brief_change(second) == "lower_learning_rate: rate ≤ 0.05"
    seed = {"seed": {"from": 7, "to": 8}}
    reseeded = replace(second, remedy="new_seed", changed=seed)
    assert summary.brief_change(reseeded) == "new_seed"
    assert summary.brief_change(reseeded, seed=True) == "new_seed: seed 8"
    back = {"negative_slope": {"from": None, "to": 0.2}} | {
        "learning_rate_cap": {"from": 0.05, "to": None}
    }
    leaky = replace(second, remedy="leaky_relu", changed=back)
    assert summary.brief_change(leaky) == "leaky_relu: learning_rate_cap taken back, slope 0.2"


@pytest.mark.parametrize(
    ("check", "phase", "words"),
    [
        ("metric", "main", "failed metric at main"),
        ("crashed", "main", "failed at main"),
        ("crashed", None, "failed"),
    ],
)
def test_ending(check: str, phase: str | None, words: str) -> None:
    assert summary.ending(failed(1, check, at=phase)) == words


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
    assert summary.last_sentence(run) == f"Attempt 2 crashed: {conclusion}; error."


def test_the_result_is_legible_everywhere() -> None:
    for encoding in ("utf-8", "ascii"):
        lines = shown(summary.result(finished(), Path("runs", "case")), encoding=encoding)
        assert any("failed at warmup:" in line for line in lines)
        assert max(map(len, lines)) <= 80
