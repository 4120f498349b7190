"""Attempts in processes of their own."""

import dataclasses
import math
import os
import subprocess
import sys
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import InvalidError, UserCodeError
from orchestrator.record.events import EpochEnded, PhaseEnded
from orchestrator.record.records import Settings
from orchestrator.training.attempt.task import Task
from orchestrator.training.executors import fork_server
from orchestrator.training.executors.executor import Emit, Finished, result_of
from orchestrator.training.executors.fork_server import ForkServer
from orchestrator.training.work import AttemptWork, PrepareWork
from tests.arrows import PACKAGE
from tests.conftest import MakeConfig

NAMES = ("KERAS_BACKEND", "PYTHONPATH", "PYTHONSAFEPATH")


@pytest.fixture(scope="module")
def server() -> ForkServer:
    return ForkServer(lambda: None)


def test_events_come_here_and_prints_go_to_the_log(
    server: ForkServer, make_config: MakeConfig, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = make_config("print('hello from user code')\n")
    task = Task(
        config=config, settings=Settings(seed=0), attempt=1, directory=tmp_path, fingerprint=None
    )
    events: list[Any] = []
    assert server.run(AttemptWork(task), events.append) == Finished(None)
    assert isinstance(events[-1], PhaseEnded)
    assert sum(isinstance(event, EpochEnded) for event in events) == 1
    assert "hello from user code" in (tmp_path / "log.txt").read_text()
    assert capfd.readouterr() == ("", "")


def test_users_errors_cross_to_this_process(
    server: ForkServer, make_config: MakeConfig, tmp_path: Path
) -> None:
    code = "def broken():\n    raise ValueError('no rows today')\n"
    config = make_config(code, data={"train": {"callable": "rows:broken"}})
    work = PrepareWork(config=config, folder=tmp_path, log=tmp_path / "log.txt")
    with pytest.raises(UserCodeError, match="no rows today"):
        result_of(server.run(work, print))
    assert "Traceback" in (tmp_path / "log.txt").read_text()


def test_problems_cross_to_this_process(
    server: ForkServer, make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config(model={"layers": [{"Dens": {"units": 1}}]})
    with pytest.raises(InvalidError, match=r"config\.yaml:\d+: model\.layers\.0\.Dens"):
        result_of(server.run(PrepareWork(config=config, folder=tmp_path), print))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Look:
    """Look at what a worker begins with."""

    log: Path
    patience: float = math.inf

    def do(self, emit: Emit) -> dict[str, Any]:
        from tensorflow.python.eager import context

        attempt = sys.modules["orchestrator.training.attempt.attempt"]
        return {
            "attempt": attempt.__file__,
            "operations": context.context()._initialized,
            **{name: os.environ.get(name) for name in ("PYTHONPATH", "PYTHONSAFEPATH")},
        }


def test_workers_have_all_imported_and_nothing_executed(server: ForkServer, tmp_path: Path) -> None:
    assert result_of(server.run(Look(log=tmp_path / "log.txt"), print)) == {
        "attempt": str(PACKAGE / "training" / "attempt" / "attempt.py"),
        "operations": False,
        **{name: os.environ.get(name) for name in ("PYTHONPATH", "PYTHONSAFEPATH")},
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class LookAround(Look):
    """Look at the environment of a worker."""

    def do(self, emit: Emit) -> dict[str, Any]:
        return dict(os.environ)


def test_workers_have_the_environment_of_the_moment(
    server: ForkServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server lives on from one run to the next."""

    def seen() -> dict[str, Any]:
        return result_of(server.run(LookAround(log=tmp_path / "log.txt"), print))

    fork_server.stop()
    monkeypatch.setenv("DATA_DIR", "a")
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    first = seen()
    monkeypatch.setenv("DATA_DIR", "b")
    monkeypatch.setenv("MODE", "fast")
    second = seen()
    assert (first["DATA_DIR"], second["DATA_DIR"], second["MODE"]) == ("a", "b", "fast")
    monkeypatch.delenv("DATA_DIR")
    monkeypatch.delenv("MODE")
    third = seen()
    assert not {"DATA_DIR", "MODE"} & {*third}
    assert third["KERAS_BACKEND"] == "tensorflow"


def test_a_server_that_was_killed_is_started_as_it_was_at_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[Any] = []
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "path", ["", "modules"])
    monkeypatch.setattr(
        forkserver,
        "ensure_running",
        lambda: started.append([os.environ.get(name) for name in NAMES]),
    )
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        monkeypatch.setattr(forkserver._forkserver, "_forkserver_pid", process.pid)
        fork_server._expect_server()
        assert started == []
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        fork_server._expect_server()
    # It finds the modules that this process finds, and none in a folder of the user's.
    assert started == [["tensorflow", f"{os.getcwd()}{os.pathsep}modules", "1"]]
    assert not {*NAMES} & {*os.environ}
