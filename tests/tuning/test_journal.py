from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import RecordError
from orchestrator.record import search as records
from orchestrator.record.search import Objective, Search, Term, TrialRun
from orchestrator.tuning import journal
from orchestrator.tuning.journal import (
    ArmRunEnded,
    ComparisonStarted,
    SearchEnded,
    SearchEvent,
    SearchStore,
    TrialEnded,
    TrialRunEnded,
    TrialStarted,
)

OBJECTIVE = Objective(
    name="cost", direction="min", terms=(Term(measure="cost", direction="min"),), penalty=8.0
)
EVENTS: list[SearchEvent] = [
    TrialStarted(trial=1, values={}),
    TrialRunEnded(trial=1, run=TrialRun(seed=4, status="passed", cost=1.0, score=1.0)),
    TrialEnded(trial=1, status="completed", score=1.0, reason=None),
    TrialStarted(trial=2, values={"restart.policy": ["new_seed"], "batch_size": 8}),
    TrialRunEnded(trial=2, run=TrialRun(seed=4, status="exhausted", cost=6.0, score=14.0)),
    TrialEnded(trial=2, status="cut", score=14.0, reason="too dear"),
    ComparisonStarted(seeds=(9,), arms=("default", "tuned")),
    ArmRunEnded(arm="tuned", run=TrialRun(seed=9, status="passed", cost=1.0, score=1.0)),
]
END = SearchEnded(
    status="finished",
    recommended="default",
    effects=(),
    conclusion="",
    exit_code=0,
    overhead_seconds=0.5,
)


@pytest.fixture
def store(runs: Path) -> Any:
    found = journal.create(
        runs,
        search=Search(search="", name="case", objective=OBJECTIVE, seeds=(4,)),
        config=b"given",
        resolved="resolved",
        environment={"packages": {}},
    )
    with found:
        yield found


def test_a_search_is_what_its_journal_says(store: SearchStore, runs: Path) -> None:
    for event in EVENTS:
        store.record(event)
    (directory,) = runs.iterdir()
    assert directory.name.startswith("tune-case-")
    found = records.read(directory)
    assert found == store.search
    assert (found.search, found.status, found.best_trial) == (directory.name, "running", 1)
    assert [trial.status for trial in found.trials] == ["completed", "cut"]
    assert found.trials[1].values == {"restart.policy": ["new_seed"], "batch_size": 8}
    comparison = found.comparison
    assert comparison is not None
    assert [(arm.arm, arm.score) for arm in comparison.arms] == [("default", None), ("tuned", 1.0)]
    store.record(END)
    assert records.read(directory).recommended == "default"
    assert (directory / "config.yaml").read_text() == "given"


def test_a_search_goes_on_where_its_journal_ends(
    store: SearchStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for event in EVENTS[:5]:
        store.record(event)
    directory = store.paths.root
    before = store.search
    with pytest.raises(RecordError, match=rf"process {os.getpid()} on .* works on it"):
        journal.reopen(directory)
    store.__exit__()
    assert records.read(directory).status == "interrupted"
    with store.paths.journal.open("ab") as file:
        file.write(b'{"crc":"00')  # a line that a kill has torn
    store.paths.record.unlink()
    monkeypatch.chdir(directory.parent)
    with journal.reopen(Path(directory.name)) as again:
        monkeypatch.chdir(tmp_path)  # as the user's code may
        assert again.search.trials == before.trials
        assert again.elapsed >= before.seconds
        again.record(EVENTS[5])
        assert records.read(directory).trials[1].status == "cut"
    with journal.reopen(directory) as again:
        assert [trial.status for trial in again.search.trials] == ["completed", "cut"]


def test_a_journal_of_something_else_is_refused(store: SearchStore) -> None:
    store.__exit__()
    store.paths.journal.write_bytes(b"")
    with pytest.raises(RecordError, match="expected at least one event"):
        journal.reopen(store.paths.root)
