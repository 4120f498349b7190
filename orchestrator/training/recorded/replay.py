"""One attempt trained again from its record. Nothing in the run's directory changes."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from pathlib import Path

from orchestrator.data import cache
from orchestrator.errors import RecordError
from orchestrator.record import environment
from orchestrator.record.events import AttemptStarted, Event, Heartbeat, advance
from orchestrator.record.records import Attempt, Run
from orchestrator.record.storage import archive, journal
from orchestrator.training import launch as launcher
from orchestrator.training.attempt.task import Task, repeat
from orchestrator.training.executors import choice
from orchestrator.training.executors.executor import Executor, result_of
from orchestrator.training.interrupts import Interrupts
from orchestrator.training.launch import Announcer
from orchestrator.training.recorded import fidelity
from orchestrator.training.recorded.fidelity import Fidelity
from orchestrator.training.recorded.origin import load_config, refused
from orchestrator.training.recorded.user_files import digests
from orchestrator.training.work import AttemptWork


def replay_attempt(
    directory: Path,
    run: Run,
    number: int | None,
    *,
    base: Path | None,
    force: bool,
    announcer: Announcer,
    interrupts: Interrupts,
) -> Fidelity:
    """Train an attempt again, as far as it is recorded, and hold it against the record.

    Args:
        directory: the run's directory.
        run: its record.
        number: one of its attempts; None for the accepted one, or else the best, or else the last.
        base: folder that the config's paths and callables start from, where it has moved.
        force: train on data that is not what it was, too.
        announcer: shown what happens.
        interrupts: entered by the caller.

    Raises:
        InvalidError: the run is in progress or cannot be made again, the attempt has no finished
            phase, or the data is not what it was.
        UserCodeError: the user's own code raised.
        StoppedError: Ctrl-C or its like.
        WorkerDiedError: the worker was killed or hangs.
        WorkerError: our own code raised.
    """
    attempt = _attempt(directory, run, number)
    config = load_config(directory, base)
    then = archive.environment(directory)
    fingerprint = then.get("data")
    before = tuple(each for each in run.attempts if each.attempt < attempt.attempt)
    # No directory of an attempt, and no snapshot in it: all is trained again.
    task = dataclasses.replace(
        repeat(config, attempt, before, lambda number: Path(f"{number}")),
        until=attempt.phases[-1].phase,
    )
    with cache.folder(Path(tempfile.gettempdir())) as folder:
        if fingerprint is not None:
            found, stored = launcher.prepare(
                config, folder, announcer=announcer, interrupts=interrupts
            )
            if found.fingerprint != fingerprint and not force:
                message = "the data is not what the attempt was trained on: its hash is another"
                raise refused(directory, message, "--force trains on it all the same")
            fingerprint = found.fingerprint
            task = dataclasses.replace(task, fingerprint=fingerprint, stored=stored)
        else:
            announcer.say("importing TensorFlow")
        announcer.begin(directory, config, replayed=attempt.attempt)
        begun = Run(run=f"{run.run}@{attempt.attempt}", attempts=before)
        again = _train(task, attempt, begun, announcer, choice.choose_executor(interrupts))
    now = environment.describe(Path(config.base), fingerprint, digests(config))
    journaled = _journaled(directory, attempt.attempt)
    return fidelity.compare(run.run, attempt, again, then=then, now=now, journaled=journaled)


def _attempt(directory: Path, run: Run, number: int | None) -> Attempt:
    """The attempt that is meant, which has something to compare."""
    if archive.is_owned(directory):
        raise refused(directory, "the run is in progress", "wait until it has ended")
    wanted = number or run.accepted_attempt or run.best_attempt or len(run.attempts)
    attempt = next((each for each in run.attempts if each.attempt == wanted), None)
    if attempt is None:
        raise refused(directory, "the run ended before its first attempt")
    if not attempt.phases:
        message = f"attempt {wanted} {attempt.status} before the end of its first phase"
        raise refused(directory, message, "there is nothing to hold a replay against")
    return attempt


def _journaled(directory: Path, number: int) -> Attempt | None:
    """The attempt as the journal has it; None where that cannot be read."""
    try:
        run = journal.replay(archive.events(directory))
    except RecordError:
        return None
    return next((each for each in run.attempts if each.attempt == number), None)


def _train(
    task: Task, attempt: Attempt, run: Run, announcer: Announcer, executor: Executor
) -> Attempt:
    """The attempt as it comes out now, after those that the run has already."""
    start = time.monotonic()

    def take(event: Event | Heartbeat) -> None:
        nonlocal run
        if not isinstance(event, Heartbeat):
            run = advance(run, event, elapsed=time.monotonic() - start)
        announcer.show(event, run)

    take(
        AttemptStarted(
            attempt=task.attempt,
            settings=task.settings,
            remedy=attempt.remedy,
            rung=attempt.rung,
            cause=None,  # what the attempt before failed by is no news here
            changed=attempt.changed,
            passed_over=(),
            start=attempt.start,
        )
    )
    with tempfile.TemporaryDirectory(prefix="orchestrator-") as folder:
        elsewhere = dataclasses.replace(task, directory=Path(folder))
        result_of(executor.run(AttemptWork(elsewhere), take))
    return run.attempts[-1]
