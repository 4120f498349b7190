"""The examples in the docstrings of what the package exports."""

import doctest
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import orchestrator

ROOT = Path(__file__).parents[1]

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("_in_this_process")]


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, Any]]:
    """Run the example of a function to the names that it leaves.

    They train small models, and write runs/ into the current folder, which has configs/.
    """
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    monkeypatch.chdir(tmp_path)

    def run(name: str) -> dict[str, Any]:
        function: Callable[..., Any] = getattr(orchestrator, name)
        # As in a program of the user's, where a function cannot be imported by its module's name.
        (found,) = doctest.DocTestFinder().find(function, name, globs={"__name__": "__main__"})
        said: list[str] = []
        results = doctest.DocTestRunner().run(found, out=said.append, clear_globs=False)
        assert results.attempted > 0
        assert results.failed == 0, "".join(said)
        return found.globs

    return run


@pytest.mark.parametrize("name", ["diagnose", "retrain"])
def test_examples(name: str, example: Callable[[str], dict[str, Any]]) -> None:
    assert example(name)


def test_run_trains_until_the_gate_is_passed(example: Callable[[str], dict[str, Any]]) -> None:
    record = example("run")["record"]
    assert record["status"] == "passed"
    assert Path("runs", record["run"], "model.keras").exists()
    first, second = record["attempts"]
    assert (first["failure"]["check"], first["failure"]["phase"]) == ("metric", "main")
    checks = {check["check"]: check for check in first["phases"][-1]["checks"]}
    assert checks["prediction_variance"]["verdict"] == "pass"
    assert checks["prediction_variance"]["measured"]["outputs"][0]["skill"] > 0.5
    assert second["remedy"] == "new_seed"
    assert second["phases"][-1]["metrics"]["val_accuracy"] >= 0.9
