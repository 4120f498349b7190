"""A config as it is written, with `--set` overrides laid on top."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from orchestrator.config.yaml12 import Key, dotted, invalid, load
from orchestrator.errors import InvalidError, Problem

_MAX_BYTES = 4_000_000
"""A file that is larger than this holds data, or is a device without an end."""


@dataclasses.dataclass(frozen=True, slots=True)
class Document:
    """A config as written: its values and where each of them stands."""

    file: str
    """Name of the file, as the user gave it."""
    value: Any
    """Mappings, lists and scalars."""
    lines: dict[Key, int]
    """Line, counted from 1, of each key or list item."""
    overrides: dict[Key, str]
    """The `--set` text of each value that was overridden."""
    source: bytes
    """The file as it was read."""
    problems: tuple[Problem, ...] = ()
    """What is wrong although it could be read: repeated keys, `--set` that fits nowhere."""

    def problem(self, key: Key, message: str, hint: str | None = None) -> Problem:
        """A problem at a key, with the line of the key or of its nearest parent.

        Args:
            key: path of the value at fault; it need not exist.
            message: what was expected and received.
            hint: what to do.

        Returns:
            The problem, in the file or in the `--set` option that gave the value.
        """
        name = dotted(key) or None
        line = 1 if self.lines else None
        for length in range(len(key), 0, -1):
            prefix = key[:length]
            if prefix in self.overrides:
                file = _set_name(self.overrides[prefix])
                return Problem(file=file, key=name, message=message, hint=hint)
            if prefix in self.lines:
                line = self.lines[prefix]
                break
        inside = [text for known, text in self.overrides.items() if known[: len(key)] == key]
        if inside and key:
            changed = f"changed by {_set_name(inside[-1])}"
            hint = f"{hint}; {changed}" if hint else changed
        return Problem(file=self.file, line=line, key=name, message=message, hint=hint)


def read(path: Path, *, name: str | None = None) -> Document:
    """Read a YAML file.

    Args:
        path: the file.
        name: how to call it in messages; default the path.

    Returns:
        The document, without any check of its content.

    Raises:
        InvalidError: the file cannot be read, is not YAML, repeats a key or is no mapping.
    """
    name = name or str(path)
    source = b""
    try:
        with path.open("rb") as file:
            source = file.read(_MAX_BYTES + 1)
        if len(source) > _MAX_BYTES:
            message = f"a config has at most {_MAX_BYTES // 10**6} MB"
            raise invalid(name, message, "name the data's file in it instead")
        text = source.decode("utf-8-sig")
    except FileNotFoundError:
        raise invalid(name, "no such file", "check the path") from None
    except IsADirectoryError:
        raise invalid(name, "expected a file, received a folder", "name the YAML file") from None
    except UnicodeDecodeError as error:
        line = source.count(b"\n", 0, error.start) + 1
        message = f"expected UTF-8 text, received the byte 0x{source[error.start]:02x}"
        raise invalid(name, message, "save the file as UTF-8", line) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise invalid(name, f"cannot be read: {reason}", "check the path") from error
    return dataclasses.replace(parse(text, name=name), source=source)


def parse(text: str, *, name: str) -> Document:
    """Read YAML text.

    Args:
        text: the YAML.
        name: how to call it in messages.

    Returns:
        The document; a repeated key stands in its problems.

    Raises:
        InvalidError: not YAML, or no mapping.
    """
    reader, value = load(text, name)
    if not isinstance(value, dict):
        found = "a list" if isinstance(value, list) else "a single value"
        found = "an empty file" if value is None else found
        hint = "see the README for an example"
        raise invalid(name, f"expected a mapping of keys, received {found}", hint)
    return Document(
        file=name,
        value=value,
        lines=reader.lines,
        overrides={},
        source=text.encode(),
        problems=tuple(reader.problems),
    )


def override(document: Document, assignments: Iterable[str]) -> Document:
    """Lay `--set a.b=c` assignments over a document, in order.

    Args:
        document: the document; its values are changed in place.
        assignments: dotted paths, list indices counting from 0, and YAML values.

    Returns:
        The document with the values and the origin of each. An assignment without `=`, with a
        bad value, or through a value that is neither mapping nor list stands in its problems.
    """
    problems = list(document.problems)
    for text in assignments:
        name = _set_name(text)
        path, equals, written = text.partition("=")
        parts = path.strip().split(".")
        if not equals or not all(parts):
            message = "expected KEY=VALUE, with dots between the keys"
            problems.append(Problem(file=name, message=message, hint="as in batch_size=64"))
            continue
        try:
            reader, value = load(written, name)
        except InvalidError as error:
            problems += [dataclasses.replace(problem, line=None) for problem in error.problems]
            continue
        problems += [dataclasses.replace(problem, line=None) for problem in reader.problems]
        try:
            key = assign(document.value, parts, value)
        except LookupError as error:
            problems.append(Problem(file=name, message=str(error.args[0])))
            continue
        for known in (document.overrides, document.lines):
            for stale in [other for other in known if other[: len(key)] == key]:
                del known[stale]
        document.overrides[key] = text
    return dataclasses.replace(document, problems=tuple(problems))


def assign(container: Any, parts: list[str], value: Any) -> Key:
    """Put the value at the path, making mappings on the way.

    Args:
        container: the mapping or list to change.
        parts: the path; list indices count from 0.
        value: the value.

    Returns:
        The path, as a key, of the outermost value that the assignment made.

    Raises:
        LookupError: the path leads through a single value, or past the end of a list.
    """
    key: Key = ()
    made: Key = ()
    for depth, part in enumerate(parts):
        name = _name_in(container, part, ".".join(parts[:depth]))
        key = (*key, name)
        if depth == len(parts) - 1:
            container[name] = value
        elif (container[name] if isinstance(container, list) else container.get(name)) is None:
            container[name] = {}
            made = made or key
        container = container[name]
    return made or key


def dig(value: Any, *path: int | str) -> Any:
    """What stands at a path in plain values, or None."""
    for part in path:
        try:
            value = value[part]
        except (LookupError, TypeError):
            return None
    return value


def _name_in(container: Any, part: str, place: str) -> Any:
    """The key or index that a part of a dotted path means in a container."""
    if isinstance(container, list):
        indices = {str(index): index for index in range(len(container))}
        if part not in indices:
            last = len(container) - 1
            has = f"expected an index from 0 to {last}" if container else "the list is empty"
            raise LookupError(f"there is no {place}.{part}: {has}")
        return indices[part]
    if not isinstance(container, dict):
        raise LookupError(f"{place} is a single value, it has no keys; set {place} as a whole")
    numbers = {str(name): name for name in container if isinstance(name, int)}
    return numbers.get(part, part)


def _set_name(text: str) -> str:
    """How an assignment is called in messages, on one line of bounded length."""
    text = " ".join(text.split())
    return f"--set {text}" if len(text) <= 80 else f"--set {text[:79]}…"
