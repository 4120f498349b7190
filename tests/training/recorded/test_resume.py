"""`orchestrate resume` and `orchestrate CONFIG --resume`: what goes on, and what is refused."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.app import execute as orchestrate
from orchestrator.config import yaml12
from orchestrator.record.events import AttemptStarted, EpochEnded, Event, PhaseEnded
from orchestrator.record.storage import archive, journal, ownership
from orchestrator.record.storage.directory import Paths
from orchestrator.training.attempt import checkpoints
from orchestrator.training.recorded import unfinished
from tests.conftest import LINE, LINE_CODE, merged
from tests.story import record, story

pytestmark = pytest.mark.usefixtures("_module_in_this_process")
Capture = pytest.CaptureFixture[str]

TWICE: dict[str, Any] = {
    "model": {
        "layers": [
            {"Dense": {"units": 8, "activation": "relu"}},
            {"Dropout": {"rate": 0.1}},
            {"Dense": {"units": 1}},
        ]
    },
    "compile": {**LINE["compile"], "run_eagerly": True},
    "phases": [{"name": "warmup", "epochs": 2}, {"name": "main", "epochs": 3}],
    # No loss is so low: both attempts fail, and the policy has an end.
    "checks": {"metric": {"name": "loss", "max": 1e-12}},
    "restart": {"policy": [{"remedy": "new_seed", "times": 1}]},
}
"""A run of two attempts, each of which fails after its first phase."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never cut short."""
    root = tmp_path_factory.mktemp("whole")
    folder = root / "project"
    folder.mkdir()
    (folder / "rows.py").write_text(LINE_CODE)
    config = folder / "case.yaml"
    config.write_text(yaml12.dump(merged(LINE, TWICE)))
    assert orchestrate([str(config), "--quiet", "--runs-dir", str(root / "runs")]) == 3
    (directory,) = (root / "runs").glob("case-*")
    return directory


@pytest.fixture
def runs(tmp_path: Path, whole: Path) -> Path:
    """A folder of runs beside a copy of the project, which is at its place of then no more."""
    shutil.copytree(whole.parents[1] / "project", tmp_path / "project")
    return tmp_path / "runs"


def cut(whole: Path, runs: Path, after: Callable[[Event], bool]) -> Path:
    """A copy of a run as if it had been killed after an event."""
    directory = Path(shutil.copytree(whole, runs / whole.name))
    paths = Paths(directory)
    entries = journal.read(paths.journal)
    last = next(each.number for each in entries if after(each.event))
    lines = paths.journal.read_bytes().splitlines(keepends=True)
    paths.journal.write_bytes(b"".join(lines[:last]) + b'{"crc":"0000')
    paths.record.unlink()
    return directory


def second_attempt(event: Event) -> bool:
    return isinstance(event, AttemptStarted) and event.attempt == 2


def refusal(capsys: Capture, *arguments: str) -> str:
    """What is said instead of going on."""
    assert orchestrate([*arguments, "--json", "--quiet"]) == 2
    (found,) = json.loads(capsys.readouterr().out)["problems"]
    return f"{found['file']}: {found['message']}; {found['hint']}"


def files(directory: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(directory)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in [directory, *directory.rglob("*")]
    }


def told(directory: Path) -> list[Any]:
    """What a run came to, without what may differ."""
    run = archive.read(directory)
    return [
        (each.attempt, each.status, each.settings, each.changed, each.failure, phase.phase,
         phase.weights, phase.metrics)
        for each in run.attempts
        for phase in each.phases
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("passes", "code", "said"), [(True, 0, "Model"), (False, 3, "the policy has no rung left")]
)
def test_a_finished_run_is_printed_as_it_ended(
    tmp_path: Path, capsys: Capture, passes: bool, code: int, said: str
) -> None:
    directory = record(tmp_path, story(loss=1e3, passes=passes))
    (directory / "model.keras").touch()
    before = files(directory)
    assert orchestrate(["resume", str(directory)]) == code
    assert said in capsys.readouterr().out
    assert orchestrate(["resume", str(directory), "--json", "--quiet"]) == code
    assert json.loads(capsys.readouterr().out)["run"] == directory.name
    assert files(directory) == before


def test_a_run_in_progress_is_refused(whole: Path, runs: Path, capsys: Capture) -> None:
    directory = cut(whole, runs, second_attempt)
    lock = ownership.acquire(Paths(directory).lock)
    said = refusal(capsys, "resume", str(directory))
    assert f"{directory.name}: the run is in progress: process {os.getpid()} on " in said
    lock.release()


@pytest.mark.slow
@pytest.mark.parametrize(
    "after",
    [
        lambda event: True,
        lambda event: isinstance(event, EpochEnded),
        lambda event: isinstance(event, PhaseEnded) and event.phase.phase == "warmup",
        second_attempt,
    ],
    ids=["before the first attempt", "in a phase", "after a phase", "between attempts"],
)
def test_what_was_cut_short_ends_as_the_whole(
    whole: Path, runs: Path, capsys: Capture, after: Callable[[Event], bool]
) -> None:
    directory = cut(whole, runs, after)
    assert orchestrate(["resume", str(directory)]) == 3
    assert told(directory) == told(whole)
    assert "Run case-" in capsys.readouterr().err
    assert archive.read(directory).warnings == archive.read(whole).warnings


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES])
def test_a_checkpoint_that_cannot_be_written_cuts_the_run_short(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture, code: int
) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(code, os.strerror(code))

    config, runs = whole.parents[1] / "project/case.yaml", tmp_path / "runs"
    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, "save", fail)
        assert orchestrate([str(config), "--quiet", "--runs-dir", str(runs)]) == 75
    (directory,) = runs.iterdir()
    run = archive.read(directory)
    assert (run.status, [each.status for each in run.attempts]) == ("interrupted", ["interrupted"])
    # What goes on is said once, with the folder of the runs.
    assert "resume" not in str(run.conclusion)
    shown = "".join(capsys.readouterr().out.split())  # in lines as narrow as the terminal
    assert shown.count("orchestrateresume") == 1
    assert f"Togoonwithit:orchestrateresume{directory}" in shown
    assert orchestrate(["resume", str(directory), "--quiet"]) == 3
    assert told(directory) == told(whole)


def test_changed_code_is_refused_by_its_file(whole: Path, runs: Path, capsys: Capture) -> None:
    directory = cut(whole, runs, second_attempt)
    project = runs.parent / "project"
    with (project / "rows.py").open("a") as file:
        file.write("\n# changed\n")
    before = files(directory)
    said = refusal(capsys, "resume", str(directory), "--base", str(project))
    assert "since the run began, rows.py has changed" in said
    assert "--force goes on" in said
    assert files(directory) == before


@pytest.mark.slow
def test_other_data_is_refused_and_may_be_forced(whole: Path, runs: Path, capsys: Capture) -> None:
    directory = cut(whole, runs, second_attempt)
    project = runs.parent / "project"
    rows = (project / "rows.py").read_text().replace("slope=1.0", "slope=2.0")
    (project / "rows.py").write_text(rows)
    environment = Paths(directory).environment
    value = json.loads(environment.read_text())
    value["code"] = None  # as in runs that are older than the digests
    environment.write_text(json.dumps(value))
    said = refusal(capsys, "resume", str(directory), "--base", str(project))
    assert "the data is not what it was" in said
    arguments = ["resume", str(directory), "--base", str(project), "--force", "--json", "--quiet"]
    assert orchestrate(arguments) == 3
    found = json.loads(capsys.readouterr().out)
    assert found["warnings"][0] == (
        "resumed with --force: the data is not what it was, its hash is another"
    )
    assert "whether your code is what it was is not known" in found["warnings"][1]


def test_a_folder_that_is_gone_is_asked_for(whole: Path, runs: Path, capsys: Capture) -> None:
    directory = cut(whole, runs, second_attempt)
    resolved = Paths(directory).resolved
    resolved.write_text(resolved.read_text().replace("project", "gone"))
    assert "--base DIR says where it is now" in refusal(capsys, "resume", str(directory))


@pytest.mark.slow
def test_a_config_takes_up_its_newest_run_or_begins_one(
    whole: Path, runs: Path, capsys: Capture
) -> None:
    directory = cut(whole, runs, second_attempt)
    config = str(whole.parents[1] / "project" / "case.yaml")
    given = [config, "--resume", "--quiet", "--runs-dir", str(runs)]
    lock = ownership.acquire(Paths(directory).lock)
    assert f"{directory.name}: the run is in progress" in refusal(capsys, *given)
    lock.release()
    assert orchestrate(given) == 3
    assert f"Run {directory.name} in " in capsys.readouterr().err
    assert told(directory) == told(whole)
    assert orchestrate(given) == 3
    assert "no run of case in" in capsys.readouterr().err
    assert len([each for each in runs.iterdir() if each.name[0] != "."]) == 2
    assert not list(runs.glob(".resume*"))


def test_what_was_laid_over_the_config_is_part_of_it(whole: Path, runs: Path) -> None:
    from orchestrator.config.load import load

    directory = cut(whole, runs, second_attempt)
    config = whole.parents[1] / "project" / "case.yaml"
    assert unfinished.find(runs, load(config)) == directory
    assert unfinished.find(runs, load(config, ["seed=1"])) is None


def test_only_one_process_takes_up_a_config(whole: Path, runs: Path, capsys: Capture) -> None:
    from orchestrator.config.load import load

    config = whole.parents[1] / "project" / "case.yaml"
    with unfinished.taking_up(runs, load(config)) as found:
        assert found is None
        given = [str(config), "--resume", "--runs-dir", str(runs)]
        assert "`orchestrate case --resume` is in progress: process " in refusal(capsys, *given)
