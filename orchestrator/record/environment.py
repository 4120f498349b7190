"""Where and with what a run was made: versions, host, arguments, git commit.

Imports nothing heavy.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

_PACKAGES = ("orchestrator", "tensorflow", "keras", "keras-tuner", "numpy", "pydantic")


def describe(
    base: Path, fingerprint: str | None, code: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """What `environment.json` holds.

    Args:
        base: the config's folder, for the git commit.
        fingerprint: hash of the data.
        code: digest of each file of the user's, by its path from the folder; None where they were
            not looked at.

    Returns:
        Plain JSON values.
    """
    return {
        "schema": 1,
        "argv": sys.argv,
        "cwd": str(Path.cwd()),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "platform": platform.platform(),
        "host": platform.node(),
        "cpus": os.cpu_count(),
        "git": _git(base),
        "data": fingerprint,
        "code": None if code is None else dict(code),
    }


def are_committed(base: Path, files: Iterable[str]) -> bool:
    """Whether git knows these files, and no Python file more lies in their folder's repository.

    Args:
        base: a folder of the repository.
        files: absolute paths; one that is not there is not known.
    """
    if _run_git(base, "ls-files", "--error-unmatch", "--", *files) is None:
        return False
    return not _run_git(base, "ls-files", "--others", "--exclude-standard", "--", ":/*.py")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git(base: Path) -> dict[str, Any] | None:
    """Commit of the folder's repository and whether it has changes; None outside of one."""
    commit = _run_git(base, "rev-parse", "HEAD")
    if commit is None:
        return None
    changes = _run_git(base, "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "dirty": bool(changes)}


def _run_git(base: Path, *arguments: str) -> str | None:
    try:
        result = subprocess.run(  # noqa: S603 - a fixed command, no shell
            ["git", "--no-optional-locks", "-C", str(base), *arguments],  # noqa: S607 - on the path
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
            # A git hook that starts a run names its own repository in GIT_DIR.
            env={name: value for name, value in os.environ.items() if name[:4] != "GIT_"},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()
