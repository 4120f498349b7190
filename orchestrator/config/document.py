"""YAML 1.2 read safely, with the line of every key, and `--set` overrides laid on top.

PyYAML follows YAML 1.1, in which `1e-3` is a string and `on` a boolean. The loader and dumper here
use the scalars of YAML 1.2's core schema instead (https://yaml.org/spec/1.2.2/, section 10.3.2).
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

import yaml

from orchestrator.errors import InvalidError, Problem, cut, short

Key = tuple[str | int, ...]
"""Path of a value in a document: mapping keys and list indices."""

_MAX_BYTES = 4_000_000
"""A file that is larger than this holds data, or is a device without an end."""

_MAX_VALUES = 50_000
"""A config with more values than this is an alias bomb, not a config."""

_MAX_CHARACTERS = 1_000_000
"""Nor are its texts longer in all, aliases counted each time."""

_MAX_DEPTH = 100
"""Deeper nesting than this is refused before it exhausts Python's stack."""

_TOO_MANY = f"more than {_MAX_VALUES} values, aliases counted each time"
_TOO_DEEP = f"nested more than {_MAX_DEPTH} levels deep"

_MAX_DIGITS = 300
"""Integers up to here fit a float; longer ones are refused."""

_MAX_SAID = 300
"""Characters of a complaint of PyYAML's that are told."""

_PREFIX = "tag:yaml.org,2002:"
_MERGE = f"{_PREFIX}merge"

_SCALARS = (
    (f"{_PREFIX}bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    (f"{_PREFIX}null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    (f"{_PREFIX}int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        f"{_PREFIX}float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
    (_MERGE, r"<<", "<"),
)


_PLAIN_TAGS = {f"{_PREFIX}{name}" for name in ("str", "int", "float", "bool", "null")}

_YAML_HINTS = (
    ("'\\t'", "indent with spaces, not tabs"),
    ("mapping values are not allowed", "check the indentation; quote a text that contains ': '"),
    ("could not find expected ':'", "a key needs a colon behind it"),
    ("cannot start any token", "quote the text"),
    ("expected <block end>", "check the indentation"),
    ("<stream end>", "close the bracket"),
    ("unexpected end of stream", "close the quote"),
    ("is not allowed", "write plain values"),
)
"""What to do about the commonest complaints of PyYAML."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the scalars of YAML 1.2, and bounds on depth and count."""

    yaml_implicit_resolvers: dict[str, Any] = {}
    _depth = 0
    _count = 0

    def fetch_flow_collection_start(self, token_class: Any) -> None:
        """Scan a bracket; PyYAML's time for open ones grows with their square."""
        if self.flow_level > _MAX_DEPTH:
            _refuse(_TOO_DEEP, self.get_mark())
        super().fetch_flow_collection_start(token_class)

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose a node unless it lies too deep, or is one too many."""
        self._count += 1
        if self._depth > _MAX_DEPTH or self._count > 2 * _MAX_VALUES:  # keys are nodes, too
            event = self.peek_event()  # type: ignore[no-untyped-call]
            _refuse(_TOO_DEEP if self._depth > _MAX_DEPTH else _TOO_MANY, event.start_mark)
        self._depth += 1
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_yaml_int(self, node: Any) -> int:
        """Read an integer; a leading zero does not make it octal."""
        text = str(self.construct_scalar(node))
        if len(text) > _MAX_DIGITS:
            raise ValueError(f"a number of {len(text)} digits is too long")
        return int(text, 0) if text[:2] in {"0o", "0x"} else int(text)


class _Dumper(yaml.SafeDumper):
    """Writes what `_Loader` reads back unchanged."""

    yaml_implicit_resolvers: dict[str, Any] = {}

    def ignore_aliases(self, data: Any) -> bool:
        """Write a repeated value again rather than as an anchor."""
        return True

    def represent_text(self, data: str) -> yaml.Node:
        """Escape line breaks, which PyYAML otherwise folds: U+0085 came back as a blank."""
        style = None if data.isprintable() else '"'
        return self.represent_scalar(f"{_PREFIX}str", data, style=style)


for _tag, _pattern, _first in _SCALARS:
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(_tag, re.compile(rf"^(?:{_pattern})$"), list(_first))
_Loader.add_constructor(f"{_PREFIX}int", _Loader.construct_yaml_int)
_Dumper.add_representer(str, _Dumper.represent_text)


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
        name = _dotted(key) or None
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
            raise _invalid(name, message, "name the data's file in it instead")
        text = source.decode("utf-8-sig")
    except FileNotFoundError:
        raise _invalid(name, "no such file", "check the path") from None
    except IsADirectoryError:
        raise _invalid(name, "expected a file, received a folder", "name the YAML file") from None
    except UnicodeDecodeError as error:
        line = source.count(b"\n", 0, error.start) + 1
        message = f"expected UTF-8 text, received the byte 0x{source[error.start]:02x}"
        raise _invalid(name, message, "save the file as UTF-8", line) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise _invalid(name, f"cannot be read: {reason}", "check the path") from error
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
    reader, value = _load(text, name)
    if not isinstance(value, dict):
        found = "a list" if isinstance(value, list) else "a single value"
        found = "an empty file" if value is None else found
        hint = "see the README for an example"
        raise _invalid(name, f"expected a mapping of keys, received {found}", hint)
    return Document(
        file=name,
        value=value,
        lines=reader.lines,
        overrides={},
        source=text.encode(),
        problems=tuple(reader.problems),
    )


def _load(text: str, name: str) -> tuple[_Reader, Any]:
    """The value of a YAML text, and the reader with its lines and problems."""
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            reader = _Reader(loader, name)
            return reader, None if node is None else reader.read(node, ())
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        raise InvalidError([_not_yaml(error, name)]) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        message = f"not YAML: the character {error.character:#06x} is not allowed"
        raise _invalid(name, message, "remove it", line) from error


def _not_yaml(error: yaml.MarkedYAMLError, name: str) -> Problem:
    """The complaint of PyYAML or of `_refuse`, at the line where an unclosed construct begins."""
    text = cut(str(error.problem), _MAX_SAID)
    mark = error.problem_mark
    if error.context:
        text = f"{cut(error.context, _MAX_SAID)}, {text}"
        if error.context_mark is not None and "block" not in error.context:
            if mark is not None and mark.line != error.context_mark.line:
                text = f"{text} on line {mark.line + 1}"
            mark = error.context_mark
    hint = next((hint for part, hint in _YAML_HINTS if part in text), None)
    line = None if mark is None else mark.line + 1
    if not isinstance(error, yaml.constructor.ConstructorError):  # those are our own refusals
        text = f"not YAML: {text}"
    return Problem(file=name, line=line, message=text, hint=hint)


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
            reader, value = _load(written, name)
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


def compose(text: str) -> yaml.Node:
    """The nodes of a YAML text that `parse` has read, with the places where they stand in it."""
    node = yaml.compose(text, Loader=_Loader)
    if node is None:
        raise ValueError("Expected a YAML document. Received: an empty text")
    return node


def inline(value: Any) -> str:
    """Write plain values as YAML on one line, as it may stand within brackets."""
    text = yaml.dump(
        value,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=math.inf,
        default_flow_style=True,
    )
    return text.removesuffix("...\n").rstrip("\n")


def dump(value: Any) -> str:
    """Write plain values as YAML that `parse` reads back unchanged."""
    return yaml.dump(
        value,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=100,
        default_flow_style=None,  # what holds no other mapping or list stands on one line
    )


class _Reader:
    """Turns YAML nodes into values, and keeps lines and problems on the way."""

    def __init__(self, loader: _Loader, name: str) -> None:
        self.lines: dict[Key, int] = {}
        self.problems: list[Problem] = []
        self._loader = loader
        self._name = name
        self._open: set[int] = set()
        self._count = 0
        self._characters = 0

    def read(self, node: yaml.Node, key: Key) -> Any:
        """The node's value; its lines are kept under the key."""
        self._count += 1
        if self._count > _MAX_VALUES:
            _refuse(_TOO_MANY, node.start_mark)
        if id(node) in self._open:
            _refuse("an alias contains itself", node.start_mark)
        if len(key) > _MAX_DEPTH:
            _refuse(_TOO_DEEP, node.start_mark)
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, key)
            if isinstance(node, yaml.SequenceNode):
                return self._sequence(node, key)
            return self._scalar(node)
        finally:
            self._open.discard(id(node))

    def _scalar(self, node: yaml.Node) -> Any:
        _check_tag(node, _PLAIN_TAGS)
        self._characters += len(node.value)
        if self._characters > _MAX_CHARACTERS:
            message = f"more than {_MAX_CHARACTERS} characters, aliases counted each time"
            _refuse(message, node.start_mark)
        try:
            value = self._loader.construct_object(node)
            if isinstance(value, str):
                value.encode()
        except UnicodeEncodeError:
            _refuse("the text has half a surrogate pair in it", node.start_mark)
        except KeyError:
            _refuse(f"expected a boolean, received {short(node.value)}", node.start_mark)
        except ValueError as error:
            _refuse(str(error), node.start_mark)
        return value

    def _sequence(self, node: yaml.SequenceNode, key: Key) -> list[Any]:
        _check_tag(node, {f"{_PREFIX}seq"})
        items = []
        for index, child in enumerate(node.value):
            self.lines[(*key, index)] = child.start_mark.line + 1
            items.append(self.read(child, (*key, index)))
        return items

    def _mapping(self, node: yaml.MappingNode, key: Key) -> dict[Any, Any]:
        _check_tag(node, {f"{_PREFIX}map"})
        own = [pair for pair in node.value if pair[0].tag != _MERGE]
        self._find_duplicates(own, key)
        mapping = {}
        for name_node, child in node.value:
            if name_node.tag == _MERGE:
                mapping.update(self._merged(child, key))
        for name_node, child in own:
            name = self._name_of(name_node)
            self.lines[(*key, name)] = name_node.start_mark.line + 1
            mapping[name] = self.read(child, (*key, name))
        return mapping

    def _merged(self, node: yaml.Node, key: Key) -> dict[Any, Any]:
        """The mapping behind `<<`, or a list of them, of which the first has precedence."""
        found = self.read(node, key)
        if isinstance(found, dict):
            return found
        if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
            _refuse("expected a mapping, or a list of mappings, behind <<", node.start_mark)
        return {name: value for item in reversed(found) for name, value in item.items()}

    def _find_duplicates(self, pairs: list[tuple[yaml.Node, yaml.Node]], key: Key) -> None:
        seen: dict[Any, int] = {}
        for name_node, _ in pairs:
            name = self._name_of(name_node)
            line = name_node.start_mark.line + 1
            if name in seen:
                self.problems.append(
                    Problem(
                        file=self._name,
                        line=line,
                        key=_dotted((*key, name)),
                        message=f"the key is given twice, first on line {seen[name]}",
                        hint="keep one",
                    )
                )
            seen.setdefault(name, line)

    def _name_of(self, node: yaml.Node) -> Any:
        name = self._scalar(node) if isinstance(node, yaml.ScalarNode) else None
        if not isinstance(name, str | int) or isinstance(name, bool):
            _refuse("expected a text or an integer as a key", node.start_mark)
        return name


def _check_tag(node: yaml.Node, allowed: set[str]) -> None:
    if node.tag not in allowed:
        tag = node.tag.replace(_PREFIX, "!!")
        _refuse(f"the tag {tag[:100]} is not allowed", node.start_mark)


def _refuse(message: str, mark: Any) -> NoReturn:
    """Raise at a place in the text, in the way of PyYAML's own errors."""
    raise yaml.constructor.ConstructorError(None, None, message, mark)


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


def _dotted(key: Key) -> str:
    """A path as messages have it, with long keys cut."""
    return ".".join(cut(str(part)) for part in key)


def _invalid(
    name: str, message: str, hint: str | None = None, line: int | None = None
) -> InvalidError:
    return InvalidError([Problem(file=name, line=line, message=message, hint=hint)])


def _set_name(text: str) -> str:
    """How an assignment is called in messages, on one line of bounded length."""
    text = " ".join(text.split())
    return f"--set {text}" if len(text) <= 80 else f"--set {text[:79]}…"
