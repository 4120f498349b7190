"""Text that every terminal can show: nothing that moves the cursor, ASCII where need be."""

from __future__ import annotations

_IN_ASCII = str.maketrans(
    "▁▂▃▄▅▆▇█×░━─·…–→↓⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏", "_.-~=+*#" + "x" + ".=--~->v" + "|/-\\|/-\\|/"
)
"""ASCII for each of our own pictures: curves, bars, rules, arrows, and what turns meanwhile."""


def clean(text: str) -> str:
    """The text on one line, with one blank for any number of them."""
    spaced = " ".join(text.split())
    return "".join(character if character.isprintable() else "?" for character in spaced)


def plain(text: str) -> str:
    """The text on one line as it is, its blanks too."""
    spaced = text.expandtabs()
    return "".join(character if character.isprintable() else "?" for character in spaced)


def in_ascii(text: str) -> str:
    """The text with ASCII in place of our own pictures, as wide as before."""
    return text.replace("≤ ", "<=").translate(_IN_ASCII)
