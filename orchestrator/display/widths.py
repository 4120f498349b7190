"""Text cut to the columns that there are."""

from __future__ import annotations

from rich.cells import cell_len, set_cell_size

_LEAST_ENDS = 7
"""From this width on a text is cut in its middle and not at its end."""


def crop(text: str, width: int, *, left: bool = False) -> str:
    """The text in at most so many columns.

    Args:
        text: one line.
        width: columns at most.
        left: cut at the start, for names that differ at their ends.
    """
    if cell_len(text) <= width:
        return text
    if width < 2:
        return "…"[: max(width, 0)]
    if not left:
        return set_cell_size(text, width - 1).rstrip() + "…"
    while cell_len(text) > width - 1:
        text = text[1:]
    return f"…{text}"


def squeeze(text: str, width: int) -> str:
    """The text in at most so many columns, with its two ends, the last of them longer."""
    if cell_len(text) <= width or width < _LEAST_ENDS:
        return crop(text, width)
    begin = crop(text, (width + 2) // 3)
    return begin.rstrip("…") + crop(text, width - cell_len(begin) + 1, left=True)
