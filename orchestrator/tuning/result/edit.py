"""A config's text with some values changed, and everything else, comments too, as it was written.

The text is edited where the values stand, and read again: where that does not give exactly the
values that were wanted, as behind anchors, the values are written anew without the comments.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

from orchestrator.config import document, yaml12
from orchestrator.errors import InvalidError


class _Change(NamedTuple):
    start: int
    """First character that is replaced."""
    end: int
    """The character after the last one."""
    text: str
    """What stands there instead."""


def edit(text: str, value: dict[str, Any]) -> str:
    """The text, changed so that it holds other values.

    Args:
        text: a config that `document.parse` reads.
        value: what it is to hold.

    Returns:
        A text that `document.parse` reads as exactly these values.
    """
    held = document.parse(text, name="").value
    text = text if text.endswith("\n") else f"{text}\n"
    changes = sorted(_changes(text, yaml12.compose(text), held, value), reverse=True)
    edited = text
    for change in changes:
        edited = edited[: change.start] + change.text + edited[change.end :]
    try:
        found = document.parse(edited, name="")
    except InvalidError:
        return yaml12.dump(value)
    return edited if not found.problems and same(found.value, value) else yaml12.dump(value)


def _changes(text: str, node: yaml.Node, held: Any, wanted: Any) -> Iterator[_Change]:
    """What to replace so that a node which holds one value holds another."""
    if same(held, wanted):
        return
    if (
        isinstance(node, yaml.MappingNode)
        and isinstance(held, dict)
        and isinstance(wanted, dict)
        and not (node.flow_style and held.keys() - wanted.keys())
    ):
        yield from _in_mapping(text, node, held, wanted)
    elif (
        isinstance(node, yaml.SequenceNode)
        and isinstance(wanted, list)
        and len(held) == len(wanted)
        and all(map(_alike, held, wanted))
    ):
        for item, before, after in zip(node.value, held, wanted, strict=True):
            yield from _changes(text, item, before, after)
    else:
        yield _replaced(node, wanted)


def _in_mapping(
    text: str, node: yaml.MappingNode, held: dict[Any, Any], wanted: dict[Any, Any]
) -> Iterator[_Change]:
    written = {str(key.value): (key, item) for key, item in node.value}
    for name, value in wanted.items():
        if name in held and str(name) in written:
            yield from _changes(text, written[str(name)][1], held[name], value)
        else:
            yield _added(text, node, name, value)
    for name in held.keys() - wanted.keys():
        if str(name) in written:
            key, item = written[str(name)]
            start = text.rfind("\n", 0, key.start_mark.index) + 1
            yield _Change(start, text.find("\n", _end(item)) + 1, "")


def _added(text: str, node: yaml.MappingNode, name: Any, value: Any) -> _Change:
    """A key more: a single value before the others, what is larger behind them in a config."""
    start = node.start_mark.index
    if node.flow_style:
        return _Change(start + 1, start + 1, f"{yaml12.inline(name)}: {yaml12.inline(value)}, ")
    column = node.start_mark.column
    if column == 0 and isinstance(value, dict | list):
        return _Change(len(text), len(text), f"\n{yaml12.dump({name: value})}")
    line = f"{yaml12.inline(name)}: {yaml12.inline(value)}\n{' ' * column}"
    return _Change(start, start, line)


def _replaced(node: yaml.Node, value: Any) -> _Change:
    start, end = node.start_mark.index, _end(node)
    in_lines = isinstance(node, yaml.SequenceNode) and not node.flow_style
    if in_lines and isinstance(value, list) and value:
        items = (f"- {yaml12.inline(item)}" for item in value)
        return _Change(start, end, f"\n{' ' * node.start_mark.column}".join(items))
    blank = " " if start == end else ""  # nothing stood behind the colon
    return _Change(start, end, f"{blank}{yaml12.inline(value)}")


def _end(node: yaml.Node) -> int:
    """The character after a node; PyYAML's own end of a block is the next thing behind it."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(last[1] if isinstance(last, tuple) else last)
    end: int = node.end_mark.index
    return end


def same(first: Any, second: Any) -> bool:
    """Whether two plain values are equal and of the same types, unlike 1, 1.0 and True."""
    if type(first) is not type(second):
        return False
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(
            same(item, second[key]) for key, item in first.items()
        )
    if isinstance(first, list):
        return len(first) == len(second) and all(map(same, first, second))
    return bool(first == second) or (first != first and second != second)


def _alike(first: Any, second: Any) -> bool:
    """Whether one can be made of the other by changes inside it."""
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() or bool(first.keys() & second.keys())
    return type(first) is type(second)
