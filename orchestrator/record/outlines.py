"""A `run.json` read several times faster than a whole record, for the lines of a history.

It is held to the types of all that `records.Run` has: without them a line would be shown of what
nothing else can read.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from orchestrator.errors import RecordError
from orchestrator.record.records import SCHEMA, AttemptStatus, Cause, RunStatus, Verdict, newer

_Length = Annotated[float, msgspec.Meta(ge=0)]
_Float = float | Literal["NaN", "Infinity", "-Infinity"]


class _Failure(msgspec.Struct, gc=False):
    check: str
    phase: str | None
    reason: str


class _Output(msgspec.Struct, gc=False):
    skill: _Float | None = None


class _Layer(msgspec.Struct, gc=False):
    layer: str
    units: int
    dead: int


class _Gate(msgspec.Struct, gc=False):
    name: str
    value: _Float | None = None
    min: _Float | None = None
    max: _Float | None = None


class _Measured(msgspec.Struct, gc=False):
    outputs: tuple[_Output, ...] = ()
    layers: tuple[_Layer, ...] = ()
    gates: tuple[_Gate, ...] = ()
    dead_fraction: _Float = 0.0


class _Limits(msgspec.Struct, gc=False):
    warn_above: _Float | None = None
    fail_above: _Float | None = None
    min_ratio: _Float | None = None
    min_information: _Float | None = None
    min_skill: _Float | None = None
    gates: tuple[_Gate, ...] = ()


class _Check(msgspec.Struct, gc=False):
    check: str
    verdict: Verdict
    reason: str
    measured: _Measured
    limits: _Limits


class Phase(msgspec.Struct, gc=False):
    """As `records.Phase`."""

    phase: str
    epochs: int
    seconds: _Float
    checks: tuple[_Check, ...]
    metrics: dict[str, _Float]
    first_loss: _Float | None = None
    highest_loss: _Float | None = None
    weights: str | None = None


class _Settings(msgspec.Struct, gc=False):
    seed: int
    learning_rate_cap: _Float | None = None
    negative_slope: _Float | None = None
    initializer: str | None = None
    clip_norm: _Float | None = None


class _Candidate(msgspec.Struct, gc=False):
    seed: int
    reason: str | None


class _Finding(msgspec.Struct, gc=False):
    cause: Cause
    reason: str
    final: bool


class Attempt(msgspec.Struct, gc=False):
    """As `records.Attempt`."""

    attempt: int
    status: AttemptStatus
    settings: _Settings
    remedy: str | None = None
    failure: _Failure | None = None
    cause: _Failure | None = None
    phases: tuple[Phase, ...] = ()
    seconds: _Float = 0.0
    changed: dict[str, dict[str, Any]] = {}
    passed_over: tuple[str, ...] = ()
    restarts: int = 0
    screened: tuple[_Candidate, ...] = ()
    findings: tuple[_Finding, ...] = ()
    learning_rates: dict[str, _Float] = {}


class _Inputs(msgspec.Struct, frozen=True, gc=False):
    columns: tuple[str, ...] = ()
    categories: dict[str, tuple[str, ...]] = {}
    standardization: dict[str, dict[str, list[_Float]]] = {}


class Outline(msgspec.Struct, gc=False):
    """As `records.Run`."""

    schema: Annotated[int, msgspec.Meta(ge=1)]
    run: str
    status: RunStatus
    attempts: tuple[Attempt, ...]
    accepted_attempt: int | None = None
    best_attempt: int | None = None
    started: str | None = None
    seconds: _Length = 0.0
    screened_seeds: int = 0
    conclusion: str | None = None
    exit_code: int | None = None
    warnings: tuple[str, ...] = ()
    inputs: _Inputs = _Inputs()


class _Schema(msgspec.Struct):
    schema: int


_OUTLINE = msgspec.json.Decoder(Outline)
_SCHEMA = msgspec.json.Decoder(_Schema)
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What the decoders raise."""


def decode(content: bytes) -> Outline:
    """The outline of a record.

    Args:
        content: a `run.json`.

    Raises:
        RecordError: the content does not match the record's schema.
        NewerError: it is of a newer one.
    """
    try:
        if not content.isascii():
            content.decode()  # what is passed over is to be text, too
        outline = _OUTLINE.decode(content)
    except _UNREADABLE as error:
        try:
            schema = _SCHEMA.decode(content).schema
        except _UNREADABLE:
            schema = SCHEMA
        raise (newer(schema) if schema > SCHEMA else RecordError(str(error))) from error
    if outline.schema > SCHEMA:
        raise newer(outline.schema)
    return outline
