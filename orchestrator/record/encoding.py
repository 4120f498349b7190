"""Records as JSON: what all of them have in common, how they are written, how they are read.

The field names of a record are its JSON keys. Keys that no field has are passed over when a record
is read, for a later version may have written them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, dataclass_transform

import msgspec

from orchestrator.errors import NewerError, RecordError, cut, short

NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
"""How JSON, which has no such numbers, writes them here."""

_KEYS = re.compile(r"[^.\[\]`]+")
"""The keys in a path of msgspec's, as `$.attempts[0].phases`."""
_MISSING = re.compile(r"Object missing required field `(.+)`")

_MAX_SAID = 300
"""Characters of one of msgspec's messages, which may have a whole text in it."""

_ANY = "*"
"""Stands for the key of a mapping, which msgspec does not tell."""

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
class Record(msgspec.Struct, frozen=True, gc=False):
    """Something that is recorded; never changed, `msgspec.structs.replace` makes the next one.

    Records hold no references in a circle, so the garbage collector need not look at them.
    """


def jsonable(value: Any) -> Any:
    """The value as plain JSON: records as objects, tuples as arrays, NaN and infinities as strings.

    Args:
        value: records, mappings, sequences and scalars, NumPy scalars included.

    Returns:
        The same content in dict, list, str, int, float, bool and None.
    """
    return _without_non_finite(msgspec.to_builtins(value, str_keys=True, enc_hook=_plain))


def dump(
    value: Any, *, indent: int | None = None, separators: tuple[str, str] | None = None
) -> bytes:
    """Plain JSON as UTF-8.

    Args:
        value: what `jsonable` returns.
        indent: as `json.dumps` takes it.
        separators: as `json.dumps` takes them.

    Returns:
        One document, without a line break at its end.
    """
    text = json.dumps(
        value, indent=indent, separators=separators, ensure_ascii=False, allow_nan=False
    )
    # A file name that is not UTF-8 is a lone surrogate in Python, and an escape in JSON.
    return text.encode(errors="backslashreplace")


def document(value: Any) -> bytes:
    """A file's content for a record, or for anything else that `jsonable` takes."""
    return dump(jsonable(value), indent=1) + b"\n"


def decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    """Reads JSON as a record; a text such as "NaN" where a number is expected is one.

    Args:
        kind: the record's type, or a union of types that one key tells apart.
    """
    return msgspec.json.Decoder(kind, strict=False)


def decode(content: bytes, known: msgspec.json.Decoder[T]) -> T:
    """Read JSON as a record.

    Args:
        content: one document.
        known: what `decoder` makes of the record's type.

    Raises:
        RecordError: the content is no such record; the message says where, what was expected there
            and what was received.
    """
    try:
        if not content.isascii():
            content.decode()  # what is passed over is to be text, too
        return known.decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass
    # Once more and more slowly: for the value that is wrong, and for the lone surrogates of a file
    # name that is not UTF-8, which msgspec refuses.
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"it is no JSON: {error}") from error
    try:
        found: T = msgspec.convert(value, known.type, strict=False)
    except msgspec.ValidationError as error:
        raise RecordError(_sentence(str(error), value)) from error
    except UnicodeEncodeError as error:  # where another value than a text is expected
        raise RecordError("a text has half a surrogate pair in it") from error
    return found


class _Schema(Record, kw_only=True):
    schema: int = 0


_SCHEMA: msgspec.json.Decoder[_Schema] = decoder(_Schema)


def decode_file(content: bytes, known: msgspec.json.Decoder[T], name: str, *, schema: int) -> T:
    """The record that the content of a file is.

    Args:
        content: one document.
        known: what `decoder` makes of the record's type.
        name: the file's.
        schema: the greatest version of its shape that can be read.

    Raises:
        RecordError: the file is damaged.
        NewerError: it is of a newer schema.
    """
    try:
        found = decode(content, _SCHEMA).schema
        if found <= schema:
            return decode(content, known)
    except RecordError as error:
        raise RecordError(f"{name} is damaged: {error}") from error
    raise NewerError(
        f"{name}: its schema is {short(found)}, this version reads up to {schema}: "
        "update orchestrator"
    )


def _sentence(message: str, value: Any) -> str:
    """Where, what was expected, what was received, for the message of one of msgspec's errors."""
    told, _, path = message.partition(" - at `$")
    keys = _KEYS.findall(path.replace("...", _ANY))
    if missing := _MISSING.fullmatch(told):
        return f"{'.'.join([*keys, missing[1]])}: is missing"
    expected, got, _ = told.partition(", got ")
    told = cut(expected[:1].lower() + expected[1:], _MAX_SAID)
    if got and _ANY not in keys:
        told += f", received {short(_dig(value, keys))}"
    return f"{'.'.join(keys)}: {told}" if keys else told


def _dig(value: Any, keys: Sequence[str]) -> Any:
    for key in keys:
        value = value[int(key)] if isinstance(value, list) else value[key]
    return value


def _plain(value: Any) -> Any:
    """What msgspec does not know: NumPy's arrays and scalars, and containers of other kinds."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence):
        return list(value)
    raise TypeError(f"expected a value that JSON has, received {value!r}")


def _without_non_finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_non_finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_non_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
