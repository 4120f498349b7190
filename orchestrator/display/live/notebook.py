"""The live display in a notebook: one output of the cell, drawn again while the run goes on."""

from __future__ import annotations

import dataclasses
import importlib
import io
import sys
import threading
from collections.abc import Callable
from typing import Any

from rich.console import Console, RenderableType

_FRAMES_PER_SECOND = 2
"""How often the output is drawn; each drawing goes whole through the kernel to the browser."""
_WIDTH, _HEIGHT = 100, 40
"""Columns and lines of what is drawn: a cell has no size of its own."""
_PRE = (
    '<pre style="white-space: pre; overflow-x: auto; line-height: normal; font-family: Menlo, '
    "'DejaVu Sans Mono', consolas, 'Courier New', monospace\">{}</pre>"
)

Show = Callable[[dict[str, str]], None]
"""Shows an output in its types, in place of what it has shown before."""


def is_notebook() -> bool:
    """Whether this process is the kernel of a notebook, whose cells show more than text."""
    shell = sys.modules.get("IPython")
    return hasattr(shell.get_ipython(), "kernel") if shell is not None else False


def cell_output() -> Show:
    """The one output of the cell that runs."""
    ipython = importlib.import_module("IPython.display")  # a notebook has it, others need not
    handle: Any = None

    def show(bundle: dict[str, str]) -> None:
        nonlocal handle
        if handle is None:
            handle = ipython.display(bundle, raw=True, display_id=True)
        else:
            handle.update(bundle, raw=True)

    return show


class NotebookDisplay:
    """Keeps lines that stay, and the screen below them, in one output.

    Args:
        screen: what to keep below the lines.
        show: shows the output.
    """

    def __init__(self, screen: RenderableType, show: Show) -> None:
        self._screen = screen
        self._show = show
        self._lines = _Drawn()
        self._shown: _Drawn | None = None
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._refresh, daemon=True)

    def start(self) -> None:
        """Begin to draw."""
        self._thread.start()

    def stop(self) -> None:
        """Leave the lines that stay."""
        self._ended.set()
        self._thread.join()
        self.refresh()

    def print(self, renderable: RenderableType) -> None:
        """Add lines that stay."""
        with self._lock:
            self._lines += _Drawn.of(renderable)

    def refresh(self) -> None:
        """Draw everything as it is now, where that is not what is shown already."""
        with self._lock:
            drawn = self._lines + _Drawn.of(self._screen)
            if drawn == self._shown or (self._shown is None and not drawn.text.strip()):
                return
            self._show({"text/plain": drawn.text, "text/html": _PRE.format(drawn.html)})
            self._shown = drawn

    def _refresh(self) -> None:
        while not self._ended.wait(1 / _FRAMES_PER_SECOND):
            self.refresh()


@dataclasses.dataclass(frozen=True, slots=True)
class _Drawn:
    """Something as text and as HTML."""

    text: str = ""
    html: str = ""

    def __add__(self, other: _Drawn) -> _Drawn:
        return _Drawn(self.text + other.text, self.html + other.html)

    @classmethod
    def of(cls, renderable: RenderableType) -> _Drawn:
        """Draw it in the columns of a cell."""
        console = Console(
            file=io.StringIO(),
            record=True,
            width=_WIDTH,
            height=_HEIGHT,
            force_terminal=True,
            force_jupyter=False,
            color_system="truecolor",
        )
        console.print(renderable, highlight=False)
        text = console.export_text(clear=False)
        return cls(text, console.export_html(code_format="{code}", inline_styles=True))
