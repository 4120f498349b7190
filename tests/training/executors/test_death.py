"""The sentences that say how a worker died."""

import signal

import pytest

from orchestrator.training.executors.death import describe
from orchestrator.training.executors.executor import Died
from orchestrator.training.executors.memory import Limit

MACHINE = Limit(24 * 10**9, "the machine has 24.0 GB")
GROUP = Limit(2 * 10**9, "its control group may take 2.0 GB")


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("SIGKILL", ""),
        ("SIGTERM", ""),
        ("SIGSEGV", " (segmentation fault)"),
        ("SIGBUS", " (bus error)"),
        ("SIGABRT", " (aborted)"),
        ("SIGILL", " (illegal instruction)"),
        ("SIGFPE", " (arithmetic error)"),
    ],
)
def test_a_signal_is_told_with_the_memory(name: str, word: str) -> None:
    code = -signal.Signals[name]
    told = f"the worker was killed by {name}{word} when it had reached 500 MB of memory"
    assert describe(code, 500 * 10**6, MACHINE, struck=False) == Died("killed", told)
    bare = f"the worker was killed by {name}{word}"
    assert describe(code, None, None, struck=False) == Died("killed", bare)


def test_that_the_kernel_has_struck_is_told_where_it_is_known() -> None:
    told = (
        "the worker was killed by SIGKILL when it had reached 1.9 GB of memory: its control group "
        "may take 2.0 GB, and the kernel's out-of-memory killer has struck"
    )
    killed = -signal.SIGKILL
    assert describe(killed, 19 * 10**8, GROUP, struck=True) == Died("killed", told)
    told = "the worker was killed by SIGKILL: the kernel's out-of-memory killer has struck"
    assert describe(killed, None, None, struck=True) == Died("killed", told)


def test_another_signal_is_not_the_out_of_memory_killer() -> None:
    died = describe(-signal.SIGTERM, 10**9, MACHINE, struck=True)
    assert died.reason == "the worker was killed by SIGTERM when it had reached 1.0 GB of memory"


def test_near_the_limit_it_may_have_been_for_want_of_memory() -> None:
    killed = -signal.SIGKILL
    told = (
        "the worker was killed by SIGKILL when it had reached 19.2 GB of memory, perhaps for want "
        "of it: the machine has 24.0 GB"
    )
    assert describe(killed, 192 * 10**8, MACHINE, struck=False).reason == told
    below = describe(killed, 192 * 10**8 - 1, MACHINE, struck=False).reason
    assert below == "the worker was killed by SIGKILL when it had reached 19.2 GB of memory"


@pytest.mark.parametrize("code", [0, 3, None])
def test_an_exit_is_told_by_its_code(code: int | None) -> None:
    told = f"the worker ended with exit code {code} and no result"
    assert describe(code, 10**9, MACHINE, struck=True) == Died("exited", told)
