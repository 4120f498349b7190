"""From a config to a run: the data is read once, and what it was kept in is gone afterwards."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.display.live.view import View, stderr
from orchestrator.errors import InvalidError
from orchestrator.record.events import ReadingProgress
from orchestrator.record.records import Inputs
from orchestrator.record.storage import archive
from orchestrator.training import launch
from orchestrator.training.attempt.task import Prepared
from orchestrator.training.executors.executor import Died
from orchestrator.training.executors.in_process import InProcess
from orchestrator.training.interrupts import Interrupts
from orchestrator.training.work import PrepareWork
from tests.conftest import MakeConfig

Write = Callable[..., Path]

COUNTED = """
import pathlib

def counted(count=64):
    with open(pathlib.Path(__file__).with_name("calls"), "a") as file:
        file.write("called\\n")
    return line(count)
"""

HOPELESS = [{"Dense": {"units": 4, "activation": "relu", "bias_initializer": {"Constant": {"value": -99}}}}, {"Dense": {"units": 1}}]  # fmt: skip  # noqa: E501

TWICE = {"max_attempts": 2, "screen_seeds": 1, "policy": [{"remedy": "new_seed", "times": 1}]}


@pytest.mark.usefixtures("_in_this_process")
def test_a_data_callable_is_called_once_for_all_attempts(
    config_file: Write, runs: Path, tmp_path: Path
) -> None:
    path = config_file(
        COUNTED,
        data={"train": {"callable": "rows:counted"}, "validation": {"fraction": 0.25}},
        model={"layers": HOPELESS},
        restart=TWICE,
    )
    record = launch.run(path, runs_dir=runs, quiet=True)
    assert (record["status"], len(record["attempts"])) == ("exhausted", 2)
    assert (tmp_path / "calls").read_text() == "called\n"
    assert [each.name for each in runs.iterdir()] == [record["run"]]


@pytest.mark.usefixtures("_in_this_process")
def test_files_of_data_may_go_once_they_were_read(config_file: Write, runs: Path) -> None:
    """What is trained on is what was checked, whatever becomes of the file in the meantime."""
    path = config_file(
        "import pathlib\n\ndef build():\n    import keras\n"
        "    pathlib.Path(__file__).with_name('t.csv').unlink(missing_ok=True)\n"
        "    return keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])\n",
        data={"train": {"csv": "t.csv", "target": "y"}, "standardize": True},
        model={"factory": {"callable": "rows:build"}},
    )
    lines = [f"{x!r},{2 * x!r}" for x in np.random.default_rng(0).normal(size=64).tolist()]
    path.with_name("t.csv").write_text("\n".join(["x,y", *lines]))
    record = launch.run(path, runs_dir=runs, quiet=True)
    assert len(record["attempts"][0]["phases"]) == 2


def test_an_invalid_run_leaves_nothing(config_file: Write, runs: Path) -> None:
    path = config_file(data={"train": {"csv": "t.csv", "target": "y"}})
    path.with_name("t.csv").write_text("x,y\n1,a\n2,3\n")
    with pytest.raises(InvalidError, match=r"t\.csv:2: y: row 1"):
        launch.run(path, runs_dir=runs, quiet=True)
    assert not runs.exists()


def test_code_that_goes_to_another_folder_takes_nothing_with_it(
    config_file: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import os\n\ndef away():\n    os.chdir('/')\n    return line()\n"
    path = config_file(code, data={"train": {"callable": "rows:away"}})
    monkeypatch.chdir(tmp_path)
    record = launch.run(path, runs_dir="here", quiet=True)
    assert (tmp_path / "here" / record["run"] / "model.keras").exists()


def test_a_run_has_its_warnings_from_its_first_moment(make_config: MakeConfig, runs: Path) -> None:
    class Killed(View):
        """Is shown a run that ends as soon as its directory is there."""

        def begin(self, *arguments: Any, **options: Any) -> None:
            raise KeyboardInterrupt

    prepared = Prepared(
        inputs=Inputs(),
        fingerprint="f00d",
        rows=64,
        validation_rows=0,
        input_shape=(2,),
        parameters=17,
        layers=(),
        warnings=("a column is constant",),
    )
    work = PrepareWork(config=make_config(), folder=runs.parent)
    with Interrupts() as interrupts, Killed(stderr(), detail="warnings") as view:
        executor = InProcess(interrupts.check)
        with pytest.raises(KeyboardInterrupt):
            launch.launch_on(
                work, executor, runs, view, interrupts, prepared=prepared, notes=["trains here"]
            )
    (directory,) = runs.iterdir()
    run = archive.read(directory)
    assert (run.status, run.warnings) == ("interrupted", ("trains here", "a column is constant"))


@pytest.mark.parametrize(("reported", "how"), [(True, "hung"), (False, "hung"), (True, "killed")])
def test_rows_that_do_not_come_are_told_before_the_run(
    make_config: MakeConfig, tmp_path: Path, reported: bool, how: Any
) -> None:
    """A process that hangs while it builds is met by the first attempt, which records it."""

    class Hanging:
        def run(self, work: Any, take: Any) -> Died:
            take(ReadingProgress(what="the data callable f", rows=64, batches=2))
            if not reported:
                take(ReadingProgress(what="the data callable f", done=True))
            return Died(how, "no progress")

    work = PrepareWork(config=make_config(stall_timeout=7.0), folder=tmp_path)
    with View(stderr(), detail="warnings") as view:
        if reported and how == "hung":
            message = "data: the data callable f gave no batch for 7 s after 64 rows in 2 batches"
            with pytest.raises(InvalidError, match=message):
                launch._prepare(work, work.config, Hanging(), view)
        else:
            assert isinstance(launch._prepare(work, work.config, Hanging(), view), Died)
