"""What crosses to a worker and back: the seam at which an attempt can run somewhere else.

An attempt is a function of its `Task` and nothing else.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from orchestrator.records import Inputs, Settings
from orchestrator.schema import Config


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
    until: str | None = None
    """Name of the phase after whose checks it ends, with no model saved; None for all phases."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Examinee:
    """A model trained elsewhere, and the rows to look at it with."""

    model: Path
    """The `.keras` file."""
    data: Path
    """An .npz, .npy, .csv or .parquet file."""
    target: str | None = None
    """Column of a table, array of an archive, or .npy file; None for y of an archive, or none."""
    features: tuple[str, ...] = ()
    """Input columns of a table; empty for all others."""
    delimiter: str = ","
    """What separates the columns of a .csv file."""
    modules: tuple[str, ...] = ()
    """The user's modules that register what the model needs."""
    exhaustive: bool = True
    """Read every row even when no further one can change a verdict."""
    gradients: bool = False
    """Measure what needs gradients, too."""


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
