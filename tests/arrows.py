"""Counts the arrows between the folders of the package: `python tests/arrows.py` prints them.

It fails on an arrow that runs up.
"""

import ast
import collections
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "orchestrator"

ORDER = (
    {"errors"},
    {"record"},
    {"config"},
    {"data", "policy"},
    {"model"},
    {"diagnosis"},
    {"display"},
    {"training", "history"},
    {"tuning"},
    {"cli"},
    {"__init__", "__main__", "keras"},
)
"""The folders, from what needs nothing to what needs all; those of one floor do not meet."""

FLOORS = {folder: floor for floor, folders in enumerate(ORDER) for folder in folders}


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name without the package's."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[1:] and parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path) -> Iterator[str]:
    """Dotted names that a module imports anywhere, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def arrows() -> collections.Counter[tuple[str, str]]:
    """How many imports lead from one folder to another."""
    return collections.Counter(
        (module.split(".")[0], name.split(".")[1])
        for module, path in modules().items()
        for name in imports(path)
        if name.startswith("orchestrator.") and name.split(".")[1] != module.split(".")[0]
    )


def upward() -> list[tuple[str, str]]:
    """The arrows that do not run down."""
    return [(start, end) for start, end in arrows() if FLOORS[start] <= FLOORS[end]]


if __name__ == "__main__":
    for (start, end), count in sorted(
        arrows().items(), key=lambda item: (-FLOORS[item[0][0]], item[0])
    ):
        print(f"{start:>10} -> {end:<10} {count}")  # noqa: T201
    sys.exit("\n".join(f"{start} -> {end} runs up" for start, end in upward()) or 0)
