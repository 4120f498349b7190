"""What every executor holds to: the same pieces of work, run by each."""

from __future__ import annotations

import asyncio
import ctypes
import dataclasses
import errno
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import (
    InvalidError,
    NotSentError,
    Problem,
    StoppedError,
    UserCodeError,
    WorkerDiedError,
    WorkerError,
)
from orchestrator.record.events import Warned
from orchestrator.training.executors.executor import (
    Died,
    Emit,
    Executor,
    Finished,
    Raised,
    result_of,
)
from orchestrator.training.executors.fork_server import ForkServer
from orchestrator.training.executors.in_process import InProcess
from orchestrator.training.interrupts import Interrupts

LINUX = sys.platform == "linux"
"""Where memory is known."""

Make = Callable[[Callable[[], None]], Executor]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
    """A function of this module, or of anywhere else where it stays in one process."""

    log: Path
    function: Callable[..., Any]
    arguments: tuple[Any, ...] = ()
    patience: float = math.inf

    def do(self, emit: Emit) -> Any:
        return self.function(emit, *self.arguments)


def said(text: str) -> Warned:
    return Warned(message=text)


def count(emit: Emit, limit: int) -> int:
    for number in range(limit):
        emit(said(str(number)))
    return limit


def fail(emit: Emit, error: BaseException) -> None:
    emit(said("before"))
    raise error


def fail_in_a_graph(emit: Emit) -> None:
    raise ValueError("Graph execution error:\n\nindices[0] = 7 is not in [0, 3)\n\nmore")


def sleep(emit: Emit, folder: Path) -> None:
    folder.joinpath("pid").write_text(str(os.getpid()))
    emit(said("asleep"))
    time.sleep(600)


def start_child(emit: Emit, folder: Path, ending: str) -> str:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    folder.joinpath("child").write_text(str(child.pid))
    if ending == "exited":
        os._exit(3)
    if ending == "hung":
        time.sleep(600)
    return ending


def leave(emit: Emit, code: int) -> None:
    os._exit(code)


def kill_itself(emit: Emit, number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(600)


def return_a_lock(emit: Emit) -> Any:
    return threading.Lock()


def report_a_lock(emit: Emit) -> None:
    emit(threading.Lock())  # type: ignore[arg-type]


def speak(emit: Emit) -> None:
    print("from python")  # noqa: T201 - goes to the log
    os.write(2, b"from below python\n")


class Stubborn:
    """What is pickled, but cannot be made again."""

    def __reduce__(self) -> Any:
        return divmod, (1, 0)


def is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


@pytest.fixture(params=[ForkServer, InProcess], ids=["fork_server", "in_process"])
def make(request: pytest.FixtureRequest) -> Make:
    found: Make = request.param
    return found


@pytest.fixture
def work(tmp_path: Path) -> Callable[..., Work]:
    def make(function: Callable[..., Any], *arguments: Any, patience: float = math.inf) -> Work:
        log = tmp_path / "log.txt"
        return Work(log=log, function=function, arguments=arguments, patience=patience)

    return make


def never() -> None:
    """Nobody asks this process to stop."""


# ------------------------------------------------------------------------------- every executor


def test_reports_come_in_order_and_the_result_last(make: Make, work: Callable[..., Work]) -> None:
    reports: list[Any] = []
    ending = make(never).run(work(count, 20), reports.append)
    assert ending == Finished(20)
    assert [each.message for each in reports] == [str(number) for number in range(20)]
    assert result_of(ending) == 20


def test_an_executor_does_one_piece_after_another(make: Make, work: Callable[..., Work]) -> None:
    executor = make(never)
    assert isinstance(executor.run(work(fail, ValueError("first")), print), Raised)
    assert executor.run(work(count, 2), print) == Finished(2)


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (UserCodeError("your code raised"), UserCodeError, "your code raised"),
        (NotSentError("it is a closure"), NotSentError, "it is a closure"),
        (StoppedError("nothing can be written"), StoppedError, "nothing can be written"),
        (ValueError("no rows\nand more"), WorkerError, "ValueError: no rows and more"),
        (ValueError(), WorkerError, "ValueError"),
        (SystemExit(3), WorkerError, "SystemExit: 3"),
        (
            OSError(errno.ENOSPC, "No space left"),
            StoppedError,
            "the disk is full: No space left; free some space",
        ),
        (OSError(errno.EIO, "broken"), WorkerError, r"OSError: \[Errno 5\] broken"),
    ],
)
def test_what_work_raises_is_how_it_ended(
    make: Make,
    work: Callable[..., Work],
    error: BaseException,
    kind: type[Exception],
    message: str,
) -> None:
    reports: list[Any] = []
    ending = make(never).run(work(fail, error), reports.append)
    assert isinstance(ending, Raised)
    assert type(ending.error) is kind
    assert reports == [said("before")]
    with pytest.raises(kind, match=f"^{message}$"):
        result_of(ending)


class ResourceExhaustedError(Exception):
    """Called as TensorFlow's."""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError("Unable to allocate 8 GiB"), ": Unable to allocate 8 GiB"),
        (MemoryError(), ""),
        (ResourceExhaustedError("OOM when allocating\nmore"), ": OOM when allocating more"),
    ],
)
def test_work_that_wants_for_memory_has_died(
    make: Make, work: Callable[..., Work], tmp_path: Path, error: Exception, said: str
) -> None:
    ending = make(never).run(work(fail, error), print)
    assert isinstance(ending, Died)
    assert ending.how == "exited"
    reached = r" when it had reached (\d+ MB|\d+\.\d GB)" if LINUX else ""
    bound = r" \((the machine has|its control group may take) \d.*\)" if LINUX else ""
    assert re.fullmatch(f"the worker ran out of memory{reached}{said}{bound}", ending.reason)
    assert "Traceback" in (tmp_path / "log.txt").read_text()


def test_problems_arrive_whole(make: Make, work: Callable[..., Work]) -> None:
    problem = Problem(file="a.yaml", line=3, key="data", message="expected x", hint="write x")
    ending = make(never).run(work(fail, InvalidError([problem])), print)
    assert isinstance(ending, Raised)
    assert isinstance(ending.error, InvalidError)
    assert ending.error.problems == (problem,)


def test_of_an_error_in_a_graph_the_cause_is_told(make: Make, work: Callable[..., Work]) -> None:
    with pytest.raises(
        WorkerError, match=r"^ValueError: indices\[0\] = 7 is not in \[0, 3\) more$"
    ):
        result_of(make(never).run(work(fail_in_a_graph), print))


def test_what_the_taker_raises_comes_out(make: Make, work: Callable[..., Work]) -> None:
    def take(report: Any) -> None:
        if report == said("3"):
            raise LookupError("the fourth")

    with pytest.raises(LookupError, match="the fourth"):
        make(never).run(work(count, 20), take)


def test_a_request_to_stop_comes_out(make: Make, work: Callable[..., Work]) -> None:
    reports: list[Any] = []

    def interrupted() -> None:
        if reports:
            raise StoppedError("asked to stop")

    with pytest.raises(StoppedError, match="asked to stop"):
        make(interrupted).run(work(count, 1000), reports.append)
    assert len(reports) < 1000


def test_the_log_has_the_traceback(make: Make, work: Callable[..., Work], tmp_path: Path) -> None:
    make(never).run(work(fail, ValueError("no rows")), print)
    log = (tmp_path / "log.txt").read_text()
    assert "Traceback" in log
    assert "ValueError: no rows" in log
    assert "in fail" in log


def test_the_log_of_work_in_this_process_says_where_to_look(
    work: Callable[..., Work], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert InProcess(never).run(work(speak), print) == Finished(None)
    assert "which has what it printed" in (tmp_path / "log.txt").read_text()
    assert capfd.readouterr() == ("from python\n", "from below python\n")


# ------------------------------------------------------------------------------- processes


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> ForkServer:
    """A server that has imported TensorFlow, which no worker's patience has to cover."""
    server = ForkServer(never)
    log = tmp_path_factory.mktemp("server") / "log.txt"
    server.run(Work(log=log, function=count, arguments=(0,)), print)
    return server


def test_what_is_printed_goes_to_the_log(
    server: ForkServer,
    work: Callable[..., Work],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert server.run(work(speak), print) == Finished(None)
    assert (tmp_path / "log.txt").read_text() == "from python\nfrom below python\n"
    assert capfd.readouterr() == ("", "")


def fault(emit: Emit) -> None:
    ctypes.string_at(0)


def test_the_log_says_in_which_line_a_fault_happened(
    server: ForkServer, work: Callable[..., Work], tmp_path: Path
) -> None:
    ending = server.run(work(fault), print)
    assert isinstance(ending, Died)
    assert "killed by SIGSEGV (segmentation fault)" in ending.reason
    log = (tmp_path / "log.txt").read_text()
    assert "Fatal Python error: Segmentation fault" in log
    assert "test_executor.py" in log
    assert " in fault" in log


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_a_killed_worker_is_told_by_its_signal(
    server: ForkServer, work: Callable[..., Work], number: signal.Signals
) -> None:
    ending = server.run(work(kill_itself, number), print)
    word = r" \(segmentation fault\)" if number is signal.SIGSEGV else ""
    reached = r" when it had reached (\d+ MB|\d\.\d GB) of memory" if LINUX else ""
    assert isinstance(ending, Died)
    assert ending.how == "killed"
    with pytest.raises(
        WorkerDiedError, match=f"^the worker was killed by {number.name}{word}{reached}$"
    ):
        result_of(ending)


def test_a_signal_without_a_name_is_told_by_its_number(
    server: ForkServer, work: Callable[..., Work]
) -> None:
    number = signal.SIGRTMIN + 3
    ending = server.run(work(kill_itself, number), print)
    assert isinstance(ending, Died)
    assert ending.reason.startswith(f"the worker was killed by signal {number}")


def test_what_is_no_exception_is_told_too(server: ForkServer, work: Callable[..., Work]) -> None:
    ending = server.run(work(fail, asyncio.CancelledError("enough")), print)
    assert isinstance(ending, Raised)
    assert isinstance(ending.error, WorkerError)
    assert str(ending.error) == "CancelledError: enough"


def test_a_worker_that_leaves_is_told_by_its_exit_code(
    server: ForkServer, work: Callable[..., Work]
) -> None:
    died = Died("exited", "the worker ended with exit code 3 and no result")
    assert server.run(work(leave, 3), print) == died


def test_a_worker_that_hangs_is_killed(
    server: ForkServer, work: Callable[..., Work], tmp_path: Path
) -> None:
    died = Died("hung", "the worker made no progress for 8 seconds")
    reports: list[Any] = []
    assert server.run(work(sleep, tmp_path, patience=8.0), reports.append) == died
    assert reports == [said("asleep")]
    assert not is_alive(int((tmp_path / "pid").read_text()))
    assert ", line " in (log := (tmp_path / "log.txt").read_text())
    assert " in sleep" in log


def stop_itself(emit: Emit) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def test_of_a_worker_that_is_stopped_it_is_told(
    server: ForkServer, work: Callable[..., Work]
) -> None:
    reason = "the worker made no progress for 2 seconds"
    stopped = f"{reason}: it was stopped by a signal, such as SIGSTOP"
    assert server.run(work(stop_itself, patience=2.0), print) == Died("hung", stopped)


@pytest.mark.parametrize("ending", ["finished", "exited", "hung"])
def test_what_a_worker_has_started_ends_with_it(
    server: ForkServer, work: Callable[..., Work], tmp_path: Path, ending: str
) -> None:
    patience = 8.0 if ending == "hung" else math.inf
    server.run(work(start_child, tmp_path, ending, patience=patience), print)
    child = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + 10  # whoever adopted it has yet to hear of its end
    while is_alive(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_alive(child)


@pytest.mark.parametrize("function", [return_a_lock, report_a_lock])
def test_what_cannot_be_sent_back_is_our_own_fault(
    server: ForkServer, work: Callable[..., Work], function: Callable[..., Any]
) -> None:
    ending = server.run(work(function), print)
    assert isinstance(ending, Raised)
    assert isinstance(ending.error, WorkerError)
    assert "cannot pickle '_thread.lock' object" in str(ending.error)


def test_work_that_cannot_be_sent_is_told_as_such(
    server: ForkServer, work: Callable[..., Work]
) -> None:
    ending = server.run(work(lambda emit: None), print)
    assert isinstance(ending, Raised)
    assert isinstance(ending.error, NotSentError)
    ending = server.run(work(count, Stubborn()), print)
    assert isinstance(ending, Raised)
    assert isinstance(ending.error, NotSentError)
    assert str(ending.error).startswith("ZeroDivisionError: ")


def test_a_signal_ends_the_worker(work: Callable[..., Work], tmp_path: Path) -> None:
    with Interrupts() as interrupts:
        interrupts.patient = True

        def take(report: Any) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

        with pytest.raises(StoppedError, match="stopped by SIGTERM"):
            ForkServer(interrupts.check).run(work(sleep, tmp_path), take)
    assert not is_alive(int((tmp_path / "pid").read_text()))


class Interrupting:
    """Is being sent at the moment at which a signal comes."""

    def __reduce__(self) -> Any:
        raise StoppedError("stopped by SIGINT")


def test_a_signal_while_work_is_being_sent_stops_this_process(
    server: ForkServer, work: Callable[..., Work]
) -> None:
    with pytest.raises(StoppedError, match="stopped by SIGINT"):
        server.run(work(count, Interrupting()), print)
