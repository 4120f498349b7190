from __future__ import annotations

import errno
import itertools
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from orchestrator.config.schema import Config
from orchestrator.errors import (
    InvalidError,
    OrchestratorError,
    Problem,
    StoppedError,
    UserCodeError,
    WorkerDiedError,
    WorkerError,
)
from orchestrator.policy.rule import derive_seed
from orchestrator.record.encoding import jsonable
from orchestrator.record.events import (
    AttemptEnded,
    AttemptResumed,
    AttemptStarted,
    CausesFound,
    EpochEnded,
    Event,
    Heartbeat,
    ModelBuilt,
    PhaseEnded,
    PhaseStarted,
    ReadingProgress,
    RunEnded,
    RunResumed,
    SeedsScreened,
    TrainingProgress,
    Warned,
)
from orchestrator.record.records import (
    INIT,
    Candidate,
    Failure,
    Finding,
    Fix,
    Inputs,
    Phase,
    Run,
    Settings,
    Start,
)
from orchestrator.record.storage import archive, store
from orchestrator.record.storage.directory import AttemptPaths, Place, entries
from orchestrator.record.storage.journal import read, replay
from orchestrator.record.storage.store import Store
from orchestrator.training import loop
from orchestrator.training.attempt.task import Task
from orchestrator.training.executors import executor
from orchestrator.training.executors.executor import Died, Emit, Ending, Raised
from tests import builders

Script = Callable[[Task], Iterator[Event | Heartbeat]]
POLICY = {"policy": ["new_seed", "lower_learning_rate", "leaky_relu"]}


class Watcher:
    """Remembers what it was shown, and that it stood in the journal by then."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.shown: list[Event | Heartbeat] = []
        self.runs: list[Run] = []

    def show(self, event: Event | Heartbeat, run: Run) -> None:
        self.shown.append(event)
        self.runs.append(run)
        if not isinstance(event, Heartbeat):
            last = json.loads(self.store.paths.journal.read_bytes().splitlines()[-1])
            assert last["event"].replace("_", "") == type(event).__name__.lower()


class FullStore(Store):
    """A store on a disk that is full from one event on."""

    full_from: type[Any] = RunEnded
    again = True
    """Whether it stays full."""

    def record(self, event: Event) -> Run:
        if isinstance(event, self.full_from):
            if not self.again:
                self.full_from = type(None)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.paths.journal))
        return super().record(event)


def _init() -> Phase:
    return builders.phase(INIT, builders.check(), builders.worth(0.0))


def _passing(task: Task, *, skill: float = 0.9, until: int = 3) -> Iterator[Event | Heartbeat]:
    """An attempt whose phases all pass."""
    number = task.attempt
    yield ModelBuilt(attempt=number, parameters=3, obstacles={})
    yield PhaseEnded(
        attempt=number, phase=builders.phase(INIT, builders.check(), builders.worth(0.0))
    )
    epoch = 0
    for plan in task.config.phases[: until - 1]:
        yield PhaseStarted(attempt=number, phase=plan.name, epochs=plan.epochs, learning_rate=0.1)
        for _ in range(plan.epochs):
            epoch += 1
            yield TrainingProgress(step=1, steps=2)
            yield EpochEnded(
                attempt=number,
                phase=plan.name,
                epoch=epoch,
                learning_rate=0.1,
                metrics={"loss": 1 / epoch},
            )
        (task.directory / "checkpoint.keras").write_text(f"checkpoint {number}")
        yield PhaseEnded(
            attempt=number, phase=builders.phase(plan.name, builders.check(), builders.worth(skill))
        )
    (task.directory / ".model.keras").write_text(f"model {number}")


def _failing(*, at: str = "main", name: str = "dead_neurons", skill: float | None = 0.0) -> Script:
    """An attempt that fails a check after a phase."""

    def train(task: Task) -> Iterator[Event | Heartbeat]:
        for event in _passing(task):
            if isinstance(event, PhaseEnded) and event.phase.phase == at:
                checks = [builders.check("fail", name=name)]
                checks += [] if skill is None else [builders.worth(skill)]
                yield PhaseEnded(attempt=task.attempt, phase=builders.phase(at, *checks))
                return
            yield event

    return train


def _raising(error: Exception, *, after: int = 4) -> Script:
    """An attempt that raises after so many events."""

    def train(task: Task) -> Iterator[Event | Heartbeat]:
        yield from itertools.islice(_passing(task), after)
        raise error

    return train


class Scripted:
    """An executor of attempts by their scripts; the last script goes on for ever."""

    def __init__(self, *scripts: Script) -> None:
        self.scripts = scripts
        self.tasks: list[Task] = []

    def run(self, work: Any, take: Emit) -> Ending[Any]:
        self.tasks.append(work.task)
        try:
            if (begun := work.task.begun) is not None:
                take(
                    AttemptResumed(
                        attempt=work.task.attempt,
                        restarts=begun.restarts,
                        phases=0,
                        epoch=0,
                        reason=begun.reason,
                    )
                )
            for event in self.scripts[min(len(self.tasks), len(self.scripts)) - 1](work.task):
                take(event)
        except WorkerDiedError as error:
            return Died("hung" if "no progress" in str(error) else "killed", str(error))
        except OrchestratorError as error:
            return Raised(error)
        return executor.Finished(None)


class Finished:
    """A run that was executed, and all that was seen of it."""

    def __init__(
        self, folder: Path, scripts: Sequence[Script], kind: type[Store], config: Config
    ) -> None:
        created = store.create(
            folder / "runs",
            name=config.name,
            config=b"",
            resolved="",
            environment={},
            inputs=Inputs(),
            fingerprint="f00d",
        )
        self.store = kind(
            created.paths, created.run, created._journal, created._lock, created.fingerprint
        )
        self.watcher = Watcher(self.store)
        self.executor = Scripted(*scripts)
        with self.store:
            self.run = loop.execute(config, self.store, self.executor, self.watcher)
        self.root = self.store.paths.root

    @property
    def statuses(self) -> list[str]:
        return [attempt.status for attempt in self.run.attempts]

    @property
    def remedies(self) -> list[str | None]:
        return [attempt.remedy for attempt in self.run.attempts]

    def files(self, name: str) -> list[str]:
        """Where files of that name lie."""
        return sorted(str(path.relative_to(self.root)) for path in self.root.rglob(name))


Play = Callable[..., Finished]


@pytest.fixture
def play() -> Iterator[Play]:
    with tempfile.TemporaryDirectory(dir=builders.MEMORY) as folder:

        def execute(*scripts: Script, kind: type[Store] = Store, **sections: Any) -> Finished:
            return Finished(Path(folder), scripts, kind, builders.config(**sections))

        yield execute


def _assert_recorded(finished: Finished) -> None:
    """What was returned is what stands on the disk."""
    record = json.loads((finished.root / "run.json").read_text())
    assert record == jsonable(finished.run)
    assert record == jsonable(replay(read(finished.root / "journal.jsonl")))


# ------------------------------------------------------------------------------- passing


def test_a_first_attempt_that_passes_is_accepted(play: Play) -> None:
    done = play(_passing)
    run = done.run
    assert (run.status, run.exit_code, run.accepted_attempt, run.best_attempt) == (
        "passed",
        0,
        1,
        1,
    )
    assert run.conclusion == "attempt 1 passed"
    assert done.statuses == ["passed"]
    assert [phase.phase for phase in run.attempts[0].phases] == ["init", "warmup", "main"]
    assert (done.root / "model.keras").read_text() == "model 1"
    assert done.files("checkpoint.keras") == ["attempts/001/checkpoint.keras"]
    _assert_recorded(done)


def test_the_first_task_is_the_config_with_its_seed(play: Play) -> None:
    (task,) = play(_passing).executor.tasks
    assert (task.attempt, task.settings, task.fingerprint) == (1, Settings(seed=7), "f00d")
    assert task.directory.name == "001"
    assert task.directory.is_dir()


def test_a_failed_attempt_is_followed_by_another_until_one_passes(play: Play) -> None:
    done = play(_failing(), _failing(at="warmup", name="finite"), _passing, restart=POLICY)
    run = done.run
    assert (run.status, run.exit_code, run.accepted_attempt) == ("passed", 0, 3)
    assert run.conclusion == "attempt 3 passed after lower_learning_rate"
    assert done.statuses == ["failed", "failed", "passed"]
    assert done.remedies == [None, "new_seed", "lower_learning_rate"]
    first, second, third = run.attempts
    assert first.failure == Failure(
        check="dead_neurons", phase="main", reason="dead_neurons says fail"
    )
    assert (second.cause, third.cause) == (first.failure, second.failure)
    assert second.changed == {"seed": {"from": 7, "to": derive_seed(7, 1)}}
    assert third.settings.learning_rate_cap == pytest.approx(0.01)
    assert [task.settings for task in done.executor.tasks] == [a.settings for a in run.attempts]
    assert (done.root / "model.keras").read_text() == "model 3"
    assert done.files("checkpoint.keras") == ["attempts/003/checkpoint.keras"]
    _assert_recorded(done)


def test_a_warning_does_not_stop_an_attempt(play: Play) -> None:
    def warned(task: Task) -> Iterator[Event | Heartbeat]:
        yield Warned(message="weights only")
        yield from _passing(task)

    done = play(warned)
    assert (done.run.status, done.run.warnings) == ("passed", ("weights only",))


def test_all_checkpoints_stay_where_the_config_keeps_them(play: Play) -> None:
    done = play(_failing(), _passing, restart=POLICY, keep="all")
    assert done.files("checkpoint.keras") == [
        "attempts/001/checkpoint.keras",
        "attempts/002/checkpoint.keras",
    ]


# ------------------------------------------------------------------------------- exhausted


@pytest.mark.parametrize("keep", ["accepted", "all"])
def test_what_a_run_takes_on_disk_is_what_the_readme_says(play: Play, keep: str) -> None:
    def with_snapshots(script: Script) -> Script:
        def run(task: Task) -> Iterator[Event | Heartbeat]:
            for epoch in (1, 2):
                AttemptPaths(task.directory).snapshot(Place(1, epoch, 0)).write_bytes(b"s" * 10**6)
            yield from script(task)

        return run

    scripts = [with_snapshots(each) for each in (_failing(), _failing(skill=0.5), _passing)]
    done = play(*scripts, keep=keep)
    weights = {"checkpoint.keras", ".model.keras", "model.keras"}
    found = {entry.path for entry in entries(done.root) if entry.name in weights}
    kept = {"accepted": ("003",), "all": ("001", "002", "003")}[keep]
    expected = {f"{done.root}/attempts/{each}/checkpoint.keras" for each in kept}
    assert found == {*expected, f"{done.root}/model.keras"}
    assert archive.sizes(done.root)["attempts"] < 10**6  # no snapshot is left


def test_a_run_whose_policy_is_used_up_is_exhausted(play: Play) -> None:
    done = play(_failing(), restart=POLICY)
    run = done.run
    assert (run.status, run.exit_code, run.accepted_attempt) == ("exhausted", 3, None)
    assert done.remedies == [None, "new_seed", "lower_learning_rate", "leaky_relu"]
    assert run.attempts[-1].failure is not None
    assert run.conclusion == (
        "all 4 attempts failed dead_neurons, the last one because "
        f"{run.attempts[-1].failure.reason}. The policy has no rung left that answers this failure"
    )
    assert not (done.root / "model.keras").exists()
    _assert_recorded(done)


def test_no_more_attempts_are_made_than_allowed(play: Play) -> None:
    done = play(_failing(), restart={"max_attempts": 2, **POLICY})
    assert (done.run.status, done.statuses) == ("exhausted", ["failed", "failed"])
    assert done.run.conclusion is not None
    said = ". 2 attempts were made, restart.max_attempts allows no more"
    assert done.run.conclusion.endswith(said)


def test_no_attempt_is_started_after_the_time(play: Play) -> None:
    done = play(_failing(), restart={"max_seconds": 1e-9, **POLICY})
    assert (done.run.status, done.statuses) == ("exhausted", ["failed"])
    assert done.run.conclusion is not None
    assert done.run.conclusion.startswith("the attempt failed dead_neurons: ")
    assert done.run.conclusion.endswith(". The time is up, restart.max_seconds is 1e-09")


def test_remedies_that_the_model_cannot_carry_are_passed_over(play: Play) -> None:
    def obstructed(task: Task) -> Iterator[Event | Heartbeat]:
        for event in _failing()(task):
            if isinstance(event, ModelBuilt):
                reason = {"leaky_relu": "your own code applies relu"} if task.attempt == 1 else {}
                event = ModelBuilt(attempt=task.attempt, parameters=3, obstacles=reason)
            yield event

    done = play(obstructed, restart={"policy": ["leaky_relu", "new_seed"]})
    assert done.remedies == [None, "new_seed"]
    assert done.run.attempts[1].passed_over == ("leaky_relu: your own code applies relu",)
    assert [attempt.rung for attempt in done.run.attempts] == [None, "restart.policy.1"]
    assert [attempt.obstacles for attempt in done.run.attempts] == [
        {"leaky_relu": "your own code applies relu"},
        {},
    ]
    _assert_recorded(done)
    # The second attempt names no obstacle, and the first one's still stands.
    assert done.run.conclusion is not None
    assert done.run.conclusion.endswith(
        ". The policy has no rung left that answers this failure; "
        "passed over: leaky_relu: your own code applies relu"
    )


def test_the_best_of_the_failed_attempts_keeps_its_checkpoint(play: Play) -> None:
    scripts = [_failing(skill=skill) for skill in (0.1, 0.4, 0.4, None)]
    done = play(*scripts, restart=POLICY)
    assert (done.run.accepted_attempt, done.run.best_attempt) == (None, 2)
    assert done.files("checkpoint.keras") == ["attempts/002/checkpoint.keras"]


def test_an_untrained_attempt_is_not_the_best(play: Play) -> None:
    done = play(
        _failing(skill=-5.0), _failing(at=INIT, skill=0.5), restart={"policy": ["new_seed"]}
    )
    assert done.run.best_attempt == 1


def test_without_any_skill_there_is_no_best(play: Play) -> None:
    done = play(_failing(at=INIT), restart={"policy": []})
    assert (done.run.status, done.run.best_attempt) == ("exhausted", None)


def test_the_end_says_what_the_evidence_points_to(play: Play) -> None:
    def explained(task: Task) -> Iterator[Event | Heartbeat]:
        yield from _failing()(task)
        reason = f"the inputs are not scaled, seen {task.attempt} times"
        finding = Finding(cause="unscaled_inputs", reason=reason, certain=False)
        yield CausesFound(attempt=task.attempt, findings=(finding,))

    done = play(explained, restart={"policy": ["new_seed"]})
    assert [attempt.findings[0].cause for attempt in done.run.attempts] == ["unscaled_inputs"] * 2
    assert done.run.conclusion is not None
    assert done.run.conclusion.startswith("the inputs are not scaled, seen 2 times. ")
    _assert_recorded(done)


@pytest.mark.parametrize("policy", [None, ["new_seed"]])
def test_where_nothing_can_help_nothing_is_tried_but_what_the_config_asks_for(
    play: Play, policy: list[str] | None
) -> None:
    def hopeless(task: Task) -> Iterator[Event | Heartbeat]:
        yield from _failing()(task)
        finding = Finding(cause="unreachable_targets", reason="relu never gives -1", certain=True)
        yield CausesFound(attempt=task.attempt, findings=(finding,))

    done = play(hopeless, restart={"policy": policy})
    assert len(done.run.attempts) == (1 if policy is None else 2)
    assert done.run.status == "exhausted"
    if policy is None:
        assert done.run.conclusion == (
            "no remedy can help: relu never gives -1; passed over: fix_output: what to write "
            "instead depends on what is meant, so that it is left to you"
        )


def test_an_attempt_may_choose_among_seeds_that_were_not_used(play: Play) -> None:
    offered = []

    def screened(task: Task) -> Iterator[Event | Heartbeat]:
        offered.append(task.seeds)
        if task.attempt == 1:
            candidates = (*(Candidate(seed=seed, reason="dead") for seed in task.seeds[:2]),
                          Candidate(seed=task.seeds[2], reason=None))  # fmt: skip
            yield SeedsScreened(attempt=1, seed=task.seeds[2], candidates=candidates)
        yield from _failing()(task)

    policy = ["new_seed", {"remedy": "lower_learning_rate", "keep_seed": True}]
    done = play(screened, restart={"policy": policy, "screen_seeds": 4})
    first, second, third = offered
    derived = [derive_seed(7, count) for count in range(1, 7)]
    assert first == (7, *derived[:3])
    assert second == tuple(derived[2:6])
    assert third == second[:1]
    run = done.run
    assert [attempt.settings.seed for attempt in run.attempts] == [first[2], second[0], second[0]]
    assert run.attempts[1].changed == {"seed": {"from": first[2], "to": second[0]}}
    assert run.screened_seeds == 3
    _assert_recorded(done)


# ------------------------------------------------------------------------------- crashes


def test_an_attempt_whose_worker_died_is_crashed_and_the_policy_goes_on(play: Play) -> None:
    done = play(
        *[_raising(WorkerDiedError("killed by SIGKILL"), after=4)] * 4,
        _passing,
        restart={"policy": [{"remedy": "new_seed", "when": ["crashed"]}]},
    )
    assert (done.run.status, done.statuses) == ("passed", ["crashed", "passed"])
    assert done.run.attempts[0].failure == Failure(
        check="crashed", phase="warmup", reason="killed by SIGKILL"
    )
    assert done.run.attempts[0].restarts == 3
    _assert_recorded(done)


def test_while_a_run_goes_on_it_keeps_what_it_may_still_end_with(play: Play) -> None:
    there: list[list[str]] = []

    def watched(task: Task) -> Iterator[Event | Heartbeat]:
        root = task.directory.parent
        there.append(sorted(str(path.relative_to(root)) for path in root.rglob("*.keras")))
        skill = (0.2, 0.6, 0.4, 0.1)[task.attempt - 1]
        yield from _failing(skill=skill)(task)

    done = play(watched, restart={"policy": ["new_seed"] * 3, "max_attempts": 4})
    kept = [[], ["001/checkpoint.keras"], ["002/checkpoint.keras"], ["002/checkpoint.keras"]]
    assert there == kept
    assert done.run.best_attempt == 2


def test_an_attempt_whose_worker_died_goes_on(play: Play) -> None:
    killed = _raising(WorkerDiedError("killed by SIGKILL"), after=8)
    done = play(killed, killed, _passing)
    assert (done.run.status, done.statuses) == ("passed", ["passed"])
    (attempt,) = done.run.attempts
    assert attempt.restarts == 2
    assert [phase.phase for phase in attempt.phases] == ["init", "warmup", "main"]
    first, second, third = done.executor.tasks
    assert first.begun is None and second.begun is not None and third.begun is not None
    assert (second.begun.place.phases, second.begun.reason) == (2, "killed by SIGKILL")
    assert second.seeds == first.seeds
    _assert_recorded(done)


def test_a_worker_that_comes_further_each_time_is_started_again(play: Play) -> None:
    def onward(task: Task) -> Iterator[Event | Heartbeat]:
        done = 0 if task.begun is None else task.begun.restarts
        if done == 6:
            yield from _passing(task)
            return
        AttemptPaths(task.directory).snapshot(Place(1, done + 1)).touch()
        raise WorkerDiedError("killed by SIGKILL")
        yield

    done = play(onward)
    assert (done.run.status, done.run.attempts[0].restarts) == ("passed", 6)
    assert not done.files(".snapshot-*")


def test_what_killed_workers_have_left_of_a_file_does_not_stay(play: Play) -> None:
    there: list[list[Path]] = []

    def killed(task: Task) -> Iterator[Event | Heartbeat]:
        paths = AttemptPaths(task.directory)
        there.append(paths.unfinished())
        snapshot = paths.snapshot(Place(1, len(there)))
        snapshot.with_name(f"{snapshot.name}.new.npz").touch()
        raise WorkerDiedError("killed by SIGKILL")
        yield

    done = play(killed, restart={"policy": []})
    assert done.statuses == ["crashed"]
    assert there == [[]] * 4
    assert not done.files("*.new.*")


@pytest.mark.parametrize(("after", "phase"), [(0, None), (1, INIT), (3, "warmup")])
def test_a_crash_names_its_phase(play: Play, after: int, phase: str | None) -> None:
    done = play(_raising(WorkerDiedError("gone"), after=after), restart={"policy": []})
    failure = done.run.attempts[0].failure
    assert failure is not None
    assert (done.run.status, failure.phase) == ("exhausted", phase)


@pytest.mark.parametrize("came", [False, True])
def test_rows_that_do_not_come_are_no_crash_of_the_attempt(play: Play, came: bool) -> None:
    def train(task: Task) -> Iterator[Event | Heartbeat]:
        yield from itertools.islice(_passing(task), 3)
        yield ReadingProgress(what="the generator rows:f")
        if came:
            yield ReadingProgress(what="the generator rows:f", done=True)
        raise WorkerDiedError("the worker made no progress for 600 seconds")

    done = play(train, restart={"policy": []})
    assert done.statuses == ["crashed" if came else "interrupted"]
    assert (done.run.status, done.run.exit_code) == (("exhausted", 3) if came else ("invalid", 2))
    said = "the generator rows:f gave no batch for 600 s; look for what it waits for"
    assert (said in str(done.run.conclusion)) != came


def test_a_worker_does_not_wait_for_the_rows_of_one_that_is_gone(play: Play) -> None:
    def killed(task: Task) -> Iterator[Event | Heartbeat]:
        yield ReadingProgress(what="the generator rows:f")
        raise WorkerDiedError("killed by SIGKILL")

    done = play(killed, _raising(UserCodeError("your factory raised")))
    assert (done.run.status, done.run.exit_code, done.statuses) == ("error", 4, ["crashed"])


PROBLEM = Problem(file="rows.npz", message="the data changed")


UNANSWERED = pytest.mark.parametrize(
    ("error", "status", "exit_code", "conclusion"),
    [
        (UserCodeError("your factory raised"), "error", 4, "your factory raised"),
        (WorkerError("KeyError: x"), "error", 1, "internal error: KeyError: x"),
        (InvalidError([PROBLEM]), "invalid", 2, "rows.npz: the data changed"),
    ],
)


@UNANSWERED
def test_what_no_remedy_answers_ends_the_run(
    play: Play, error: Exception, status: str, exit_code: int, conclusion: str
) -> None:
    done = play(_raising(error), _passing)
    assert (done.run.status, done.run.exit_code) == (status, exit_code)
    assert done.run.conclusion == conclusion
    assert done.statuses == ["crashed"]
    failure = done.run.attempts[0].failure
    assert failure == Failure(check="crashed", phase="warmup", reason=str(error))
    assert done.files("checkpoint.keras") == []
    _assert_recorded(done)


@UNANSWERED
def test_it_ends_the_run_also_where_that_is_killed_before_it_says_so(
    play: Play, error: Exception, status: str, exit_code: int, conclusion: str
) -> None:
    done = play(_failing(), _raising(error), kind=FullStore, restart=POLICY)
    with store.reopen(done.root) as opened:
        assert isinstance(read(opened.paths.journal)[-1].event, AttemptEnded)
        opened.record(RunResumed(resumed=""))
        executor = Scripted(_passing)
        config = builders.config(restart=POLICY)
        run = loop.execute(config, opened, executor, Watcher(opened))
    assert (run.status, run.exit_code, run.conclusion) == (status, exit_code, conclusion)
    assert [attempt.status for attempt in run.attempts] == ["failed", "crashed"]
    assert run.best_attempt == 1
    assert not executor.tasks


def test_a_worker_that_ends_early_without_a_failure_has_not_passed(play: Play) -> None:
    done = play(lambda task: _passing(task, until=2))
    assert (done.run.status, done.run.exit_code, done.statuses) == ("error", 1, ["crashed"])
    assert done.run.conclusion == "internal error: the worker ended after 2 of 3 phases"


def test_an_error_that_is_not_ours_is_not_hidden(play: Play) -> None:
    with pytest.raises(OSError, match="Input/output error"):
        play(_raising(OSError(errno.EIO, os.strerror(errno.EIO))))


# ------------------------------------------------------------------------------- interrupts


def test_a_stop_leaves_an_interrupted_run_with_all_that_was_recorded(play: Play) -> None:
    done = play(_failing(), _raising(StoppedError("asked to stop"), after=5), restart=POLICY)
    assert (done.run.status, done.run.exit_code) == ("interrupted", 75)
    assert done.run.conclusion == "asked to stop; what was recorded so far is kept"
    assert done.statuses == ["failed", "interrupted"]
    assert done.run.attempts[1].failure is None
    assert [phase.phase for phase in done.run.attempts[1].phases] == [INIT]
    assert done.files("checkpoint.keras") == ["attempts/001/checkpoint.keras"]
    _assert_recorded(done)


@pytest.mark.parametrize(
    ("kind", "attempts"),
    [
        (AttemptStarted, []),
        (ModelBuilt, ["interrupted"]),
        (EpochEnded, ["interrupted"]),
        (PhaseEnded, ["interrupted"]),
        (AttemptEnded, ["interrupted"]),
    ],
)
@pytest.mark.parametrize("again", [True, False])
def test_a_full_disk_interrupts(
    play: Play, kind: type[Any], attempts: list[str], again: bool
) -> None:
    class Full(FullStore):
        full_from = (kind, AttemptEnded, RunEnded) if again else kind  # type: ignore[assignment]

    Full.again = again
    done = play(_passing, kind=Full)
    assert (done.run.status, done.run.exit_code, done.statuses) == ("interrupted", 75, attempts)
    assert done.run.conclusion is not None
    assert done.run.conclusion.startswith("the disk is full: No space left on device")
    on_disk = replay(read(done.root / "journal.jsonl"))
    # Where not even the end could be written, the journal has no end; it reads as interrupted.
    assert on_disk.status == ("running" if again else "interrupted")
    if not again:
        _assert_recorded(done)


def test_a_disk_that_is_full_while_an_error_is_recorded_interrupts(play: Play) -> None:
    class Full(FullStore):
        full_from = AttemptEnded

    done = play(_raising(UserCodeError("your factory raised")), kind=Full)
    assert (done.run.status, done.run.exit_code) == ("interrupted", 75)
    assert done.statuses == ["interrupted"]


def test_the_worker_is_gone_before_the_end_is_recorded(play: Play) -> None:
    order: list[str] = []

    class Full(FullStore):
        full_from = EpochEnded
        again = False

        def record(self, event: Event) -> Run:
            order.append(type(event).__name__)
            return super().record(event)

    def train(task: Task) -> Iterator[Event | Heartbeat]:
        try:
            yield from _passing(task)
        finally:
            order.append("worker ended")

    play(train, kind=Full)
    assert order[-4:] == ["EpochEnded", "worker ended", "AttemptEnded", "RunEnded"]


# ------------------------------------------------------------------------------- watching


def test_every_event_is_shown_after_it_was_recorded_and_progress_is_not_recorded(
    play: Play,
) -> None:
    done = play(_failing(), _passing, restart=POLICY)
    recorded = [entry.event for entry in read(done.root / "journal.jsonl")][1:]
    shown = [event for event in done.watcher.shown if not isinstance(event, Heartbeat)]
    assert jsonable(shown) == jsonable(recorded)
    assert done.watcher.shown.count(TrainingProgress(step=1, steps=2)) == 6
    assert done.watcher.runs[-1] == done.run
    assert isinstance(shown[0], AttemptStarted)
    assert isinstance(shown[-1], RunEnded)


def test_the_watcher_sees_the_run_after_the_event(play: Play) -> None:
    done = play(_passing)
    for event, run in zip(done.watcher.shown, done.watcher.runs, strict=True):
        if isinstance(event, PhaseEnded):
            assert run.attempts[-1].phases[-1] == event.phase.without_units()


def test_each_status_has_its_exit_code() -> None:
    assert loop.EXIT_CODES == {
        "passed": 0,
        "error": 1,
        "invalid": 2,
        "exhausted": 3,
        "interrupted": 75,
    }
    assert loop.USER_CODE_EXIT == 4


def test_a_failing_check_is_data_whatever_it_measured(play: Play) -> None:
    gates = [{"name": "loss", "value": float("nan")}]
    odd = builders.made("metric", verdict="fail", reason="NaN", measured={"gates": gates})

    def train(task: Task) -> Iterator[Event | Heartbeat]:
        yield PhaseEnded(attempt=task.attempt, phase=builders.phase(INIT, odd))

    done = play(train, restart={"policy": []})
    assert done.run.status == "exhausted"
    _assert_recorded(done)


def _learnt(share: float, *, lenient: str | None = None, fails: bool = False) -> Script:
    """An attempt that has learnt a share of what there is to learn."""
    output = {"output": 0, "share": share, "skill": share, "reference": 1.0}
    check = builders.made(
        "learned",
        verdict="fail" if fails or share < 0.5 else "warn" if share < 0.8 else "pass",
        reason=f"a share of {share}",
        measured={"outputs": [output], "lenient": lenient},
        limits={"fail_below": 0.5, "warn_below": 0.8},
    )

    def train(task: Task) -> Iterator[Event | Heartbeat]:
        for event in _passing(task):
            if isinstance(event, PhaseEnded) and event.phase.phase == "main":
                phase = replace(event.phase, epochs=2, checks=(builders.worth(share), check))
                event = replace(event, phase=phase)
            yield event
            if isinstance(event, PhaseEnded) and event.phase.failure() is not None:
                return

    return train


SEEDS = {"policy": [{"remedy": "new_seed", "times": 9}]}


def test_a_first_attempt_passes_with_less_than_might_be_learnt(play: Play) -> None:
    done = play(_learnt(0.6))
    assert (done.run.status, done.statuses) == ("passed", ["passed"])
    _assert_recorded(done)


def _at_a_rate(factor: float, script: Script) -> Script:
    """The same at a rate of which the usual one is so many times."""

    def train(task: Task) -> Iterator[Event | Heartbeat]:
        fix = Fix(learning_rate_factor=factor)
        found = Finding(cause="unusual_rate", reason="the rate is 1", advice="less", fix=fix)
        yield CausesFound(attempt=task.attempt, findings=(found,), failed=False)
        yield from script(task)

    return train


def test_a_first_attempt_far_above_the_usual_rate_is_held_to_more(play: Play) -> None:
    done = play(_at_a_rate(0.001, _learnt(0.6)), _learnt(0.9), restart=SEEDS)
    assert done.statuses == ["failed", "passed"]
    first, second = done.run.attempts
    assert first.failure == Failure(check="learned", phase="main", reason="a share of 0.6")
    assert second.cause == first.failure
    _assert_recorded(done)
    assert play(_at_a_rate(1000.0, _learnt(0.6)), restart=SEEDS).statuses == ["passed"]


def _deep(script: Script) -> Script:
    """The same of nine layers of two units."""
    layers = [
        {"layer": "dense", "activation": "relu", "units": 2, "dead": 0, "dead_units": []}
        for _ in range(9)
    ]

    def train(task: Task) -> Iterator[Event | Heartbeat]:
        for event in script(task):
            if isinstance(event, PhaseEnded) and event.phase.phase == INIT:
                check = builders.made("dead_neurons", measured={"layers": layers})
                event = replace(event, phase=replace(event.phase, checks=(check,)))
            yield event

    return train


def test_so_is_one_of_a_kind_that_is_mostly_dead(play: Play) -> None:
    done = play(_deep(_learnt(0.6)), _learnt(0.9), restart=SEEDS)
    assert done.statuses == ["failed", "passed"]
    _assert_recorded(done)


@pytest.mark.parametrize(
    ("policy", "statuses"),
    [
        (None, ["failed", "passed"]),
        (["fix_output"], ["failed", "passed"]),
        (["new_seed"], ["passed"]),  # which gives no other output
    ],
)
def test_so_is_one_whose_output_is_too_narrow_where_the_policy_writes_another(
    policy: list[str] | None, statuses: list[str], play: Play
) -> None:
    fix = Fix(activation="linear")
    found = Finding(cause="unreachable_targets", reason="tanh ends at 1", fix=fix)

    def narrow(task: Task) -> Iterator[Event | Heartbeat]:
        yield from _learnt(0.6)(task)
        yield CausesFound(attempt=task.attempt, findings=(found,), failed=False)

    done = play(narrow, _learnt(0.9), restart={"policy": policy})
    assert done.statuses == statuses
    assert [each.remedy for each in done.run.attempts] == [None, "fix_output"][: len(statuses)]
    _assert_recorded(done)


def test_a_restarted_attempt_is_held_to_more_as_long_as_that_is_not_dear(play: Play) -> None:
    done = play(_learnt(0.2), _learnt(0.6), _learnt(0.7), restart=SEEDS)
    assert done.statuses == ["failed", "failed", "passed"]  # 2.0 trainings, then 3.0
    assert done.run.accepted_attempt == done.run.best_attempt == 3
    second, third = done.run.attempts[1:]
    assert second.failure == Failure(check="learned", phase="main", reason="a share of 0.6")
    assert third.cause == second.failure
    _assert_recorded(done)


def test_the_one_that_learnt_the_most_passes_in_the_end(play: Play) -> None:
    done = play(_learnt(0.2), _learnt(0.7), _learnt(0.6), restart=SEEDS)
    assert (done.run.status, done.run.accepted_attempt) == ("passed", 2)
    accepted = done.run.attempts[1]
    assert (accepted.status, accepted.failure) == ("passed", None)
    (warning,) = done.run.warnings
    assert warning.startswith("attempt 2 has learnt 0.7 of what the reference learns")
    assert (done.root / "model.keras").read_text() == "model 2"
    told = json.loads((done.root / "attempts" / "002" / "attempt.json").read_text())
    assert told["status"] == "passed"
    _assert_recorded(done)


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_so_it_does_wherever_it_is_killed_at_its_end(play: Play, lost: int) -> None:
    restart = {"policy": [{"remedy": "new_seed", "times": 1}]}
    done = play(_learnt(0.2), _learnt(0.6), kind=FullStore, restart=restart)
    lines = done.store.paths.journal.read_bytes().splitlines(keepends=True)
    done.store.paths.journal.write_bytes(b"".join(lines[: len(lines) - lost + 1]))
    with store.reopen(done.root) as opened:
        opened.record(RunResumed(resumed=""))
        config = builders.config(restart=restart)
        run = loop.execute(config, opened, Scripted(_passing), Watcher(opened))
    assert (run.status, run.accepted_attempt) == ("passed", 2)
    (warning,) = run.warnings
    assert warning.startswith("attempt 2 has learnt 0.6 of what the reference learns")


def test_so_it_does_where_all_later_ones_fail(play: Play) -> None:
    done = play(_failing(at=INIT), _learnt(0.6), _learnt(0.1), restart={**SEEDS, "max_attempts": 4})
    assert done.statuses == ["failed", "passed", "failed", "failed"]
    assert (done.run.status, done.run.accepted_attempt) == ("passed", 2)
    assert done.run.exit_code == 0
    _assert_recorded(done)


def test_so_it_does_where_the_policy_has_no_answer(play: Play) -> None:
    policy = {"policy": [{"remedy": "new_seed", "when": ["dead_neurons"]}]}
    done = play(_failing(), _learnt(0.6), restart=policy)
    assert (done.run.status, done.run.accepted_attempt) == ("passed", 2)


@pytest.mark.parametrize("second", [_learnt(0.8), _learnt(0.6, lenient="frozen")])
def test_what_has_learnt_enough_or_is_not_held_to_it_passes(play: Play, second: Script) -> None:
    done = play(_failing(), second, restart=SEEDS)
    assert done.statuses == ["failed", "passed"]
    assert done.run.warnings == ()


def test_the_last_attempt_that_is_allowed_is_not_held_to_more(play: Play) -> None:
    done = play(_failing(at=INIT), _learnt(0.6), restart={**SEEDS, "max_attempts": 2})
    assert done.statuses == ["failed", "passed"]


def test_epochs_that_were_added_are_told_of(play: Play) -> None:
    policy = [{"remedy": "train_longer", "when": None, "factor": 3}]
    done = play(_learnt(0.2), _learnt(0.9), restart={"policy": policy})
    assert done.run.attempts[1].start == Start(attempt=1, epoch=3)
    assert done.run.warnings == ("phase main had 6 epochs instead of 2: write epochs: 6 there",)


def test_rates_that_were_raised_are_told_of(play: Play) -> None:
    policy = [{"remedy": "raise_learning_rate", "factor": 10, "when": None}]
    done = play(_failing(), _passing, restart={"policy": policy})
    assert done.run.status == "passed"
    told = "every learning rate was 10 times what the config says, 0.1 at most: write them so high"
    assert done.run.warnings == (told,)


@pytest.mark.parametrize(("planned", "told"), [(1e-4, True), (0.5, False)])
def test_rates_that_were_raised_and_capped_again_below_the_plan_are_not(
    play: Play, planned: float, told: bool
) -> None:
    policy = [
        {"remedy": "raise_learning_rate", "factor": 10, "when": None, "keep": True},
        {"remedy": "lower_learning_rate"},
    ]

    def first(task: Task) -> Iterator[Event | Heartbeat]:
        for event in _failing()(task):
            built = isinstance(event, ModelBuilt)
            yield replace(event, planned_rate=planned) if built else event

    done = play(first, _failing(), _passing, restart={"policy": policy})
    assert done.run.status == "passed"
    settings = done.run.attempts[2].settings
    assert settings.learning_rate_factor == 10 and settings.learning_rate_cap is not None
    assert any("times what the config says" in each for each in done.run.warnings) is told
