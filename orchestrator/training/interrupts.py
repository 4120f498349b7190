"""Ctrl-C and its relatives, as a request that is answered between two events."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

from orchestrator.errors import StoppedError

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
"""Their names; not every platform has all."""


class Interrupts:
    """While entered, signals are kept for `check` instead of ending the process.

    Until `patient` is set nothing has been recorded, and a signal raises `StoppedError` at once.
    Outside the main thread, where Python takes no signals, it does nothing.
    """

    def __init__(self) -> None:
        self.patient = False
        """Whether there is something to record before the end."""
        self.received: signal.Signals | None = None
        """The first signal."""
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        """Take the signals over."""
        if threading.current_thread() is threading.main_thread():
            for name in SIGNALS:
                number = getattr(signal, name, None)
                # A signal that is ignored, as under nohup, stays ignored.
                if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exception: object) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Return at once, or stop.

        Raises:
            StoppedError: a signal came.
        """
        if self.received is not None:
            raise StoppedError(f"stopped by {self.received.name}")

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received = signal.Signals(number)
            if not self.patient:
                self.check()
