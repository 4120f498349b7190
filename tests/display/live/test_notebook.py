"""The live display of a notebook: one output, drawn again, and at the end the lines that stay."""

from __future__ import annotations

import io
import sys
import types
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text

from orchestrator.display.live import notebook
from orchestrator.display.live.screen import Screen, display


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, str]]]:
    """IPython as a kernel has it: what is displayed, and what is put in its place."""
    told: list[tuple[str, dict[str, str]]] = []

    class Handle:
        def update(self, bundle: dict[str, str], *, raw: bool) -> None:
            told.append(("update", bundle))

    def shown(bundle: dict[str, str], *, raw: bool, display_id: bool) -> Handle:
        assert raw
        assert display_id
        told.append(("display", bundle))
        return Handle()

    shell = types.SimpleNamespace(kernel=object())
    ipython: Any = types.ModuleType("IPython")
    ipython.get_ipython = lambda: shell
    ipython.display = types.ModuleType("IPython.display")
    ipython.display.display = shown
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", ipython.display)
    return told


def test_one_output_shows_the_lines_and_below_them_the_screen(
    kernel: list[tuple[str, dict[str, str]]],
) -> None:
    screen = Screen()
    live = display(screen, Console(file=io.StringIO()))
    assert isinstance(live, notebook.NotebookDisplay)
    live.start()
    live.refresh()
    assert kernel == []  # there is nothing to show yet
    screen.note = "importing TensorFlow"
    live.print(Text("Run a <b> & c", style="bold"))
    live.refresh()
    live.refresh()  # nothing new
    screen.note = ""
    live.print(Text("passed"))
    live.stop()
    assert [what for what, _ in kernel] == ["display", "update"]
    first, last = (bundle for _, bundle in kernel)
    assert first["text/plain"].startswith("Run a <b> & c\n")
    assert "importing TensorFlow" in first["text/plain"]
    assert "Run a &lt;b&gt; &amp; c" in first["text/html"]
    assert "font-weight: bold" in first["text/html"]
    assert last["text/plain"].split("\n")[:2] == ["Run a <b> & c", "passed"]
    assert "TensorFlow" not in last["text/html"]


def test_a_script_and_a_shell_of_ipython_are_no_notebooks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert display(Screen(), Console(file=io.StringIO())) is None
    shell: Any = types.ModuleType("IPython")
    shell.get_ipython = object
    monkeypatch.setitem(sys.modules, "IPython", shell)
    assert display(Screen(), Console(file=io.StringIO())) is None
