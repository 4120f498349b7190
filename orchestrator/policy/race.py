"""A race: rungs and seeds tried for a few epochs each, of which the best goes on. Pure.

It answers which network is to be trained. Where steps are too large it tells nothing: at first a
lower rate is always behind. Nor where a network was healthy and collapsed much later.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgspec.structs import replace

from orchestrator.config.schema import Config
from orchestrator.policy import rule
from orchestrator.policy.kinds import THROWN, kinds
from orchestrator.record.records import INIT, Attempt, Racer

_EPOCHS = 20
"""A racer trains this share of the epochs, and at least one: of nine layers of two units with leaky
relu the loss after one or two of 30 epochs ranks seeds at 0.64 (design, section 5)."""
_BUDGET = 4
"""All of a race costs at most this share of a training, and so must the failure have (the same)."""


def epochs(config: Config) -> int:
    """How many epochs each trains."""
    return max(_planned(config) // _EPOCHS, 1)


def entrants(config: Config, attempts: Sequence[Attempt]) -> tuple[Racer, ...]:
    """What races for the next attempt.

    Args:
        config: the config.
        attempts: all attempts so far, each with a failure.

    Returns:
        Rungs by seeds: first each rung with the first seed, in the order of the policy; as many are
        tried as `has_room` allows. None where no race is held.
    """
    failed, planned = attempts[-1], _planned(config)
    failure = failed.failure
    if not config.restart.race or failure is None or failure.phase == INIT:
        return ()
    if failure.check in ("metric", "crashed", "findings") or "rewind" in failed.obstacles:
        return ()
    spent = sum(each.trained for each in attempts)
    if spent * _BUDGET <= planned or kinds(failed) & THROWN:
        return ()
    taken = [*rule.answers(config, attempts, [])]
    if not taken or taken[0].start is not None or taken[0].rung.remedy not in rule.OTHER_NETWORK:
        return ()
    racing = [
        each for each in taken if each.start is None and each.rung.remedy in rule.OTHER_NETWORK
    ]
    found: list[Racer] = []
    for lane in rule.lanes(config, attempts):
        for each in racing:
            seed = each.settings.seed if each.rung.keep_seed else lane[0]
            settings = replace(each.settings, seed=seed)
            if all(settings != other.settings for other in found):
                found.append(Racer(remedy=each.rung.remedy, rung=each.key, settings=settings))
    return tuple(found) if len(found) > 1 and 2 * epochs(config) * _BUDGET <= planned else ()


def has_room(config: Config, racers: Sequence[Racer]) -> bool:
    """Whether one more may be tried; a network that was dead before training has cost nothing.

    Args:
        config: the config.
        racers: those that were tried.
    """
    trained = sum(racer.epochs for racer in racers)
    return (trained + epochs(config)) * _BUDGET <= _planned(config)


def best(racers: Sequence[Racer]) -> int:
    """The place of the one that goes on, of those that were tried.

    Args:
        racers: at least one, in the order of `entrants`.
    """
    return min(range(len(racers)), key=lambda place: (*_rank(racers[place]), place))


def judged(racers: Sequence[Racer]) -> tuple[Racer, ...]:
    """Those that were tried, each with why another one goes on."""
    winner = best(racers)
    first = racers[winner]

    def reason(racer: Racer) -> str:
        if racer.failure is not None:
            return racer.failure.reason
        if racer.share is not None and first.share is not None and racer.share < first.share:
            return f"had learnt {_told(racer.share)} of the reference, not {_told(first.share)}"
        if racer.loss is not None and first.loss is not None and racer.loss > first.loss:
            return f"had a loss of {racer.loss:.4g}, not {first.loss:.4g}"
        return "was no better"

    return tuple(
        racer if place == winner else replace(racer, reason=reason(racer))
        for place, racer in enumerate(racers)
    )


def _rank(racer: Racer) -> tuple[bool, float, float]:
    """Smaller is better: by the checks, by what was learnt, by the loss."""
    share = 0.0 if racer.share is None else max(racer.share, 0.0)
    loss = math.inf if racer.loss is None or math.isnan(racer.loss) else racer.loss
    return racer.failure is not None, -share, loss


def _told(share: float) -> str:
    return f"{max(share, 0.0):.2g}"


def _planned(config: Config) -> int:
    return sum(plan.epochs for plan in config.phases)
