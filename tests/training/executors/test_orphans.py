"""A worker never outlives its supervisor, however that one dies and whatever the worker does."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.training.executors.executor import Died, Emit, Finished
from tests.training.executors.test_executor import is_alive

SUPERVISOR = """
import multiprocessing, sys
from pathlib import Path
from orchestrator.training.executors.fork_server import ForkServer
from tests.training.executors import test_executor, test_orphans
folder, function = Path(sys.argv[1]), getattr(test_orphans, sys.argv[2])
server = ForkServer(lambda: None)
# A server that imports no TensorFlow: what is forked from it dies in the same way.
server.__dict__["_context"] = multiprocessing.get_context("forkserver")
work = test_executor.Work(log=folder / "log.txt", function=function, arguments=(folder,))
server.run(work, print)
"""


def note(folder: Path) -> None:
    """Say that this process is one of those that must end."""
    folder.joinpath(f"pid{os.getpid()}").touch()


def work_on(emit: Emit, folder: Path) -> None:
    note(folder)
    while True:
        sum(range(1000))


def hold_the_lock(emit: Emit, folder: Path) -> None:
    note(folder)
    ctypes.PyDLL(None).sleep(600)  # unlike CDLL it keeps Python's lock while C code runs


def stop_itself(emit: Emit, folder: Path) -> None:
    note(folder)
    os.kill(os.getpid(), signal.SIGSTOP)


def fork_others(emit: Emit, folder: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=work_on, args=(emit, folder)) for _ in range(2)]
    for each in processes:
        each.start()
    subprocess.Popen(
        [sys.executable, "-c", "import os, time; os.close(0); time.sleep(600)"], close_fds=False
    )
    hold_the_lock(emit, folder)


def pids(folder: Path) -> list[int]:
    return [int(path.name[3:]) for path in folder.glob("pid*")]


def wait_until(holds: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.01)
    return holds()


def group(pid: int) -> list[int]:
    """Those of a group of processes that live."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, leader = path.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(leader) == pid and state != "Z":
            found.append(int(path.parent.name))
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread of the worker sees to it")
@pytest.mark.parametrize(
    ("function", "signals", "count"),
    [
        (work_on, [signal.SIGKILL], 1),
        (hold_the_lock, [signal.SIGTERM], 1),
        (hold_the_lock, [signal.SIGSTOP, signal.SIGKILL], 1),
        (stop_itself, [signal.SIGKILL], 1),
        (fork_others, [signal.SIGKILL], 3),
    ],
)
def test_a_worker_ends_with_its_supervisor(
    tmp_path: Path, function: Callable[..., None], signals: list[signal.Signals], count: int
) -> None:
    command = [sys.executable, "-c", SUPERVISOR, str(tmp_path), function.__name__]
    with subprocess.Popen(command, start_new_session=True) as supervisor:
        groups = [supervisor.pid]  # and the server's, which stays in it
        try:
            assert wait_until(lambda: len(pids(tmp_path)) == count, 60)
            groups.append(os.getsid(pids(tmp_path)[0]))
            time.sleep(0.1)  # into the midst of what it does
            for number in signals:
                supervisor.send_signal(number)
            assert wait_until(lambda: not any(map(group, groups)), 5)
        finally:
            for pid in sum(map(group, groups), start=[]):
                os.kill(pid, signal.SIGKILL)


KILLING = """
import multiprocessing, os, signal, sys
from multiprocessing import forkserver
from pathlib import Path
from orchestrator.training.executors.fork_server import ForkServer
from tests.training.executors.test_executor import Work, count, said, sleep
folder = Path(sys.argv[1])
server = ForkServer(lambda: None)
server.__dict__["_context"] = multiprocessing.get_context("forkserver")
def take(report):
    if report == said("asleep"):
        os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)
for function, arguments in [(sleep, (folder,)), (count, (2,))]:
    work = Work(log=folder / "log.txt", function=function, arguments=arguments)
    print(server.run(work, take))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is no server")
def test_a_server_that_is_killed_takes_its_worker_along(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLING, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    died = Died("killed", "the process that workers are forked from was killed")
    assert done.stdout.splitlines() == [str(died), str(Finished(2))]
    assert wait_until(lambda: not is_alive(int((tmp_path / "pid").read_text())), 5)
