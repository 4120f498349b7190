"""The work that executors do, as data: an attempt is a function of its `Task` and nothing else.

Each kind of work imports what does it, and TensorFlow with that, where it is done.
"""

from __future__ import annotations

import dataclasses
import math
import os
from pathlib import Path
from typing import Any

from orchestrator.config.schema import Config
from orchestrator.data.cache import Stored
from orchestrator.diagnosis.health import Examinee, Health
from orchestrator.record.records import Inputs, Settings
from orchestrator.training.executors.executor import Emit


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """All that an attempt depends on."""

    config: Config
    """The config."""
    settings: Settings
    """What differs from other attempts."""
    seeds: tuple[int, ...] = ()
    """Candidates to screen; the settings' own is the first. With fewer than two nothing is."""
    attempt: int
    """Number of the attempt."""
    directory: Path
    """Its directory, which exists."""
    fingerprint: str | None
    """What the data must hash to; None when it is not known yet."""
    stored: Stored | None = None
    """Where the data is; None where the attempt is to read it for itself."""
    until: str | None = None
    """Name of the phase after whose checks it ends, with no model saved; None for all phases."""

    @property
    def log(self) -> Path:
        """File that gets what the attempt prints."""
        return self.directory / "log.txt"

    @property
    def patience(self) -> float:
        """Seconds without a report after which the attempt counts as hung."""
        return self.config.stall_timeout

    def do(self, emit: Emit) -> None:
        """Train the attempt; see `attempt.train`."""
        from orchestrator.training.attempt import attempt  # noqa: PLC0415

        attempt.train(self, emit)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """What is known of a config once data and model were built."""

    inputs: Inputs
    """What the saved model will take."""
    fingerprint: str
    """Hash of the data."""
    rows: int
    """Training rows."""
    validation_rows: int
    """Validation rows."""
    input_shape: Any
    """Shape of a row; a dict or tuple of shapes for several inputs."""
    parameters: int
    """Number of weights."""
    layers: tuple[str, ...]
    """Places where an activation with a derivative to watch is applied."""
    warnings: tuple[str, ...]
    """What the user should know."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PrepareTask:
    """Building data and model of a config and fitting them together, with nothing trained."""

    config: Config
    """The config."""
    folder: Path
    """Gets the data, where that is not stored yet."""
    stored: Stored | None = None
    """Where the data is; None where it is still to be read."""
    log: Path = Path(os.devnull)
    """File that gets what the building prints."""

    @property
    def patience(self) -> float:
        """Seconds after which the building counts as hung."""
        return self.config.stall_timeout

    def do(self, emit: Emit) -> tuple[Prepared, Stored | None]:
        """Build both; see `preparation.prepare`.

        Returns:
            What was found, and where the attempts find the data; None where each reads it for
            itself.
        """
        from orchestrator.training.attempt import preparation  # noqa: PLC0415

        if self.stored is not None:
            dataset = preparation.load(self.config, self.stored)
            return preparation.prepare(self.config, dataset), self.stored
        dataset, stored = preparation.store(self.config, self.folder)
        return preparation.prepare(self.config, dataset), stored


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class CheckTask:
    """The diagnosis of a model that was trained elsewhere."""

    examinee: Examinee
    """The model and the rows."""
    log: Path = Path(os.devnull)
    """File that gets what the diagnosis prints."""
    patience: float = math.inf
    """Seconds after which the diagnosis counts as hung; it reports nothing on the way."""

    def do(self, emit: Emit) -> Health:
        """Diagnose the model; see `diagnose.check`."""
        from orchestrator.diagnosis.diagnose import check  # noqa: PLC0415

        return check(self.examinee)
