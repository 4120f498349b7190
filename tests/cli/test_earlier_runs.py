"""Run directories that the version before the ten folders has written stay readable.

`tests/record/fixtures/runs` are such directories, `project` is what they were trained from, and
`golden` is what that version printed of them.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.app import execute as orchestrate

Printed = Callable[..., str]
FIXTURES = Path(__file__).parents[1] / "record" / "fixtures"


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """A copy of the fixtures, since reading makes a cache."""
    return Path(shutil.copytree(FIXTURES, tmp_path / "earlier"))


@pytest.fixture
def printed(
    earlier: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Printed]:
    """What a command in the folder of the runs prints on stdout."""
    for name, value in {"COLUMNS": "100", "NO_COLOR": "1", "TZ": "UTC"}.items():
        monkeypatch.setenv(name, value)
    time.tzset()
    monkeypatch.chdir(earlier / "runs")

    def run(*arguments: str) -> str:
        code = orchestrate([*arguments, "--runs-dir", "."])
        out, err = capsys.readouterr()
        assert code == 0, err
        return out

    yield run
    monkeypatch.undo()
    time.tzset()


def holds(found: Any, known: Any) -> bool:
    """Whether all that was known is there; later versions may add keys."""
    if isinstance(known, dict):
        return isinstance(found, dict) and all(
            key in found and holds(found[key], value) for key, value in known.items()
        )
    if isinstance(known, list):
        return len(found) == len(known) and all(map(holds, found, known))
    return bool(found == known)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("show-passed.txt", ("show", "passed")),
        ("show-exhausted.txt", ("show", "exhausted")),
        ("show-interrupted.txt", ("show", "interrupted")),
        ("history.csv", ("history", "--csv")),
        ("compare.txt", ("compare", "passed", "exhausted")),
        ("compare-attempts.txt", ("compare", "passed@1", "passed@3")),
        ("logs-passed.txt", ("logs", "passed")),
    ],
)
def test_what_is_printed_is_what_that_version_printed(
    earlier: Path, printed: Printed, name: str, arguments: tuple[str, ...]
) -> None:
    known = (earlier / "golden" / name).read_text()
    lines = [line.rstrip() for line in printed(*arguments).splitlines()]
    added = [line for line in lines if line.startswith("to go on with it: orchestrate resume")]
    assert len(added) == (name == "show-interrupted.txt")
    assert [line for line in lines if line not in added] == [
        line.rstrip() for line in known.splitlines()
    ]


@pytest.mark.parametrize("run", ["passed", "exhausted", "interrupted"])
def test_the_record_is_what_that_version_wrote(earlier: Path, printed: Printed, run: str) -> None:
    (directory,) = (earlier / "runs").glob(f"{run}-*")
    known = json.loads((directory / "run.json").read_text())
    assert holds(json.loads(printed("show", run, "--json")), known)
    (directory / "run.json").unlink()  # the journal, which is the truth, says the same
    assert holds(json.loads(printed("show", run, "--json")), known)


@pytest.mark.slow
@pytest.mark.usefixtures("_in_this_process")
@pytest.mark.parametrize("attempt", ["passed@3", "exhausted@2", "exhausted@3"])
def test_an_attempt_is_replayed_to_what_it_was(printed: Printed, attempt: str) -> None:
    found = json.loads(printed("replay", attempt, "--base", "../project", "--json"))
    assert found["same"] and found["phases"] and all(each["same"] for each in found["phases"])
