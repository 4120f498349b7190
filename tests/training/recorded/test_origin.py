"""What a run was made from, and what of that has changed since."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from orchestrator.record import environment
from orchestrator.training.recorded import origin
from orchestrator.training.recorded.user_files import digests
from tests.conftest import LINE_CODE, MakeConfig


def test_files_that_changed_are_named(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config("import helper\n")
    (tmp_path / "helper.py").write_text("")
    then = environment.describe(tmp_path, None, digests(config))
    assert origin.changed_code(then, config) == ()
    assert origin.doubts(then, config) is None
    (tmp_path / "helper.py").unlink()
    (tmp_path / "other.py").write_text("")
    (tmp_path / "rows.py").write_text(f"import helper, other\n{LINE_CODE}")
    assert origin.changed_code(then, config) == (
        "helper.py is gone", "other.py is new", "rows.py has changed",
    )  # fmt: skip


def test_a_run_older_than_the_digests_has_its_commit(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    def commit(message: str) -> None:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        for words in (["init", "-q"], ["add", "."], ["commit", "-qm", message, "--allow-empty"]):
            command = ["git", "-C", str(tmp_path), *identity, *words]
            subprocess.run(command, check=True, capture_output=True)

    config = make_config()
    commit("first")
    then: dict[str, Any] = environment.describe(tmp_path, None)
    assert origin.changed_code(then, config) == ()
    assert "whether your code is what it was is not known" in (origin.doubts(then, config) or "")
    commit("second")
    (said,) = origin.changed_code(then, config)
    assert said.startswith("git commit ")
    assert origin.changed_code({**then, "git": None}, config) == ()


def test_other_versions_and_another_host_are_doubts(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config()
    then = environment.describe(tmp_path, "sha256:1", digests(config))
    then = {**then, "host": "elsewhere", "packages": {**then["packages"], "keras": "3.0.0"}}
    said = origin.doubts(then, config) or ""
    assert said.startswith("keras 3.0.0 then, ")
    assert "; host elsewhere then, " in said
    assert "data" not in said
    assert "cannot be read" in (origin.doubts({}, config) or "")
