"""The rule that picks the next attempt's settings: functions of the config and the attempts.

After a failure the first rung in list order is taken that has uses left, whose `when` matches and
that can be applied; a case that matches is the last line that is looked at. When an attempt fails
by the same check as the one before, the last change is taken back first, unless its rung says
`keep`. Every restart draws a new seed unless the rung says `keep_seed`. A rung that says `rewind`
goes on from a healthy state, where there is one, with the settings that led there.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from orchestrator.config.schema import Config
from orchestrator.config.sections.rates import ANNEAL, NEAR, ROUNDED, at_sound_rate, planned_rate
from orchestrator.config.sections.remedies import AnyRemedy, Revive
from orchestrator.config.sections.restart import Case
from orchestrator.config.sections.rung import obstacles
from orchestrator.config.sections.when import All
from orchestrator.policy import evidence, rewind, shortfall
from orchestrator.record.records import Attempt, Settings, Start

LANES = 4
"""So many seeds race at most (design, section 5)."""
OTHER_NETWORK = ("new_seed", "leaky_relu", "reinitialize")
"""Remedies that give another network, which may learn or not.

Not `usual_settings`, with which nearly every seed learns: 40 networks, deep and narrow, cost 1.53
trainings with a race and 1.46 without, and learnt the same.
"""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Taken:
    """A rung that answers a failure, and the settings that it leads to."""

    key: str
    """The rung's key in the config, such as `restart.policy.3.rungs.0`."""
    rung: AnyRemedy
    """The rung."""
    settings: Settings
    """Settings of the next attempt."""
    start: Start | None = None
    """What it goes on from; None where it trains from the beginning."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """What the policy answers to a failure."""

    taken: Taken | None
    """The rung taken; None when no rung is left."""
    passed_over: tuple[str, ...]
    """Rungs that matched and had uses left but could not be applied, each with its reason."""
    reason: str = ""
    """Why no rung is left."""


def step(config: Config, attempts: Sequence[Attempt]) -> Step:
    """Pick the next settings after the last attempt failed.

    Args:
        config: the config.
        attempts: all attempts so far, each with a failure.

    Returns:
        The rung and the settings, or why no rung is left.

    Raises:
        ValueError: an attempt has no failure.
    """
    passed_over: list[str] = []
    for taken in answers(config, attempts, passed_over):
        return Step(taken=taken, passed_over=tuple(passed_over))
    _, case = matching(config, attempts)
    if case is not None and not case.rungs:
        reason, failure = "no remedy can help", attempts[-1].failure
        why = evidence.reasons(case.when, attempts[-1])[0]
        # Of a failure the attempt has told; a cause that is known stands before this.
        if evidence.main_cause(attempts[-1]) is None or failure is None or why != failure.reason:
            reason += f": {why}"
    else:
        reason = "the policy has no rung left that answers this failure"
        usual = sum(each.remedy == "usual_settings" for each in attempts)
        if usual:
            seeds_told = "another seed" if usual == 1 else f"{usual} other seeds"
            reason += f"; usual settings throughout did no better, from {seeds_told}"
    if passed_over:
        reason += "; passed over: " + "; ".join(passed_over)
    return Step(taken=None, passed_over=tuple(passed_over), reason=reason)


def answers(config: Config, attempts: Sequence[Attempt], passed_over: list[str]) -> Iterator[Taken]:
    """The rungs that may be taken after the last attempt failed, in order.

    Args:
        config: the config.
        attempts: all attempts so far, each with a failure.
        passed_over: gets those before each that could not be applied, with the reason.
    """
    past = _past(config, attempts)
    base, hindered = _base(config, attempts, past), obstacles(attempts)
    healthy = rewind.start(attempts) if config.restart.rewind else None
    for key, rung in matching(config, attempts)[0]:
        uses = _uses(key, rung, past)
        if len(uses) >= rung.times:
            continue
        start = healthy if rung.rewind else None
        if rung.rewind == "only" and start is None:
            continue
        applied: Settings | str | None = hindered.get(rung.remedy)
        if rung.goes_on:
            applied = applied or rewind.cut_short(config, attempts[-1])
            found = rewind.end(config, attempts)
            start = None if isinstance(found, str) else found
            if isinstance(rung, Revive):
                start = None if start is None else replace(start, revive=True)
                applied = applied or (found if isinstance(found, str) else None)
        # What was trained until then was trained with the settings of the attempt that failed.
        before = base if start is None else attempts[-1].settings
        if applied is None:
            applied = rung.apply(before, attempts, uses[-1].settings if uses else None)
        if isinstance(applied, str):
            told = f"{rung.remedy}: {applied}"
            passed_over += [told] * (told not in passed_over)
            continue
        if start is None:
            applied = rung.begin(applied, attempts, uses[-1].settings if uses else None)
        if start is None and rung.raise_rate:
            applied = _faster(applied, attempts)
        if start is None and rung.cap_rate:
            applied = _slower(applied, attempts[-1])
        own = attempts[-1].settings.seed
        seed = own if rung.keep_seed else next(seeds(config, attempts))
        yield Taken(key=key, rung=rung, settings=replace(applied, seed=seed), start=start)


def _faster(settings: Settings, attempts: Sequence[Attempt]) -> Settings:
    """At a rate at which most networks train, where the present one was too low.

    Of 133 drawn networks that failed and were given another scale, output or rate, 0.88 reached 0.9
    of the best settings known when their rates stayed as they were, and 0.91 so, at 1.91 trainings
    instead of 2.15. Of nine layers of two units with leaky relu, 480 steps of Adam at 0.001 bring
    0.41 to a skill of 0.8, and at 0.01 0.89.
    """
    if settings.learning_rate_cap is not None or not shortfall.is_slow(attempts):
        return settings
    return at_sound_rate(settings, attempts)


def _slower(settings: Settings, failed: Attempt) -> Settings:
    """Near the usual rate, where findings say that the present one is far above it."""
    usual, cap = failed.usual_rate(), settings.learning_rate_cap
    if usual is None or (cap is not None and cap <= NEAR * usual):
        return settings
    return replace(settings, learning_rate_cap=NEAR * usual, anneal=ANNEAL)


def matching(
    config: Config, attempts: Sequence[Attempt]
) -> tuple[list[tuple[str, AnyRemedy]], Case | None]:
    """The rungs that answer the last failure, used up or not.

    Args:
        config: the config.
        attempts: all attempts so far, each with a failure.

    Returns:
        The rungs in order, each with its key in the config, and the case that they end with, if
        they end with one.
    """
    found: list[tuple[str, AnyRemedy]] = []
    for index, entry in enumerate(config.restart.policy):
        if not evidence.applies(entry.when, attempts):
            continue
        key = f"restart.policy.{index}"
        if not isinstance(entry, Case):
            found.append((key, entry))
            continue
        for place, rung in enumerate(entry.rungs):
            if evidence.applies(rung.when, attempts):
                found.append((f"{key}.rungs.{place}", rung))
        return found, entry
    return found, None


def seeds(config: Config, attempts: Sequence[Attempt]) -> Iterator[int]:
    """The derived seeds that no attempt has used or screened, in order."""
    used = {attempt.settings.seed for attempt in attempts} | {config.seed}
    used |= {candidate.seed for attempt in attempts for candidate in attempt.screened}
    racers = [racer for attempt in attempts for racer in attempt.raced]
    used |= {racer.settings.seed for racer in racers}
    used |= {racer.seed for racer in racers if racer.seed is not None}
    for count in itertools.count(1):
        seed = derive_seed(config.seed, count)
        if seed not in used:
            yield seed


def asked(config: Config, key: str) -> frozenset[str]:
    """What the line of a policy asks for: names of checks, kinds and causes.

    Args:
        config: the config.
        key: of the rung, such as `restart.policy.3.rungs.0`.
    """
    _, _, index, *inner = key.split(".")
    entry = config.restart.policy[int(index)]
    whens = [entry.when]
    if isinstance(entry, Case) and inner:
        whens.append(entry.rungs[int(inner[-1])].when)
    names = [when.cause or () if isinstance(when, All) else when or () for when in whens]
    return frozenset(itertools.chain(*names))


def candidates(config: Config, attempts: Sequence[Attempt]) -> tuple[int, ...]:
    """The seeds that the last attempt, which has looked at none yet, may choose from.

    Args:
        config: the config; where it allows none to be looked at, the attempt has its own.
        attempts: all attempts so far.
    """
    more = max(config.restart.screen_seeds - 1, 0)
    if attempts[-1].raced:
        own = attempts[-1].settings.seed
        found = lanes(config, attempts[:-1])
        return next((lane for lane in found if lane[0] == own), (own,))
    return (attempts[-1].settings.seed, *itertools.islice(seeds(config, attempts), more))


def lanes(config: Config, attempts: Sequence[Attempt]) -> list[tuple[int, ...]]:
    """The seeds that those may choose from who race for the next attempt: none is in two lanes.

    Args:
        config: the config; where it allows none to be looked at, each lane has one seed.
        attempts: all attempts so far.
    """
    length = max(config.restart.screen_seeds, 1)
    found = [*itertools.islice(seeds(config, attempts), LANES * length)]
    return [tuple(found[lane::LANES]) for lane in range(LANES)]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Capped:
    """A phase that did not run as configured."""

    phase: str
    """Its name."""
    cap: float
    """The highest rate that it ran at."""
    end: float | None
    """What its cap has fallen to in its last epoch; None where it has not fallen below its rate."""
    rate: float
    """The highest rate that the config gives it."""


def capped(config: Config, attempts: Sequence[Attempt], attempt: Attempt) -> Iterator[Capped]:
    """The phases of an attempt that a cap has held to a lower rate than the config's.

    Args:
        config: the config.
        attempts: all of the run; those whose rates no remedy changed tell those of schedules.
        attempt: one of them.
    """
    cap, anneal = attempt.settings.learning_rate_cap, attempt.settings.anneal
    if cap is None:
        return
    free = [
        each for each in attempts
        if each.settings.learning_rate_cap is None and each.settings.learning_rate_factor is None
    ]  # fmt: skip
    longest = max(config.phases, key=lambda each: each.epochs)
    compiled = planned_rate(attempts) if longest.learning_rate is None else None
    for plan in config.phases:
        told = [each.learning_rates[plan.name] for each in free if plan.name in each.learning_rates]
        own = plan.learning_rate
        rate = own if own is not None else max(told, default=compiled)
        ran = attempt.learning_rates.get(plan.name)
        lowest = cap * anneal if anneal is not None and plan.epochs > 1 else cap
        if (
            rate is not None
            and ran is not None
            and ran <= cap * ROUNDED
            and lowest * ROUNDED < rate
        ):
            yield Capped(phase=plan.name, cap=ran, end=lowest if lowest < cap else None, rate=rate)


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


_Past = Sequence[tuple[str, Attempt]]
"""The attempts that a rung led to, each with the rung's key."""


def _past(config: Config, attempts: Sequence[Attempt]) -> _Past:
    """The rungs taken so far, as recorded.

    A record that is older than that names the remedy alone: of its rungs the first is meant that
    answered and had uses left.
    """
    past: list[tuple[str, Attempt]] = []
    for number, attempt in enumerate(attempts[1:], start=1):
        key = attempt.rung
        if key is None:
            rungs, _ = matching(config, attempts[:number])
            key = next(
                (
                    key
                    for key, rung in rungs
                    if rung.remedy == attempt.remedy and len(_uses(key, rung, past)) < rung.times
                ),
                "",
            )
        past.append((key, attempt))
    return past


def _uses(key: str, rung: AnyRemedy, past: _Past) -> list[Attempt]:
    """The attempts that count as uses of a rung: cases share theirs by the remedy."""
    if not _in_case(key):
        return [attempt for taken, attempt in past if taken == key]
    return [attempt for taken, attempt in past if _in_case(taken) and attempt.remedy == rung.remedy]


def _in_case(key: str) -> bool:
    return ".rungs." in key


def _base(config: Config, attempts: Sequence[Attempt], past: _Past) -> Settings:
    """The settings that the next change is made to, with the last change taken back or not."""
    rungs = {".".join(map(str, key)): rung for key, rung in config.restart.rungs()}
    base = attempts[0].settings
    for before, (key, attempt) in zip(attempts, past, strict=False):
        same = _check(attempt) == _check(before)
        if not same or (key in rungs and rungs[key].keep):
            base = attempt.settings
    return base


def _check(attempt: Attempt) -> str | None:
    return None if attempt.failure is None else attempt.failure.check
