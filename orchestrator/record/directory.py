"""The file names of a run directory; no other code knows them."""

from __future__ import annotations

import os
from pathlib import Path


class Paths:
    """Every file name of a run directory.

    Args:
        root: the run directory.
    """

    RECORD = "run.json"

    def __init__(self, root: Path) -> None:
        self.root = root
        self.record = root / self.RECORD
        self.config = root / "config.yaml"
        self.resolved = root / "resolved.yaml"
        self.environment = root / "environment.json"
        self.journal = root / "journal.jsonl"
        self.lock = root / ".lock"
        self.model = root / "model.keras"
        self.model_weights = root / "model.weights.h5"

    def is_run(self) -> bool:
        """Whether the directory has what every run directory has."""
        return os.path.isfile(self.record) or os.path.isfile(self.journal)

    def attempt(self, number: int) -> AttemptPaths:
        """The names inside one attempt's directory."""
        return AttemptPaths(self.root / "attempts" / f"{number:03d}")


class AttemptPaths:
    """Every file name of an attempt's directory.

    Args:
        root: the attempt's directory.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.record = root / "attempt.json"
        self.epochs = root / "epochs.csv"
        self.log = root / "log.txt"
        self.checkpoint = root / "checkpoint.keras"
        self.checkpoint_weights = root / "checkpoint.weights.h5"
        self.result = root / ".model.keras"
        self.result_weights = root / ".model.weights.h5"

    def checks(self, index: int, phase: str) -> Path:
        """The evidence of one phase; `index` is 0 for phase `init`."""
        return self.root / "checks" / f"{index:02d}-{phase}.json"
