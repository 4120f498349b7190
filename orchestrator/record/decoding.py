"""The content of a `run.json` as a record, and what is wrong with one that is none."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator
from typing import Any

import pydantic

from orchestrator.errors import RecordError, short
from orchestrator.record.records import SCHEMA, Attempt, Check, Run, newer, numbers


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Layer:
    layer: str
    units: int
    dead: int
    near_dead: int = 0
    constant: int = 0
    saturated: int = 0
    blocked: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Output:
    output: int = 0
    kind: str = ""
    variance_ratio: float = 0.0
    information: float = 0.0
    skill: float = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Gate:
    name: str
    value: float | None = None
    min: float | None = None
    max: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Measured:
    """What is read of `Check.measured`, whose other values are anyone's."""

    layers: tuple[_Layer, ...] = ()
    outputs: tuple[_Output, ...] = ()
    gates: tuple[_Gate, ...] = ()
    dead_fraction: float = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Limits:
    """What is read of `Check.limits`."""

    warn_above: float | None = None
    fail_above: float | None = None
    min_ratio: float | None = None
    min_information: float | None = None
    min_skill: float | None = None
    gates: tuple[_Gate, ...] = ()


@functools.cache
def _adapter(kind: Any) -> pydantic.TypeAdapter[Any]:
    return pydantic.TypeAdapter(kind)


def parse(content: bytes, name: str) -> Run:
    """The record that a file holds.

    Args:
        content: the file's.
        name: its name.

    Raises:
        RecordError: it is none.
        NewerError: it is of a newer schema.
    """
    try:
        value = _adapter(dict[str, Any]).validate_json(content)
        schema = value.get("schema")
        if isinstance(schema, int) and schema > SCHEMA:
            raise newer(schema)
        run: Run = _adapter(Run).validate_python(value)
    except pydantic.ValidationError as error:
        raise RecordError(f"{name} is damaged: {sentence(error)}") from error
    run = dataclasses.replace(run, attempts=tuple(map(_with_numbers, run.attempts)))
    for problem in _problems(run, schema):
        raise RecordError(f"{name} is damaged: {problem}")
    return run


def sentence(error: pydantic.ValidationError) -> str:
    """The first of pydantic's errors: where, what was expected, what was received."""
    found = error.errors(include_url=False)[0]
    place = ".".join(map(str, found["loc"]))
    received = f", received {short(found['input'])}"
    match found["type"]:
        case "json_invalid":
            told = f"it is no JSON: {found['ctx']['error']}"
        case "missing":
            told = "is missing"
        case "dict_type" | "dataclass_type":
            told = f"expected an object{received}"
        case "tuple_type":
            told = f"expected a list{received}"
        case _:
            expected = found["msg"].partition(", unable to")[0]
            told = expected.replace("Input should be", "expected") + received
    return f"{place}: {told}" if place else told


def _problems(run: Run, schema: Any) -> Iterator[str]:
    """What pydantic has no types to go by for."""
    if schema is not None and (isinstance(schema, bool) or run.schema < 1):
        yield f"schema: expected {SCHEMA}, received {short(schema)}"
    numbers = {attempt.attempt for attempt in run.attempts}
    for key in ("accepted_attempt", "best_attempt"):
        if (number := getattr(run, key)) is not None and number not in numbers:
            yield f"{key}: there is no attempt {number}"
    if not 0 <= run.seconds < math.inf:
        yield f"seconds: expected a length of time, received {run.seconds}"
    for place, check in _checks(run):
        for key, kind in (("measured", _Measured), ("limits", _Limits)):
            try:
                _adapter(kind).validate_python(getattr(check, key))
            except pydantic.ValidationError as error:
                yield f"{place}.{key}.{sentence(error)}"


def _checks(run: Run) -> Iterator[tuple[str, Check]]:
    for index, attempt in enumerate(run.attempts):
        for number, phase in enumerate(attempt.phases):
            for position, check in enumerate(phase.checks):
                yield f"attempts.{index}.phases.{number}.checks.{position}", check


def _with_numbers(attempt: Attempt) -> Attempt:
    """What was measured has no types for pydantic to go by."""
    phases = tuple(
        dataclasses.replace(
            phase,
            checks=tuple(
                dataclasses.replace(
                    check, measured=numbers(check.measured), limits=numbers(check.limits)
                )
                for check in phase.checks
            ),
        )
        for phase in attempt.phases
    )
    return dataclasses.replace(attempt, phases=phases)
