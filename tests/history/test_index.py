"""The cache of the runs' lines: what it must not hold, and what it must not believe."""

import os
import random
import shutil
from pathlib import Path

import pytest

from orchestrator.history import find, index
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
