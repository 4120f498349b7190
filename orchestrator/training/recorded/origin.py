"""What a run was made from and with, and what of that is no longer so."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from orchestrator.config import load as configs
from orchestrator.config import recorded
from orchestrator.config.given import CODE
from orchestrator.config.schema import Config
from orchestrator.errors import InvalidError, Problem
from orchestrator.record import environment
from orchestrator.record.storage.directory import Paths
from orchestrator.training.recorded.user_files import digests, user_files

_DIGEST = 19
"""Characters of a hash that people see."""
_CIRCUMSTANCES = {
    "packages.tensorflow": "tensorflow",
    "packages.keras": "keras",
    "packages.numpy": "numpy",
    "packages.orchestrator": "orchestrator",
    "python": "Python",
    "platform": "platform",
    "cpus": "number of CPUs",
    "host": "host",
    "git.commit": "git commit",
    "data": "data",
}
"""What of the environment may change the numbers, by dotted path, and its name for people."""
_NOT_BITS = ("git.commit", "data")
"""What of these `changed_code` and the hash of the rows say better."""


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    """A value, then and now."""

    recorded: Any
    """As the run has it; None where it has none."""
    replayed: Any
    """As it is now; None where there is none."""

    @property
    def differs(self) -> bool:
        """Whether they are not the same."""
        return bool(self.recorded != self.replayed)


def load_config(directory: Path, base: Path | None) -> Config:
    """The config of a run, at its place of then or where that has moved.

    Args:
        directory: the run's directory.
        base: folder that the config's paths and callables start from; None for that of then.

    Raises:
        InvalidError: the folder is gone, or the config cannot be made again.
    """
    then = recorded.read(directory).get("base")
    if base is None and isinstance(then, str) and not Path(then).is_dir():
        message = f"the config's folder {then} is gone"
        raise refused(directory, message, "--base DIR says where it is now")
    return configs.load(Paths(directory).resolved, base=base)


def refused(directory: Path, message: str, hint: str | None = None) -> InvalidError:
    """The error that nothing is done with a run."""
    return InvalidError([Problem(file=str(directory), message=message, hint=hint)])


def changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Pair]:
    """What of the environment is not what it was, by dotted path; nothing where that is unknown.

    Args:
        then: `environment.json`; empty where it cannot be read.
        now: the environment as it is.
    """
    if not then:
        return {}
    pairs = {path: Pair(dig(then, path), dig(now, path)) for path in _CIRCUMSTANCES}
    before, after = then.get("code"), now.get("code")
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        names = sorted({*before, *after})
        pairs |= {f"code.{name}": Pair(before.get(name), after.get(name)) for name in names}
    return {path: pair for path, pair in pairs.items() if pair.differs}


def told(path: str, pair: Pair) -> str:
    """One of the `changes`, in words."""
    name = _CIRCUMSTANCES.get(path, path.removeprefix("code."))
    return f"{name} {short(pair.recorded)} then, {short(pair.replayed)} now"


def doubts(then: Mapping[str, Any], config: Config) -> str | None:
    """Why a run may arrive at other bits than it would have; None where nothing says so.

    Args:
        then: `environment.json`; empty where it cannot be read.
        config: the config.
    """
    if not then:
        return "what it began with is not known, its environment.json cannot be read"
    found = changes(then, environment.describe(Path(config.base), None))
    reasons = [told(path, pair) for path, pair in found.items() if path not in _NOT_BITS]
    if not isinstance(then.get("code"), Mapping) and user_files(config):
        reasons.append("whether your code is what it was is not known, for it has no digests of it")
    return "; ".join(reasons) or None


def changed_code(then: Mapping[str, Any], config: Config) -> tuple[str, ...]:
    """What of the user's code and model file is not what a run began with, in words.

    Args:
        then: `environment.json`. One that is older than the digests has the commit alone.
        config: the config.
    """
    recorded = then.get("code")
    if isinstance(recorded, Mapping):
        return tuple(_changed_files(recorded, digests(config)))
    if not user_files(config) or not isinstance(then.get("git"), Mapping):
        return ()
    pair = changes(then, environment.describe(Path(config.base), None)).get("git.commit")
    return () if pair is None else (told("git.commit", pair),)


def _changed_files(then: Mapping[str, Any], now: Mapping[str, str]) -> Iterator[str]:
    for name in sorted({*then, *now}):
        if name.startswith(CODE) and not (name in then and name in now):
            continue  # an older record does not have it, nor one of another Python
        if name not in now:
            yield f"{name} is gone"
        elif name not in then:
            yield f"{name} is new"
        elif then[name] != now[name]:
            yield f"{name} has changed"


def dig(value: Any, path: str) -> Any:
    """What stands in nested mappings under a dotted path; None where nothing does."""
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def short(value: Any) -> str:
    """A value to its last digit, a hash by its beginning."""
    text = "none" if value is None else str(value)
    is_hash = text.startswith("sha256:") or (len(text) == 40 and text.isalnum())
    return f"{text[:_DIGEST]}…" if is_hash else text
