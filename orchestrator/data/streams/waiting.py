"""Tells that code of the user's, which gives batches while a model trains, is waited for."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

from orchestrator.data.streams.recording import Report
from orchestrator.record.events import ReadingProgress

SECONDS = 1.0
"""A batch that takes longer is told of."""


class Waiting:
    """Notes when a batch is asked for, and has a thread look whether it comes.

    Where the code hangs, nobody else in its process can say so.

    Args:
        what: what gives the batches.
        report: told that it is waited for, and again when it has come; None to tell nobody.
    """

    def __init__(self, what: str, report: Report | None) -> None:
        self._what = what
        self._report = report
        self._since: dict[int, float] = {}
        self._batches = 0
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """Within this one batch is asked for."""
        if self._thread is None and self._report is not None:
            self._thread = threading.Thread(target=self._watch, args=(self._report,), daemon=True)
            self._thread.start()
        own = threading.get_ident()
        self._since[own] = time.monotonic()
        try:
            yield
            self._batches += 1
        finally:
            del self._since[own]

    def each(self, batches: Iterable[Any]) -> Iterator[Any]:
        """The batches, each noted when it is asked for."""
        iterator, end = iter(batches), object()
        while True:
            with self.one():
                batch = next(iterator, end)
            if batch is end:
                return
            yield batch

    def _watch(self, report: Report) -> None:
        told = False
        while True:
            time.sleep(SECONDS / 4)
            oldest = min([*self._since.values()], default=None)
            late = oldest is not None and time.monotonic() - oldest > SECONDS
            if late != told:
                told = late
                report(ReadingProgress(what=self._what, done=not late))
