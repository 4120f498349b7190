"""What becomes of a run whose processes die: `python -m tests.benchmarks.faults [--always] [NAME]`.

Each fault is a small run of `orchestrate` in which a callback of the user's does something to its
own process, to its server or to its supervisor at the end of the second epoch: once, or with
`--always` every time.
The table says with which code `orchestrate` ended, what the attempts came to and why, and how many
of its processes were left some seconds later.
"""

import collections
import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from orchestrator.config import yaml12
from tests.conftest import LINE, LINE_CODE, merged

_PR_SET_CHILD_SUBREAPER = 36
_SECONDS = 5
"""How soon nothing may be left."""

FAULTS = {
    "SIGKILL of the worker": "os.kill(os.getpid(), signal.SIGKILL)",
    "SIGSEGV": "ctypes.string_at(0)",
    "SIGABRT": "os.abort()",
    "SIGBUS": "fall_off_a_file()",
    "os._exit(0)": "os._exit(0)",
    "os._exit(3)": "os._exit(3)",
    "sys.exit(0)": "sys.exit(0)",
    "KeyboardInterrupt": "raise KeyboardInterrupt",
    "ValueError": "raise ValueError('no more')",
    "hang in Python": "time.sleep(600)",
    "hang in C": "ctypes.PyDLL(None).sleep(600)",
    "worker stopped": "os.kill(os.getpid(), signal.SIGSTOP)",
    "ulimit -v": "fill()",
    "SIGKILL of the server": "os.kill(os.getppid(), signal.SIGKILL); time.sleep(600)",
    "SIGKILL of the supervisor": "os.kill(SUPERVISOR(), signal.SIGKILL); time.sleep(600)",
    "SIGTERM of the supervisor": "os.kill(SUPERVISOR(), signal.SIGTERM); time.sleep(600)",
    "SIGKILL of the supervisor, C": (
        "os.kill(SUPERVISOR(), signal.SIGKILL); ctypes.PyDLL(None).sleep(600)"
    ),
}
"""A statement by its name."""

CODE = """
import ctypes, keras, mmap, os, pathlib, resource, signal, sys, tempfile, time
import numpy as np

def SUPERVISOR():
    server = pathlib.Path(f"/proc/{os.getppid()}/stat").read_text()
    return int(server.rpartition(")")[2].split()[1])

def fall_off_a_file():
    with tempfile.TemporaryFile() as file:
        file.truncate(4096)
        seen = mmap.mmap(file.fileno(), 4096)
        file.truncate(0)
        seen[0]


def fill():
    used = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 50_000_000,) * 2)
    np.ones(10**9)

def fault():
    class Fault(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            once = pathlib.Path(__file__).with_name("once")
            if epoch == 1 and not (ONCE and once.exists()):
                once.touch()
                STATEMENT
    return Fault()
"""


def main() -> None:
    """Print a line for each fault."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # orphans become our children
    always = "--always" in sys.argv
    for name in [each for each in sys.argv[1:] if each != "--always"] or FAULTS:
        with tempfile.TemporaryDirectory() as folder:
            row = _row(name, Path(folder), once=not always)
        print("|", " | ".join([name, *row]), "|", flush=True)  # noqa: T201


def _row(name: str, folder: Path, *, once: bool) -> list[str]:
    """Make the run, and say what came of it."""
    code = CODE.replace("ONCE", str(once)).replace("STATEMENT", FAULTS[name])
    (folder / "rows.py").write_text(LINE_CODE + code)
    changes = {
        "fit": {"callbacks": ["rows:fault"]},
        "phases": [{"name": "main", "epochs": 4}],
        "stall_timeout": 20,
        "checkpoint_seconds": 0,
        "restart": {"max_attempts": 1},
    }
    config = folder / "config.yaml"
    config.write_text(yaml12.dump(merged(LINE, changes)))
    command = [sys.executable, "-m", "orchestrator", str(config), "--runs-dir", str(folder)]
    start = time.monotonic()
    done = subprocess.run([*command, "--quiet"], capture_output=True, text=True, check=False)
    seconds = time.monotonic() - start
    left = _left()
    journals = [*folder.glob("*/journal.jsonl")]
    told = ["no run"]
    if journals:
        show = [sys.executable, "-m", "orchestrator", "show", str(journals[0].parent), "--json"]
        told = _told(subprocess.run(show, capture_output=True, text=True, check=False).stdout)
    return [f"{done.returncode}", f"{seconds:.0f} s", *told, f"{left} left"]


def _told(shown: str) -> list[str]:
    """Status of the run, then of its attempts with the reasons."""
    run = json.loads(shown)
    attempts = [
        f"{each['status']} after {each['restarts']} restarts"
        + (f": {each['failure']['reason']}" if each["failure"] else "")
        for each in run["attempts"]
    ]
    counted = [f"{count} × {text}" for text, count in collections.Counter(attempts).items()]
    return [run["status"], "; ".join(counted)]


def _left() -> int:
    """How many processes live that the run has started, some seconds after its end."""
    deadline = time.monotonic() + _SECONDS
    while True:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:  # one that is dead is buried
                pass
        except ChildProcessError:
            return 0
        if time.monotonic() > deadline:
            return len(_children())
        time.sleep(0.05)


def _children() -> list[str]:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


if __name__ == "__main__":
    main()
