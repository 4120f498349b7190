"""Searches that are over in seconds, with real trainings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.config import load as configs
from orchestrator.config import yaml12
from orchestrator.config.schema import Config
from orchestrator.record.search import Search
from orchestrator.training.interrupts import Interrupts
from orchestrator.tuning import launch as tuning
from orchestrator.tuning.journal import SearchEvent
from tests.conftest import LINE, merged

CODE = """
import keras

def build(width=4, tried=True):
    if width == 5:
        raise ValueError("no such width")
    return keras.Sequential([
        keras.Input((2,)), keras.layers.Dense(width, "relu"), keras.layers.Dense(1)
    ])
"""
TUNE = {
    "max_trials": 3,
    "seeds": 2,
    "fresh_seeds": 0,
    "space": {"batch_size": {"choice": [32, 16, 64]}},
}


class Watcher:
    """Remembers what it was shown, and does something with one event."""

    def __init__(self, react: Callable[[SearchEvent], None] = lambda event: None) -> None:
        self.events: list[SearchEvent] = []
        self._react = react

    def say(self, text: str) -> None:
        pass

    def begin(self, directory: Path, found: Search, config: Config) -> None:
        pass

    def show(self, event: SearchEvent, search: Search) -> None:
        self.events.append(event)
        self._react(event)


def write(folder: Path, code: str = "", /, **changes: Any) -> Config:
    """A config beside its module."""
    (folder / "rows.py").write_text(CODE + code)
    x = np.random.default_rng(0).normal(size=(64, 2))
    np.savez(folder / "rows.npz", x=x, y=x.sum(axis=1))
    path = folder / "line.yaml"
    data = {"train": {"npz": "rows.npz"}}
    base = {
        **LINE,
        "data": data,
        "compile": {**LINE["compile"], "run_eagerly": True},  # a graph would be traced for seconds
        "phases": [{"name": "main", "epochs": 20}],  # fewer would end undertrained
        "restart": {"max_attempts": 2},
        "deterministic": False,
        "tune": TUNE,
    }
    path.write_text(yaml12.dump(merged(base, changes)))
    return configs.load(path)


def search(
    config: Config, runs: Path, watcher: Watcher | None = None, **options: Any
) -> tuple[Search, Path]:
    with Interrupts() as interrupts:
        return tuning.launch(
            config,
            runs_dir=runs,
            announcer=watcher or Watcher(),
            interrupts=interrupts,
            **options,
        )


def outcomes(found: Search) -> Any:
    """What must be the same however the search came about."""
    return [
        (
            trial.trial, trial.status, trial.values, trial.score, trial.reason,
            [(run.seed, run.status, run.cost, run.skill, run.score) for run in trial.runs],
        )
        for trial in found.trials
    ]  # fmt: skip
