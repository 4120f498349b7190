"""A terminal just good enough to see what rich's live display leaves on it."""

from __future__ import annotations

import io
import re

from rich.cells import cell_len

_CODE = re.compile(r"\x1b\[(\??[0-9;]*)([A-Za-z])")


class Terminal(io.StringIO):
    """A stream that keeps lines as a terminal of endless height does.

    Args:
        encoding: what the stream says of itself.
    """

    def __init__(self, encoding: str = "utf-8") -> None:
        super().__init__()
        self._encoding = encoding
        self.lines = [""]
        self.widest = 0
        self.styled = False
        """Whether any colour or weight was asked for."""
        self._row = 0

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    def write(self, text: str) -> int:
        text.encode(self._encoding)
        position = 0
        for code in _CODE.finditer(text):
            self._put(text[position : code.start()])
            self._obey(*code.groups())
            position = code.end()
        self._put(text[position:])
        return len(text)

    def _put(self, text: str) -> None:
        for part in re.findall(r"[\r\n]|[^\r\n]+", text):
            if part == "\n":
                self._row += 1
                self.lines += [""] * (self._row + 1 - len(self.lines))
            elif part != "\r":  # what comes after one is erased first, always
                self.lines[self._row] += part
                self.widest = max(self.widest, cell_len(self.lines[self._row]))

    def _obey(self, number: str, letter: str) -> None:
        if letter == "A":
            self._row -= int(number or 1)
        elif letter == "K":
            self.lines[self._row] = ""
        elif letter == "m":
            self.styled = True
        elif not number.startswith("?25"):
            raise AssertionError(f"the terminal does not know {number}{letter}")
