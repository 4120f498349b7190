from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.record import environment

IDENTITY = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *IDENTITY, *arguments],
        check=True,
        capture_output=True,
        text=True,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(folder)},
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    (folder / "configs").mkdir(parents=True)
    (folder / "configs" / "model.yaml").write_text("a: 1\n")
    _git(folder, "init", "-q")
    _git(folder, "add", ".")
    _git(folder, "commit", "-qm", "first")
    return folder


def test_versions_host_arguments_and_data_are_named(tmp_path: Path) -> None:
    found = environment.describe(tmp_path, "f00d")
    assert found["schema"] == 1
    assert found["data"] == "f00d"
    assert found["argv"] == sys.argv
    assert found["cwd"] == str(Path.cwd())
    assert found["python"] == platform.python_version()
    assert found["host"] == platform.node()
    assert found["packages"]["numpy"].count(".") == 2
    assert json.loads(json.dumps(found)) == found


def test_outside_of_a_repository_there_is_no_commit(tmp_path: Path) -> None:
    assert environment.describe(tmp_path, None)["git"] is None


def test_a_repository_without_a_commit_has_none(tmp_path: Path) -> None:
    _git(tmp_path, "init", "-q")
    assert environment.describe(tmp_path, None)["git"] is None


def test_the_commit_of_the_folder_is_recorded(repository: Path) -> None:
    commit = _git(repository, "rev-parse", "HEAD")
    found = environment.describe(repository / "configs", None)["git"]
    assert found == {"commit": commit, "dirty": False}


def test_a_changed_file_makes_it_dirty_and_a_new_one_does_not(repository: Path) -> None:
    (repository / "runs").write_text("new")
    assert environment.describe(repository, None)["git"]["dirty"] is False
    (repository / "configs" / "model.yaml").write_text("a: 2\n")
    assert environment.describe(repository, None)["git"]["dirty"] is True


def test_a_git_hook_does_not_lead_to_another_repository(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(repository / ".git"))
    outside = tmp_path / "outside"
    outside.mkdir()
    assert environment.describe(outside, None)["git"] is None


def test_without_git_there_is_no_commit(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(repository))
    assert environment.describe(repository, None)["git"] is None
