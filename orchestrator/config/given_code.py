"""A digest of code that was given in Python, the same in every process that has the same code.

Pickles are not: they hold lines, places of files and sets in any order. What is digested are the
instructions and constants of functions, and of what these refer to, as far as it is the user's own;
whatever is installed counts by its name.
"""

from __future__ import annotations

import functools
import hashlib
import sys
import sysconfig
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

_PLAIN = (str, bytes, int, float, complex, bool, range, type(None), type(...))
_INSTALLED = tuple(
    Path(path).resolve()
    for name, path in sysconfig.get_paths().items()
    if name in ("stdlib", "platstdlib", "purelib", "platlib")
)


def digest(value: Any) -> str:
    """SHA-256 of a function, a class or an object whose code is the user's.

    Args:
        value: anything; what is neither code nor plain values counts by its class.
    """
    hashed = hashlib.sha256()
    for part in _parts(value, {}):
        hashed.update(part.encode())
        hashed.update(b"\0")
    return f"sha256:{hashed.hexdigest()}"


def _parts(value: Any, seen: dict[int, Any]) -> Iterator[str]:
    """What tells one value from another, as texts; what was met before is not looked into again."""
    if isinstance(value, _PLAIN):
        yield repr(value)
        return
    if isinstance(value, set | frozenset):
        yield from sorted("\0".join(_parts(each, seen)) for each in value)
        return
    yield type(value).__qualname__
    if id(value) in seen:
        return
    seen[id(value)] = value  # which keeps another object from having its id
    yield getattr(value, "__qualname__", "")
    for inner in _inside(value):
        yield from _parts(inner, seen)


def _inside(value: Any) -> Iterator[Any]:
    """What a value is made of, in an order that is always the same."""
    match value:
        case types.FunctionType() if _is_own(value):
            yield from (value.__code__, value.__defaults__, value.__kwdefaults__)
            yield from (_content(cell) for cell in value.__closure__ or ())
            for name in sorted(_names(value.__code__)):
                if name in value.__globals__:
                    yield from (name, value.__globals__[name])
        case types.CodeType():
            yield from (value.co_code, value.co_names, value.co_varnames, value.co_consts)
        case types.MethodType():
            yield from (value.__func__, value.__self__)
        case functools.partial():
            yield from (value.func, value.args, value.keywords)
        case types.ModuleType():
            yield value.__name__
            file = getattr(value, "__file__", None)
            if _is_own(value) and file and Path(file).is_file():
                yield Path(file).read_bytes()
        case type() if _is_own(value):
            yield value.__bases__
            yield {name: each for name, each in vars(value).items() if _counts(name, each)}
        case staticmethod() | classmethod():
            yield value.__func__
        case property():
            yield from (value.fget, value.fset)
        case dict():
            for name, each in value.items():
                yield from (name, each)
        case list() | tuple():
            yield from value
        case np.ndarray() if value.dtype != object:
            whole = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
            yield from (str(value.dtype), value.shape, hashlib.sha256(whole.data).hexdigest())
        case np.generic():
            yield value.item()
        case types.FunctionType() | type() | types.BuiltinFunctionType():
            yield getattr(value, "__module__", None)
        case _:
            yield type(value)
            if _is_own(type(value)):
                yield dict(sorted(getattr(value, "__dict__", {}).items()))


def _counts(name: str, value: Any) -> bool:
    """Whether an attribute of a class says what it does, and not where it stands."""
    if name in ("__module__", "__doc__", "__firstlineno__", "__static_attributes__"):
        return False
    return not isinstance(value, types.GetSetDescriptorType | types.MemberDescriptorType)


def _names(code: types.CodeType) -> set[str]:
    """The names that code, and the code within, may look up."""
    inner = (_names(each) for each in code.co_consts if isinstance(each, types.CodeType))
    return set(code.co_names).union(*inner)


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # what it is for was not assigned
        return None


def _is_own(value: Any) -> bool:
    """Whether code is the user's, and not installed: that of a script or notebook always is."""
    module = value if isinstance(value, types.ModuleType) else sys.modules.get(value.__module__)
    if module is None or module.__name__ == "__main__":
        return True
    file = getattr(module, "__file__", None)
    if file is None or module.__name__.partition(".")[0] == "orchestrator":
        return False
    return not any(Path(file).resolve().is_relative_to(folder) for folder in _INSTALLED)
