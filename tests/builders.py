"""Small records for the tests, with everything that a test does not care about filled in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hypothesis
import msgspec

from orchestrator.config.schema import Config
from orchestrator.diagnosis.skill.columns import OutputSkill
from orchestrator.diagnosis.skill.score import Score
from orchestrator.record.checks import AnyCheck, Form, Verdict
from orchestrator.record.records import INIT, Attempt, Failure, Phase, Settings

LAW = hypothesis.settings(max_examples=25, deadline=None, derandomize=True)
"""How laws are tried here: quickly, on a machine that may be busy, the same way every time."""

MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""Folder for the runs of tests, which are synced with every event; in memory that costs nothing."""


def config(**sections: Any) -> Config:
    """A config with the phases warmup and main."""
    defaults: dict[str, Any] = {
        "name": "case",
        "base": "/nowhere",
        "seed": 7,
        "data": {"train": {"npz": "rows.npz"}},
        "model": {"layers": [{"Dense": {"units": 1}}]},
        "compile": {"loss": "mse"},
        "phases": [{"name": "warmup", "epochs": 1}, {"name": "main", "epochs": 2}],
    }
    return Config.model_validate(defaults | sections)


def made(check: str, **fields: Any) -> AnyCheck:
    """A check as its JSON says, without a failure unless it says so."""
    found: AnyCheck = msgspec.convert(
        {"check": check, "verdict": "pass", "reason": ""} | fields, AnyCheck
    )
    return found


def check(verdict: Verdict = "pass", *, name: str = "dead_neurons") -> AnyCheck:
    """A check; `dead_neurons` has counted the units of one layer."""
    layer = {"layer": "dense", "units": 4, "dead": 1, "dead_units": [3]}
    measured = {"layers": [layer]} if name == "dead_neurons" else {}
    return made(name, verdict=verdict, reason=f"{name} says {verdict}", measured=measured)


def worth(skill: float) -> AnyCheck:
    """What the predictions of one output are worth."""
    output = {"output": 0, "kind": "regression", "skill": skill}
    return made("prediction_variance", measured={"outputs": [output]})


def phase(name: str, *checks: AnyCheck) -> Phase:
    """A finished phase; without checks one that passed."""
    return Phase(
        phase=name,
        epochs=0 if name == INIT else 1,
        seconds=0.5,
        metrics={} if name == INIT else {"loss": 0.25},
        checks=checks or (check(),),
    )


def failed(
    number: int,
    name: str = "dead_neurons",
    *,
    settings: Settings | None = None,
    at: str | None = "main",
    rates: dict[str, float] | None = None,
) -> Attempt:
    """An attempt that failed a check, by default after it trained at rate 0.01."""
    return Attempt(
        attempt=number,
        status="failed",
        settings=Settings(seed=7) if settings is None else settings,
        failure=Failure(check=name, phase=at, reason="as the test wants it"),
        learning_rates={"warmup": 0.03, "main": 0.01} if rates is None else rates,
    )


def scored(
    y: Any, prediction: Any, form: Form, *, from_logits: bool = False, weight: Any = None
) -> list[OutputSkill]:
    """What the predictions of one output are worth, all rows at once."""
    score = Score(form, from_logits=from_logits)
    score.add(y, prediction, weight)
    return score.outputs()
