"""The examples in the docstrings of what the package exports."""

import doctest
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import orchestrator

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", ["diagnose", "retrain", "run"])
def test_examples(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They train small models, and write runs/ into the current folder, which has configs/."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    monkeypatch.chdir(tmp_path)
    function: Callable[..., Any] = getattr(orchestrator, name)
    # As in a program of the user's, in which a function cannot be imported by its module's name.
    (example,) = doctest.DocTestFinder().find(function, name, globs={"__name__": "__main__"})
    said: list[str] = []
    found = doctest.DocTestRunner().run(example, out=said.append)
    assert found.attempted > 0
    assert found.failed == 0, "".join(said)
