"""Text that every terminal can show: nothing that moves the cursor, ASCII where need be.

Unlike `widths` it needs no rich, which takes too long to import for an error message.
"""

from __future__ import annotations

_IN_ASCII = str.maketrans(
    "▁▂▃▄▅▆▇█×░━─·…–→↓⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏", "_.-~=+*#" + "x" + ".=--~->v" + "|/-\\|/-\\|/"
)
"""ASCII for each of our own characters: curves, bars, rules, arrows, spinner."""


def clean(text: str) -> str:
    """The text on one line, each run of white space as one blank."""
    spaced = " ".join(text.split())
    return "".join(character if character.isprintable() else "?" for character in spaced)


def plain(text: str) -> str:
    """The text on one line, with its blanks as they are."""
    spaced = text.expandtabs()
    return "".join(character if character.isprintable() else "?" for character in spaced)


def in_ascii(text: str) -> str:
    """The text with ASCII in place of our own pictures, as wide as before."""
    return text.replace("≤ ", "<=").translate(_IN_ASCII)
