"""What is recorded: a run, its attempts, their phases and checks. No I/O.

The field names are the JSON keys of `run.json`. Records are never changed; `events.advance`
makes the next one.
"""

from orchestrator.record.records.attempts import (
    DECLINE,
    DIVERGED,
    NEAR_USUAL,
    Attempt,
    AttemptStatus,
    Standardization,
)
from orchestrator.record.records.candidates import Candidate, Racer
from orchestrator.record.records.failures import Failure, FailureKind, UnitsLost
from orchestrator.record.records.findings import CONFIRMED, Cause, Finding, Fix
from orchestrator.record.records.phases import FILE_NAME, INIT, Phase, finished
from orchestrator.record.records.runs import JSON_SCHEMA, SCHEMA, Inputs, Run, RunStatus
from orchestrator.record.records.settings import Change, Settings, Standardized, Start

__all__ = [
    "Attempt",
    "AttemptStatus",
    "CONFIRMED",
    "Candidate",
    "Cause",
    "Change",
    "DECLINE",
    "DIVERGED",
    "FILE_NAME",
    "Failure",
    "FailureKind",
    "Finding",
    "Fix",
    "INIT",
    "Inputs",
    "JSON_SCHEMA",
    "NEAR_USUAL",
    "Phase",
    "Racer",
    "Run",
    "RunStatus",
    "SCHEMA",
    "Settings",
    "Standardization",
    "Standardized",
    "Start",
    "UnitsLost",
    "finished",
]
