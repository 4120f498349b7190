"""Runs that fail again and again, drawn from a seed, and what the policy answered to each failure.

`decisions.json` holds the answers: a line for each walk, with a letter for each step and a digest
of everything that the steps decided, so that no change of the code alters one unawares. A change
that is to alter some writes them again:

    python -m tests.policy.walks
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from msgspec.structs import replace

from orchestrator.config.schema import Config
from orchestrator.config.sections.default_policy import DEFAULT_POLICY
from orchestrator.policy import rule
from orchestrator.record.checks import AnyCheck
from orchestrator.record.records import (
    INIT,
    Attempt,
    Candidate,
    Failure,
    Finding,
    Phase,
    Settings,
)
from tests import builders

DECISIONS = Path(__file__).with_name("decisions.json")
WALKS = 2000
LONGEST = 8
SEED = 7
LIMITS = {"min_ratio": 1e-4, "min_information": 1e-4, "min_skill": -0.1}

LATER = ("fix_output", "standardize", "lower_dropout", "lower_penalty")
"""Remedies that came after the walks, and stand before all that these decided on."""
EARLIER = [entry for entry in DEFAULT_POLICY if entry.get("remedy") not in LATER]

LETTERS = {
    "new_seed": "n", "lower_learning_rate": "l", "leaky_relu": "k", "reinitialize": "r",
    "clip_gradients": "c", "usual_settings": "u", None: ".",
}  # fmt: skip

CAUSES = (
    "initialization", "fixed_seed", "unreachable_targets", "held_at_zero", "unscaled_inputs",
    "unrelated_targets", "distant_targets",
)  # fmt: skip
CHECKS = ("finite", "dead_neurons", "prediction_variance", "metric", "crashed")
RATES = (0.001, 0.01, 0.01, 0.1, 1.0, 5.0, 1e-9, 0.0, math.inf)
LOSSES = (
    (1.0, 1.0), (1.0, 1.0), (1.0, 2.9), (1.0, 3.0), (1.0, 3.1), (1.0, 50.0), (-0.1, -0.09),
    (-0.1, math.inf), (1.0, math.inf), (1.0, math.nan), (0.0, 7.0), (None, 3.0), (1.0, None),
    (None, None),
)  # fmt: skip

Item = TypeVar("Item")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decision:
    """What was answered to a failure."""

    remedy: str | None
    settings: Settings | None
    passed_over: tuple[str, ...]
    reason: str
    record: dict[str, Any] = dataclasses.field(default_factory=dict)
    """What the next attempt's record remembers of it."""


def decide(config: Config, attempts: Sequence[Attempt]) -> Decision:
    """What the policy answers."""
    step = rule.step(config, attempts)
    taken = step.taken
    return Decision(
        remedy=None if taken is None else taken.rung.remedy,
        settings=None if taken is None else taken.settings,
        passed_over=step.passed_over,
        reason=step.reason,
        record={} if taken is None else {"rung": taken.key},
    )


class Dice(random.Random):
    """Draws that are the same in every version of Python."""

    def pick(self, items: Sequence[Item]) -> Item:
        return items[int(self.random() * len(items))]

    def chance(self, share: float) -> bool:
        return self.random() < share

    def some(self, items: Sequence[Item], share: float) -> list[Item]:
        return [item for item in items if self.chance(share)]


def walk(number: int) -> str:
    """A letter for each answer of one walk, and the digest of all that was decided."""
    dice = Dice(number)
    restart: dict[str, Any] = {"screen_seeds": dice.pick((0, 1, 4, 64)), "policy": EARLIER}
    if dice.chance(1 / 3):
        restart["policy"] = [_rung(dice) for _ in range(int(dice.random() * 6))]
    config = builders.config(seed=SEED, restart=restart)
    share = dice.pick((0.0, 0.05, 0.3))  # of causes and obstacles: few end a walk early
    habit = dice.pick((None, None, *SCENARIOS))
    attempts: list[Attempt] = []
    settings, record = Settings(seed=SEED), dict[str, Any]()
    letters, told = "", []
    while len(attempts) < LONGEST:
        begun = Attempt(
            attempt=len(attempts) + 1, status="running", settings=settings,
            obstacles=_obstacles(dice, share), **record,
        )  # fmt: skip
        told.append(repr(list(rule.candidates(config, [*attempts, begun]))[:3]))
        scenario = habit if habit and dice.chance(0.7) else dice.pick(SCENARIOS)
        attempts.append(_fail(dice, begun, scenario, share))
        decision = decide(config, attempts)
        letters += LETTERS[decision.remedy]
        told.append(_told(decision))
        if decision.settings is None:
            break
        before, settings = settings, decision.settings
        record = {
            "remedy": decision.remedy, "changed": settings.changes(before),
            "passed_over": decision.passed_over, "cause": attempts[-1].failure, **decision.record,
        }  # fmt: skip
    return f"{letters} {hashlib.sha256(chr(10).join(told).encode()).hexdigest()[:8]}"


def recorded() -> dict[str, str]:
    """The answers as they were, by the number of the walk."""
    found: dict[str, str] = json.loads(DECISIONS.read_text())
    return found


def _told(decision: Decision) -> str:
    settings = None
    if decision.settings is not None:
        settings = [
            f"{value:.6g}" if isinstance(value, float) else str(value)
            for value in (
                decision.settings.seed, decision.settings.learning_rate_cap,
                decision.settings.negative_slope, decision.settings.initializer,
                decision.settings.clip_norm,
            )
        ]  # fmt: skip
    return json.dumps([decision.remedy, settings, decision.passed_over, decision.reason])


def _rung(dice: Dice) -> dict[str, Any]:
    """A line of a policy of the user's own."""
    remedy = dice.pick(("new_seed", "lower_learning_rate", "leaky_relu", "reinitialize"))
    rung: dict[str, Any] = {"remedy": remedy, "times": dice.pick((1, 1, 2, 3))}
    if dice.chance(0.4):
        rung["when"] = dice.some(CHECKS, 0.5) or ["finite"]
    rung["keep"] = dice.chance(0.3)
    if remedy != "new_seed":
        rung["keep_seed"] = dice.chance(0.3)
    if remedy == "lower_learning_rate":
        rung["factor"] = dice.pick((0.1, 0.5, 0.01))
    if remedy == "leaky_relu":
        rung["negative_slope"] = dice.pick((0.2, 0.1))
    return rung


def _obstacles(dice: Dice, share: float) -> dict[str, str]:
    remedies = dice.some(("new_seed", "leaky_relu", "reinitialize", "clip_gradients"), share / 3)
    return {remedy: f"obstacle {int(dice.random() * 100)}" for remedy in remedies}


def _fail(dice: Dice, begun: Attempt, scenario: str, share: float) -> Attempt:
    """The attempt at its end, failed in the way that the scenario says."""
    screened = _screened(dice, begun.settings.seed)
    settings = begun.settings
    if screened:
        settings = replace(settings, seed=dice.pick(screened).seed)
    figure = int(dice.random() * 100)
    findings = tuple(
        Finding(cause=cause, reason=f"{cause} {figure}", certain=dice.chance(0.05))
        for cause in (*CAUSES, *CAUSES)  # each output may have one
        if dice.chance(share)
    )
    cap = math.inf if settings.learning_rate_cap is None else settings.learning_rate_cap
    names = ("warmup", "main") if dice.chance(0.6) else ("main",)
    rates = {name: min(dice.pick(RATES), cap) for name in names if dice.chance(0.95)}
    phases = [_phase(dice, INIT, "healthy"), *(_phase(dice, name, "healthy") for name in names)]
    failure = None
    if scenario == "crashed":
        phases = phases[: int(dice.random() * 3)]
        at = dice.pick((None, INIT, "main"))
        failure = Failure(check="crashed", phase=at, reason="killed")
        rates = rates if at == "main" else {}
    elif scenario.startswith("init "):
        phases, rates = [_phase(dice, INIT, scenario.removeprefix("init "))], {}
    else:
        phases[-1] = _phase(dice, "main", scenario)
    return replace(
        begun, status="failed", settings=settings, screened=screened, findings=findings,
        learning_rates=rates, phases=tuple(phases), failure=failure or phases[-1].failure(),
    )  # fmt: skip


def _screened(dice: Dice, seed: int) -> tuple[Candidate, ...]:
    count = dice.pick((0, 0, 1, 2, 4, 5, 12))
    seeds = [seed, *(int(dice.random() * 2**32) for _ in range(count))][:count]
    return tuple(Candidate(seed=each, reason="dead") for each in seeds)


SCENARIOS = (
    "crashed", "init dead", "init not finite", "not finite", "gate", "dead", "dead", "constant",
    "constant", "uninformed", "unresponsive", "worse", "worse", "dead and constant", "unmeasured",
)  # fmt: skip
"""How an attempt may fail; each with losses that shot up, or not."""


def _phase(dice: Dice, name: str, scenario: str) -> Phase:
    first, highest = (None, None) if name == INIT else dice.pick(LOSSES)
    return Phase(
        phase=name, epochs=int(name != INIT), seconds=1.0, metrics={},
        checks=tuple(_checks(dice, scenario)), first_loss=first, highest_loss=highest,
    )  # fmt: skip


def _checks(dice: Dice, scenario: str) -> Iterator[AnyCheck]:
    constant = scenario in ("constant", "uninformed", "unresponsive", "dead and constant")
    dead = scenario in ("dead", "dead and constant")
    responding = 0 if scenario == "unresponsive" else dice.pick((None, 9))
    yield _check("finite", failed=scenario == "not finite")
    yield _check("dead_neurons", failed=dead, measured={"responding_rows": responding})
    output: dict[str, Any] = {"output": 0, "kind": "regression", "skill": 0.3}
    output["variance_ratio"] = dice.pick((0.0, 1e-5, math.nan)) if constant else 0.5
    if scenario == "uninformed":
        del output["variance_ratio"]
        output |= {"kind": "classification", "information": 1e-7}
    failed = constant or scenario in ("worse", "unmeasured")
    measured = {"outputs": [] if scenario == "unmeasured" else [output]}
    yield _check("prediction_variance", failed=failed, measured=measured, limits=LIMITS)
    yield _check("metric", failed=scenario == "gate")


def _check(name: str, *, failed: bool, **fields: Any) -> AnyCheck:
    return builders.made(
        name, verdict="fail" if failed else "pass", reason=f"{name} says so", **fields
    )


def walked() -> dict[str, str]:
    """The answers as they are, by the number of the walk."""
    return {str(number): walk(number) for number in range(WALKS)}


if __name__ == "__main__":
    DECISIONS.write_text(json.dumps(walked(), indent=0))
