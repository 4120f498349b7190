"""Files of the user's beside data that a run depends on, as far as the config leads to them."""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from orchestrator.config.schema import Config
from orchestrator.config.sections.base import REFERENCE
from orchestrator.config.sections.model import FileModel
from orchestrator.record.storage.directory import read_file


def user_files(config: Config) -> frozenset[str]:
    """Absolute paths of the user's code and model file.

    Code is looked for in the config's folder alone, from what the config names along the imports,
    without executing any of it. What is named and imported from elsewhere counts as a file which
    is not there.
    """
    value = config.model_dump(mode="json", exclude={"name", "base", "tune"})
    modules = {text.partition(":")[0] for text in _texts(value) if re.match(REFERENCE, text)}
    base, files = Path(config.base), set[str]()
    if isinstance(config.model, FileModel):
        modules.update(config.model.modules)
        files.add(str(base / config.model.file))
    named = {_module_file(base, module) for module in modules}
    return frozenset(str(path) for path in {*files, *named, *_reached(base, modules)})


def digests(config: Config) -> dict[str, str]:
    """SHA-256 of each of these files that is there, by its path from the config's folder.

    Also the digest of what was given in Python, by its name.
    """
    base, found = Path(config.base), dict(getattr(config._given, "code", {}))
    for file in sorted(user_files(config)):
        path = Path(file)
        try:
            content = read_file(path)
        except OSError:
            continue
        name = path.relative_to(base) if path.is_relative_to(base) else path
        found[name.as_posix()] = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return found


def _module_file(base: Path, module: str) -> Path:
    path = base.joinpath(*module.split("."))
    package = path / "__init__.py"
    return package if package.is_file() else path.with_name(f"{path.name}.py")


def _reached(base: Path, modules: set[str]) -> Iterator[Path]:
    """The files in a folder that importing some modules executes."""
    waiting, seen = [*modules], set[str]()
    while waiting:
        module = waiting.pop()
        parents = module.split(".")
        for depth in range(1, len(parents) + 1):  # a package's own file comes before its modules
            name = ".".join(parents[:depth])
            path = _module_file(base, name)
            if name in seen or not path.is_file():
                continue
            seen.add(name)
            yield path
            waiting += _imported(path, name)


def _imported(path: Path, module: str) -> Iterator[str]:
    """Dotted names that a file may import; of `from a import b`, b may be a module too."""
    try:
        tree = ast.parse(read_file(path))
    except (OSError, ValueError, SyntaxError, RecursionError):
        return  # whoever imports it says what is wrong with it
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            start = [*above, *([node.module] if node.module else [])]
            if start:
                yield ".".join(start)
            yield from (".".join([*start, alias.name]) for alias in node.names)


def _texts(value: Any) -> Iterator[str]:
    """Every text in a plain value, keys too: a name with arguments is a key."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _texts(key)
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)
