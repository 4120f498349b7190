"""The cache of the runs' lines: what it must not hold, and what it must not believe."""

import os
import random
import shutil
import zlib
from pathlib import Path

import msgspec
import pytest

from orchestrator.history import find, index
from orchestrator.history.briefs import Brief
from tests.story import record, story


@pytest.fixture(autouse=True)
def _settled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "_SETTLED", -1)


def answers(runs: Path) -> list[str]:
    """With the cache as it stands, with the one that comes of it, and without."""
    return [repr(find.read_history(runs, cached=cached)) for cached in (True, True, False)]


def test_a_line_that_the_journal_gave_is_read_anew(runs: Path) -> None:
    directory = record(runs, story(loss=1e3))
    (directory / "run.json").write_text("{")
    assert find.read_history(runs).runs[0].status == "passed"
    journal = directory / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[: len(lines) // 2]))
    assert find.read_history(runs).runs[0].status == "interrupted"
    assert len(set(answers(runs))) == 1


def test_a_cache_with_a_changed_bit_is_not_believed(runs: Path) -> None:
    for passes in (True, False):
        record(runs, story(loss=1e3, passes=passes))
    truth = answers(runs)[-1]
    cache = runs / index.NAME
    content = cache.read_bytes()
    draw = random.Random(0)
    for _ in range(200):
        bit = draw.randrange(8 * len(content))
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        cache.write_bytes(damaged)
        assert repr(find.read_history(runs)) == truth


def test_a_cache_that_is_a_pipe_is_done_without(runs: Path) -> None:
    record(runs, story())
    os.mkfifo(runs / index.NAME)
    assert len(set(answers(runs))) == 1
    assert (runs / index.NAME).is_file()  # it is a cache: replaced


def test_a_run_whose_name_is_not_utf8_is_listed_beside_the_others(runs: Path) -> None:
    directory = record(runs, story(loss=1e3))
    odd = runs / os.fsdecode(b"non\xff")
    shutil.copytree(directory, odd)
    assert len(set(answers(runs))) == 1
    assert {each.run for each in find.read_history(runs).runs} == {directory.name, odd.name}
    assert (runs / index.NAME).is_file()


@pytest.mark.parametrize(
    ("version", "fields"), [(index._VERSION - 1, None), (index._VERSION, ("run", "name"))]
)
def test_lines_of_another_kind_are_read_anew(
    version: int, fields: tuple[str, ...] | None, runs: Path
) -> None:
    record(runs, story(loss=1e3))
    truth = answers(runs)[-1]
    lines = index._load(runs / index.NAME)
    assert lines
    content = index._Content(version, fields or Brief.__struct_fields__, lines)
    packed = msgspec.msgpack.encode(content)
    (runs / index.NAME).write_bytes(zlib.crc32(packed).to_bytes(4) + packed)
    assert index._load(runs / index.NAME) == {}
    assert repr(find.read_history(runs)) == truth
