"""What files say cannot steer a terminal, nor reach out of a run's directory."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from msgspec.structs import replace

from orchestrator.cli.app import execute as orchestrate
from orchestrator.errors import RecordError
from orchestrator.record.events import (
    AttemptEnded,
    AttemptStarted,
    CausesFound,
    EpochEnded,
    Event,
    Heartbeat,
    PhaseEnded,
    PhaseStarted,
    RunEnded,
    Warned,
)
from orchestrator.record.records import Failure, Finding
from orchestrator.record.storage import archive, store
from orchestrator.record.storage.directory import Paths
from tests.fuzzing import signed
from tests.story import record, story

Capture = pytest.CaptureFixture[str]

EVIL = "a\x1b[31m\x1b]52;c;aGk=\x07\x9b2J\u202eb\nAttempt 9 passed\0[bold]x[/bold][/]\x7f"
"""Colours, the clipboard, an erased screen, text turned around, a line of its own, markup."""


@pytest.fixture
def runs(memory_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(memory_path)
    return Path("runs")


def spoilt(event: Event | Heartbeat) -> Event | Heartbeat:
    """An event with such a text wherever it has one of its own."""
    match event:
        case AttemptStarted(cause=Failure()):
            cause = Failure(check=EVIL, phase=EVIL, reason=EVIL)
            return replace(event, remedy=EVIL, cause=cause, passed_over=(EVIL,), because=EVIL)
        case PhaseStarted():
            return replace(event, phase=EVIL)
        case EpochEnded():
            return replace(event, phase=EVIL, metrics={**event.metrics, EVIL: 1.0})
        case PhaseEnded():
            checks = tuple(replace(check, reason=EVIL) for check in event.phase.checks)
            metrics = {**event.phase.metrics, EVIL: 1.0}
            return replace(event, phase=replace(event.phase, metrics=metrics, checks=checks))
        case AttemptEnded(failure=Failure()):
            return replace(event, failure=Failure(check=EVIL, phase=EVIL, reason=EVIL))
        case RunEnded():
            return replace(event, conclusion=EVIL)
        case _:
            return event


@pytest.fixture
def evil(runs: Path) -> Path:
    events = [*map(spoilt, story(layers={EVIL: (32, 16)}, loss=1.0, passes=False))]
    finding = Finding(cause="oscillating", reason=EVIL, advice=EVIL, key=EVIL, line=1)
    told = [Warned(message=EVIL), CausesFound(attempt=2, findings=(finding,))]
    packages = {"keras": EVIL, "tensorflow": EVIL}
    environment = {"packages": packages, "git": {"commit": EVIL}, EVIL: EVIL}
    directory = record(runs, [*events[:-1], *told, events[-1]], environment=environment)
    Paths(directory).attempt(1).log.write_text(f"{EVIL}\n")
    (directory / "a\x1b[2J\nb").write_bytes(b"x" * 10**6)
    return directory


@pytest.mark.parametrize("form", [(), ("--md",), ("--json",)], ids=["people", "md", "json"])
@pytest.mark.parametrize(
    "command",
    ["history", "show RUN", "show RUN@2", "compare RUN@1 RUN@2", "logs RUN", "rm --dry-run RUN"],
)
def test_no_command_prints_what_a_terminal_obeys(
    evil: Path, command: str, form: tuple[str, ...], capsys: Capture
) -> None:
    assert orchestrate([*command.replace("RUN", evil.name).split(), *form]) == 0
    found = capsys.readouterr()
    for text in (found.out, found.err):
        assert {each for each in text if not each.isprintable()} <= {"\n"}
    if form == ("--json",):
        assert json.loads(found.out)
    else:
        assert not any(line.startswith("Attempt 9") for line in found.out.splitlines())


def test_json_has_the_text_as_it_is(evil: Path, capsys: Capture) -> None:
    assert orchestrate(["show", evil.name, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["conclusion"] == EVIL
    assert found["warnings"] == [EVIL]


def test_errors_are_legible_lines(runs: Path, capsys: Capture) -> None:
    Path("c.yaml").write_text('"\\e[31m\\n\\u202e": 1\n')
    for arguments in (
        ["validate", "c.yaml"], ["validate", EVIL], ["show", EVIL], ["logs", "../../etc"],
        ["show", "x" * 5000], ["rm", ".."], ["rm", "/"], ["compare", "..", "."], ["show", "\udcff"],
        ["check", EVIL, "--data", EVIL], ["c.yaml", "--set", f"seed={EVIL}"], ["show", "~"],
        ["replay", "../.."], ["tune", "\udcff"], [EVIL], ["show", ".."], ["show", "~root/@1"],
    ):  # fmt: skip
        # The system hands no text over that has a zero in it.
        code = orchestrate([each.replace("\0", "") for each in arguments])
        found = capsys.readouterr()
        assert {each for each in found.out + found.err if not each.isprintable()} <= {"\n"}
        assert code == 2, (arguments, found.err)
        assert found.err.startswith("error: "), arguments
        assert "internal error" not in found.err


def test_removing_a_run_touches_nothing_that_it_links_to(runs: Path, capsys: Capture) -> None:
    directory = record(runs, story())
    victim = Path("victim.txt")
    victim.write_text("precious")
    folder = Path("precious")
    folder.mkdir()
    (folder / "checkpoint.keras").write_text("precious")
    paths = Paths(directory)
    paths.lock.unlink(missing_ok=True)
    paths.lock.symlink_to(victim.absolute())
    (directory / "attempts" / "009").symlink_to(folder.absolute())
    assert orchestrate(["show", directory.name]) == 0
    assert orchestrate(["rm", directory.name]) == 2
    assert victim.read_text() == "precious"
    assert (folder / "checkpoint.keras").read_text() == "precious"
    said = capsys.readouterr().err
    link = f"{directory.resolve()}/.lock is a link, which a lock is not: remove it"
    assert said == f"error: {directory.resolve()}: cannot be moved: {link}\n"
    paths.lock.unlink()
    assert orchestrate(["rm", directory.name]) == 0
    assert (folder / "checkpoint.keras").read_text() == "precious"


def test_going_on_with_a_run_changes_nothing_that_it_links_to(runs: Path) -> None:
    directory = record(runs, story()[:20])
    elsewhere = Path("elsewhere")
    elsewhere.mkdir()
    (elsewhere / "epochs.csv").write_text("precious")
    shutil.rmtree(directory / "attempts" / "001")
    (directory / "attempts" / "001").symlink_to(elsewhere.absolute())
    with pytest.raises(RecordError, match=r"^attempts/001 is a link, .*: put a copy in its place"):
        store.reopen(directory)
    assert (elsewhere / "epochs.csv").read_text() == "precious"
    assert [*elsewhere.iterdir()] == [elsewhere / "epochs.csv"]
    (elsewhere / "large").write_bytes(b"x" * 10**6)
    assert sum(archive.sizes(directory).values()) < 10**6


def test_a_phase_is_no_way_into_another_folder(runs: Path) -> None:
    directory = record(runs, story())
    path = Paths(directory).journal
    lines = path.read_bytes().splitlines()
    place = next(index for index, line in enumerate(lines) if b'"phase_ended"' in line)
    body = json.loads(lines[place])
    del body["crc"]
    body["phase"]["phase"] = "x/../../../../precious"
    lines[place] = signed(json.dumps(body).encode())
    path.write_bytes(b"\n".join(lines) + b"\n")
    with pytest.raises(RecordError, match=rf"^journal.jsonl:{place + 1}: phase.phase: expected"):
        store.reopen(directory)
    assert not Path("precious.json").exists()


def test_a_directory_of_any_depth_has_a_size(runs: Path) -> None:
    directory = record(runs, story())
    deep = directory / "deep"
    deep.mkdir()
    descriptor = os.open(deep, os.O_RDONLY)
    for _ in range(1200):  # deeper than Python's stack, and than a path may be long
        os.mkdir("d", dir_fd=descriptor)
        inner = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = inner
    os.close(descriptor)
    assert orchestrate(["show", directory.name]) == 0
    subprocess.run(["rm", "-rf", str(deep)], check=True)
