"""All runs of a folder, their cache, and the run that a name stands for."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from orchestrator.errors import InvalidError
from orchestrator.history import briefs, find, index, query
from tests.story import record, story


@pytest.fixture
def tmp_path(memory_path: Path) -> Path:
    return memory_path


def age(*directories: Path, seconds: float = 60.0) -> None:
    """What a cache keeps in mind has not changed for a while; only the clock tells, so patch it."""
    for directory in directories:
        past = time.time() - seconds
        os.utime(directory / "run.json", (past, past))


@pytest.fixture
def _settled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "_SETTLED", -1)


def same_with_and_without_a_cache(runs: Path) -> find.History:
    found = find.read_history(runs, cached=False)
    for _ in range(2):
        assert repr(find.read_history(runs)) == repr(found)  # NaN is not equal to itself
    return found


@pytest.mark.usefixtures("_settled")
def test_the_cache_never_changes_the_answer(runs: Path, tmp_path: Path) -> None:
    assert same_with_and_without_a_cache(runs) == find.History((), ())
    first, second = record(runs, story(loss=1e3)), record(runs, story(passes=False), name="other")
    assert len(same_with_and_without_a_cache(runs).runs) == 2
    copied = Path(shutil.copytree(first, runs / "copied"))
    assert {each.run for each in same_with_and_without_a_cache(runs).runs} == {
        "copied", first.name, second.name,
    }  # fmt: skip
    # As many bytes, and the times of before.
    found = (copied / "run.json").stat()
    text = (copied / "run.json").read_text()
    (copied / "run.json").write_text(text.replace('"status": "passed"', '"status": "error" ', 1))
    os.utime(copied / "run.json", ns=(found.st_atime_ns, found.st_mtime_ns))
    assert (copied / "run.json").stat().st_size == found.st_size
    statuses = {each.run: each.status for each in same_with_and_without_a_cache(runs).runs}
    assert statuses["copied"] == "error"
    # Another run under the name of the first.
    shutil.rmtree(first)
    second.rename(first)
    names = {each.run: each.name for each in same_with_and_without_a_cache(runs).runs}
    assert names[first.name] == "other"
    cache = runs / index.NAME
    assert cache.exists()
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(runs, elsewhere)
    assert same_with_and_without_a_cache(elsewhere).runs
    for content in (b"", b"\x93", cache.read_bytes()[:-5], b"not a cache"):
        cache.write_bytes(content)
        assert len(same_with_and_without_a_cache(runs).runs) == 2
    (copied / "run.json").write_text("{")
    (copied / "journal.jsonl").unlink()
    assert [each.directory for each in same_with_and_without_a_cache(runs).unreadable] == ["copied"]
    shutil.rmtree(runs)
    assert same_with_and_without_a_cache(runs) == find.History((), ())
    assert not runs.exists()


@pytest.mark.usefixtures("_settled")
def test_the_cache_is_used(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record(runs, story())
    unfinished = record(runs, story()[:8])
    find.read_history(runs)
    read = []
    monkeypatch.setattr(briefs, "_brief", lambda name, _: read.append(name))
    with pytest.raises(AttributeError):  # of the one that is not finished
        find.read_history(runs)
    assert set(read) == {unfinished.name}


def test_what_has_changed_just_now_may_change_again_and_is_not_kept_in_mind(runs: Path) -> None:
    directory = record(runs, story())
    find.read_history(runs)
    assert not (runs / index.NAME).exists()
    age(directory)  # that is a change itself
    find.read_history(runs)
    assert not (runs / index.NAME).exists()


READ = """
import sys
from pathlib import Path
from orchestrator.history import find, index
index._SETTLED = -1
for _ in range(30):
    assert len(find.read_history(Path(sys.argv[1])).runs) == 3
"""


def test_two_may_read_at_once(runs: Path) -> None:
    for _ in range(3):
        record(runs, story())
    command = [sys.executable, "-c", READ, str(runs)]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(2)]
    for process in processes:
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said.decode()
    assert not list(runs.glob(f"{index.NAME}.*"))


def test_the_newest_come_first_and_what_is_hidden_is_passed_over(runs: Path) -> None:
    directories = [record(runs, story()) for _ in range(3)]
    for day, directory in zip((2, 3, 1), directories, strict=True):
        text = (directory / "run.json").read_text()
        (directory / "run.json").write_text(text.replace('"started": "2', f'"started": "{day}', 1))
    (runs / ".draft").mkdir()
    (runs / "notes.txt").write_text("")
    os.symlink(directories[0], runs / "link")
    found = find.read_history(runs)
    assert [each.run for each in found.runs][0] == directories[1].name
    assert {each.run for each in found.runs[1:3]} == {directories[0].name, "link"}
    assert found.unreadable == ()


DEEP = b'{"schema": 1, "run": "x", "status": "passed", "attempts": [], "news": '
DAMAGE: dict[str, bytes | Callable[[Path], None]] = {
    "nested": b'{"a":' * 200_000,
    "nested where nobody looks": DEEP + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "not UTF-8": DEEP + b'"\xff\xfe"}',
    "a pipe": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a link in a circle": lambda path: path.symlink_to(path.name),
}


def spoil(path: Path, damage: bytes | Callable[[Path], None]) -> None:
    path.unlink(missing_ok=True)
    if isinstance(damage, bytes):
        path.write_bytes(damage)
    else:
        damage(path)


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_no_record_whatever_it_is_hides_the_other_runs(
    damage: bytes | Callable[[Path], None], runs: Path
) -> None:
    good, bad = record(runs, story(loss=1e3)), record(runs, story(loss=1e3), name="other")
    spoil(bad / "run.json", damage)
    found = find.read_history(runs)
    assert {each.run for each in found.runs} == {good.name, bad.name}  # by its journal
    spoil(bad / "journal.jsonl", damage)
    found = find.read_history(runs)
    assert [each.run for each in found.runs] == [good.name]
    assert [each.directory for each in found.unreadable] == [bad.name]


@pytest.mark.parametrize("name", ["journal.jsonl", ".lock"])
def test_a_run_in_progress_with_a_pipe_in_it_keeps_nobody_waiting(name: str, runs: Path) -> None:
    good, bad = record(runs, story(loss=1e3)), record(runs, story(loss=1e3)[:-1], name="other")
    spoil(bad / name, os.mkfifo)
    statuses = {each.run: each.status for each in find.read_history(runs).runs}
    assert statuses == {good.name: "passed", bad.name: "interrupted"}


@pytest.mark.parametrize("started", ["9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+12:00"])
def test_a_time_beyond_all_times_is_before_every_other(started: str, runs: Path) -> None:
    bad = record(runs, story(loss=1e3))
    value = json.loads((bad / "run.json").read_text())
    (bad / "run.json").write_text(json.dumps({**value, "started": started}))
    since = query.Query(since=datetime(2020, 1, 1, tzinfo=UTC))
    found = find.read_history(runs).runs
    assert len(found) == 1
    assert query.select(found, since) == ()


def test_what_nobody_may_look_into_is_named(runs: Path) -> None:
    good, closed = record(runs, story(loss=1e3)), record(runs, story(loss=1e3))
    (runs / "loop").symlink_to("loop")
    runs.parent.chmod(0o755)
    closed.chmod(0)
    me = os.geteuid()
    try:
        if me == 0:  # who may look into everything
            os.seteuid(65534)
        found = find.read_history(runs, cached=False)
    finally:
        os.seteuid(me)
        closed.chmod(0o755)
    assert [each.run for each in found.runs] == [good.name]
    assert [(each.directory, each.reason) for each in found.unreadable] == [
        (closed.name, "cannot be read: Permission denied"),
        ("loop", "cannot be read: Too many levels of symbolic links"),
    ]


def test_a_run_goes_by_its_name_the_beginning_of_it_or_its_directory(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = record(runs, story(), name="wide")
    longer = Path(shutil.copytree(directory, runs / f"{directory.name}-again"))
    other = record(runs, story(), name="deep")
    assert find.find_run(runs, directory.name) == directory
    assert find.find_run(runs, longer.name[:-1]) == longer
    assert find.find_run(runs, "deep") == other
    assert find.find_run(runs / "missing", str(other)) == other
    monkeypatch.chdir(other)
    assert find.find_run(runs, ".").resolve() == other
    assert find.find_attempt(runs, "deep@2") == (other, 2)
    assert find.find_attempt(runs, "deep") == (other, None)
    assert find.find_attempt(runs, "latest@1")[1] == 1
    odd = Path(shutil.copytree(other, runs / "odd@2"))
    monkeypatch.chdir(runs)
    assert find.find_attempt(Path("."), "odd@2") == (Path("odd@2"), None)
    assert find.find_attempt(runs, str(odd)) == (odd, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("wid", "2 runs begin so: wide-1, wide-2; give more of it"),
        ("wise-1", "there is no such run in .*; did you mean 'wide-1'?"),
        ("nothing like it", "there is no such run in .*; `orchestrate history` lists them"),
        ("", "RUN: expected a run's name, received an empty one"),
        ("@1", "RUN: expected a run's name, received an empty one"),
        ("wide-1@x", "expected a number after the @, received 'x'"),
        ("wide-1@", "expected a number after the @, received ''"),
        ("notes@1", "there is no such run"),
    ],
)
def test_a_name_that_stands_for_no_one_run_is_refused(text: str, message: str, runs: Path) -> None:
    directory = record(runs, story())
    for name in ("wide-1", "wide-2"):
        shutil.copytree(directory, runs / name)
    with pytest.raises(InvalidError, match=message):
        find.find_attempt(runs, text)


def test_what_only_stands_beside_the_runs_makes_no_name_ambiguous(runs: Path) -> None:
    directory = record(runs, story())
    (runs / "case-notes").mkdir()
    assert find.find_run(runs, "case") == directory
    (runs / "zoo").mkdir()
    assert find.find_run(runs, "zo") == runs / "zoo"  # to say what is wrong with it


def test_a_folder_that_is_no_run_is_not_looked_for_among_the_runs(
    runs: Path, tmp_path: Path
) -> None:
    record(runs, story())
    with pytest.raises(InvalidError, match=f"^{tmp_path}: is no run: it has neither a run.json"):
        find.find_run(runs, str(tmp_path))


def test_a_name_may_have_an_at(runs: Path) -> None:
    copy = shutil.copytree(record(runs, story()), runs / "at@home")
    assert find.find_attempt(runs, "at@home") == (copy, None)
    assert find.find_attempt(runs, "at@ho") == (copy, None)
    assert find.find_attempt(runs, "at@home@2") == (copy, 2)
    with pytest.raises(InvalidError, match="at@elsewhere: expected a number after the @"):
        find.find_attempt(runs, "at@elsewhere")


def test_a_whole_run_is_no_attempt(runs: Path) -> None:
    directory = record(runs, story())
    assert find.find_whole_run(runs, "case") == directory
    with pytest.raises(InvalidError, match="case@1: expected a whole run.*; leave out the @1$"):
        find.find_whole_run(runs, "case@1")
    with pytest.raises(InvalidError, match="^zoo: there is no such run"):
        find.find_whole_run(runs, "zoo@1")
    with pytest.raises(InvalidError, match="^zoo@home: there is no such run"):
        find.find_whole_run(runs, "zoo@home")


def test_without_runs_the_folder_is_named(runs: Path) -> None:
    for text in ("latest", "some"):
        with pytest.raises(InvalidError, match=f"there are no runs in {runs}"):
            find.find_run(runs, text)


def test_a_run_that_is_named_in_full_is_found_without_a_look_at_all_others(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = record(runs, story())
    monkeypatch.setattr(find, "run_names", None)
    for text in (directory.name, str(directory)):
        assert find.find_whole_run(runs, text) == directory
