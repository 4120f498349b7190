"""The JSON schema of the record, which the package carries as a file."""

import json
from typing import Any

import fastjsonschema
import pytest

from orchestrator.cli.app import execute as orchestrate
from orchestrator.record.encoding import dump, jsonable
from orchestrator.record.events import EpochEnded
from orchestrator.record.records import JSON_SCHEMA
from tests import record_schema
from tests.story import story, told

SCHEMA = json.loads(JSON_SCHEMA.read_text())


def test_it_follows_from_the_classes() -> None:
    assert JSON_SCHEMA.read_text() == record_schema.make(), "python -m tests.record_schema"


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert orchestrate(["schema", "record"]) == 0
    assert capsys.readouterr().out == JSON_SCHEMA.read_text()


IS_A_RECORD = fastjsonschema.compile(SCHEMA)


def test_every_record_of_a_run_matches_its_schema() -> None:
    for event, run in told([*story(attempts=3), *story(passes=False)]):
        assert not isinstance(event, EpochEnded) or run.attempts
        IS_A_RECORD(json.loads(dump(jsonable(run))))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("status", "done"),
        ("attempts", {}),
        ("seconds", "long"),
        ("schema", None),
        ("attempts", [{"attempt": 1}]),
        ("attempts", [{"attempt": 1, "status": "passed", "settings": {"seed": "x"}}]),
        ("inputs", {"columns": [1]}),
    ],
)
def test_what_is_no_record_does_not_match_it(key: str, value: Any) -> None:
    *_, (_, run) = told(story())
    record = json.loads(dump(jsonable(run)))
    IS_A_RECORD(record)
    with pytest.raises(fastjsonschema.JsonSchemaValueException):
        IS_A_RECORD({**record, key: value})


def test_every_field_of_the_record_is_explained() -> None:
    found = SCHEMA
    places = {"": found, **found["$defs"]}
    for name, definition in places.items():
        for field, described in definition["properties"].items():
            assert described.get("description"), f"{name}.{field}"
