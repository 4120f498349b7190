"""Files of the user's: that one cannot be opened is a problem to tell."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from orchestrator.data.arrays import invalid


def open_file(path: Path, name: str) -> BinaryIO:
    """Open a file of the user's; that it cannot be opened is a problem."""
    try:
        return path.open("rb")
    except OSError as error:
        raise invalid(name, f"cannot be read: {error.strerror}", "check the path") from error
