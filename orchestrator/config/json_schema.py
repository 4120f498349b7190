"""The JSON schema of configs, for editors that complete and check YAML."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue
from pydantic_core import core_schema

from orchestrator.config.schema import Config

_HEAD = {
    "title": "orchestrate config",
    "description": "How to train a Keras model, check it, and start again when a check fails.",
}


def json_schema() -> dict[str, Any]:
    """What a config file may hold, as the loader reads it.

    What depends on several keys or on files only the loader knows. 1.0 is a whole number here.
    """
    return Config.model_json_schema(schema_generator=_Generator)


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
