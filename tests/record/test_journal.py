from __future__ import annotations

import errno
import json
import math
import os
import resource
import tempfile
import zlib
from pathlib import Path
from typing import Any, get_args

import hypothesis.strategies as st
import pytest
from hypothesis import given
from msgspec.structs import replace

from orchestrator.errors import RecordError
from orchestrator.record.checks import (
    AnyCheck,
    GateBounds,
    GateValue,
    MetricCheck,
    MetricLimits,
    MetricMeasured,
)
from orchestrator.record.events import (
    AttemptEnded,
    AttemptStarted,
    EpochEnded,
    Event,
    ModelBuilt,
    ObstacleMet,
    PhaseEnded,
    PhaseStarted,
    RunEnded,
    RunStarted,
    Warned,
    advance,
)
from orchestrator.record.records import FILE_NAME, Failure, Inputs, Phase, Run, Settings
from orchestrator.record.storage.journal import Entry, Journal, read, replay
from tests import builders
from tests.builders import LAW

EVENTS: list[Event] = [
    RunStarted(run="r-1", started="2026-01-01", inputs=Inputs(columns=("a",)), fingerprint="f"),
    Warned(message="größer\nals nötig"),
    AttemptStarted(
        attempt=1, settings=Settings(seed=7), remedy=None, cause=None, changed={}, passed_over=()
    ),
]


def _write(path: Path, events: list[Event]) -> list[Entry]:
    journal = Journal(path)
    return [journal.append(event, elapsed=float(n)) for n, event in enumerate(events)]


# ------------------------------------------------------------------------------- round trip

TEXT = st.text(max_size=8)
NUMBER = st.integers(1, 9)
RATE = st.floats(0, 1)
NUMBERS = st.dictionaries(TEXT, st.floats(), max_size=3)
FAILURE = st.none() | st.builds(Failure, check=TEXT, phase=st.none() | TEXT, reason=TEXT)
SETTINGS = st.builds(
    Settings, seed=st.integers(0, 2**32 - 1), learning_rate_cap=st.none() | RATE, initializer=TEXT
)
CHECK = st.one_of(*map(st.from_type, get_args(AnyCheck)))
PHASE = st.builds(
    Phase,
    phase=st.from_regex(FILE_NAME.replace("$", r"\Z")),
    epochs=NUMBER,
    seconds=RATE,
    metrics=NUMBERS,
    checks=st.lists(CHECK, max_size=2).map(tuple),
)
INPUTS = st.builds(
    Inputs,
    columns=st.lists(TEXT, max_size=3).map(tuple),
    categories=st.dictionaries(TEXT, st.lists(TEXT, max_size=2).map(tuple), max_size=2),
)
EVENT: st.SearchStrategy[Event] = st.one_of(
    st.builds(RunStarted, run=TEXT, started=TEXT, inputs=INPUTS, fingerprint=st.none() | TEXT),
    st.builds(
        AttemptStarted,
        attempt=NUMBER,
        settings=SETTINGS,
        remedy=st.none() | TEXT,
        cause=FAILURE,
        changed=st.dictionaries(TEXT, st.fixed_dictionaries({"from": RATE, "to": RATE})),
        passed_over=st.lists(TEXT, max_size=2).map(tuple),
    ),
    st.builds(ModelBuilt, attempt=NUMBER, parameters=NUMBER, obstacles=st.dictionaries(TEXT, TEXT)),
    st.builds(ObstacleMet, attempt=NUMBER, remedy=TEXT, reason=TEXT),
    st.builds(PhaseStarted, attempt=NUMBER, phase=TEXT, epochs=NUMBER, learning_rate=st.floats()),
    st.builds(
        EpochEnded, attempt=NUMBER, phase=TEXT, epoch=NUMBER, learning_rate=RATE, metrics=NUMBERS
    ),
    st.builds(PhaseEnded, attempt=NUMBER, phase=PHASE),
    st.builds(Warned, message=TEXT),
    st.builds(
        AttemptEnded,
        attempt=NUMBER,
        status=st.sampled_from(["passed", "failed", "crashed", "interrupted"]),
        failure=FAILURE,
        seconds=RATE,
    ),
    st.builds(
        RunEnded,
        status=st.sampled_from(["passed", "exhausted", "error", "interrupted"]),
        accepted_attempt=st.none() | NUMBER,
        best_attempt=st.none() | NUMBER,
        conclusion=TEXT,
        exit_code=st.integers(0, 75),
    ),
)


@LAW
@given(st.lists(EVENT, min_size=1, max_size=2))
def test_what_was_appended_is_read_back(events: list[Event]) -> None:
    with tempfile.TemporaryDirectory(dir=builders.MEMORY) as folder:
        path = Path(folder, "journal.jsonl")
        written = _write(path, events)
        # By their text, under which NaN equals itself.
        assert repr(read(path)) == repr(written)


def test_replay_is_the_fold_of_the_events(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    _write(path, EVENTS)
    expected = Run(run="")
    for number, event in enumerate(EVENTS):
        expected = advance(expected, event, elapsed=float(number))
    assert replay(read(path)) == expected
    assert (expected.run, expected.seconds, len(expected.attempts)) == ("r-1", 2.0, 1)


def test_numbers_that_json_does_not_have_come_back_as_numbers(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    check = MetricCheck(
        verdict="fail",
        reason="NaN",
        measured=MetricMeasured(gates=(GateValue(name="nan", value=math.nan),)),
        limits=MetricLimits(gates=(GateBounds(name="NaN", max=math.inf),)),
    )
    phase = replace(builders.phase("main", check), metrics={"loss": -math.inf})
    _write(path, [PhaseEnded(attempt=1, phase=phase)])
    line = json.loads(path.read_text())
    assert line["phase"]["metrics"] == {"loss": "-Infinity"}
    (entry,) = read(path)
    assert isinstance(entry.event, PhaseEnded)
    back = entry.event.phase
    assert back.metrics == {"loss": -math.inf}
    assert repr(back.checks) == repr((check,))


def test_a_line_is_json_with_its_number_time_and_event(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    _write(path, EVENTS)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["number"], line["event"]) for line in lines] == [
        (1, "run_started"),
        (2, "warned"),
        (3, "attempt_started"),
    ]
    assert lines[1]["elapsed"] == 1.0
    assert lines[1]["time"].endswith("+00:00")
    assert lines[1]["schema"] == 1


def test_a_journal_goes_on_where_another_left_it(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    _write(path, EVENTS[:2])
    Journal(path, entries=2).append(EVENTS[2], elapsed=2.0)
    assert [entry.number for entry in read(path)] == [1, 2, 3]


def test_a_file_name_that_is_not_utf8_can_be_recorded(tmp_path: Path) -> None:
    event = Warned(message=b"caf\xe9.csv".decode(errors="surrogateescape"))
    path = tmp_path / "journal.jsonl"
    _write(path, [event])
    assert read(path)[0].event == event


# ------------------------------------------------------------------------------- damage


def test_a_last_line_torn_at_any_byte_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    entries = _write(path, EVENTS)
    whole = path.read_bytes()
    start = whole.rindex(b"\n", 0, len(whole) - 1) + 1
    for end in range(start, len(whole)):
        path.write_bytes(whole[:end])
        assert read(path) == entries[:2], end


@pytest.mark.parametrize("fill", [b"\0", b"\n"])
def test_a_last_line_that_never_reached_the_disk_is_passed_over(
    tmp_path: Path, fill: bytes
) -> None:
    path = tmp_path / "journal.jsonl"
    entries = _write(path, EVENTS)
    path.write_bytes(path.read_bytes() + fill)
    assert read(path) == entries


@pytest.mark.parametrize("mask", [0x01, 0x80])
def test_a_changed_byte_in_an_earlier_line_is_refused_by_its_number(
    tmp_path: Path, mask: int
) -> None:
    path = tmp_path / "journal.jsonl"
    _write(path, EVENTS)
    whole = path.read_bytes()
    start = whole.index(b"\n") + 1
    end = whole.index(b"\n", start) + 1  # the line break belongs to the line
    for position in range(start, end):
        changed = bytearray(whole)
        changed[position] ^= mask
        path.write_bytes(changed)
        with pytest.raises(RecordError, match=r"journal\.jsonl:2: damaged line: the checksum"):
            read(path)


def test_two_torn_lines_without_their_separator_are_damage(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    _write(path, EVENTS)
    first, second, third = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + second[:-1] + third[:-1])
    with pytest.raises(RecordError, match=r":2: damaged line"):
        read(path)


def test_a_missing_line_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    _write(path, EVENTS)
    first, _, third = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + third)
    with pytest.raises(RecordError, match=r":2: expected entry 2, received 3"):
        read(path)


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"journal\.jsonl: cannot be read: No such file"):
        read(tmp_path / "journal.jsonl")


@pytest.mark.parametrize("content", [b"", b'{"crc":"0012'])
def test_a_journal_without_any_event_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(content)
    with pytest.raises(RecordError, match="expected at least one event, received none"):
        read(path)


def _forged(path: Path, **changes: Any) -> None:
    """The last line again, with other content and the right sum."""
    *before, last = path.read_bytes().splitlines(keepends=True)
    fields = {name: value for name, value in json.loads(last).items() if name != "crc"}
    fields = {
        name: value
        for name, value in (fields | changes).items()
        if name not in changes or value is not None
    }
    body = json.dumps(fields, separators=(",", ":")).encode()
    line = b'{"crc":"%08x",' % zlib.crc32(body) + body[1:] + b"\n"
    path.write_bytes(b"".join(before) + line)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 2}, r":3: its schema is 2, this version reads up to 1$"),
        ({"event": "danced"}, r":3: event: invalid value 'danced'$"),
        ({"attempt": "one"}, r":3: attempt: expected `int`, received 'one'$"),
        ({"number": None}, r":3: number: is missing$"),
        ({"schema": "x"}, r":3: schema: expected `int`, received 'x'$"),
        ({"elapsed": "Infinity"}, r":3: elapsed: expected a length of time, received inf$"),
        ({"elapsed": "NaN"}, r":3: elapsed: expected a length of time, received nan$"),
        ({"time": "now"}, r":3: time: expected one as ISO 8601, received 'now'$"),
    ],
)
def test_a_sound_line_that_cannot_be_understood_is_refused_even_at_the_end(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = tmp_path / "journal.jsonl"
    _write(path, EVENTS)
    _forged(path, **changes)
    with pytest.raises(RecordError, match=message):
        read(path)


def test_forging_nothing_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    entries = _write(path, EVENTS)
    _forged(path)
    assert read(path) == entries


def test_an_append_that_does_not_fit_leaves_the_journal_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    journal.append(EVENTS[0], elapsed=0.0)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Half of the next line still fits: the write is short, and the one after it fails.
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 50, hard))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            journal.append(EVENTS[1], elapsed=1.0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno == errno.EFBIG
    assert path.read_bytes() == before
    assert journal.append(EVENTS[1], elapsed=2.0).number == 2
    assert [entry.number for entry in read(path)] == [1, 2]


def test_the_journal_is_appended_to_and_never_rewritten(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    journal.append(EVENTS[0], elapsed=0.0)
    before, inode = path.read_bytes(), os.stat(path).st_ino
    journal.append(EVENTS[1], elapsed=1.0)
    assert path.read_bytes().startswith(before)
    assert os.stat(path).st_ino == inode
