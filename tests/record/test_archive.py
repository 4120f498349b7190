"""Reading run directories, whoever wrote them and however far they got."""

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import filelock
import pytest
from msgspec.structs import replace

from orchestrator.config import recorded
from orchestrator.errors import NewerError, RecordError
from orchestrator.history import briefs
from orchestrator.record.encoding import jsonable
from orchestrator.record.events import (
    AttemptStarted,
    EpochEnded,
    Heartbeat,
    PhaseEnded,
    PhaseStarted,
    RunEnded,
)
from orchestrator.record.records import Run
from orchestrator.record.storage import archive, journal
from orchestrator.record.storage.directory import Paths
from tests.story import interrupted, record, story, told


@pytest.fixture
def tmp_path(memory_path: Path) -> Path:
    return memory_path


def cut(kind: type, *, count: int = 1) -> list:  # type: ignore[type-arg]
    """The story up to an event of a type."""
    events = story(loss=1e3)
    places = [index for index, event in enumerate(events) if isinstance(event, kind)]
    return events[: places[count - 1] + 1]


def told_to(events: list) -> Run:  # type: ignore[type-arg]
    *_, (_, run) = told(events)
    return run


def test_what_is_read_is_what_was_recorded(tmp_path: Path) -> None:
    for count in (3, 9, 15, 30, 60):
        events = story(loss=math.inf)[:count]
        directory = record(tmp_path, events)
        with filelock.FileLock(Paths(directory).lock):
            found = archive.read(directory)
        expected = replace(
            told_to(events), run=directory.name, started=found.started, seconds=found.seconds
        )
        if found.attempts and found.status == "running":
            *before, last = expected.attempts
            last = replace(last, seconds=found.attempts[-1].seconds)
            expected = replace(expected, attempts=(*before, last))
        assert found == expected


def test_an_attempt_without_an_end_has_lasted_until_its_last_word(tmp_path: Path) -> None:
    events = cut(EpochEnded, count=5)
    path = tmp_path / "journal.jsonl"
    written = journal.Journal(path)
    for second, event in enumerate(events):
        if not isinstance(event, Heartbeat):
            written.append(event, elapsed=float(second))
    begun = max(index for index, each in enumerate(events) if isinstance(each, AttemptStarted))
    found = archive.read(tmp_path)
    assert found.status == "interrupted"
    assert [each.seconds for each in found.attempts] == [20.5, len(events) - 1 - begun]


def test_numbers_that_are_not_finite_come_back(tmp_path: Path) -> None:
    directory = record(tmp_path, story(attempts=1, passes=False))
    phase = archive.read(directory).attempts[0].phases[-1]
    assert math.isnan(phase.metrics["loss"])
    text = (directory / "run.json").read_text().replace('"skill": 0.5', '"skill": "-Infinity"')
    (directory / "run.json").write_text(text)
    assert archive.read(directory).attempts[0].skill() is None
    assert briefs.read_brief(directory).skill is None


def test_an_interrupted_run_that_somebody_takes_up_is_running(tmp_path: Path) -> None:
    directory = record(tmp_path, interrupted())
    assert archive.read(directory).status == "interrupted"
    with filelock.FileLock(Paths(directory).lock):
        found = archive.read(directory)
        assert (found.status, found.attempts[-1].status) == ("running", "running")
        assert found.conclusion is None
        brief = briefs.read_brief(directory)
        assert (brief.status, brief.state) == ("running", "starting")


def test_a_run_that_nobody_works_on_is_not_running(tmp_path: Path) -> None:
    directory = record(tmp_path, cut(EpochEnded, count=5))
    with filelock.FileLock(Paths(directory).lock):
        assert archive.is_owned(directory)
        found = archive.read(directory)
        assert (found.status, found.attempts[-1].status) == ("running", "running")
        assert briefs.read_brief(directory).state == "attempt 2, main 1/8"
    assert not archive.is_owned(directory)
    found = archive.read(directory)
    assert (found.status, found.attempts[-1].status) == ("interrupted", "interrupted")
    assert found.attempts[0].status == "failed"
    assert briefs.read_brief(directory).status == "interrupted"
    Paths(directory).lock.unlink()  # as after a copy that leaves hidden files out
    assert archive.read(directory).status == "interrupted"


OWNER = """
import sys, time, filelock
lock = filelock.FileLock(sys.argv[1])
lock.acquire()
print("held", flush=True)
time.sleep(60)
"""


def test_an_owner_that_is_killed_leaves_the_run_interrupted(tmp_path: Path) -> None:
    directory = record(tmp_path, cut(PhaseStarted))
    command = [sys.executable, "-c", OWNER, str(Paths(directory).lock)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"held\n"
        assert archive.read(directory).status == "running"
        assert archive.read(directory).status == "running"  # looking takes nothing from it
        owner.send_signal(signal.SIGKILL)
    assert archive.read(directory).status == "interrupted"


def test_a_record_behind_its_journal_is_brought_up_to_date(tmp_path: Path) -> None:
    """The process was killed between the two."""
    whole = story(loss=1e3)
    directory = record(tmp_path, whole)
    behind = record(tmp_path, [event for event in whole if not isinstance(event, RunEnded)])
    text = (behind / "run.json").read_text().replace(behind.name, directory.name)
    (directory / "run.json").write_text(text)
    assert json.loads(text)["status"] == "running"
    assert archive.read(directory).status == "passed"
    assert briefs.read_brief(directory).remedy == "lower_learning_rate"


@pytest.mark.parametrize("damage", ["cut", "missing", "other", "empty", "folder"])
def test_the_journal_stands_in_for_a_record_that_cannot_be_read(
    damage: str, tmp_path: Path
) -> None:
    directory = record(tmp_path, story(loss=1e3))
    before = archive.read(directory)
    path = directory / "run.json"
    content = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage != "missing":
        path.write_bytes({"cut": content[:700], "other": b'{"schema": 1}', "empty": b""}[damage])
    after = archive.read(directory)
    assert replace(after, seconds=0) == replace(before, seconds=0)
    assert briefs.read_brief(directory).attempts == 2
    journal = Paths(directory).journal
    journal.write_bytes(b"\n" + journal.read_bytes())
    for read in (archive.read, briefs.read_brief):
        with pytest.raises(RecordError, match=r"run.json .*; .*journal.jsonl:1: damaged line"):
            read(directory)
    journal.unlink()
    for read in (archive.read, briefs.read_brief):
        with pytest.raises(RecordError, match="run.json|no run"):
            read(directory)


@pytest.mark.parametrize("lines", ["attempt", "phase"])
def test_a_journal_that_makes_no_sense_is_refused(lines: str, tmp_path: Path) -> None:
    """Each of its lines has the checksum that it should have."""
    events = [each for each in story(loss=1e3) if not isinstance(each, Heartbeat)]
    if lines == "attempt":
        events = [each for each in events if not isinstance(each, AttemptStarted)]
        message = "the journal is damaged: entry 2 is of an attempt that has not begun"
    else:
        events = [
            replace(each, phase=replace(each.phase, seconds=math.nan))
            if isinstance(each, PhaseEnded)
            else each
            for each in events
        ]
        message = "attempts.0.phases.0.seconds: expected a length of time, received nan"
    written = journal.Journal(tmp_path / "journal.jsonl")
    for event in events:
        written.append(event, elapsed=1.0)
    with pytest.raises(RecordError, match=message):
        archive.read(tmp_path)


def test_a_newer_record_is_refused_whatever_its_shape(tmp_path: Path) -> None:
    directory = record(tmp_path, story())
    for text in ('{"schema": 2}', '{"schema": 3, "run": [], "attempts": {}}'):
        (directory / "run.json").write_text(text)
        for read in (archive.read, briefs.read_brief):
            with pytest.raises(NewerError, match=r"its schema is \d, this version reads up to 1"):
                read(directory)


def test_an_older_record_lacks_what_is_new(tmp_path: Path) -> None:
    directory = record(tmp_path, story(loss=1e3))
    value = json.loads((directory / "run.json").read_text())
    for key in ("screened_seeds", "exit_code", "warnings", "inputs"):
        del value[key]
    for attempt in value["attempts"]:
        for key in ("findings", "screened", "passed_over", "cause", "learning_rates"):
            del attempt[key]
        del attempt["settings"]["clip_norm"]
        for phase in attempt["phases"]:
            del phase["first_loss"], phase["highest_loss"]
    (directory / "run.json").write_text(json.dumps(value))
    found = archive.read(directory)
    assert (found.status, found.attempts[1].findings, found.inputs.columns) == ("passed", (), ())
    assert briefs.read_brief(directory).screened_seeds == 0


@pytest.mark.parametrize("attempts", [1, 3])
@pytest.mark.parametrize("passes", [True, False])
def test_a_line_says_what_the_record_says(attempts: int, passes: bool, tmp_path: Path) -> None:
    directory = record(tmp_path, story(attempts=attempts, passes=passes, loss=1e3), name="a-b")
    run, line = archive.read(directory), briefs.read_brief(directory)
    best = run.attempts[(run.best_attempt or 0) - 1]
    assert line == briefs.Brief(
        run=directory.name, name="a-b", status=run.status, started=run.started,
        attempts=len(run.attempts), failures=("dead_neurons",) if run.attempts[0].failure else (),
        failed=("dead_neurons",) if run.attempts[0].failure else (),
        remedy=best.remedy if passes else None, skill=best.skill(),
        metrics=best.phases[-1].metrics, seconds=run.seconds, screened_seeds=0,
    )  # fmt: skip


def test_what_stands_beside_the_record_may_be_missing_or_damaged(tmp_path: Path) -> None:
    directory = record(tmp_path, story(loss=1e3))
    assert len(archive.epochs(directory)[2]) == 10
    assert recorded.read(directory)["seed"] == 7
    assert archive.environment(directory)["packages"] == {"keras": "3.15.1"}
    assert archive.sizes(directory)["run.json"] == (directory / "run.json").stat().st_size
    for name in ("journal.jsonl", "resolved.yaml", "environment.json"):
        (directory / name).write_bytes(b"[: \xff")
    assert archive.epochs(directory) == {}
    assert recorded.read(directory) == {}
    assert archive.environment(directory) == {}
    assert jsonable(archive.read(directory))["status"] == "passed"


def test_a_pipe_in_place_of_a_record_does_not_hang(tmp_path: Path) -> None:
    directory = tmp_path / "odd"
    directory.mkdir()
    os.mkfifo(directory / "run.json")
    with pytest.raises(RecordError, match="no run"):
        briefs.read_brief(directory)
