"""The journal is the truth: wherever it is cut, the rest is a valid state of the run.

Random events are recorded; then the journal is cut at every byte of its last lines, as a kill or a
power failure cuts it, and the run is taken up again.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import tempfile
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from orchestrator.record.encoding import jsonable
from orchestrator.record.events import (
    AttemptEnded,
    AttemptResumed,
    AttemptStarted,
    CausesFound,
    EpochEnded,
    Event,
    ModelBuilt,
    PhaseEnded,
    PhaseStarted,
    RacerEnded,
    RunEnded,
    RunResumed,
    SeedsScreened,
    Warned,
)
from orchestrator.record.records import (
    Attempt,
    Candidate,
    Failure,
    Finding,
    Inputs,
    Phase,
    Racer,
    Run,
    Settings,
)
from orchestrator.record.storage import archive, journal, store
from orchestrator.record.storage.store import Store
from tests import builders

TEXT = st.text(st.sampled_from("aß\n\r\",'\x00 "), max_size=3)
NAME = st.sampled_from(["loss", "val_loss", "größe", 'a,"b"', "epoch"])
METRICS = st.dictionaries(NAME, st.floats(), max_size=3)
TAIL = 2
"""Lines that are cut at every byte."""


def _epochs(events: list[Event], number: int) -> list[EpochEnded]:
    """The epochs of an attempt that stand."""
    found: list[EpochEnded] = []
    for event in events:
        if isinstance(event, EpochEnded) and event.attempt == number:
            found.append(event)
        elif isinstance(event, AttemptResumed) and event.attempt == number:
            found = [each for each in found if each.epoch <= event.epoch]
    return found


def _phases(events: list[Event], number: int) -> list[Phase]:
    found: list[Phase] = []
    for event in events:
        if isinstance(event, PhaseEnded) and event.attempt == number:
            found.append(event.phase)
        elif isinstance(event, AttemptResumed) and event.attempt == number:
            found = found[: event.phases]
    return found


def _expect_derived(root: Path, events: list[Event], run: Run) -> None:
    """Every file says what the journal says."""
    assert json.loads((root / "run.json").read_text()) == jsonable(run)
    numbers = {f"{attempt.attempt:03d}" for attempt in run.attempts}
    folder = root / "attempts"
    assert {path.name for path in folder.iterdir()} == numbers if numbers else not folder.exists()
    for attempt in run.attempts:
        own = folder / f"{attempt.attempt:03d}"
        assert json.loads((own / "attempt.json").read_text()) == jsonable(attempt)
        phases = {
            f"{index:02d}-{phase.phase}.json": jsonable(phase)
            for index, phase in enumerate(_phases(events, attempt.attempt))
        }
        checks = {path.name: json.loads(path.read_text()) for path in (own / "checks").iterdir()}
        assert checks == phases
        _expect_rows(own / "epochs.csv", _epochs(events, attempt.attempt))


def _expect_rows(path: Path, epochs: list[EpochEnded]) -> None:
    if not path.exists():
        assert not epochs
        return
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["phase"], row["epoch"]) for row in rows] == [
        (each.phase, str(each.epoch)) for each in epochs
    ]
    for row, each in zip(rows, epochs, strict=True):
        metrics = {name: str(value) for name, value in each.metrics.items() if name != "epoch"}
        assert {name: row[name] for name in metrics} == metrics
        assert all(row[name] == "" for name in row.keys() - metrics.keys() - _OWN)


_OWN = {"phase", "epoch", "learning_rate"}


class Recording(RuleBasedStateMachine):
    """A run whose events come in any order that makes sense."""

    @initialize()
    def create(self) -> None:
        self.folder = Path(tempfile.mkdtemp(dir=builders.MEMORY))
        self.store = store.create(
            self.folder,
            name="case",
            config=b"",
            resolved="",
            environment={},
            inputs=Inputs(),
            fingerprint="f00d",
        )
        (first,) = journal.read(self.store.paths.journal)
        self.events: list[Event] = [first.event]
        self.states = [self.store.run]

    @property
    def last(self) -> Attempt:
        return self.store.run.attempts[-1]

    def under_way(self) -> bool:
        run = self.store.run
        return run.status == "running" and bool(run.attempts) and self.last.status == "running"

    def may_start(self) -> bool:
        return self.store.run.status == "running" and not self.under_way()

    def record(self, event: Event) -> None:
        self.events.append(event)
        self.states.append(self.store.record(event))
        for attempt in self.store.run.attempts:
            path = self.store.paths.attempt(attempt.attempt).epochs
            _expect_rows(path, _epochs(self.events, attempt.attempt))

    @precondition(may_start)
    @rule(seed=st.integers(0, 9))
    def start(self, seed: int) -> None:
        self.record(
            AttemptStarted(
                attempt=len(self.store.run.attempts) + 1,
                settings=Settings(seed=seed),
                remedy=None,
                cause=None,
                changed={},
                passed_over=(),
            )
        )

    @precondition(may_start)
    @rule(seed=st.integers(0, 9), reason=TEXT)
    def race(self, seed: int, reason: str) -> None:
        settings, failure = Settings(seed=seed), Failure(check="finite", phase=None, reason=reason)
        racer = Racer(remedy="new_seed", rung="r", settings=settings, screened=2, failure=failure)
        self.record(RacerEnded(attempt=len(self.store.run.attempts) + 1, racer=racer))

    @precondition(under_way)
    @rule(seeds=st.lists(st.integers(0, 9), min_size=1, max_size=3), obstacle=TEXT)
    def build(self, seeds: list[int], obstacle: str) -> None:
        number = self.last.attempt
        candidates = tuple(Candidate(seed=seed, reason=None) for seed in seeds)
        if not self.last.screened:
            self.record(SeedsScreened(attempt=number, seed=seeds[-1], candidates=candidates))
        self.record(ModelBuilt(attempt=number, parameters=3, obstacles={"leaky_relu": obstacle}))

    @precondition(under_way)
    @rule(metrics=METRICS, rate=st.floats(0, 1))
    def train(self, metrics: dict[str, float], rate: float) -> None:
        number = self.last.attempt
        done = len(_epochs(self.events, number))
        name = f"phase{len(self.last.phases)}"
        self.record(PhaseStarted(attempt=number, phase=name, epochs=9, learning_rate=rate))
        for epoch in (done + 1, done + 2):
            self.record(
                EpochEnded(
                    attempt=number, phase=name, epoch=epoch, learning_rate=rate, metrics=metrics
                )
            )

    @precondition(under_way)
    @rule(verdict=st.sampled_from(["pass", "fail"]))
    def check(self, verdict: str) -> None:
        name = f"phase{len(self.last.phases)}" if self.last.phases else "init"
        phase = builders.phase(name, builders.check(verdict))  # type: ignore[arg-type]
        self.record(PhaseEnded(attempt=self.last.attempt, phase=phase))

    @precondition(under_way)
    @rule(found=st.sampled_from(["before", "after"]), reason=TEXT)
    def find(self, found: str, reason: str) -> None:
        finding = Finding(cause="few_steps", reason=reason, found=found)  # type: ignore[arg-type]
        self.record(CausesFound(attempt=self.last.attempt, findings=(finding,)))

    @rule(message=TEXT)
    def warn(self, message: str) -> None:
        self.record(Warned(message=message))

    @precondition(under_way)
    @rule(status=st.sampled_from(["failed", "passed", "crashed"]), reason=TEXT)
    def end(self, status: str, reason: str) -> None:
        failure = Failure(check="finite", phase=None, reason=reason)
        self.record(
            AttemptEnded(attempt=self.last.attempt, status=status, failure=failure, seconds=1.0)  # type: ignore[arg-type]
        )

    @precondition(under_way)
    @rule(data=st.data())
    def continue_attempt(self, data: st.DataObject) -> None:
        number = self.last.attempt
        phases = data.draw(st.integers(0, len(self.last.phases)))
        epoch = data.draw(st.integers(0, len(_epochs(self.events, number)))) if phases else 0
        restarts = self.last.restarts + 1
        self.record(AttemptResumed(attempt=number, restarts=restarts, phases=phases, epoch=epoch))

    @precondition(lambda self: self.store.run.status == "running")
    @rule()
    def interrupt(self) -> None:
        if self.under_way():
            number = self.last.attempt
            self.record(
                AttemptEnded(attempt=number, status="interrupted", failure=None, seconds=1.0)
            )
        self.record(
            RunEnded(
                status="interrupted",
                accepted_attempt=None,
                best_attempt=None,
                conclusion="stopped",
                exit_code=75,
            )
        )

    @precondition(lambda self: self.store.run.status == "interrupted")
    @rule()
    def resume(self) -> None:
        self.record(RunResumed(resumed="2026-01-01T00:00:00+00:00"))

    @rule(torn=st.binary(max_size=9))
    def kill(self, torn: bytes) -> None:
        """What the process has left of a line is no line of ours."""
        self.store.__exit__()
        paths = self.store.paths
        with paths.journal.open("ab") as file:
            file.write(b'{"crc":"' + torn.replace(b"\n", b""))
        self.store = store.reopen(paths.root)
        assert self.store.run == self.states[-1]
        assert self.store.fingerprint == "f00d"
        _expect_derived(paths.root, self.events, self.store.run)

    def teardown(self) -> None:
        if not hasattr(self, "store"):
            return
        try:
            self.store.__exit__()
            self.finish(self.store)
        finally:
            shutil.rmtree(self.folder)

    def finish(self, made: Store) -> None:
        """Take the whole run up again."""
        with store.reopen(made.paths.root) as again:
            _expect_derived(made.paths.root, self.events, again.run)


class Cut(Recording):
    """The same, and every beginning of its journal."""

    def finish(self, made: Store) -> None:
        """Take the run up from every beginning of its journal that a crash may leave."""
        content = made.paths.journal.read_bytes()
        ends = [index + 1 for index, byte in enumerate(content) if byte == ord("\n")]
        assert len(ends) == len(self.events)
        root = made.paths.root.with_name("cut")
        shutil.copytree(made.paths.root, root)
        path = root / "journal.jsonl"
        for size in range(len(content), ends[max(-1 - TAIL, -len(ends))] - 1, -1):
            os.truncate(path, size)
            count = sum(end <= size for end in ends)
            with store.reopen(root) as again:
                assert again.run == self.states[count - 1], size
                assert path.stat().st_size == ends[count - 1]
                if size in ends:
                    _expect_derived(root, self.events[:count], again.run)
                    told = archive.read(root)
                    assert (told.run, len(told.attempts)) == (
                        again.run.run,
                        len(again.run.attempts),
                    )
            path.write_bytes(content[:size])
        whole = self.events[:count]
        with store.reopen(root) as again:  # and it goes on
            event = Warned(message="on")
            assert again.record(event).warnings[-1] == "on"
            _expect_derived(root, [*whole, event], again.run)
        assert [entry.event for entry in journal.read(path)][: len(whole)] == whole


@pytest.mark.parametrize(("machine", "examples"), [(Recording, 20), (Cut, 3)])
def test_every_beginning_of_a_journal_is_a_state_of_the_run(
    machine: type[Recording], examples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=25,
            deadline=None,
            derandomize=True,
            database=None,
        ),
    )
