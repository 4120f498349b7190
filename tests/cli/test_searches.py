"""The commands that look at runs, where there are searches among them."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import filelock
import pytest
from msgspec.structs import replace

from orchestrator.cli.app import execute as orchestrate
from orchestrator.record.search import Effect
from orchestrator.record.storage.directory import SearchPaths
from tests import searches
from tests.story import record, story

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _in_memory(memory_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(memory_path)
    monkeypatch.setenv("COLUMNS", "200")


def out(capsys: Capture, *arguments: str, code: int = 0) -> str:
    assert orchestrate(list(arguments)) == code
    shown, said = capsys.readouterr()
    return shown if code == 0 else said


def test_history_lists_searches_by_themselves(runs: Path, capsys: Capture) -> None:
    assert "there are no searches" in _said(capsys, "history", "--searches")
    run = record(runs, story(loss=1e3)).name
    searches.record(runs)
    table, _, below = out(capsys, "history").partition("\n\n")
    assert [line.split()[0] for line in table.splitlines()] == ["run", run]
    heading, line = below.splitlines()
    assert (
        heading.split()
        == "search started status trials objective best score recommended time".split()
    )
    assert line.split()[:1] == [searches.NAME]
    assert line.split()[3:] == ["finished", "12", "cost", "1.018", "1:30"]
    alone = out(capsys, "history", "--searches")
    assert alone == below
    (row,) = csv.DictReader(io.StringIO(out(capsys, "history", "--searches", "--csv")))
    assert (row["search"], row["trials"]) == (searches.NAME, "12")


def _said(capsys: Capture, *arguments: str) -> str:
    assert orchestrate(list(arguments)) == 0
    return capsys.readouterr().err


def test_the_runs_within_a_search_are_not_in_the_list(runs: Path, capsys: Capture) -> None:
    searches.record(runs)
    assert out(capsys, "history").splitlines()[0].startswith("search ")
    assert len(csv.reader(io.StringIO(out(capsys, "history", "--csv"))).__next__()) > 0
    assert out(capsys, "history", "--csv").count("\n") == 1


def test_history_for_programs_has_the_searches_without_their_runs(
    runs: Path, capsys: Capture
) -> None:
    searches.record(runs, name="renamed")
    found = json.loads(out(capsys, "history", "--json"))
    (search,) = found["searches"]
    assert (search["directory"], search["best_trial"]) == ("renamed", 8)
    assert search["trials"][0] == {**search["trials"][0], "trial": 1, "runs": []}
    assert (found["runs"], found["unreadable"]) == ([], [])


def test_searches_are_selected_by_what_they_have(runs: Path, capsys: Capture) -> None:
    searches.record(runs)
    record(runs, story(loss=1e3))
    for arguments in (["--status", "finished"], ["--name", "tune"], ["--since", "2026-11-26"]):
        assert searches.NAME in out(capsys, "history", *arguments)
    for arguments in (["--status", "passed"], ["--name", "case"], ["--where", "loss<9999"],
                      ["--check", "dead_neurons"]):  # fmt: skip
        assert searches.NAME not in out(capsys, "history", *arguments)


def test_a_search_in_progress_shows_how_far_it_is(runs: Path, capsys: Capture) -> None:
    made = (*searches.trials(5), replace(searches.trial(6), status="running"))
    running = searches.search(status="running", trials=made)
    directory = searches.record(runs, running)
    assert "interrupted" in out(capsys, "history")
    with filelock.FileLock(SearchPaths(directory).lock):
        assert "5 of 12" in out(capsys, "history")
        assert " running · 5 of 12 trials" in out(capsys, "show", "tune")


def test_a_damaged_search_is_named_and_the_rest_is_listed(runs: Path, capsys: Capture) -> None:
    SearchPaths(searches.record(runs)).record.write_text("{")
    record(runs, story(loss=1e3))
    assert orchestrate(["history"]) == 0
    shown, said = capsys.readouterr()
    assert len(shown.splitlines()) == 2
    assert f"{searches.NAME} is not listed: search.json is damaged" in said
    assert "search.json is damaged" in out(capsys, "show", "tune", code=2)


def test_show_tells_all_of_a_search(runs: Path, capsys: Capture) -> None:
    effects = (
        Effect(
            path=searches.FACTOR.path, trials=11, share=0.62, chance=0.02, best=0.01, edge="lowest"
        ),
        Effect(path=searches.SEEDS.path, trials=11, share=0.19, chance=0.43, best=24),
    )  # fmt: skip
    found = searches.search(
        comparison=searches.comparison(), effects=effects, recommended="tuned",
        conclusion="all 12 trials are made",
    )  # fmt: skip
    searches.record(runs, found)
    text = out(capsys, "show", searches.NAME)
    assert f"{searches.NAME}  finished · 12 of 12 trials · 1:30" in text
    assert "restart.policy.0.factor   0.01 to 1, logarithmic" in text
    best, *_, last = [line for line in text.splitlines() if "2 of 2" in line or "0 of 2" in line]
    assert best.split()[:5] == ["8", "1.018", "2", "of", "2"]
    assert last.split()[:2] == ["7", "–"]
    assert "failed: run 1 of 2 ended in an error: the disk is on fire" in text
    assert "Best: trial 8, score 1.018 on the 2 seeds of the search" in text
    (factor, *_) = [line for line in text.splitlines() if " 62% " in line]
    assert factor.split()[2:] == ["2%", "0.01,", "the", "lowest", "that", "was", "tried"]
    assert "The score depends on factor; of the others 11 trials do not tell." in text
    assert "All 12 trials are made.\nRecommended: the tuned config: orchestrate runs/" in text
    for name in (searches.NAME, "tune-air", "latest", str(runs / searches.NAME)):
        assert json.loads(out(capsys, "show", name, "--json"))["search"] == searches.NAME
    (first, *_) = csv.DictReader(io.StringIO(out(capsys, "show", "latest", "--csv")))
    assert (first["trial"], first["score"], first[searches.FACTOR.path]) == ("1", "2.0", "0.1")


def test_latest_is_whichever_began_last_and_where_only_a_run_will_do_a_run(
    runs: Path, capsys: Capture
) -> None:
    run = record(runs, story(loss=1e3)).name  # begun now, the search was before
    searches.record(runs, searches.search(started="2001-01-01T00:00:00+00:00"))
    assert json.loads(out(capsys, "show", "latest", "--json"))["run"] == run
    searches.record(runs, searches.search(started="2199-01-01T00:00:00+00:00"), name="tune-later")
    assert json.loads(out(capsys, "show", "latest", "--json"))["search"] == "tune-later"
    assert f"{run}@2" in out(capsys, "compare", "latest@1", "latest@2")
    assert "run passed" in out(capsys, "logs", "latest")
    said = out(capsys, "logs", "tune-later", code=2)
    assert "tune-later: expected a run, received a search, which holds runs" in said
    assert "`orchestrate show tune-later` shows it" in said


def test_a_run_within_a_search_goes_by_both_names(runs: Path, capsys: Capture) -> None:
    search = searches.record(runs)
    (run,) = SearchPaths(search).runs.iterdir()
    for name in (
        f"{searches.NAME}/runs/{run.name}",
        "tune/runs/case",
        "latest/runs/latest",
        str(run),
    ):
        assert json.loads(out(capsys, "show", name, "--json"))["run"] == run.name
    assert "attempt" in out(capsys, "show", "tune/runs/case@2", "--json")
    said = out(capsys, "show", "tune/runs/nothing", code=2)
    assert (
        f"nothing: there is no such run in {SearchPaths(search).runs.relative_to(Path.cwd())}"
        in (said.replace(f"{Path.cwd()}/", ""))
    )


def test_rm_takes_a_search_with_its_runs_and_prune_leaves_it(runs: Path, capsys: Capture) -> None:
    searches.record(runs)
    record(runs, story(loss=1e3))
    assert "moved case" in out(capsys, "prune", "--keep", "0")
    assert searches.NAME in out(capsys, "history")
    directory = runs / searches.NAME
    with filelock.FileLock(SearchPaths(directory).lock):
        assert "is in progress" in out(capsys, "rm", "tune", code=2)
    assert f"moved {searches.NAME}" in out(capsys, "rm", "tune")
    assert SearchPaths(runs / ".trash" / searches.NAME).is_search()


def test_none_of_it_imports_tensorflow_or_keras_tuner(runs: Path) -> None:
    searches.record(runs)
    for arguments in (["history"], ["show", "latest"]):
        code = (
            f"import orchestrator.cli.app as c, sys; assert c.execute({arguments!r}) == 0;"
            "print(*{name.partition('.')[0] for name in sys.modules})"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        loaded = set(done.stdout.splitlines()[-1].split())
        assert not loaded & {"tensorflow", "keras", "keras_tuner"}
        assert "numpy" not in loaded or arguments == ["show", "latest"]
