"""What a remedy makes of the settings: one small function for each. Pure.

`model.build` is the one place where settings become a model, `rates.Rates` where they become
learning rates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from msgspec.structs import replace

from orchestrator.config.schema import (
    AnyRemedy,
    ClipGradients,
    LeakyRelu,
    LowerLearningRate,
    NewSeed,
    Reinitialize,
)
from orchestrator.record.records import Attempt, Settings


def apply(
    rung: AnyRemedy,
    settings: Settings,
    failed: Attempt,
    *,
    last_cap: float,
    obstacles: Mapping[str, str],
) -> Settings | str:
    """The settings after a remedy, the seed aside, or why it cannot be applied.

    Args:
        rung: the remedy with its arguments.
        settings: what it is applied to.
        failed: the attempt that it answers.
        last_cap: the learning-rate cap that this rung has set before; infinite for none.
        obstacles: remedies that the model cannot carry, each with the reason.
    """
    if rung.remedy in obstacles:
        return obstacles[rung.remedy]
    match rung:
        case NewSeed():
            return settings
        case LowerLearningRate():
            return lower_learning_rate(rung, settings, failed, last_cap)
        case LeakyRelu():
            return leaky_relu(rung, settings)
        case Reinitialize():
            return reinitialize(rung, settings)
        case ClipGradients():
            return clip_gradients(rung, settings)


def lower_learning_rate(
    rung: LowerLearningRate, settings: Settings, failed: Attempt, last_cap: float
) -> Settings | str:
    """Cap every rate at a fraction of the highest rate of the phase that failed."""
    phase = None if failed.failure is None else failed.failure.phase
    rate = None if phase is None else failed.learning_rates.get(phase)
    if rate is None:
        return "the attempt failed before it trained, the rate cannot be the cause"
    if not 0 < rate < math.inf:
        return f"the highest rate of phase {phase} was {rate:g}, which no cap lowers"
    # After its change was taken back and another rung was tried, the phase has run above this
    # rung's last cap, which did not help.
    return replace(settings, learning_rate_cap=rung.factor * min(rate, last_cap))


def leaky_relu(rung: LeakyRelu, settings: Settings) -> Settings | str:
    """Leaky relu in every hidden place of relu."""
    if settings.negative_slope == rung.negative_slope:
        return f"the slope is {rung.negative_slope} already"
    return replace(settings, negative_slope=rung.negative_slope)


def reinitialize(rung: Reinitialize, settings: Settings) -> Settings | str:
    """Another initializer on hidden kernels, zeros on hidden biases."""
    if settings.initializer == rung.initializer:
        return f"the initializer is {rung.initializer} already"
    return replace(settings, initializer=rung.initializer)


def clip_gradients(rung: ClipGradients, settings: Settings) -> Settings | str:
    """A bound on the norm of the gradients."""
    if settings.clip_norm is not None and settings.clip_norm <= rung.norm:
        return f"the norm is clipped to {settings.clip_norm:g} already"
    return replace(settings, clip_norm=rung.norm)
