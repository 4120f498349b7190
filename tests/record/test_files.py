"""The content of files that anyone may have put into a run directory."""

import os
from pathlib import Path

import pytest

from orchestrator.record import files


@pytest.mark.parametrize("size", [0, 1, 70_000])
def test_a_file_is_read_whole_or_from_a_place_on(size: int, tmp_path: Path) -> None:
    content = os.urandom(size)
    path = tmp_path / "file"
    path.write_bytes(content)
    assert files.read(path) == content
    assert files.read(str(path), 1) == content[1:]
    assert files.read(path, size + 5) == b""


def test_a_file_without_a_size_of_its_own_is_read_whole() -> None:
    assert files.read("/proc/self/status").startswith(b"Name:")


def test_what_has_no_end_is_refused_without_waiting(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path, Path("/dev/zero")):
        with pytest.raises(OSError, match="not a regular file"):
            files.read(path)
    with pytest.raises(FileNotFoundError, match="No such file"):
        files.read(tmp_path / "missing")
