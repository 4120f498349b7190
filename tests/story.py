"""A made-up run, event by event, for what shows runs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from orchestrator.config.schema import Config
from orchestrator.record.checks import AnyCheck
from orchestrator.record.events import (
    AttemptEnded,
    AttemptStarted,
    EpochEnded,
    Event,
    Heartbeat,
    LayerShare,
    ModelBuilt,
    PhaseEnded,
    PhaseStarted,
    Preview,
    RunEnded,
    RunStarted,
    TrainingProgress,
    advance,
)
from orchestrator.record.records import INIT, Failure, Inputs, Phase, Run, Settings
from orchestrator.record.storage import store
from tests import builders

RUN = "case-20261123-101010-abcd"
LAYERS = {"dense": (32, 3), "dense_1": (32, 16)}
"""Names of layers, with their units and how many of them are dead."""

Told = Iterator[tuple[Event | Heartbeat, Run]]


def config(**sections: Any) -> Config:
    return builders.config(
        **{
            "data": {"train": {"npz": "rows.npz"}, "validation": {"fraction": 0.2}},
            "phases": [{"name": "warmup", "epochs": 2}, {"name": "main", "epochs": 8}],
        }
        | sections
    )


def told(events: Sequence[Event | Heartbeat]) -> Told:
    """The events, each with the run after it."""
    run = Run(run="")
    for event in events:
        if not isinstance(event, Heartbeat):
            run = advance(run, event, elapsed=0.0)
        yield event, run


def checks(
    layers: dict[str, tuple[int, int]], *, fails: str | None = None, skill: float = 0.5
) -> tuple[AnyCheck, ...]:
    entries = [
        {"layer": name, "activation": "relu", "units": units, "rows": 1202, "dead": dead}
        for name, (units, dead) in layers.items()
    ]
    measured = {
        "finite": {},
        "dead_neurons": {"exact": True, "layers": entries},
        "prediction_variance": {"outputs": [{"output": 0, "kind": "regression", "skill": skill}]},
    }
    return tuple(
        builders.made(
            name,
            verdict="fail" if name == fails else "pass",
            reason=f"what {name} says",
            measured=found,
        )
        for name, found in measured.items()
    )


def phase(
    number: int,
    name: str,
    losses: Sequence[float],
    *,
    layers: dict[str, tuple[int, int]],
    epochs: int | None = None,
    first: int = 1,
    fails: str | None = None,
) -> Iterator[Event | Heartbeat]:
    """A phase of an attempt; without losses it is `init`."""
    if losses:
        planned = len(losses) if epochs is None else epochs
        yield PhaseStarted(attempt=number, phase=name, epochs=planned, learning_rate=0.01)
    for index, loss in enumerate(losses):
        yield TrainingProgress(step=1, steps=4)
        yield EpochEnded(
            attempt=number,
            phase=name,
            epoch=first + index,
            learning_rate=0.01,
            metrics={"loss": loss, "val_loss": loss * 1.1},
        )
        seen = (LayerShare(layer=each, units=u, dead=d) for each, (u, d) in layers.items())
        yield Preview(rows=256, layers=tuple(seen))
    metrics = {"loss": losses[-1], "val_loss": losses[-1] * 1.1} if losses else {}
    done = Phase(
        phase=name,
        epochs=len(losses),
        seconds=1.5,
        metrics=metrics,
        checks=checks(layers, fails=fails),
    )
    yield PhaseEnded(attempt=number, phase=done)


def started(number: int) -> AttemptStarted:
    if number == 1:
        return AttemptStarted(
            attempt=1, settings=Settings(seed=7), remedy=None, cause=None, changed={},
            passed_over=(),
        )  # fmt: skip
    cause = Failure(check="dead_neurons", phase="warmup", reason="what dead_neurons says")
    changed = {
        "learning_rate_cap": {"from": None, "to": 0.05},
        "seed": {"from": 7, "to": 2839049726},
    }
    return AttemptStarted(
        attempt=number,
        settings=Settings(seed=2839049726, learning_rate_cap=0.05),
        remedy="lower_learning_rate",
        cause=cause,
        changed=changed,
        passed_over=(),
    )


def record(
    runs: Path, events: Sequence[Event | Heartbeat], *, name: str = "case", **made: Any
) -> Path:
    """A run directory with the events, as a run leaves it.

    Args:
        runs: the folder of all runs.
        events: what happens, after the run's own start.
        name: the config's name.
        made: further arguments of `store.create`.
    """
    arguments: dict[str, Any] = {
        "name": name,
        "config": b"version: 1\n",
        "resolved": "version: 1\nseed: 7\ndata:\n  train: {npz: rows.npz}\n",
        "environment": {"packages": {"keras": "3.15.1"}, "data": "sha256:" + 64 * "0"},
        "inputs": Inputs(),
        "fingerprint": None,
    }
    with store.create(runs, **(arguments | made)) as opened:
        for event in events:
            if not isinstance(event, Heartbeat | RunStarted):
                opened.record(event)
        return opened.paths.root


def story(
    *,
    attempts: int = 2,
    layers: dict[str, tuple[int, int]] | None = None,
    loss: float = math.nan,
    passes: bool = True,
) -> list[Event | Heartbeat]:
    """A run whose attempts fail after the warmup, but for the last."""
    layers = LAYERS if layers is None else layers
    events: list[Event | Heartbeat] = [
        RunStarted(run=RUN, started="2026-11-23T10:10:10Z", inputs=Inputs(), fingerprint=None)
    ]
    for number in range(1, attempts + 1):
        last = passes and number == attempts
        events += [started(number), ModelBuilt(attempt=number, parameters=5, obstacles={})]
        events += phase(number, INIT, [], layers=layers)
        fails = None if last else "dead_neurons"
        events += phase(number, "warmup", [2e4, loss], layers=layers, fails=fails)
        if last:
            losses = [400.0, 90.0, 40.0, 20.0, 19.0, 18.5, 18.25, 17.25]
            events += phase(number, "main", losses, layers=layers, first=3)
        failure = Failure(check="dead_neurons", phase="warmup", reason="what dead_neurons says")
        events.append(
            AttemptEnded(
                attempt=number,
                status="passed" if last else "failed",
                failure=None if last else failure,
                seconds=20.5,
            )
        )
    events.append(
        RunEnded(
            status="passed" if passes else "exhausted",
            accepted_attempt=attempts if passes else None,
            best_attempt=attempts,
            conclusion="attempt 2 passed" if passes else "the policy has no rung left",
            exit_code=0 if passes else 3,
        )
    )
    return events


def interrupted() -> list[Event | Heartbeat]:
    """The beginning of a run, until Ctrl-C."""
    events = story(loss=1e3)
    begun = next(i for i, each in enumerate(events) if isinstance(each, EpochEnded))
    reason = "interrupted by SIGINT"
    return [
        *events[: begun + 1],
        AttemptEnded(attempt=1, status="interrupted", failure=None, seconds=1.0),
        RunEnded(
            status="interrupted", accepted_attempt=None, best_attempt=None, conclusion=reason,
            exit_code=75,
        ),
    ]  # fmt: skip
