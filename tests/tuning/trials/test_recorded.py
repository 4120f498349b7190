"""What code a run depends on, and whether its commit tells it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from orchestrator.record import environment
from orchestrator.training.recorded.user_files import user_files
from tests.tuning.small import write


@pytest.mark.parametrize(
    "changes",
    [
        {"model": {"factory": {"callable": "rows:build"}}},
        {"model": {"layers": [{"rows:Wide": {"units": 4}}, {"Dense": {"units": 1}}]}},
        {"model": {"layers": [{"Dense": {"units": 1, "activation": "rows:bend"}}]}},
        {"compile": {"optimizer": "adam", "loss": "rows:distance"}},
        {"fit": {"callbacks": ["rows:stopper"]}},
        {"data": {"train": {"callable": "rows:line"}}},
    ],
)
def test_code_is_found_wherever_a_config_names_it(tmp_path: Path, changes: Any) -> None:
    assert user_files(write(tmp_path, **changes)) == {str(tmp_path / "rows.py")}


def test_a_config_of_layers_and_files_names_none(tmp_path: Path) -> None:
    assert not user_files(write(tmp_path))


def test_a_model_file_and_its_modules_are_some(tmp_path: Path) -> None:
    (tmp_path / "base.keras").write_bytes(b"")
    config = write(tmp_path, model={"file": "base.keras", "modules": ["rows"]})
    assert user_files(config) == {str(tmp_path / "base.keras"), str(tmp_path / "rows.py")}


def test_code_that_git_does_not_know_is_in_no_commit(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        subprocess.run(["git", "-C", tmp_path, *arguments], check=True, capture_output=True)

    (tmp_path / "rows.py").touch()
    (tmp_path / "base.keras").touch()
    (tmp_path / ".gitignore").write_text("*.keras")
    files = [str(tmp_path / "rows.py")]
    assert not environment.are_committed(tmp_path, files)
    git("init")
    assert not environment.are_committed(tmp_path, files)
    git("add", ".")
    assert environment.are_committed(tmp_path, files)
    assert not environment.are_committed(tmp_path, [*files, str(tmp_path / "base.keras")])
    assert not environment.are_committed(tmp_path, [str(tmp_path / "elsewhere.py")])
    (tmp_path / "helper.py").touch()
    assert not environment.are_committed(tmp_path, files)
