"""Arrays in NumPy's own files, read without unpickling anything."""

from __future__ import annotations

import dataclasses
import os
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.config.schema import Config
from orchestrator.config.sections.data import NpySource, NpzSource
from orchestrator.data.arrays import checked, invalid, summary
from orchestrator.data.files.opening import open_file
from orchestrator.data.rows import Array, Rows, Tree
from orchestrator.errors import InvalidError, Problem, suggestion


def read_npz(path: Path, source: NpzSource, *, name: str) -> Rows:
    """Read the arrays of a NumPy archive, without unpickling anything.

    Args:
        path: the file.
        source: the arrays' names.
        name: how to call the file in messages.

    Returns:
        The rows.

    Raises:
        InvalidError: not an archive, an unknown array, arrays that do not fit or are not finite.
    """
    names = {"x": source.x, "y": source.y}
    if source.sample_weight is not None:
        names["weight"] = source.sample_weight
    arrays = _members(path, names, name)
    return checked(arrays["x"], arrays["y"], arrays.get("weight"), name, names)


def read_npz_inputs(path: Path, inputs: Sequence[str], target: str | None, *, name: str) -> Rows:
    """Read inputs from a NumPy archive, each by its name.

    Args:
        path: the file.
        inputs: names of the arrays.
        target: name of the targets' array, if there is one.
        name: how to call the file in messages.

    Raises:
        InvalidError: as `read_npz`.
    """
    names = {each: each for each in (*inputs, *([] if target is None else [target]))}
    arrays = _members(path, names, name)
    x = {each: arrays[each] for each in inputs} if len(inputs) > 1 else arrays[inputs[0]]
    if target is not None:
        return checked(x, arrays[target], None, name, {"x": "x", "y": target})
    return _without_targets(x, name, "x")


def _without_targets(x: Tree, name: str, key: str) -> Rows:
    """Rows of nothing but inputs."""
    return dataclasses.replace(checked(x, {}, None, name, {"x": key, "y": "y"}), y=None)


def _members(path: Path, names: Mapping[str, str], name: str) -> dict[str, Any]:
    """Arrays of an archive by their roles."""
    with open_file(path, name) as file:
        if not zipfile.is_zipfile(file):
            message = "expected an .npz archive, received another kind of file, or a part of one"
            raise invalid(name, message, "save it with numpy.savez")
        file.seek(0)
        try:
            with np.load(file, allow_pickle=False) as archive:
                _expect_to_fit(archive, names.values(), name)
                arrays = {role: _member(archive, key, name) for role, key in names.items()}
        except InvalidError:
            raise
        except Exception as error:
            # What a damaged archive raises has no common base: zipfile, zlib, NumPy have their own.
            message = f"cannot be read as an .npz archive: {summary(error)}"
            raise invalid(name, message) from error
    problems = [array for array in arrays.values() if isinstance(array, Problem)]
    if problems:
        raise InvalidError(problems)
    return arrays


def _expect_to_fit(archive: Any, keys: Iterable[str], name: str) -> None:
    """Refuse arrays that do not fit into memory before they are unpacked.

    Raises:
        InvalidError: a few bytes of the archive may be many when unpacked.
    """
    memory = _memory()
    sizes = {each.filename.removesuffix(".npy"): each.file_size for each in archive.zip.infolist()}
    wanted = sum(sizes.get(key, 0) for key in keys)
    if memory is not None and wanted > memory:
        message = f"its arrays take {wanted / 1e9:,.1f} GB, this machine has {memory / 1e9:,.1f} GB"
        raise invalid(name, message, "use npy: for the inputs, which are then left in their file")


def _memory() -> int | None:
    """Bytes of memory that this machine has; None where it does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _member(archive: Any, key: str, name: str) -> Any:
    """An array of the archive, or the problem with it."""
    if key not in archive.files:
        message, hint = f"there is no array {key!r}", suggestion(key, archive.files)
        return Problem(file=name, key=key, message=message, hint=hint)
    try:
        return np.asarray(archive[key])
    except Exception as error:  # noqa: BLE001 - as above; the other array may be damaged too
        return _unreadable(error, name, key)


def _unreadable(error: Exception, name: str, key: str) -> Problem:
    if "allow_pickle" in str(error):
        message, hint = "expected an array of numbers, received Python objects", "set its dtype"
        return Problem(file=name, key=key, message=message, hint=hint)
    return Problem(file=name, key=key, message=f"cannot be read: {summary(error)}")


def read_npy(source: NpySource, config: Config) -> Rows:
    """Map the inputs from a file and read the rest, without unpickling anything.

    Args:
        source: the files.
        config: the config, from whose folder the paths start.

    Returns:
        The rows; x stays in its file.

    Raises:
        InvalidError: not .npy files, arrays that do not fit or are not finite.
    """
    names = {"x": source.npy, "y": source.y}
    if source.sample_weight is not None:
        names["weight"] = source.sample_weight
    arrays: dict[str, Array] = {}
    problems = []
    for role, name in names.items():
        found = _array(config.path(name), name, mapped=role == "x")
        if isinstance(found, Problem):
            problems.append(found)
        else:
            arrays[role] = found
    if problems:
        raise InvalidError(problems)
    return checked(arrays["x"], arrays["y"], arrays.get("weight"), source.npy, names)


def read_inputs(path: Path, name: str) -> Rows:
    """Map inputs without targets from a file.

    Args:
        path: the .npy file.
        name: how to call it in messages.

    Raises:
        InvalidError: not such a file, or values that are not finite.
    """
    x = _array(path, name, mapped=True)
    if isinstance(x, Problem):
        raise InvalidError([x])
    return _without_targets(x, name, name)


def _array(path: Path, name: str, *, mapped: bool) -> Array | Problem:
    """The array of an .npy file, or the problem with it."""
    try:
        array = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    except Exception as error:  # noqa: BLE001 - as of an archive
        return _unreadable_npy(error, name)
    if isinstance(array, np.ndarray):
        return array
    message = "expected an .npy file, received an archive"
    hint = "name it .npz; in a config, use npz: for archives"
    return Problem(file=name, message=message, hint=hint)


def _unreadable_npy(error: Exception, name: str) -> Problem:
    if "Python objects" in str(error) or "Object arrays" in str(error):
        message, hint = "expected an array of numbers, received Python objects", "set its dtype"
        return Problem(file=name, message=message, hint=hint)
    if isinstance(error, OSError) and error.strerror:
        return Problem(file=name, message=f"cannot be read: {error.strerror}")
    message = "cannot be read as an .npy file, received another kind of file, or a part of one"
    return Problem(file=name, message=message, hint="save it with numpy.save")
