"""A config file to a `Config`: read, checked without Keras, every problem at once."""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pydantic

from orchestrator.config import document, recorded
from orchestrator.config import problems as messages
from orchestrator.config.document import Document, dig
from orchestrator.config.schema import Config, resolve
from orchestrator.config.sections.data import FILES
from orchestrator.config.yaml12 import Key
from orchestrator.errors import InvalidError, Problem, short, suggestion
from orchestrator.record.records import INIT

_MAX_PROBLEMS = 100
"""Problems that are told at once; nobody reads more of them, and they may be millions."""


def load(path: Path | str, overrides: Iterable[str] = (), *, base: Path | None = None) -> Config:
    """Read and check a config.

    Args:
        path: the YAML file.
        overrides: `a.b=c` assignments laid over it.
        base: folder that paths and callables start from, in place of the one that it says.

    Returns:
        The config, with every default filled in.

    Raises:
        InvalidError: with every problem that needs neither Keras nor the data.
    """
    path = Path(path)
    written = document.override(document.read(path), overrides)
    if base is not None:
        value = {**written.value, "base": str(base.absolute())}
        written = dataclasses.replace(written, value=value)
    config = check(written, path)
    message = "what retrain() was given in Python is not in this record"
    problems = [
        config.problem(key, message, "call retrain() again")
        for key in recorded.lost(config.model_dump())
    ]
    if problems:
        raise InvalidError(problems)
    return config


def check(written: Document, path: Path) -> Config:
    """Check a document against the schema, across its keys and against the file system.

    Args:
        written: the document.
        path: its file; `name` and `base` default from it.

    Returns:
        The config.

    Raises:
        InvalidError: with every problem.
    """
    value = dict(written.value)
    value.setdefault("name", _file_name(path.stem))
    folder = path.resolve().parent
    base = value.setdefault("base", "")
    value["base"] = str(resolve(folder, base)) if isinstance(base, str) else base
    problems = [
        *written.problems,
        *_check_compile(written),
        *_check_phases(written),
        *_check_files(value["base"], written),
    ]
    more = 0
    try:
        config = Config.model_validate(value)
    except pydantic.ValidationError as error:
        # Each takes a while to put into words.
        problems += itertools.islice(messages.explain(error, written), _MAX_PROBLEMS)
        more = max(error.error_count() - _MAX_PROBLEMS, 0)
    if problems:
        unique = {(problem.line, problem.key, problem.message): problem for problem in problems}
        found = sorted(unique.values(), key=lambda problem: problem.line or 0)
        more += max(len(found) - _MAX_PROBLEMS, 0)
        if more:
            message, hint = f"{more:,} more problems", "correct these first"
            found[_MAX_PROBLEMS:] = [Problem(file=written.file, message=message, hint=hint)]
        raise InvalidError(found)
    config._written = written
    return config


def _file_name(stem: str) -> str:
    """The nearest name to a file's stem that can be a run's name."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", stem).lstrip(".-")[:100] or "run"


def _check_compile(written: Document) -> Iterable[Problem]:
    if not dig(written.value, "model", "layers"):
        return
    message = "missing: a model given as layers has no loss yet"
    plan = written.value.get("compile")
    if plan is None:
        yield written.problem(("compile",), message, "add compile: {loss: mse}")
    elif isinstance(plan, Mapping) and plan.get("loss") is None:
        hint = "add loss: mse, or another Keras loss"
        yield written.problem(("compile", "loss"), message, hint)


def _check_phases(written: Document) -> Iterable[Problem]:
    plans = written.value.get("phases")
    names = [dig(plan, "name") for plan in plans] if isinstance(plans, list) else []
    taken: set[str] = set()
    for index, name in enumerate(names):
        key = ("phases", index, "name")
        if name == INIT:
            message = f"{INIT!r} is the phase before training"
            yield written.problem(key, message, "choose another name")
        if isinstance(name, str) and name in taken:
            message = f"the name {short(name)} is taken"
            yield written.problem(key, message, "choose another name")
        if isinstance(name, str):
            taken.add(name)
    found = dig(written.value, "checks", "metric")
    gates = found if isinstance(found, list) else [found]
    for index, gate in enumerate(gates):
        wanted = dig(gate, "phases")
        for name in wanted if isinstance(wanted, list) else ():
            if isinstance(name, str) and name not in names:
                place = (index,) if isinstance(found, list) else ()
                key_of_gate: Key = ("checks", "metric", *place, "phases")
                hint = suggestion(name, [known for known in names if isinstance(known, str)])
                yield written.problem(key_of_gate, f"there is no phase {short(name)}", hint)


def _check_files(base: Any, written: Document) -> Iterable[Problem]:
    if not isinstance(base, str):
        return
    if not os.path.isdir(base):
        yield written.problem(("base",), f"there is no folder {base}", "correct the path")
        return
    for key in _file_keys(written.value):
        file = dig(written.value, *key)
        # Not Path.is_file, which raises for a name that is too long.
        if isinstance(file, str) and not os.path.isfile(resolve(base, file)):
            yield written.problem(
                key, f"there is no file {short(file)}", f"paths start from {base}"
            )


def _file_keys(value: Any) -> Iterable[Key]:
    """Where a config names a file."""
    yield "model", "file"
    for part in ("train", "validation"):
        for kind in FILES:
            yield "data", part, kind
        if dig(value, "data", part, "npy") is not None:
            yield "data", part, "y"
            yield "data", part, "sample_weight"
