"""What `validate` prints: that data and model of a config fit together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from orchestrator.display.charts import Legible
from orchestrator.training.attempt.task import Prepared


def _shape(shape: Any) -> str:
    """Shape of a row, or of each of several inputs."""
    if isinstance(shape, Mapping):
        return ", ".join(f"{name}: {_shape(each)}" for name, each in shape.items())
    if any(isinstance(each, tuple) for each in shape):
        return ", ".join(map(_shape, shape))
    return " × ".join(map(str, shape))


def validated(name: str, found: Prepared) -> RenderableType:
    """What `validate` found.

    Args:
        name: the config's name.
        found: data and model, built and fitted together.
    """
    shape = _shape(found.input_shape)
    held = f", {found.validation_rows} held back for validation" if found.validation_rows else ""
    watched = ", ".join(found.layers) or "none"
    lines = [
        Text.assemble((name, "bold"), " is valid"),
        Text(f"Data: {found.rows} training rows of {shape}{held}"),
        Text(f"Model: {found.parameters} weights; activations are watched in: {watched}"),
        *(Text.assemble(("warning", "yellow"), f": {warning}") for warning in found.warnings),
    ]
    return Legible(Group(*lines))
