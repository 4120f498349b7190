"""Runs that were made already: what they came to is taken instead of training again.

A run follows from its resolved config, its data and the versions that it was made with. Where the
config names code or a model file of the user's, which are in neither, both runs must have been made
from the same commit of their repository, without changes, and the commit must hold all of these: a
file that git ignores or does not know yet may have changed unseen.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from orchestrator.config.schema import Config
from orchestrator.config.sections.model import GivenModel
from orchestrator.errors import RecordError
from orchestrator.record import environment
from orchestrator.record.records import Run
from orchestrator.record.storage import archive
from orchestrator.record.storage.directory import Paths, SearchPaths, read_file
from orchestrator.training.recorded.user_files import user_files

_KEY = re.compile(rb"^[A-Za-z_]\w*:", re.MULTILINE)
"""How a section of a resolved config begins."""
_UNTRAINED = (
    b"name:",
    b"tune:",
    b"keep:",
    b"tensorboard:",
    b"stall_timeout:",
    b"checkpoint_seconds:",
)
"""Sections that make no difference to what a run comes to."""
_VERSIONS = ("orchestrator", "tensorflow", "keras", "numpy")
"""Packages whose versions must be the same; so must Python's."""
_FINISHED = ("passed", "exhausted")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """A run that is over."""

    run: Run
    """Its record."""
    directory: Path
    """Its directory."""
    reused: bool
    """Whether it was there before."""
    rows: int | None = None
    """Training rows of its seed; None where they are a stream."""


class Recorded:
    """Finds runs by their configs.

    Args:
        own: folder of the search's own runs: a run there is always taken.
        others: further folders of runs, and of searches with runs; none to train everything.
    """

    def __init__(self, own: Path, others: Iterable[Path]) -> None:
        self._own = own
        self._others = tuple(others)

    def find(self, config: Config, fingerprint: str | None) -> Outcome | None:
        """The run of a config, if it is there and over.

        Args:
            config: the config, with the seed of the run.
            fingerprint: hash of its data; None where that is not known, so that no run outside of
                the search is.
        """
        wanted = digest(config.dump().encode())
        for directory in self._in_own.pop(wanted, ()):
            if (run := _finished(directory)) is not None:
                return Outcome(run=run, directory=directory, reused=False)
        if fingerprint is None or isinstance(config.model, GivenModel) or not self._others:
            return None
        for directory in self._elsewhere.get(wanted, ()):
            found = archive.environment(directory)
            if found.get("data") == fingerprint and _is_alike(found, config):
                if (run := _finished(directory)) is not None:
                    return Outcome(run=run, directory=directory, reused=True)
        return None

    def remove_unfinished(self) -> None:
        """Remove those of the search's own runs that a kill or an interrupt has left half done.

        What ended by an error stays, for its trial names it.
        """
        for directory in _run_directories(self._own):
            if _is_unfinished(directory):
                shutil.rmtree(directory, ignore_errors=True)

    @functools.cached_property
    def _in_own(self) -> dict[str, list[Path]]:
        return _by_digest(_run_directories(self._own))

    @functools.cached_property
    def _elsewhere(self) -> dict[str, list[Path]]:
        found = [
            directory
            for folder in self._others
            for inner in (folder, *(SearchPaths(each).runs for each in folder.glob("tune-*")))
            if inner != self._own
            for directory in _run_directories(inner)
        ]
        return _by_digest(found)


def digest(resolved: bytes) -> str:
    """What is the same for two resolved configs that lead to the same run."""
    starts = [match.start() for match in _KEY.finditer(resolved)]
    kept = hashlib.sha256()
    for start, end in zip(starts, [*starts[1:], len(resolved)], strict=True):
        section = resolved[start:end]
        if not section.startswith(_UNTRAINED):
            kept.update(section)
    return kept.hexdigest()


def _run_directories(folder: Path) -> Iterator[Path]:
    if not folder.is_dir():
        return
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if not entry.name.startswith("."))
    yield from (folder / name for name in names if Paths(folder / name).is_run())


def _by_digest(directories: Iterable[Path]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for directory in directories:
        try:
            resolved = read_file(Paths(directory).resolved)
        except OSError:
            continue
        found.setdefault(digest(resolved), []).append(directory)
    return found


def _finished(directory: Path) -> Run | None:
    try:
        run = archive.read(directory)
    except RecordError:
        return None
    return run if run.status in _FINISHED else None


def _is_unfinished(directory: Path) -> bool:
    try:
        return archive.read(directory).status in ("running", "interrupted")
    except RecordError:
        return True


def differences(found: Mapping[str, Any], config: Config) -> tuple[str, ...]:
    """What a config's runs were made with and would not be made with now, in words.

    Args:
        found: the environment that was recorded.
        config: the config; a commit counts where it names files of the user's.
    """
    now = _environment(config.base)
    pairs = {"Python": (found.get("python"), now["python"])}
    packages = found.get("packages") or {}
    pairs |= {name: (packages.get(name), now["packages"].get(name)) for name in _VERSIONS}
    if user_files(config):
        commits = ((each.get("git") or {}).get("commit") for each in (found, now))
        pairs["commit"] = (next(commits), next(commits))
    return tuple(
        f"{name} {then}, now {here}" for name, (then, here) in pairs.items() if then != here
    )


def _is_alike(found: Mapping[str, Any], config: Config) -> bool:
    """Whether a run was made with what one made now would be."""
    if differences(found, config):
        return False
    files = user_files(config)
    if not files:
        return True
    git = _environment(config.base)["git"]
    if git is None or git["dirty"] or found.get("git") != git:
        return False
    return environment.are_committed(Path(config.base), files)


@functools.lru_cache
def _environment(base: str) -> dict[str, Any]:
    return environment.describe(Path(base), None)
