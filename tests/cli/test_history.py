"""The commands that look at runs, as people use them."""

import contextlib
import csv
import io
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
import pytest
from msgspec.structs import replace

from orchestrator.cli.app import execute as orchestrate
from orchestrator.display import charts
from orchestrator.display.results import summarize_run
from orchestrator.errors import InvalidError
from orchestrator.history import find, logs, trash
from orchestrator.record.encoding import jsonable
from orchestrator.record.events import AttemptEnded, CausesFound, RunEnded, SeedsScreened
from orchestrator.record.records import Candidate, Failure, Finding
from orchestrator.record.storage import archive
from orchestrator.record.storage.directory import Paths
from orchestrator.record.storage.journal import replay
from tests.story import LAYERS, interrupted, record, started, story

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def tmp_path(memory_path: Path) -> Path:
    return memory_path


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


def out(capsys: Capture, *arguments: str, code: int = 0) -> str:
    """What a command prints, without what makes no difference at the ends of lines."""
    assert orchestrate(list(arguments)) == code
    shown, said = capsys.readouterr()
    assert code or "error" not in said
    return "".join(f"{line.rstrip()}\n" for line in (shown or said).splitlines())


# history


def test_history_lists_what_became_of_each_run(runs: Path, capsys: Capture) -> None:
    first = record(runs, story(loss=1e3)).name
    second = record(runs, story(attempts=3, passes=False), name="deep").name
    heading, *lines = out(capsys, "history").splitlines()
    assert heading.split() == (
        "run started status attempts failures repaired by skill val_loss time".split()
    )
    assert {line.split()[0] for line in lines} == {first, second}
    by_name = {line.split()[0]: " ".join(line.split()[3:-2]) for line in lines}
    assert by_name[first] == "passed 2 dead_neurons lower_learning_rate 0.5 18.98"
    assert by_name[second] == "exhausted 3 dead_neurons 0.5 nan"


def test_history_says_when_there_is_nothing(runs: Path, capsys: Capture) -> None:
    assert "there are no runs in runs; --runs-dir names another folder" in out(capsys, "history")
    record(runs, story())
    assert "none of 1 runs in runs is so" in out(capsys, "history", "--status", "error")


def test_history_takes_bounds_and_shows_the_numbers_they_are_about(
    runs: Path, capsys: Capture
) -> None:
    name = record(runs, story(loss=1e3)).name
    shown = out(capsys, "history", "--where", "loss<20", "--where", "attempts>1", "--check",
                "dead_neurons", "--since", "1h", "--name", "ca*", "--sort", "-skill")  # fmt: skip
    assert shown.splitlines()[0].split()[-2:] == ["loss", "time"]
    assert name in shown
    assert "none of 1 runs" in out(capsys, "history", "--where", "loss>20")
    assert orchestrate(["history", "--where", "los<20"]) == 2
    assert "did you mean 'loss'?" in capsys.readouterr().err


def test_a_check_that_failed_beside_another_is_found(runs: Path, capsys: Capture) -> None:
    directory = record(runs, story(attempts=1, passes=False))
    value = json.loads((directory / "run.json").read_text())
    value["attempts"][0]["phases"][1]["checks"][2]["verdict"] = "fail"
    (directory / "run.json").write_text(json.dumps(value))
    for check in ("dead_neurons", "prediction_variance"):
        (line,) = out(capsys, "history", "--check", check).splitlines()[1:]
        assert " dead_neurons " in line
        assert "prediction_variance" not in line
    assert "none of 1 runs" in out(capsys, "history", "--check", "metric")


def test_damaged_foreign_and_newer_directories_are_named_and_the_rest_is_listed(
    runs: Path, capsys: Capture
) -> None:
    good = record(runs, story(loss=1e3))
    cut = Path(shutil.copytree(good, runs / "cut"))
    (cut / "run.json").write_bytes((cut / "run.json").read_bytes()[:500])
    (cut / "journal.jsonl").unlink()
    later = Path(shutil.copytree(good, runs / "later"))
    text = (later / "run.json").read_text()
    (later / "run.json").write_text(text.replace('"schema": 1', '"schema": 2', 1))
    (runs / "notes").mkdir()
    (runs / "notes" / "ideas.txt").write_text("try more\n")
    (runs / ".hidden").mkdir()
    (runs / "readme.txt").write_text("not a directory\n")
    for _ in range(2):  # the second time with a cache
        assert orchestrate(["history"]) == 0
        shown, said = capsys.readouterr()
        assert [line.split()[0] for line in shown.splitlines()] == ["run", good.name]
        complaints = said.splitlines()
        assert len(complaints) == 3
        assert complaints[0].startswith("warning: runs/cut is not listed: run.json is damaged: ")
        assert complaints[1].startswith(
            "warning: runs/later is not listed: run.json: its schema is 2, this"
        )
        assert complaints[2].startswith("warning: runs/notes is not listed: no run: it has neither")


def test_a_run_in_progress_shows_what_it_is_doing(runs: Path, capsys: Capture) -> None:
    events = [event for event in story(loss=1e3) if not isinstance(event, RunEnded)][:-4]
    directory = record(runs, events)
    assert " interrupted " in out(capsys, "history")
    with filelock.FileLock(Paths(directory).lock):
        assert " running: attempt 2, main 7/8 " in out(capsys, "history")
        assert json.loads(out(capsys, "history", "--json"))["runs"][0]["status"] == "running"
    assert " interrupted " in out(capsys, "history")


def test_a_run_that_never_got_anywhere_shows_its_last_loss(runs: Path, capsys: Capture) -> None:
    events = story(attempts=1, passes=False)
    record(runs, [*events[:-1], replace(events[-1], best_attempt=None)])  # type: ignore[type-var]
    (line,) = out(capsys, "history").splitlines()[1:]
    assert line.split()[-3:-2] == ["nan"]


def test_history_for_programs(runs: Path, capsys: Capture) -> None:
    directory = record(runs, story())
    written = json.loads((directory / "run.json").read_text())
    found = json.loads(out(capsys, "history", "--json"))
    assert (found["schema"], found["unreadable"]) == (1, [])
    (listed,) = found["runs"]
    assert '"layers"' in json.dumps(written)
    assert '"layers"' not in json.dumps(listed)
    checks = listed["attempts"][1]["phases"][2]["checks"]
    assert checks[1]["measured"] == {"exact": True}
    assert {**listed, "attempts": None} == {
        **written, "attempts": None, "directory": directory.name,
    }  # fmt: skip
    (row,) = csv.DictReader(io.StringIO(out(capsys, "history", "--csv")))
    assert (row["run"], row["failures"], row["metrics.loss"]) == (
        directory.name, "dead_neurons", "17.25",
    )  # fmt: skip
    assert out(capsys, "history", "--md").count("|") == 30


def test_names_cannot_write_lines_of_their_own(runs: Path, capsys: Capture) -> None:
    record(runs, story())
    (runs / "a\nb\x1b[31m").mkdir()
    assert orchestrate(["history"]) == 0
    said = capsys.readouterr().err
    assert said.startswith("warning: runs/a?b?[31m is not listed: no run: ")
    assert len(said.splitlines()) == 1
    assert orchestrate(["show", "a\nb\x1b[31m"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: runs/a?b?[31m: no run: ")
    assert len(said.splitlines()) == 1


def process(*arguments: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "orchestrator", *arguments]
    given: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root, **given.pop("env", {})}
    return subprocess.run(command, env=environment, check=False, **given)


@pytest.mark.parametrize("arguments", [["history"], ["history", "--json"], ["show", "latest"]])
def test_a_full_disk_behind_stdout_is_said_once(arguments: list[str], runs: Path) -> None:
    record(runs, story())
    with open("/dev/full", "wb") as full:
        done = process(*arguments, stdout=full)
    assert done.returncode == 75
    assert (
        done.stderr
        == b"error: the disk is full: No space left on device; free some space, and do it again\n"
    )


@pytest.mark.parametrize("form", [[], ["--json"], ["--csv"]])
def test_a_reader_who_has_seen_enough_may_leave(form: list[str], runs: Path) -> None:
    record(runs, story())
    reading, writing = os.pipe()
    os.close(reading)
    done = process("history", *form, stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    "arguments", [["history"], ["compare", "latest@1", "latest@2"], ["logs", "latest"],
                  ["show", "latest"]],
)  # fmt: skip
def test_a_terminal_of_ascii_gets_ascii(arguments: list[str], runs: Path) -> None:
    record(runs, story(loss=1e3))
    done = process(*arguments, env={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0
    assert done.stdout.isascii()
    assert b"?" not in done.stdout


@pytest.mark.parametrize("arguments", [["history"], ["show", "latest"], ["prune", "--keep", "1"]])
@pytest.mark.parametrize(
    ("folder", "reason"),
    [("notes.txt/runs", "Not a directory"), ("r" * 300, "File name too long")],
)
def test_a_folder_of_runs_that_cannot_be_read_is_said_once(
    arguments: list[str], folder: str, reason: str, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "notes.txt").touch()
    assert orchestrate([*arguments, "--runs-dir", folder]) == 2
    said = f"error: {folder}: cannot be read: {reason}; --runs-dir names another folder\n"
    assert capsys.readouterr() == ("", said)


@pytest.fixture
def pager(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a `less` that keeps in it its options and what it shows."""
    folder = tmp_path_factory.mktemp("pager")
    program = folder / "less"
    program.write_text(f'#!/bin/sh\ncd {folder}\necho "$LESS $*" > options\ncat > shown\n')
    program.chmod(0o755)
    return folder


@pytest.mark.parametrize(
    ("environment", "options", "colored"),
    [
        ({}, "-R \n", True),
        ({"LESS": "-FRX"}, "-FRX \n", True),
        ({"PAGER": "less -S"}, " -S\n", False),
        ({"NO_COLOR": "1"}, " \n", False),
    ],
)
def test_a_pager_gets_only_the_colours_that_it_shows(
    environment: dict[str, str], options: str, colored: bool, runs: Path, pager: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for name in ("LESS", "PAGER", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    record(runs, story(loss=1e3), name="a-rather-long-name")
    with terminal() as end:
        done = process("history", stdin=end, stdout=end, env=environment | {
            "PATH": f"{pager}:{os.environ['PATH']}", "TERM": "xterm", "LINES": "1", "COLUMNS": "60",
            "PYTHONIOENCODING": "ascii",
        })  # fmt: skip
    assert done.returncode == 0
    assert (pager / "options").read_text() == options
    shown = (pager / "shown").read_bytes()
    assert (b"\x1b" in shown) is colored
    assert b"\na-rath~" in shown
    assert shown.isascii()


@contextlib.contextmanager
def terminal() -> Iterator[int]:
    """The end of a terminal that a program has."""
    ours, theirs = os.openpty()
    try:
        yield theirs
    finally:
        os.close(theirs)
        os.close(ours)


# show


def test_show_tells_cause_change_and_result(runs: Path, capsys: Capture) -> None:
    events = story(attempts=3, loss=1e3)
    finding = Finding(cause="unscaled_inputs", reason="x is in millions", certain=False)
    ended = next(i for i, each in enumerate(events) if type(each).__name__ == "AttemptEnded")
    events.insert(ended, CausesFound(attempt=1, findings=(finding,)))
    candidates = (Candidate(seed=7, reason="all dead"), Candidate(seed=8, reason=None))
    built = [i for i, each in enumerate(events) if type(each).__name__ == "ModelBuilt"]
    events.insert(built[1], SeedsScreened(attempt=2, seed=8, candidates=candidates))
    name = record(runs, events).name
    shown = out(capsys, "show", name[:-2])
    for text in (
        f"{name}  passed · 3 attempts",
        "Attempt 1 · as configured: seed 7 · failed dead_neurons at warmup · skill 0.5 · 20.5 s",
        "  why: what dead_neurons says",
        "  the evidence points to: x is in millions",
        "  ↓ for dead_neurons, lower_learning_rate: learning rate at most 0.05",
        "Attempt 2 · failed dead_neurons at warmup · skill 0.5 · 20.5 s · lower_learning_rate did",
        "1 of 2 seeds were dead before training (7: all dead); trained with seed 8",
        "Attempt 3 · passed · skill 0.5 · 20.5 s · lower_learning_rate helped",
        "  loss      █▅▄▃▂▁▁▁▁▁  2e+04 → 17.25, log scale",
        "  main · 8 epochs · 1.5 s · loss 17.25 · val_loss 18.98",
        "    pass  prediction_variance  skill 0.5",
        "    dense_1  ████████████░░░░░░░░░░░░  16/32",
        "run.json",
    ):
        assert text in shown, text
    assert shown.count("warmup · 2 epochs") == 3
    assert shown.count("dense_1  █") == 3  # of each attempt's last phase
    assert out(capsys, "show", f"{name}@3").count("warmup · 2 epochs") == 1


def test_show_for_programs(runs: Path, capsys: Capture) -> None:
    directory = record(runs, story())
    written = json.loads((directory / "run.json").read_text())
    assert json.loads(out(capsys, "show", "latest", "--json")) == written
    attempt = json.loads(out(capsys, "show", "latest@2", "--json"))
    assert attempt.items() >= written["attempts"][1].items()
    first, second = csv.DictReader(io.StringIO(out(capsys, "show", "latest", "--csv")))
    assert (first["failed"], second["learning_rate_cap"]) == ("dead_neurons", "0.05")
    assert "| 2 | passed | lower_learning_rate |" in out(capsys, "show", "latest@2", "--md")


def test_show_of_a_run_in_progress_says_what_it_is_doing(runs: Path, capsys: Capture) -> None:
    events = [event for event in story(loss=1e3) if not isinstance(event, RunEnded)][:-4]
    directory = record(runs, events)
    with filelock.FileLock(Paths(directory).lock):
        assert "  running: attempt 2, main 7/8 · 2 attempts · " in out(capsys, "show", "latest")
    assert "  interrupted · 2 attempts · " in out(capsys, "show", "latest")


@pytest.mark.parametrize(
    ("resolved", "told"),
    [
        ("model: {factory: 'm:build'}", "to go on with it: orchestrate resume case-"),
        ("model: {given: 'm:build'}", "to begin it anew: call retrain() again; what it was given"),
        ("data: {train: {given: '100 rows'}}", "to begin it anew: call retrain() again; what it"),
    ],
)
def test_what_retrain_was_given_goes_on_by_no_command(
    resolved: str, told: str, runs: Path, capsys: Capture
) -> None:
    directory = record(runs, story(loss=1e3)[:-1], resolved=f"{resolved}\n")
    assert f"\n{told}" in out(capsys, "show", "latest")
    summarized = summarize_run(archive.read(directory), directory)
    charts.stdout().print(summarized)
    assert f"\n{told[0].upper()}{told[1:]}" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["copy", "."])
def test_a_copy_goes_by_its_directory(
    name: str, runs: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copytree(record(runs, story()), runs / "copy")
    if name == ".":
        monkeypatch.chdir(copy)
    assert out(capsys, "show", name).startswith("copy  passed · ")


def test_a_rate_of_single_precision_is_shown_as_it_was_written(runs: Path, capsys: Capture) -> None:
    directory = record(runs, story())
    text = (directory / "run.json").read_text()
    (directory / "run.json").write_text(text.replace("0.05", "0.0005000000237487257"))
    assert "| 0.0005 |" in out(capsys, "show", "latest", "--md")
    assert ",0.0005000000237487257," in out(capsys, "show", "latest", "--csv")


def test_show_survives_what_is_missing(runs: Path, capsys: Capture) -> None:
    directory = record(runs, story(loss=math.inf))
    for name in ("journal.jsonl", "environment.json", "resolved.yaml"):
        (directory / name).unlink()
    assert "passed · 2 attempts" in out(capsys, "show", "latest")
    (directory / "run.json").write_text("{")
    assert orchestrate(["show", "latest"]) == 2
    assert "there are no runs" in capsys.readouterr().err
    assert orchestrate(["show", directory.name]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: runs/{directory.name}: run.json is damaged: ")
    assert "Traceback" not in said


@pytest.mark.parametrize("command", ["show", "compare", "logs"])
def test_an_unknown_run_is_refused_with_the_closest(
    command: str, runs: Path, capsys: Capture
) -> None:
    name = record(runs, story()).name
    given = [name.replace("case", "cast")] * (2 if command == "compare" else 1)
    assert orchestrate([command, *given]) == 2
    assert f"did you mean '{name}'?" in capsys.readouterr().err


def test_an_unknown_attempt_is_refused(runs: Path, capsys: Capture) -> None:
    record(runs, story())
    for command in (["show", "latest@3"], ["compare", "latest@1", "latest@3"]):
        assert orchestrate(command) == 2
        said = capsys.readouterr().err
        assert "latest@3: there is no attempt 3; it has attempts 1 to 2" in said
    assert orchestrate(["show", "latest@one"]) == 2
    assert "expected a number after the @, received 'one'" in capsys.readouterr().err


# compare


def test_compare_shows_only_what_differs(runs: Path, capsys: Capture) -> None:
    first = record(runs, story(loss=1e3)).name
    resolved = "version: 1\nseed: 8\ndata:\n  train: {npz: rows.npz}\n"
    second = record(runs, story(attempts=1, loss=1e3, passes=False), resolved=resolved,
                    environment={"packages": {"keras": "3.16.0"}}).name  # fmt: skip
    lines = [" ".join(line.split()) for line in out(capsys, "compare", first, second).splitlines()]
    assert lines[0] == f"differs {first} {second}"
    for line in (
        "settings.seed 7 8",
        "settings.attempt.learning_rate_cap 0.05 –",
        "data.fingerprint sha256:000000000000… –",
        "environment.packages.keras 3.15.1 3.16.0",
        "results.status passed exhausted",
        "results.failed – dead_neurons at warmup",
        "results.metrics.loss 17.25 1000",
    ):
        assert line in lines, line
    assert not any(line.startswith(("settings.version", "results.dead_units")) for line in lines)
    found = json.loads(out(capsys, "compare", first, second, "--json"))
    assert found["compared"] == [first, second]
    assert {"fact": "settings.seed", "values": [7, 8]} in found["differences"]
    assert len(found["differences"]) == len(lines) - 1


def test_compare_puts_attempts_side_by_side(runs: Path, capsys: Capture) -> None:
    name = record(runs, story(loss=1e3)).name
    shown = out(capsys, "compare", f"{name}@1", f"{name}@2", "--md")
    assert f"| differs | {name}@1 | {name}@2 |" in shown
    assert "| settings.attempt.learning_rate_cap | – | 0.05 |" in shown
    assert "| results.status | failed | passed |" in shown
    assert "environment" not in shown


def test_compare_finds_nothing_in_the_same_run(runs: Path, capsys: Capture) -> None:
    record(runs, story())
    assert out(capsys, "compare", "latest", "latest") == "nothing differs\n"
    assert orchestrate(["compare", "latest"]) == 2
    assert "expected two runs or attempts at least" in capsys.readouterr().err


def test_a_loss_of_nan_is_the_loss_of_nan(runs: Path, capsys: Capture) -> None:
    record(runs, story(attempts=1, passes=False))
    assert out(capsys, "compare", "latest", "latest") == "nothing differs\n"
    assert json.loads(out(capsys, "compare", "latest", "latest", "--json"))["differences"] == []


# logs


def test_logs_tell_what_happened_and_what_was_printed(runs: Path, capsys: Capture) -> None:
    directory = record(runs, story(loss=1e3))
    log = Paths(directory).attempt(1).log
    log.write_bytes("hello\nbar 10%\rbar 100%\nlast wörds".encode())
    lines = [line[10:] for line in out(capsys, "logs", "latest").splitlines()]
    ended = lines.index("attempt 1 failed: dead_neurons after 20.5 s")
    assert lines[ended - 3 : ended] == ["| hello", "| bar 100%", "| last wörds"]
    for line in ("warmup: 2 epochs at learning rate 0.01", "run passed: attempt 2 passed",
                 "main: epoch 10: loss 17.25 · val_loss 18.98"):  # fmt: skip
        assert line in lines


def test_logs_for_programs(runs: Path, capsys: Capture) -> None:
    directory = record(runs, story())
    found = json.loads(out(capsys, "logs", "latest", "--json"))["events"]
    assert len(found) == len((directory / "journal.jsonl").read_text().splitlines())
    assert found[0]["event"] == "run_started"
    assert [event["epoch"] for event in found if event["event"] == "epoch_ended"][-1] == 10
    rows = list(csv.DictReader(io.StringIO(out(capsys, "logs", "latest", "--csv"))))
    assert rows[-1]["event"] == "run_ended"
    assert orchestrate(["logs", "-f", "latest", "--json"]) == 2


FOLLOWED = """
import sys, time
from pathlib import Path
from orchestrator.record.events import RunStarted, Heartbeat
from orchestrator.record.storage import store
from orchestrator.record.records import Inputs
from tests.story import story

made = store.create(Path("runs"), name="case", config=b"", resolved="", environment={},
                    inputs=Inputs(), fingerprint=None)
print("made", flush=True)
for event in story(loss=1e3):
    if not isinstance(event, Heartbeat | RunStarted):
        made.record(event)
        time.sleep(0.05)
    if type(event).__name__ == sys.argv[1]:
        break
time.sleep(float(sys.argv[2]))
"""


def test_logs_of_a_run_that_was_killed_end_with_that(runs: Path, capsys: Capture) -> None:
    directory = record(runs, story()[:9])
    last = "the run is interrupted: its process ended without a word"
    assert out(capsys, "logs", "latest").splitlines()[-1] == last
    with filelock.FileLock(Paths(directory).lock):
        assert last not in out(capsys, "logs", "latest")


def test_logs_keep_the_blanks_of_what_was_printed(runs: Path, capsys: Capture) -> None:
    directory = record(runs, story(loss=1e3))
    Paths(directory).attempt(1).log.write_bytes(b"Traceback:\n  File x\n\tcode   # \x1b[1mhere\n")
    lines = out(capsys, "logs", "latest").splitlines()
    start = lines.index("          | Traceback:")
    assert lines[start + 1 : start + 3] == [
        "          |   File x", "          |         code   # ?[1mhere",
    ]  # fmt: skip


def test_logs_tell_what_failed_attempts_point_to_from_what_is_worth_knowing() -> None:
    finding = Finding(cause="overfitting", reason="0.97 and -0.38", advice="take more rows")
    event = CausesFound(attempt=1, findings=(finding,))
    assert [*logs.lines(event)] == ["the evidence points to: 0.97 and -0.38: take more rows"]
    passed = replace(event, failed=False)
    assert [*logs.lines(passed)] == ["worth knowing: 0.97 and -0.38: take more rows"]


def test_compare_has_what_each_side_points_to(runs: Path, capsys: Capture) -> None:
    events = story(attempts=1, loss=1e3)
    finding = Finding(cause="overfitting", reason="0.97 and -0.38")
    ended = next(i for i, each in enumerate(events) if type(each).__name__ == "AttemptEnded")
    pointing = [*events[:ended], CausesFound(attempt=1, findings=(finding,)), *events[ended:]]
    names = [record(runs, each).name for each in (events, pointing)]
    shown = " ".join(out(capsys, "compare", *names).split())
    assert "results.causes – overfitting" in shown


def test_logs_say_once_that_an_attempt_crashed() -> None:
    failure = Failure(check="crashed", phase=None, reason="killed")
    event = AttemptEnded(attempt=1, status="crashed", failure=failure, seconds=1.1)
    assert list(logs.lines(event)) == ["attempt 1 crashed after 1.1 s"]


@pytest.mark.parametrize(
    ("until", "last"),
    [("RunEnded", "run passed: attempt 2 passed"),
     ("PhaseStarted", "the run is interrupted: its process ended without a word")],
)  # fmt: skip
def test_logs_follow_a_run_of_another_process_to_its_end(
    until: str, last: str, capsys: Capture
) -> None:
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", FOLLOWED, until, "60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as runner:
        assert runner.stdout is not None
        assert runner.stdout.readline() == b"made\n"
        follower = subprocess.Popen(
            [sys.executable, "-m", "orchestrator", "logs", "-f", "latest"],
            stdout=subprocess.PIPE, env=environment, text=True,
        )  # fmt: skip
        if until == "PhaseStarted":
            time.sleep(1.5)
            runner.send_signal(signal.SIGKILL)
        said, _ = follower.communicate(timeout=60)
        runner.kill()
    lines = said.splitlines()
    assert follower.returncode == 0
    assert lines[-1].endswith(last)
    assert lines[0].endswith(f"run {find.run_names(Path('runs'))[0]}")
    if until == "RunEnded":
        assert out(capsys, "logs", "latest").splitlines() == lines


def test_logs_follow_a_run_that_is_taken_up(runs: Path) -> None:
    directory = record(runs, interrupted())
    slept = []
    with filelock.FileLock(Paths(directory).lock) as lock:

        def sleep(seconds: float) -> None:
            slept.append(seconds)
            lock.release()

        *_, last = logs.follow_run(directory, wait=True, sleep=sleep)
    assert len(slept) == 1
    assert "interrupted by SIGINT" in last


# rm, prune


def test_rm_moves_runs_into_the_trash_and_they_can_be_moved_back(
    runs: Path, capsys: Capture
) -> None:
    directory = record(runs, story())
    before = sorted(path.relative_to(directory) for path in directory.rglob("*"))
    assert f"would move {directory.name}" in out(capsys, "rm", "latest", "--dry-run")
    assert directory.exists()
    assert f"moved {directory.name} (" in out(capsys, "rm", directory.name)
    moved = runs / ".trash" / directory.name
    assert sorted(path.relative_to(moved) for path in moved.rglob("*")) == before
    assert "there are no runs" in out(capsys, "history")
    moved.rename(directory)
    assert directory.name in out(capsys, "history")
    shutil.copytree(directory, moved)
    found = json.loads(out(capsys, "rm", "latest", "--json"))
    assert found["runs"][0]["moved_to"] == str((runs / ".trash" / f"{directory.name}.2").resolve())


def test_rm_refuses_a_run_in_progress_and_what_is_no_run(runs: Path, capsys: Capture) -> None:
    directory, other = record(runs, story()[:5]), record(runs, story())
    with filelock.FileLock(Paths(directory).lock):
        assert orchestrate(["rm", other.name, directory.name]) == 2
        assert f"{directory.name}: is in progress" in capsys.readouterr().err
        assert other.exists()  # all or none
        assert "there is nothing to move" in out(capsys, "prune", "--keep", "2")
    (runs / "notes").mkdir()
    assert orchestrate(["rm", "notes"]) == 2
    assert "notes: is no run" in capsys.readouterr().err


def test_a_run_that_vanishes_before_it_is_moved_leaves_nothing(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = record(runs, story())
    monkeypatch.setattr(trash, "expect_idle", lambda each: shutil.rmtree(each))
    with pytest.raises(InvalidError, match="cannot be moved: No such file"):
        trash.move_to_trash([directory])
    assert not directory.exists() and not (runs / ".trash").exists()


def test_prune_leaves_a_run_that_is_taken_up(runs: Path, capsys: Capture) -> None:
    directory, other = record(runs, interrupted()), record(runs, story())
    with filelock.FileLock(Paths(directory).lock):
        assert f"moved {other.name} " in out(capsys, "prune", "--keep", "0")
        assert find.run_names(runs) == [directory.name]
    assert f"moved {directory.name} " in out(capsys, "prune", "--keep", "0")


def test_prune_keeps_the_newest(runs: Path, capsys: Capture) -> None:
    names = []
    for day in range(1, 5):
        directory = record(runs, story(passes=day != 2))
        text = (directory / "run.json").read_text()
        (directory / "run.json").write_text(text.replace('"started": "', f'"started": "202{day}'))
        names.append(directory.name)
    assert (
        json.loads(out(capsys, "prune", "--keep", "3", "--dry-run", "--json"))["runs"][0]["run"]
        == names[0]
    )
    assert len(find.run_names(runs)) == 4
    out(capsys, "prune", "--keep", "0", "--status", "exhausted")
    assert find.run_names(runs) == sorted([names[0], *names[2:]])
    out(capsys, "prune", "--keep", "1")
    assert find.run_names(runs) == names[3:]


def test_a_run_that_is_named_twice_is_moved_once(runs: Path, capsys: Capture) -> None:
    directory = record(runs, story())
    shown = out(
        capsys, "rm", directory.name, str(directory.resolve()), f"runs/../runs/{directory.name}"
    )
    assert shown.count("moved ") == 1
    assert "1 run, " in shown
    assert [path.name for path in (runs / ".trash").iterdir()] == [directory.name]


def test_where_one_run_cannot_be_moved_none_is(runs: Path, capsys: Capture, tmp_path: Path) -> None:
    first = record(runs, story())
    blocked = record(tmp_path / "elsewhere", story())
    (tmp_path / "elsewhere" / ".trash").write_text("not a folder")
    assert orchestrate(["rm", first.name, str(blocked)]) == 2
    said = capsys.readouterr().err
    assert f"{blocked}: cannot be moved: {tmp_path}/elsewhere/.trash is no folder" in said
    assert first.exists()
    assert blocked.exists()
    assert not list((runs / ".trash").iterdir())


def test_a_link_is_moved_and_its_target_stays(runs: Path, capsys: Capture, tmp_path: Path) -> None:
    target = record(tmp_path / "elsewhere", story())
    record(runs, story())
    (runs / "link").symlink_to(target)
    shown = out(capsys, "rm", "link")
    assert "moved link (0 bytes)" in shown
    assert f"now in {runs}/.trash: " in shown
    assert target.exists()
    assert (runs / ".trash" / "link").is_symlink()


def test_prune_takes_links_and_what_they_stand_for(runs: Path, capsys: Capture) -> None:
    directory = record(runs, story())
    (runs / "a-link").symlink_to(directory)
    (runs / "z-link").symlink_to(directory)
    assert "3 runs, " in out(capsys, "prune", "--keep", "0")
    assert find.run_names(runs) == []
    assert len(list((runs / ".trash").iterdir())) == 3


def test_what_is_in_the_trash_is_not_moved_into_it(runs: Path, capsys: Capture) -> None:
    directory = record(runs, story())
    out(capsys, "rm", "latest")
    assert orchestrate(["rm", f"runs/.trash/{directory.name}"]) == 2
    assert "is in the trash already; delete it there" in capsys.readouterr().err


def test_rm_suggests_no_other_run(runs: Path, capsys: Capture) -> None:
    name = record(runs, story()).name
    assert orchestrate(["rm", name.replace("case", "cast")]) == 2
    said = capsys.readouterr().err
    assert "did you mean" not in said
    assert "`orchestrate history` lists them" in said


# all of them


def test_none_of_them_imports_tensorflow(runs: Path) -> None:
    record(runs, story())
    code = (
        "import sys\nfrom orchestrator.cli.app import execute\n"
        "for given in (['history'], ['history', '--json'], ['show', 'latest'], "
        "['compare', 'latest', 'latest'], ['logs', 'latest'], ['prune', '--keep', '1']):\n"
        "    assert execute(given) == 0, given\n"
        "print([name for name in ('tensorflow', 'keras', 'numpy') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_record_is_what_the_journal_says(runs: Path) -> None:
    directory = record(runs, story(layers=LAYERS))
    from orchestrator.record.storage import archive

    entries = archive.events(directory)
    assert jsonable(archive.read(directory)) == jsonable(replay(entries))
    assert started(1).attempt == 1
