"""What of a network can do nothing: weights born dead, kernels held at zero, dead branches."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

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
_NO_ERROR = 5.0
"""So many standard errors from zero a mean is no chance: 1 in 3 million."""
_SHIFTED = -0.5
"""What the mean of a kernel adds to a unit behind relu, in standard deviations of what all of it
adds: from here on 0.7 of the units are off where inputs are alike, and with each layer more."""
_WIDE = 0.5
"""Size of biases beside what the kernel makes of inputs of variance 1: they decide as much as the
inputs do whether a unit is on."""
_MOST = 0.5
"""Share of a layer's units that are off on every row from which on it is born mostly dead."""
_ALIKE = 0.2
"""By how much of its standard deviation a kernel may differ from another draw of its initializer;
one of a pretrained network differs in size by more."""
_HELD = 0.05
"""Share of Glorot's standard deviation below which a kernel counts as held at zero."""

_Values = Callable[[keras.Variable], npt.NDArray[Any] | None]


def find_initialization(subject: Subject) -> Iterator[Finding]:
    """Initial weights with which relu units are born dead, whatever the seed.

    After a training they are looked for where that has failed and phase 0 had seen a layer with
    most of its units dead: biases that are negative or wide, or kernels that are negative on
    average. Weights that were not drawn, as those of a pretrained base, are left alone.
    """
    if subject.untrained:
        yield from find_dead_initialization(subject.model, subject.rows.first(2)[0])
        return
    born = subject.phases[0].find(DeadNeuronsCheck)
    layers = () if born is None else born.measured.layers
    most = any(each.units and each.counted_dead() >= _MOST * each.units for each in layers)
    if not most or not (subject.failed - {"finite"} or subject.is_poor):
        return
    found = _kernels_and_biases(
        subject.model, subject.rows.first(2)[0], lambda variable: subject.start.get(variable.path)
    )
    for layer, kernels, biases in found:
        what = _born_dead(kernels, biases) or _born_mostly_dead(kernels, biases)
        if what is not None and _is_drawn(layer, kernels):
            yield _at_fault(layer, what)


def find_dead_initialization(model: keras.Model, x: Tree) -> Iterator[Finding]:
    """Initial weights with which relu units are born dead, whatever the seed.

    Asked about networks that are dead before any training, so that kernels which are negative on
    average are enough: with every layer they leave fewer units on.

    Args:
        model: the untrained model.
        x: a few rows, to find the layers that make the output.
    """
    for layer, kernels, biases in _kernels_and_biases(model, x, lambda variable: variable.numpy()):
        what = _born_dead(kernels, biases) or _negative(kernels)
        if what is not None:
            yield _at_fault(layer, what)


def _at_fault(layer: keras.Layer, what: str) -> Finding:
    reason = f"layer {layer.name} is dead by its initialisation: {what}"
    advice = "give it an initializer such as he_normal, and zeros for its biases"
    return Finding(cause="initialization", reason=reason, advice=advice)


@dataclasses.dataclass(frozen=True, slots=True)
class _Kernel:
    """A kernel as it was drawn."""

    variable: keras.Variable
    values: npt.NDArray[np.float64]
    """All of its numbers, or a sample of them."""

    @property
    def inputs(self) -> int:
        """How many weights a unit has."""
        return math.prod(self.variable.shape[:-1])

    @property
    def spread(self) -> float:
        """Standard deviation of what it makes of inputs with variance 1."""
        return float(self.values.std()) * math.sqrt(self.inputs)


def _kernels_and_biases(
    model: keras.Model, x: Tree, values: _Values
) -> list[tuple[keras.Layer, list[_Kernel], list[npt.NDArray[np.float64]]]]:
    """The hidden layers, each with its kernels and biases as some function gives their numbers."""
    found: dict[int, tuple[keras.Layer, list[_Kernel], list[npt.NDArray[np.float64]]]] = {}
    for layer, variable, is_kernel in initialization.hidden_variables(model, x):
        known = values(variable)
        if known is None:
            continue
        _, kernels, biases = found.setdefault(id(layer), (layer, [], []))
        numbers = np.asarray(known, dtype=np.float64)
        if is_kernel:
            kernels.append(_Kernel(variable, numbers))
        else:
            biases.append(numbers)
    return [each for each in found.values() if each[1]]


def _born_dead(kernels: Sequence[_Kernel], biases: Sequence[npt.NDArray[Any]]) -> str | None:
    """Why every unit of a layer is dead before training, in a clause; None where it is not."""
    if not any(kernel.values.any() for kernel in kernels):
        return "its kernel is zero everywhere"
    count = sum(kernel.values.size for kernel in kernels)
    if count >= _NO_CHANCE and not any((kernel.values > 0).any() for kernel in kernels):
        return "its kernel has no positive weight"
    spread = max(kernel.spread for kernel in kernels)
    if biases and max(bias.max() for bias in biases) < -spread:
        return f"its biases are all negative, down to {min(bias.min() for bias in biases):.3g}"
    return None


def _negative(kernels: Sequence[_Kernel]) -> str | None:
    """That a kernel is negative on average, and not by chance; None where none is."""
    for kernel in kernels:
        mean, deviation = float(kernel.values.mean()), float(kernel.values.std())
        by_chance = deviation / math.sqrt(kernel.values.size)
        shift = mean * math.sqrt(kernel.inputs)
        if kernel.values.size < _NO_CHANCE:
            continue
        if mean < -_NO_ERROR * by_chance and shift < _SHIFTED * deviation:
            return (
                f"its kernel is negative on average, {mean:.2g} with a deviation of {deviation:.2g}"
            )
    return None


def _born_mostly_dead(kernels: Sequence[_Kernel], biases: Sequence[npt.NDArray[Any]]) -> str | None:
    """Why most units of a layer may be dead before training; None where nothing in it says so."""
    negative = _negative(kernels)
    if negative is not None:
        return negative
    widest = max((size(bias) for bias in biases), default=0.0)
    if widest > _WIDE * max(kernel.spread for kernel in kernels):
        low, high = min(bias.min() for bias in biases), max(bias.max() for bias in biases)
        return (
            f"its biases, from {low:.2g} to {high:.2g}, are as large as what its kernel makes of "
            "the inputs, and leave units off on every row"
        )
    return None


def _is_drawn(layer: keras.Layer, kernels: Sequence[_Kernel]) -> bool:
    """Whether a layer's kernels are such as its initializer draws, and were not loaded into it."""
    for kernel in kernels:
        # Keras names it after the weight, as kernel_initializer.
        initializer = getattr(layer, "_".join((kernel.variable.name, "initializer")), None)
        if initializer is None:
            continue
        settings = initializer.get_config()
        again = type(initializer)(**{**settings, **dict.fromkeys({"seed"} & settings.keys(), 0)})
        draw = np.asarray(again(tuple(kernel.variable.shape)), dtype=np.float64)
        error = 2 * _NO_ERROR / math.sqrt(kernel.values.size)
        near = (_ALIKE + error) * float(draw.std())
        if abs(draw.std() - kernel.values.std()) > near:
            return False
        if abs(draw.mean() - kernel.values.mean()) > near:
            return False
    return True


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
