"""Text that every terminal can show: nothing that moves the cursor, ASCII where need be.

Unlike `widths` it needs no rich, which takes too long to import for an error message.
"""

from __future__ import annotations

import json

_IN_ASCII = str.maketrans(
    "▁▂▃▄▅▆▇█×░━─·…–→↓⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏", "_.-~=+*#" + "x" + ".=--~->v" + "|/-\\|/-\\|/"
)
"""ASCII for each of our own characters: curves, bars, rules, arrows, spinner."""


def clean(text: str) -> str:
    """The text on one line, each run of white space as one blank."""
    return printable(" ".join(text.split()))


def plain(text: str) -> str:
    """The text on one line, with its blanks as they are."""
    return printable(text.expandtabs()).replace("\n", "?")


def printable(text: str) -> str:
    """The text with a question mark for each character that a terminal would not show but obey.

    Those are control characters, the marks that turn the direction of writing around, and halves of
    surrogate pairs; line breaks stay.
    """
    if text.isprintable():
        return text
    shown = (each if each.isprintable() or each == "\n" else "?" for each in text)
    return "".join(shown)


def legible_json(document: bytes) -> bytes:
    """The same JSON, with an escape for each character that a terminal would not show but obey.

    JSON itself asks for an escape of some of them only.
    """
    text = document.decode()
    if text.replace("\n", "").isprintable():
        return document
    shown = (
        each if each.isprintable() or each == "\n" else json.dumps(each)[1:-1] for each in text
    )
    return "".join(shown).encode()


def in_ascii(text: str) -> str:
    """The text with ASCII in place of our own pictures, as wide as before."""
    return text.replace("≤ ", "<=").translate(_IN_ASCII)
