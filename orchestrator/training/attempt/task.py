"""What crosses to an attempt and back: an attempt is a function of its `Task` and nothing else."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from orchestrator.config.schema import Config
from orchestrator.data.cache import Stored
from orchestrator.record.records import Finding, Inputs, Settings


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
    findings: tuple[Finding, ...] = ()
    """What stands against the training, where that was asked for."""
