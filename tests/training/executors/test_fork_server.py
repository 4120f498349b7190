"""Worker processes: real ones, killed and hung for real."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from orchestrator.config.schema import Config
from orchestrator.errors import InvalidError, StoppedError, UserCodeError, WorkerDiedError
from orchestrator.record.events import EpochEnded, Event, PhaseEnded, Progress
from orchestrator.record.records import Settings
from orchestrator.training.attempt.task import Task
from orchestrator.training.executors.fork_server import Workers
from orchestrator.training.interrupts import Interrupts
from tests.conftest import MakeConfig

SLEEPY = """
import keras, os, pathlib, time
def sleepy():
    class Sleepy(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            print("epoch", epoch, "begins")
            pathlib.Path(__file__).with_name("pid").write_text(str(os.getpid()))
            time.sleep(600)
    return Sleepy()
"""


@pytest.fixture(scope="module")
def workers() -> Workers:
    return Workers(lambda: None)


def task(config: Config, tmp_path: Path) -> Task:
    directory = tmp_path / "attempt"
    directory.mkdir()
    return Task(
        config=config, settings=Settings(seed=0), attempt=1, directory=directory, fingerprint=None
    )


def pid_of_worker(tmp_path: Path) -> int:
    path = tmp_path / "pid"
    while not path.exists() or not path.read_text():
        time.sleep(0.05)
    return int(path.read_text())


def is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


def test_events_come_here_and_prints_go_to_the_log(
    workers: Workers, make_config: MakeConfig, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code = "import os\nprint('hello from user code')\nos.write(2, b'and from below python')\n"
    events: list[Event | Progress] = []
    workers.train(task(make_config(code), tmp_path), events.append)
    assert isinstance(events[-1], PhaseEnded)
    assert sum(isinstance(event, EpochEnded) for event in events) == 1
    log = (tmp_path / "attempt" / "log.txt").read_text()
    assert "hello from user code" in log
    assert "and from below python" in log
    assert capfd.readouterr() == ("", "")


def test_a_killed_worker_is_reported_with_its_signal(
    workers: Workers, make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config(SLEEPY, fit={"callbacks": ["rows:sleepy"]})
    killer = threading.Thread(target=lambda: os.kill(pid_of_worker(tmp_path), signal.SIGKILL))
    killer.start()
    with pytest.raises(WorkerDiedError, match="killed by SIGKILL, perhaps for want of memory"):
        workers.train(task(config, tmp_path), print)
    killer.join()


def test_a_worker_that_hangs_is_killed(
    workers: Workers, make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config(SLEEPY, fit={"callbacks": ["rows:sleepy"]}, stall_timeout=20.0)
    with pytest.raises(WorkerDiedError, match="no progress for 20 seconds"):
        workers.train(task(config, tmp_path), print)


def test_a_request_to_stop_ends_the_worker(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(SLEEPY, fit={"callbacks": ["rows:sleepy"]})
    with Interrupts() as interrupts:
        interrupts.patient = True
        workers = Workers(interrupts.check)

        def stop() -> None:
            pid_of_worker(tmp_path)
            os.kill(os.getpid(), signal.SIGTERM)

        stopper = threading.Thread(target=stop)
        stopper.start()
        with pytest.raises(StoppedError, match="stopped by SIGTERM"):
            workers.train(task(config, tmp_path), print)
        stopper.join()
    assert not is_alive(pid_of_worker(tmp_path))


def test_users_errors_cross_to_this_process(
    workers: Workers, make_config: MakeConfig, tmp_path: Path
) -> None:
    code = "def broken():\n    raise ValueError('no rows today')\n"
    config = make_config(code, data={"train": {"callable": "rows:broken"}})
    with pytest.raises(UserCodeError, match="no rows today"):
        workers.train(task(config, tmp_path), print)
    with pytest.raises(UserCodeError, match="no rows today"):
        workers.prepare(config, tmp_path / "log.txt")
    assert "Traceback" in (tmp_path / "log.txt").read_text()


def test_problems_cross_to_this_process(
    workers: Workers, make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config(model={"layers": [{"Dens": {"units": 1}}]})
    with pytest.raises(InvalidError, match=r"config\.yaml:\d+: model\.layers\.0\.Dens"):
        workers.prepare(config, tmp_path / "log.txt")


def test_an_exit_in_user_code_is_the_users(
    workers: Workers, make_config: MakeConfig, tmp_path: Path
) -> None:
    code = "def leave():\n    import os\n    os._exit(3)\n"
    config = make_config(code, data={"train": {"callable": "rows:leave"}})
    with pytest.raises(WorkerDiedError, match="ended with exit code 3 and no result"):
        workers.prepare(config, tmp_path / "log.txt")
