"""What of a network can do nothing: weights born dead, kernels held at zero, dead branches."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from orchestrator.data.rows import Tree
from orchestrator.diagnosis.causes.after.subject import Subject
from orchestrator.diagnosis.causes.scales import size
from orchestrator.diagnosis.units import names_of
from orchestrator.model import initialization, layers
from orchestrator.model.keras_internals import own_variables
from orchestrator.record.checks import DeadNeuronsCheck
from orchestrator.record.records import Finding

_NO_CHANCE = 32
"""So many weights are all negative by their initializer, not for want of luck: 1 in 2^32."""
_HELD = 0.05
"""Share of Glorot's standard deviation below which a kernel counts as held at zero."""


def find_initialization(subject: Subject) -> Iterator[Finding]:
    """Initial weights with which relu units are born dead, whatever the seed."""
    if subject.untrained:
        yield from find_dead_initialization(subject.model, subject.rows.first(2)[0])


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
            advice = "give it an initializer such as he_normal, and zeros for its biases"
            yield Finding(cause="initialization", reason=reason, advice=advice)


def find_held_kernels(subject: Subject) -> Iterator[Finding]:
    """Kernels of the output that a constraint or a freeze holds at zero, so that it is constant."""
    if not subject.is_constant:
        return
    for layer in layers.last_layers(subject.model, subject.rows.first(2)[0]):
        for part in layers.parts(layer):
            for variable in own_variables(part):
                if len(variable.shape) < 2 or "kernel" not in variable.name:
                    continue
                value = np.asarray(variable.numpy(), dtype=np.float64)
                draw = keras.initializers.GlorotNormal(seed=0)(value.shape).numpy()
                holder = _holder(variable, draw)
                if holder is None or size(value) > _HELD * size(draw):
                    continue
                by, certain = holder
                reason = (
                    f"the kernel of layer {part.name} is held at zero by its {by}, largest weight "
                    f"{np.abs(value).max():.2g}, so that the prediction cannot vary"
                )
                advice = "take it away or weaken it"
                yield subject.found("held_at_zero", reason, advice, certain=certain)


def _holder(variable: keras.Variable, draw: Any) -> tuple[str, bool] | None:
    """What holds a kernel at zero, and whether it is certain to hold any kernel there."""
    if not variable.trainable:
        return "trainable=False", True
    if variable.constraint is not None:
        both = np.stack([draw, -draw])  # a constraint may let one sign through
        left = [keras.ops.convert_to_numpy(variable.constraint(each)) for each in both]
        certain = size(left) <= _HELD * size(draw)
        return f"constraint {type(variable.constraint).__name__}", certain
    return None


def find_dead_branch(subject: Subject) -> Iterator[Finding]:
    """A layer that is entirely dead while the network lives on others, or some of its outputs."""
    check = subject.phases[-1].find(DeadNeuronsCheck)
    counted = () if check is None else check.measured.layers
    flow = subject.examined.flow
    dead = [
        index for index, layer in enumerate(counted)
        if layer.units and not layer.partial and layer.counted_dead() == layer.units
    ]  # fmt: skip
    if not dead or len(counted) != len(flow.layers):
        return
    cut = flow.cut_outputs(dead)
    alive = [
        index for index, output in enumerate(subject.outputs)
        if output.trained and index not in cut
    ]  # fmt: skip
    if not alive:
        return
    first = counted[dead[0]]
    more = f" and {len(dead) - 1} more" if len(dead) > 1 else ""
    verb = "are" if more else "is"
    what = f"layer {first.layer}{more} {verb} entirely dead"
    if cut:
        what += f", so that {names_of(cut, flow)} cannot learn, while {names_of(alive, flow)} can"
    elif not any(set(flow.feeds(index)) & set(alive) for index in dead):
        return
    else:
        what += f", so that {names_of(alive, flow)} can only learn from what goes past it"
    advice = (
        "give it leaky_relu or another initializer, lower the rate, or scale what goes in there"
    )
    yield subject.found("dead_branch", what, advice)
