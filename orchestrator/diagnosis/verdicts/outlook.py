"""What is left of a training held against what its loss still has to fall by. Pure.

It tells when the verdict that follows the last phase is foreseen before its end.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from orchestrator.record.checks import LearnedCheck

_AHEAD = 3.0
"""So many times the highest pace of late, as a share of the loss an epoch, is reckoned with.

A loss that is above that of the best constant falls fast where it can, for the biases of the output
alone bring it down there; there is no plateau to wait on.
Of 687 networks at rates, scales and outputs of all kinds, 266 ended clearly worse than a constant;
234 of these were foreseen so, at 0.42 of their epochs on average, and of the others one, which
ended at a skill of -0.03.
"""
_SPAN = 6
"""Epochs of which the highest pace counts."""
LATE = 0.25
"""Share of the epochs from which on a pace is one, and after which next to nothing fails, too.

Of 5,120 networks of relu, three of two units to nine of three, Adam at 0.001 or 0.01, 0.40 to 0.91
have learnt next to nothing by then, and at most 0.05 of those end above 0.8; after a tenth of their
epochs up to 0.18.
"""
_LEAST = 4
"""Epochs that tell a pace at least."""
HALF = 0.5
"""Share of the epochs after which `learned` fails as it does at the end.

Of 530 networks at rates, scales and outputs out of the usual it fails here for 374: 359 of these
end at skills below 0.5, and six above 0.8. Of 47 at usual ones it fails for none. Of 3,072 with
nine layers of two units of relu it fails for 2,937, of which eight end above 0.8; of as many
with leaky relu for 1,207, but 270 of these end above 0.8, so that it is not asked of these.
"""
SOON = 0.1
"""Share of the epochs after which `learned` fails where next to nothing is learnt.

Of 366 drawn networks 147 have something against them: 113 are given up, after 0.20 of their epochs
on average; four of these would have ended above a share of 0.5, two of them at 300 times the usual
rate and more.
"""
NEXT = 0.15
"""And the one after which it does so again.

Of networks too deep and narrow what has learnt nothing by then fails: of 1,101 of nine layers of
two and seven of three units, at Adam's 0.001 to 0.01 for 30 epochs, that live as they are drawn and
have learnt nothing after five, nine end above a skill of 0.5; after three 30 of 1,150.
"""
_FIRST = 2
"""Epochs of a phase after which it is asked at least."""
_LITTLE, _NOTHING = 0.2, 0.005
"""Less of what there is to learn than this is next to nothing, and nothing."""
_WILD = 100.0
"""So many times the usual rate, networks whose units survive are as good or bad after a quarter of
the epochs: of 29 `learned` failed then for 15, held to 0.8, and one of them ended there, at 0.801.
"""


_FELL = 0.01
"""A loss that falls by less than this share of itself in the second half of some epochs rests."""


def rests(losses: Sequence[float]) -> bool:
    """Whether a loss has come to rest.

    Args:
        losses: of every epoch until now, at least two.
    """
    half = math.ceil(len(losses) / 2)
    return min(losses[half:]) > (1 - _FELL) * min(losses[:half])


def midterms(epochs: int, *, first: float) -> frozenset[int]:
    """The epochs after which `learned` is asked, where something stands against a training.

    Args:
        epochs: how many are planned.
        first: share of them that tells at the earliest, `SOON`, `NEXT`, `LATE` or `HALF`.
    """
    soon = {_at_least(_FIRST, share, epochs) for share in (SOON, NEXT) if share >= first}
    late = {_at_least(_LEAST, share, epochs) for share in (LATE, HALF) if share >= first}
    return frozenset(late | {each for each in soon if each <= HALF * epochs})


def least_share(
    found: LearnedCheck,
    epochs: int,
    done: int,
    times: float | None,
    *,
    rests: bool = False,
    little: float = SOON,
) -> float | None:
    """The share of what there is to learn below which a training is given up.

    Args:
        found: the check, after some of the epochs.
        epochs: how many are planned.
        done: how many it had.
        times: how many times the usual rate its rate is; None where that is not known.
        rests: whether its loss has come to rest.
        little: share of the epochs before which only nothing fails, and not next to nothing.

    Returns:
        None where no share fails.
    """
    limit = found.limits.fail_below
    if limit is not None and done < _at_least(_FIRST, little, epochs):
        return min(_NOTHING, limit) if done >= _LEAST else None
    late = rests or (times is not None and times >= _WILD)
    if limit is None or done >= _at_least(_LEAST, LATE if late else HALF, epochs):
        return limit
    return min(_LITTLE, limit)


def _at_least(least: int, share: float, epochs: int) -> int:
    return max(math.ceil(share * epochs), least)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Outlook:
    """A phase after some of its epochs, at a rate that stays the same until its end."""

    losses: Sequence[float]
    """Keras's loss of every epoch until now, each above 0."""
    level: float
    """What the loss is: the last of them, or less where it is less in inference."""
    limit: float
    """What it has to come down to."""
    left: int
    """Epochs that are left."""

    @property
    def lowest(self) -> float:
        """What the loss comes down to at most."""
        last = self.losses[-_SPAN - 1 :]
        pairs = zip(last, last[1:], strict=False)
        pace = max((math.log(one / other) for one, other in pairs if other < one), default=0.0)
        return self.level * math.exp(-_AHEAD * pace * self.left)

    def is_out_of_reach(self) -> bool:
        """Whether even so the loss does not come down far enough."""
        known, planned = len(self.losses), len(self.losses) + self.left
        if not self.left or known < max(_LEAST, LATE * planned):
            return False
        return self.lowest > self.limit
