"""What crosses to an attempt and back: an attempt is a function of its `Task` and nothing else."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from orchestrator.config.schema import Config
from orchestrator.data.cache import Stored
from orchestrator.policy import rule
from orchestrator.record.events import unscreened
from orchestrator.record.records import Attempt, Failure, Finding, Inputs, Phase, Settings, Start
from orchestrator.record.storage.directory import Place


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Begun:
    """What is recorded of an attempt whose worker is gone."""

    restarts: int
    """How often its worker was started again, this time included."""
    place: Place
    """How far the record goes."""
    inside: bool = True
    """Whether it may go on inside of the epoch after that."""
    directory: Path | None = None
    """Where its snapshots are; None for its own directory."""
    phases: tuple[Phase, ...]
    """Its finished phases."""
    reason: str | None = None
    """How the worker ended; None where the whole run was cut short."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """The attempt that another one goes on from."""

    task: Task
    """What it was given; its directory may hold a snapshot, which only saves time."""
    phases: tuple[Phase, ...]
    """Its phases that are finished there."""
    epoch: int
    """Its epoch, over all phases, after whose end the other goes on."""
    revive: bool = False
    """Whether its dead units get fresh weights first."""

    @property
    def place(self) -> Place:
        """Where that is."""
        return Place(len(self.phases), self.epoch)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """How far something that races has come."""

    seed: int
    """The seed that screening chose."""
    screened: int
    """Candidate seeds that were looked at."""
    epochs: int
    """Epochs trained."""
    share: float | None
    """Share of the reference's skill that was learnt, over the outputs the least; None where that
    is not known."""
    loss: float | None
    """Training loss of the last epoch."""
    failure: Failure | None
    """Why it cannot go on."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """All that an attempt depends on."""

    config: Config
    """The config."""
    settings: Settings
    """What differs from other attempts."""
    seeds: tuple[int, ...] = ()
    """Candidates to screen; the settings' own is the first. With fewer than two nothing is."""
    attempt: int
    """Number of the attempt."""
    remedy: str | None = None
    """The change from the attempt before it, for people; None for the first."""
    directory: Path
    """Its directory, which exists."""
    fingerprint: str | None
    """What the data must hash to; None when it is not known yet."""
    stored: Stored | None = None
    """Where the data is; None where the attempt is to read it for itself."""
    origin: Origin | None = None
    """What it goes on from; None where it trains from the beginning."""
    begun: Begun | None = None
    """What was trained already; None where it begins."""
    race: int | None = None
    """Number of epochs after which it ends, with a snapshot left; None where it does not race."""
    until: str | None = None
    """Name of the phase after whose checks it ends, with no model saved; None for all phases."""


def repeat(
    config: Config,
    attempt: Attempt,
    before: Sequence[Attempt],
    directory: Callable[[int], Path],
    *,
    fingerprint: str | None = None,
    stored: Stored | None = None,
) -> Task:
    """What an attempt was given, for training it again.

    Screening is done again with the same candidates, for it reads rows: a dataset that shuffles
    itself would be in another order without it.

    Args:
        config: the run's.
        attempt: as recorded.
        before: the attempts before it.
        directory: gives that of an attempt by its number.
        fingerprint: what the data must hash to; None when it is not known yet.
        stored: where the data is; None where the attempt is to read it for itself.
    """
    settings = unscreened(attempt)
    rungs = {".".join(map(str, key)): rung for key, rung in config.restart.rungs()}
    rung = rungs.get(attempt.rung or "")
    seeds: tuple[int, ...] = (settings.seed,)
    # An attempt that screens tells of it before its first phase ends.
    if attempt.screened or not (attempt.phases or (rung is not None and rung.keep_seed)):
        started = replace(attempt, settings=settings, screened=())
        seeds = rule.candidates(config, (*before, started))

    def again(number: int) -> Task:
        other = before[number - 1]
        return repeat(
            config, other, before[: number - 1], directory, fingerprint=fingerprint, stored=stored
        )

    return Task(
        config=config,
        settings=settings,
        seeds=seeds,
        attempt=attempt.attempt,
        remedy=attempt.remedy,
        directory=directory(attempt.attempt),
        fingerprint=fingerprint,
        stored=stored,
        origin=None if attempt.start is None else origin(attempt.start, before, again),
    )


def origin(start: Start, before: Sequence[Attempt], again: Callable[[int], Task]) -> Origin:
    """What an attempt goes on from.

    Args:
        start: as recorded.
        before: the attempts before it.
        again: what an attempt was given, by its number.
    """
    other = before[start.attempt - 1]
    phases = other.phases[: other.finished(start.epoch)]
    return Origin(task=again(start.attempt), phases=phases, epoch=start.epoch, revive=start.revive)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """What is known of a config once data and model were built."""

    inputs: Inputs
    """What the saved model will take."""
    fingerprint: str
    """Hash of the data."""
    rows: int
    """Training rows."""
    validation_rows: int
    """Validation rows."""
    input_shape: Any
    """Shape of a row; a dict or tuple of shapes for several inputs."""
    parameters: int
    """Number of weights."""
    layers: tuple[str, ...]
    """Places where an activation with a derivative to watch is applied."""
    warnings: tuple[str, ...]
    """What the user should know."""
    findings: tuple[Finding, ...] = ()
    """What stands against the training, where that was asked for."""
