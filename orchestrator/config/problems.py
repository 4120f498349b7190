"""Pydantic's errors in our words: what was expected and received, and what to do."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pydantic

from orchestrator.config.document import Document, dig
from orchestrator.config.schema import Config
from orchestrator.config.sections import remedies
from orchestrator.config.sections.base import (
    DELIMITER,
    MODULE,
    REFERENCE,
    Section,
)
from orchestrator.config.sections.data import SOURCES, Split
from orchestrator.config.sections.model import FactoryModel, FileModel, LayersModel, Named
from orchestrator.config.sections.restart import Case
from orchestrator.config.sections.tune import (
    BooleanDimension,
    ChoiceDimension,
    FloatDimension,
    IntDimension,
    MeasureTerm,
    MetricTerm,
)
from orchestrator.config.sections.when import All
from orchestrator.config.yaml12 import Key
from orchestrator.errors import Problem, closest, cut, short, suggestion
from orchestrator.record.records import FILE_NAME


def explain(error: pydantic.ValidationError, written: Document) -> Iterable[Problem]:
    """Pydantic's errors in our words."""
    for item in error.errors(include_url=False):
        location = tuple(part for part in item["loc"] if str(part) not in _UNWRITTEN)
        yield written.problem(_as_written(location, written), *_explain(item))


def _as_written(location: tuple[int | str, ...], written: Document) -> Key:
    """The path as the user wrote it: `Dense.units`, not `arguments.units`; one gate, not gate 0."""
    value = written.value
    key: list[int | str] = []
    for part in location:
        if isinstance(value, Mapping) and part == "arguments" and len(value) == 1:
            part = next(iter(value))
        elif isinstance(value, Mapping) and isinstance(part, int) and part not in value:
            continue
        key.append(part)
        value = dig(value, part)
    return tuple(key)


_EXPECTED = {
    "model_type": "a mapping of keys",
    "dict_type": "a mapping of keys",
    "list_type": "a list",
    "string_type": "a text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "invalid_key": "a text",
    "too_short": "at least {min_length} item",
    "too_long": "at most {max_length} items",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
}
"""What was expected, by the type of pydantic's error."""

_PATTERNS = {
    REFERENCE: "package.module:function",
    MODULE: "package.module",
    DELIMITER: "one character",
    FILE_NAME: "at most 100 letters, digits, '_', '-' and '.'",
}
"""What was expected, by the pattern that a text does not match."""

_EXAMPLES = {
    "data": "add data: {train: {csv: FILE, target: COLUMN}}",
    "model": "add model: {layers: [{Dense: {units: 1}}]}",
    "phases": "add phases: [{name: main, epochs: 10}]",
    "target": "name the column to predict",
}
"""What to add for a required key."""


def _explain(item: Any) -> tuple[str, str | None]:
    """What was expected and received, and what to do, for one of pydantic's errors."""
    kind, location, received = item["type"], item["loc"], item["input"]
    context = item.get("ctx", {})
    hint = None
    if kind == "extra_forbidden":
        return f"unknown key {short(location[-1])}", _home(str(location[-1]), location[:-1])
    if kind == "missing":
        return "missing, it is required", _EXAMPLES.get(location[-1])
    if kind == "value_error":
        return str(context["error"]), None
    if kind == "one_of":
        expected = f"a mapping with exactly one of the keys {', '.join(context['keys'])}"
        hint = _misspelt(received, context["keys"])
    elif kind == "rung":
        expected = item["msg"]
    elif kind == "string_pattern_mismatch":
        expected = _PATTERNS[context["pattern"]]
    elif kind == "literal_error":
        expected = context["expected"].replace("False", "false")
        match = closest(str(received), re.findall(r"'([^']*)'", expected))
        hint = match and f"did you mean {match!r}?"
    else:
        expected = _EXPECTED.get(kind, item["msg"]).format(**context)
    if location[-1] == "[key]":
        return f"expected {expected} as key, received {short(received)}", None
    if kind == "list_type" and isinstance(received, str | int | float):
        hint = f"write it as a list: [{cut(str(received))}]"
    if kind == "string_type" and isinstance(received, int | float):
        hint = "put it in quotes to make it a text"
    return f"expected {expected}, received {short(received)}", hint


def _misspelt(received: Any, keys: Sequence[str]) -> str | None:
    """The key that was meant, where a mapping that is told apart by its keys has none of them."""
    if not isinstance(received, Mapping) or any(key in received for key in keys):
        return None
    matches = (closest(str(name), keys) for name in received)
    return next((f"did you mean {match!r}?" for match in matches if match), None)


_TAGGED: dict[str, type[Section]] = {
    **{f"<{key}>": kind for key, kind in SOURCES.items()},
    "<fraction>": Split,
    "<layers>": LayersModel,
    "<factory>": FactoryModel,
    "<file>": FileModel,
    "<case>": Case,
    "<all>": All,
    "<float>": FloatDimension,
    "<int>": IntDimension,
    "<choice>": ChoiceDimension,
    "<boolean>": BooleanDimension,
    "<measure>": MeasureTerm,
    "<metric>": MetricTerm,
    **remedies.TAGGED,
}
"""The members of the unions by the tags that pydantic puts into locations."""

_UNWRITTEN = {*_TAGGED, "<given>", "<any>", "<one>", "<each>", "<by_name>", "[key]"}
"""Parts of pydantic's locations that the user has not written."""


def _sections_in(annotation: Any) -> Iterable[type[Section]]:
    """The sections in an annotation, inside unions and lists too."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for inner in typing.get_args(annotation):
        yield from _sections_in(inner)


def _home(name: str, location: tuple[int | str, ...]) -> str:
    """Where an unknown key belongs: a misspelling here, a key of another section, or neither."""
    section: type[Section] = Config
    path: list[str] = []
    for part in location:
        if part in _TAGGED:
            section = _TAGGED[str(part)]
        elif isinstance(part, str) and part in section.model_fields:  # not a key of a mapping
            section = next(iter(_sections_in(section.model_fields[part].annotation)))
            path.append(part)
    valid = list(section.model_fields)
    if closest(name, valid, cutoff=0.8) is None:
        every = dict.fromkeys(place for key, place in _keys(Config, ()) if key == name)
        if name == "learning_rate":  # Keras's own name in the optimizer's arguments
            every[("compile", "optimizer")] = None
        inside = [place for place in every if place[: len(path)] == tuple(path)] or list(every)
        if 0 < len(inside) <= 3 and tuple(path) not in every:
            places = (".".join(place) if place else "the top level" for place in inside)
            return f"it belongs in {' or '.join(places)}"
    return suggestion(name, valid)


def _keys(section: type[Section], path: tuple[str, ...]) -> Iterable[tuple[str, tuple[str, ...]]]:
    """Every key of the schema with the path of the section that it belongs in."""
    for key, field in section.model_fields.items():
        yield key, path
        for inner in _sections_in(field.annotation):
            if inner is not Named:
                yield from _keys(inner, (*path, key))
