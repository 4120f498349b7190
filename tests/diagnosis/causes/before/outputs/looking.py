"""Looking at a model before its training, as an attempt does in phase 0."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np

from orchestrator.config.schema import Config
from orchestrator.data.rows import Rows
from orchestrator.diagnosis.causes.before.subject import Subject
from orchestrator.diagnosis.diagnose import Arguments
from orchestrator.diagnosis.tracing.probe import Probe
from orchestrator.model.build import try_call
from orchestrator.model.outputs import find_outputs
from orchestrator.record.records import Finding

layers = keras.layers
Finder = Callable[[Subject], Iterable[Finding]]


def config(**changes: Any) -> Config:
    """The least that a config says."""
    return Config.model_validate(
        {
            "name": "c",
            "base": ".",
            "data": {"train": {"npz": "rows.npz"}},
            "model": {"layers": ["Dense"]},
            "phases": [{"name": "main", "epochs": 1}],
            **changes,
        }
    )


def subject(
    model: keras.Model,
    x: Any,
    y: Any = None,
    weight: Any = None,
    /,
    *,
    elsewhere: bool = False,
    **changes: Any,
) -> Subject:
    """A model with its rows, before a training or trained elsewhere."""
    rows = Rows(x=x, y={} if y is None else y, weight=weight)
    try_call(model, Arguments(), rows, "file")
    probe = Probe(model)
    measured = probe.measure(rows) if probe.can_measure else None
    return Subject(
        model=model,
        outputs=find_outputs(model, Arguments(), rows),
        rows=rows,
        config=None if elsewhere else config(**changes),
        steps_per_epoch=rows.num_batches(32),
        **({} if measured is None else {"layers": measured.layers, "flow": measured.flow}),
    )


def stack(*hidden: Any, columns: int = 3, **compiled: Any) -> keras.Model:
    """A sequential model, compiled where it is said how."""
    model = keras.Sequential([layers.Input((columns,)), *hidden])
    if compiled:
        model.compile(optimizer="adam", **compiled)
    return model


def inputs(rows: int = 200, columns: int = 3) -> Any:
    """Standard normal inputs."""
    return np.random.default_rng(0).normal(size=(rows, columns)).astype(np.float32)


def told(finder: Finder, looked_at: Subject) -> list[tuple[str, bool]]:
    """Cause and certainty of what is found."""
    return [(finding.cause, finding.certain) for finding in finder(looked_at)]
