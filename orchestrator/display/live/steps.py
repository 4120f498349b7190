"""What goes on while nothing is trained, one thing after the other, each with its time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

LONG_SECONDS = 2.0
"""What takes longer is told before it is over, too."""


class Steps:
    """Tells each thing that goes on once it is over, with its time.

    Args:
        tell: gets what has ended, with its seconds.
        warn: gets what has been going on for `LONG_SECONDS` and does so still; called by another
            thread.
    """

    def __init__(self, tell: Callable[[str, float], None], warn: Callable[[str], None]) -> None:
        self._tell = tell
        self._warn = warn
        self._what = ""
        self._text = ""
        self._began = 0.0
        self._timer: threading.Timer | None = None

    def begin(self, text: str) -> None:
        """Note what goes on now; what has gone on before is over, unless it is the same.

        Args:
            text: what goes on, and behind a colon how far it has come.
        """
        what, _, _ = text.partition(": ")
        self._text = text
        if what == self._what:
            return
        self.end()
        self._what, self._text, self._began = what, text, time.monotonic()
        self._timer = threading.Timer(LONG_SECONDS, self._tell_long)
        self._timer.daemon = True
        self._timer.start()

    def end(self, *, told: bool = True) -> None:
        """Note that what went on is over.

        Args:
            told: whether it is told of; not where its time stands elsewhere.
        """
        if self._timer is None:
            return
        self._timer.cancel()
        self._timer = None
        what, self._what = self._what, ""
        if told:
            self._tell(what, time.monotonic() - self._began)

    def _tell_long(self) -> None:
        if self._timer is not None:
            self._warn(self._text)
