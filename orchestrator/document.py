"""YAML 1.2 read safely, with the line of every key, and `--set` overrides laid on top.

PyYAML follows YAML 1.1, in which `1e-3` is a string and `on` a boolean. The loader and dumper here
use the scalars of YAML 1.2's core schema instead (https://yaml.org/spec/1.2.2/, section 10.3.2).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from orchestrator.errors import InvalidError, Problem

Key = tuple[str | int, ...]
"""Path of a value in a document: mapping keys and list indices."""

_MAX_NODES = 100_000
"""A config with more values than this is an alias bomb, not a config."""

_SCALARS = (
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("tag:yaml.org,2002:null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "tag:yaml.org,2002:float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
    ("tag:yaml.org,2002:merge", r"<<", "<"),
)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the scalars of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, Any] = {}

    def construct_yaml_int(self, node: Any) -> int:
        """Read an integer; a leading zero does not make it octal."""
        text = str(self.construct_scalar(node))
        return int(text, 0) if text[:2] in {"0o", "0x"} else int(text)


class _Dumper(yaml.SafeDumper):
    """Writes what `_Loader` reads back unchanged."""

    yaml_implicit_resolvers: dict[str, Any] = {}

    def ignore_aliases(self, data: Any) -> bool:
        """Write a repeated value again rather than as an anchor."""
        return True


for _tag, _pattern, _first in _SCALARS:
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(_tag, re.compile(rf"^(?:{_pattern})$"), list(_first))
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


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

    def problem(self, key: Key, message: str, hint: str | None = None) -> Problem:
        """A problem at a key, with the line of the key or of its nearest parent.

        Args:
            key: path of the value at fault; it need not exist.
            message: what was expected and received.
            hint: what to do.

        Returns:
            The problem, in the file or in the `--set` option that gave the value.
        """
        name = ".".join(str(part) for part in key) or None
        for length in range(len(key), 0, -1):
            prefix = key[:length]
            if prefix in self.overrides:
                return Problem(
                    file=f"--set {self.overrides[prefix]}", key=name, message=message, hint=hint
                )
            if prefix in self.lines:
                return Problem(
                    file=self.file, line=self.lines[prefix], key=name, message=message, hint=hint
                )
        return Problem(file=self.file, line=1, key=name, message=message, hint=hint)


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
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise _invalid(name, "no such file", "check the path") from None
    except IsADirectoryError:
        raise _invalid(name, "expected a file, received a folder", "name the YAML file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise _invalid(name, f"cannot be read: {error}", "expected a UTF-8 text file") from error
    return parse(text, name=name)


def parse(text: str, *, name: str) -> Document:
    """Read YAML text.

    Args:
        text: the YAML.
        name: how to call it in messages.

    Returns:
        The document.

    Raises:
        InvalidError: not YAML, a repeated key, or no mapping.
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            found = "an empty file" if node is None else f"a {node.id}"
            raise _invalid(name, f"expected a mapping of keys, received {found}", "see the README")
        reader = _Reader(loader, name)
        value = reader.read(node, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = None if mark is None else mark.line + 1
        context = f"{error.context}, " if error.context else ""
        raise _invalid(name, f"not YAML: {context}{error.problem}", None, line) from error
    except (yaml.YAMLError, ValueError) as error:
        raise _invalid(name, f"not YAML: {error}", None) from error
    except RecursionError:
        raise _invalid(name, "nested too deeply", "flatten it") from None
    finally:
        loader.dispose()
    if reader.problems:
        raise InvalidError(reader.problems)
    return Document(file=name, value=value, lines=reader.lines, overrides={})


def override(document: Document, assignments: Iterable[str]) -> Document:
    """Lay `--set a.b=c` assignments over a document, in order.

    Args:
        document: the document; it is changed in place.
        assignments: dotted paths, list indices counting from 0, and YAML values.

    Returns:
        The document with the values and the origin of each.

    Raises:
        InvalidError: an assignment without `=`, with a bad value, or through a value that is
            neither mapping nor list.
    """
    problems = []
    for text in assignments:
        path, equals, written = text.partition("=")
        parts = path.strip().split(".")
        if not equals or not all(parts):
            problems.append(_set_problem(text, "expected KEY=VALUE", "as in seed=1"))
            continue
        try:
            value = _parse_scalar(written)
        except (yaml.YAMLError, ValueError) as error:
            summary = str(error).splitlines()[0]
            problems.append(_set_problem(text, f"the value is not YAML: {summary}", None))
            continue
        try:
            key = _assign(document.value, parts, value)
        except LookupError as error:
            problems.append(_set_problem(text, str(error.args[0]), None))
            continue
        for stale in [known for known in document.overrides if known[: len(key)] == key]:
            del document.overrides[stale]
        document.overrides[key] = text
    if problems:
        raise InvalidError(problems)
    return document


def dump(value: Any) -> str:
    """Write plain values as YAML that `parse` reads back unchanged."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


class _Reader:
    """Turns YAML nodes into values, and keeps lines and problems on the way."""

    def __init__(self, loader: _Loader, name: str) -> None:
        self.lines: dict[Key, int] = {}
        self.problems: list[Problem] = []
        self._loader = loader
        self._name = name
        self._open: set[int] = set()
        self._count = 0

    def read(self, node: yaml.Node, key: Key) -> Any:
        self._count += 1
        if self._count > _MAX_NODES:
            raise ValueError(f"more than {_MAX_NODES} values, aliases counted each time")
        if id(node) in self._open:
            raise yaml.constructor.ConstructorError(
                None, None, "an alias contains itself", node.start_mark
            )
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, key)
            if isinstance(node, yaml.SequenceNode):
                return self._sequence(node, key)
            return self._loader.construct_object(node)
        finally:
            self._open.discard(id(node))

    def _sequence(self, node: yaml.SequenceNode, key: Key) -> list[Any]:
        self._check_tag(node, "tag:yaml.org,2002:seq")
        items = []
        for index, child in enumerate(node.value):
            self.lines[(*key, index)] = child.start_mark.line + 1
            items.append(self.read(child, (*key, index)))
        return items

    def _mapping(self, node: yaml.MappingNode, key: Key) -> dict[Any, Any]:
        self._check_tag(node, "tag:yaml.org,2002:map")
        self._find_duplicates(node, key)
        self._loader.flatten_mapping(node)
        mapping = {}
        for name_node, child in node.value:
            name = self._name_of(name_node)
            self.lines[(*key, name)] = name_node.start_mark.line + 1
            mapping[name] = self.read(child, (*key, name))
        return mapping

    def _find_duplicates(self, node: yaml.MappingNode, key: Key) -> None:
        seen: dict[Any, int] = {}
        for name_node, _ in node.value:
            name = self._name_of(name_node)
            line = name_node.start_mark.line + 1
            if name in seen:
                self.problems.append(
                    Problem(
                        file=self._name,
                        line=line,
                        key=".".join(str(part) for part in (*key, name)),
                        message=f"the key is given twice, first on line {seen[name]}",
                        hint="keep one",
                    )
                )
            seen.setdefault(name, line)

    def _name_of(self, node: yaml.Node) -> Any:
        name = self._loader.construct_object(node) if isinstance(node, yaml.ScalarNode) else None
        if not isinstance(name, str | int):
            raise yaml.constructor.ConstructorError(
                None, None, "expected a text or an integer as a key", node.start_mark
            )
        return name

    def _check_tag(self, node: yaml.Node, expected: str) -> None:
        if node.tag != expected:
            raise yaml.constructor.ConstructorError(
                None, None, f"the tag {node.tag!r} is not allowed", node.start_mark
            )


def _parse_scalar(text: str) -> Any:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        return None if node is None else _Reader(loader, "--set").read(node, ())
    finally:
        loader.dispose()


def _assign(container: Any, parts: list[str], value: Any) -> Key:
    """Put the value at the path, making mappings on the way; return the path as a key."""
    key: Key = ()
    for depth, part in enumerate(parts):
        last = depth == len(parts) - 1
        name: str | int = part
        if isinstance(container, list):
            if not part.isdigit() or int(part) >= len(container):
                place = ".".join(parts[:depth])
                raise LookupError(
                    f"{place} has {len(container)} items, expected an index from 0 to "
                    f"{len(container) - 1}, received {part!r}"
                )
            name = int(part)
        elif not isinstance(container, dict):
            raise LookupError(f"{'.'.join(parts[:depth])} is a single value, it has no keys")
        key = (*key, name)
        if last:
            container[name] = value
        elif isinstance(container, dict) and container.get(name) is None:
            container[name] = {}
            container = container[name]
        else:
            container = container[name]  # type: ignore[index]
    return key


def _invalid(
    name: str, message: str, hint: str | None = None, line: int | None = None
) -> InvalidError:
    return InvalidError([Problem(file=name, line=line, message=message, hint=hint)])


def _set_problem(text: str, message: str, hint: str | None) -> Problem:
    return Problem(file=f"--set {text}", message=message, hint=hint)
