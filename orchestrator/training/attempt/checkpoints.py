"""Files of models that are replaced by one rename, so that none is ever half written."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import keras

from orchestrator.data.rows import AnyRows, Scaling
from orchestrator.errors import describe_error
from orchestrator.model import saving


def save(model: keras.Model, path: Path) -> str | None:
    """Save a model; where it cannot be saved whole, its weights in a file beside.

    Args:
        model: the model, with its optimizer's state.
        path: the `.keras` file.

    Returns:
        Why only weights were saved; None where the model was.

    Raises:
        OSError: the file cannot be written.
    """
    try:
        with replacing(path, ".keras") as temporary:
            model.save(temporary)
    except Exception as error:
        if isinstance(error, OSError):
            raise
        _save_weights(model, path)
        return f"{type(error).__name__}: {describe_error(error)}"
    return None


def save_result(
    model: keras.Model, path: Path, scalings: Mapping[str, Scaling], rows: AnyRows
) -> str | None:
    """Save the model that takes raw inputs; where plain Keras could not load it, the weights.

    Args:
        model: the model as it was trained, on scaled inputs.
        path: the `.keras` file.
        scalings: how the inputs were scaled.
        rows: rows to try the saved model on.

    Returns:
        Why only weights, those of the model as it was trained, were saved; None where the model
        was, if without what it was compiled with.

    Raises:
        OSError: the file cannot be written.
    """
    whole = saving.deployable(model, scalings, rows)
    problem = _save_loadable(whole, path, rows)
    if problem is None:
        return None
    with saving.uncompiled(whole):
        if _save_loadable(whole, path, rows) is None:
            return None  # as was told before the training
    _save_weights(model, path)
    return problem


def _save_loadable(model: keras.Model, path: Path, rows: AnyRows) -> str | None:
    """Save a model, or say why plain Keras could not load it."""
    with replacing(path, ".keras") as temporary:
        return saving.obstacle(model, rows, temporary)


def _save_weights(model: keras.Model, path: Path) -> None:
    with replacing(path.with_suffix(".weights.h5"), ".weights.h5") as temporary:
        model.save_weights(temporary)


@contextlib.contextmanager
def replacing(path: Path, suffix: str) -> Iterator[Path]:
    """A file to write, which takes the place of another one when it is whole and on disk.

    Where none is written the other one stays.

    Args:
        path: the file that is replaced.
        suffix: how the name of what is written ends, for those who add it where it is missing.

    Raises:
        OSError: it cannot be written; the other one is as it was.
    """
    temporary = path.with_name(f".{path.name.lstrip('.')}.new{suffix}")
    try:
        yield temporary
        if temporary.exists():
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
