"""Attempts as they ended, with everything that a test does not care about filled in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from msgspec.structs import replace

from orchestrator.data.rows import AnyRows, Rows
from orchestrator.diagnosis.causes.after.subject import Subject
from orchestrator.diagnosis.examine import Examination
from orchestrator.diagnosis.skill.columns import OutputSkill
from orchestrator.diagnosis.tracing.probe import Probe
from orchestrator.model.outputs import Output
from orchestrator.record.checks import AnyCheck
from tests import builders

layers = keras.layers
HEAD = Output(name="", target="", shape=(1,), form="regression", from_logits=False)


def stack(*hidden: layers.Layer, last: layers.Layer | None = None) -> keras.Model:
    """A network of three inputs."""
    return keras.Sequential([layers.Input((3,)), *hidden, last or layers.Dense(1)])


LINEAR = stack()


def rows(y: Any, x: Any = None) -> Rows:
    """Rows of three numbers each."""
    y = np.asarray(y, dtype=np.float64)
    x = np.random.default_rng(0).normal(size=(len(y), 3)) if x is None else x
    return Rows(x=np.asarray(x, np.float32), y=y)


CONSTANT = builders.made(
    "prediction_variance",
    verdict="fail",
    measured={"outputs": [{"output": 0, "kind": "regression", "variance_ratio": 0.0}]},
    limits={"min_ratio": 1e-4},
)
"""The predictions do not vary."""


def ended(
    model: keras.Model,
    given: AnyRows | None = None,
    *checks: AnyCheck,
    skill: float = 0.0,
    constant_loss: float = 0.25,
    heads: Sequence[Output] = (HEAD,),
    untrained: bool = False,
    **known: Any,
) -> Subject:
    """An attempt whose last phase has ended with these checks; without any it is constant.

    Args:
        model: as it ended.
        given: its training rows.
        *checks: of the last phase.
        skill: of its output.
        constant_loss: what the best constant loses.
        heads: its outputs.
        untrained: it is still at phase 0.
        **known: more of `Subject`.
    """
    checks = checks or (CONSTANT,)
    init, main = builders.phase("init"), replace(builders.phase("main"), checks=checks)
    column = OutputSkill(
        output=0, kind="regression", varies=True, skill=skill, constant_loss=constant_loss
    )
    defaults = {
        "config": builders.config(),
        "model": model,
        "outputs": heads,
        "probe": Probe(model),
        "rows": rows(np.arange(4.0)) if given is None else given,
        "examined": Examination(checks=checks, columns=((column,),) * len(heads)),
        "phases": (replace(init, checks=checks),) if untrained else (init, main),
    }
    return Subject(**{**defaults, **known})
