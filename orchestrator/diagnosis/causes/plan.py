"""The training that is planned: how many steps, and at which rates."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import keras
import numpy as np
import numpy.typing as npt

from orchestrator.config.schema import Config
from orchestrator.config.sections.rates import MOMENTUM
from orchestrator.config.yaml12 import Key
from orchestrator.diagnosis.causes.before.subject import Subject
from orchestrator.model import keras_internals, layers
from orchestrator.model.build import plain_optimizers
from orchestrator.model.outputs import Output, own_way
from orchestrator.record.records import NEAR_USUAL, Fix

ADAPTIVE = (
    keras.optimizers.Adam,
    keras.optimizers.Adamax,
    keras.optimizers.Lion,
    keras.optimizers.Nadam,
    keras.optimizers.RMSprop,
)
"""Optimizers whose step in a weight is about as large as the rate, whatever the gradient."""


UNUSUAL = 30.0
"""More than so many times the usual rate of an optimizer is what a failure at it comes from: what
people choose, and what schedules make of it, lies within a factor of thirty."""


def usual_rate(optimizer: keras.optimizers.Optimizer) -> float:
    """The rate that Keras gives an optimizer of this kind; less with a momentum above 0.9.

    A step goes as far as rate / (1 - momentum). Of two layers of 64 units on a table, with a
    momentum of 0.99 rates of 0.05, 0.02, 0.01, 0.003 and 0.001 bring a median skill of -1.02, 0.05,
    0.75, 0.97 and 0.96, and with 0.9 a rate of 0.01 brings 0.98.
    """
    if not isinstance(optimizer, keras.optimizers.SGD):
        return 0.001
    return 0.01 * _shortened(optimizer)


def _shortened(optimizer: keras.optimizers.SGD) -> float:
    """By how much a rate is to be lower for a momentum above the usual one, at most 1."""
    left = max(1 - float(optimizer.momentum), LEAST_LEFT)
    return float(f"{min(left / (1 - MOMENTUM), 1.0):.6g}")


LEAST_LEFT = 1e-3
"""Share of a step that is new with a momentum of 1, which gathers for ever; it is 0."""


def times_usual(optimizer: keras.optimizers.Optimizer, rate: float) -> float | None:
    """How many times the usual rate a rate is; None of an optimizer that has none."""
    if not isinstance(optimizer, (*ADAPTIVE, keras.optimizers.SGD)):
        return None
    return float(f"{rate / usual_rate(optimizer):.6g}")  # rates are in single precision


_WORTH_IT = 2.0
"""How many times as high a rate has to be for another training to be worth its cost."""
DIVIDING = {keras.optimizers.Adagrad: 0.1, keras.optimizers.Adadelta: 1.0}
"""Highest usual rates of optimizers that divide by all gradients so far, and so are slow at the
0.001 that Keras gives them (Zeiler, ADADELTA: an adaptive learning rate method, 2012, has 1.0)."""
_GATHERING = 3.0
"""How many times its usual rate SGD takes that has momentum: of 26 random networks that SGD without
it left at a median skill of 0.08, for rates of 0.002 to 0.06 and few steps, momentum brings 0.67 at
a rate of 0.01, 0.83 at 0.03 and 0.81 at 0.1; at 0.03 none is worse than before."""


_SOUND, _SOUND_IN_NARROW = 3.0, 10.0
"""How many times its usual rate an optimizer trains most networks at, and one whose steps do not
hang on the gradient those that are narrow: what a unit gets is the sum of as many steps as it has
inputs (Yang et al., Tensor programs V, 2022). Of 17 drawn networks of up to 32 units, 0.01 instead
of 0.003 for Adam's kind brought more in 12 and less in two; of four wider ones less in two."""
_NARROW = 32
"""Inputs of a unit of such a network, at most."""


_STABLE = 2.0
"""The rate of SGD with a momentum of 0.9 may be so many times one over the number of inputs, those
of a unit of each Dense layer added up, under squared error of a linear output: the more there are,
the further a step moves what comes out, and so the error that the next step answers (Karakida,
Akaho and Amari, Universal statistics of Fisher information in deep neural networks, 2019).

Of 32 networks of leaky relu with one to eight layers of 32 to 256 units, on |x| of two and of ten
columns, none is thrown to NaN at 1 and 2, one at 3, ten at 4.5. At 0.03 cross-entropy, whose
gradient is bounded, throws none of those with up to four layers of 128, or two of 512.
"""


def sound_rate(model: keras.Model, outputs: Sequence[Output]) -> float | None:
    """A rate at which most networks train; None where there is not one optimizer, and known.

    Args:
        model: compiled.
        outputs: what it puts out, and what trains it.
    """
    optimizers = plain_optimizers(model)
    if len(optimizers) != 1:
        return None
    optimizer = optimizers[0]
    highest = DIVIDING.get(type(optimizer))
    if highest is not None:
        return highest
    if times_usual(optimizer, 0.0) is None:
        return None
    adaptive = isinstance(optimizer, ADAPTIVE) and not isinstance(optimizer, keras.optimizers.Lion)
    narrow = adaptive and most_inputs(model) <= _NARROW
    sound = (_SOUND_IN_NARROW if narrow else _SOUND) * usual_rate(optimizer)
    return min(sound, _stable_rate(model, outputs) or sound)


def _stable_rate(model: keras.Model, outputs: Sequence[Output]) -> float | None:
    """The highest rate of SGD with momentum that the size of a model allows, if that bounds it."""
    if not isinstance(plain_optimizers(model)[0], keras.optimizers.SGD):
        return None
    chains = layers.output_chains(model)
    squared = any(
        output.trained
        and output.loss is not None
        and output.loss.is_keras
        and output.loss.name == "mean_squared_error"
        and all(map(layers.is_linear, chain))
        for output, chain in zip(outputs, chains, strict=False)
    )
    inputs = max((sum(each) for each in _stretches(model) if len(each) > 1), default=0)
    shortened = _shortened(plain_optimizers(model)[0])
    return float(f"{shortened * _STABLE / inputs:.2g}") if squared and inputs else None


def _stretches(model: keras.Model) -> list[list[int]]:
    """How many inputs a unit has, of each Dense layer that trains, between those that normalise."""
    found: list[list[int]] = [[]]
    for layer in keras_internals.all_layers(model):
        if isinstance(layer, layers.NORMALIZING):
            found.append([])
        elif isinstance(layer, keras.layers.Dense) and layer.trainable:
            found[-1].append(layer.kernel.shape[0])
    return found


def most_inputs(model: keras.Model) -> int:
    """How many inputs a unit has at most, of layers that train; 0 where none has any."""
    shapes = [each.shape for each in model.trainable_variables if len(each.shape) > 1]
    return max((math.prod(shape[:-1]) for shape in shapes), default=0)


def faster(model: keras.Model, outputs: Sequence[Output], rate: float, times: float) -> Fix:
    """What to write for a rate at which a training gets too little done.

    Args:
        model: compiled, with one optimizer.
        outputs: what it puts out, and what trains it.
        rate: the highest rate that it has had, or is to have; above 0.
        times: how many times as high it has to be. Nothing is raised far above what is usual, nor
            above what the size of the model allows.
    """
    (optimizer,) = plain_optimizers(model)
    usual, highest = usual_rate(optimizer), DIVIDING.get(type(optimizer))
    if highest is not None:
        times = min(times, highest / rate)
    elif rate * times >= UNUSUAL * usual:
        times = NEAR_USUAL * usual / rate
    gathered = None
    near = (times_usual(optimizer, rate) or 0.0) <= NEAR_USUAL
    stable = _stable_rate(model, outputs) or math.inf
    if isinstance(optimizer, keras.optimizers.SGD) and optimizer.momentum:
        times = min(times, stable / rate)
    elif isinstance(optimizer, keras.optimizers.SGD):
        without = stable / (1 - MOMENTUM)  # without momentum a step goes so much less far
        if near and rate < without:
            most = max(min(times, _GATHERING * usual / rate), 1.0)
            gathered = float(f"{min(most, stable / rate):.3g}")
        times = min(times, without / rate)
    factor = float(f"{times:.3g}") if times >= _WORTH_IT else None
    return Fix(learning_rate_factor=factor, factor_with_momentum=gathered)


_LOOKS = 64
"""Steps at which a schedule is asked, at most: each answer takes a part of a millisecond."""
_LEAVE_RATES = frozenset(
    {
        "CSVLogger",
        "EarlyStopping",
        "ModelCheckpoint",
        "ReduceLROnPlateau",
        "TensorBoard",
        "TerminateOnNaN",
    }
)
"""Keras's callbacks that never raise a rate."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Stretch:
    """The steps of one phase."""

    phase: str
    """Its name."""
    steps: int
    written: npt.NDArray[np.float64]
    """Rates as the config has them, or as a remedy has raised them, at steps that are spread evenly
    over it, the first and the last among them."""
    rates: npt.NDArray[np.float64]
    """The same under the cap that a remedy has set."""
    key: Key
    """Where the config says the rate."""

    @property
    def way(self) -> float:
        """Sum of the rates of all its steps, as they are `written`."""
        return float(self.written.mean()) * self.steps


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """All steps that a run makes of an attempt, where no callback of the user's changes rates."""

    optimizer: keras.optimizers.Optimizer
    stretches: tuple[Stretch, ...]
    """In order, one for each phase."""

    @property
    def steps(self) -> int:
        """Steps in all."""
        return sum(each.steps for each in self.stretches)

    @property
    def updates(self) -> int:
        """Steps at which weights change: fewer than steps where gradients are accumulated."""
        return self.steps // (self.optimizer.gradient_accumulation_steps or 1)

    @property
    def way(self) -> float:
        """Sum of the rates of all updates: how far an optimizer like Adam moves a weight at most.

        Adam's step in a weight is about its rate, or less (Kingma and Ba, Adam: a method for
        stochastic optimization, 2015, section 2.1).
        """
        return sum(each.way for each in self.stretches) * self.updates / max(self.steps, 1)

    @property
    def capped_way(self) -> float:
        """The same of the rates under a cap, which may fall in the end."""
        ways = (float(each.rates.mean()) * each.steps for each in self.stretches)
        return sum(ways) * self.updates / max(self.steps, 1)

    @property
    def highest(self) -> Stretch:
        """The phase with the highest rate."""
        return max(self.stretches, key=lambda each: float(each.rates.max()))


def read_plan(subject: Subject) -> Plan | None:
    """The plan of a training.

    Returns:
        None where none is planned, or where the user's code decides on steps and rates: a
        `train_step`, a callback, a rate that is a function of theirs, more than one optimizer.
    """
    config, steps = subject.config, subject.steps_per_epoch
    if config is None or not steps or own_way(subject.model) is not None:
        return None
    if any(each.name not in _LEAVE_RATES for each in config.fit.callbacks):
        return None
    optimizers = plain_optimizers(subject.model)
    if len(optimizers) != 1:
        return None
    own = keras_internals.learning_rate(optimizers[0])
    schedule = isinstance(own, keras.optimizers.schedules.LearningRateSchedule)
    if callable(own) and not schedule and not isinstance(own, keras.Variable):
        return None
    cap = math.inf if subject.learning_rate_cap is None else subject.learning_rate_cap
    factor, stretch = subject.learning_rate_factor or 1.0, subject.schedule_stretch or 1.0
    start, stretches = int(optimizers[0].iterations), []
    for index, phase in enumerate(config.phases):
        count = phase.epochs * steps
        if phase.learning_rate is not None:
            rates = np.array([phase.learning_rate])
            key: Key = ("phases", index, "learning_rate")
        else:
            places = np.unique(np.linspace(start, start + count - 1, _LOOKS).astype(np.int64))
            rates = np.array([float(own(int(step / stretch))) for step in places] if schedule else
                             [float(str(np.float32(optimizers[0].learning_rate)))])  # fmt: skip
            key = place_in_optimizer(config)
        stretches.append(
            Stretch(
                phase=phase.name,
                steps=count,
                written=factor * rates,
                rates=np.minimum(factor * rates, cap),
                key=key,
            )
        )
        start += count
    return Plan(optimizer=optimizers[0], stretches=tuple(stretches))


def place_in_optimizer(config: Config, argument: str = "learning_rate") -> Key:
    """Where the config says an argument of the optimizer's, or else the optimizer, if it does."""
    named = None if config.compile is None else config.compile.optimizer
    if named is None:
        return ()
    key: Key = ("compile", "optimizer")
    return (*key, named.name, argument) if argument in named.arguments else key
