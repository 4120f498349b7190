"""The history as a list, and as one JSON document whatever the records hold."""

import json
import os
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from orchestrator.display import tables, words
from orchestrator.history import briefs, find, listing
from tests.story import record, story


def document(runs: Path) -> Any:
    found = find.read_history(runs, cached=False)
    return json.loads(b"".join(listing.documents(runs, found.runs, found.unreadable)))


@pytest.mark.parametrize(
    "content",
    [
        b'{"schema": 1, "status": "passed", "attempts": "x"}',
        b'{"schema": 1, "status": "passed", "attempts": null}',
        b'{"schema": 1, "status": "passed", "attempts": {}}',
        b"[" * 200_000,
        b'{"schema": 1, "status": "passed", "run": "\xff"}',
    ],
)
def test_a_damaged_record_is_what_its_journal_says_in_the_document_too(
    content: bytes, runs: Path
) -> None:
    directory = record(runs, story(loss=1e3))
    before = document(runs)
    (directory / "run.json").write_bytes(content)
    after = document(runs)
    for found in (before, after):
        found["runs"][0]["seconds"] = None
    assert after == before
    assert len(after["runs"][0]["attempts"]) == 2


def test_a_record_that_fails_while_the_document_is_written_is_named_in_it(runs: Path) -> None:
    good, lost = record(runs, story(loss=1e3)), record(runs, story())
    listed = find.read_history(runs, cached=False).runs
    shutil.rmtree(lost)
    found = json.loads(b"".join(listing.documents(runs, listed, ())))
    assert [each["directory"] for each in found["runs"]] == [good.name]
    assert found["unreadable"] == [
        {"directory": lost.name, "reason": "cannot be read: No such file or directory"}
    ]


def test_names_that_are_not_utf8_are_escaped(runs: Path) -> None:
    good = record(runs, story(loss=1e3))
    shutil.copytree(good, runs / os.fsdecode(b"non\xff"))
    (runs / os.fsdecode(b"notes\xff")).mkdir()
    found = document(runs)
    assert {each["directory"] for each in found["runs"]} == {good.name, "non\udcff"}
    assert [each["directory"] for each in found["unreadable"]] == ["notes\udcff"]


def test_a_copy_can_be_told_from_its_original(runs: Path) -> None:
    good = record(runs, story(loss=1e3))
    shutil.copytree(good, runs / "copy")
    found = document(runs)["runs"]
    assert {each["directory"] for each in found} == {good.name, "copy"}
    assert {each["run"] for each in found} == {good.name}


@pytest.mark.parametrize(
    ("width", "headings"),
    [
        (30, "run status"),
        (40, "run status failures"),
        (60, "run status failures repaired by time"),
        (80, "run status attempts failures repaired by skill time"),
        (100, "run started status attempts failures repaired by skill loss time"),
        (140, "run started status attempts failures repaired by skill loss time"),
    ],
)
def test_a_narrow_terminal_gets_what_matters_most(width: int, headings: str, runs: Path) -> None:
    record(runs, story(loss=1e3), name="a-rather-long-name")
    record(runs, story(attempts=4, loss=1e3, passes=False)[:-1], name="other")
    found = find.read_history(runs, cached=False).runs
    shown = tables.as_table(*listing.table(found, ["loss"]), width=width, color=False)
    heading, *lines = shown.splitlines()
    assert heading.split() == headings.split()
    assert all(len(line) <= width for line in (heading, *lines))
    assert {"passed", "interrupted"} <= set(shown.split())
    assert {line.split()[0][-5:] for line in lines} == {each.run[-5:] for each in found}


def test_this_year_goes_without_saying() -> None:
    this = datetime.now().astimezone().replace(month=3, day=4, hour=5, minute=6)
    for moment, shown in (
        (this, "03-04 05:06"),
        (this.replace(year=2001), "2001-03-04 05:06"),
    ):
        brief = briefs.Brief(
            run="a", name="a", status="passed", started=moment.isoformat(), attempts=1,
            failures=(), failed=(), remedy=None, skill=None, metrics={}, seconds=1.0,
            screened_seeds=0,
        )  # fmt: skip
        assert listing.table([brief], [])[1][0][1].shown == shown


@pytest.mark.parametrize(
    ("started", "shown"),
    [
        ("9999-12-31T23:59:59-12:00", "9999-12-31T23:59:59-12:00"),
        ("0001-01-01T00:00:00+12:00", "0001-01-01T00:00:00+12:00"),
        ("yesterday", "yesterday"),
        (None, ""),
    ],
)
def test_a_time_that_no_clock_here_shows_stays_as_it_is(started: str | None, shown: str) -> None:
    assert words.when(started) == shown


def test_every_field_is_a_column_for_programs() -> None:
    columns, _ = listing.fields([])
    assert [column.name for column in columns] == (
        "run name started status attempts failures remedy skill seconds screened_seeds".split()
    )
    assert {shown.field for shown in listing.COLUMNS} <= {column.name for column in columns}
