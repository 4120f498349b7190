"""Nothing of what a library below Python prints on its own account."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TextIO


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """While entered, what is printed is lost, also by processes that this one starts.

    What Python itself writes to stderr is not, such as the live display of another thread.
    """
    saved = os.dup(1), os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    stderr = sys.stderr
    try:
        sys.stdout.flush()
        stderr.flush()
        os.dup2(null, 1)
        os.dup2(null, 2)
        with open(saved[1], "w", encoding="utf-8", errors="replace", closefd=False) as shown:
            if _is_descriptor(stderr, 2):
                sys.stderr = shown
            yield
            sys.stderr = stderr
    finally:
        sys.stderr = stderr
        for number, copy in zip((1, 2), saved, strict=True):
            os.dup2(copy, number)
            os.close(copy)
        os.close(null)


def _is_descriptor(stream: TextIO, number: int) -> bool:
    """Whether a stream writes to a descriptor; one that tests put in its place has none."""
    try:
        return stream.fileno() == number
    except (OSError, AttributeError):
        return False
