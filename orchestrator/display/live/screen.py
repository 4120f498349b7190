"""The live display: some lines at the bottom of a terminal, drawn again four times a second."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.text import Text

from orchestrator.display.charts import Legible
from orchestrator.display.live import notebook
from orchestrator.display.live.block import block, waiting
from orchestrator.display.live.scene import Scene

FRAMES_PER_SECOND = 4
"""How often the lines are drawn."""


class Screen:
    """What the live display shows now, as rich draws it.

    Args:
        clock: tells the seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.scene: Scene | None = None
        """The scene to show; None before the run has begun and after it has ended."""
        self.note = ""
        """What goes on, in a few words, while there is no scene."""
        self._clock = clock
        self._start = clock()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it within the height of the terminal; rich flickers where there are more lines."""
        now, width = self._clock(), options.max_width
        lines: Sequence[Text] = ()
        if self.scene is not None:
            lines = block(self.scene, now, width=width, height=max(console.size.height - 1, 1))
        elif self.note:
            lines = [waiting(self.note, now, now - self._start, width=width)]
        yield Legible(Group(*lines))


class Display(Protocol):
    """Keeps a screen in view, and prints lines that stay above it."""

    def start(self) -> None:
        """Begin to draw."""

    def stop(self) -> None:
        """Take the screen away."""

    def print(self, renderable: RenderableType) -> None:
        """Print lines that stay."""


def display(screen: RenderableType, console: Console) -> Display | None:
    """What shows a screen here: the output of a notebook's cell, or the bottom of a terminal.

    Args:
        screen: what to show.
        console: where lines are printed.

    Returns:
        None for a file or a pipe, which get no more than the lines.
    """
    if notebook.is_notebook():
        return notebook.NotebookDisplay(screen, notebook.cell_output())
    return LiveDisplay(screen, console) if console.is_interactive else None


class LiveDisplay:
    """Keeps a screen at the bottom of a terminal, and prints lines that stay above it.

    With rich's own refresh thread, something printed between the two halves of a refresh leaves
    lines of the old screen behind. Here one lock keeps refreshing and printing apart.

    Args:
        screen: what to keep there.
        console: the terminal.
    """

    def __init__(self, screen: RenderableType, console: Console) -> None:
        self._live = Live(
            screen, console=console, auto_refresh=False, transient=True, redirect_stdout=False
        )
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._refresh, daemon=True)

    def start(self) -> None:
        """Begin to draw."""
        self._live.start()
        self._thread.start()

    def stop(self) -> None:
        """Take the screen away."""
        self._ended.set()
        self._thread.join()
        self._live.stop()

    def print(self, renderable: RenderableType) -> None:
        """Print lines that stay."""
        with self._lock:
            self._live.console.print(renderable, highlight=False)

    def refresh(self) -> None:
        """Draw the screen as it is now."""
        with self._lock:
            self._live.refresh()

    def _refresh(self) -> None:
        while not self._ended.wait(1 / FRAMES_PER_SECOND):
            self.refresh()
