"""What the evidence on a failed attempt points to, where it can be known from the model and rows.

A finding is certain where no training could succeed: the run then ends instead of trying them all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from orchestrator.data.rows import AnyRows, Tree
from orchestrator.diagnosis.causes.after.rows import (
    find_constant_reconstruction,
    find_distant_targets,
    find_row_faults,
    size,
)
from orchestrator.diagnosis.examine import Examination
from orchestrator.diagnosis.skill.columns import NO_SKILL
from orchestrator.model import initialization, layers
from orchestrator.model.keras_internals import own_variables
from orchestrator.model.outputs import Output
from orchestrator.record.checks import PredictionVarianceCheck
from orchestrator.record.records import Finding

_NO_CHANCE = 32
"""So many weights are all negative by their initializer, not for want of luck: 1 in 2^32."""
_HELD = 0.05
"""Share of Glorot's standard deviation below which a kernel counts as held at zero."""


def find_dead_initialization(model: keras.Model, x: Tree) -> Iterator[Finding]:
    """Initial weights with which relu units are born dead, whatever the seed.

    Args:
        model: the untrained model.
        x: a few rows, to find the layers that make the output.
    """
    found: dict[int, tuple[keras.Layer, list[Any], list[Any]]] = {}
    for layer, variable, is_kernel in initialization.hidden_variables(model, x):
        _, kernels, biases = found.setdefault(id(layer), (layer, [], []))
        (kernels if is_kernel else biases).append(np.asarray(variable.numpy(), dtype=np.float64))
    for layer, kernels, biases in found.values():
        size = sum(kernel.size for kernel in kernels)
        # Of inputs with variance 1, the standard deviation that a kernel gives.
        spread = max(kernel.std() * math.sqrt(kernel[..., 0].size) for kernel in kernels)
        what = None
        if not any(kernel.any() for kernel in kernels):
            what = "its kernel is zero everywhere"
        elif size >= _NO_CHANCE and not any((kernel > 0).any() for kernel in kernels):
            what = "its kernel has no positive weight"
        elif biases and max(bias.max() for bias in biases) < -spread:
            what = f"its biases are all negative, down to {min(bias.min() for bias in biases):.3g}"
        if what is not None:
            reason = f"layer {layer.name} is dead by its initialisation: {what}"
            yield Finding(cause="initialization", reason=reason, certain=False)


def find_held_kernels(
    model: keras.Model, x: Tree, constant_loss: float | None
) -> Iterator[Finding]:
    """Kernels of the output that a regulariser, a constraint or a freeze holds at zero.

    To be asked about a model whose prediction is constant although units are alive.

    Args:
        model: the model as it failed.
        x: a few rows, to find the layers that make the output.
        constant_loss: what the best constant loses, in the data's own loss; None where unknown.
    """
    for layer in layers.last_layers(model, x):
        for part in layers.parts(layer):
            for variable in own_variables(part):
                if len(variable.shape) < 2 or "kernel" not in variable.name:
                    continue
                value = np.asarray(variable.numpy(), dtype=np.float64)
                draw = keras.initializers.GlorotNormal(seed=0)(value.shape).numpy()
                holder = _holder(part, variable, draw, constant_loss)
                if holder is None or size(value) > _HELD * size(draw):
                    continue
                by, certain = holder
                reason = (
                    f"the kernel of layer {part.name} is held at zero by its {by}, largest weight "
                    f"{np.abs(value).max():.2g}, so that the prediction cannot vary: take it away "
                    "or weaken it"
                )
                yield Finding(cause="held_at_zero", reason=reason, certain=certain)


def _holder(
    layer: keras.Layer, variable: keras.Variable, draw: Any, constant_loss: float | None
) -> tuple[str, bool] | None:
    """What holds a kernel at zero, and whether it is certain to hold any kernel there."""
    if not variable.trainable:
        return "trainable=False", True
    if variable.constraint is not None:
        both = np.stack([draw, -draw])  # a constraint may let one sign through
        left = [keras.ops.convert_to_numpy(variable.constraint(each)) for each in both]
        return f"constraint {type(variable.constraint).__name__}", size(left) <= _HELD * size(draw)
    if variable.regularizer is not None:
        penalty = float(variable.regularizer(draw))
        dear = constant_loss is not None and penalty >= constant_loss
        return f"regularizer {type(variable.regularizer).__name__}", dear
    if getattr(layer, "activity_regularizer", None) is not None:
        return f"activity regularizer {type(layer.activity_regularizer).__name__}", False
    return None


def find_causes(
    model: keras.Model,
    outputs: Sequence[Output],
    rows: AnyRows,
    examined: Examination,
    *,
    untrained: bool,
    falling: bool,
    slowed: bool,
) -> tuple[Finding, ...]:
    """All that can be found out about a failed attempt.

    Args:
        model: its model, as it failed.
        outputs: the model's outputs.
        rows: the training rows.
        examined: what the checks looked at.
        untrained: whether it failed before training.
        falling: whether the loss was falling at the end.
        slowed: whether a remedy has lowered the learning rate.
    """
    found: list[Finding] = []
    failed = {check.check: check for check in examined.checks if check.verdict == "fail"}
    x = rows.first(2)[0]
    if untrained:
        found += find_dead_initialization(model, x)
    elif failed.keys() & {"dead_neurons", "prediction_variance"}:
        variance = failed.get("prediction_variance")
        if (
            "dead_neurons" not in failed
            and isinstance(variance, PredictionVarianceCheck)
            and variance.is_constant()
        ):
            losses = [
                each.constant_loss
                for each in [column for columns in examined.columns for column in columns]
            ]
            known = [loss for loss in losses if loss is not None]
            found += find_held_kernels(model, x, max(known) if known else None)
            found += find_constant_reconstruction(model, outputs, rows)
        poor = [
            output
            for output, columns in zip(outputs, examined.columns, strict=True)
            if any(each.skill is not None and not each.skill > NO_SKILL for each in columns)
        ]
        if "dead_neurons" not in failed:
            found += find_distant_targets(model, outputs, rows, falling=falling, slowed=slowed)
        found += find_row_faults(model, poor, rows)
    elif "finite" in failed:
        found += find_row_faults(model, (), rows, scales_only=True)
    return tuple(found)
