"""When silent units call for an exact look. Pure NumPy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_GROWTH = 0.1
"""Share of a layer's units whose falling silent is worth a look."""


class Alarm:
    """Tells whether to look: at what is new at once, at what rests ever more rarely.

    The layers of a GAN or of a mixture of experts rest for many epochs, and are looked at again
    after one, two, four, … of them.
    """

    def __init__(self) -> None:
        self._known: Sequence[npt.NDArray[np.bool_]] | None = None
        self._pause = self._wait = 1

    def raised(self, silent: Sequence[npt.NDArray[np.bool_]]) -> bool:
        """Whether an epoch raises the alarm.

        Args:
            silent: whether each unit of each layer was silent in the epoch.
        """
        if not silent:
            return False
        known = self._known or [np.zeros_like(each) for each in silent]
        new = [each & ~before for each, before in zip(silent, known, strict=True)]
        grown = any(np.count_nonzero(each) >= max(1, _GROWTH * each.size) for each in new)
        if grown:
            self._known = [*silent]
            self._pause = self._wait = 1
            return True
        # What is heard again and falls silent anew is new.
        self._known = [each & before for each, before in zip(silent, known, strict=True)]
        if not any(each.all() for each in silent):
            return False
        self._wait -= 1
        if self._wait > 0:
            return False
        self._pause *= 2
        self._wait = self._pause
        return True
