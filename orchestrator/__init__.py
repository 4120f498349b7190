"""Automatic retraining for Keras: train, check for dead units, restart until the model is healthy.

`run` takes a config to a healthy model, as `orchestrate CONFIG` does. `retrain` does the same for a
function that builds a model and the rows that a program has in memory. `diagnose` tells which units
of a model are dead, and what its predictions are worth.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.errors import InvalidError, OrchestratorError, UserCodeError

if TYPE_CHECKING:
    from orchestrator.diagnosis.diagnose import diagnose
    from orchestrator.training.launch import run
    from orchestrator.training.retrain import retrain

__all__ = ["InvalidError", "OrchestratorError", "UserCodeError", "diagnose", "retrain", "run"]


def __getattr__(name: str) -> Any:
    """Load a function when it is first used: `orchestrate --help` can do without what it needs."""
    if name == "run":
        from orchestrator.training.launch import run  # noqa: PLC0415

        return run
    if name == "diagnose":
        from orchestrator.diagnosis.diagnose import diagnose  # noqa: PLC0415

        return diagnose
    if name == "retrain":
        from orchestrator.training.retrain import retrain  # noqa: PLC0415

        return retrain
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
