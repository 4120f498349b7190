"""The rule that picks the next attempt's settings. Pure: attempts in, settings out.

After a failure the first rung in list order is taken that has uses left, whose `when` matches and
that can be applied. When an attempt fails by the same check as the one before, the last change is
taken back first, unless its rung says `keep`. Every restart draws a new seed unless the rung says
`keep_seed`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

from msgspec.structs import replace

from orchestrator.config.schema import AnyRemedy, LowerLearningRate
from orchestrator.policy import evidence, remedies
from orchestrator.record.records import Attempt, Settings


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """What the policy answers to a failure."""

    rung: AnyRemedy | None
    """The rung taken; None when no rung is left."""
    settings: Settings | None
    """Settings of the next attempt; None with no rung."""
    passed_over: tuple[str, ...]
    """Rungs that matched and had uses left but could not be applied, each with its reason."""
    reason: str = ""
    """Why no rung is left."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Change:
    """The last restart: the rung taken, and the settings it was applied to."""

    rung: AnyRemedy
    base: Settings


def derive_seed(seed: int, count: int) -> int:
    """The seed drawn after `count` others.

    Args:
        seed: the config's seed.
        count: how many seeds this run has used, at least 1.

    Returns:
        An integer from 0 to 2**32 - 1, the range of `keras.utils.set_random_seed`.
    """
    digest = hashlib.sha256(f"{seed}/{count}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


@dataclasses.dataclass(kw_only=True, slots=True)
class Policy:
    """The walk through the rungs over one run.

    Args:
        seed: the config's seed.
        rungs: the config's policy, or None for what the evidence asks for (`evidence.rungs`).
    """

    seed: int
    rungs: Sequence[AnyRemedy] | None
    _uses: dict[str, int] = dataclasses.field(default_factory=dict)
    _caps: dict[str, float] = dataclasses.field(default_factory=dict)
    _last: _Change | None = None

    def step(self, attempts: Sequence[Attempt], obstacles: Mapping[str, str]) -> Step:
        """Pick the next settings after the last attempt failed.

        Args:
            attempts: all attempts so far; the last one has a failure.
            obstacles: remedies that the model cannot carry, each with the reason.

        Returns:
            The rung and the settings, or neither when no rung is left.

        Raises:
            ValueError: the last attempt has no failure.
        """
        last = attempts[-1]
        if last.failure is None:
            raise ValueError(f"expected a failed attempt, received status={last.status!r}")
        base = self._base(attempts)
        passed_over = []
        if self.rungs is None:
            hopeless = evidence.hopeless(attempts)
            if hopeless is not None:
                reason = f"no remedy can help: {hopeless}"
                return Step(rung=None, settings=None, passed_over=(), reason=reason)
        rungs = evidence.rungs(last) if self.rungs is None else self.rungs
        for index, rung in enumerate(rungs):
            name = rung.remedy if self.rungs is None else str(index)
            if self._uses.get(name, 0) >= rung.times:
                continue
            if rung.when is not None and last.failure.check not in rung.when:
                continue
            cap = self._caps.get(name, math.inf)
            applied = remedies.apply(rung, base, last, last_cap=cap, obstacles=obstacles)
            if isinstance(applied, str):
                passed_over.append(f"{rung.remedy}: {applied}")
                continue
            self._uses[name] = self._uses.get(name, 0) + 1
            self._last = _Change(rung=rung, base=base)
            if isinstance(rung, LowerLearningRate) and applied.learning_rate_cap is not None:
                self._caps[name] = applied.learning_rate_cap
            seed = last.settings.seed if rung.keep_seed else next(self.seeds(attempts))
            settings = replace(applied, seed=seed)
            return Step(rung=rung, settings=settings, passed_over=tuple(passed_over))
        reason = "the policy has no rung left that answers this failure"
        if passed_over:
            reason += "; passed over: " + "; ".join(passed_over)
        return Step(rung=None, settings=None, passed_over=tuple(passed_over), reason=reason)

    def _base(self, attempts: Sequence[Attempt]) -> Settings:
        """The settings that the next change is made to, with the last change taken back or not."""
        last = attempts[-1]
        if len(attempts) < 2 or self._last is None or self._last.rung.keep:
            return last.settings
        before = attempts[-2].failure
        same = (
            last.failure is not None and before is not None and last.failure.check == before.check
        )
        return self._last.base if same else last.settings

    def seeds(self, attempts: Sequence[Attempt]) -> Iterator[int]:
        """The derived seeds that no attempt has used or screened, in order."""
        used = {attempt.settings.seed for attempt in attempts} | {self.seed}
        used |= {candidate.seed for attempt in attempts for candidate in attempt.screened}
        for count in itertools.count(1):
            seed = derive_seed(self.seed, count)
            if seed not in used:
                yield seed

    def candidates(self, attempts: Sequence[Attempt], count: int) -> tuple[int, ...]:
        """The seeds that the last attempt, which has looked at none yet, may choose from.

        Args:
            attempts: all attempts so far.
            count: how many it may look at; with 0 it has its own all the same.
        """
        own = attempts[-1].settings.seed
        return (own, *itertools.islice(self.seeds(attempts), max(count - 1, 0)))
