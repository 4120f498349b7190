"""The content of files that anyone may have put into a run directory."""

from __future__ import annotations

import errno
import os
import stat

_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
"""A pipe is opened without waiting for who writes into it."""


def read(path: str | os.PathLike[str], start: int = 0) -> bytes:
    """The content of a regular file; in half the time of `open`, which asks the system for more.

    Args:
        path: the file.
        start: bytes to leave out at its beginning.

    Raises:
        OSError: it cannot be read, or is a pipe, a device or a folder, which may have no end.
    """
    descriptor = os.open(path, _FLAGS)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        if start:
            os.lseek(descriptor, start, os.SEEK_SET)
        # Once more than its size, for a file that grows meanwhile.
        block = max(found.st_size - start, 0) + 1
        content = os.read(descriptor, block)
        while len(content) >= block and (more := os.read(descriptor, block)):
            content += more
        return content
    finally:
        os.close(descriptor)
