"""What is recorded: a run, its attempts, their phases and checks. No I/O.

The field names are the JSON keys of `run.json`. Records are never changed; `events.advance`
makes the next one.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from orchestrator.errors import NewerError

SCHEMA = 1
"""Version of the record's shape; a reader refuses a greater one."""

INIT = "init"
"""Name of phase 0, which has no epochs."""

Verdict = Literal["pass", "warn", "fail", "not_applicable"]
RunStatus = Literal["running", "passed", "exhausted", "invalid", "error", "interrupted"]
AttemptStatus = Literal["running", "passed", "failed", "crashed", "interrupted"]
Cause = Literal[
    "initialization",
    "fixed_seed",
    "unreachable_targets",
    "held_at_zero",
    "unscaled_inputs",
    "unrelated_targets",
    "distant_targets",
]

Kind = Literal["regression", "classification"]
Form = Literal["regression", "binary", "categorical", "sparse"]
"""How targets and predictions of an output are written: binary is one probability a column,
categorical one column a class, sparse a class index."""

UNIT_KEYS = frozenset({"active_rows", "dead_units"})
"""Per-unit lists in what a check measured; they stand in `checks/*.json`, not in `run.json`."""

NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
"""How JSON, which has no such numbers, writes them here."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What may differ between attempts."""

    seed: int
    """Seed given to `keras.utils.set_random_seed` before the model is built."""
    learning_rate_cap: float | None = None
    """Every learning rate is min(rate, cap); None leaves the rates alone."""
    negative_slope: float | None = None
    """Slope of the leaky relu that replaces hidden relu units; None keeps relu."""
    initializer: str | None = None
    """Name of the initializer put on hidden kernels, with zeros on hidden biases; None keeps the
    model's own."""
    clip_norm: float | None = None
    """Norm that the gradients of a step, all taken together, are clipped to; None keeps the
    optimizer's own way."""

    def changes(self, before: Settings) -> dict[str, dict[str, Any]]:
        """What differs from another attempt's settings, as `{name: {"from", "to"}}`."""
        return {
            field.name: {"from": getattr(before, field.name), "to": getattr(self, field.name)}
            for field in dataclasses.fields(self)
            if getattr(before, field.name) != getattr(self, field.name)
        }


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One check's verdict after one phase."""

    check: str
    """`finite`, `dead_neurons`, `prediction_variance` or `metric`."""
    verdict: Verdict
    """The verdict."""
    reason: str
    """One clause for people: what was measured, where, against which limit."""
    measured: dict[str, Any] = dataclasses.field(default_factory=dict)
    """What was measured."""
    limits: dict[str, Any] = dataclasses.field(default_factory=dict)
    """The limits that the verdict was taken against."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """Why an attempt did not pass."""

    check: str
    """Name of the first failing check, or `crashed`."""
    phase: str | None
    """Phase in which it failed; None when a worker died before its first phase."""
    reason: str
    """The check's reason, or what ended the worker."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """One seed whose network was looked at before training."""

    seed: int
    """The seed."""
    reason: str | None
    """Why its network cannot be trained; None when it can."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What the evidence on a failed attempt points to."""

    cause: Cause
    """Name of the cause."""
    reason: str
    """One clause for people: what was seen, and what to do about it."""
    final: bool
    """Whether no remedy can help."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Phase:
    """One finished phase of an attempt."""

    phase: str
    """Name of the phase."""
    epochs: int
    """Epochs trained in it; fewer than planned when the attempt was stopped early."""
    seconds: float
    """Training and checks together."""
    metrics: dict[str, float]
    """Keras's logged values at the phase's last epoch."""
    first_loss: float | None = None
    """Keras's loss of the first step, before its weights were changed."""
    highest_loss: float | None = None
    """Highest loss of an epoch."""
    weights: str | None = None
    """Digest of all weights at its end, `sha256:` and 64 hexadecimal digits; None in a record that
    is older than it."""
    checks: tuple[Check, ...]
    """Verdicts in the order of the checks."""

    def failure(self) -> Failure | None:
        """The first failing check, or None."""
        for check in self.checks:
            if check.verdict == "fail":
                return Failure(check=check.check, phase=self.phase, reason=check.reason)
        return None

    def skill(self) -> float | None:
        """Lowest skill over the outputs; None where there is none, or one that is not finite."""
        skills = [
            entry["skill"]
            for check in self.checks
            for entry in check.measured.get("outputs", ())
            if "skill" in entry
        ]
        return min(skills) if skills and all(map(math.isfinite, skills)) else None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """One training under one set of settings."""

    attempt: int
    """Number, counted from 1."""
    status: AttemptStatus
    """How it ended, or `running`."""
    remedy: str | None = None
    """The remedy that led to it; None for the first."""
    cause: Failure | None = None
    """The failure of the attempt before, which the remedy answers."""
    changed: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    """Settings that differ from the attempt before: `{name: {"from", "to"}}`."""
    passed_over: tuple[str, ...] = ()
    """Rungs of the policy that could not be applied, each with its reason."""
    restarts: int = 0
    """How often its worker was started again."""
    settings: Settings
    """The settings."""
    failure: Failure | None = None
    """Why it failed or crashed."""
    screened: tuple[Candidate, ...] = ()
    """The candidate seeds that were looked at before it trained, in order; with none, or where all
    were rejected, it has the first one."""
    findings: tuple[Finding, ...] = ()
    """What the evidence on its failure points to."""
    learning_rates: dict[str, float] = dataclasses.field(default_factory=dict)
    """Highest learning rate of each phase so far."""
    phases: tuple[Phase, ...] = ()
    """Finished phases in order, `init` first."""
    seconds: float = 0.0
    """Wall-clock time."""

    def skill(self) -> float | None:
        """Lowest skill over the outputs after its last phase; None where it never trained."""
        if not self.phases or self.phases[-1].phase == INIT:
            return None
        return self.phases[-1].skill()


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Inputs:
    """What the saved model takes."""

    columns: tuple[str, ...] = ()
    """Names of the input columns in order; empty for arrays."""
    categories: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    """Categories of the text columns in the order of their encoding: an input has a column of 0 and
    1 for each, a class index of a target is a position in them."""
    standardization: dict[str, dict[str, list[float]]] = dataclasses.field(default_factory=dict)
    """Mean and variance of the columns of each input, by its path, as the saved model has them."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Run:
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


def is_constant(check: Check) -> bool:
    """Whether a check of the prediction variance has found a constant prediction."""
    limits = {"variance_ratio": "min_ratio", "information": "min_information"}
    return any(
        key in entry and not entry[key] >= check.limits[limit]
        for entry in check.measured.get("outputs", ())
        for key, limit in limits.items()
    )


def newer(schema: Any) -> NewerError:
    """The refusal of a record that a newer version has written."""
    return NewerError(
        f"its schema is {schema}, this version reads up to {SCHEMA}: update orchestrator"
    )


def jsonable(value: Any) -> Any:
    """The value as plain JSON: records as objects, tuples as arrays, NaN and infinities as strings.

    Args:
        value: records, mappings, sequences and scalars, NumPy scalars included.

    Returns:
        The same content in dict, list, str, int, float, bool and None.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: jsonable(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence):
        return [jsonable(item) for item in value]
    if hasattr(value, "tolist"):
        return jsonable(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def dump(
    value: Any, *, indent: int | None = None, separators: tuple[str, str] | None = None
) -> bytes:
    """Plain JSON as UTF-8.

    Args:
        value: what `jsonable` returns.
        indent: as `json.dumps` takes it.
        separators: as `json.dumps` takes them.

    Returns:
        One document, without a line break at its end.
    """
    text = json.dumps(
        value, indent=indent, separators=separators, ensure_ascii=False, allow_nan=False
    )
    # A file name that is not UTF-8 is a lone surrogate in Python, and an escape in JSON.
    return text.encode(errors="backslashreplace")


def numbers(value: Any) -> Any:
    """The JSON value with "NaN", "Infinity" and "-Infinity" read back as numbers.

    A text of these very letters becomes a number too: only for what was measured.
    """
    if isinstance(value, dict):
        return {key: numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [numbers(item) for item in value]
    return NON_FINITE.get(value, value) if isinstance(value, str) else value


def without_units(value: Any, *, measured: bool = False) -> Any:
    """The JSON value with the per-unit lists left out, as `run.json` keeps it.

    Args:
        value: a record, or a part of one, as plain JSON.
        measured: whether the value is what a check measured; elsewhere, in a column's or a
            metric's name, the same words mean something else.
    """
    if isinstance(value, dict):
        return {
            key: without_units(item, measured=measured or key == "measured")
            for key, item in value.items()
            if not (measured and key in UNIT_KEYS)
        }
    if isinstance(value, list):
        return [without_units(item, measured=measured) for item in value]
    return value
