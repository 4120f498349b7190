"""JSON schemas: the config's, for editors that complete and check YAML, and the record's."""

from __future__ import annotations

import ast
import functools
import inspect
from pathlib import Path
from typing import Any

import pydantic
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue
from pydantic_core import core_schema

from orchestrator.config.schema import Config
from orchestrator.record import records

RECORD_SCHEMA = Path(__file__).with_name("record.schema.json")
"""The record's schema as the package carries it, for programs without ours."""

_HEAD = {
    "title": "orchestrate config",
    "description": "How to train a Keras model, check it, and start again when a check fails.",
}
_RECORD_HEAD = {
    "title": "orchestrate record",
    "description": "One run, as run.json holds it and as `orchestrate show RUN --json` and "
    "`orchestrate CONFIG --json` print it. Later versions may add keys, so pass over those that "
    "you do not know; they do not change or leave out any of these while `schema` is 1.",
}
_ALWAYS = ["schema", "run", "status", "attempts"]
"""What even the oldest record has; a new one has every key."""


def json_schema() -> dict[str, Any]:
    """What a config file may hold, as the loader reads it.

    What depends on several keys or on files only the loader knows. 1.0 is a whole number here.
    """
    return Config.model_json_schema(schema_generator=_Generator)


def record_schema() -> dict[str, Any]:
    """What a run's record holds; numbers that are not finite are texts."""
    adapter = pydantic.TypeAdapter(records.Run)
    found = adapter.json_schema(schema_generator=_RecordGenerator, mode="serialization")
    explained = _explained(records.Run, found["properties"])
    return {**found, "properties": explained, "required": _ALWAYS, **_RECORD_HEAD}


def _explained(kind: type, properties: dict[str, Any]) -> dict[str, Any]:
    """The fields with what the source says under each."""
    texts = _field_docstrings(kind)
    return {
        name: {**found, "description": " ".join(texts[name].split())} if name in texts else found
        for name, found in properties.items()
    }


@functools.cache
def _field_docstrings(kind: type) -> dict[str, str]:
    """The strings that stand under the fields of a dataclass, which pydantic reads of models."""
    (definition,) = ast.parse(inspect.cleandoc("\n" + inspect.getsource(kind))).body
    found = {}
    body = definition.body if isinstance(definition, ast.ClassDef) else []
    for field, text in zip(body, body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
        ):
            found[field.target.id] = str(text.value.value)
    return found


class _Generator(GenerateJsonSchema):
    """Pydantic's generator, for people to read and for shapes that overlap."""

    def generate(
        self, schema: core_schema.CoreSchema, mode: JsonSchemaMode = "validation"
    ) -> JsonSchemaValue:
        """The document says first what it is."""
        found = _unwrapped(super().generate(schema, mode))
        return {"$schema": self.schema_dialect, **_HEAD, **found, **_HEAD}

    def sort(self, value: JsonSchemaValue, parent_key: str | None = None) -> JsonSchemaValue:
        """Keys stay as they are declared."""
        return value

    def field_title_should_be_set(self, schema: Any) -> bool:
        """A title that repeats the key says nothing."""
        return False

    def tagged_union_schema(self, schema: core_schema.TaggedUnionSchema) -> JsonSchemaValue:
        """One loss with its arguments may look like losses by name too, so any of them will do."""
        found = super().tagged_union_schema(schema)
        return {"anyOf" if key == "oneOf" else key: value for key, value in found.items()}


class _RecordGenerator(_Generator):
    """The same for a record, whose fields are all written, though old ones may lack some."""

    def generate(
        self, schema: core_schema.CoreSchema, mode: JsonSchemaMode = "serialization"
    ) -> JsonSchemaValue:
        """Every definition with its fields explained."""
        found = super().generate(schema, mode)
        for name, definition in found.get("$defs", {}).items():
            kind = getattr(records, name)
            definition["properties"] = _explained(kind, definition["properties"])
        return found

    def float_schema(self, schema: core_schema.FloatSchema) -> JsonSchemaValue:
        """JSON has no NaN."""
        return {"anyOf": [{"type": "number"}, {"enum": list(records.NON_FINITE)}]}


def _unwrapped(schema: Any) -> Any:
    """The schema with the line breaks of docstrings taken out, which editors would show."""
    if isinstance(schema, list):
        return [_unwrapped(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _unwrapped(value) for key, value in schema.items()}
    if isinstance(text := found.get("description"), str):
        found["description"] = "\n\n".join(
            paragraph.replace("\n", " ") for paragraph in text.split("\n\n")
        )
    return found
