"""The backend that Keras is told to use, which has to be TensorFlow.

Keras is not imported here: with a backend that is not installed, that would fail with a message
about a missing module.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from orchestrator.errors import InvalidError, Problem, short


def check_backend() -> None:
    """Refuse another backend than TensorFlow.

    Raises:
        InvalidError: Keras runs on another one in this process, or would when it is imported.
    """
    keras = sys.modules.get("keras")
    named = os.environ.get("KERAS_BACKEND")
    folder = os.environ.get("KERAS_HOME", "~/.keras")
    key = None
    if keras is not None:
        backend = keras.config.backend()
        file = "keras.config.backend()"
        hint = "set KERAS_BACKEND=tensorflow before Keras is imported"
    elif named:
        backend = named
        file = "KERAS_BACKEND"
        hint = "set it to tensorflow"
    else:
        backend = _written(Path(folder).expanduser() / "keras.json")
        file, key = f"{folder}/keras.json", "backend"
        hint = "change it, or set KERAS_BACKEND=tensorflow, which goes before it"
    if backend != "tensorflow":
        message = (
            f"expected tensorflow, in whose graphs networks are watched, received {short(backend)}"
        )
        raise InvalidError([Problem(file=file, key=key, message=message, hint=hint)])


def _written(path: Path) -> Any:
    """The backend in Keras's own file, which Keras takes no notice of where it is no JSON."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return "tensorflow"
    return found.get("backend", "tensorflow") if isinstance(found, dict) else "tensorflow"
