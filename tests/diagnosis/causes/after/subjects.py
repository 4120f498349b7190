"""Attempts as they ended, with everything that a test does not care about filled in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from msgspec.structs import replace

from orchestrator.config.sections.checks import Checks
from orchestrator.data.rows import AnyRows, Rows
from orchestrator.diagnosis.causes.after.find import find_after
from orchestrator.diagnosis.causes.after.subject import Subject, sample_weights
from orchestrator.diagnosis.diagnose import Arguments
from orchestrator.diagnosis.examine import Examination, examine
from orchestrator.diagnosis.skill.columns import OutputSkill
from orchestrator.diagnosis.tracing.probe import Probe
from orchestrator.diagnosis.verdicts.checks import Evidence
from orchestrator.model import saving
from orchestrator.model.outputs import Output, find_outputs
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
    if not model.compiled:
        model.compile("adam", "mse")
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


def trained(
    model: keras.Model,
    x: Any,
    y: Any,
    *,
    optimizer: Any,
    loss: str = "mse",
    epochs: int = 5,
    batch_size: int = 50,
    **known: Any,
) -> Subject:
    """A network that Keras trains here, as its only phase has left it.

    Args:
        model: the network, with seeds of its own.
        x: its inputs.
        y: its targets.
        optimizer: Keras's.
        loss: Keras's name of the loss.
        epochs: how many.
        batch_size: rows of a step.
        **known: more of `Subject`.
    """
    model.compile(optimizer, loss)
    start, digest = sample_weights(model), _digest(model)
    steps: list[float] = []
    noted = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda _, logs: steps.append(logs["loss"])
    )
    log = model.fit(
        x, y, batch_size=batch_size, epochs=epochs, shuffle=False, verbose=0, callbacks=[noted]
    )
    given = Rows(x=x, y=y)
    heads, probe = find_outputs(model, Arguments(), given), Probe(model)
    examined = examine(probe, given, heads, Checks(), Evidence(), training_batch_size=batch_size)
    init = replace(builders.phase("init"), weights=digest)
    main = replace(
        builders.phase("main"),
        checks=examined.checks, epochs=epochs, first_loss=steps[0], weights=_digest(model),
    )  # fmt: skip
    defaults = {
        "config": builders.config(batch_size=batch_size),
        "model": model,
        "outputs": heads,
        "probe": probe,
        "rows": given,
        "examined": examined,
        "phases": (init, main),
        "losses": log.history["loss"],
        "rates": [float(model.optimizer.learning_rate)] * epochs,
        "steps": len(steps),
        "start": start,
    }
    return Subject(**{**defaults, **known})


def _digest(model: keras.Model) -> str:
    return saving.digest(variable.numpy() for variable in model.weights)


def causes(subject: Subject) -> list[str]:
    """What is found out about an attempt."""
    return [finding.cause for finding in find_after(subject)]


def curve(count: int = 200) -> tuple[Any, Any]:
    """Three inputs, and the sum of their sizes, which no linear model learns."""
    x = np.random.default_rng(0).normal(size=(count, 3)).astype("float32")
    return x, np.abs(x).sum(axis=1)


def small(**options: Any) -> keras.Model:
    """A network that learns the curve with `ADAM` in a few epochs."""
    seeds = (keras.initializers.GlorotUniform(seed=seed) for seed in (1, 2))
    hidden = layers.Dense(24, activation="relu", kernel_initializer=next(seeds), **options)
    return stack(hidden, last=layers.Dense(1, kernel_initializer=next(seeds), **options))
