"""Makes the JSON schema of records from their classes: `python -m tests.record_schema`.

What it writes is part of the package, for programs without ours; a test tells when it is stale.
"""

import ast
import inspect
import json
from collections.abc import Iterator
from typing import Any

import msgspec

from orchestrator.record import checks, encoding, records

HEAD = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "orchestrate record",
    "description": "One run, as run.json holds it and as `orchestrate show RUN --json` and "
    "`orchestrate CONFIG --json` print it. Later versions may add keys, so pass over those that "
    "you do not know; they do not change or leave out any of these while `schema` is 1.",
}
ALWAYS = ["schema", "run", "status", "attempts"]
"""What even the oldest record has; a new one has every key."""


def make() -> str:
    """The schema as the package's file holds it."""
    definitions = msgspec.json.schema(records.Run)["$defs"]
    kinds = vars(checks) | vars(records)
    for name, definition in definitions.items():
        del definition["title"]
        is_record = issubclass(kinds[name], encoding.Record)
        texts = dict(explained(kinds[name])) if is_record else {}
        for key, found in definition["properties"].items():
            found.setdefault("description", texts.get(key, "Name of the check."))
    run = definitions.pop("Run")
    found = {**HEAD, **run, "required": ALWAYS, "$defs": definitions} | HEAD
    return json.dumps(with_non_finite(found), indent=1) + "\n"


def explained(kind: type) -> Iterator[tuple[str, str]]:
    """The text under each field of a class and of the classes that it extends."""
    for each in reversed(kind.__mro__):
        if not each.__module__.startswith("orchestrator."):
            continue
        (definition,) = ast.parse(inspect.getsource(each)).body
        assert isinstance(definition, ast.ClassDef)
        for field, text in zip(definition.body, definition.body[1:], strict=False):
            match field, text:
                case ast.AnnAssign(target=ast.Name(id=key)), ast.Expr(
                    value=ast.Constant(value=str(told))
                ):
                    yield key, " ".join(told.split())


def with_non_finite(schema: Any) -> Any:
    """The schema with the texts that stand for numbers which JSON does not have."""
    if isinstance(schema, list):
        return [with_non_finite(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: with_non_finite(item) for key, item in schema.items() if key != "discriminator"}
    if found.get("type") == "number":
        del found["type"]
        found = {"anyOf": [{"type": "number"}, {"enum": list(encoding.NON_FINITE)}], **found}
    return found


if __name__ == "__main__":
    records.JSON_SCHEMA.write_text(make())
