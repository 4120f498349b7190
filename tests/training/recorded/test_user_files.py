"""Which of the user's files a run depends on, and their digests."""

from __future__ import annotations

from pathlib import Path

from orchestrator.training.recorded.user_files import digests, user_files
from tests.conftest import LINE_CODE, MakeConfig


def test_what_a_module_imports_is_followed_within_the_folder(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    package = tmp_path / "parts"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "near.py").write_text("from . import far\nimport os, rows\n")
    (package / "far.py").write_text("import numpy\nimport nowhere\n")
    (package / "unused.py").write_text("")
    (tmp_path / "helper.py").write_text("def broken(:\n")
    config = make_config("from parts import near\nimport helper\n")
    expected = {"rows.py", "helper.py", "parts/__init__.py", "parts/near.py", "parts/far.py"}
    assert user_files(config) == {str(tmp_path / name) for name in expected}
    assert set(digests(config)) == expected


def test_a_digest_is_of_the_bytes(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config()
    before = digests(config)
    assert set(before) == {"rows.py"}
    (tmp_path / "rows.py").write_text(LINE_CODE + "\n")
    assert digests(config)["rows.py"] != before["rows.py"]
    (tmp_path / "rows.py").write_text(LINE_CODE)
    assert digests(config) == before
    (tmp_path / "rows.py").unlink()
    assert digests(config) == {}
    assert user_files(config) == {str(tmp_path / "rows.py")}
