"""The config in the record of a run, as plain values; what shows runs needs no schema for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.config import document
from orchestrator.config.document import dig
from orchestrator.config.yaml12 import Key
from orchestrator.errors import InvalidError
from orchestrator.record.storage.directory import Paths, read_file

_GIVEN: tuple[Key, ...] = (
    ("model", "given"), ("data", "train", "given"), ("data", "validation", "given"),
)  # fmt: skip


def read(directory: Path) -> dict[str, Any]:
    """The recorded config of a run, with every default filled in; empty where it cannot be read."""
    try:
        text = read_file(Paths(directory).resolved).decode()
        value = document.parse(text, name="").value
    except (OSError, ValueError, InvalidError):
        return {}
    return dict(value) if isinstance(value, Mapping) else {}


def lost(config: Mapping[str, Any]) -> list[Key]:
    """Keys of what `retrain` was given in Python, without which no command goes on with a run."""
    return [key for key in _GIVEN if dig(config, *key) is not None]
