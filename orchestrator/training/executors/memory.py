"""How much memory a process has reached, what it may take, and whom the kernel has killed for it.

All of it is read from the files of Linux; elsewhere nothing is known.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from collections.abc import Iterator
from pathlib import Path

_PROCESSES = Path("/proc")
_GROUPS = Path("/sys/fs/cgroup")


@dataclasses.dataclass(frozen=True, slots=True)
class Limit:
    """What bounds the memory of this process and of those that it starts."""

    size: int
    """Bytes."""
    what: str
    """A clause that says so, such as `the machine has 25.2 GB`."""


def peak(pid: int, processes: Path = _PROCESSES) -> int | None:
    """The most memory that a process has had at a time.

    Args:
        pid: the process.
        processes: folder of all processes.

    Returns:
        Bytes of resident memory; None where that is not known, or where it is gone.
    """
    with contextlib.suppress(LookupError, ValueError):
        return int(_status(pid, processes)["VmHWM"].split()[0]) * 1024
    return None


def is_stopped(pid: int, processes: Path = _PROCESSES) -> bool:
    """Whether a process is stopped by a signal; False where that is not known."""
    return _status(pid, processes).get("State", "").startswith("T")


def limit(processes: Path = _PROCESSES, groups: Path = _GROUPS) -> Limit | None:
    """The lowest of what the machine has and what control groups allow; None where not known."""
    found = [
        Limit(size, f"its control group may take {as_text(size)}")
        for folder in _folders(processes, groups)
        for name in ("memory.max", "memory.limit_in_bytes")
        if (size := _number(folder / name)) is not None
    ]
    with contextlib.suppress(OSError, ValueError, IndexError):
        total = int((processes / "meminfo").read_text().split()[1]) * 1024
        found.append(Limit(total, f"the machine has {as_text(total)}"))
    return min(found, key=lambda each: each.size, default=None)


def kills(processes: Path = _PROCESSES, groups: Path = _GROUPS) -> int | None:
    """How many processes the kernel's out-of-memory killer has ended until now.

    Those of this process's control group where the kernel counts them, else those of the machine;
    None where neither is known.
    """
    for folder in _folders(processes, groups):
        for name in ("memory.events", "memory.oom_control"):
            counted = _counted(folder / name)
            if counted is not None:
                return counted
    return _counted(processes / "vmstat")


def exhausted(said: str) -> str:
    """A sentence on this process, to which an allocation was refused.

    Args:
        said: what the refusal said; may be empty.
    """
    reached, bound = peak(os.getpid()), limit()
    parts = ["the worker ran out of memory"]
    if reached is not None:
        parts.append(f" when it had reached {as_text(reached)}")
    clauses = [] if bound is None else [bound.what]
    addresses = _address_limit()
    if addresses is not None:
        clauses.append(f"ulimit -v allows a process {as_text(addresses)} of addresses")
    if said:
        parts.append(f": {said}")
    if clauses:
        parts.append(f" ({', '.join(clauses)})")
    return "".join(parts)


def _address_limit() -> int | None:
    """Bytes of addresses that this process may have; None for no limit, or where not known."""
    if sys.platform == "win32":
        return None
    import resource  # noqa: PLC0415 - there is none on Windows

    size = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if size == resource.RLIM_INFINITY else size


def as_text(size: int) -> str:
    """A size for people, in decimal units."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def _status(pid: int, processes: Path) -> dict[str, str]:
    """What the kernel says of a process; nothing where it is gone."""
    with contextlib.suppress(OSError):
        lines = (processes / str(pid) / "status").read_text(errors="replace").splitlines()
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return {}


def _folders(processes: Path, groups: Path) -> Iterator[Path]:
    """Folders of this process's control group and of those around it, the innermost first."""
    with contextlib.suppress(OSError, ValueError):
        for line in (processes / "self" / "cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers not in ("", "memory"):
                continue
            # The second version has one tree, the first one for each controller.
            root = groups / controllers
            inner = root / path.lstrip("/")
            yield from (each for each in (inner, *inner.parents) if each.is_relative_to(root))


def _counted(path: Path) -> int | None:
    """The line `oom_kill` of a file."""
    with contextlib.suppress(OSError, ValueError):
        for line in path.read_text().splitlines():
            name, _, number = line.partition(" ")
            if name == "oom_kill":
                return int(number)
    return None


def _number(path: Path) -> int | None:
    """The number that a file holds; None where it says `max`."""
    with contextlib.suppress(OSError, ValueError):
        return int(path.read_text())
    return None
