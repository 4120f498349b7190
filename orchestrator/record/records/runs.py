"""A run, which is one config taken to a result."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from orchestrator.record.encoding import Record
from orchestrator.record.records.attempts import Attempt
from orchestrator.record.records.candidates import Racer

SCHEMA = 1
"""Version of the record's shape; a reader refuses a greater one."""

JSON_SCHEMA = Path(__file__).with_name("record.schema.json")
"""The JSON schema of a run, for programs without ours; `tests/record_schema.py` makes it."""

RunStatus = Literal["running", "passed", "exhausted", "invalid", "error", "interrupted"]


class Inputs(Record, kw_only=True):
    """What the saved model takes."""

    columns: tuple[str, ...] = ()
    """Names of the input columns in order; empty for arrays."""
    categories: dict[str, tuple[str, ...]] = {}
    """Categories of the text columns in the order of their encoding: an input has a column of 0 and
    1 for each, a class index of a target is a position in them."""
    standardization: dict[str, dict[str, list[float]]] = {}
    """Mean and variance of the columns of each input, by its path, as the saved model has them."""


class Run(Record, kw_only=True):
    """One config taken to a result."""

    schema: int = SCHEMA
    """Version of this record's shape."""
    run: str
    """Name of the run and of its directory."""
    status: RunStatus = "running"
    """How it ended, or `running`."""
    accepted_attempt: int | None = None
    """Number of the attempt that passed."""
    best_attempt: int | None = None
    """The accepted attempt, or else the one with the highest skill."""
    inputs: Inputs = Inputs()
    """What the saved model takes."""
    attempts: tuple[Attempt, ...] = ()
    """Every attempt, in order."""
    warnings: tuple[str, ...] = ()
    """What the user should know although nothing failed."""
    race: tuple[Racer, ...] = ()
    """What was tried so far for the next attempt; empty once that has begun."""
    conclusion: str | None = None
    """How the run ended, in words."""
    started: str | None = None
    """When the run began, UTC, ISO 8601."""
    seconds: float = 0.0
    """Wall-clock time from the start to the last event."""
    screened_seeds: int = 0
    """Candidate seeds whose networks were looked at before training, over all attempts."""
    exit_code: int | None = None
    """The exit code of the command that ended it."""
