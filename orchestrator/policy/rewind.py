"""Where an attempt that goes on from a state of another begins: decided by the record."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from orchestrator.config.schema import Config
from orchestrator.record.checks import NO_SKILL, PredictionVarianceCheck
from orchestrator.record.records import INIT, Attempt, Phase, Start

_RISE = 0.1
"""A network was healthy at an epoch after which its loss has risen by this share: the loss of one
that collapses becomes that of a constant, and so it had learnt a tenth of what there is."""


def start(attempts: Sequence[Attempt]) -> Start | None:
    """The newest epoch of the last attempt, which has failed, from which another may go on.

    At that epoch the loss was not above that of any before it, and training went on after it, so
    that the look at every epoch's end has found the network alive and finite; the loss was below
    that of the best constant, where that is known. Where most units of
    a layer have died in a later epoch, and the loss had not risen until then, it is the one before.
    Where the rate was far above the usual one, it is none of the phase that is to blame.

    Args:
        attempts: all so far; the last one has a failure.

    Returns:
        None where there is no such epoch, where a gate was missed, which no collapse has to do
        with, and where the attempt has gone on from another in vain.
    """
    failed = attempts[-1]
    failure = failed.failure
    if failure is None or not failed.phases or "rewind" in failed.obstacles:
        return None
    if failure.phase == INIT or failure.check in ("metric", "findings", "crashed"):
        return None
    if failed.start is not None and failed.cause and failed.cause.check == failure.check:
        return None
    epoch = _healthy(failed)
    if epoch is not None and failed.usual_rate() is not None:
        # What such steps have made of a network is not worth going on from, however low its loss.
        epoch = min(epoch, _before(failed, failed.blamed_phase())) or None
    return None if epoch is None else _origin(attempts, failed, epoch)


def _before(attempt: Attempt, phase: str | None) -> int:
    """How many epochs an attempt had before a phase."""
    earlier = itertools.takewhile(lambda each: each.phase != phase, attempt.phases)
    return sum(each.epochs for each in earlier)


def end(config: Config, attempts: Sequence[Attempt]) -> Start | str:
    """The end of the last attempt, which has failed, for another to go on from.

    Args:
        config: the config.
        attempts: all so far; the last one has been through its last phase, by `cut_short`.

    Returns:
        Why none can, where that is so.
    """
    failed = attempts[-1]
    if not config.restart.rewind:
        return "restart.rewind is false"
    if "rewind" in failed.obstacles:
        return failed.obstacles["rewind"]
    return _origin(attempts, failed, sum(phase.epochs for phase in failed.phases))


def cut_short(config: Config, failed: Attempt) -> str | None:
    """Why an attempt has not come to its end as the config has it; None where it has."""
    last = config.phases[-1]
    if not failed.phases or failed.phases[-1].phase != last.name:
        return f"the attempt failed before phase {last.name}, the last one, had ended"
    trained, planned = failed.phases[-1].epochs, config.epochs_of(last, failed.settings)
    if trained < planned:
        return f"phase {last.name} ended early, after {trained} of {planned} epochs"
    return None


def _healthy(failed: Attempt) -> int | None:
    """The epoch with the lowest loss, where the loss shows that much was lost after it."""
    last = failed.phases[-1]
    lowest = last.lowest_loss
    first = next((each.first_loss for each in failed.phases if each.first_loss is not None), None)
    if lowest is None or first is None or not lowest < first:
        return None
    constant = _constant_loss(last)
    if constant is not None and not lowest < (1 - NO_SKILL) * constant:
        return None
    final = last.metrics.get("loss", math.nan)
    # Weights that are not finite may leave the loss as it was, for relu makes zeros of them.
    finite = failed.failure is None or failed.failure.check != "finite"
    if finite and final - lowest < _RISE * abs(final):
        return None
    return healthy_epoch(last)


def _constant_loss(phase: Phase) -> float | None:
    """What the best constant loses, of the only output; None where that is not known."""
    check = phase.find(PredictionVarianceCheck)
    outputs = () if check is None else check.measured.outputs
    losses = [each.constant_loss for each in outputs if each.constant_loss is not None]
    alone = len({each.name for each in outputs}) == 1 and len(losses) == len(outputs)
    return sum(losses) / len(losses) if alone else None


def healthy_epoch(phase: Phase) -> int | None:
    """The newest epoch until a phase's end at which the network was healthy.

    Where a layer has lost most of its units in an epoch, that is the one before it, if its loss has
    not risen; else the one with the lowest loss.

    Args:
        phase: a phase with a failure.

    Returns:
        None where there is none.
    """
    failure, lowest, epoch = phase.failure(), phase.lowest_loss, phase.lowest_epoch
    lost = None if failure is None else failure.lost
    if lowest is None or epoch is None or lost is None or lost.epoch <= epoch:
        return epoch
    before = math.nan if lost.loss_before is None else lost.loss_before
    return lost.epoch - 1 if before - lowest < _RISE * abs(before) else epoch


def _origin(attempts: Sequence[Attempt], attempt: Attempt, epoch: int) -> Start:
    """The attempt that has trained an epoch itself, which others may share."""
    while attempt.start is not None and epoch <= attempt.start.epoch:
        attempt = next(each for each in attempts if each.attempt == attempt.start.attempt)
    return Start(attempt=attempt.attempt, epoch=epoch)
