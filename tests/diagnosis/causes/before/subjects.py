"""A model and its rows as the finders get them, with the training that a config plans."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from orchestrator.config.schema import Config
from orchestrator.data.rows import Rows, num_rows
from orchestrator.diagnosis.causes.before.subject import Subject
from orchestrator.diagnosis.tracing.probe import Probe
from orchestrator.diagnosis.units import NO_FLOW
from orchestrator.model.outputs import find_outputs


def make_config(**changes: Any) -> Config:
    return Config.model_validate(
        {
            "name": "c",
            "base": ".",
            "data": {"train": {"npz": "rows.npz"}},
            "model": {"layers": ["Dense"]},
            "compile": {},
            "phases": [{"name": "main", "epochs": 10}],
            **changes,
        }
    )


def make_subject(
    model: keras.Model,
    x: Any,
    y: Any,
    /,
    *,
    measured: bool = False,
    columns: tuple[str, ...] = (),
    scalings: Any = None,
    learning_rate_cap: float | None = None,
    learning_rate_factor: float | None = None,
    schedule_stretch: float | None = None,
    elsewhere: bool = False,
    **changes: Any,
) -> Subject:
    """The subject of a training of ten epochs in batches of 32.

    With `measured` all rows are run through the model, which takes long; `changes` are those of the
    config.
    """
    config = make_config(**changes)
    rows = Rows(x=x, y=np.asarray(y), columns=columns)
    outputs = find_outputs(model, config, rows)
    found = Probe(model).measure(rows) if measured else None
    return Subject(
        model=model,
        outputs=outputs,
        rows=rows,
        scalings=scalings or {},
        layers=() if found is None else found.layers,
        flow=NO_FLOW if found is None else found.flow,
        config=None if elsewhere else config,
        learning_rate_cap=learning_rate_cap,
        learning_rate_factor=learning_rate_factor,
        schedule_stretch=schedule_stretch,
        steps_per_epoch=None if elsewhere else -(-num_rows(x) // config.batch_size),
    )


def compiled(
    *stack: keras.layers.Layer,
    optimizer: Any = "adam",
    loss: Any = "mse",
    shape: tuple[int, ...] = (4,),
    seed: int = 0,
) -> keras.Model:
    """A sequential model over inputs of a shape; `Dense(1)` where no layers are given."""
    keras.utils.set_random_seed(seed)
    model = keras.Sequential([keras.Input(shape), *(stack or (keras.layers.Dense(1),))])
    model.compile(optimizer=optimizer, loss=loss)
    return model
