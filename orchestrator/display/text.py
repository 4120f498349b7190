"""Text from anywhere, without characters that would move the cursor."""

from __future__ import annotations


def clean(text: str) -> str:
    """The text on one line, with one blank for any number of them."""
    spaced = " ".join(text.split())
    return "".join(character if character.isprintable() else "?" for character in spaced)


def plain(text: str) -> str:
    """The text on one line as it is, its blanks too."""
    spaced = text.expandtabs()
    return "".join(character if character.isprintable() else "?" for character in spaced)
