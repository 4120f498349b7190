"""A run that was cut short, taken up where its last snapshot is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from orchestrator.config.schema import Config
from orchestrator.data import cache
from orchestrator.record.events import Event, RunResumed, Warned
from orchestrator.record.records import Run
from orchestrator.record.storage import archive, store
from orchestrator.record.storage.store import Store
from orchestrator.training import launch as launcher
from orchestrator.training import loop
from orchestrator.training.executors import choice
from orchestrator.training.interrupts import Interrupts
from orchestrator.training.launch import Announcer
from orchestrator.training.recorded import origin

_FORCE = "--force goes on all the same, to another result"


def resume(
    directory: Path,
    *,
    base: Path | None,
    force: bool,
    announcer: Announcer,
    interrupts: Interrupts,
) -> Run:
    """Take a run that was cut short to its end.

    Args:
        directory: the run's directory.
        base: folder that the config's paths and callables start from, where it has moved.
        force: go on with data and code that are not what they were, too.
        announcer: shown what happens.
        interrupts: entered by the caller.

    Returns:
        The finished run; also on an interrupt, and when the user's code raised.

    Raises:
        InvalidError: the run is in progress or cannot be made again, or its data or code is not
            what it was. Nothing was recorded then, nor with the others.
        UserCodeError: the user's own code raised when the data was read.
        StoppedError: Ctrl-C or its like before the run went on.
    """
    config = origin.load_config(directory, base)
    then = archive.environment(directory)
    changed = list(_changed_code(directory, config, then, force=force))
    with store.reopen(directory) as opened, contextlib.ExitStack() as stack:
        runs = directory.absolute().parent  # the user's code may go to another folder
        with launcher.writing_to(runs):
            folder = stack.enter_context(cache.folder(runs))
        executor = choice.choose_executor(interrupts)
        stored = None
        if opened.fingerprint is not None:  # else each attempt meets what stood against reading it
            stored = launcher.fetch(config, folder, executor, announcer)
            if stored.fingerprint != opened.fingerprint:
                changed.append("the data is not what it was, its hash is another")
                if not force:
                    raise origin.refused(directory, changed[-1], _FORCE)
                opened.fingerprint = stored.fingerprint
        # From here on a signal is answered by the loop, which records it.
        interrupts.patient = True
        interrupts.check()
        announcer.begin(directory, config, resumed=opened.run)
        for event in _beginning(opened, changed, origin.doubts(then, config)):
            announcer.show(event, opened.record(event))
        return loop.execute(config, opened, executor, announcer, stored)


def _changed_code(
    directory: Path, config: Config, then: dict[str, object], *, force: bool
) -> Iterator[str]:
    """What of the user's code is not what it was, where that is to be passed over.

    Raises:
        InvalidError: it is not.
    """
    found = origin.changed_code(then, config)
    if found and not force:
        raise origin.refused(directory, f"since the run began, {', '.join(found)}", _FORCE)
    yield from found


def _beginning(opened: Store, changed: list[str], doubts: str | None) -> Iterator[Event]:
    """What is recorded before the run goes on."""
    yield RunResumed(resumed=datetime.now(UTC).isoformat(timespec="seconds"))
    if changed:
        yield from _warning(opened, f"resumed with --force: {', '.join(changed)}")
    if doubts is not None:
        yield from _warning(opened, f"the resumed run may differ in its last bits: {doubts}")


def _warning(opened: Store, message: str) -> Iterator[Warned]:
    if message not in opened.run.warnings:
        yield Warned(message=message)
