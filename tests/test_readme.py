"""What the README says works: its commands, its snippet, its example of a config."""

import itertools
import os
import re
import shlex
import shutil
import typing
from pathlib import Path

import pytest

from orchestrator.cli.app import execute as orchestrate
from orchestrator.config import load as configs
from orchestrator.config.sections.restart import Case, Entry, Restart
from orchestrator.record.records import Cause
from tests import readme, searches
from tests.story import record, story

ROOT = Path(__file__).parents[1]
TRAINS = "orchestrate configs/retrain.yaml --resume"


@pytest.fixture
def _in_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the commands are run from: a folder with the shipped configs, a search and a run."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    searches.record(tmp_path / "runs", searches.search(started="2026-11-01T00:00:00+00:00"))
    record(tmp_path / "runs", story(loss=1e3))
    monkeypatch.chdir(tmp_path)


def test_the_blocks_that_install_are_what_ci_runs() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    for name, block in readme.installing().items():
        assert f"tests/readme.py {name}" in script
        assert len(block.splitlines()) == 1
    assert "orchestrate configs/model.yaml" in readme.installing()["run"]
    assert "pytest" in readme.installing()["test"]


def test_one_of_the_commands_trains() -> None:
    assert TRAINS in readme.commands()


def test_the_list_of_causes_has_each_of_them_once() -> None:
    named = [row.split("|")[1].strip(" `") for row in readme.table("cause")]
    assert named == [*typing.get_args(Cause)]


def test_another_python_is_refused_before_anything_is_said_of_packages() -> None:
    # The project says which Pythons it takes; the lock would miss some package for the others.
    environment, project, packages, _ = readme.installing()["run"].split(" && ")
    assert environment == "python3 -m venv .venv"
    assert project == ".venv/bin/pip install --no-deps ."
    assert packages == ".venv/bin/pip install -r requirements.lock"


@pytest.mark.slow
@pytest.mark.usefixtures("_in_a_copy", "_in_this_process")
@pytest.mark.parametrize("command", [each for each in readme.commands() if each != TRAINS])
def test_every_command_works(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    # What is replayed is what the command before it that trains has made.
    for each in [TRAINS, command] if "replay" in command else [command]:
        program, *arguments = shlex.split(each.partition(" > ")[0])
        assert program == "orchestrate"
        if arguments[0] == "tune":  # half the rate, as the config tries first, takes five attempts
            arguments += ["--set", "restart.policy.0.factor=0.01", "--set", "tune.max_trials=1"]
        assert orchestrate(arguments) == (3 if arguments[0] == "check" else 0)
        assert capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.usefixtures("_in_a_copy", "_in_this_process")
@pytest.mark.parametrize("snippet", readme.blocks("python"))
def test_every_snippet_works(snippet: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(snippet, {"__name__": "__main__"})
    *_, last = capsys.readouterr().out.splitlines()
    assert last.startswith(("passed ", "pass "))


@pytest.mark.usefixtures("_in_a_copy")
def test_the_example_of_a_config_loads(tmp_path: Path) -> None:
    example, _ = readme.blocks("yaml")
    path = tmp_path / "configs" / "example.yaml"
    path.write_text(example)
    assert configs.load(path).name == "airfoil"


def test_the_example_of_a_space_is_that_of_its_config() -> None:
    _, example = readme.blocks("yaml")
    assert example in (ROOT / "configs" / "tune.yaml").read_text()


def test_every_file_that_is_named_exists() -> None:
    for name in ("configs/model.yaml", "configs/data/README.md", "requirements.lock", "LICENSE"):
        assert (ROOT / name).exists()
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_the_table_of_restarts_is_the_default_policy() -> None:
    """A line of the table stands for a case, or for several that try the same."""
    lines = [line.split("|")[1:3] for line in readme.table("how it failed")]
    told = [
        (set(re.findall(r"`(\w+)`", how)), "" if what.strip() == "nothing" else what.strip())
        for how, what in lines
    ]
    tried = itertools.groupby(Restart().policy, _remedies)
    decided = [({name for entry in group for name in _names(entry)}, what) for what, group in tried]
    assert told == decided


def _remedies(entry: Entry) -> str:
    """What a line of the policy tries."""
    return ", ".join(rung.remedy for rung in (entry.rungs if isinstance(entry, Case) else [entry]))


def _names(case: Entry) -> set[str]:
    """What a line asks for."""
    if isinstance(case.when, list):
        return set(case.when)
    assert case.when is not None
    asked = {*(case.when.check or ()), *(case.when.kind or ()), *(case.when.cause or ())}
    return asked | ({"certain"} if case.when.certain else set())
