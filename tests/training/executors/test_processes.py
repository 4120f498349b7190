"""When `orchestrate` returns, none of its processes is left."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.training.executors import fork_server
from orchestrator.training.executors.fork_server import ForkServer, stop
from tests.training.executors.test_executor import Work, count

WATCH = """
import ctypes, json, os, pathlib, signal, subprocess, sys, time
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: orphans become our children
number, begun, *command = sys.argv[1:]
process = subprocess.Popen(command, start_new_session=True)
if number != "none":
    while not pathlib.Path(begun).exists():
        time.sleep(0.01)
    os.killpg(process.pid, signal.Signals[number])  # as a terminal does
code = process.wait()
try:
    while os.waitpid(-1, os.WNOHANG)[0]:  # one that is dead is buried
        pass
    left = True
except ChildProcessError:
    left = False
print(json.dumps([code, left]))
"""

SLEEPY = """
import keras, pathlib, subprocess, sys, time
def sleepy():
    class Sleepy(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
            pathlib.Path(__file__).with_name("begun").touch()
            time.sleep(600)
    return Sleepy()
def broken():
    raise ValueError("no callback today")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="there is no other way to see orphans")
@pytest.mark.parametrize(
    ("number", "changes", "code"),
    [
        ("none", {}, 0),
        ("none", {"data": {"train": {"csv": "missing.csv", "target": "y"}}}, 2),
        ("none", {"fit": {"callbacks": ["rows:broken"]}}, 4),
        pytest.param(
            "SIGINT", {"fit": {"callbacks": ["rows:sleepy"]}}, 75, marks=pytest.mark.sweep
        ),
        ("SIGTERM", {"fit": {"callbacks": ["rows:sleepy"]}}, 75),
    ],
)
def test_no_process_is_left(
    config_file: Callable[..., Path], tmp_path: Path, number: str, changes: Any, code: int
) -> None:
    config = config_file(SLEEPY, **changes)
    orchestrate = [sys.executable, "-m", "orchestrator", str(config), "--quiet", "--runs-dir"]
    watch = [sys.executable, "-c", WATCH, number, str(tmp_path / "begun")]
    done = subprocess.run(
        [*watch, *orchestrate, str(tmp_path / "runs")], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout.splitlines()[-1]) == [code, False], done.stderr


def test_a_server_that_was_stopped_starts_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fork_server, "_PRELOADED", ())  # TensorFlow, which would take seconds
    server = ForkServer(lambda: None)
    work = Work(log=tmp_path / "log.txt", function=count, arguments=(2,))
    for _ in range(2):
        server.run(work, print)
        stop()
        stop()  # which is no error


IMPATIENT = """
import os, signal, sys, types
from orchestrator.cli import app
def execute(given):
    raise KeyboardInterrupt
def stop():
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(os.getpid(), number)
    print("stopped")
app.execute = execute
sys.modules["orchestrator.training.executors.fork_server"] = types.SimpleNamespace(stop=stop)
app.main([])
"""


def test_whoever_presses_again_and_again_leaves_no_process_either() -> None:
    command = [sys.executable, "-c", IMPATIENT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (75, "stopped\n", "")
