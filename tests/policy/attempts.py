"""Records of attempts that failed."""

from __future__ import annotations

from typing import Any

from orchestrator.record.records import (
    INIT,
    Attempt,
    Failure,
    Phase,
    Settings,
    UnitsLost,
)
from tests.builders import made

SHARES = {"fail_below": 0.5, "warn_below": 0.8}
LIMITS = {"min_ratio": 1e-4, "min_information": 1e-4, "min_skill": -0.1}


def phase(
    name: str = "main",
    *,
    losses: tuple[float | None, float | None] = (1.0, 1.0),
    ratio: float = 0.5,
    skill: float = 0.0,
    responding: int | None = None,
    learnt: dict[str, Any] | None = None,
    **verdicts: Any,
) -> Phase:
    dead = {} if responding is None else {"responding_rows": responding}
    outputs = {"outputs": [{"output": 0, "variance_ratio": ratio, "skill": skill}]}
    checks = [
        made("finite", verdict=verdicts.get("finite", "pass")),
        made("dead_neurons", verdict=verdicts.get("dead", "pass"), measured=dead),
        made(
            "prediction_variance",
            verdict=verdicts.get("variance", "pass"),
            measured=outputs,
            limits=LIMITS,
        ),
        made(
            "learned", verdict=verdicts.get("learned", "pass"), measured=learnt or {}, limits=SHARES
        ),
        made("metric", verdict=verdicts.get("metric", "pass")),
    ]
    first, highest = (None, None) if name == INIT else losses
    return Phase(
        phase=name,
        epochs=int(name != INIT),
        seconds=1.0,
        metrics={},
        checks=tuple(checks),
        first_loss=first,
        highest_loss=highest,
    )


def attempt(*phases: Phase, rates: dict[str, float] | None = None, **fields: Any) -> Attempt:
    """A failed attempt; its last phase has the failure, if any has."""
    failure = phases[-1].failure() if phases else None
    failure = failure or Failure(check="crashed", phase=None, reason="killed")
    return Attempt(
        attempt=1,
        status="failed",
        settings=Settings(seed=7),
        failure=failure,
        phases=phases,
        learning_rates=rates or {},
        **fields,
    )


LOST = UnitsLost(
    layer="dense", units=8, lost=8, alive=8, epoch=4, learning_rate=0.2, rate_before=0.001
)
