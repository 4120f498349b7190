"""How a worker died, as a sentence: by which signal, and with how much memory."""

from __future__ import annotations

import contextlib
import os
import signal
import time

from orchestrator.training.executors import memory
from orchestrator.training.executors.executor import Died

_LOOK_SECONDS = 0.2
"""How often the memory of a worker is looked at: what it takes in less is not seen."""
_WRITE_SECONDS = 0.5
"""How long one that hangs may take to write down where."""
_NEAR = 0.8
"""From this share of the limit on, a kill may have been for want of memory."""
_WORDS = {
    "SIGSEGV": "segmentation fault",
    "SIGBUS": "bus error",
    "SIGABRT": "aborted",
    "SIGILL": "illegal instruction",
    "SIGFPE": "arithmetic error",
}
"""What the signals mean that a process sends to itself by a fault."""


class Watch:
    """Looks at a worker from outside while it lives, for what nobody can see afterwards.

    Args:
        pid: the worker.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._kills = memory.kills()
        self._peak: int | None = None
        self._next = 0.0
        self.look()  # it may die before anything else is heard of it

    def look(self) -> None:
        """Look at its memory, where the last look was some time ago."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _LOOK_SECONDS
            self._peak = memory.peak(self._pid) or self._peak

    def ended(self, code: int | None) -> Died:
        """How it died.

        Args:
            code: its exit code, the negative number of a signal; None where it has not come.
        """
        return describe(code, self._peak, memory.limit(), self._struck())

    def hung(self, patience: float) -> Died:
        """How it is with one that has not reported for so many seconds.

        It is asked to write into its log where it is, which it does even while C code holds
        Python's lock, and is given a moment for that.
        """
        reason = f"the worker made no progress for {patience:g} seconds"
        if memory.is_stopped(self._pid):
            return Died("hung", f"{reason}: it was stopped by a signal, such as SIGSTOP")
        if hasattr(signal, "SIGUSR2"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGUSR2)
                time.sleep(_WRITE_SECONDS)
        return Died("hung", reason)

    def _struck(self) -> bool:
        """Whether the kernel has killed a process for want of memory since the watch began."""
        now = memory.kills()
        return self._kills is not None and now is not None and now > self._kills


def describe(code: int | None, peak: int | None, limit: memory.Limit | None, struck: bool) -> Died:
    """How a worker died.

    Args:
        code: its exit code, the negative number of a signal; None where it has not come.
        peak: bytes of memory that it had reached; None where that is not known.
        limit: what it could take.
        struck: whether the kernel has killed a process for want of memory meanwhile.
    """
    if code is None or code >= 0:
        return Died("exited", f"the worker ended with exit code {code} and no result")
    reached = "" if peak is None else f" when it had reached {memory.as_text(peak)} of memory"
    name = _signal_name(-code)
    word = f" ({_WORDS[name]})" if name in _WORDS else ""
    died = f"the worker was killed by {name}{word}{reached}"
    bound = "" if limit is None else f"{limit.what}, and "
    if name == "SIGKILL" and struck:
        return Died("killed", f"{died}: {bound}the kernel's out-of-memory killer has struck")
    # Other programs than the kernel end one, and an allocation that fails may end a process too.
    if limit is not None and peak is not None and peak >= _NEAR * limit.size:
        return Died("killed", f"{died}, perhaps for want of it: {limit.what}")
    return Died("killed", died)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # one of the real-time signals, of which only the first and last have names
        return f"signal {number}"
