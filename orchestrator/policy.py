"""The rule that picks the next attempt's settings. Pure: attempts in, settings out.

After a failure the first rung in list order is taken that has uses left, whose `when` matches and
that can be applied. When an attempt fails by the same check as the one before, the last change is
taken back first, unless its rung says `keep`. Every restart draws a new seed unless the rung says
`keep_seed`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Mapping, Sequence

from orchestrator.records import INIT, Attempt, Failure, Settings
from orchestrator.schema import LeakyRelu, LowerLearningRate, NewSeed

Remedy = NewSeed | LowerLearningRate | LeakyRelu


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """What the policy answers to a failure."""

    rung: Remedy | None
    """The rung taken; None when no rung is left."""
    settings: Settings | None
    """Settings of the next attempt; None with no rung."""
    passed_over: tuple[str, ...]
    """Rungs that matched and had uses left but could not be applied, each with its reason."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Change:
    """The last restart: the rung taken, and the settings it was applied to."""

    rung: Remedy
    base: Settings


def first_settings(seed: int) -> Settings:
    """Settings of attempt 1, whose seed is exactly the config's."""
    return Settings(seed=seed)


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


def default_policy(failure: Failure) -> tuple[Remedy, ...]:
    """The rungs used when the config names none, by how the attempt failed.

    A network that is dead before training cannot owe it to the learning rate, so it gets new
    seeds; one that died while it trained, or whose numbers overflowed, most often does
    (design, section 5: a net killed by a high rate was always repaired by a cap).
    """
    new_seed = NewSeed(times=3)
    lower = LowerLearningRate(times=3)
    leaky = LeakyRelu()
    if failure.check in ("metric", "crashed"):
        return (new_seed, lower)
    if failure.phase == INIT:
        return (new_seed, leaky)
    if failure.check == "finite":
        return (lower, new_seed)
    return (lower, leaky, new_seed)


@dataclasses.dataclass(kw_only=True, slots=True)
class Policy:
    """The walk through the rungs over one run.

    Args:
        seed: the config's seed.
        rungs: the config's policy, or None for `default_policy`.
    """

    seed: int
    rungs: Sequence[Remedy] | None
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
        rungs = default_policy(last.failure) if self.rungs is None else self.rungs
        for index, rung in enumerate(rungs):
            name = rung.remedy if self.rungs is None else str(index)
            if self._uses.get(name, 0) >= rung.times:
                continue
            if rung.when is not None and last.failure.check not in rung.when:
                continue
            applied = self._apply(rung, name, base, last, obstacles)
            if isinstance(applied, str):
                passed_over.append(f"{rung.remedy}: {applied}")
                continue
            self._uses[name] = self._uses.get(name, 0) + 1
            self._last = _Change(rung=rung, base=base)
            if isinstance(rung, LowerLearningRate) and applied.learning_rate_cap is not None:
                self._caps[name] = applied.learning_rate_cap
            seed = last.settings.seed if rung.keep_seed else self._new_seed(attempts)
            settings = dataclasses.replace(applied, seed=seed)
            return Step(rung=rung, settings=settings, passed_over=tuple(passed_over))
        return Step(rung=None, settings=None, passed_over=tuple(passed_over))

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

    def _new_seed(self, attempts: Sequence[Attempt]) -> int:
        """The next derived seed that no attempt has used."""
        used = {attempt.settings.seed for attempt in attempts}
        count = len(attempts)
        while (seed := derive_seed(self.seed, count)) in used:
            count += 1
        return seed

    def _apply(
        self,
        rung: Remedy,
        name: str,
        base: Settings,
        last: Attempt,
        obstacles: Mapping[str, str],
    ) -> Settings | str:
        """The settings after the remedy, the seed aside, or why it cannot be applied."""
        if rung.remedy in obstacles:
            return obstacles[rung.remedy]
        match rung:
            case NewSeed():
                return base
            case LeakyRelu():
                if base.negative_slope == rung.negative_slope:
                    return f"the slope is {rung.negative_slope} already"
                return dataclasses.replace(base, negative_slope=rung.negative_slope)
            case LowerLearningRate():
                phase = last.failure.phase if last.failure is not None else None
                rate = last.learning_rates.get(phase) if phase is not None else None
                if rate is None:
                    return "the attempt failed before it trained, the rate cannot be the cause"
                if not 0 < rate < math.inf:
                    return f"the highest rate of phase {phase} was {rate:g}, which no cap lowers"
                # After its change was taken back and another rung was tried, the phase has run
                # above this rung's last cap, which did not help.
                highest = min(rate, self._caps.get(name, rate))
                return dataclasses.replace(base, learning_rate_cap=rung.factor * highest)
