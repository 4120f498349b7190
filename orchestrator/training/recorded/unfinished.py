"""The run that a config has begun and not finished."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path

from orchestrator.config import load as configs
from orchestrator.config.schema import Config
from orchestrator.display import words
from orchestrator.errors import InvalidError, RecordError
from orchestrator.record.storage import archive, ownership
from orchestrator.record.storage.directory import Paths
from orchestrator.training.launch import writing_to
from orchestrator.training.recorded.origin import refused


@contextlib.contextmanager
def taking_up(runs: Path, config: Config) -> Iterator[Path | None]:
    """Have the only process that takes up, or begins, a run of a config.

    Args:
        runs: the folder of all runs.
        config: the config; a run of another one, or of this one changed, is none of its.

    Yields:
        The newest run that was cut short; None where there is none.

    Raises:
        InvalidError: another process has it, or works on a run of the config.
    """
    digest = hashlib.sha256(config.dump().encode()).hexdigest()[:12]
    path = runs / f".resume-{digest}.lock"
    with writing_to(runs):
        runs.mkdir(parents=True, exist_ok=True)
        # Until its directory appears, which reading the rows may put off, a run has no owner.
        try:
            lock = ownership.acquire(path)
        except RecordError as error:
            said = ownership.refusal(path, f"`orchestrate {config.name} --resume`")
            raise refused(Path(words.relative(runs)), said) from error
    try:
        yield find(runs, config)
    finally:
        path.unlink(missing_ok=True)
        lock.release()


def find(runs: Path, config: Config) -> Path | None:
    """The newest run of a config that was cut short; None where there is none.

    Args:
        runs: the folder of all runs.
        config: the config.

    Raises:
        InvalidError: somebody works on a run of the config.
    """
    found: list[tuple[str, Path]] = []
    for directory in runs.glob(f"{config.name}-*"):
        try:
            run = archive.read(directory) if Paths(directory).is_run() else None
        except RecordError:
            continue
        if run is None or run.status not in ("running", "interrupted"):
            continue
        if not _is_of(directory, config):
            continue
        if run.status == "running":
            raise in_progress(directory)
        found.append((run.started or "", directory))
    return max(found)[1] if found else None


def in_progress(directory: Path) -> InvalidError:
    """The error that somebody works on a run."""
    said = ownership.refusal(Paths(directory).lock, "the run")
    return refused(Path(words.relative(directory)), said)


def _is_of(directory: Path, config: Config) -> bool:
    """Whether a run's config has the same values, those that its version did not know included."""
    try:
        return configs.load(Paths(directory).resolved).dump() == config.dump()
    except InvalidError:
        return False
