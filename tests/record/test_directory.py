"""The content of files that anyone may have put into a run directory."""

import os
from pathlib import Path

import pytest

from orchestrator.record.storage.directory import read_file


@pytest.mark.parametrize("size", [0, 1, 70_000])
def test_a_file_is_read_whole_or_from_a_place_on(size: int, tmp_path: Path) -> None:
    content = os.urandom(size)
    path = tmp_path / "file"
    path.write_bytes(content)
    assert read_file(path) == content
    assert read_file(str(path), 1) == content[1:]
    assert read_file(path, size + 5) == b""


def test_a_file_without_a_size_of_its_own_is_read_whole() -> None:
    assert read_file("/proc/self/status").startswith(b"Name:")


def test_what_has_no_end_is_refused_without_waiting(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path, Path("/dev/zero")):
        with pytest.raises(OSError, match="not a regular file"):
            read_file(path)
    with pytest.raises(FileNotFoundError, match="No such file"):
        read_file(tmp_path / "missing")
