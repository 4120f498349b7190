"""YAML 1.2 read safely, with the line of every key.

PyYAML follows YAML 1.1, in which `1e-3` is a string and `on` a boolean. The loader and dumper here
use the scalars of YAML 1.2's core schema instead (https://yaml.org/spec/1.2.2/, section 10.3.2).
"""

from __future__ import annotations

import math
import re
from typing import Any, NoReturn

import yaml

from orchestrator.errors import InvalidError, Problem, cut, short

Key = tuple[str | int, ...]
"""Path of a value in a document: mapping keys and list indices."""

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


def load(text: str, name: str) -> tuple[Reader, Any]:
    """The value of a YAML text, and the reader with its lines and problems."""
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            reader = Reader(loader, name)
            return reader, None if node is None else reader.read(node, ())
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        raise InvalidError([_not_yaml(error, name)]) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        message = f"not YAML: the character {error.character:#06x} is not allowed"
        raise invalid(name, message, "remove it", line) from error


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


class Reader:
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
                        key=dotted((*key, name)),
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


def _check_tag(node: yaml.Node, allowed: set[str]) -> None:
    if node.tag not in allowed:
        tag = node.tag.replace(_PREFIX, "!!")
        _refuse(f"the tag {tag[:100]} is not allowed", node.start_mark)


def _refuse(message: str, mark: Any) -> NoReturn:
    """Raise at a place in the text, in the way of PyYAML's own errors."""
    raise yaml.constructor.ConstructorError(None, None, message, mark)


def dotted(key: Key) -> str:
    """A path as messages have it, with long keys cut."""
    return ".".join(cut(str(part)) for part in key)


def invalid(
    name: str, message: str, hint: str | None = None, line: int | None = None
) -> InvalidError:
    """What is wrong with a file, to be raised."""
    return InvalidError([Problem(file=name, line=line, message=message, hint=hint)])
